#include "link/link.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "link/attachment.h"
#include "link/replay_ring.h"
#include "tunnel/wakeup.h"

namespace links {
namespace {

using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;
using tunnel::ByteStream;
using Kind = Error::Kind;

/// The peer is told what has arrived after so much, or after so long (docs/api/links.md). In a bulk transfer
/// each ACK is a write of ours and a wake-up of the peer: one that may keep only 64 KiB gets it after a
/// moment.
constexpr std::size_t kAckAtOnceBytes = 256 * 1024;
constexpr std::size_t kAckSoonBytes = 64 * 1024;
constexpr auto kAckSoon = 5ms;
constexpr auto kAckDelay = 100ms;
/// After a write failed the reader may still find what the peer said before it went.
constexpr auto kReadOutLimit = 1s;
constexpr std::string_view kCannotResume = "cannot be resumed";

tl::unexpected<Error> cancelled() {
  return fail(Kind::cancelled, "the link's operation was cancelled");
}

/// What `story` returns, or timed_out when it takes too long.
template <class T>
asio::awaitable<Result<T>> within(std::chrono::milliseconds limit, asio::awaitable<Result<T>> story) {
  asio::steady_timer timer(co_await asio::this_coro::executor, limit);
  auto first = co_await (std::move(story) || timer.async_wait(asio::as_tuple(asio::use_awaitable)));
  if (first.index() == 0) co_return std::get<0>(std::move(first));
  const auto state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none) co_return cancelled();
  co_return fail(Kind::timed_out, "the link's handshake took too long");
}

bool draw(std::span<std::byte> bytes) {
  return RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) == 1;
}

/// Empty when there is no randomness to be had.
Secret draw_secret() {
  std::string bytes(kSecretBytes, '\0');
  if (!draw(std::as_writable_bytes(std::span(bytes)))) bytes.clear();
  return Secret(std::move(bytes));
}

Error wrong_frame() {
  return {Kind::bad_input, "another frame than the handshake's next"};
}

/// The server's first half: what the client wants.
asio::awaitable<Result<Hello>> challenge(std::shared_ptr<Attachment> attachment, Nonce nonce) {
  const auto frame = encode(Challenge{kVersion, nonce});
  if (auto sent = co_await attachment->stream->write(frame); !sent) co_return tl::unexpected(sent.error());
  const auto type = co_await read_frame(attachment);
  if (!type) co_return tl::unexpected(type.error());
  if (*type != FrameType::hello) co_return tl::unexpected(wrong_frame());
  const auto hello = attachment->decoder.hello();
  if (hello.version != kVersion)
    co_return fail(Kind::bad_input, "another version of the resume layer than 1");
  co_return hello;
}

/// The client's: the nonce, after which it may say what it wants.
asio::awaitable<Result<Nonce>> hear_challenge(std::shared_ptr<Attachment> attachment) {
  const auto type = co_await read_frame(attachment);
  if (!type) co_return tl::unexpected(type.error());
  if (*type == FrameType::gone) co_return fail(Kind::not_found, attachment->decoder.gone());
  if (*type != FrameType::challenge) co_return tl::unexpected(wrong_frame());
  const auto frame = attachment->decoder.challenge();
  if (frame.version != kVersion)
    co_return fail(Kind::bad_input, "another version of the resume layer than 1");
  co_return frame.nonce;
}

/// The whole of it, to resume. not_found: the server sent GONE.
asio::awaitable<Result<Welcome>> come_back(std::shared_ptr<Attachment> attachment, Secret secret,
                                           SessionId id, std::uint64_t wanted) {
  const auto nonce = co_await hear_challenge(attachment);
  if (!nonce) co_return tl::unexpected(nonce.error());
  const auto frame = encode(Hello{kVersion, id, wanted, prove(secret, *nonce, id, wanted)});
  if (auto sent = co_await attachment->stream->write(frame); !sent) co_return tl::unexpected(sent.error());
  const auto type = co_await read_frame(attachment);
  if (!type) co_return tl::unexpected(type.error());
  if (*type == FrameType::gone) co_return fail(Kind::not_found, attachment->decoder.gone());
  if (*type != FrameType::welcome) co_return tl::unexpected(wrong_frame());
  auto welcome = attachment->decoder.welcome();
  attachment->decoder.forget();
  co_return welcome;
}

