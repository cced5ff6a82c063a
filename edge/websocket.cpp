#include "edge/websocket.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <stdexcept>

#include <openssl/rand.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/utf8.h"
#include "edge/message_compression.h"

namespace edge {

namespace {

/// One message of ours at most: bounds how long a pong waits behind data.
constexpr std::size_t kMaxFrame = 256 * 1024;
/// Of write() as a client, which copies what it masks.
constexpr std::size_t kMaxMaskedFrame = 64 * 1024;
/// After so many in a row that need less than a quarter of it, the buffer for masking is given back.
constexpr unsigned kSmallFramesToShrink = 16;

/// Control messages of ours that wait for a frame under way, or for a peer that reads nothing.
constexpr std::size_t kMaxWaitingTexts = 16;
constexpr std::size_t kMaxWaitingTextBytes = 64 * 1024;
/// For the Close to a peer that is dead by all we know: nobody waits for its answer.
constexpr auto kLastWord = std::chrono::milliseconds(100);

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
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

/// Nobody may foresee it (RFC 6455 10.3); fetched in batches, because each call of OpenSSL's costs more than
/// masking a small frame.
std::uint32_t fresh_key() {
  thread_local std::array<std::uint32_t, 64> keys;
  thread_local std::size_t left = 0;
  if (left == 0) {
    if (RAND_bytes(reinterpret_cast<unsigned char*>(keys.data()), sizeof keys) != 1)
      throw std::runtime_error("OpenSSL has no random numbers");
    left = keys.size();
  }
  return keys[--left];
}

/// Within 10 %, so that many clients of one server do not ping together.
WebSocket::Clock::duration about(WebSocket::Clock::duration pause) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return std::chrono::duration_cast<WebSocket::Clock::duration>(
      pause * std::uniform_real_distribution<>(0.9, 1.1)(random));
}

Error was_closed() {
  return {Error::Kind::cancelled, "the WebSocket was closed"};
}

}  // namespace

std::shared_ptr<WebSocket> WebSocket::open(std::shared_ptr<Transport> transport, Setup setup) {
  return std::shared_ptr<WebSocket>(new WebSocket(std::move(transport), std::move(setup)));
}

WebSocket::WebSocket(std::shared_ptr<Transport> transport, Setup setup)
    : transport_(std::move(transport)),
      early_(std::move(setup.early)),
      own_options_(std::move(setup.own_options)),
      options_(own_options_ ? *own_options_ : setup.options),
      observer_(setup.observer),
      record_(std::move(setup.record)),
      tier_(setup.tier),
      role_(setup.role),
      side_(setup.speaks_as),
      empty_message_ends_(setup.empty_message_ends),
      control_messages_(setup.control_messages),
      control_messages_per_second_(setup.control_messages_per_second > 0
                                       ? setup.control_messages_per_second
                                       : options_.max_control_messages_per_second),
      compression_(setup.compression),
      on_large_message_(std::move(setup.on_large_message)),
      decoder_({options_.max_message_bytes, options_.max_fragments,
                control_messages_ ? options_.max_control_message_bytes : UINT64_MAX, compression_,
                side_ == Side::server}),
      changed_(transport_->get_executor()) {
  observer_.websocket_opened(tier_, role_);
  if (side_ == Side::client) next_ping_ = opened_ + about(options_.ping_after);
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
    if (gathered_) {
      const auto piece = take_gathered(into, stop);
      if (piece.bytes > 0 || piece.message_end) co_return piece;
    }
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
    if (closing_) {
      gathered_.reset();
      continue;
    }
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
      if (heard_ >= next_ping_) ping();
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
  auto deadline = std::min(heard_ + options_.dead_after, ping_due());
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
      reject(1008, "slow", tunnel::Code::bad_request);
      return false;
    }
  }
  if (now >= heard_ + options_.dead_after) {
    observer_.heartbeat_timed_out();
    send_close(4408, R"({"code":"TUNNEL_009"})", false);
    close_deadline_ = now + kLastWord;
    failed_ = true;
    return false;
  }
  if (now >= ping_due()) ping();
  return true;
}

WebSocket::Clock::time_point WebSocket::ping_due() const {
  if (side_ == Side::client) return next_ping_;
  return pinged_ ? Clock::time_point::max() : heard_ + options_.ping_after;
}

