#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "edge/connection_record.h"
#include "edge/options.h"
#include "edge/transport.h"
#include "edge/websocket.h"
#include "tunnel/deadline_watch.h"
#include "tunnel/http_exchange.h"
#include "tunnel/observer.h"

namespace edge {

class Exchange;
class MovedWebSocket;

/// One caller's connection: TLS, then requests one after the other until either side has enough.
/// Pipelined requests wait in the connection's leftover bytes and are answered in order.
///
/// A caller that hangs up before its answer is complete takes its request with it: the handler is cancelled
/// (terminal), and the connection ends ("closed by peer"). Hanging up is a reset, a close_notify or a FIN;
/// callers that end their direction and go on reading are not served for long
/// (docs/decisions/0018-a-caller-that-hangs-up.md). It is noticed at once when the handler has run for
/// 50 ms and has read the request to its end, and within a quarter of a second while there is a body to read;
/// not behind a body that the kernel has no room for, nor behind pipelined requests beyond
/// HeadLimits::max_total_bytes.
class HttpConnection : tunnel::DeadlineWatch::Entry {
 public:
  struct Context {
    const Options& options;
    tunnel::HttpHandler& handler;
    tunnel::Observer& observer;
    tunnel::DeadlineWatch& watch;
    /// Cancels run(), soon and not from within the call: the caller has left.
    std::function<void()> cancel;
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
  /// One that was accepted for another thread, or null.
  std::shared_ptr<MovedWebSocket> moved_websocket() const { return moved_websocket_; }

 private:
  friend class Exchange;

  /// Learns from the proxy in front who the caller is; why not, in words, when it does not say.
  asio::awaitable<tl::expected<void, std::string>> meet_proxy();
  /// The next request's head, or why there is none (for the log).
  asio::awaitable<tl::expected<tunnel::RequestHead, std::string>> next_request();
  /// Answers a request that cannot be served, and closes the connection.
  asio::awaitable<std::string> refuse_and_close(tunnel::Malformed why);
  /// Looks after the caller of the exchange that a handler is serving, while it exists.
  class CallerWatch;
  void expired() override { look_after_caller(); }
  void look_after_caller();
  void caller_leaves();
  asio::awaitable<Result<std::size_t>> read_more(Transport::Clock::time_point deadline);
  void forget_consumed(std::size_t bytes);

  std::shared_ptr<Transport> transport_;
  Context context_;
  std::string in_;  // received and not used yet; empty (and unallocated) while idle
  std::weak_ptr<WebSocket> websocket_;
  std::shared_ptr<MovedWebSocket> moved_websocket_;
  Exchange* serving_ = nullptr;  // what a handler is busy with
  bool caller_left_ = false;
  bool draining_ = false;
  bool waiting_for_request_ = false;
  bool first_request_ = true;
  bool authenticated_ = false;
  tunnel::Tier tier_ = tunnel::Tier::free;
};

}  // namespace edge
