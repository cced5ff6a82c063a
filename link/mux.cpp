#include "link/mux.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "link/outlet.h"
#include "link/receive_queue.h"
#include "tunnel/adaptive_buffer.h"
#include "tunnel/wakeup.h"

namespace links {

namespace {

using namespace asio::experimental::awaitable_operators;
using tunnel::ByteStream;
using tunnel::Wakeup;
using yamux::StreamId;
using Clock = std::chrono::steady_clock;

/// What TLS takes off the socket in one go, and two frames of a bulk transfer.
constexpr std::size_t kMostPerRead = 128 * 1024;
/// Between the first ones.
constexpr std::chrono::milliseconds kFirstPings{20};

/// The smallest of all that were measured over one carrier: the others were longer for what waited before
/// them.
class RoundTrips {
 public:
  void note(Clock::duration one) {
    last_ = one;
    smallest_ = std::min(smallest_, one);
    ++count_;
  }
  /// The path is another one now.
  void forget() {
    smallest_ = Clock::duration::max();
    count_ = 0;
  }
  Clock::duration last() const { return last_; }
  Clock::duration smallest() const { return smallest_; }
  /// At the beginning both sides are busy with other things than the answer.
  bool wants_more() const { return count_ < 4; }

 private:
  Clock::duration smallest_ = Clock::duration::max();
  Clock::duration last_{};
  unsigned count_ = 0;
};

}  // namespace

struct Mux::Impl final : yamux::Listener, yamux::Output, std::enable_shared_from_this<Mux::Impl> {
  /// A stream's state: the stream holds it, and so does each of its operations while it waits.
  struct Channel {
    Channel(std::shared_ptr<Impl> mux_in, StreamId id_in) : mux(std::move(mux_in)), id(id_in) {}

    std::shared_ptr<Impl> mux;
    StreamId id;
    bool attached = true;  // the session knows it, and `channels` has it
    bool we_ended = false;
    bool peer_ended = false;
    bool closed = false;
    bool reset = false;  // by the peer
    std::optional<Error> failure;

    ReceiveQueue queue;
    std::span<std::byte> space;  // of the waiting reader, what is left of it
    std::size_t stored = 0;      // there
    Wakeup arrived;

    std::span<const std::byte> unsent;  // of the waiting writer
    bool in_turns = false;
    Wakeup sent;
  };
  class Stream;
  class WaitingReader;
  class WaitingWriter;

  Impl(asio::any_io_executor executor_in, ByteStream& carrier_in, std::unique_ptr<Outlet> outlet_in,
       Options options_in)
      : executor(std::move(executor_in)),
        carrier(carrier_in),
        outlet(std::move(outlet_in)),
        options(options_in),
        session(options.role, options.yamux, *this, *this) {}

  // For streams.
  std::unique_ptr<ByteStream> make_stream(StreamId id);
  static asio::awaitable<Result<std::size_t>> read(std::shared_ptr<Channel> channel,
                                                   std::span<std::byte> into);
  static asio::awaitable<Result<void>> write(std::shared_ptr<Channel> channel,
                                             std::span<const std::byte> bytes);
  Result<void> end(Channel& channel);
  void close(Channel& channel);

  // For the Mux.
  static asio::awaitable<Result<void>> run(std::shared_ptr<Impl> self);
  Result<std::unique_ptr<ByteStream>> open();
  void finish(const Error& why);

  // yamux::Listener
  bool on_open(StreamId id) override;
  void on_data(StreamId id, std::span<const std::byte> bytes) override;
  void on_end(StreamId id) override;
  void on_reset(StreamId id) override;
  void on_writable(StreamId id) override;
  void on_pong(std::uint32_t value) override;
  void on_go_away(yamux::GoAway) override {}

  // yamux::Output
  void append(std::span<const std::byte> head, std::span<const std::byte> payload) override {
    outlet->append(head, payload);
  }

  static asio::awaitable<void> guarded(std::shared_ptr<Impl> self, asio::awaitable<void> part);
  asio::awaitable<void> read_carrier();
  asio::awaitable<void> write_carrier();
  asio::awaitable<void> wait_for_close();
  asio::awaitable<void> tell_fault(std::string_view fault);