void WebSocket::ping() {
  pinged_ = true;
  ping_sent_ = Clock::now();
  if (side_ == Side::client) next_ping_ = *ping_sent_ + about(options_.ping_after);
  ++pings_made_;
  std::array<char, sizeof pings_made_> payload{};
  std::memcpy(payload.data(), &pings_made_, payload.size());
  send_control(as_sent(control_frame(Opcode::ping, {payload.data(), payload.size()})));
}

WebSocket::Piece WebSocket::take_apart(std::span<std::byte> bytes, StopAt stop) {
  Piece piece;
  std::span<const std::byte> input = bytes;
  while (!input.empty() && !failed_ && !close_received_ && !peer_ended_ && !piece.message_end && !gathered_) {
    std::byte* const to = bytes.data() + piece.bytes;
    const auto step = decoder_.decode(input, to);
    input = input.subspan(step.consumed);
    look_at_size(decoder_.message_bytes());
    if (is_gathered_first())
      gather({to, step.payload});
    else
      piece.bytes += step.payload;
    if (step.event == FrameDecoder::Event::message_end && is_gathered_first()) {
      on_gathered();
    } else if (step.event == FrameDecoder::Event::message_end) {
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

WebSocket::Piece WebSocket::take_gathered(std::span<std::byte> into, StopAt stop) {
  Piece piece;
  piece.text = gathered_->text;
  piece.bytes = std::min(into.size(), gathered_->payload.size() - gathered_->taken);
  std::memcpy(into.data(), gathered_->payload.data() + gathered_->taken, piece.bytes);
  gathered_->taken += piece.bytes;
  if (gathered_->taken < gathered_->payload.size()) return piece;
  peer_ended_ = empty_message_ends_ && gathered_->payload.empty() && !gathered_->text;
  piece.message_end = stop == StopAt::message_end && !peer_ended_;
  gathered_.reset();
  return piece;
}

bool WebSocket::is_gathered_first() const {
  return decoder_.is_compressed() || is_control_message();
}

void WebSocket::gather(std::span<const std::byte> payload) {
  // Grows with what has come, not with what a header announces; the decoder bounds both.
  gathering_.append(reinterpret_cast<const char*>(payload.data()), payload.size());
}

void WebSocket::on_gathered() {
  auto message = std::exchange(gathering_, {});
  if (decoder_.is_compressed()) {
    const auto most = is_control_message()
                          ? std::min(options_.max_control_message_bytes, options_.max_message_bytes)
                          : options_.max_message_bytes;
    auto whole = inflate_message(message, most);
    if (!whole) {
      const bool too_large = whole.error() == InflateFault::too_large;
      reject(too_large ? 1009 : 1007, "inflate", tunnel::Code::bad_request);
      return;
    }
    observer_.compressed(tunnel::Side::client, message.size(), whole->size());
    message = std::move(*whole);
    if (decoder_.is_text() && !utf8::valid(message)) {
      reject(1007, "utf8", tunnel::Code::bad_request);
      return;
    }
    look_at_size(message.size());
  }
  if (is_control_message())
    on_control_message(std::move(message));
  else
    gathered_ = Gathered{std::move(message), 0, decoder_.is_text()};
}

void WebSocket::on_control_message(std::string text) {
  if (control_messages_rate_.exceeds(control_messages_per_second_)) {
    reject(1008, "control_flood", tunnel::Code::rate_limited);
    return;
  }
  // A copy, because the handler may replace itself.
  if (const auto handler = on_control_) handler(std::move(text));
}

void WebSocket::look_at_size(std::uint64_t message_bytes) {
  if (message_bytes <= options_.warn_message_bytes || !on_large_message_) return;
  std::exchange(on_large_message_, nullptr)(message_bytes);
}

bool WebSocket::Rate::exceeds(unsigned limit) {
  const auto now = Clock::now();
  if (now - window >= std::chrono::seconds(1)) {
    window = now;
    in_window = 0;
  }
  return ++in_window > limit;
}

void WebSocket::reject(std::uint16_t close_code, std::string_view metric, tunnel::Code code) {
  observer_.frame_rejected(metric);
  send_close(close_code, std::string(R"({"code":")").append(tunnel::facts(code).name).append(R"("})"), false);
  failed_ = true;
}

void WebSocket::on_event(FrameDecoder::Event event) {
  switch (event) {
    case FrameDecoder::Event::ping: on_ping(); break;
    case FrameDecoder::Event::pong: on_pong(); break;
    case FrameDecoder::Event::close: close_received_ = true; break;
    case FrameDecoder::Event::failed:
      reject(decoder_.error().close_code, decoder_.error().reason, tunnel::Code::bad_request);
      break;
    default: break;
  }
}

void WebSocket::on_ping() {
  if (pings_.exceeds(options_.max_pings_per_second)) {
    reject(1008, "ping_flood", tunnel::Code::rate_limited);
    return;
  }
  if (close_sent_) return;  // nothing follows a Close
  // While a frame of ours is under way only the newest waits for its end (RFC 6455 5.5.3), so that a peer
  // that takes nothing cannot make us collect pongs.
  if (writing_)
    pong_ = std::string(decoder_.control());
  else
    controls_.append(as_sent(control_frame(Opcode::pong, decoder_.control())));
}

void WebSocket::on_pong() {
  std::uint64_t number = 0;
  if (!ping_sent_ || decoder_.control().size() != sizeof number) return;
  std::memcpy(&number, decoder_.control().data(), sizeof number);
  if (number != pings_made_) return;
  ++pongs_heard_;
  round_trip_ = Clock::now() - *ping_sent_;
  observer_.heartbeat_rtt(round_trip_);
  ping_sent_.reset();
}

WebSocket::Vitals WebSocket::vitals() const {
  return {.pings = pings_made_,
          .pongs = pongs_heard_,
          .waiting = ping_sent_.has_value(),
          .round_trip = round_trip_,
          .socket = transport_->descriptor()};
}

void WebSocket::send_close(std::uint16_t code, std::string_view reason, bool by_peer) {
  if (close_sent_) return;
  close_sent_ = true;
  we_ended_ = true;
  if (!ending_known_) ending_ = {code, by_peer, std::string(by_peer ? decoder_.close_reason() : "")};
  ending_known_ = true;
  close_deadline_ = Clock::now() + options_.close_timeout;
  send_control(as_sent(close_frame(code, reason)));
}

void WebSocket::send_control(const std::string& frame) {
  controls_.append(frame);
  flush_controls();
}

std::string WebSocket::as_sent(std::string frame) const {
  if (side_ == Side::server) return frame;
  FrameHeader header;
  const unsigned length = static_cast<unsigned char>(frame[1]);
  header.size = length < 126 ? 2 : length == 126 ? 4 : 10;
  std::memcpy(header.bytes.data(), frame.data(), header.size);
  auto* payload = reinterpret_cast<std::byte*>(frame.data()) + header.size;
  const auto size = frame.size() - header.size;
  apply_mask(payload, payload, size, mask_header(header, fresh_key()));
  return std::string(as_text(header.span())).append(as_text({payload, size}));
}

void WebSocket::flush_controls() {
  if (writing_ || !transport_->is_open()) return;
  std::string frames;
  // First, because controls_ may end with a Close.
  if (!within_message_) {
    for (const auto& text : texts_)
      frames.append(
          as_sent(std::string(as_text(frame_header(Opcode::text, true, text.size()).span())) + text));
    texts_ = {};
    texts_bytes_ = 0;
  }
  if (pong_ && !close_sent_) controls_.append(as_sent(control_frame(Opcode::pong, *pong_)));
  pong_.reset();
  frames.append(std::exchange(controls_, {}));
  if (frames.empty()) return;
  if (!transport_->post(bytes_of(frames))) transport_->close();
}

bool WebSocket::post_control(std::string_view text) {
  if (!control_messages_ || close_sent_ || !transport_->is_open() ||
      text.size() > options_.max_control_message_bytes)
    return false;
  // A peer that takes nothing must not make us collect: bounded in number and, unless they only wait for
  // the frame under way, together with what the transport holds for it.
  const auto held = texts_bytes_ + text.size() + (writing_ ? 0 : transport_->unsent_bytes());
  if (texts_.size() >= kMaxWaitingTexts || held > kMaxWaitingTextBytes) return false;
  texts_.emplace_back(text);
  texts_bytes_ += text.size();
  flush_controls();
  return true;
}

void WebSocket::disown() {
  on_control_ = nullptr;
  on_large_message_ = nullptr;
}

asio::awaitable<Result<void>> WebSocket::write(std::span<const std::byte> bytes) {
  const auto most = side_ == Side::client ? kMaxMaskedFrame : kMaxFrame;
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), most));
    if (auto sent = co_await write_message(part); !sent) co_return sent;
    bytes = bytes.subspan(part.size());
  }
  co_return Result<void>{};
}

