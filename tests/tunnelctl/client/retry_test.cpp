#include "tunnelctl/client/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Kind = Error::Kind;

TEST(CloseCodes, SayWhatTheClientDoes) {
  const struct {
    std::uint16_t code;
    Then then;
    Kind kind;
  } rows[] = {
      {1000, Then::stop, Kind::unavailable},      {1001, Then::reconnect, Kind::unavailable},
      {1002, Then::back_off, Kind::unavailable},  {1003, Then::back_off, Kind::unavailable},
      {1006, Then::reconnect, Kind::unavailable}, {1007, Then::back_off, Kind::unavailable},
      {1008, Then::back_off, Kind::unavailable},  {1009, Then::back_off, Kind::unavailable},
      {1011, Then::back_off, Kind::unavailable},  {1012, Then::reconnect, Kind::unavailable},
      {1013, Then::back_off, Kind::unavailable},  {4401, Then::refresh_once, Kind::denied},
      {4403, Then::stop, Kind::denied},           {4408, Then::reconnect, Kind::unavailable},
      {4409, Then::stop, Kind::unavailable},      {4429, Then::back_off, Kind::unavailable},
      {3999, Then::back_off, Kind::unavailable},
  };
  for (const auto& row : rows) {
    const auto verdict = after_close(row.code);
    EXPECT_EQ(verdict.then, row.then) << row.code;
    EXPECT_EQ(verdict.error.kind, row.kind) << row.code;
    EXPECT_FALSE(verdict.error.message.empty()) << row.code;
    EXPECT_EQ(verdict.advice.factor, row.code == 1008 ? 2U : 1U) << row.code;
  }
}

TEST(CloseCodes, TheReasonsHintIsTaken) {
  EXPECT_EQ(after_close(1012, R"({"code":"TUNNEL_004","retryAfterMs":1500})").advice.hint, 1500ms);
  EXPECT_EQ(after_close(1013, R"({"retryAfterMs":30000})").advice.hint, 30s);
  EXPECT_THAT(after_close(1013, R"({"code":"TUNNEL_006"})").error.message, HasSubstr("TUNNEL_006"));
}

TEST(CloseCodes, OverloadWithoutAHintStillMeansLater) {
  EXPECT_EQ(after_close(1013).advice.hint, 5s);
  EXPECT_EQ(after_close(4429).advice.hint, 5s);
  EXPECT_FALSE(after_close(1011).advice.hint);
}

TEST(CloseCodes, AReasonThatIsNoneOfOursIsIgnored) {
  for (const char* reason :
       {"", "bye", "[]", "{", R"({"retryAfterMs":-5})", R"({"retryAfterMs":"5"})",
        R"({"retryAfterMs":1e300})", R"({"retryAfterMs":1,"retryAfterMs":2})", "\xff\xfe"})
    EXPECT_FALSE(after_close(1012, reason).advice.hint) << reason;
  EXPECT_EQ(after_close(1012, R"({"retryAfterMs":18446744073709551615})").advice.hint, 24h);
}

edge::ConnectFailure answered(unsigned status, std::string code = {}) {
  edge::ConnectFailure failure;
  failure.step = edge::ConnectStep::upgrade;
  failure.cause = code.empty() ? "upgrade_stripped" : "refused_by_server";
  failure.message = "wss://h answered " + std::to_string(status);
  failure.status = status;
  failure.error_code = std::move(code);
  return failure;
}

TEST(FailedAttempts, ATokenThatIsRefusedEndsItAndAnExpiredOneIsRefreshed) {
  const auto invalid = after_failure(answered(401, "TUNNEL_002"));
  EXPECT_EQ(invalid.then, Then::stop);
  EXPECT_EQ(invalid.error.kind, Kind::denied);
  EXPECT_THAT(invalid.error.message, HasSubstr("check that the token"));
  EXPECT_EQ(after_failure(answered(401, "TUNNEL_003")).then, Then::refresh_once);
  EXPECT_EQ(after_failure(answered(403, "TUNNEL_011")).then, Then::stop);
  EXPECT_EQ(after_failure(answered(403, "TUNNEL_011")).error.kind, Kind::denied);
}

TEST(FailedAttempts, AServerThatIsAwayIsTriedAgainWhenItSays) {
  auto failure = answered(503, "TUNNEL_004");
  failure.retry_after = 12s;
  const auto verdict = after_failure(failure);
  EXPECT_EQ(verdict.then, Then::back_off);
  EXPECT_EQ(verdict.advice.hint, 12s);
  EXPECT_FALSE(verdict.stops_first);
  EXPECT_EQ(after_failure(answered(429, "TUNNEL_012")).advice.hint, 5s);
}

TEST(FailedAttempts, WhatWillNotMendItselfEndsOnlyTheFirstConnection) {
  for (const char* cause : {"not_http", "captive_portal", "upgrade_stripped", "certificate_untrusted",
                            "certificate_name", "certificate_time", "tls_failed", "proxy_authentication"}) {
    edge::ConnectFailure failure;
    failure.step = edge::ConnectStep::tls;
    failure.cause = cause;
    failure.message = "h: what was seen";
    const auto verdict = after_failure(failure);
    EXPECT_TRUE(verdict.stops_first) << cause;
    EXPECT_EQ(verdict.then, Then::back_off) << cause;
    EXPECT_EQ(verdict.error.kind, Kind::unavailable) << cause;
    EXPECT_EQ(verdict.reason, cause);
  }
  for (const char* cause : {"dns_failed", "refused", "unreachable", "timed_out", "broken", "something_new"}) {
    edge::ConnectFailure failure;
    failure.cause = cause;
    EXPECT_FALSE(after_failure(failure).stops_first) << cause;
  }
}

TEST(FailedAttempts, AnAddressThatIsNoneIsBadInput) {
  edge::ConnectFailure failure;
  failure.step = edge::ConnectStep::address;
  failure.cause = "address";
  failure.message = "ws:// to elsewhere";
  EXPECT_EQ(after_failure(failure).then, Then::stop);
  EXPECT_EQ(after_failure(failure).error.kind, Kind::bad_input);
}

TEST(Attempts, AreOneHarmlessLine) {
  const auto line = to_line({.at = std::chrono::system_clock::time_point(1767225600123ms),
                             .number = 3,
                             .delay = 4100ms,
                             .endpoint = "wss://h/ws",
                             .cause = "broken",
                             .outcome = "refused: \x1b[31mno\nyes"});
  EXPECT_THAT(line, testing::StartsWith("2026-01-01T00:00:00.123Z INFO  tunnel: attempt n=3 delay_ms=4100 "
                                        "endpoint=wss://h/ws cause=broken outcome="));
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
  EXPECT_EQ(line.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace tunnelctl::client
