#include "link/yamux.h"

#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yamux {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string frame(Type type, int flags, StreamId stream, std::uint32_t length,
                  std::string_view payload = {}) {
  const auto header = encode({type, static_cast<std::uint16_t>(flags), stream, length});
  return std::string(reinterpret_cast<const char*>(header.data()), header.size()) + std::string(payload);
}
std::string data(int flags, StreamId stream, std::string_view payload) {
  return frame(Type::data, flags, stream, static_cast<std::uint32_t>(payload.size()), payload);
}
std::string update(int flags, StreamId stream, std::uint32_t growth = 0) {
  return frame(Type::window_update, flags, stream, growth);
}
std::string ping(std::uint32_t value) {
  return frame(Type::ping, kSyn, 0, value);
}
std::string go_away(GoAway reason) {
  return frame(Type::go_away, 0, 0, static_cast<std::uint32_t>(reason));
}

/// One side: a session whose frames and events are kept as text.
struct Side : Listener, Output {
  explicit Side(Role role, const Options& options = {}) : session(role, options, *this, *this) {}

  bool on_open(StreamId stream) override {
    events.push_back("open " + std::to_string(stream));
    return accepts;
  }
  void on_data(StreamId stream, std::span<const std::byte> bytes) override {
    auto& to = received[stream];
    to.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void on_end(StreamId stream) override { events.push_back("end " + std::to_string(stream)); }
  void on_reset(StreamId stream) override { events.push_back("reset " + std::to_string(stream)); }
  void on_writable(StreamId stream) override { events.push_back("writable " + std::to_string(stream)); }
  void on_pong(std::uint32_t value) override { events.push_back("pong " + std::to_string(value)); }
  void on_go_away(GoAway reason) override {
    events.push_back("go away " + std::to_string(static_cast<std::uint32_t>(reason)));
  }
  void append(std::span<const std::byte> header, std::span<const std::byte> payload) override {
    sent.append(reinterpret_cast<const char*>(header.data()), header.size());
    sent.append(reinterpret_cast<const char*>(payload.data()), payload.size());
  }

  std::string receive(std::string_view bytes) {
    return std::string(session.receive(bytes_of(bytes), now).value_or(""));
  }
  std::string take_sent() {
    session.flush();
    return std::exchange(sent, {});
  }
  std::vector<std::string> take_events() { return std::exchange(events, {}); }
  std::size_t write(StreamId stream, std::string_view text) { return session.write(stream, bytes_of(text)); }

  bool accepts = true;
  Clock::time_point now{};
  std::vector<std::string> events;
  std::map<StreamId, std::string> received;
  std::string sent;
  Session session;
};

struct Pair {
  explicit Pair(const Options& options = {}) : client(Role::client, options), server(Role::server, options) {}
  /// Until nothing is under way.
  void exchange() {
    for (;;) {
      const auto there = client.take_sent();
      const auto back = server.take_sent();
      if (there.empty() && back.empty()) return;
      ASSERT_EQ(server.receive(there), "");
      ASSERT_EQ(client.receive(back), "");
    }
  }
  Side client;
  Side server;
};

TEST(Yamux, WritesHeadersAsTheSpecificationSays) {
  EXPECT_EQ(frame(Type::window_update, kSyn | kFin, 0x01020304, 0xA0B0C0D0),
            std::string("\0\1\0\5\1\2\3\4\xA0\xB0\xC0\xD0", 12));
}

TEST(Yamux, TheOpeningRidesOnTheFirstFrameAndSoDoesItsAcknowledgement) {
  Side client(Role::client), server(Role::server);
  const auto stream = client.session.open();
  ASSERT_EQ(stream, 1U);
  EXPECT_EQ(client.sent, "");
  EXPECT_EQ(client.write(1, "hello"), 5U);
  EXPECT_EQ(client.write(1, "!"), 1U);
  const auto sent = client.take_sent();
  EXPECT_EQ(sent, data(kSyn, 1, "hello") + data(0, 1, "!"));

  EXPECT_EQ(server.receive(sent), "");
  EXPECT_THAT(server.take_events(), ElementsAre("open 1"));
  EXPECT_EQ(server.received[1], "hello!");
  server.write(1, "hi");
  EXPECT_EQ(server.take_sent(), data(kAck, 1, "hi"));
}

TEST(Yamux, AnOpeningWithoutDataTravelsAlone) {
  Side client(Role::client), server(Role::server);
  client.session.open();
  client.session.open();
  EXPECT_EQ(client.take_sent(), update(kSyn, 1) + update(kSyn, 3));
  EXPECT_EQ(client.take_sent(), "");
  server.receive(update(kSyn, 1));
  EXPECT_EQ(server.take_sent(), update(kAck, 1));
  EXPECT_EQ(server.session.open(), 2U);
  server.session.end(2);
  EXPECT_EQ(server.take_sent(), update(kSyn | kFin, 2));
}

TEST(Yamux, AStreamResetBeforeItsOpeningWasSentIsNeverHeardOf) {
  Side client(Role::client);
  const auto stream = client.session.open();
  client.session.reset(*stream);
  EXPECT_EQ(client.take_sent(), "");
  EXPECT_EQ(client.session.open(), 3U);
}

TEST(Yamux, HalfCloseIsKeptEitherWay) {
  Pair pair;
  for (auto* first : {&pair.client, &pair.server}) {
    auto* second = first == &pair.client ? &pair.server : &pair.client;
    const auto stream = *pair.client.session.open();
    pair.exchange();
    first->write(stream, "question");
    first->session.end(stream);
    EXPECT_EQ(first->write(stream, "more"), 0U);
    EXPECT_EQ(first->session.writable(stream), 0U);
    pair.exchange();
    EXPECT_EQ(second->received[stream], "question");
    EXPECT_EQ(second->take_events().back(), "end " + std::to_string(stream));

    EXPECT_EQ(second->write(stream, "answer"), 6U);
    second->session.end(stream);
    pair.exchange();
    EXPECT_EQ(first->received[stream], "answer");
    EXPECT_EQ(first->take_events().back(), "end " + std::to_string(stream));
    EXPECT_EQ(first->session.streams() + second->session.streams(), 0U);
  }
}

TEST(Yamux, AResetForgetsTheStreamOnBothSidesWhicheverSendsIt) {
  Pair pair;
  for (auto* first : {&pair.client, &pair.server}) {
    auto* second = first == &pair.client ? &pair.server : &pair.client;
    const auto stream = *pair.client.session.open();
    pair.exchange();
    second->write(stream, "under way");
    first->session.reset(stream);
    EXPECT_EQ(first->session.streams(), 0U);
    pair.exchange();
    EXPECT_EQ(first->received.count(stream), 0U);
    EXPECT_EQ(second->take_events().back(), "reset " + std::to_string(stream));
    EXPECT_EQ(second->session.streams(), 0U);
    EXPECT_EQ(second->write(stream, "late"), 0U);
  }
}

TEST(Yamux, AnExhaustedWindowStopsItsStreamOnly) {
  Pair pair;
  const auto slow = *pair.client.session.open();
  const auto quick = *pair.client.session.open();
  const std::string much(kInitialWindow + 1000, 'x');
  EXPECT_EQ(pair.client.write(slow, much), kInitialWindow);
  EXPECT_EQ(pair.client.session.writable(slow), 0U);
  EXPECT_EQ(pair.client.write(quick, "small"), 5U);
  pair.exchange();
  EXPECT_EQ(pair.server.received[slow].size(), kInitialWindow);
  EXPECT_EQ(pair.server.received[quick], "small");

  pair.server.session.consumed(slow, kInitialWindow / 2 - 1, {});
  pair.exchange();
  EXPECT_EQ(pair.client.session.writable(slow), 0U) << "updates are sent for half a window";
  EXPECT_THAT(pair.client.take_events(), IsEmpty());
  pair.server.session.consumed(slow, 1, {});
  pair.exchange();
  EXPECT_THAT(pair.client.take_events(), ElementsAre("writable 1"));
  EXPECT_EQ(pair.client.write(slow, much), kInitialWindow / 2);
}

TEST(Yamux, DataGoesOutInFramesOfAtMost64KiB) {
  Side client(Role::client);
  const auto stream = *client.session.open();
  const std::string text(2 * kMaxDataBytes + 1, 'x');
  EXPECT_EQ(client.write(stream, text), text.size());
  EXPECT_EQ(client.take_sent(), data(kSyn, 1, text.substr(0, kMaxDataBytes)) +
                                    data(0, 1, text.substr(0, kMaxDataBytes)) + data(0, 1, "x"));
}

struct Consumer {
  /// The peer sends a window, which is used up in `time`.
  static void window_in(Side& side, StreamId stream, Clock::duration time) {
    const auto window = side.session.window(stream);
    for (std::uint32_t left = window; left > 0;) {
      const auto size = std::min<std::uint32_t>(left, kMaxDataBytes);
      ASSERT_EQ(side.receive(data(0, stream, std::string(size, 'x'))), "");
      left -= size;
      if (left == 0) side.now += time;
      side.session.consumed(stream, size, side.now);
    }
  }
};

TEST(Yamux, AWindowUsedUpWithinTwoRoundTripsDoubles) {
  Side server(Role::server, {.max_window = 1024 * 1024});
  server.session.set_round_trip(10ms);
  server.receive(update(kSyn, 1));
  struct Step {
    Clock::duration time;
    std::uint32_t window;
  };
  const Step steps[] = {{21ms, kInitialWindow},
                        {20ms, 2 * kInitialWindow},
                        {100ms, 2 * kInitialWindow},
                        {5ms, 4 * kInitialWindow},
                        {5ms, 4 * kInitialWindow}};  // its bound
  for (const auto& step : steps) {
    Consumer::window_in(server, 1, step.time);
    EXPECT_EQ(server.session.window(1), step.window);
  }
  EXPECT_EQ(server.session.grown(), 3 * kInitialWindow);
  server.receive(update(kRst, 1));
  EXPECT_EQ(server.session.grown(), 0U);
}

TEST(Yamux, TheTimeBeforeAWindowsFirstByteDoesNotCount) {
  Side server(Role::server);
  server.session.set_round_trip(10ms);
  server.receive(update(kSyn, 1));
  Consumer::window_in(server, 1, 1h);
  server.now += 1h;
  Consumer::window_in(server, 1, 1ms);
  EXPECT_EQ(server.session.window(1), 2 * kInitialWindow);
}

TEST(Yamux, AllWindowsTogetherGrowWithinTheBudget) {
  Side server(Role::server, {.window_budget = 2 * kInitialWindow});
  server.session.set_round_trip(10ms);
  server.receive(update(kSyn, 1) + update(kSyn, 3));
  Consumer::window_in(server, 1, 1ms);
  Consumer::window_in(server, 3, 1ms);
  EXPECT_EQ(server.session.window(1), 2 * kInitialWindow);
  EXPECT_EQ(server.session.window(3), kInitialWindow);
  server.session.reset(1);
  Consumer::window_in(server, 3, 1ms);
  EXPECT_EQ(server.session.window(3), 2 * kInitialWindow);
}

TEST(Yamux, StreamsThatStallWithLargeWindowsLeaveSomethingToTheNext) {
  constexpr std::size_t kBudget = 64 * kInitialWindow;
  Side server(Role::server, {.max_window = 1024 * kInitialWindow, .window_budget = kBudget});
  server.session.set_round_trip(10ms);
  for (StreamId stream = 1; stream <= 9; stream += 2) {
    server.receive(update(kSyn, stream));
    for (int i = 0; i < 10; ++i) Consumer::window_in(server, stream, 1ms);
    EXPECT_GE(server.session.window(stream), 2 * kInitialWindow) << stream;
    EXPECT_LT(server.session.grown(), kBudget);
  }
  EXPECT_EQ(server.session.window(1), 32 * kInitialWindow);
  EXPECT_EQ(server.session.window(3), 16 * kInitialWindow);
}

TEST(Yamux, AWindowThatLastsForLongShrinksToWhatItBeganWith) {
  Side server(Role::server);
  server.session.set_round_trip(10ms);
  server.receive(update(kSyn, 1));
  for (int i = 0; i < 4; ++i) Consumer::window_in(server, 1, 1ms);
  EXPECT_EQ(server.session.window(1), 16 * kInitialWindow);
  for (int i = 0; i < 200; ++i) {
    // As far as the peer may send.
    const std::uint32_t size = kInitialWindow / 4;
    ASSERT_EQ(server.receive(data(0, 1, std::string(size, 'x'))), "");
    server.now += 1s;
    server.session.consumed(1, size, server.now);
  }
  EXPECT_EQ(server.session.window(1), kInitialWindow);
  EXPECT_EQ(server.session.grown(), 0U);
}

TEST(Yamux, ALargeWindowIsReturnedInSmallerParts) {
  Side server(Role::server);
  server.session.set_round_trip(10ms);
  server.receive(update(kSyn, 1));
  for (int i = 0; i < 6; ++i) Consumer::window_in(server, 1, 1ms);
  const auto window = server.session.window(1);
  ASSERT_EQ(window, 64 * kInitialWindow);
  server.take_sent();
  std::uint32_t consumed = 0;
  while (server.take_sent().empty()) {
    ASSERT_EQ(server.receive(data(0, 1, std::string(kMaxDataBytes, 'x'))), "");
    server.now += 1ms;
    server.session.consumed(1, kMaxDataBytes, server.now);
    consumed += kMaxDataBytes;
  }
  EXPECT_LE(consumed, window / 8 + kMaxDataBytes);
}

TEST(Yamux, NoWindowGrowsWhoseReaderStallsOrWhoseRoundTripIsNotKnown) {
  Side server(Role::server);
  server.receive(update(kSyn, 1) + update(kSyn, 3));
  Consumer::window_in(server, 1, 0ms);
  EXPECT_EQ(server.session.window(1), kInitialWindow);
  server.session.set_round_trip(10ms);
  server.take_sent();
  EXPECT_EQ(server.receive(data(0, 3, std::string(kInitialWindow, 'x'))), "");
  EXPECT_EQ(server.session.window(3), kInitialWindow);
  EXPECT_EQ(server.take_sent(), "");
}

TEST(Yamux, TheGrownWindowIsToldToThePeer) {
  Pair pair;
  pair.server.session.set_round_trip(10ms);
  const auto stream = *pair.client.session.open();
  pair.client.write(stream, std::string(kInitialWindow, 'x'));
  pair.exchange();
  pair.server.session.consumed(stream, kInitialWindow, pair.server.now + 1ms);
  pair.exchange();
  EXPECT_EQ(pair.client.session.writable(stream), 2 * kInitialWindow);
}

TEST(Yamux, FramesMayBeCutAnywhere) {
  const auto all = data(kSyn, 1, "first") + update(kSyn, 3, 100) + ping(7) + data(kFin, 1, "last") +
                   update(kRst, 3) + frame(Type::ping, kAck, 0, 9) + go_away(GoAway::normal);
  Side whole(Role::server);
  EXPECT_EQ(whole.receive(all), "");
  EXPECT_THAT(whole.events, ElementsAre("open 1", "open 3", "end 1", "reset 3", "pong 9", "go away 0"));
  for (std::size_t cut = 1; cut < all.size(); ++cut) {
    Side server(Role::server);
    EXPECT_EQ(server.receive(all.substr(0, cut)), "");
    EXPECT_EQ(server.receive(all.substr(cut)), "");
    EXPECT_EQ(server.events, whole.events) << cut;
    EXPECT_EQ(server.received, whole.received) << cut;
    EXPECT_EQ(server.take_sent(), frame(Type::ping, kAck, 0, 7) + update(kAck, 1)) << cut;
  }
  Side dribbled(Role::server);
  for (const auto byte : all) EXPECT_EQ(dribbled.receive(std::string(1, byte)), "");
  EXPECT_EQ(dribbled.events, whole.events);
  EXPECT_EQ(dribbled.received, whole.received);
}

TEST(Yamux, WhatIsWrongEndsTheSessionAndThePeerIsTold) {
  const std::string too_much(kInitialWindow + 1, 'x');
  const auto used = update(kSyn | kFin, 1);
  struct Row {
    std::string bytes;
    std::string_view fault;
  };
  const Row rows[] = {
      {std::string("\1\0\0\1\0\0\0\1\0\0\0\0", 12), "unknown version"},
      {std::string("\0\4\0\1\0\0\0\1\0\0\0\0", 12), "unknown type of frame"},
      {update(kSyn, 0), "a frame of a stream without a stream"},
      {data(0, 0, "x"), "a frame of a stream without a stream"},
      {update(kSyn, 2), "a stream opened with an id of the other side"},
      {update(kSyn, 5) + update(kSyn, 5), "a stream opened with a used id"},
      {update(kSyn, 5) + update(kRst, 5) + update(kSyn, 5), "a stream opened with a used id"},
      {data(0, 1, "x"), "a frame of a stream that was never opened"},
      {update(kSyn, 5) + data(0, 3, "x"), "a frame of a stream that was never opened"},
      {data(0, 2, "x"), "a frame of a stream that was never opened"},
      {data(kSyn, 1, too_much), "data beyond the window"},
      {data(kSyn, 1, too_much.substr(1)) + data(0, 1, "x"), "data beyond the window"},
      {used + data(0, 1, "x"), "data behind the end of a stream"},
      {used + update(kFin, 1), "a stream ended twice"},
      {update(kSyn, 1, 0xFFFFFFFF), "a window too large"},
      {update(kSyn, 1, 0xFFFFFFFF - kInitialWindow) + update(0, 1, 1), "a window too large"},
      {update(kSyn, 1) + update(kRst, 1) + frame(Type::data, 0, 1, 0x7FFFFFFF), "data beyond any window"},
      {frame(Type::ping, kSyn, 1, 0), "a ping of a stream"},
      {frame(Type::go_away, 0, 1, 0), "a go-away of a stream"},
      {frame(Type::go_away, 0, 0, 3), "a go-away of unknown reason"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.fault);
    Side server(Role::server);
    EXPECT_EQ(server.receive(row.bytes + ping(1)), row.fault);
    EXPECT_EQ(server.receive(ping(2)), row.fault);
    const auto told = go_away(GoAway::protocol_error);
    ASSERT_GE(server.sent.size(), told.size());
    EXPECT_EQ(server.sent.substr(server.sent.size() - told.size()), told);
    EXPECT_EQ(server.session.open(), std::nullopt);
  }
}

TEST(Yamux, APeerMayOpenItsStreamsSlightlyOutOfOrder) {
  Side server(Role::server);
  for (const StreamId id : {9U, 3U, 1U, 7U, 5U, 0xFFFFFFFFU, 11U, 0xFFFFFFFDU, 1001U})
    EXPECT_EQ(server.receive(update(kSyn, id)), "") << id;
  EXPECT_EQ(server.session.streams(), 9U);
  EXPECT_EQ(server.receive(update(kSyn, 7)), "a stream opened with a used id");
}

TEST(Yamux, LateFramesOfAStreamThatWasResetAreThrownAway) {
  Side server(Role::server);
  server.receive(update(kSyn, 1) + update(kSyn, 3));
  server.session.reset(1);
  EXPECT_EQ(server.take_sent(), update(kRst, 1) + update(kAck, 3));
  EXPECT_EQ(server.receive(data(0, 1, "late") + update(0, 1, 10) + data(kFin, 1, "") + data(0, 3, "x")), "");
  EXPECT_EQ(server.received.count(1), 0U);
  EXPECT_EQ(server.received[3], "x");
  EXPECT_EQ(server.take_sent(), "");
}

TEST(Yamux, DataOfAStreamThatIsGoneForThePeerAloneIsAnsweredWithOneReset) {
  Side server(Role::server);
  server.receive(update(kSyn, 1) + update(kRst, 1));
  server.take_sent();
  EXPECT_EQ(server.receive(data(0, 1, "late") + data(0, 1, "later") + update(0, 1, 3)), "");
  EXPECT_EQ(server.take_sent(), update(kRst, 1));
}

TEST(Yamux, AStreamResetWithinItsDataIsNotToldTheRest) {
  struct Resetting : Side {
    using Side::Side;
    void on_data(StreamId stream, std::span<const std::byte> bytes) override {
      Side::on_data(stream, bytes);
      session.reset(stream);
    }
  };
  Resetting server(Role::server);
  const auto all = data(kSyn | kFin, 1, "ab");
  EXPECT_EQ(server.receive(all.substr(0, all.size() - 1)), "");
  EXPECT_EQ(server.receive(all.substr(all.size() - 1)), "");
  EXPECT_EQ(server.received[1], "a");
  EXPECT_THAT(server.events, ElementsAre("open 1"));
}

TEST(Yamux, StreamsBeyondTheLimitAreResetUntilOneEnds) {
  Side server(Role::server, {.max_peer_streams = 2});
  server.receive(update(kSyn, 1) + update(kSyn, 3) + data(kSyn, 5, "dropped"));
  EXPECT_EQ(server.take_sent(), update(kRst, 5) + update(kAck, 1) + update(kAck, 3));
  EXPECT_THAT(server.take_events(), ElementsAre("open 1", "open 3"));
  server.session.reset(3);
  EXPECT_EQ(server.receive(update(kSyn, 7)), "");
  EXPECT_THAT(server.take_events(), ElementsAre("open 7"));
}

TEST(Yamux, OurOwnStreamsAreLimitedToo) {
  Side client(Role::client, {.max_own_streams = 2});
  EXPECT_TRUE(client.session.open());
  EXPECT_TRUE(client.session.open());
  EXPECT_FALSE(client.session.open());
  client.session.reset(1);
  EXPECT_TRUE(client.session.open());
}

TEST(Yamux, AStreamThatTheOwnerRefusesIsReset) {
  Side server(Role::server);
  server.accepts = false;
  EXPECT_EQ(server.receive(data(kSyn, 1, "hello")), "");
  EXPECT_EQ(server.take_sent(), update(kRst, 1));
  EXPECT_TRUE(server.received.empty());
}

TEST(Yamux, AThousandStreamsKeepTheirBytesApart) {
  Pair pair;
  std::vector<StreamId> ids;
  for (int i = 0; i < 1000; ++i) ids.push_back(*pair.client.session.open());
  for (int round = 0; round < 3; ++round)
    for (const auto id : ids) pair.client.write(id, std::to_string(id) + ",");
  for (const auto id : ids) pair.client.session.end(id);
  pair.exchange();
  for (const auto id : ids) {
    const auto one = std::to_string(id) + ",";
    ASSERT_EQ(pair.server.received[id], one + one + one);
    pair.server.session.end(id);
  }
  pair.exchange();
  EXPECT_EQ(pair.client.session.streams() + pair.server.session.streams(), 0U);
}

TEST(Yamux, APingIsAnsweredAndTheAnswerTold) {
  Pair pair;
  pair.client.session.ping(0xDEADBEEF);
  pair.exchange();
  EXPECT_THAT(pair.client.events, ElementsAre("pong 3735928559"));
}

TEST(Yamux, APeerThatPingsAndNeverReadsIsCut) {
  Side server(Role::server, {.max_pending_controls = 10 * kHeaderBytes});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(server.receive(ping(1)), "");
  EXPECT_EQ(server.receive(ping(1)), "the peer demands answers and takes none");

  Side other(Role::server, {.max_pending_controls = 10 * kHeaderBytes});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(other.receive(ping(1)), "");
    other.take_sent();  // it reads
  }
}