  Channel* find(StreamId id) {
    const auto found = channels.find(id);
    return found == channels.end() ? nullptr : found->second;
  }
  void detach(Channel& channel) {
    channel.attached = false;
    channels.erase(channel.id);
  }
  void fail_channel(Channel& channel, const Error& why);
  void used(Channel& channel, std::size_t bytes);
  void queue_turn(Channel& channel);
  void take_turns();
  void ping_if_due(Clock::time_point now);
  void settle(Result<void> result) {
    if (!outcome) outcome = std::move(result);
  }
  bool over() const { return session.said_go_away() && session.heard_go_away() && session.streams() == 0; }
  void wake_writer() { outgoing.notify(); }

  asio::any_io_executor executor;
  ByteStream& carrier;
  const std::unique_ptr<Outlet> outlet;
  const Options options;
  yamux::Session session;
  std::function<void(std::unique_ptr<ByteStream>)> listener;

  std::unordered_map<StreamId, Channel*> channels;
  std::size_t accepted = 0;    // streams of the peer's whose objects live
  std::deque<Channel*> turns;  // with something to write and a window for it
  Wakeup outgoing;

  bool moved = false;  // payload, since the last ping
  std::optional<Clock::time_point> pinged_at;
  bool awaiting_pong = false;
  std::uint32_t ping_value = 0;
  RoundTrips round_trips;
  std::uint64_t path = 0;  // that they were measured on

  bool started = false;
  bool farewell = false;  // send what is there, then end
  std::optional<Error> finished;
  std::optional<Result<void>> outcome;
  bool close_asked = false;
  Wakeup close_wanted;
};

// Streams -----------------------------------------------------------------------------------------

class Mux::Impl::Stream final : public MuxStream {
 public:
  Stream(std::shared_ptr<Channel> channel, bool ours) : channel_(std::move(channel)), ours_(ours) {
    if (!ours_) ++channel_->mux->accepted;
  }
  ~Stream() override {
    channel_->mux->close(*channel_);
    if (!ours_) --channel_->mux->accepted;
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    return Impl::read(channel_, into);
  }
  bool readable() const noexcept override {
    const auto& channel = *channel_;
    return !channel.queue.empty() || channel.peer_ended || channel.failure || channel.closed;
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return Impl::write(channel_, bytes);
  }
  asio::awaitable<Result<void>> shutdown_write() override { co_return channel_->mux->end(*channel_); }
  void close() noexcept override { channel_->mux->close(*channel_); }
  bool reset_by_peer() const override { return channel_->reset; }

 private:
  std::shared_ptr<Channel> channel_;
  bool ours_;
};

std::unique_ptr<ByteStream> Mux::Impl::make_stream(StreamId id) {
  auto channel = std::make_shared<Channel>(shared_from_this(), id);
  channels.emplace(id, channel.get());
  const bool ours = (id & 1) == (options.role == yamux::Role::client ? 1U : 0U);
  return std::make_unique<Stream>(std::move(channel), ours);
}

/// While it lives, bytes may be put straight where the reader wants them.
class Mux::Impl::WaitingReader {
 public:
  WaitingReader(Channel& channel, std::span<std::byte> into) : channel_(channel) {
    channel_.space = into;
    channel_.stored = 0;
  }
  ~WaitingReader() { channel_.space = {}; }
  WaitingReader(const WaitingReader&) = delete;
  WaitingReader& operator=(const WaitingReader&) = delete;