asio::awaitable<Result<void>> WebSocket::write_pieces(std::span<const std::span<const std::byte>> pieces) {
  std::size_t whole = 0;
  for (const auto piece : pieces) whole += piece.size();
  const bool one_message = whole > 0 && whole <= kMaxFrame;
  if (one_message && compression_) {
    std::string joined;
    joined.reserve(whole);
    for (const auto piece : pieces) joined.append(as_text(piece));
    co_return co_await write(bytes_of(joined));
  }
  Transport::Pieces message{};
  if (one_message && pieces.size() < message.size()) {
    std::copy(pieces.begin(), pieces.end(), message.begin() + 1);
    within_message_ = false;
    co_return co_await send_frame(frame_header(Opcode::binary, true, whole), message);
  }
  for (const auto piece : pieces) {
    auto sent = co_await write(piece);
    if (!sent) co_return sent;
  }
  co_return Result<void>{};
}

asio::awaitable<Result<void>> WebSocket::write_message(std::span<const std::byte> bytes) {
  std::optional<std::string> packed;
  if (compression_ && bytes.size() >= options_.compression_threshold_bytes && !may_hold_secrets(bytes))
    packed = deflate_message(bytes, options_.compression_level);
  if (!packed) co_return co_await write_frame(Opcode::binary, true, bytes);
  observer_.compressed(tunnel::Side::agent, bytes.size(), packed->size());
  const auto header = frame_header(Opcode::binary, true, packed->size(), Packed::yes);
  co_return co_await send_frame(header, {{{}, bytes_of(*packed)}});
}

