#include "tunnelctl/daemon/overview.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunnelctl/daemon/daemon_pages.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnelctl::daemon;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

Overview from_pages(const char* diagnostics, Readiness ready = {.ready = true},
                    Health health = {.status = "healthy", .version = "1.2.3", .uptime_seconds = 5}) {
  return overview_of(ready, health, Exposition::parse(support::kMetrics),
                     diagnostics == nullptr ? Json() : Json::parse(diagnostics));
}

TEST(Overview, TellsAllThatADaemonSaysToAToken) {
  const auto told = from_pages(support::kDiagnostics);
  EXPECT_TRUE(told.with_token);
  EXPECT_TRUE(told.serving);
  EXPECT_EQ(told.state, "serving");
  EXPECT_EQ(told.uptime_seconds, 90061);
  EXPECT_EQ(told.connections, 4U);
  EXPECT_THAT(told.connections_by_tier,
              ElementsAre(Pair("free", 3), Pair("premium", 1), Pair("enterprise", 0)));
  EXPECT_EQ(told.requests, 1000U);
  EXPECT_EQ(told.succeeded, 990U);
  EXPECT_EQ(told.p50, 5.25);
  EXPECT_EQ(told.p99, 120);
  ASSERT_TRUE(told.queue);
  EXPECT_EQ(told.queue->waiting, 3U);
  EXPECT_EQ(told.queue->bytes, 2048U);
  EXPECT_EQ(told.queue->fullest, 0.4);
  EXPECT_THAT(told.queue->by_priority, ElementsAre(Pair("high", 1), Pair("normal", 2), Pair("low", 0)));
  EXPECT_EQ(told.breakers.worst, "open");
  EXPECT_THAT(told.breakers.open, ElementsAre("0123456789abcdef"));
  EXPECT_EQ(told.ssh_channels, 7U);
  EXPECT_EQ(told.audit_healthy, true);
  EXPECT_EQ(told.last_event, 57U);
  EXPECT_EQ(told.blocked, 2U);
  EXPECT_EQ(told.users, 3U);
  EXPECT_EQ(told.bytes_in, 5000U);
  EXPECT_EQ(told.bytes_out, 70000U);
}

TEST(Overview, TellsWithoutATokenWhatTheOpenPagesSay) {
  const auto told = from_pages(nullptr);
  EXPECT_FALSE(told.with_token);
  EXPECT_EQ(told.version, "1.2.3");
  EXPECT_EQ(told.uptime_seconds, 5);
  EXPECT_EQ(told.connections, 4U);
  EXPECT_EQ(told.requests, 1000U);
  EXPECT_EQ(told.failed, 100U);
  EXPECT_NEAR(told.p50.value_or(0), 50, 1e-6);
  EXPECT_EQ(told.breakers.worst, "open");
  EXPECT_EQ(told.breakers.count, 2U);
  EXPECT_THAT(told.breakers.open, IsEmpty());
  EXPECT_EQ(told.audit_healthy, std::nullopt);
}

TEST(Overview, AnOlderDaemonLeavesThingsUnset) {
  const auto told = overview_of({.ready = true}, {.status = "healthy"}, Exposition::parse(""),
                                Json::parse(R"({"service":{"version":"0.1"},"requests":7,"queue":null})"));
  EXPECT_TRUE(told.serving);
  EXPECT_FALSE(told.queue);
  EXPECT_EQ(told.breakers.worst, "");
  EXPECT_EQ(told.p50, std::nullopt);
  EXPECT_EQ(told.requests, 0U);
}

