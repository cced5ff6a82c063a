#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tunneld/edge/connection_record.h"
#include "tunneld/edge/options.h"
#include "tunneld/edge/transport.h"
#include "tunneld/edge/websocket.h"
#include "tunneld/tunnel/http_exchange.h"
#include "tunneld/tunnel/observer.h"

namespace tunneld::edge {

/// One caller's connection: TLS, then requests one after the other until either side has enough.
/// Pipelined requests wait in the connection's leftover bytes and are answered in order.
class HttpConnection {
 public:
  struct Context {
    const Options& options;
    tunnel::HttpHandler& handler;
    tunnel::Observer& observer;
    std::shared_ptr<ConnectionRecord> record;
    std::string peer_address;
    /// A PROXY protocol header comes first and names the caller.
    bool behind_proxy = false;
    /// Asked about the address such a header names; may be empty.
    std::function<bool(const std::string& peer_address)> admit{};
    /// Called once, when a handler says that the caller has authenticated.
    std::function<void(const std::string& peer_address)> on_authenticated{};
    std::function<void()> on_upgraded{};
    std::function<void(std::uint64_t bytes)> on_large_message{};
  };
  HttpConnection(std::shared_ptr<Transport> transport, Context context);

  /// The connection's whole life; returns a word for how it ended ("idle", "closed by peer", ...).
  asio::awaitable<std::string> run();

  /// Lets the request under way finish and then closes; closes an idle connection now.
  void drain();
  /// A WebSocket opened on this connection and still there, or null.
  std::shared_ptr<WebSocket> websocket() const { return websocket_.lock(); }

 private:
  friend class Exchange;

  /// Learns from the proxy in front who the caller is; why not, in words, when it does not say.
  asio::awaitable<tl::expected<void, std::string>> meet_proxy();
  /// The next request's head, or why there is none (for the log).
  asio::awaitable<tl::expected<tunnel::RequestHead, std::string>> next_request();
  /// Answers a request that cannot be served, and closes the connection.
  asio::awaitable<std::string> refuse_and_close(tunnel::Malformed why);
  asio::awaitable<Result<std::size_t>> read_more(Transport::Clock::time_point deadline);
  void forget_consumed(std::size_t bytes);

  std::shared_ptr<Transport> transport_;
  Context context_;
  std::string in_;  // received and not used yet; empty (and unallocated) while idle
  std::weak_ptr<WebSocket> websocket_;
  bool draining_ = false;
  bool waiting_for_request_ = false;
  bool first_request_ = true;
  bool authenticated_ = false;
  access::Tier tier_ = access::Tier::free;
};

}  // namespace tunneld::edge
