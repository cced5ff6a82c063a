#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/steady_timer.hpp>

#include "edge/connection_record.h"
#include "edge/options.h"
#include "edge/transport.h"
#include "edge/websocket_frames.h"
#include "tunnel/http_exchange.h"
#include "tunnel/observer.h"

namespace edge {

/// A WebSocket after the 101, a caller's at our door or our own at another's. Lives on its connection's
/// thread.
///
/// Holds no payload: frames are taken apart in the reader's own buffer. Only control messages and
/// compressed messages are gathered first, within their limits. Control frames go between data frames,
/// never behind them in a queue; of several pings that come while one of our frames is under way only the
/// newest is answered.
class WebSocket : public std::enable_shared_from_this<WebSocket> {
 public:
  using Clock = Transport::Clock;
  using Ending = tunnel::WebSocketStream::Ending;
  using Vitals = tunnel::WebSocketStream::Vitals;
  /// Part of a message; `message_end` with its last byte (or none, for an empty rest).
  struct Piece {
    std::size_t bytes = 0;
    bool text = false;
    bool message_end = false;
    bool ended = false;  // the peer's direction is over, in good order
  };

  /// A client masks what it sends and pings whether or not bytes come; a server pings a silent client.
  enum class Side { server, client };

  struct Setup {
    std::string early;       // what came behind the request's head
    const Options& options;  // outlive the WebSocket, unless own_options are there
    tunnel::Observer& observer;
    std::shared_ptr<ConnectionRecord> record;  // learns how it ended; may be null
    tunnel::Tier tier = tunnel::Tier::free;
    bool empty_message_ends = false;
    bool control_messages = false;
    unsigned control_messages_per_second = 0;  // 0: as Options say
    bool compression = false;                  // was agreed on
    /// Called once, with the size so far of the first message over Options::warn_message_bytes.
    std::function<void(std::uint64_t bytes)> on_large_message{};
    const char* role = "caller";  // a metric label
    std::shared_ptr<const Options> own_options{};
    Side speaks_as = Side::server;
  };
  /// Counted as opened; as closed when it ends.
  static std::shared_ptr<WebSocket> open(std::shared_ptr<Transport> transport, Setup setup);
  ~WebSocket();

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into);
  /// Like read(), but stops at the end of each message.
  asio::awaitable<Result<Piece>> read_piece(std::span<std::byte> into);
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes);
  /// One message of all, unless they exceed what one may have.
  asio::awaitable<Result<void>> write_pieces(std::span<const std::span<const std::byte>> pieces);
  /// One frame; `opcode` continuation goes on with a message that had fin false.
  asio::awaitable<Result<void>> write_frame(Opcode opcode, bool fin, std::span<const std::byte> bytes);
  asio::awaitable<Result<void>> shutdown_write();
  asio::awaitable<void> close_with(std::uint16_t code, std::string_view reason);
  void close() noexcept;
  Ending ending() const { return ending_; }
  Vitals vitals() const;
  void on_control(std::function<void(std::string)> handler) { on_control_ = std::move(handler); }
  bool post_control(std::string_view text);
  Transport::Executor get_executor() { return transport_->get_executor(); }
  /// The owner goes away: nobody is called from here on.
  void disown();

 private:
  WebSocket(std::shared_ptr<Transport> transport, Setup setup);

  /// A message that had to be gathered before it could be read.
  struct Gathered {
    std::string payload;
    std::size_t taken = 0;
    bool text = false;
  };
  /// At most `limit` in any second or so.
  struct Rate {
    Clock::time_point window{};
    unsigned in_window = 0;
    bool exceeds(unsigned limit);
  };

  enum class StopAt { buffer_end, message_end };
  asio::awaitable<Result<Piece>> receive(std::span<std::byte> into, StopAt stop);
  /// Bytes into `into`, minding the heartbeat; 0 at the end of the transport.
  asio::awaitable<Result<std::size_t>> receive_bytes(std::span<std::byte> into);
  /// Payload to the front of `bytes`, events to their handlers; what lies behind a stop goes to early_.
  Piece take_apart(std::span<std::byte> bytes, StopAt stop);
  /// The next part of gathered_, and what its end means.
  Piece take_gathered(std::span<std::byte> into, StopAt stop);
  bool is_gathered_first() const;
  bool is_control_message() const { return control_messages_ && decoder_.is_text(); }
  /// More of a message that is_gathered_first().
  void gather(std::span<const std::byte> payload);
  /// The same message is complete.
  void on_gathered();
  void on_control_message(std::string text);
  void look_at_size(std::uint64_t message_bytes);
  /// Fails the WebSocket for what the peer sent.
  void reject(std::uint16_t close_code, std::string_view metric, tunnel::Code code);
  /// The same when only control frames may come; true if anything else did.
  bool take_apart_after_end(std::span<std::byte> bytes);
  void on_event(FrameDecoder::Event event);
  void on_ping();
  void on_pong();
  Clock::time_point ping_due() const;
  void ping();
  /// Nothing came until receive_deadline(): pings, or fails the WebSocket and returns false.
  bool on_silence();
  Clock::time_point receive_deadline() const;
  /// Sends a Close (once) and remembers how it ended.
  void send_close(std::uint16_t code, std::string_view reason, bool by_peer);
  void send_control(const std::string& frame);
  void flush_controls();
  asio::awaitable<Result<void>> write_message(std::span<const std::byte> bytes);
  /// The first of `pieces` is left to the header.
  asio::awaitable<Result<void>> send_frame(FrameHeader header, Transport::Pieces pieces);
  /// A client's payload, in masked_ until the next frame. One frame is sent at a time.
  std::span<const std::byte> mask(const Transport::Pieces& pieces, Mask key);
  /// A whole unmasked frame as our side sends it.
  std::string as_sent(std::string frame) const;
  asio::awaitable<void> wait_for_writer(Clock::time_point deadline);
  asio::awaitable<void> end_transport();
  /// Goes on answering pings and minding the heartbeat when the owner has no more reason to read().
  void start_watching();
  static asio::awaitable<void> watch(std::shared_ptr<WebSocket> self);
  void report_closed();
  Error broken() const;

  std::shared_ptr<Transport> transport_;
  std::string early_;
  std::shared_ptr<const Options> own_options_;
  const Options& options_;
  tunnel::Observer& observer_;
  std::shared_ptr<ConnectionRecord> record_;
  tunnel::Tier tier_;
  const char* role_;
  Side side_;
  bool empty_message_ends_;
  bool control_messages_;
  unsigned control_messages_per_second_;
  bool compression_;
  std::function<void(std::uint64_t)> on_large_message_;
  std::function<void(std::string)> on_control_;
  FrameDecoder decoder_;
  std::string gathering_;
  std::optional<Gathered> gathered_;

  Clock::time_point opened_ = Clock::now();
  Clock::time_point heard_ = opened_;
  std::optional<Clock::time_point> ping_sent_;
  Rate pings_;
  Rate control_messages_rate_;
  std::uint64_t pings_made_ = 0;
  std::uint64_t pongs_heard_ = 0;                           // that answered the newest ping
  Clock::duration round_trip_{};                            // of the newest of them
  Clock::time_point next_ping_ = Clock::time_point::max();  // of a client
  bool pinged_ = false;                                     // since heard_
  Clock::duration frame_waited_{};                          // spent waiting for the rest of a frame ...
  std::size_t frame_bytes_ = 0;                             // ... and what came of it meanwhile

  std::unique_ptr<std::byte[]> masked_;  // a client's
  std::size_t masked_bytes_ = 0;
  unsigned small_frames_ = 0;  // in a row, for masked_

  bool reading_ = false;
  bool writing_ = false;
  bool watching_ = false;
  std::string controls_;             // to send after the data frame under way
  std::optional<std::string> pong_;  // likewise; replaced by newer ones
  std::vector<std::string> texts_;   // control messages to send likewise, before controls_
  std::size_t texts_bytes_ = 0;
  bool within_message_ = false;  // of ours, whose last frame is not sent
  bool peer_ended_ = false;      // empty message received
  bool we_ended_ = false;        // empty message or Close sent
  bool close_sent_ = false;
  bool close_received_ = false;
  bool failed_ = false;
  bool closing_ = false;  // close_with() is under way: data is discarded
  Clock::time_point close_deadline_ = Clock::time_point::max();
  Ending ending_;
  bool ending_known_ = false;
  bool reported_ = false;
  asio::steady_timer changed_;  // cancelled to wake whoever waits for the writer or the reader
};