 private:
  Channel& channel_;
};

asio::awaitable<Result<std::size_t>> Mux::Impl::read(std::shared_ptr<Channel> channel,
                                                     std::span<std::byte> into) {
  auto& from = *channel;
  while (!from.closed && from.queue.empty() && !from.peer_ended && !from.failure) {
    WaitingReader waiting(from, into);
    const bool woken = co_await from.arrived.wait();
    if (!woken && from.stored == 0)
      co_return fail(Error::Kind::cancelled, "reading the stream was cancelled");
    if (from.stored > 0 && !from.closed) {
      from.mux->used(from, from.stored);
      co_return from.stored;
    }
  }
  if (from.closed) co_return fail(Error::Kind::cancelled, "read on a closed stream");
  if (!from.queue.empty()) {
    const auto taken = from.queue.take(into);
    from.mux->used(from, taken);
    co_return taken;
  }
  if (from.peer_ended) co_return std::size_t{0};
  co_return tl::unexpected(*from.failure);
}

void Mux::Impl::used(Channel& channel, std::size_t bytes) {
  if (!channel.attached) return;
  session.consumed(channel.id, bytes, Clock::now());
  if (outlet->wants_drain()) wake_writer();
}

/// While it lives, the writer's bytes may be taken in its turns.
class Mux::Impl::WaitingWriter {
 public:
  WaitingWriter(Channel& channel, std::span<const std::byte> bytes) : channel_(channel) {
    channel_.unsent = bytes;
  }
  ~WaitingWriter() {
    channel_.unsent = {};
    if (!channel_.in_turns) return;
    channel_.in_turns = false;
    std::erase(channel_.mux->turns, &channel_);
  }
  WaitingWriter(const WaitingWriter&) = delete;
  WaitingWriter& operator=(const WaitingWriter&) = delete;

