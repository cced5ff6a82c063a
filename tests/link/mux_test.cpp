#include "link/mux.h"

#include <deque>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "tests/support/memory_stream.h"
#include "tests/support/run_async.h"

namespace links {
namespace {

using namespace std::chrono_literals;
using support::bytes_of;
using support::memory_streams;
using support::MemoryStream;
using support::read_all;
using support::read_exactly;
using support::run_async;
using testing::HasSubstr;
using tunnel::ByteStream;
using Streams = std::vector<std::unique_ptr<ByteStream>>;
using Kind = Error::Kind;

std::string frame(yamux::Type type, int flags, yamux::StreamId stream, std::uint32_t length) {
  const auto header = yamux::encode({type, static_cast<std::uint16_t>(flags), stream, length});
  return std::string(reinterpret_cast<const char*>(header.data()), header.size());
}

struct Ended {
  explicit Ended(std::optional<Result<void>>& into_in) : into(&into_in) {}
  void operator()(std::exception_ptr error, Result<void> result) const {
    if (error) std::rethrow_exception(error);
    *into = std::move(result);
  }
  std::optional<Result<void>>* into;
};
struct Rethrow {
  void operator()(std::exception_ptr error) const {
    if (error) std::rethrow_exception(error);
  }
};

asio::awaitable<void> note_write(ByteStream& stream, std::string text, std::optional<Result<void>>& result) {
  result = co_await stream.write(bytes_of(text));
}
asio::awaitable<void> note_read(ByteStream& stream, std::optional<Result<std::size_t>>& result) {
  std::array<std::byte, 100> buffer;
  result = co_await stream.read(buffer);
}

/// A loop, and what operations that were started there came to; it outlives them.
struct Ground {
  /// Until nothing moves any more.
  void settle() {
    context.restart();
    context.poll();
  }
  template <class T>
  T run(asio::awaitable<T> story) {
    return run_async(context, std::move(story));
  }
  void spawn(asio::awaitable<void> story) { asio::co_spawn(context, std::move(story), Rethrow{}); }
  std::optional<Result<void>>& start_write(ByteStream& stream, std::string text) {
    auto& result = written.emplace_back();
    spawn(note_write(stream, std::move(text), result));
    return result;
  }
  std::optional<Result<std::size_t>>& start_read(ByteStream& stream) {
    auto& result = read.emplace_back();
    spawn(note_read(stream, result));
    return result;
  }

  std::deque<std::optional<Result<void>>> written;
  std::deque<std::optional<Result<std::size_t>>> read;
  asio::io_context context;
};

/// Two multiplexers over memory. No pings, so that what is on the wire is known, unless a test asks for them.
struct Ends : Ground {
  explicit Ends(std::size_t capacity = 64 * 1024, std::chrono::milliseconds ping_every = 0ms,
                const yamux::Options& options = {}) {
    auto [near, far] = memory_streams(context.get_executor(), capacity);
    client_carrier = std::move(near);
    server_carrier = std::move(far);
    client = make(*client_carrier, yamux::Role::client, ping_every, options);
    server = make(*server_carrier, yamux::Role::server, ping_every, options);
    server->on_stream([this](std::unique_ptr<ByteStream> stream) { accepted.push_back(std::move(stream)); });
    asio::co_spawn(context, client->run(), Ended(client_end));
    asio::co_spawn(context, server->run(), Ended(server_end));
  }
  ~Ends() {
    accepted.clear();
    client.reset();
    server.reset();
    settle();
    EXPECT_TRUE(client_end && server_end) << "a run() goes on after its Mux is gone";
  }
  std::unique_ptr<Mux> make(ByteStream& carrier, yamux::Role role, std::chrono::milliseconds ping_every,
                            const yamux::Options& options) {
    return std::make_unique<Mux>(context.get_executor(), carrier,
                                 Mux::Options{.role = role, .yamux = options, .ping_every = ping_every});
  }
  std::unique_ptr<ByteStream> open() { return std::move(client->open()).value(); }

