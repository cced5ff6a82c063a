#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "link/link.h"
#include "link/link_table.h"
#include "link/mux.h"
#include "tunnel/http_exchange.h"
#include "tunnel/priority.h"
#include "tunnel/refusal.h"
#include "tunnel/relay.h"
#include "tunnel/wakeup.h"
#include "tunneld/admission.h"
#include "tunneld/farewell.h"
#include "tunneld/live_streams.h"

namespace tunneld {

/// A WebSocket as what a link travels over. A link that ends says so with GONE and then ends its direction:
/// that is when the WebSocket is closed, with the code of the farewell.
class Carrier final : public tunnel::ByteStream {
 public:
  /// `token`: whoever opened it showed that one. `farewell`: when no session has taken the link yet.
  Carrier(std::shared_ptr<tunnel::WebSocketStream> socket, LiveStreams::Token token, Farewell farewell)
      : socket_(std::move(socket)),
        token_(std::move(token)),
        farewell_(std::make_shared<Farewell>(std::move(farewell))) {}
  const std::shared_ptr<tunnel::WebSocketStream>& socket() const { return socket_; }
  const LiveStreams::Token& token() const { return token_; }
  /// To be changed until it is said.
  const std::shared_ptr<Farewell>& farewell() const { return farewell_; }

  tunnel::asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    return socket_->read(into);
  }
  bool readable() const noexcept override { return socket_->readable(); }
  tunnel::asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return socket_->write(bytes);
  }
  tunnel::asio::awaitable<Result<void>> write_pieces(
      std::span<const std::span<const std::byte>> pieces) override {
    return socket_->write_pieces(pieces);
  }
  tunnel::asio::awaitable<Result<void>> shutdown_write() override;
  void close() noexcept override { socket_->close(); }

 private:
  std::shared_ptr<tunnel::WebSocketStream> socket_;
  LiveStreams::Token token_;
  std::shared_ptr<Farewell> farewell_;
};

/// How much is left of the window of a link whose carrier ended like that: what its peer had been silent for
/// before it was given up (`dead_after`) counts too, so that nobody is waited for longer than the window.
std::chrono::milliseconds window_left(const tunnel::WebSocketStream::Ending& ending,
                                      std::chrono::milliseconds window, std::chrono::milliseconds dead_after);

/// Reads what a peer still sends, for at most `limit`: resetting a stream at once may cost it our last words.
tunnel::asio::awaitable<void> read_out(tunnel::ByteStream& stream, tunnel::DeadlineWatch& watch,
                                       std::chrono::milliseconds limit);

/// The first line of a stream of a link: {"service":"db","priority":"high","correlationId":"..."}.
struct StreamOpening {
  std::string service;
  tunnel::Priority priority = tunnel::Priority::normal;
  std::string correlation_id;  // empty: the caller named none that is fit to be one
};
inline constexpr std::size_t kMaxOpeningBytes = 4096;
/// `line` without its end. Strict JSON, fields we do not know are ignored. Refuses with bad_request, naming
/// the field, and with service_denied for a name that no service can have.
tunnel::Served<StreamOpening> parse_stream_opening(std::string_view line);

/// The newer token that an auth.refresh message shows; refuses any other message, and whom admission refuses.
tunnel::Served<LiveStreams::Token> renewed_token(const Admission& admission, const tunnel::Principal& before,
                                                 std::string_view message, const std::string& peer);

/// The one error body as a control message: {"type":"error","error":{...}}, without a line's end.
std::string error_control_message(const tunnel::Refusal& why, std::string_view correlation_id);