 private:
  Channel& channel_;
};

asio::awaitable<Result<void>> Mux::Impl::write(std::shared_ptr<Channel> channel,
                                               std::span<const std::byte> bytes) {
  auto& to = *channel;
  if (to.closed) co_return fail(Error::Kind::cancelled, "write on a closed stream");
  if (to.failure) co_return tl::unexpected(*to.failure);
  if (to.we_ended) co_return fail(Error::Kind::bug, "write behind the end of a stream");
  if (bytes.empty()) co_return Result<void>{};

  WaitingWriter waiting(to, bytes);
  to.mux->queue_turn(to);
  to.mux->take_turns();
  if (to.unsent.empty()) co_return Result<void>{};
  co_await to.sent.wait();
  if (to.unsent.empty()) co_return Result<void>{};
  if (!to.closed && to.failure) co_return tl::unexpected(*to.failure);
  co_return fail(Error::Kind::cancelled, "writing the stream was cancelled");
}

void Mux::Impl::queue_turn(Channel& channel) {
  if (channel.in_turns || channel.unsent.empty() || session.writable(channel.id) == 0) return;
  channel.in_turns = true;
  turns.push_back(&channel);
}

/// One frame of each stream that has something to write, and again, until enough is on its way.
void Mux::Impl::take_turns() {
  while (!turns.empty() && outlet->room()) {
    auto& channel = *turns.front();
    turns.pop_front();
    channel.in_turns = false;
    const auto piece = channel.unsent.first(std::min(channel.unsent.size(), yamux::kMaxDataBytes));
    channel.unsent = channel.unsent.subspan(session.write(channel.id, piece));
    moved = true;
    if (channel.unsent.empty()) channel.sent.notify();
    queue_turn(channel);
  }
  if (outlet->wants_drain()) wake_writer();
}

Result<void> Mux::Impl::end(Channel& channel) {
  if (channel.closed) return fail(Error::Kind::cancelled, "the stream is closed");
  if (channel.we_ended) return {};
  if (channel.failure) return tl::unexpected(*channel.failure);
  if (!channel.unsent.empty()) return fail(Error::Kind::bug, "the stream's end overtakes a write");
  channel.we_ended = true;
  session.end(channel.id);
  if (channel.peer_ended) detach(channel);
  wake_writer();
  return {};
}

void Mux::Impl::close(Channel& channel) {
  if (channel.closed) return;
  channel.closed = true;
  channel.queue.clear();
  if (channel.attached) {
    detach(channel);
    session.reset(channel.id);
    wake_writer();
  }
  channel.arrived.cancel();
  channel.sent.cancel();
}

// What the session tells -------------------------------------------------------------------------

bool Mux::Impl::on_open(StreamId id) {
  // A peer that opens and resets faster than the owner notices must not fill our memory with dead streams.
  if (!listener || accepted >= 2 * options.yamux.max_peer_streams) return false;
  listener(make_stream(id));
  return true;
}

void Mux::Impl::on_data(StreamId id, std::span<const std::byte> bytes) {
  moved = true;
  auto* channel = find(id);
  if (!channel) return;
  if (!channel->space.empty() && channel->queue.empty()) {
    const auto size = std::min(channel->space.size(), bytes.size());
    std::memcpy(channel->space.data(), bytes.data(), size);
    channel->space = channel->space.subspan(size);
    channel->stored += size;
    bytes = bytes.subspan(size);
  }
  channel->queue.append(bytes);
  channel->arrived.notify();
}

void Mux::Impl::on_end(StreamId id) {
  auto* channel = find(id);
  if (!channel) return;
  channel->peer_ended = true;
  if (channel->we_ended) detach(*channel);
  channel->arrived.notify();
}

void Mux::Impl::on_reset(StreamId id) {
  auto* channel = find(id);
  if (!channel) return;
  // What came before an end is whole, and the peer has only no use for our answer.
  if (!channel->peer_ended) channel->queue.clear();
  detach(*channel);
  channel->reset = true;
  fail_channel(*channel, {Error::Kind::unavailable, "reset by the peer"});
}

void Mux::Impl::fail_channel(Channel& channel, const Error& why) {
  channel.failure = why;
  channel.arrived.notify();
  channel.sent.notify();
}

void Mux::Impl::on_writable(StreamId id) {
  if (auto* channel = find(id)) queue_turn(*channel);
}

void Mux::Impl::on_pong(std::uint32_t value) {
  if (!awaiting_pong || value != ping_value) return;
  awaiting_pong = false;
  if (std::exchange(path, outlet->path()) != outlet->path()) round_trips.forget();
  round_trips.note(Clock::now() - *pinged_at);
  session.set_round_trip(round_trips.smallest());
}

void Mux::Impl::ping_if_due(Clock::time_point now) {
  if (!moved || awaiting_pong || options.ping_every <= options.ping_every.zero()) return;
  const auto pause =
      round_trips.wants_more() ? std::min(kFirstPings, options.ping_every) : options.ping_every;
  if (pinged_at && now - *pinged_at < pause) return;
  moved = false;
  pinged_at = now;
  awaiting_pong = true;
  session.ping(++ping_value);
}

// The carrier -------------------------------------------------------------------------------------

asio::awaitable<void> Mux::Impl::read_carrier() {
  tunnel::AdaptiveBuffer buffer(0, kMostPerRead);
  for (;;) {
    const auto space = buffer.space();
    const auto got = co_await carrier.read(space);
    if (!got) co_return settle(tl::unexpected(got.error()));
    if (*got == 0) break;
    buffer.note(*got);
    const auto now = Clock::now();
    const auto fault = session.receive(space.first(*got), now);
    if (fault) {
      co_await tell_fault(*fault);
      co_return;
    }
    take_turns();
    ping_if_due(now);
    wake_writer();
  }
  if (session.streams() == 0 || (session.said_go_away() && session.heard_go_away())) co_return settle({});
  settle(fail(Error::Kind::unavailable, "the connection ended with streams open"));
}

/// Leaves it to write_carrier(), whose end ends this wait.
asio::awaitable<void> Mux::Impl::tell_fault(std::string_view fault) {
  const Error why{Error::Kind::bad_input, "yamux: " + std::string(fault)};
  settle(tl::unexpected(why));
  finish(why);
  farewell = true;
  wake_writer();
  asio::steady_timer timer(executor, options.farewell_timeout);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

asio::awaitable<void> Mux::Impl::write_carrier() {
  for (;;) {
    ping_if_due(Clock::now());
    // A peer that takes nothing is not helped to more answers than its account allows.
    if (outlet->room()) session.flush();
    take_turns();
    if (!outlet->wants_drain()) {
      if (over()) settle({});
      if (over() || farewell) co_return;
      outlet->release();
      const bool woken = co_await outgoing.wait();
      if (!woken) co_return;
      continue;
    }
    const auto drained = co_await outlet->drain();
    if (!drained) co_return settle(drained);
  }
}

asio::awaitable<void> Mux::Impl::wait_for_close() {
  while (!close_asked) {
    const bool woken = co_await close_wanted.wait();
    if (!woken) co_return;
  }
}

/// An exception ends its part like a failure does, so that the others end too.
asio::awaitable<void> Mux::Impl::guarded(std::shared_ptr<Impl> self, asio::awaitable<void> part) {
  try {
    co_await std::move(part);
  } catch (const boost::system::system_error& error) {
    const bool cancelled = error.code() == asio::error::operation_aborted;
    self->settle(fail(cancelled ? Error::Kind::cancelled : Error::Kind::bug, error.what()));
  } catch (const std::exception& error) {
    self->settle(fail(Error::Kind::bug, error.what()));
  }
}

asio::awaitable<Result<void>> Mux::Impl::run(std::shared_ptr<Impl> self) {
  if (std::exchange(self->started, true)) co_return fail(Error::Kind::bug, "a multiplexer runs once");
  if (!self->finished) {
    co_await (guarded(self, self->read_carrier()) || guarded(self, self->write_carrier()) ||
              guarded(self, self->wait_for_close()));
  }
  self->settle(fail(Error::Kind::cancelled, "the multiplexer was cancelled"));
  const auto& outcome = *self->outcome;
  self->finish(outcome ? Error{Error::Kind::unavailable, "the connection has ended"} : outcome.error());
  co_return outcome;
}

void Mux::Impl::finish(const Error& why) {
  if (finished) return;
  finished = why;
  // To the streams all is the same but what was asked for on this side.
  if (why.kind != Error::Kind::cancelled) finished->kind = Error::Kind::unavailable;
  for (auto* channel : turns) channel->in_turns = false;
  turns.clear();
  for (const auto& [id, channel] : std::exchange(channels, {})) {
    channel->attached = false;
    fail_channel(*channel, *finished);
  }
}

Result<std::unique_ptr<ByteStream>> Mux::Impl::open() {
  if (finished) return fail(Error::Kind::unavailable, finished->message);
  if (session.heard_go_away()) return fail(Error::Kind::unavailable, "the peer takes no more streams");
  if (session.said_go_away()) return fail(Error::Kind::unavailable, "no more streams after a go-away");
  const auto id = session.open();
  if (!id) return fail(Error::Kind::unavailable, "too many streams");
  wake_writer();
  return make_stream(*id);
}

// The Mux -----------------------------------------------------------------------------------------

Mux::Mux(asio::any_io_executor executor, tunnel::ByteStream& carrier, Options options)
    : impl_(std::make_shared<Impl>(std::move(executor), carrier, std::make_unique<StreamOutlet>(carrier),
                                   options)) {}

Mux::Mux(asio::any_io_executor executor, Link& link, Options options)
    : impl_(std::make_shared<Impl>(std::move(executor), link, std::make_unique<LinkOutlet>(link), options)) {}

Mux::~Mux() {
  close();
  impl_->listener = nullptr;  // it may hold streams, which hold the Impl
}

void Mux::on_stream(std::function<void(std::unique_ptr<tunnel::ByteStream>)> listener) {
  impl_->listener = std::move(listener);
}

asio::awaitable<Result<void>> Mux::run() {
  return Impl::run(impl_);
}

Result<std::unique_ptr<tunnel::ByteStream>> Mux::open() {
  return impl_->open();
}

void Mux::go_away(yamux::GoAway reason) {
  if (impl_->finished || impl_->session.said_go_away()) return;
  impl_->session.go_away(reason);
  impl_->wake_writer();
}

void Mux::close() noexcept {
  const Error why{Error::Kind::cancelled, "the multiplexer was closed"};
  impl_->settle(tl::unexpected(why));
  impl_->finish(why);
  impl_->close_asked = true;
  impl_->close_wanted.notify();
}

std::size_t Mux::streams() const {
  return impl_->session.streams();
}

std::chrono::steady_clock::duration Mux::round_trip() const {
  return impl_->round_trips.last();
}

}  // namespace links
