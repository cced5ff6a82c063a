#include "tunnelctl/client/client_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using Vitals = tunnel::WebSocketStream::Vitals;

std::chrono::system_clock::time_point at(std::chrono::seconds since) {
  return std::chrono::system_clock::time_point(1'700'000'000s + since);
}

StateChange change(State state, std::chrono::seconds when, std::string why = {}) {
  return {.at = at(when), .state = state, .why = std::move(why)};
}

TEST(ClientState, TellsSinceWhenAndHowOften) {
  ClientState state;
  state.kind = "connect";
  state.server = "wss://tunnel.example.org";
  state.note(change(State::connecting, 0s));
  state.note(Attempt{.at = at(1s), .cause = "first", .outcome = "connected"});
  auto connected = change(State::connected, 1s, "wss://tunnel.example.org");
  connected.session_id = "0123";
  state.note(connected);
  state.note(change(State::reconnecting, 5s, "the connection broke"));
  state.note(change(State::reconnecting, 9s, "the server restarts"));
  const auto lost = to_json(state);
  EXPECT_EQ(lost["state"], "reconnecting");
  EXPECT_EQ(lost["since"], timestamp(at(5s))) << "of the state, not of its newest reason";
  EXPECT_EQ(lost["why"], "the server restarts");
  EXPECT_EQ(lost["reconnects"], 0);
  EXPECT_EQ(lost["attempts"], 1);
  EXPECT_EQ(lost["sessionId"], "0123");
  state.note(change(State::connected, 10s));
  EXPECT_EQ(to_json(state)["reconnects"], 1);
  EXPECT_FALSE(to_json(state).contains("quality"));
  EXPECT_FALSE(to_json(state).contains("queueCapacity"));
}

TEST(ClientState, RemembersTheNewestHundredEvents) {
  ClientState state;
  for (int i = 0; i < 250; ++i) state.note(at(0s), "event " + std::to_string(i));
  state.note(at(0s), "two\nlines \x1b[31m" + std::string(5'000, 'x'));
  const auto events = to_json(state)["events"];
  ASSERT_EQ(events.size(), 100U);
  EXPECT_EQ(events[0]["what"], "event 151");
  const auto last = events[99]["what"].get<std::string>();
  EXPECT_LT(last.size(), 400U);
  EXPECT_EQ(last.find_first_of("\n\x1b"), std::string::npos);
}

TEST(ClientState, AnAttemptIsAnEventWithAllThatIsKnownOfIt) {
  ClientState state;
  state.note(Attempt{.at = at(0s),
                     .number = 3,
                     .delay = 4'100ms,
                     .endpoint = "wss://h/ws",
                     .cause = "broken",
                     .outcome = "refused"});
  EXPECT_EQ(state.events.back().what, "attempt 3 (broken, after 4100 ms) to wss://h/ws: refused");
}

TEST(PingHistory, KnowsNothingBeforeTheFirstAnswer) {
  PingHistory pings;
  EXPECT_FALSE(pings.quality());
  pings.look({});
  pings.look({.pings = 1, .waiting = true});
  EXPECT_FALSE(pings.quality());
}

TEST(PingHistory, JudgesByRoundTripsAndMissedPongs) {
  PingHistory pings;
  pings.look({.pings = 1, .pongs = 1, .round_trip = 10ms});
  pings.look({.pings = 1, .pongs = 1, .round_trip = 10ms});  // the same again
  pings.look({.pings = 2, .pongs = 1, .waiting = true, .round_trip = 10ms});
  pings.look({.pings = 2, .pongs = 2, .round_trip = 30ms});
  pings.look({.pings = 3, .pongs = 2, .waiting = true, .round_trip = 30ms});
  pings.look({.pings = 4, .pongs = 2, .waiting = true, .round_trip = 30ms});  // the third is given up
  pings.look({.pings = 4, .pongs = 3, .round_trip = 20ms});
  const auto quality = pings.quality();
  ASSERT_TRUE(quality);
  EXPECT_DOUBLE_EQ(quality->p50_ms, 20);
  EXPECT_DOUBLE_EQ(quality->p95_ms, 30);
  EXPECT_DOUBLE_EQ(quality->jitter_ms, 15);
  EXPECT_DOUBLE_EQ(quality->missed_pong_ratio, 0.25);
  EXPECT_STREQ(quality->band, "excellent");
}

TEST(PingHistory, GoesOnOverANewConnection) {
  PingHistory pings;
  pings.look({.pings = 5, .pongs = 4, .waiting = true, .round_trip = 120ms});
  pings.look({});  // it broke before the answer
  pings.look({.pings = 1, .pongs = 1, .round_trip = 120ms});
  const auto quality = pings.quality();
  ASSERT_TRUE(quality);
  EXPECT_NEAR(quality->missed_pong_ratio, 1.0 / 6, 1e-9);
  EXPECT_STREQ(quality->band, "fair");
  EXPECT_FALSE(quality->retransmit_ratio);
}

TEST(PingHistory, OldPingsAreForgotten) {
  PingHistory pings;
  Vitals now;
  for (int i = 0; i < 20; ++i) pings.look({.pings = ++now.pings, .pongs = ++now.pongs, .round_trip = 900ms});
  EXPECT_STREQ(pings.quality()->band, "poor");
  for (int i = 0; i < 20; ++i) pings.look({.pings = ++now.pings, .pongs = ++now.pongs, .round_trip = 60ms});
  EXPECT_STREQ(pings.quality()->band, "good");
  EXPECT_DOUBLE_EQ(pings.quality()->p95_ms, 60);
}

}  // namespace
}  // namespace tunnelctl::client