/// The streams of one caller's link: yamux over the link, a control stream, and for each further stream its
/// opening line; what follows is the gate's. It lives as long as the link, over the WebSockets that carry it.
/// Threads: its own, where `io` runs.
class TunnelSession final : LiveStreams::Life,
                            ControlSink,
                            public std::enable_shared_from_this<TunnelSession> {
 public:
  using LiveStreams::Life::Clock;
  using LiveStreams::Life::How;
  /// Serves one stream to its end: writes the answer's line, and returns when nothing more is to be said.
  /// `stream` begins behind the opening line. Cancelled when the session ends.
  using Serve = std::function<tunnel::asio::awaitable<void>(
      TunnelSession& session, tunnel::ByteStream& stream, tunnel::Served<StreamOpening> opening)>;
  struct Options {
    std::size_t max_streams = 1024;
    std::chrono::milliseconds heartbeat{30'000};  // for hello
    std::chrono::milliseconds opening_timeout{10'000};
    std::string instance_id{};
    /// A silent peer is declared dead after so long; that is part of the window for coming back, which counts
    /// from the last byte that was received.
    std::chrono::milliseconds dead_after{45'000};
  };
  /// The same for all sessions of a thread; outlive them.
  struct Parts {
    tunnel::asio::io_context& io;
    LiveStreams& streams;
    tunnel::DeadlineWatch& watch;
    const Admission& admission;
    tunnel::Observer& observer;
  };
  /// Whose link it is, as the upgrade showed.
  struct Caller {
    Authenticator::Caller credentials;
    std::string address;
    std::string correlation_id;
  };
  /// `link` travels over Carriers. Made with std::make_shared.
  TunnelSession(const Parts& parts, Caller caller, std::shared_ptr<links::Link> link, Options options,
                Serve serve);
  ~TunnelSession() override;

  /// As long as the link is not over it can be found there.
  void findable(links::LinkTable::Place place) { place_ = std::move(place); }
  /// Until the link is over and every stream has ended. The WebSocket is then being closed with why.
  tunnel::asio::awaitable<void> run();

  /// Ends it now: the daemon stops.
  void abort() { stop(How::cancelled, "tunneld stops"); }

  /// A running stream's relay, so that whoever ends the session ends it too, and in the same way.
  class Relaying {
   public:
    Relaying(TunnelSession& session, tunnel::RelayControl& control);
    ~Relaying();
    Relaying(const Relaying&) = delete;
    Relaying& operator=(const Relaying&) = delete;

   private:
    TunnelSession& session_;
    std::list<tunnel::RelayControl*>::iterator place_;
  };

  using LiveStreams::Life::token;
  const Caller& caller() const { return caller_; }
  links::Link& link() { return *link_; }
  /// An id of its own for the next stream whose caller named none.
  std::string next_correlation_id();
  void add_bytes(std::uint64_t from_caller, std::uint64_t from_services) {
    from_caller_bytes_ += from_caller;
    from_services_bytes_ += from_services;
  }

  /// How it ended, once run() has returned.
  struct Ending {
    How how = How::finished;
    std::string why;
    std::uint16_t close_code = 1006;  // of the last WebSocket
    std::uint64_t streams = 0;
    std::uint64_t from_caller_bytes = 0;
    std::uint64_t from_services_bytes = 0;
  };
  Ending ending() const;

 private:
  // LiveStreams::Life
  void stop(How how, std::string why) override;
  void stop_when_quiet(std::chrono::milliseconds quiet, How how, std::string why) override;
  void set_until(Clock::time_point until) override;
  // ControlSink
  bool post_control(std::string_view message) override;

  void spawn(tunnel::asio::awaitable<void> story);
  void on_stream(std::unique_ptr<tunnel::ByteStream> stream);
  tunnel::asio::awaitable<void> serve_stream(std::unique_ptr<tunnel::ByteStream> stream);
  tunnel::asio::awaitable<void> read_control(std::shared_ptr<tunnel::ByteStream> stream);
  tunnel::asio::awaitable<void> write_control(std::shared_ptr<tunnel::ByteStream> stream);
  void on_control_line(std::string_view line);
  void on_carrier(bool attached);
  void on_carrier_lost();
  void shorten_window(std::chrono::milliseconds left);
  /// Ends it for what the caller did.
  void reject(std::uint16_t close_code, tunnel::Code code, std::string why);
  void end(How how, std::string why, Farewell farewell);
  void look_if_quiet();

  const Parts parts_;
  Caller caller_;
  const std::shared_ptr<links::Link> link_;
  links::LinkTable::Place place_;
  std::shared_ptr<tunnel::WebSocketStream> socket_;  // that carries it now; null between two
  std::shared_ptr<Farewell> farewell_;               // which that one is closed with
  const Options options_;
  const Serve serve_;
  links::Mux mux_;

  struct Stop {
    How how;
    std::string why;
    Farewell farewell;
  };
  std::optional<Stop> stop_;
  struct Quiet {
    std::chrono::milliseconds limit;
    How how;
    std::string why;
  };
  std::optional<Quiet> quiet_;
  tunnel::asio::steady_timer until_timer_;
  tunnel::asio::steady_timer quiet_timer_;
  tunnel::asio::steady_timer window_timer_;

  /// A coroutine of ours, which ends before we do.
  struct Task {
    tunnel::asio::cancellation_signal cancel;
  };
  std::list<Task> tasks_;  // the control stream's and those of streams
  std::list<tunnel::RelayControl*> relays_;
  tunnel::Wakeup tasks_changed_;
  bool over_ = false;

  bool has_control_stream_ = false;
  std::deque<std::string> messages_;  // to the caller, one line each
  tunnel::Wakeup message_waits_;
  Clock::time_point control_second_{};
  unsigned in_control_second_ = 0;

  std::uint64_t streams_opened_ = 0;
  std::uint64_t from_caller_bytes_ = 0;
  std::uint64_t from_services_bytes_ = 0;
  std::uint16_t close_code_ = 1006;
};

}  // namespace tunneld
