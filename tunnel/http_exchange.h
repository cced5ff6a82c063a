#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "tunnel/byte_stream.h"
#include "tunnel/http1.h"
#include "tunnel/principal.h"

namespace tunnel {

/// A caller's WebSocket carrying one stream of bytes in binary messages.
class WebSocketStream : public ByteStream {
 public:
  /// How it ended, for the log and metrics; code 1006 when the peer vanished without a Close frame.
  struct Ending {
    std::uint16_t code = 1006;
    bool by_peer = true;
    /// Of the peer's Close: valid UTF-8 of at most 123 bytes.
    std::string reason{};
  };
  /// How its connection does, for who shows it.
  struct Vitals {
    std::uint64_t pings = 0;                           // of ours
    std::uint64_t pongs = 0;                           // that answered the newest ping
    bool waiting = false;                              // for the newest one's answer
    std::chrono::steady_clock::duration round_trip{};  // of the newest answer
    int socket = -1;  // for TCP_INFO, not to be closed; -1: there is none any more
  };
  /// Closing handshake with that code, at most 5 s, then TCP close. `reason` is at most 123 bytes.
  /// Also allowed after a cancelled read or write: a relay that ends says why this way.
  virtual asio::awaitable<void> close_with(std::uint16_t code, std::string_view reason) = 0;
  virtual Ending ending() const = 0;
  /// All zero where nothing is known.
  virtual Vitals vitals() const { return {}; }

  /// Where the peer's control messages go (WebSocketAccept::control_messages): whole text messages, valid
  /// UTF-8 of at most 16 KiB. Called on the stream's thread, within read() and after its end, until the
  /// stream is destroyed; must not wait, may post_control(). Messages are dropped while there is no handler.
  virtual void on_control(std::function<void(std::string)>) {}
  /// Queues a text message to be sent between data frames, never compressed. False when it was not taken:
  /// 16 are waiting, or the WebSocket is over or carries no control messages.
  virtual bool post_control(std::string_view) { return false; }
};

struct WebSocketAccept {
  std::string subprotocol;     // echoed in the answer; empty for none
  std::vector<Header> fields;  // further fields of the 101
  /// An empty binary message means end-of-direction, both ways (subprotocol tunnel.raw.v1). Without
  /// it the service's end closes the WebSocket with 1000.
  bool empty_message_ends = false;
  /// Text messages are control messages (tunnel/control_messages.h) and no part of the stream's bytes.
  bool control_messages = false;
  unsigned control_messages_per_second = 0;  // 0: what the door takes from anybody
  const char* role = "caller";               // a metric label: caller, agent
};

/// One request and its answer at a caller's door. `edge/` implements it over a connection, `tunnel/`
/// tells the story. Same thread and cancellation rules as ByteStream; body reads and answer writes
/// may overlap (full duplex).
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  /// Valid as long as the exchange. Parsed strictly: see http1.h.
  virtual const RequestHead& request() const = 0;
  /// The caller's address as seen on the socket, "192.0.2.1" or "2001:db8::1".
  virtual const std::string& peer_address() const = 0;
  /// "https" or "http", for X-Forwarded-Proto.
  virtual const char* scheme() const = 0;
  /// Accepted from X-Correlation-ID when it matches ^[A-Za-z0-9._-]{1,64}$, else made.
  virtual const std::string& correlation_id() const = 0;
  /// Says that the caller has authenticated: its connection no longer counts against the bound on
  /// unauthenticated ones, and its WebSocket is counted for that tier.
  virtual void authenticated(tunnel::Tier) {}
  /// Names the service being served, for diagnostics of live connections.
  virtual void serving(std::string_view) {}
  /// Tells diagnostics and the lifecycle log whose connection it is, by the hash that logs use.
  virtual void identified(std::string_view /*principal_hash*/) {}

  /// Decoded body bytes; 0 at the end of the body. Sends "100 Continue" before the first wait if the
  /// caller asked for it and no final answer was sent. Fails with bad_input on broken framing,
  /// timed_out when the body stalls.
  virtual asio::awaitable<Result<std::size_t>> read_body(std::span<std::byte> into) = 0;
  /// Trailer fields received after a chunked body; empty before its end.
  virtual const std::vector<Header>& trailers() const = 0;

  /// Sends an interim answer (103, 102). Never 101.
  virtual asio::awaitable<Result<void>> send_interim(const ResponseHead& head) = 0;
  /// Sends the final head. `head.body` says how the body is framed; the connection's fate
  /// (Connection: close) is decided here. Call once.
  /// For HEAD and status 304 `head.body` says what a GET would have had, for the fields only
  /// (UntilCloseBody: none, and the connection may stay): no body is written and finish({}) follows.
  virtual asio::awaitable<Result<void>> send_head(const ResponseHead& head) = 0;
  /// A piece of the body, flushed at once (server-sent events depend on it).
  virtual asio::awaitable<Result<void>> write_body(std::span<const std::byte> bytes) = 0;
  /// Head and first piece of the body in one write where the caller can tell they belong together.
  virtual asio::awaitable<Result<void>> send_head_with(const ResponseHead& head,
                                                       std::span<const std::byte> body) = 0;
  /// Ends the answer; trailers only with chunked framing.
  virtual asio::awaitable<Result<void>> finish(const std::vector<Header>& trailers) = 0;
  /// Cuts the connection so that the caller sees a broken answer rather than a short one, and wakes
  /// pending operations with `cancelled`. Idempotent.
  virtual void abort() noexcept = 0;

  /// Sends `head` (status 101) and hands the connection over as a raw stream, bytes the caller sent
  /// early included. The exchange is over. Only for requests with Upgrade.
  virtual asio::awaitable<Result<std::unique_ptr<ByteStream>>> upgrade(const ResponseHead& head) = 0;
  /// Answers a valid RFC 6455 upgrade with 101 and speaks WebSocket from there on. The exchange is
  /// over. The caller has checked everything but the Sec-WebSocket-* fields; a broken one is answered
  /// here (400, or 426 for the version) and reported as bad_input.
  virtual asio::awaitable<Result<std::unique_ptr<WebSocketStream>>> accept_websocket(
      const WebSocketAccept& accept) = 0;
  /// The same for a WebSocket that then lives on another thread: `take` is called there with it, and only
  /// there may it be touched. Returns (here) when it has been destroyed; cancelling closes it.
  virtual asio::awaitable<Result<void>> accept_websocket_on(
      asio::io_context& home, const WebSocketAccept& accept,
      std::function<void(std::unique_ptr<WebSocketStream>)> take) = 0;
};

/// Serves every request of one listener's connections on one thread. `edge/` calls it and afterwards
/// keeps the connection alive or closes it, as the exchange ended. An unanswered exchange is answered
/// with 500. Handlers never throw for what a peer did.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  virtual asio::awaitable<void> handle(HttpExchange& exchange) = 0;
};

}  // namespace tunnel
