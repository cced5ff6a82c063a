#include "tunnelctl/client/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "tests/support/run_async.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using edge::ConnectStep;
using testing::HasSubstr;
using testing::StartsWith;
using Clock = StepRunner::Clock;
using Json = nlohmann::json;

// Steps ---------------------------------------------------------------------------------------------

asio::awaitable<StepOutcome> succeed(Clock::time_point) {
  co_return passed("seen", {{"number", 7}});
}
asio::awaitable<StepOutcome> break_down(Clock::time_point) {
  co_return failed({"refused", "nobody there", "start it"});
}
asio::awaitable<StepOutcome> not_wanted(Clock::time_point) {
  co_return skipped("nobody asked");
}
asio::awaitable<StepOutcome> never_end(Clock::time_point) {
  asio::steady_timer timer(co_await asio::this_coro::executor, Clock::time_point::max());
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  co_return passed("after all");
}

struct Ran {
  StepRunner runner;
  asio::io_context io{};
  void run(const char* name, StepRunner::Work work) {
    support::run_async(io, runner.run(name, std::move(work)));
  }
  const DiagnosisStep& last() const { return runner.steps().back(); }
};

TEST(DiagnosisSteps, BehindOneThatFailedTheOthersAreSkippedAndNameIt) {
  Ran ran{StepRunner({})};
  ran.run("dns", succeed);
  EXPECT_EQ(ran.last().result, StepResult::passed);
  EXPECT_EQ(ran.last().facts, Json({{"number", 7}}));
  ran.run("tcp", break_down);
  EXPECT_EQ(ran.last().result, StepResult::failed);
  EXPECT_EQ(ran.last().detail, "nobody there");
  bool called = false;
  ran.run("tls", [&](Clock::time_point deadline) {
    called = true;
    return succeed(deadline);
  });
  EXPECT_FALSE(called);
  EXPECT_EQ(ran.last().result, StepResult::skipped);
  EXPECT_THAT(ran.last().detail, HasSubstr("tcp"));
  ASSERT_TRUE(ran.runner.finding());
  EXPECT_EQ(ran.runner.finding()->cause, "refused");
}

TEST(DiagnosisSteps, OneThatWasSkippedStopsNothing) {
  Ran ran{StepRunner({})};
  ran.run("tls", not_wanted);
  EXPECT_EQ(ran.last().result, StepResult::skipped);
  ran.run("upgrade", succeed);
  EXPECT_EQ(ran.last().result, StepResult::passed);
  EXPECT_FALSE(ran.runner.finding());
}

TEST(DiagnosisSteps, OneWithoutAnEndIsCutOffAndHasFailed) {
  Ran ran{StepRunner({.step = 20ms, .grace = 5ms, .all = 10s})};
  ran.run("tls", never_end);
  EXPECT_EQ(ran.last().result, StepResult::failed);
  EXPECT_GE(ran.last().took, 25ms);
  EXPECT_LT(ran.last().took, 5s);
  EXPECT_EQ(ran.runner.finding()->cause, "timed_out");
  EXPECT_THAT(ran.runner.finding()->explanation, StartsWith("tls"));
}

TEST(DiagnosisSteps, AllTogetherHaveALimitToo) {
  Ran ran{StepRunner({.step = 10s, .grace = 0ms, .all = 0ms})};
  bool called = false;
  ran.run("dns", [&](Clock::time_point deadline) {
    called = true;
    return succeed(deadline);
  });
  EXPECT_FALSE(called);
  EXPECT_EQ(ran.last().result, StepResult::failed);
  EXPECT_EQ(ran.runner.finding()->cause, "timed_out");
}

TEST(DiagnosisSteps, AreToldTheirDeadline) {
  Ran ran{StepRunner({.step = 10s, .grace = 0ms, .all = 5s})};
  Clock::time_point told{};
  ran.run("dns", [&](Clock::time_point deadline) {
    told = deadline;
    return succeed(deadline);
  });
  EXPECT_LE(told, Clock::now() + 5s) << "what is left of the time for all";
  EXPECT_GT(told, Clock::now() + 1s);
}