/// What leaves in one write: frames without payload of their own, then DATA. With a WebSocket's header it
/// fits into as many full TLS records as are sent in one go (edge/transport.cpp).
struct Batch {
  static constexpr std::size_t kMaxBytes = 128 * 1024 - 16;
  static constexpr std::size_t kMaxSlices = 3;

  std::array<std::byte, 64 + 12 + kMaxSlices * 12> heads;
  std::size_t size = 0;   // of heads
  std::size_t bytes = 0;  // of all of it
  std::array<ReplayRing::Slice, kMaxSlices> slices;
  std::size_t slice_count = 0;
  std::array<std::span<const std::byte>, 2 * kMaxSlices> pieces;  // a head, a slice, a head ...

  std::size_t room() const { return kMaxBytes - bytes; }
  bool full() const { return slice_count == kMaxSlices || room() <= 1024; }
  void put(std::span<const std::byte> frame) {
    std::copy(frame.begin(), frame.end(), heads.begin() + static_cast<std::ptrdiff_t>(size));
    size += frame.size();
    bytes += frame.size();
    // Before the first slice all heads are one piece.
    auto& head = pieces[2 * slice_count];
    head = {heads.data() + size - frame.size() - head.size(), head.size() + frame.size()};
  }
  void put(ReplayRing::Slice slice) {
    bytes += slice.bytes.size();
    pieces[2 * slice_count + 1] = slice.bytes;
    slices[slice_count++] = std::move(slice);
  }
  std::span<const std::span<const std::byte>> all() const {
    return std::span(pieces).first(slice_count == 0 ? 1 : 2 * slice_count);
  }
  void clear() {
    OPENSSL_cleanse(heads.data(), size);
    size = bytes = slice_count = 0;
    pieces = {};
    slices = {};
  }
};

}  // namespace

struct Link::Impl : std::enable_shared_from_this<Link::Impl> {
  enum class Unsent { keep, drop };

  Impl(asio::any_io_executor executor_in, const LinkOptions& options_in)
      : executor(std::move(executor_in)),
        options(options_in),
        window(options_in.window),
        ack_timer(executor),
        ack_soon_timer(executor),
        window_timer(executor) {}

  std::shared_ptr<Attachment> make_attachment(std::unique_ptr<ByteStream> carrier) const {
    return std::make_shared<Attachment>(executor, std::move(carrier));
  }

  // ---- carriers come and go ----

  void attach(const std::shared_ptr<Attachment>& next) {
    window_timer.cancel();
    attachment = next;
    acknowledged = received;  // HELLO and WELCOME said it
    ack_now = false;
    attached.notify();
    if (!next->first.empty() || unsent() > 0) start_flush();
    tell_attached(true, {});
  }

  void lose(std::shared_ptr<Attachment> which, std::string_view why) {
    if (which == nullptr || which != attachment) return;
    which->stream->close();
    attachment.reset();
    if (awaiting_welcome)
      return end(
          {Kind::unavailable, "the connection broke before the server's welcome: " + std::string(why)});
    wait_for_carrier();
    tell_attached(false, why);
  }