TEST(Overview, ServesOnlyWhenReadyAndWhole) {
  struct Row {
    Readiness ready;
    const char* health;
    const char* diagnostics;
    const char* state;
    bool serving;
  };
  const Row rows[] = {
      {{.ready = true}, "healthy", R"({"service":{}})", "serving", true},
      {{.ready = true}, "degraded", R"({"service":{}})", "degraded", false},
      {{.ready = true}, "healthy", R"({"service":{},"audit":{"healthy":false}})", "degraded", false},
      // An open breaker is one user's trouble with one service, not the daemon's.
      {{.ready = true},
       "healthy",
       R"({"service":{},"circuitBreaker":{"state":"open","open":["a"]}})",
       "serving",
       true},
      {{.ready = false, .reason = "draining"}, "unhealthy", R"({"service":{}})", "draining", false},
      {{.ready = false}, "unhealthy", R"({"service":{}})", "not ready", false},
  };
  for (const auto& row : rows) {
    const auto told = from_pages(row.diagnostics, row.ready, {.status = row.health});
    EXPECT_EQ(told.state, row.state);
    EXPECT_EQ(told.serving, row.serving) << row.state;
  }
}

TEST(Rates, AreTheDifferenceOverTheTimeBetween) {
  Overview before;
  before.requests = 100;
  before.succeeded = 90;
  before.bytes_in = 1000;
  Overview after = before;
  after.requests = 120;
  after.succeeded = 105;
  after.bytes_in = 5000;
  const auto rates = rates_between(before, after, 2s);
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->requests_per_second, 10);
  EXPECT_EQ(rates->success_rate, 0.75);
  EXPECT_EQ(rates->bytes_in_per_second, 2000);
  EXPECT_EQ(rates->bytes_out_per_second, 0);
}

TEST(Rates, OfNoRequestsHaveNoSuccessRate) {
  const auto rates = rates_between({}, {}, 1s);
  ASSERT_TRUE(rates);
  EXPECT_EQ(rates->requests_per_second, 0);
  EXPECT_EQ(rates->success_rate, std::nullopt);
}

TEST(Rates, AreUnknownOverARestartOrNoTime) {
  Overview before;
  before.requests = 5;
  EXPECT_FALSE(rates_between(before, {}, 1s));
  EXPECT_FALSE(rates_between({}, before, 0s));
}

TEST(Connections, AreReadWithIdsThatAreNumbersOrTexts) {
  const auto list = connections_of(Json::parse(support::kConnections));
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0].id, "17");
  EXPECT_TRUE(list[0].tls);
  EXPECT_EQ(list[0].bytes_out, 20000U);
  EXPECT_EQ(list[1].service, "db");
  EXPECT_EQ(connections_of(Json::parse(R"({"connections":[{"id":"a-1"},7]})")).at(0).id, "a-1");
  EXPECT_THAT(connections_of(Json::parse(R"({"connections":"none"})")), IsEmpty());
  EXPECT_THAT(connections_of(Json()), IsEmpty());
}

TEST(Connections, GetRatesFromTheLastLookAndNewOnesFromTheirBeginning) {
  const std::vector<Connected> before{{.id = "1", .age_seconds = 10, .bytes_in = 100},
                                      {.id = "2", .age_seconds = 10, .bytes_in = 100}};
  std::vector<Connected> now{{.id = "1", .age_seconds = 12, .bytes_in = 300},
                             {.id = "3", .age_seconds = 4, .bytes_in = 400},
                             // Another one with the same id.
                             {.id = "2", .age_seconds = 1, .bytes_in = 50},
                             {.id = "4", .age_seconds = 0, .bytes_in = 50}};
  add_rates(now, before, 2s);
  EXPECT_EQ(now[0].bytes_in_per_second, 100);
  EXPECT_EQ(now[1].bytes_in_per_second, 100);
  EXPECT_EQ(now[2].bytes_in_per_second, 50);
  EXPECT_EQ(now[3].bytes_in_per_second, 0);
}

TEST(Users, AreReadAsTheyCome) {
  const auto list = users_of(Json::parse(support::kUsers));
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].principal, "9a8b7c6d5e4f");
  EXPECT_EQ(list[0].requests, 500U);
  EXPECT_EQ(list[0].mean_ms, 7.5);
}

}  // namespace
