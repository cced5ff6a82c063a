#include "tunnelctl/client/tunnel.h"

#include <fstream>
#include <iostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/experimental/awaitable_operators.hpp>

#include "tests/support/run_async.h"
#include "tests/tunnelctl/client/fake_tunneld.h"
#include "tests/tunnelctl/client/temporary_folder.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;
using testing::ElementsAre;
using testing::HasSubstr;

struct Recorder final : TunnelListener {
  void on_state(const StateChange& change) override {
    states.push_back(change);
    names.emplace_back(std::string(to_string(change.state)) + (change.resumed ? " resumed" : ""));
  }
  void on_attempt(const Attempt& attempt) override { attempts.push_back(attempt); }
  void on_notice(std::string_view line) override { notices.emplace_back(line); }

  std::vector<StateChange> states;
  std::vector<std::string> names;
  std::vector<Attempt> attempts;
  std::vector<std::string> notices;
};

class TunnelTest : public testing::Test {
 protected:
  static TunnelOptions quick() {
    TunnelOptions options;
    options.backoff.base = options.backoff.cap = 1ms;
    options.backoff.first_spread = 0ms;
    options.token_poll = 1ms;
    return options;
  }
  static ServerSettings server() {
    ServerSettings settings;
    settings.url = "wss://tunnel.example.org";
    settings.token = Secret(std::string("token-1"));
    return settings;
  }

  void start(TunnelOptions options = quick(), ServerSettings settings = server()) {
    tunnel = std::make_unique<Tunnel>(io, std::move(settings), std::move(options), seen, far.connect(),
                                      [] { return 0.5; });
    asio::co_spawn(io, tunnel->run(), [this](std::exception_ptr error, Result<void> result) {
      EXPECT_FALSE(error);
      ended = std::move(result);
    });
  }
  template <class Condition>
  bool until(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + 10s;
    io.restart();
    while (!condition() && std::chrono::steady_clock::now() < give_up) io.run_one_for(10ms);
    return condition();
  }
  bool until_state(State state) {
    return until([&] { return tunnel->state() == state; });
  }
  std::unique_ptr<ServiceStream> open(std::string service) {
    auto stream = support::run_async(io, tunnel->open(std::move(service), tunnel::Priority::normal,
                                                      std::chrono::steady_clock::now() + 5s));
    EXPECT_TRUE(stream) << stream.error().message;
    return stream ? std::move(*stream) : nullptr;
  }
  void TearDown() override {
    if (HasFailure())
      for (const auto& attempt : seen.attempts) std::cerr << to_line(attempt) << '\n';
    if (tunnel && !ended) {
      support::run_async(io, tunnel->close(std::chrono::steady_clock::now() + 1s));
      EXPECT_TRUE(until([&] { return ended.has_value(); }));
    }
    far.stop();
    io.restart();
    io.run_for(20ms);
  }

  asio::io_context io{1};
  Recorder seen;
  FakeTunneld far{io};
  std::unique_ptr<Tunnel> tunnel;
  std::optional<Result<void>> ended;
};

asio::awaitable<void> send(tunnel::ByteStream& stream, const std::string& bytes) {
  (void)co_await stream.write(support::bytes_of(bytes));
  (void)co_await stream.shutdown_write();
}

asio::awaitable<std::string> send_and_hear(tunnel::ByteStream& stream, std::string bytes) {
  co_return co_await (support::read_all(stream) && send(stream, bytes));
}

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

TEST_F(TunnelTest, AStreamCarriesBytesBothWaysBehindItsOpeningLines) {
  start();
  const auto stream = open("echo");
  ASSERT_TRUE(stream);
  EXPECT_EQ(tunnel->streams(), 1U);
  EXPECT_EQ(support::run_async(io, send_and_hear(*stream, "hello")), "hello");
  EXPECT_TRUE(stream->granted());
  EXPECT_THAT(seen.names, ElementsAre("connecting", "connected"));
  EXPECT_EQ(seen.states.back().session_id.size(), 32U);
  ASSERT_EQ(seen.attempts.size(), 1U);
  EXPECT_EQ(seen.attempts[0].endpoint, "wss://tunnel.example.org/ws at 192.0.2.1:443");
  EXPECT_EQ(seen.attempts[0].outcome, "connected");
  EXPECT_THAT(far.tokens, ElementsAre("token-1"));
}

