#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/result.h"
#include "tunnelctl/client/tunnel.h"

namespace tunnelctl::client {

/// What -L names: connections to a port of this machine become streams to a service.
struct Forward {
  asio::ip::tcp::endpoint local{};
  std::string service{};
};

/// "[bind:]port:service": without an address 127.0.0.1; an IPv6 address in brackets; port 0 lets the system
/// choose. Fails with bad_input and what it should read; `option` is how the message calls it.
Result<Forward> parse_forward(std::string_view text, std::string_view option = "-L");

/// A service's name as tunneld takes it: ^[a-z0-9][a-z0-9-]{0,62}$.
bool is_service_name(std::string_view name);

/// The ports of this machine, and the connections that came through them.
/// Threads: the context's one. Once it has been started, its streams must have ended (active() is 0) before
/// it goes away.
class Listeners {
 public:
  struct Failure {
    bool in_use = false;  // somebody else listens there
    std::string message;  // names port, service and remedy
  };
  Listeners(asio::io_context& io, Tunnel& tunnel);
  ~Listeners();
  Listeners(const Listeners&) = delete;
  Listeners& operator=(const Listeners&) = delete;

  /// Binds all of them, or none. They are not accepted from before start().
  tl::expected<void, Failure> bind(const std::vector<Forward>& forwards);
  /// `on_failed` is told, in one line for a person, why a connection ended early.
  void start(std::function<void(std::string_view line)> on_failed);
  void stop_accepting();
  /// Cuts every connection.
  void abort();

  /// As bound: port 0 has become a number.
  const std::vector<Forward>& forwards() const { return forwards_; }
  std::size_t active() const { return connections_.size(); }

 private:
  struct Connection;
  asio::awaitable<void> accept(std::size_t index);
  asio::awaitable<void> serve(std::shared_ptr<Connection> connection);
  void tell(const Forward& forward, const std::string& why);

  asio::io_context& io_;
  Tunnel& tunnel_;
  std::vector<Forward> forwards_;
  std::vector<std::unique_ptr<asio::ip::tcp::acceptor>> acceptors_;
  std::vector<std::shared_ptr<Connection>> connections_;
  std::function<void(std::string_view)> on_failed_;
  std::string last_told_;
  std::chrono::steady_clock::time_point last_told_at_{};
};

/// "127.0.0.1:8022 -> ssh".
std::string to_text(const Forward& forward);

}  // namespace tunnelctl::client