TEST(Yamux, NothingElseThatThePeerCanDemandGrowsWithoutBoundEither) {
  struct Row {
    std::string_view what;
    std::function<std::string(StreamId)> bytes;
  };
  const Row rows[] = {
      {"opens and resets", [](StreamId id) { return update(kSyn, id) + update(kRst, id); }},
      {"opens beyond the limit", [](StreamId id) { return update(kSyn, id); }},
      {"data of streams that it reset itself",
       [](StreamId id) { return update(kSyn, id) + update(kRst, id) + data(0, id, "x"); }},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Side server(Role::server);
    std::string fault;
    for (StreamId id = 1; fault.empty() && id < 20'000; id += 2) fault = server.receive(row.bytes(id));
    EXPECT_EQ(fault, "the peer demands answers and takes none");
    EXPECT_LE(server.sent.size(), Options{}.max_pending_controls + 100);
  }
}

TEST(Yamux, AfterAGoAwayNewStreamsAreRefusedAndTheOthersGoOn) {
  Pair pair;
  const auto stream = *pair.client.session.open();
  pair.exchange();
  pair.server.session.go_away(GoAway::normal);
  EXPECT_EQ(pair.server.session.open(), std::nullopt);
  const auto crossing = *pair.client.session.open();
  pair.exchange();
  EXPECT_THAT(pair.client.take_events(), ElementsAre("go away 0", "reset " + std::to_string(crossing)));
  EXPECT_EQ(pair.client.session.open(), std::nullopt);
  pair.client.write(stream, "still here");
  pair.exchange();
  EXPECT_EQ(pair.server.received[stream], "still here");
  EXPECT_TRUE(pair.client.session.heard_go_away());
  EXPECT_FALSE(pair.client.session.said_go_away());
}

TEST(Yamux, APeerThatEndsTheSessionForAFaultIsNotAnswered) {
  Side client(Role::client);
  EXPECT_EQ(client.receive(go_away(GoAway::protocol_error)), "the peer ended the session: protocol error");
  EXPECT_EQ(client.sent, "");
  Side other(Role::client);
  EXPECT_EQ(other.receive(go_away(GoAway::internal_error)), "the peer ended the session: internal error");
}

/// Two engines back to back, random operations, random pieces. All that a stream carries is the same pattern,
/// of which each side knows how much it sent.
class Random {
 public:
  explicit Random(unsigned seed)
      : random_(seed), pair_({.max_peer_streams = 20, .max_own_streams = 20, .window_budget = 1024 * 1024}) {
    for (auto* side : {&pair_.client, &pair_.server}) side->session.set_round_trip(10ms);
  }

  void run() {
    for (int step = 0; step < 1000 && !testing::Test::HasFailure(); ++step) {
      act(pair_.client, pair_.server);
      act(pair_.server, pair_.client);
      deliver(pair_.client, to_server_, pair_.server);
      deliver(pair_.server, to_client_, pair_.client);
    }
    for (int i = 0; i < 200; ++i) {
      for (auto* side : {&pair_.client, &pair_.server}) finish(*side);
      deliver(pair_.client, to_server_, pair_.server, true);
      deliver(pair_.server, to_client_, pair_.client, true);
    }
    check(pair_.client, pair_.server);
    check(pair_.server, pair_.client);
  }

 private:
  struct State {
    std::size_t sent = 0;
    std::size_t used = 0;
    bool ended = false;
    bool reset = false;
  };
  static char pattern(StreamId id, std::size_t at) {
    return static_cast<char>((at * 31 + id * 7 + at / 251) & 0xFF);
  }
  std::size_t below(std::size_t bound) { return random_() % bound; }

  void act(Side& side, Side& peer) {
    side.now += std::chrono::milliseconds(below(5));
    if (below(20) == 0)
      if (const auto id = side.session.open()) state_[&side][*id] = {};
    look_at_events(side);
    for (auto& [id, state] : state_[&side]) {
      const auto choice = below(400);
      if (choice < 40 && !state.ended && !state.reset) write(side, id, state, below(200'000) >> below(16));
      if (choice == 50 && !state.ended) side.session.end(id), state.ended = true;
      if (choice == 51 && below(3) == 0)
        side.session.reset(id), state.reset = true, state_[&peer][id].reset = true;
      if (choice > 350) use(side, id, state);
    }
  }
  void write(Side& side, StreamId id, State& state, std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = pattern(id, state.sent + i);
    state.sent += side.write(id, text);
  }
  static void use(Side& side, StreamId id, State& state) {
    const auto there = side.received[id].size();
    side.session.consumed(id, there - state.used, side.now);
    state.used = there;
  }
  /// A reset may be known to the other side before the opening was.
  void look_at_events(Side& side) {
    for (const auto& event : side.take_events()) {
      const auto space = event.rfind(' ');
      const auto id = static_cast<StreamId>(std::stoul(event.substr(space + 1)));
      if (event.starts_with("open ")) state_[&side].try_emplace(id);
      if (event.starts_with("reset ")) state_[&side][id].reset = true;
    }
  }
  void finish(Side& side) {
    look_at_events(side);
    for (auto& [id, state] : state_[&side]) {
      use(side, id, state);
      side.session.end(id);
    }
  }
  void deliver(Side& from, std::string& wire, Side& to, bool all = false) {
    if (all || below(3) == 0) wire += from.take_sent();
    auto left = all ? wire.size() : below(wire.size() + 1);
    std::size_t at = 0;
    while (left > 0) {
      const auto size = std::min(left, 1 + (below(100'000) >> below(17)));
      ASSERT_EQ(to.receive(std::string_view(wire).substr(at, size)), "");
      at += size;
      left -= size;
    }
    wire.erase(0, at);
  }
  void check(Side& side, Side& peer) {
    EXPECT_EQ(side.session.streams(), 0U);
    EXPECT_EQ(side.session.grown(), 0U);
    for (const auto& [id, state] : state_[&side]) {
      const auto& got = peer.received[id];
      ASSERT_LE(got.size(), state.sent);
      if (!state.reset) {
        ASSERT_EQ(got.size(), state.sent) << id;
      }
      for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], pattern(id, i)) << id << " at " << i;
      moved_ += got.size();
    }
    EXPECT_GT(moved_, 500'000U);
  }

  std::mt19937 random_;
  Pair pair_;
  std::map<const Side*, std::map<StreamId, State>> state_;
  std::string to_server_, to_client_;
  std::size_t moved_ = 0;
};

TEST(Yamux, TwoEnginesAgreeWhateverIsDoneAndHoweverItIsCut) {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random(seed).run();
  }
}

}  // namespace
}  // namespace yamux