TEST_F(TunnelTest, AStreamLosesNothingWhenTheCarrierBreaksAgainAndAgain) {
  start();
  const auto stream = open("echo");
  ASSERT_TRUE(stream);
  const auto bytes = pattern(4 * 1024 * 1024);
  std::optional<std::string> back;
  asio::co_spawn(io, send_and_hear(*stream, bytes),
                 [&](std::exception_ptr, std::string got) { back = std::move(got); });
  for (std::size_t cuts = 1; cuts <= 5; ++cuts) {
    io.restart();
    io.run_for(2ms);
    ASSERT_TRUE(until_state(State::connected));
    far.cut();
    ASSERT_TRUE(until([&] { return far.resumed == cuts; }));
  }
  ASSERT_TRUE(until([&] { return back.has_value(); }));
  EXPECT_TRUE(*back == bytes) << back->size();
  ASSERT_TRUE(until_state(State::connected));
  EXPECT_EQ(far.links(), 1U);
  EXPECT_THAT(seen.names, testing::Contains("connected resumed").Times(5));
}

TEST_F(TunnelTest, WhatTheServerDoesNotResumeBreaksVisiblyAndANewLinkTakesItsPlace) {
  start();
  const auto stream = open("echo");
  ASSERT_TRUE(stream);
  far.forget();
  far.cut();
  std::array<std::byte, 16> buffer;
  ASSERT_TRUE(until([&] { return far.links() == 2; }));
  ASSERT_TRUE(until_state(State::connected));
  // The answer to the opening had arrived; what follows it never does.
  auto got = support::run_async(io, stream->read(buffer));
  EXPECT_FALSE(got);
  EXPECT_THAT(seen.names,
              ElementsAre("connecting", "connected", "reconnecting", "reconnecting", "connected"));
  EXPECT_THAT(seen.states[3].why, HasSubstr("no such session"));
  EXPECT_THAT(seen.states[3].why, HasSubstr("1 stream is broken"));
  const auto next = open("echo");
  ASSERT_TRUE(next);
  EXPECT_EQ(support::run_async(io, send_and_hear(*next, "again")), "again");
}

TEST_F(TunnelTest, AStreamThatTheServerRefusesSaysSoWithTheFirstRead) {
  start();
  const auto stream = open("gone");
  ASSERT_TRUE(stream);
  std::array<std::byte, 16> buffer;
  const auto got = support::run_async(io, stream->read(buffer));
  ASSERT_FALSE(got);
  ASSERT_TRUE(stream->refusal());
  EXPECT_EQ(stream->refusal()->code, tunnel::Code::service_denied);
  EXPECT_THAT(got.error().message, HasSubstr("no service gone (TUNNEL_017)"));
}

TEST_F(TunnelTest, ARefusedTokenEndsIt) {
  far.refuse(401, "TUNNEL_002");
  start();
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  ASSERT_FALSE(*ended);
  EXPECT_EQ(ended->error().kind, Error::Kind::denied);
  EXPECT_THAT(seen.names, ElementsAre("connecting", "error"));
  EXPECT_EQ(seen.attempts.size(), 1U);
}

TEST_F(TunnelTest, AnExpiredTokenIsReadAgainAndEndsItOnlyWhenItIsTheSame) {
  const TemporaryFolder folder;
  auto settings = server();
  settings.token = {};
  settings.token_file = folder.path() / "token";
  std::ofstream(settings.token_file) << "old";
  // A newer one is there by the time the server's answer comes.
  auto options = quick();
  far.refuse(401, "TUNNEL_003");
  const auto connect = far.connect();
  tunnel = std::make_unique<Tunnel>(
      io, settings, options, seen,
      [&](edge::ClientTarget target, edge::ClientRequest request, edge::ConnectReport& report) {
        std::ofstream(settings.token_file) << "new";
        return connect(std::move(target), std::move(request), report);
      },
      [] { return 0.5; });
  asio::co_spawn(io, tunnel->run(),
                 [this](std::exception_ptr, Result<void> result) { ended = std::move(result); });
  ASSERT_TRUE(until_state(State::connected));
  EXPECT_THAT(far.tokens, ElementsAre("old", "new"));
  far.refuse(401, "TUNNEL_003");
  far.cut();
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  ASSERT_FALSE(*ended);
  EXPECT_EQ(ended->error().kind, Error::Kind::denied);
}