  std::unique_ptr<MemoryStream> client_carrier, server_carrier;
  std::unique_ptr<Mux> client, server;
  Streams accepted;
  std::optional<Result<void>> client_end, server_end;
};

asio::awaitable<void> write_then_end(ByteStream& stream, std::string text) {
  const auto sent = co_await stream.write(bytes_of(text));
  EXPECT_TRUE(sent) << sent.error().message;
  EXPECT_TRUE(co_await stream.shutdown_write());
}
asio::awaitable<void> note_all(ByteStream& stream, std::string& text) {
  text = co_await read_all(stream);
}
asio::awaitable<Result<std::size_t>> read_some(ByteStream& stream) {
  std::array<std::byte, 100> buffer;
  co_return co_await stream.read(buffer);
}

std::string pattern(std::size_t size, unsigned seed) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 131 + i / 251 + seed * 17) & 0xFF);
  return text;
}

TEST(Mux, CarriesBytesBothWaysAndKeepsHalfClose) {
  Ends ends;
  auto stream = ends.open();
  ends.run(write_then_end(*stream, "question"));
  ends.settle();
  ASSERT_EQ(ends.accepted.size(), 1U);
  EXPECT_EQ(ends.run(read_all(*ends.accepted[0])), "question");
  ends.run(write_then_end(*ends.accepted[0], "answer"));
  EXPECT_EQ(ends.run(read_all(*stream)), "answer");
  EXPECT_EQ(ends.run(read_some(*stream)), 0U) << "the end stays the end";
  EXPECT_EQ(ends.client->streams() + ends.server->streams(), 0U);
}

TEST(Mux, EitherSideMayOpenAndTheServerMayEndFirst) {
  Ends ends;
  Streams at_client;
  ends.client->on_stream([&](std::unique_ptr<ByteStream> stream) { at_client.push_back(std::move(stream)); });
  auto stream = std::move(ends.server->open()).value();
  ends.settle();
  ASSERT_EQ(at_client.size(), 1U);
  ends.run(write_then_end(*at_client[0], "first"));
  EXPECT_EQ(ends.run(read_all(*stream)), "first");
  ends.run(write_then_end(*stream, "second"));
  EXPECT_EQ(ends.run(read_all(*at_client[0])), "second");
}