asio::awaitable<Result<void>> WebSocket::write_frame(Opcode opcode, bool fin,
                                                     std::span<const std::byte> bytes) {
  within_message_ = !fin;
  return send_frame(frame_header(opcode, fin, bytes.size()), {{{}, bytes}});
}

asio::awaitable<Result<void>> WebSocket::send_frame(FrameHeader header, Transport::Pieces pieces) {
  const auto self = shared_from_this();
  // The reader found a fault and is seeing our Close to the peer: failing here first would make whoever
  // owns both cut it short.
  while (failed_ && reading_ && transport_->is_open() && Clock::now() < close_deadline_) {
    changed_.expires_at(close_deadline_);
    co_await changed_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  if (we_ended_ || !transport_->is_open()) co_return tl::unexpected(was_closed());
  Result<void> sent;
  {
    const Raised writing(writing_, changed_);
    if (side_ == Side::client) pieces = {{{}, mask(pieces, mask_header(header, fresh_key()))}};
    pieces[0] = header.span();
    sent = co_await transport_->write(pieces, Transport::Cancelled::finished);
  }
  // A cancelled write leaves whole frames behind, so that a Close can say why.
  if (sent || sent.error().kind == Error::Kind::cancelled)
    flush_controls();
  else
    transport_->abort();  // a frame was cut: nothing sensible can follow
  co_return sent;
}

std::span<const std::byte> WebSocket::mask(const Transport::Pieces& pieces, Mask key) {
  std::size_t size = 0;
  for (const auto piece : pieces) size += piece.size();
  small_frames_ = size > masked_bytes_ / 4 ? 0 : small_frames_ + 1;
  if (size > masked_bytes_ || small_frames_ >= kSmallFramesToShrink) {
    masked_ = std::make_unique_for_overwrite<std::byte[]>(size);
    masked_bytes_ = size;
    small_frames_ = 0;
  }
  auto* to = masked_.get();
  for (const auto piece : pieces) {
    key = apply_mask(piece.data(), to, piece.size(), key);
    to += piece.size();
  }
  return {masked_.get(), size};
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
        gathered_.reset();
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
  co_await wait_for_writer(std::min(deadline, close_deadline_));
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
    if (data && !self->close_sent_) self->reject(1002, "protocol", tunnel::Code::bad_request);
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
    const bool message_end = step.event == FrameDecoder::Event::message_end;
    if (is_control_message()) {
      gather(bytes.first(step.payload));
      if (message_end) on_gathered();
    } else {
      data = data || step.payload > 0 || message_end;
    }
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
  if (record_) record_->set_ending(ending_.code, ending_.by_peer);
  observer_.websocket_closed(tier_, role_, ending_.code,
                             ending_.by_peer ? tunnel::Initiator::client : tunnel::Initiator::server,
                             Clock::now() - opened_);
}

Error WebSocket::broken() const {
  return {Error::Kind::unavailable, "the WebSocket ended with code " + std::to_string(ending_.code)};
}

}  // namespace edge
