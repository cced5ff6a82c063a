#include "tunneld/edge/websocket.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tunneld::edge {

namespace {

/// One message of ours at most: bounds how long a pong waits behind data.
constexpr std::size_t kMaxFrame = 256 * 1024;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// Holds a flag up while in scope, also when a cancelled coroutine unwinds.
class Raised {
 public:
  Raised(bool& flag, asio::steady_timer& changed) : flag_(flag), changed_(changed) { flag_ = true; }
  ~Raised() {
    flag_ = false;
    changed_.cancel();
  }
  Raised(const Raised&) = delete;
  Raised& operator=(const Raised&) = delete;

 private:
  bool& flag_;
  asio::steady_timer& changed_;
};

Error was_closed() {
  return {Error::Kind::cancelled, "the WebSocket was closed"};
}

}  // namespace

std::shared_ptr<WebSocket> WebSocket::open(std::shared_ptr<Transport> transport, std::string early,
                                           const Options& options, tunnel::Observer& observer,
                                           access::Tier tier, bool empty_message_ends) {
  return std::shared_ptr<WebSocket>(
      new WebSocket(std::move(transport), std::move(early), options, observer, tier, empty_message_ends));
}

WebSocket::WebSocket(std::shared_ptr<Transport> transport, std::string early, const Options& options,
                     tunnel::Observer& observer, access::Tier tier, bool empty_message_ends)
    : transport_(std::move(transport)),
      early_(std::move(early)),
      options_(options),
      observer_(observer),
      tier_(tier),
      empty_message_ends_(empty_message_ends),
      decoder_({options.max_message_bytes, options.max_fragments}),
      changed_(transport_->get_executor()) {
  observer_.websocket_opened(tier_, "caller");
}

WebSocket::~WebSocket() {
  close();
}

asio::awaitable<Result<std::size_t>> WebSocket::read(std::span<std::byte> into) {
  auto piece = co_await receive(into, StopAt::buffer_end);
  if (!piece) co_return tl::unexpected(std::move(piece.error()));
  co_return piece->bytes;
}

asio::awaitable<Result<WebSocket::Piece>> WebSocket::read_piece(std::span<std::byte> into) {
  return receive(into, StopAt::message_end);
}

asio::awaitable<Result<WebSocket::Piece>> WebSocket::receive(std::span<std::byte> into, StopAt stop) {
  const auto self = shared_from_this();
  if (closing_ || into.empty()) co_return tl::unexpected(was_closed());
  const Raised reading(reading_, changed_);
  for (;;) {
    if (failed_) {
      co_await end_transport();
      co_return tl::unexpected(broken());
    }
    if (close_received_) {
      send_close(decoder_.close_code(), {}, true);
      co_await end_transport();
      const auto code = decoder_.close_code();
      if (code == 1000 || code == 1001 || code == 1005) co_return Piece{.ended = true};
      co_return tl::unexpected(broken());
    }
    if (peer_ended_) {
      start_watching();
      co_return Piece{.ended = true};
    }
    auto got = co_await receive_bytes(into);
    if (!got) co_return tl::unexpected(std::move(got.error()));
    if (*got == 0) continue;  // failed_ says why
    const auto piece = take_apart(into.first(*got), stop);
    if (closing_) continue;
    if (piece.bytes > 0 || piece.message_end) co_return piece;
  }
}