  void wait_for_carrier() {
    window_timer.expires_after(window);
    window_timer.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!self || error || self->attachment || self->over) return;
      if (self->window_timer.expiry() > Clock::now()) return;  // set again meanwhile
      self->end({Kind::unavailable,
                 "the link was not resumed within " + std::to_string(self->window.count()) + " ms"});
    });
  }

  /// Ends the link. The peer is told with `farewell`, a frame GONE, or not at all.
  void end(Error error, std::string farewell = {}, Unsent keep = Unsent::drop) {
    if (over) return;
    over = std::move(error);
    proven = issued = {};
    window_timer.cancel();
    ack_timer.cancel();
    ack_soon_timer.cancel();
    const auto last = std::exchange(attachment, nullptr);
    if (!last || last->broken || keep == Unsent::drop) drop_unsent();
    if (last) {
      begin_to_leave(last, std::move(farewell), options.farewell_limit);
      if (!last->writing) spawn_flush(last);
    }
    attached.notify();
    writer_room.notify();
    sendable.notify();
    if (const auto listener = std::exchange(on_over, nullptr)) listener(over->message);
  }

  void violate(std::string_view what) {
    end({Kind::bad_input, "the peer broke the link's protocol: " + std::string(what)}, encode_gone(what));
  }

  void close() { end({Kind::cancelled, "the link was closed"}, encode_gone({}), Unsent::keep); }

  void tell_attached(bool is_attached, std::string_view why) const {
    if (const auto listener = on_attached) listener(is_attached, why);  // which may replace itself
  }

  // ---- what we send ----

  std::size_t unsent() const { return static_cast<std::size_t>(ring.end() - cursor); }
  std::size_t room() const {
    const auto below = [](std::size_t used, std::size_t most) { return used < most ? most - used : 0; };
    return std::min(below(unsent(), options.max_unsent), below(ring.size(), options.max_unacknowledged));
  }
  void drop_unsent() {
    ring.clear();
    cursor = ring.end();
  }
  void tell_room() {
    if (room() == 0) return;
    writer_room.notify();
    sendable.notify();
  }

  void start_flush() {
    if (attachment && !attachment->writing && !attachment->broken) spawn_flush(attachment);
  }
  /// Posted, not run at once: what else is ready to be written leaves with it.
  void spawn_flush(const std::shared_ptr<Attachment>& to) {
    to->writing = true;
    asio::post(executor, [self = shared_from_this(), to] {
      asio::co_spawn(self->executor, flush(self, to), [](std::exception_ptr failure) {
        if (failure) std::rethrow_exception(failure);
      });
    });
  }

  /// The only one who writes to a carrier after the handshake.
  static asio::awaitable<void> flush(std::shared_ptr<Impl> self, std::shared_ptr<Attachment> to) {
    Batch batch;
    Result<void> sent;
    while (sent && self->next_batch(*to, batch)) {
      sent = co_await to->stream->write_pieces(batch.all());
      batch.clear();
    }
    to->writing = false;
    if (!sent) self->on_write_failed(to, sent.error().message);
    if (!to->leaving) co_return;
    self->drop_unsent();
    if (sent)
      co_await leave(to);
    else
      to->stream->close();
  }

  /// The slices are held by the batch: the peer may acknowledge them, even before the carrier says that they
  /// are sent.
  bool next_batch(Attachment& to, Batch& batch) {
    if (to.broken || (attachment.get() != &to && !to.leaving)) return false;
    batch.put(to.first);
    OPENSSL_cleanse(to.first.data(), to.first.size());
    to.first = {};
    if (!over && received > acknowledged && (ack_now || unsent() > 0)) {
      batch.put(encode(Ack{received}));
      acknowledged = received;
      ack_now = false;
    }
    if (unsent() > 0) {
      while (unsent() > 0 && !batch.full()) {
        auto slice = ring.slice(cursor);
        const auto head_bytes = encode(Data{}).size();
        slice.bytes = slice.bytes.first(std::min(slice.bytes.size(), batch.room() - head_bytes));
        batch.put(encode(Data{cursor, slice.bytes.size()}));
        cursor += slice.bytes.size();
        batch.put(std::move(slice));
      }
      sent_at_most = std::max(sent_at_most, cursor);
      tell_room();
    }
    return batch.size > 0;
  }

  void on_write_failed(const std::shared_ptr<Attachment>& which, const std::string& why) {
    which->broken = true;
    if (which != attachment) return;
    // The peer may have ended the link and gone: the reader finds that behind what has already arrived.
    which->deadline.expires_after(kReadOutLimit);
    which->deadline.async_wait(
        [weak = weak_from_this(), held = std::weak_ptr(which), why](boost::system::error_code error) {
          const auto self = weak.lock();
          if (self && !error) self->lose(held.lock(), why);
        });
  }

  // ---- what we receive ----

  static asio::awaitable<Result<std::size_t>> read(std::shared_ptr<Impl> self, std::span<std::byte> into) {
    for (;;) {
      if (self->over) co_return self->after_the_end();
      const auto from = self->attachment;
      if (!from) {
        const bool woken = co_await self->attached.wait();
        if (!woken && !self->over) co_return cancelled();
        continue;
      }
      const auto got = co_await read_carrier(from, into);
      const auto state = co_await asio::this_coro::cancellation_state;
      if (!got && state.cancelled() != asio::cancellation_type::none) co_return cancelled();
      // What came over a carrier that has been replaced comes again over its successor.
      if (from != self->attachment) continue;
      if (!got) {
        self->lose(from, got.error().message);
      } else if (*got == 0) {
        self->lose(from, "the connection ended");
      } else if (const auto bytes = self->take_apart(*from, into.first(*got)); bytes > 0) {
        co_return bytes;
      }
    }
  }

  static asio::awaitable<Result<std::size_t>> read_carrier(std::shared_ptr<Attachment> from,
                                                           std::span<std::byte> into) {
    for (;;) {
      from->reading = true;
      auto got = co_await from->stream->read(into);
      from->reading = false;
      if (!from->leaving) co_return got;
      // The link ended while we waited; leave() has left the rest to us.
      if (got && *got > 0) continue;
      from->deadline.cancel();
      from->stream->close();
      co_return got;
    }
  }

  Result<std::size_t> after_the_end() const {
    if (peer_ended) return std::size_t{0};
    return tl::unexpected(*over);
  }

  /// Frames, in the buffer they were read into; what DATA they carried is moved to its front.
  std::size_t take_apart(Attachment& from, std::span<std::byte> bytes) {
    std::span<const std::byte> input = bytes;
    std::byte* to = bytes.data();
    const bool secret = awaiting_welcome;
    while (!input.empty() && !over) {
      const auto step = from.decoder.decode(input, to);
      input = input.subspan(step.consumed);
      to += step.payload;
      received += step.payload;
      on_event(from.decoder, step.event);
    }
    const auto stored = static_cast<std::size_t>(to - bytes.data());
    if (secret) OPENSSL_cleanse(to, bytes.size() - stored);
    if (!over) owe_ack();
    return stored;
  }

  void on_event(FrameDecoder& decoder, FrameDecoder::Event event) {
    switch (event) {
      case FrameDecoder::Event::none: return;
      case FrameDecoder::Event::failed: return violate(decoder.error());
      case FrameDecoder::Event::data:
        if (awaiting_welcome) return violate("DATA before WELCOME");
        if (decoder.data().offset != received)
          return violate("DATA that does not begin where the last ended");
        return;
      case FrameDecoder::Event::control: return on_control(decoder);
    }
  }

  void on_control(FrameDecoder& decoder) {
    if (decoder.type() == FrameType::gone) return on_gone(decoder.gone());
    if (awaiting_welcome != (decoder.type() == FrameType::welcome)) return violate("a frame out of turn");
    if (decoder.type() == FrameType::ack) return on_ack(decoder.ack().wanted);
    if (decoder.type() != FrameType::welcome) return violate("a frame out of turn");
    const auto welcome = decoder.welcome();
    decoder.forget();
    if (welcome.wanted > cursor) return violate("more was welcomed than was sent");
    awaiting_welcome = false;
    window_timer.cancel();
    id = welcome.session;
    learn(welcome);
  }

  void on_ack(std::uint64_t wanted) {
    if (wanted > cursor) return violate("an acknowledgement of what was not sent");
    if (wanted <= ring.begin()) return;
    ring.acknowledge(wanted);
    tell_room();
  }

  void on_gone(const std::string& why) {
    heard_gone = true;
    peer_ended = why.empty() && !awaiting_welcome;
    end({Kind::unavailable, peer_ended ? "the peer ended the link" : "the peer ended the link: " + why});
  }

  void owe_ack() {
    if (received == acknowledged) return;
    if (received - acknowledged >= kAckAtOnceBytes) {
      ack_now = true;
      return start_flush();
    }
    if (received - acknowledged >= kAckSoonBytes && !ack_soon_timer_runs) {
      ack_soon_timer_runs = true;
      ack_soon_timer.expires_after(kAckSoon);
      ack_soon_timer.async_wait([weak = weak_from_this()](boost::system::error_code error) {
        if (const auto self = weak.lock()) self->on_ack_soon_timer(!error);
      });
    }
    if (!ack_timer_runs) {
      ack_timer_runs = true;
      ack_timer.expires_after(kAckDelay);
      ack_timer.async_wait([weak = weak_from_this()](boost::system::error_code error) {
        if (const auto self = weak.lock()) self->on_ack_timer(!error);
      });
    }
  }
  void on_ack_soon_timer(bool expired) {
    ack_soon_timer_runs = false;
    if (!expired || received - acknowledged < kAckSoonBytes) return;
    ack_now = true;
    start_flush();
  }
  /// Runs on when an earlier ACK took its bytes along: some may then be acknowledged early, none late.
  void on_ack_timer(bool expired) {
    ack_timer_runs = false;
    if (!expired || received == acknowledged) return;
    ack_now = true;
    start_flush();
  }

  // ---- resuming ----

  bool can_resume_at(std::uint64_t wanted) const { return ring.begin() <= wanted && wanted <= sent_at_most; }
  void resume_at(std::uint64_t wanted) {
    ring.acknowledge(wanted);
    cursor = wanted;
    ++resumes;
    tell_room();
  }
  void learn(const Welcome& welcome) {
    issued = welcome.secret;
    window = std::chrono::milliseconds(welcome.window_ms);
    on_ack(welcome.wanted);
  }
  /// A WELCOME for `to`, with a new secret.
  bool prepare_welcome(Attachment& to) {
    auto secret = draw_secret();
    if (secret.empty()) return false;
    issued = std::move(secret);
    const auto longest = std::chrono::milliseconds(0xFFFF'FFFF);
    auto frame =
        encode(Welcome{id, received, issued, static_cast<std::uint32_t>(std::min(window, longest).count())});
    to.first.assign(frame.begin(), frame.end());
    OPENSSL_cleanse(frame.data(), frame.size());
    return true;
  }
  /// A WELCOME may be lost in a cut, and its secret with it. So the one before holds, too, until the client
  /// has proved the new one: that it proved last, and that it was sent last.
  bool is_proof(const Hello& hello, const Nonce& nonce) {
    if (hello.session != id) return false;
    if (same(hello.proof, prove(issued, nonce, id, hello.wanted))) {
      proven = issued;
      return true;
    }
    return !proven.empty() && same(hello.proof, prove(proven, nonce, id, hello.wanted));
  }

  static asio::awaitable<Result<void>> accept_again(std::shared_ptr<Impl> self,
                                                    std::unique_ptr<ByteStream> carrier) {
    const auto attempt = ++self->attempts;
    const auto next = self->make_attachment(std::move(carrier));
    const auto refuse_with = [&](Error error) -> tl::unexpected<Error> {
      refuse(self->executor, next, error);
      return tl::unexpected(std::move(error));
    };
    Nonce nonce;
    if (!draw(nonce)) co_return refuse_with({Kind::bug, "no random bytes"});
    auto hearing = challenge(next, nonce);
    const auto hello = co_await within(self->options.handshake_timeout, std::move(hearing));
    if (!hello) co_return refuse_with(hello.error());
    if (self->over) co_return refuse_with({Kind::not_found, std::string(kCannotResume)});
    if (!self->is_proof(*hello, nonce)) co_return refuse_with({Kind::denied, std::string(kCannotResume)});
    // It was slow: the client has given it up and comes over a newer one.
    if (attempt < self->attached_attempt)
      co_return refuse_with({Kind::unavailable, "a newer connection came"});
    if (!self->can_resume_at(hello->wanted)) {
      self->end({Kind::unavailable, "the client wants bytes that are no longer kept"},
                encode_gone(kCannotResume));
      co_return refuse_with({Kind::not_found, std::string(kCannotResume)});
    }
    if (!self->prepare_welcome(*next)) co_return refuse_with({Kind::bug, "no random bytes"});
    self->attached_attempt = attempt;
    self->lose(self->attachment, "a new connection takes its place");
    if (self->over) co_return refuse_with({Kind::not_found, std::string(kCannotResume)});
    self->resume_at(hello->wanted);
    self->attach(next);
    co_return Result<void>{};
  }

  static asio::awaitable<Result<void>> resume(std::shared_ptr<Impl> self,
                                              std::unique_ptr<ByteStream> carrier) {
    const auto attempt = ++self->attempts;
    const auto next = self->make_attachment(std::move(carrier));
    const auto refuse_with = [&](Error error) -> tl::unexpected<Error> {
      refuse(self->executor, next, error);
      return tl::unexpected(std::move(error));
    };
    // Before HELLO says what has arrived, for nothing may arrive after it.
    self->lose(self->attachment, "a new connection takes its place");
    if (self->over) co_return refuse_with({Kind::unavailable, self->over->message});
    auto coming = come_back(next, self->issued, self->id, self->received);
    const auto welcome = co_await within(self->options.handshake_timeout, std::move(coming));
    if (self->over) co_return refuse_with({Kind::unavailable, self->over->message});
    if (attempt != self->attempts) co_return refuse_with({Kind::unavailable, "a newer connection was tried"});
    if (!welcome && welcome.error().kind == Kind::not_found) {
      next->stream->close();
      self->end({Kind::not_found, "the server does not resume the link: " + welcome.error().message});
      co_return tl::unexpected(*self->over);
    }
    if (!welcome) co_return refuse_with(welcome.error());
    if (welcome->session != self->id || !self->can_resume_at(welcome->wanted)) {
      self->end({Kind::not_found, "the server wants bytes that are no longer kept"});
      refuse(self->executor, next, {Kind::not_found, std::string(kCannotResume)});
      co_return tl::unexpected(*self->over);
    }
    self->resume_at(welcome->wanted);
    self->learn(*welcome);
    self->attach(next);
    co_return Result<void>{};
  }

  // ---- the caller's operations ----

  static asio::awaitable<Result<void>> write(std::shared_ptr<Impl> self, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      if (self->over) co_return tl::unexpected(*self->over);
      const auto part = bytes.first(std::min(bytes.size(), self->room()));
      if (part.empty()) {
        const bool woken = co_await self->writer_room.wait();
        if (!woken && !self->over) co_return cancelled();
        continue;
      }
      self->ring.append(part);
      self->start_flush();
      bytes = bytes.subspan(part.size());
    }
    if (self->over) co_return tl::unexpected(*self->over);
    co_return Result<void>{};
  }

  static asio::awaitable<bool> wait_sendable(std::shared_ptr<Impl> self) {
    while (!self->over && self->room() == 0) {
      const bool woken = co_await self->sendable.wait();
      if (!woken) co_return false;
    }
    co_return !self->over;
  }

  asio::any_io_executor executor;
  LinkOptions options;
  std::chrono::milliseconds window;
  SessionId id{};
  Secret issued;  // with the last WELCOME
  Secret proven;  // the server's, see is_proof()
  bool awaiting_welcome = false;

  std::shared_ptr<Attachment> attachment;
  std::uint64_t attempts = 0;  // to resume; the newest wins
  std::uint64_t attached_attempt = 0;
  std::uint64_t resumes = 0;

  ReplayRing ring;
  std::uint64_t cursor = 0;        // what the carrier is given next
  std::uint64_t sent_at_most = 0;  // what any carrier was given
  std::uint64_t received = 0;
  std::uint64_t acknowledged = 0;  // of it
  bool ack_now = false;
  bool ack_timer_runs = false;
  bool ack_soon_timer_runs = false;

  std::optional<Error> over;
  bool heard_gone = false;
  bool peer_ended = false;  // in good order
  asio::steady_timer ack_timer;
  asio::steady_timer ack_soon_timer;
  asio::steady_timer window_timer;  // without a carrier; before WELCOME, for it
  tunnel::Wakeup attached;
  tunnel::Wakeup writer_room;
  tunnel::Wakeup sendable;
  std::function<void(bool, std::string_view)> on_attached;
  std::function<void(std::string_view)> on_over;
};