TEST(DiagnosisSteps, TheDefaultsKeepTheDocumentedLimits) {
  const StepRunner::Limits limits;
  EXPECT_LT(limits.step + limits.grace, 10s);
  EXPECT_LT(limits.all + limits.grace + 1s, 60s) << "and a second for the goodbye";
}

// Tokens --------------------------------------------------------------------------------------------

std::string base64url(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  unsigned bits = 0, have = 0;
  for (const unsigned char c : text) {
    bits = bits << 8 | c;
    for (have += 8; have >= 6; have -= 6) out += kDigits[bits >> (have - 6) & 63];
  }
  if (have > 0) out += kDigits[bits << (6 - have) & 63];
  return out;
}

std::string jwt(const Json& claims) {
  return base64url(R"({"alg":"ES256"})") + "." + base64url(claims.dump()) + ".c2lnbmF0dXJl";
}

const std::chrono::system_clock::time_point kNow{1'800'000'000s};

TEST(TokenClaims, AreWhatTheTokenSaysOfItself) {
  const auto claims = read_claims(jwt({{"iss", "https://id/"},
                                       {"sub", "ann?>~"},
                                       {"aud", {"a", "b", 7}},
                                       {"exp", 1'800'000'000},
                                       {"nbf", 5.0}}));
  EXPECT_TRUE(claims.readable);
  EXPECT_EQ(claims.issuer, "https://id/");
  EXPECT_EQ(claims.subject, "ann?>~");
  EXPECT_THAT(claims.audience, testing::ElementsAre("a", "b"));
  EXPECT_EQ(claims.expires, kNow);
  EXPECT_EQ(claims.not_before, std::chrono::system_clock::time_point(5s));
  EXPECT_THAT(read_claims(jwt({{"aud", "one"}})).audience, testing::ElementsAre("one"));
}

TEST(TokenClaims, OfWhatIsNoTokenThereAreNone) {
  for (const std::string& text :
       {std::string(), std::string("x"), std::string(".."), std::string("a.b"), std::string("a.b.c.d"),
        std::string("a.!!!.c"), "a." + base64url("[1]") + ".c", "a." + base64url("{\"exp\":1") + ".c",
        std::string("a.\xff\xfe.c")})
    EXPECT_FALSE(read_claims(text).readable) << text;
}

TEST(TokenClaims, TimesThatAreNoneAreIgnored) {
  for (const Json& value : {Json(-1), Json(1e300), Json("soon"), Json(nullptr), Json(true)})
    EXPECT_FALSE(read_claims(jwt({{"exp", value}})).expires) << value;
}

// Causes --------------------------------------------------------------------------------------------

edge::ConnectFailure failure(ConnectStep step, std::string cause, unsigned status = 0,
                             std::string code = {}) {
  edge::ConnectFailure failed;
  failed.step = step;
  failed.cause = std::move(cause);
  failed.message = "wss://h/ws (192.0.2.1:443): what was seen";
  failed.status = status;
  failed.error_code = std::move(code);
  return failed;
}

Evidence evidence(const Json& claims = {{"iss", "tunneld"}, {"aud", "tunneld"}, {"exp", 1'800'003'600}}) {
  Evidence known;
  known.now = kNow;
  known.server_ahead = 0s;
  known.host = "tunnel.example.org";
  known.token = read_claims(jwt(claims));
  return known;
}

TEST(Blame, FallsOnTheStepAndHasANextStep) {
  const struct {
    edge::ConnectFailure failure;
    const char* step;
    const char* cause;
    const char* suggestion;
  } rows[] = {
      {failure(ConnectStep::tcp, "refused"), "tcp", "refused", "listens"},
      {failure(ConnectStep::tcp, "timed_out"), "tcp", "timed_out", "firewall"},
      {failure(ConnectStep::tcp, "unreachable"), "tcp", "unreachable", "network"},
      {failure(ConnectStep::proxy, "proxy_authentication", 407), "tcp", "proxy_authentication",
       "HTTPS_PROXY"},
      {failure(ConnectStep::proxy, "proxy_refused", 403), "tcp", "proxy_refused", "NO_PROXY"},
      {failure(ConnectStep::tls, "tls_failed"), "tls", "tls_failed", "TLS"},
      {failure(ConnectStep::tls, "certificate_untrusted"), "tls", "certificate_untrusted", "--ca-file"},
      {failure(ConnectStep::tls, "certificate_name"), "tls", "certificate_name", "name"},
      {failure(ConnectStep::tls, "certificate_time"), "tls", "certificate_time", "renewed"},
      {failure(ConnectStep::upgrade, "timed_out"), "upgrade", "timed_out", "firewall"},
      {failure(ConnectStep::upgrade, "not_http"), "upgrade", "not_http", "no tunneld"},
      {failure(ConnectStep::upgrade, "captive_portal", 302), "upgrade", "captive_portal", "sign in"},
      {failure(ConnectStep::upgrade, "upgrade_stripped", 400), "upgrade", "not_a_tunneld", "no tunneld"},
      {failure(ConnectStep::upgrade, "not_websocket", 101), "upgrade", "not_websocket", "proxy"},
      {failure(ConnectStep::upgrade, "refused_by_server", 404), "upgrade", "not_a_tunneld", "no tunneld"},
      {failure(ConnectStep::upgrade, "refused_by_server", 401), "upgrade", "not_a_tunneld", "no tunneld"},
      {failure(ConnectStep::upgrade, "refused_by_server", 502), "upgrade", "gateway", "upstream"},
      {failure(ConnectStep::upgrade, "refused_by_server", 426, "TUNNEL_010"), "upgrade", "upgrade_stripped",
       "nginx"},
      {failure(ConnectStep::upgrade, "refused_by_server", 404, "TUNNEL_010"), "upgrade", "TUNNEL_010",
       "path"},
      {failure(ConnectStep::upgrade, "refused_by_server", 503, "TUNNEL_004"), "upgrade", "TUNNEL_004",
       "explain"},
      {failure(ConnectStep::upgrade, "refused_by_server", 429, "TUNNEL_012"), "session", "TUNNEL_012",
       "explain"},
      {failure(ConnectStep::upgrade, "refused_by_server", 403, "TUNNEL_011"), "token", "forbidden", "issues"},
      {failure(ConnectStep::upgrade, "refused_by_server", 401, "TUNNEL_003"), "token", "token_expired",
       "new token"},
      {failure(ConnectStep::upgrade, "refused_by_server", 401, "TUNNEL_002"), "token", "token_refused",
       "audit"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(testing::Message() << row.failure.cause << " " << row.failure.status
                                    << row.failure.error_code);
    const auto found = blame(row.failure, evidence());
    EXPECT_EQ(found.step, row.step);
    EXPECT_EQ(found.finding.cause, row.cause);
    EXPECT_THAT(found.finding.suggestion, HasSubstr(row.suggestion));
    EXPECT_FALSE(found.finding.explanation.empty());
  }
}

TEST(Blame, AnUpgradeIsDroppedOnTheWayWhenATunneldIsThere) {
  auto known = evidence();
  known.tunneld_there = true;
  known.via = "1.1 middlebox";
  for (const auto* cause : {"upgrade_stripped", "captive_portal"}) {
    const auto found = blame(failure(ConnectStep::upgrade, cause, 200), known);
    EXPECT_EQ(found.finding.cause, "upgrade_stripped");
    EXPECT_THAT(found.finding.explanation, HasSubstr("middlebox"));
  }
  EXPECT_EQ(blame(failure(ConnectStep::upgrade, "refused_by_server", 403), known).finding.cause,
            "not_websocket");
}

TEST(Blame, APortThatSpeaksSomethingElseThanTlsIsTold) {
  auto known = evidence();
  known.first_words = "SSH-2.0-OpenSSH_9.2";
  auto found = blame(failure(ConnectStep::tls, "tls_failed"), known);
  EXPECT_EQ(found.finding.cause, "not_a_tunneld");
  EXPECT_THAT(found.finding.explanation, HasSubstr("SSH-2.0"));
  known.first_words = "HTTP/1.1 400 Bad Request";
  found = blame(failure(ConnectStep::tls, "tls_failed"), known);
  EXPECT_EQ(found.finding.cause, "no_tls");
}

TEST(Blame, ARefusedTokenIsJudgedByWhatItSays) {
  const auto refused = failure(ConnectStep::upgrade, "refused_by_server", 401, "TUNNEL_002");
  const struct {
    Json claims;
    const char* cause;
  } rows[] = {
      {{{"iss", "tunneld"}, {"aud", "elsewhere"}}, "wrong_audience"},
      {{{"iss", "tunneld"}, {"aud", {"elsewhere", "tunneld"}}}, "token_refused"},
      {{{"iss", "https://id/"}, {"aud", "https://other.example.org/x"}}, "wrong_audience"},
      {{{"iss", "https://id/"}, {"aud", "https://tunnel.example.org:443/x"}}, "token_refused"},
      {{{"iss", "https://id/"}, {"aud", "some-id"}}, "token_refused"},
      {{{"iss", "https://id/"}}, "wrong_audience"},
      {{{"iss", "x"}, {"aud", "x"}, {"exp", 1'799'999'999}}, "token_expired"},
      {{{"iss", "x"}, {"aud", "x"}, {"nbf", 1'800'000'100}}, "token_not_yet_valid"},
  };
  for (const auto& row : rows)
    EXPECT_EQ(blame(refused, evidence(row.claims)).finding.cause, row.cause) << row.claims;
  auto known = evidence();
  known.token = read_claims("garbage");
  EXPECT_EQ(blame(refused, known).finding.cause, "token_malformed");
}

TEST(Blame, AWrongClockComesFirstWhereTimeMatters) {
  auto known = evidence({{"iss", "tunneld"}, {"aud", "tunneld"}, {"exp", 1'800'003'000}});
  known.server_ahead = 3'600s;
  const edge::ConnectFailure timed[] = {
      failure(ConnectStep::tls, "certificate_time"),
      failure(ConnectStep::upgrade, "refused_by_server", 401, "TUNNEL_003"),
      failure(ConnectStep::upgrade, "refused_by_server", 401, "TUNNEL_002"),
  };
  for (const auto& each : timed) {
    const auto found = blame(each, known).finding;
    EXPECT_EQ(found.cause, "clock_skew");
    EXPECT_THAT(found.explanation, StartsWith("this machine's clock is 60 min behind the server's"));
    EXPECT_THAT(found.suggestion, HasSubstr("clock"));
  }
  EXPECT_EQ(blame(failure(ConnectStep::tls, "certificate_name"), known).finding.cause, "certificate_name");
  EXPECT_EQ(blame(failure(ConnectStep::upgrade, "captive_portal", 302), known).finding.cause,
            "captive_portal");
}

TEST(ClockNote, IsForMoreThanAMinute) {
  EXPECT_FALSE(clock_note(std::nullopt));
  EXPECT_FALSE(clock_note(60s));
  EXPECT_FALSE(clock_note(-60s));
  EXPECT_EQ(clock_note(61s), "this machine's clock is 61 s behind the server's");
  EXPECT_EQ(clock_note(-7'260s), "this machine's clock is 2 h 1 min ahead of the server's");
  EXPECT_EQ(clock_note(std::chrono::hours(24 * 40)), "this machine's clock is 40 days behind the server's");
}

TEST(Findings, OfNamesTellAWrongOneFromABrokenNetwork) {
  EXPECT_EQ(unresolved("h", {Error::Kind::not_found, "no such name"}).cause, "dns_failed");
  EXPECT_EQ(unresolved("h", {Error::Kind::timed_out, "silent"}).cause, "dns_unavailable");
  EXPECT_EQ(unresolved("h", {Error::Kind::unavailable, "again"}).cause, "dns_unavailable");
}

TEST(Findings, OfServicesSayThatTheWayToTunneldIsGood) {
  const auto found = unopened("db", {tunnel::Code::service_denied, "no such service"});
  EXPECT_EQ(found.cause, "TUNNEL_017");
  EXPECT_THAT(found.explanation, HasSubstr("the way to tunneld is good"));
  EXPECT_THAT(found.suggestion, HasSubstr("name"));
  EXPECT_THAT(unopened("db", {tunnel::Code::unreachable, "far cannot connect to x"}).explanation,
              HasSubstr("far cannot connect to x"));
}

TEST(Findings, FromTheNetworkAreHarmlessLines) {
  auto nasty = failure(ConnectStep::upgrade, "refused_by_server", 404);
  nasty.message = "it said \x1b[2J\r\nroot";
  auto known = evidence();
  const auto found = blame(nasty, known).finding;
  EXPECT_EQ(found.explanation.find('\x1b'), std::string::npos);
  EXPECT_EQ(found.explanation.find('\n'), std::string::npos);
}

// Quality -------------------------------------------------------------------------------------------

TEST(Latency, IsByNearestRankAndJitterByNeighbours) {
  std::vector<std::optional<std::chrono::steady_clock::duration>> round_trips;
  for (int i = 1; i <= 20; ++i) round_trips.emplace_back(std::chrono::milliseconds(i % 2 == 0 ? i : 40 + i));
  const auto latency = latency_of(round_trips);
  EXPECT_EQ(latency.pings, 20U);
  EXPECT_EQ(latency.missed, 0U);
  EXPECT_DOUBLE_EQ(latency.p50_ms, 20);
  EXPECT_DOUBLE_EQ(latency.p95_ms, 57);
  EXPECT_DOUBLE_EQ(latency.jitter_ms, (39.0 * 10 + 41.0 * 9) / 19);
}

TEST(Latency, CountsPingsWithoutAnAnswer) {
  const auto latency = latency_of({5ms, std::nullopt, 9ms, std::nullopt});
  EXPECT_EQ(latency.missed, 2U);
  EXPECT_DOUBLE_EQ(latency.missed_ratio(), 0.5);
  EXPECT_DOUBLE_EQ(latency.p50_ms, 5);
  EXPECT_DOUBLE_EQ(latency.p95_ms, 9);
  EXPECT_DOUBLE_EQ(latency.jitter_ms, 4);
  EXPECT_DOUBLE_EQ(latency_of({}).missed_ratio(), 0);
  EXPECT_DOUBLE_EQ(latency_of({std::nullopt}).missed_ratio(), 1);
}

TEST(Quality, NeedsBothConditionsAndItsBoundsAreOutside) {
  const struct {
    double ms, loss;
    const char* word;
  } rows[] = {{0, 0, "excellent"}, {49.9, 0.0099, "excellent"}, {50, 0, "good"},
              {10, 0.01, "good"},  {99.9, 0.029, "good"},       {100, 0, "fair"},
              {10, 0.03, "fair"},  {199.9, 0.049, "fair"},      {200, 0, "poor"},
              {10, 0.05, "poor"},  {1'000, 0.5, "poor"}};
  for (const auto& row : rows)
    EXPECT_STREQ(quality_word(row.ms, row.loss), row.word) << row.ms << " " << row.loss;
}

}  // namespace
}  // namespace tunnelctl::client