asio::awaitable<Result<std::size_t>> WebSocket::receive_bytes(std::span<std::byte> into) {
  if (!early_.empty()) {
    const auto size = std::min(into.size(), early_.size());
    std::memcpy(into.data(), early_.data(), size);
    early_.erase(0, size);
    if (early_.empty()) early_ = {};
    co_return size;
  }
  heard_ = Clock::now();  // silence counts only while we listen
  pinged_ = false;
  for (;;) {
    const auto waiting_since = Clock::now();
    auto ready = co_await transport_->wait_readable(receive_deadline());
    if (decoder_.within_frame()) frame_waited_ += Clock::now() - waiting_since;
    if (!ready && ready.error().kind == Error::Kind::timed_out) {
      if (!on_silence()) co_return std::size_t{0};
      continue;
    }
    auto got = ready ? transport_->try_read(into) : tl::unexpected(std::move(ready.error()));
    if (got && !*got) continue;
    if (got && **got > 0) {
      heard_ = Clock::now();
      pinged_ = false;
      if (decoder_.within_frame()) frame_bytes_ += **got;
      co_return **got;
    }
    // The reader was cancelled, the peer is there: it is owed a Close.
    if (!got && got.error().kind == Error::Kind::cancelled && transport_->is_open())
      co_return tl::unexpected(std::move(got.error()));
    // Gone without a Close frame.
    failed_ = true;
    if (!ending_known_) ending_ = {1006, true};
    ending_known_ = true;
    transport_->close();
    report_closed();
    if (!got) co_return tl::unexpected(std::move(got.error()));
    co_return std::size_t{0};
  }
}

WebSocket::Clock::time_point WebSocket::receive_deadline() const {
  auto deadline = heard_ + (pinged_ ? options_.dead_after : options_.ping_after);
  if (decoder_.within_frame())
    deadline = std::min(deadline, Clock::now() + (options_.frame_window - frame_waited_));
  return std::min(deadline, close_deadline_);
}

bool WebSocket::on_silence() {
  const auto now = Clock::now();
  if (now >= close_deadline_) {
    failed_ = true;
    return false;
  }
  if (decoder_.within_frame() && frame_waited_ >= options_.frame_window) {
    const bool slow = frame_bytes_ < options_.min_frame_progress_bytes;
    frame_waited_ = {};
    frame_bytes_ = 0;
    if (slow) {
      observer_.frame_rejected("slow");
      send_close(1008, R"({"code":"TUNNEL_010"})", false);
      failed_ = true;
      return false;
    }
  }
  if (now >= heard_ + options_.dead_after) {
    observer_.heartbeat_timed_out();
    send_close(4408, R"({"code":"TUNNEL_009"})", false);
    failed_ = true;
    return false;
  }
  if (!pinged_ && now >= heard_ + options_.ping_after) {
    pinged_ = true;
    ping_sent_ = now;
    ++pings_made_;
    std::array<char, sizeof pings_made_> payload{};
    std::memcpy(payload.data(), &pings_made_, payload.size());
    send_control(control_frame(Opcode::ping, {payload.data(), payload.size()}));
  }
  return true;
}

WebSocket::Piece WebSocket::take_apart(std::span<std::byte> bytes, StopAt stop) {
  Piece piece;
  std::span<const std::byte> input = bytes;
  while (!input.empty() && !failed_ && !close_received_ && !peer_ended_ && !piece.message_end) {
    const auto step = decoder_.decode(input, bytes.data() + piece.bytes);
    input = input.subspan(step.consumed);
    piece.bytes += step.payload;
    if (step.event == FrameDecoder::Event::message_end) {
      peer_ended_ = empty_message_ends_ && decoder_.message_was_empty() && !decoder_.is_text();
      piece.message_end = stop == StopAt::message_end && !peer_ended_;
    } else {
      on_event(step.event);
    }
  }
  piece.text = decoder_.is_text();
  if (!failed_ && !close_received_)
    early_.insert(0, reinterpret_cast<const char*>(input.data()), input.size());
  if (!decoder_.within_frame()) {
    frame_waited_ = {};
    frame_bytes_ = 0;
  }
  flush_controls();
  return piece;
}