/// What the handler owns. The connection keeps only a weak hold on the WebSocket, for draining.
class WebSocketDoor final : public tunnel::WebSocketStream {
 public:
  /// `token` is let go of when the WebSocket is closed and nothing of this is left.
  explicit WebSocketDoor(std::shared_ptr<WebSocket> websocket, std::shared_ptr<void> token = {})
      : token_(std::move(token)), websocket_(std::move(websocket)) {}
  ~WebSocketDoor() override {
    websocket_->disown();
    websocket_->close();
  }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    return websocket_->read(into);
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return websocket_->write(bytes);
  }
  asio::awaitable<Result<void>> write_pieces(std::span<const std::span<const std::byte>> pieces) override {
    return websocket_->write_pieces(pieces);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return websocket_->shutdown_write(); }
  void close() noexcept override { websocket_->close(); }
  asio::awaitable<void> close_with(std::uint16_t code, std::string_view reason) override {
    return websocket_->close_with(code, reason);
  }
  Ending ending() const override { return websocket_->ending(); }
  Vitals vitals() const override { return websocket_->vitals(); }
  void on_control(std::function<void(std::string)> handler) override {
    websocket_->on_control(std::move(handler));
  }
  bool post_control(std::string_view text) override { return websocket_->post_control(text); }
  WebSocket& websocket() { return *websocket_; }

 private:
  std::shared_ptr<void> token_;
  std::shared_ptr<WebSocket> websocket_;
};

}  // namespace edge
