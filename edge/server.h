#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/ssl.h>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/result.h"
#include "edge/connection_record.h"
#include "edge/options.h"
#include "tunnel/http_exchange.h"
#include "tunnel/observer.h"

namespace edge {

namespace asio = boost::asio;

/// A door: listens on addresses and serves HTTP (and through it WebSocket) to whoever connects.
///
/// Threads: each io_context is run by one thread; a connection is given to the one with the fewest and
/// lives and dies there. Public functions may be called from any thread. Before the Server goes away its
/// contexts must have stopped running (connections left over then die with their context).
class Server {
 public:
  struct Parts {
    std::vector<asio::io_context*> threads;  // at least one; the first also accepts
    /// The handler of the thread with that index; outlives the connections.
    std::function<tunnel::HttpHandler&(std::size_t thread)> handler;
    tunnel::Observer* observer = nullptr;
    /// Null: plain text.
    std::shared_ptr<SSL_CTX> tls;
    /// Told once a connection, on its thread: how it ended, in words ("closed by peer", "idle", ...).
    std::function<void(const ConnectionInfo&, std::string_view how)> on_ended{};
    /// Asked about the address of each new connection, on the first thread and before TLS; false closes it
    /// at once. Not asked for trusted proxies.
    std::function<bool(const std::string& peer_address)> admit{};
    /// Told once a connection, on its thread, when its first request authenticated.
    std::function<void(const std::string& peer_address)> on_authenticated{};
    /// Told on its thread, when the connection became a WebSocket or another upgrade.
    std::function<void(const ConnectionInfo&)> on_upgraded{};
    /// Told on its thread of the first message over Options::warn_message_bytes, by its size so far.
    std::function<void(const ConnectionInfo&, std::uint64_t bytes)> on_large_message{};
  };
  Server(Options options, Parts parts);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Binds every address before it returns, and accepts from then on. Fails with bad_input or
  /// unavailable naming the address and the remedy; nothing is left bound then.
  Result<void> start();
  /// Why start() could not listen, where the system refused it; else none.
  boost::system::error_code listen_error() const;
  std::vector<asio::ip::tcp::endpoint> local_endpoints() const;

  /// For connections accepted from now on; others keep what they began with.
  void use_certificate(std::shared_ptr<SSL_CTX> tls);

  std::vector<ConnectionInfo> connections() const;
  std::size_t connection_count() const;

  void stop_accepting();
  /// Ends one connection on its own thread: a WebSocket with that close code and reason, an HTTP
  /// connection when the request under way is answered (at once without one), an upgraded one by a reset.
  /// False when there is no such connection (any more). Ids are unique among all servers of the process.
  bool close_connection(std::uint64_t id, std::uint16_t code, std::string reason);

  /// Stops accepting, closes idle connections, and waits while requests under way finish and the handler
  /// ends its streams; returns true when all connections are gone, false at the deadline. Call close_all()
  /// then.
  asio::awaitable<bool> drain(std::chrono::steady_clock::time_point deadline);
  /// Cancels every session on its own thread and resets its connection.
  void close_all();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace edge