void WebSocket::on_event(FrameDecoder::Event event) {
  switch (event) {
    case FrameDecoder::Event::ping: on_ping(); break;
    case FrameDecoder::Event::pong: on_pong(); break;
    case FrameDecoder::Event::close: close_received_ = true; break;
    case FrameDecoder::Event::failed:
      observer_.frame_rejected(decoder_.error().reason);
      send_close(decoder_.error().close_code, R"({"code":"TUNNEL_010"})", false);
      failed_ = true;
      break;
    default: break;
  }
}

void WebSocket::on_ping() {
  const auto now = Clock::now();
  if (now - ping_window_ >= std::chrono::seconds(1)) {
    ping_window_ = now;
    pings_in_window_ = 0;
  }
  if (++pings_in_window_ > options_.max_pings_per_second) {
    observer_.frame_rejected("ping_flood");
    send_close(1008, R"({"code":"TUNNEL_005"})", false);
    failed_ = true;
    return;
  }
  if (close_sent_) return;  // nothing follows a Close
  // While a frame of ours is under way only the newest waits for its end (RFC 6455 5.5.3), so that a peer
  // that takes nothing cannot make us collect pongs.
  if (writing_)
    pong_ = std::string(decoder_.control());
  else
    controls_.append(control_frame(Opcode::pong, decoder_.control()));
}

void WebSocket::on_pong() {
  std::uint64_t number = 0;
  if (!ping_sent_ || decoder_.control().size() != sizeof number) return;
  std::memcpy(&number, decoder_.control().data(), sizeof number);
  if (number != pings_made_) return;
  observer_.heartbeat_rtt(Clock::now() - *ping_sent_);
  ping_sent_.reset();
}

void WebSocket::send_close(std::uint16_t code, std::string_view reason, bool by_peer) {
  if (close_sent_) return;
  close_sent_ = true;
  we_ended_ = true;
  if (!ending_known_) ending_ = {code, by_peer};
  ending_known_ = true;
  close_deadline_ = Clock::now() + options_.close_timeout;
  send_control(close_frame(code, reason));
}

void WebSocket::send_control(const std::string& frame) {
  controls_.append(frame);
  flush_controls();
}

void WebSocket::flush_controls() {
  if (writing_ || !transport_->is_open()) return;
  if (pong_ && !close_sent_) controls_.append(control_frame(Opcode::pong, *pong_));
  pong_.reset();
  if (controls_.empty()) return;
  const auto frames = std::exchange(controls_, {});
  if (!transport_->post(bytes_of(frames))) transport_->close();
}

asio::awaitable<Result<void>> WebSocket::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kMaxFrame));
    if (auto sent = co_await write_frame(Opcode::binary, true, part); !sent) co_return sent;
    bytes = bytes.subspan(part.size());
  }
  co_return Result<void>{};
}