TEST(Mux, MoreThanAWindowPassesThroughCarriersAndReadersOfAnySize) {
  for (const auto most : {std::size_t{1} << 30, std::size_t{7}, std::size_t{5000}}) {
    SCOPED_TRACE(most);
    Ends ends;
    ends.server_carrier->most_per_read = most;
    const auto text = pattern(most < 100 ? 300'000 : 3'000'000, 1);
    auto stream = ends.open();
    ends.spawn(write_then_end(*stream, text));
    ends.settle();
    EXPECT_EQ(ends.run(read_all(*ends.accepted[0])), text);
  }
}

asio::awaitable<void> greet_on_many(Mux& mux, Streams& streams) {
  for (int i = 0; i < 20; ++i) {
    streams.push_back(std::move(mux.open()).value());
    EXPECT_TRUE(co_await streams.back()->write(bytes_of("hello")));
  }
  streams.push_back(std::move(mux.open()).value());  // with nothing to say yet
}

TEST(Mux, WhatHappensInOneTurnLeavesInOneWrite) {
  Ends ends;
  ends.settle();
  Streams streams;
  ends.run(greet_on_many(*ends.client, streams));
  ends.settle();
  EXPECT_EQ(ends.client_carrier->writes, 1U);
  EXPECT_EQ(ends.server_carrier->writes, 1U);
  EXPECT_EQ(ends.accepted.size(), 21U);
}

TEST(Mux, AReaderThatStallsStopsItsOwnWriterAndNobodyElse) {
  Ends ends;
  auto stalled = ends.open();
  auto other = ends.open();
  const auto much = pattern(600'000, 3);
  auto& result = ends.start_write(*stalled, much);
  ends.settle();
  EXPECT_FALSE(result);
  ASSERT_EQ(ends.accepted.size(), 2U);

  const auto text = pattern(2'000'000, 4);
  ends.spawn(write_then_end(*other, text));
  EXPECT_EQ(ends.run(read_all(*ends.accepted[1])), text);
  EXPECT_FALSE(result);

  EXPECT_EQ(ends.run(read_exactly(*ends.accepted[0], much.size())), much);
  ends.settle();
  EXPECT_TRUE(result && *result);
}

TEST(Mux, AThousandStreamsAtOnce) {
  Ends ends;
  Streams streams;
  std::vector<std::string> heard(1000);
  for (unsigned i = 0; i < 1000; ++i) {
    streams.push_back(ends.open());
    ends.spawn(write_then_end(*streams.back(), pattern(3000, i)));
  }
  EXPECT_EQ(ends.client->streams(), 1000U);
  ends.settle();
  ASSERT_EQ(ends.accepted.size(), 1000U);
  for (unsigned i = 0; i < 1000; ++i) {
    ends.spawn(note_all(*ends.accepted[i], heard[i]));
    ends.spawn(write_then_end(*ends.accepted[i], "done"));
  }
  ends.settle();
  for (unsigned i = 0; i < 1000; ++i) ASSERT_EQ(heard[i], pattern(3000, i)) << i;
  EXPECT_EQ(ends.client->streams() + ends.server->streams(), 0U);
}

TEST(Mux, ClosingAnOpenStreamResetsItWhicheverSideDoes) {
  for (const bool by_client : {true, false}) {
    Ends ends;
    auto stream = ends.open();
    ends.settle();
    auto& closing = by_client ? stream : ends.accepted[0];
    auto& other = by_client ? *ends.accepted[0] : *stream;
    auto& read = ends.start_read(other);
    auto& written = ends.start_write(other, std::string(1'000'000, 'x'));
    ends.settle();
    EXPECT_FALSE(read || written);
    closing->close();
    closing->close();
    ends.settle();
    ASSERT_TRUE(read && written);
    EXPECT_EQ(read->error().kind, Kind::unavailable);
    EXPECT_EQ(read->error().message, "reset by the peer");
    EXPECT_TRUE(dynamic_cast<const MuxStream&>(other).reset_by_peer());
    EXPECT_FALSE(dynamic_cast<const MuxStream&>(*closing).reset_by_peer());
    EXPECT_EQ(written->error().message, "reset by the peer");
    EXPECT_TRUE(other.readable());
    EXPECT_EQ(ends.run(read_some(*closing)).error().kind, Kind::cancelled);
    EXPECT_EQ(ends.run(other.shutdown_write()).error().message, "reset by the peer");
    EXPECT_EQ(ends.client->streams() + ends.server->streams(), 0U);
  }
}

TEST(Mux, DestroyingAStreamClosesItAndUnreadBytesGoWithAReset) {
  Ends ends;
  auto stream = ends.open();
  ends.start_write(*stream, "unread");
  ends.settle();
  stream.reset();
  ends.settle();
  EXPECT_EQ(ends.run(read_some(*ends.accepted[0])).error().message, "reset by the peer");
}

TEST(Mux, AnAnswerThatIsCompleteIsReadThoughItsSenderHasGone) {
  Ends ends;
  auto stream = ends.open();
  ends.settle();
  ends.run(write_then_end(*ends.accepted[0], "answer"));
  ends.accepted.clear();  // the question has not ended: a reset
  ends.settle();
  EXPECT_EQ(ends.run(read_all(*stream)), "answer");
  EXPECT_EQ(ends.run(stream->write(bytes_of("more"))).error().message, "reset by the peer");
}

TEST(Mux, AStreamThatNobodyListensForIsReset) {
  Ends ends;
  ends.server->on_stream(nullptr);
  auto stream = ends.open();
  EXPECT_EQ(ends.run(read_some(*stream)).error().message, "reset by the peer");
}

TEST(Mux, ReadableTellsBytesTheEndAndFailures) {
  Ends ends;
  auto stream = ends.open();
  ends.settle();
  EXPECT_FALSE(ends.accepted[0]->readable());
  ends.run(stream->write(bytes_of("x")));
  ends.settle();
  EXPECT_TRUE(ends.accepted[0]->readable());
  ends.run(read_some(*ends.accepted[0]));
  EXPECT_FALSE(ends.accepted[0]->readable());
  ends.run(stream->shutdown_write());
  ends.settle();
  EXPECT_TRUE(ends.accepted[0]->readable());
}

/// What came over the carrier, cut into frames; the payload of data is left out.
std::vector<yamux::Header> frames_of(std::string_view bytes) {
  std::vector<yamux::Header> frames;
  const auto number = [&](std::size_t at, std::size_t size) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
    return value;
  };
  while (bytes.size() >= yamux::kHeaderBytes) {
    const yamux::Header header{static_cast<yamux::Type>(bytes[1]), static_cast<std::uint16_t>(number(2, 2)),
                               number(4, 4), number(8, 4)};
    frames.push_back(header);
    const auto payload = header.type == yamux::Type::data ? header.length : 0U;
    bytes.remove_prefix(std::min<std::size_t>(bytes.size(), yamux::kHeaderBytes + payload));
  }
  return frames;
}

/// A multiplexer, and its peer by hand.
struct Alone : Ground {
  explicit Alone(yamux::Role role, std::size_t capacity = 4 * 1024 * 1024, Mux::Options options = {}) {
    auto [near, far] = memory_streams(context.get_executor(), capacity);
    carrier = std::move(near);
    peer = std::move(far);
    options.role = role;
    mux = std::make_unique<Mux>(context.get_executor(), *carrier, options);
  }
  ~Alone() {
    mux.reset();
    settle();
  }
  void start() { asio::co_spawn(context, mux->run(), Ended(end)); }
  void receive(const std::string& bytes) {
    run_async(context, peer->write(bytes_of(bytes)));
    settle();
  }
  Error error() {
    EXPECT_TRUE(end && !*end);
    return end && !*end ? end->error() : Error{};
  }

  std::unique_ptr<MemoryStream> carrier, peer;
  std::unique_ptr<Mux> mux;
  std::optional<Result<void>> end;
};
constexpr auto kQuiet = 0ms;

TEST(Mux, StreamsThatWriteTakeTurnsOfAFrameEach) {
  Alone alone(yamux::Role::client, 4 * 1024 * 1024, {.ping_every = kQuiet});
  auto first = std::move(alone.mux->open()).value();
  auto second = std::move(alone.mux->open()).value();
  auto small = std::move(alone.mux->open()).value();
  auto& result0 = alone.start_write(*first, pattern(500'000, 1));
  auto& result1 = alone.start_write(*second, pattern(500'000, 2));
  auto& result2 = alone.start_write(*small, "quick");
  alone.settle();
  EXPECT_FALSE(result0 || result1 || result2) << "256 KiB are unsent";
  alone.start();
  alone.settle();
  EXPECT_TRUE(result2 && *result2);
  EXPECT_FALSE(result0 || result1) << "their windows are used up";

  const auto all = alone.run(read_exactly(*alone.peer, 2 * yamux::kInitialWindow + 5 + 11 * 12));
  std::vector<std::pair<yamux::StreamId, std::uint32_t>> data;
  for (const auto& header : frames_of(all))
    if (header.type == yamux::Type::data) data.emplace_back(header.stream, header.length);
  const std::uint32_t whole = yamux::kMaxDataBytes;
  const decltype(data) expected{{1, whole}, {1, whole}, {1, whole}, {1, whole}, {3, whole},
                                {5, 5},     {3, whole}, {3, whole}, {3, whole}};
  EXPECT_EQ(data, expected);
}

TEST(Mux, AProtocolErrorEndsItAndThePeerIsTold) {
  Alone alone(yamux::Role::client, 1 << 20, {.ping_every = kQuiet});
  auto stream = std::move(alone.mux->open()).value();
  alone.start();
  alone.receive(frame(yamux::Type::data, 0, 1, yamux::kInitialWindow + 1));
  EXPECT_EQ(alone.error().kind, Kind::bad_input);
  EXPECT_EQ(alone.error().message, "yamux: data beyond the window");
  EXPECT_EQ(alone.run(read_exactly(*alone.peer, 24)),
            frame(yamux::Type::window_update, yamux::kSyn, 1, 0) + frame(yamux::Type::go_away, 0, 0, 1));
  EXPECT_EQ(alone.run(read_some(*stream)).error().kind, Kind::unavailable);
  EXPECT_EQ(alone.mux->open().error().kind, Kind::unavailable);
}

TEST(Mux, APeerThatDoesNotReadCannotKeepItFromEnding) {
  Alone alone(yamux::Role::client, 100, {.ping_every = kQuiet, .farewell_timeout = 1ms});
  auto stream = std::move(alone.mux->open()).value();
  alone.start_write(*stream, std::string(1000, 'x'));
  alone.start();
  alone.receive("nonsense of 12 bytes");
  alone.context.restart();
  alone.context.run();  // the timer is all that is left
  EXPECT_THAT(alone.error().message, HasSubstr("unknown version"));
}

TEST(Mux, APingFloodOfAPeerThatNeverReadsIsCut) {
  Alone alone(yamux::Role::server, 100'000, {.ping_every = kQuiet, .farewell_timeout = 1ms});
  alone.start();
  std::string pings;
  for (int i = 0; i < 8000; ++i) pings += frame(yamux::Type::ping, yamux::kSyn, 0, 1);
  for (int i = 0; i < 4 && !alone.end; ++i) alone.receive(pings);
  alone.context.restart();
  alone.context.run();
  EXPECT_EQ(alone.error().message, "yamux: the peer demands answers and takes none");
}

TEST(Mux, APeerThatPingsALotAndReadsIsAnswered) {
  Alone alone(yamux::Role::server, 1 << 16, {.ping_every = kQuiet});
  alone.start();
  std::string pings, pongs;
  for (unsigned i = 0; i < 1000; ++i) {
    pings += frame(yamux::Type::ping, yamux::kSyn, 0, i);
    pongs += frame(yamux::Type::ping, yamux::kAck, 0, i);
  }
  for (int i = 0; i < 20; ++i) {
    alone.receive(pings);
    EXPECT_EQ(alone.run(read_exactly(*alone.peer, pongs.size())), pongs);
  }
  EXPECT_FALSE(alone.end);
}

TEST(Mux, AnEndOfTheCarrierBreaksTheStreamsThatAreOpen) {
  Ends ends;
  auto stream = ends.open();
  auto whole = ends.open();
  ends.settle();
  ends.run(write_then_end(*ends.accepted[1], "whole"));
  ends.run(ends.accepted[0]->write(bytes_of("part")));
  ends.settle();
  ends.run(ends.server_carrier->shutdown_write());
  ends.settle();
  ASSERT_TRUE(ends.client_end && !*ends.client_end);
  EXPECT_EQ(ends.client_end->error().message, "the connection ended with streams open");
  EXPECT_EQ(ends.run(read_exactly(*stream, 4)), "part");
  EXPECT_EQ(ends.run(read_some(*stream)).error().kind, Kind::unavailable);
  EXPECT_EQ(ends.run(stream->write(bytes_of("x"))).error().kind, Kind::unavailable);
  EXPECT_EQ(ends.run(read_all(*whole)), "whole");
  EXPECT_EQ(ends.run(read_some(*whole)), 0U);
}

TEST(Mux, AnEndOfTheCarrierWithNoStreamOpenIsASuccess) {
  Ends ends;
  ends.settle();
  ends.run(ends.server_carrier->shutdown_write());
  ends.settle();
  EXPECT_TRUE(ends.client_end && *ends.client_end);
  EXPECT_EQ(ends.client->open().error().kind, Kind::unavailable);
}

TEST(Mux, ABrokenCarrierEndsItWithWhatTheCarrierSaid) {
  Ends ends;
  auto stream = ends.open();
  auto& read = ends.start_read(*stream);
  ends.settle();
  ends.server_carrier->close();
  ends.settle();
  ASSERT_TRUE(ends.client_end && !*ends.client_end);
  EXPECT_EQ(ends.client_end->error().message, "connection reset");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->error().message, "connection reset");
}

TEST(Mux, AfterGoAwaysOfBothSidesItEndsWithTheLastStream) {
  Ends ends;
  auto stream = ends.open();
  ends.settle();
  ends.server->go_away();
  ends.settle();
  EXPECT_EQ(ends.client->open().error().message, "the peer takes no more streams");
  EXPECT_EQ(ends.server->open().error().kind, Kind::unavailable);
  ends.client->go_away();
  ends.settle();
  EXPECT_FALSE(ends.client_end || ends.server_end);

  ends.run(write_then_end(*stream, "last"));
  EXPECT_EQ(ends.run(read_all(*ends.accepted[0])), "last");
  EXPECT_FALSE(ends.client_end || ends.server_end);
  ends.run(write_then_end(*ends.accepted[0], "words"));
  ends.settle();
  EXPECT_TRUE(ends.client_end && *ends.client_end && ends.server_end && *ends.server_end);
  EXPECT_EQ(ends.run(read_all(*stream)), "words");
}

TEST(Mux, CloseBreaksAllOffAndEndsRun) {
  Ends ends;
  auto stream = ends.open();
  auto& read = ends.start_read(*stream);
  auto& written = ends.start_write(*stream, std::string(1'000'000, 'x'));
  ends.settle();
  ends.client->close();
  ends.client->close();
  ends.settle();
  ASSERT_TRUE(read && written && ends.client_end);
  EXPECT_EQ(read->error().kind, Kind::cancelled);
  EXPECT_EQ(written->error().kind, Kind::cancelled);
  EXPECT_EQ(ends.client_end->error().kind, Kind::cancelled);
  EXPECT_EQ(ends.run(ends.client->run()).error().kind, Kind::bug);
}

TEST(Mux, StreamsMayOutliveIt) {
  std::unique_ptr<ByteStream> stream;
  {
    Ends ends;
    stream = ends.open();
    ends.settle();
    ends.client.reset();
    EXPECT_EQ(ends.run(read_some(*stream)).error().kind, Kind::cancelled);
    EXPECT_EQ(ends.run(stream->write(bytes_of("x"))).error().kind, Kind::cancelled);
  }
  stream->close();
}

asio::awaitable<void> at_once() {
  co_await asio::post(asio::use_awaitable);
}
template <class T>
asio::awaitable<bool> is_cancelled(asio::awaitable<T> operation) {
  using namespace asio::experimental::awaitable_operators;
  const auto first = co_await (std::move(operation) || at_once());
  co_return first.index() == 1;
}

TEST(Mux, CancelledOperationsLeaveTheOtherStreamsAlone) {
  Ends ends;
  auto stream = ends.open();
  auto other = ends.open();
  ends.settle();
  const std::string much(1'000'000, 'x');
  EXPECT_TRUE(ends.run(is_cancelled(stream->write(bytes_of(much)))));
  EXPECT_TRUE(ends.run(is_cancelled(read_some(*stream))));
  stream.reset();
  const auto text = pattern(1'000'000, 9);
  ends.spawn(write_then_end(*other, text));
  EXPECT_EQ(ends.run(read_all(*ends.accepted[1])), text);
}

TEST(Mux, AStreamMayBeDestroyedWhileItsOperationsWait) {
  Ends ends;
  auto stream = ends.open();
  auto& read = ends.start_read(*stream);
  auto& written = ends.start_write(*stream, std::string(1'000'000, 'x'));
  ends.settle();
  stream.reset();
  ends.settle();
  ASSERT_TRUE(read && written);
  EXPECT_EQ(read->error().kind, Kind::cancelled);
  EXPECT_EQ(written->error().kind, Kind::cancelled);
}

TEST(Mux, TheRoundTripIsMeasuredOnceSomethingMoves) {
  Ends ends(64 * 1024, 1h);
  ends.settle();
  EXPECT_EQ(ends.client_carrier->writes, 0U) << "nothing moves, nothing is measured";
  auto stream = ends.open();
  ends.run(stream->write(bytes_of("x")));
  ends.settle();
  EXPECT_GT(ends.client->round_trip(), 0ns);
  EXPECT_GT(ends.server->round_trip(), 0ns);
}

TEST(Mux, TooManyStreamsAreRefusedAtOnce) {
  Ends ends(64 * 1024, 0ms, {.max_peer_streams = 2, .max_own_streams = 2});
  auto first = ends.open();
  auto second = ends.open();
  EXPECT_EQ(ends.client->open().error().message, "too many streams");
  first.reset();
  EXPECT_TRUE(ends.client->open());
}

TEST(Mux, MisuseIsABug) {
  Ends ends;
  auto stream = ends.open();
  ends.start_write(*stream, std::string(1'000'000, 'x'));
  ends.settle();
  EXPECT_EQ(ends.run(stream->shutdown_write()).error().kind, Kind::bug);
  auto other = ends.open();
  ends.run(other->shutdown_write());
  EXPECT_TRUE(ends.run(other->shutdown_write())) << "once or twice, it has ended";
  EXPECT_EQ(ends.run(other->write(bytes_of("x"))).error().kind, Kind::bug);
}

}  // namespace
}  // namespace links
