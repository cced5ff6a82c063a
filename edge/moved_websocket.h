#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"
#include "edge/websocket.h"

namespace edge {

/// What a connection's thread and its WebSocket's home share when they are not the same: the way from one to
/// the other. Either thread's io_context may be destroyed first, once both have stopped running.
class MovedWebSocket : public std::enable_shared_from_this<MovedWebSocket> {
 public:
  using Take = std::function<void(std::unique_ptr<tunnel::WebSocketStream>)>;
  MovedWebSocket(asio::any_io_executor connection, asio::io_context& home)
      : connection_(std::move(connection)), home_(home) {}

  // On the connection's thread

  /// Once: opens the WebSocket at home, hands it to `take` there, and returns when the stream has been
  /// destroyed. Cancelled, it closes the WebSocket and waits all the same, to return cancelled. Fails with
  /// unavailable when the WebSocket did not get there.
  asio::awaitable<Result<void>> live_away(Transport::Detached transport, WebSocket::Setup setup, Take take);
  /// The same where home is the connection's own thread.
  asio::awaitable<Result<void>> live_here(std::shared_ptr<Transport> transport, WebSocket::Setup setup,
                                          Take take);
  /// As WebSocket::close_with(), without waiting for it.
  void close_with(std::uint16_t code, std::string reason);

  // At home

  /// Runs on the connection's thread, if the connection is still there then.
  void tell_connection(std::function<void()> what);

 private:
  class Token;
  class Waiting;
  asio::awaitable<Result<void>> wait_for_end(std::shared_ptr<asio::steady_timer> woken);
  void post_home(std::function<void(std::shared_ptr<WebSocket>)> what);
  bool is_gone() const;
  std::shared_ptr<Transport> arrive(Transport::Detached transport);
  void open(std::shared_ptr<Transport> transport, WebSocket::Setup setup, std::shared_ptr<void> token,
            const Take& take);

  const asio::any_io_executor connection_;
  asio::io_context& home_;
  std::weak_ptr<WebSocket> websocket_;  // for home only, which alone may come to own it

  mutable std::mutex mutex_;
  bool gone_ = false;    // home_ may be too
  bool opened_ = false;  // there was one
  /// The connection's coroutine while it waits; after it connection_ may be gone.
  std::optional<std::weak_ptr<asio::steady_timer>> waiter_;
};

}  // namespace edge