TEST_F(TunnelTest, GivesUpAfterItsAttempts) {
  edge::ConnectFailure refused;
  refused.step = edge::ConnectStep::tcp;
  refused.cause = "refused";
  refused.message = "tunnel.example.org:443: connection refused";
  for (int i = 0; i < 5; ++i) far.refuse(refused);
  auto options = quick();
  options.backoff.max_attempts = 3;
  start(options);
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  ASSERT_FALSE(*ended);
  EXPECT_EQ(ended->error().kind, Error::Kind::timed_out);
  EXPECT_THAT(ended->error().message, HasSubstr("TUNNEL_019: gave up after 3 attempts"));
  EXPECT_THAT(ended->error().message, HasSubstr("connection refused"));
  ASSERT_EQ(seen.attempts.size(), 3U);
  EXPECT_EQ(seen.attempts[2].number, 3U);
  EXPECT_EQ(seen.attempts[2].cause, "refused");
}

TEST_F(TunnelTest, AFirstConnectionToSomethingElseIsNotTriedAgain) {
  far.refuse(200, "", "not_http");
  start();
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  ASSERT_FALSE(*ended);
  EXPECT_EQ(ended->error().kind, Error::Kind::unavailable);
  EXPECT_EQ(seen.attempts.size(), 1U);
}

TEST_F(TunnelTest, TheSameLaterIsOnlyABadMoment) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  far.refuse(302, "", "captive_portal");
  far.refuse(404, "");  // of a proxy on the way: not what tunneld says of a session it does not know
  far.cut();
  ASSERT_TRUE(until([&] { return far.resumed == 1; }));
  EXPECT_EQ(far.links(), 1U);
}

TEST_F(TunnelTest, WithoutReconnectingTheFirstLossEndsIt) {
  auto options = quick();
  options.reconnect = false;
  start(options);
  ASSERT_TRUE(until_state(State::connected));
  far.cut();
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  ASSERT_FALSE(*ended);
  EXPECT_EQ(ended->error().kind, Error::Kind::unavailable);
  EXPECT_EQ(seen.attempts.size(), 1U);
}

TEST_F(TunnelTest, ARestartOfTheServerIsAnsweredWithANewLink) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  far.end_with(1012);
  ASSERT_TRUE(until([&] { return far.links() == 2; }));
  ASSERT_TRUE(until_state(State::connected));
  EXPECT_THAT(seen.states[2].why, HasSubstr("restarts"));
  EXPECT_EQ(seen.attempts[1].cause, "restart");
}

TEST_F(TunnelTest, AServerThatIsOverloadedIsAskedAgainWhenItSaid) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  far.end_with(1013, R"({"code":"TUNNEL_006","retryAfterMs":40})");
  ASSERT_TRUE(until([&] { return far.links() == 2; }));
  ASSERT_TRUE(until_state(State::connected));
  EXPECT_THAT(seen.states[2].why, HasSubstr("TUNNEL_006"));
  ASSERT_EQ(seen.attempts.size(), 2U);
  EXPECT_EQ(seen.attempts[1].cause, "overloaded");
  EXPECT_GE(seen.attempts[1].delay, 40ms);
}

TEST_F(TunnelTest, CountsWhatItCarriesOverAllItsConnections) {
  start();
  const auto stream = open("echo");
  ASSERT_TRUE(stream);
  const std::string bytes(100'000, 'x');
  far.cut();
  ASSERT_TRUE(until([&] { return far.resumed == 1; }));
  EXPECT_EQ(support::run_async(io, send_and_hear(*stream, bytes)), bytes);
  EXPECT_GE(tunnel->traffic().bytes_in, bytes.size());
  EXPECT_GE(tunnel->traffic().bytes_out, bytes.size());
  EXPECT_LT(tunnel->traffic().bytes_out, 2 * bytes.size());
}

TEST_F(TunnelTest, AServerThatForbidsIsNotAskedAgain) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  far.end_with(4403);
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  ASSERT_FALSE(*ended);
  EXPECT_EQ(ended->error().kind, Error::Kind::denied);
  EXPECT_EQ(seen.attempts.size(), 1U);
}