Link::Link(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Link::~Link() {
  impl_->on_attached = nullptr;
  impl_->on_over = nullptr;
  impl_->close();
}

asio::awaitable<Result<std::shared_ptr<Link>>> Link::accept(asio::any_io_executor executor,
                                                            std::unique_ptr<ByteStream> carrier,
                                                            LinkOptions options) {
  const auto impl = std::make_shared<Impl>(executor, options);
  const auto attachment = impl->make_attachment(std::move(carrier));
  const auto refuse_with = [&](Error error) -> tl::unexpected<Error> {
    refuse(executor, attachment, error);
    return tl::unexpected(std::move(error));
  };
  Nonce nonce;
  if (!draw(nonce) || !draw(impl->id)) co_return refuse_with({Kind::bug, "no random bytes"});
  auto hearing = challenge(attachment, nonce);
  const auto hello = co_await within(options.handshake_timeout, std::move(hearing));
  if (!hello) co_return refuse_with(hello.error());
  if (hello->session != SessionId{}) co_return refuse_with({Kind::denied, std::string(kCannotResume)});
  if (hello->wanted != 0) co_return refuse_with({Kind::bad_input, "a new link begins at offset 0"});
  if (!impl->prepare_welcome(*attachment)) co_return refuse_with({Kind::bug, "no random bytes"});
  impl->attach(attachment);
  co_return std::shared_ptr<Link>(new Link(impl));
}

asio::awaitable<Result<std::shared_ptr<Link>>> Link::connect(asio::any_io_executor executor,
                                                             std::unique_ptr<ByteStream> carrier,
                                                             LinkOptions options) {
  const auto impl = std::make_shared<Impl>(executor, options);
  const auto attachment = impl->make_attachment(std::move(carrier));
  auto hearing = hear_challenge(attachment);
  const auto nonce = co_await within(options.handshake_timeout, std::move(hearing));
  if (!nonce) {
    refuse(executor, attachment, nonce.error());
    co_return tl::unexpected(nonce.error());
  }
  const auto hello = encode(Hello{});
  attachment->first.assign(hello.begin(), hello.end());
  impl->awaiting_welcome = true;
  impl->attach(attachment);
  impl->window_timer.expires_after(options.handshake_timeout);
  impl->window_timer.async_wait([weak = std::weak_ptr(impl)](boost::system::error_code error) {
    const auto self = weak.lock();
    if (self && !error && self->awaiting_welcome)
      self->end({Kind::timed_out, "the server's welcome did not come"}, encode_gone("no WELCOME"));
  });
  co_return std::shared_ptr<Link>(new Link(impl));
}

asio::awaitable<Result<void>> Link::accept_again(std::unique_ptr<ByteStream> carrier) {
  return Impl::accept_again(impl_, std::move(carrier));
}
asio::awaitable<Result<void>> Link::resume(std::unique_ptr<ByteStream> carrier) {
  return Impl::resume(impl_, std::move(carrier));
}

asio::awaitable<Result<std::size_t>> Link::read(std::span<std::byte> into) {
  return Impl::read(impl_, into);
}
asio::awaitable<Result<void>> Link::write(std::span<const std::byte> bytes) {
  return Impl::write(impl_, bytes);
}
asio::awaitable<Result<void>> Link::shutdown_write() {
  co_return fail(Kind::bad_input, "a link ends as a whole, not in one direction");
}
void Link::close() noexcept {
  const auto impl = impl_;  // a listener may drop the link
  impl->close();
}

bool Link::append(std::span<const std::byte> head, std::span<const std::byte> body) {
  if (impl_->over) return false;
  impl_->ring.append(head);
  impl_->ring.append(body);
  if (impl_->unsent() > 0) impl_->start_flush();
  return true;
}
std::size_t Link::unsent() const {
  return impl_->unsent();
}
bool Link::sendable() const {
  return !impl_->over && impl_->room() > 0;
}
asio::awaitable<bool> Link::wait_sendable() {
  return Impl::wait_sendable(impl_);
}

void Link::detach(std::string_view why) {
  const auto impl = impl_;
  impl->lose(impl->attachment, why);
}
void Link::on_attached(std::function<void(bool, std::string_view)> listener) {
  impl_->on_attached = std::move(listener);
}
void Link::on_over(std::function<void(std::string_view)> listener) {
  impl_->on_over = std::move(listener);
}

Link::State Link::state() const {
  if (impl_->over) return State::over;
  return impl_->attachment ? State::attached : State::detached;
}
const SessionId& Link::id() const {
  return impl_->id;
}
std::chrono::milliseconds Link::window() const {
  return impl_->window;
}
std::size_t Link::unacknowledged() const {
  return impl_->ring.size();
}
std::uint64_t Link::resumes() const {
  return impl_->resumes;
}
const std::string& Link::why_over() const {
  static const std::string none;
  return impl_->over ? impl_->over->message : none;
}
bool Link::ended_by_peer() const {
  return impl_->heard_gone;
}
ByteStream* Link::carrier() {
  return impl_->attachment ? impl_->attachment->stream.get() : nullptr;
}

}  // namespace links