asio::awaitable<Result<void>> WebSocket::write_frame(Opcode opcode, bool fin,
                                                     std::span<const std::byte> bytes) {
  const auto self = shared_from_this();
  // The reader found a fault and is seeing our Close to the peer: failing here first would make whoever
  // owns both cut it short.
  while (failed_ && reading_ && transport_->is_open() && Clock::now() < close_deadline_) {
    changed_.expires_at(close_deadline_);
    co_await changed_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  if (we_ended_ || !transport_->is_open()) co_return tl::unexpected(was_closed());
  const auto header = frame_header(opcode, fin, bytes.size());
  Result<void> sent;
  {
    const Raised writing(writing_, changed_);
    const Transport::Pieces pieces{header.span(), bytes, {}};
    sent = co_await transport_->write(pieces);
  }
  if (sent)
    flush_controls();
  else
    transport_->abort();  // a frame was cut: nothing sensible can follow
  co_return sent;
}

asio::awaitable<Result<void>> WebSocket::shutdown_write() {
  if (we_ended_) co_return Result<void>{};
  if (!empty_message_ends_) {
    send_close(1000, {}, false);
    co_return Result<void>{};
  }
  auto sent = co_await write_frame(Opcode::binary, true, {});
  we_ended_ = true;
  co_return sent;
}

asio::awaitable<void> WebSocket::wait_for_writer(Clock::time_point deadline) {
  while (writing_ && transport_->is_open() && Clock::now() < deadline) {
    changed_.expires_at(deadline);
    co_await changed_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

asio::awaitable<void> WebSocket::close_with(std::uint16_t code, std::string_view given_reason) {
  const auto self = shared_from_this();
  const std::string reason(given_reason);
  const auto deadline = Clock::now() + options_.close_timeout;
  co_await wait_for_writer(deadline);
  send_close(code, reason, false);
  if (!closing_) {
    const bool somebody_reads = reading_ || watching_;
    if (!somebody_reads) {
      std::array<std::byte, 4096> dropped;
      while (transport_->is_open() && !close_received_ && !failed_) {
        auto got = co_await receive_bytes(dropped);
        if (!got) break;
        take_apart(std::span(dropped).first(*got), StopAt::buffer_end);
      }
    }
    closing_ = true;
    while ((reading_ || watching_) && transport_->is_open() && Clock::now() < deadline) {
      changed_.expires_at(deadline);
      co_await changed_.async_wait(asio::as_tuple(asio::use_awaitable));
    }
  }
  co_await end_transport();
}

asio::awaitable<void> WebSocket::end_transport() {
  const auto deadline = Clock::now() + options_.close_timeout;
  co_await wait_for_writer(deadline);
  flush_controls();
  // The peer may still be sending what we refuse to read: let it see our Close first.
  const auto linger = close_received_ ? Transport::Linger::no : Transport::Linger::yes;
  co_await transport_->close_gracefully(linger, std::min(deadline, close_deadline_));
  report_closed();
  changed_.cancel();
}

void WebSocket::start_watching() {
  if (watching_) return;
  watching_ = true;
  // Holds the WebSocket and ends with its transport, which its owner closes.
  asio::co_spawn(transport_->get_executor(), watch(shared_from_this()),
                 [self = shared_from_this()](const std::exception_ptr&) {
                   self->watching_ = false;
                   self->changed_.cancel();
                 });
}

asio::awaitable<void> WebSocket::watch(std::shared_ptr<WebSocket> self) {
  std::array<std::byte, 512> control;
  while (!self->failed_ && !self->close_received_) {
    auto got = co_await self->receive_bytes(control);
    if (!got) co_return;
    const bool data = self->take_apart_after_end(std::span(control).first(*got));
    if (data && !self->close_sent_) {
      self->observer_.frame_rejected("protocol");
      self->send_close(1002, R"({"code":"TUNNEL_010"})", false);
      self->failed_ = true;
    }
  }
  if (self->close_received_) self->send_close(self->decoder_.close_code(), {}, true);
  co_await self->end_transport();
}

bool WebSocket::take_apart_after_end(std::span<std::byte> bytes) {
  bool data = false;
  std::span<const std::byte> input = bytes;
  while (!input.empty() && !failed_ && !close_received_) {
    const auto step = decoder_.decode(input, bytes.data());
    input = input.subspan(step.consumed);
    data = data || step.payload > 0 || step.event == FrameDecoder::Event::message_end;
    on_event(step.event);
  }
  flush_controls();
  return data;
}

void WebSocket::close() noexcept {
  if (transport_->is_open()) {
    if (!ending_known_) ending_ = {1006, false};
    ending_known_ = true;
    transport_->abort();
    changed_.cancel();
  }
  report_closed();
}

void WebSocket::report_closed() {
  if (reported_) return;
  reported_ = true;
  observer_.websocket_closed(tier_, "caller", ending_.code,
                             ending_.by_peer ? tunnel::Initiator::client : tunnel::Initiator::server,
                             Clock::now() - opened_);
}

Error WebSocket::broken() const {
  return {Error::Kind::unavailable, "the WebSocket ended with code " + std::to_string(ending_.code)};
}

}  // namespace tunneld::edge