TEST_F(TunnelTest, WhatTheWindowOutlastsIsReplacedByANewLink) {
  far.window = 50ms;
  auto options = quick();
  options.backoff.base = options.backoff.cap = options.backoff.quick_cap = 20ms;
  start(options);
  ASSERT_TRUE(until_state(State::connected));
  edge::ConnectFailure refused;
  refused.step = edge::ConnectStep::tcp;
  refused.cause = "refused";
  for (int i = 0; i < 8; ++i) far.refuse(refused);
  far.cut();
  ASSERT_TRUE(until([&] { return far.links() == 2; }));
  ASSERT_TRUE(until_state(State::connected));
  EXPECT_THAT(seen.names, testing::Not(testing::Contains("connected resumed")));
  EXPECT_EQ(far.resumed, 0U);
}

TEST_F(TunnelTest, MaintenanceIsTold) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  far.say(R"({"type":"maintenance","deadline":"2026-01-01T00:00:00Z","reason":"update"})");
  ASSERT_TRUE(until([&] { return !seen.notices.empty(); }));
  EXPECT_THAT(seen.notices[0], HasSubstr("2026-01-01T00:00:00Z: update"));
  EXPECT_EQ(tunnel->state(), State::connected);
}

TEST_F(TunnelTest, WhatNewerServersSayIsIgnored) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  for (const char* line : {"", "{}", "[]", "nonsense", R"({"type":1})", R"({"type":"flow","level":"stop"})"})
    far.say(line);
  const auto stream = open("echo");
  ASSERT_TRUE(stream);
  EXPECT_EQ(support::run_async(io, send_and_hear(*stream, "still here")), "still here");
}

TEST_F(TunnelTest, ATokenThatEndsIsRenewedFromItsFile) {
  const TemporaryFolder folder;
  auto settings = server();
  settings.token = {};
  settings.token_file = folder.path() / "token";
  std::ofstream(settings.token_file) << "old\n";
  start(quick(), settings);
  ASSERT_TRUE(until_state(State::connected));
  far.say(R"({"type":"auth.expiring","expiresAt":"2026-01-01T00:00:00Z"})");
  ASSERT_TRUE(until([&] { return !seen.notices.empty(); }));
  EXPECT_TRUE(far.control.empty());
  std::ofstream(settings.token_file) << "new\n";
  ASSERT_TRUE(until([&] { return !far.control.empty(); }));
  EXPECT_EQ(far.control[0], R"({"token":"new","type":"auth.refresh"})");
}

TEST_F(TunnelTest, OpeningWaitsForTheConnectionButNotForEver) {
  auto options = quick();
  options.backoff.base = options.backoff.cap = 60s;
  edge::ConnectFailure refused;
  refused.step = edge::ConnectStep::tcp;
  refused.cause = "refused";
  far.refuse(refused);
  start(options);
  const auto stream = support::run_async(
      io, tunnel->open("echo", tunnel::Priority::normal, std::chrono::steady_clock::now() + 20ms));
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code, tunnel::Code::timed_out);
}

TEST_F(TunnelTest, ClosingDeliversWhatWasWrittenAndEndsInGoodOrder) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  support::run_async(io, tunnel->close(std::chrono::steady_clock::now() + 1s));
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  ASSERT_FALSE(*ended);
  EXPECT_EQ(ended->error().kind, Error::Kind::cancelled);
  EXPECT_EQ(seen.names.back(), "disconnected");
  const auto stream = support::run_async(
      io, tunnel->open("echo", tunnel::Priority::normal, std::chrono::steady_clock::now() + 5s));
  EXPECT_FALSE(stream);
}

TEST_F(TunnelTest, ClosingWhileItIsBeingResumedEndsItToo) {
  start();
  ASSERT_TRUE(until_state(State::connected));
  far.cut();
  ASSERT_TRUE(until([&] { return far.tokens.size() == 2; }));
  ASSERT_EQ(tunnel->state(), State::reconnecting);
  support::run_async(io, tunnel->close(std::chrono::steady_clock::now() + 1s));
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
  EXPECT_EQ(seen.names.back(), "disconnected");
}

TEST_F(TunnelTest, ClosingWhileItWaitsForTheNextAttemptEndsItAtOnce) {
  auto options = quick();
  options.backoff.base = options.backoff.cap = 60s;
  edge::ConnectFailure refused;
  refused.step = edge::ConnectStep::tcp;
  refused.cause = "refused";
  far.refuse(refused);
  start(options);
  ASSERT_TRUE(until([&] { return seen.attempts.size() == 1; }));
  support::run_async(io, tunnel->close(std::chrono::steady_clock::now() + 1s));
  ASSERT_TRUE(until([&] { return ended.has_value(); }));
}

}  // namespace
}  // namespace tunnelctl::client
