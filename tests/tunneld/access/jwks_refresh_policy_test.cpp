#include "tunneld/access/jwks_refresh_policy.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace tunneld::access {
namespace {

using namespace std::chrono_literals;
using Decision = JwksRefreshPolicy::Decision;
const JwksRefreshPolicy::TimePoint kStart{100h};

TEST(JwksRefreshPolicy, FetchesAtOnceThenOnceAnHour) {
  JwksRefreshPolicy policy;
  EXPECT_LE(policy.next_due(), kStart);
  EXPECT_EQ(policy.due(kStart), Decision::fetch);
  policy.succeeded(kStart + 1s);
  EXPECT_EQ(policy.next_due(), kStart + 1s + 1h);
  EXPECT_EQ(policy.due(kStart + 1h), Decision::not_now);
  EXPECT_FALSE(policy.stale(kStart + 1h));
  EXPECT_TRUE(policy.stale(kStart + 1h + 1s));
  EXPECT_EQ(policy.due(kStart + 1h + 1s), Decision::fetch);
}

TEST(JwksRefreshPolicy, LetsOneFetchServeAll) {
  JwksRefreshPolicy policy;
  EXPECT_EQ(policy.due(kStart), Decision::fetch);
  EXPECT_EQ(policy.due(kStart), Decision::waiting);
  EXPECT_EQ(policy.on_unknown_kid(kStart), Decision::waiting);
  EXPECT_EQ(policy.next_due(), std::nullopt);
  policy.succeeded(kStart + 1s);
  EXPECT_EQ(policy.on_unknown_kid(kStart + 1s), Decision::fetch);
}

TEST(JwksRefreshPolicy, FetchesForUnknownKidsAtMostFiveTimesInAnyMinute) {
  JwksRefreshPolicy policy;
  int fetches = 0;
  // 10,000 made-up kids a second for three minutes.
  for (auto at = 0ms; at < 3min; at += 1ms)
    for (int i = 0; i < 10; ++i)
      if (policy.on_unknown_kid(kStart + at) == Decision::fetch) {
        ++fetches;
        policy.succeeded(kStart + at);
      }
  EXPECT_EQ(fetches, 15);
}

TEST(JwksRefreshPolicy, CountsScheduledFetchesAgainstTheSameRate) {
  JwksRefreshPolicy policy({.cached = 1s, .usable = 24h, .first_retry = 15s, .max_retry = 300s});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(policy.due(kStart + i * 2s), Decision::fetch);
    policy.succeeded(kStart + i * 2s);
  }
  EXPECT_EQ(policy.on_unknown_kid(kStart + 30s), Decision::not_now);
  EXPECT_EQ(policy.due(kStart + 59s), Decision::not_now);
  EXPECT_EQ(policy.next_due(), kStart + 60s) << "a timer set to it does not spin";
  EXPECT_EQ(policy.due(kStart + 60s), Decision::fetch);
}

TEST(JwksRefreshPolicy, RetriesFailuresWithGrowingPauses) {
  JwksRefreshPolicy policy;
  auto now = kStart;
  for (const auto pause : {15s, 30s, 60s, 120s, 240s, 300s, 300s}) {
    ASSERT_EQ(policy.due(now), Decision::fetch);
    policy.failed(now);
    EXPECT_EQ(policy.next_due(), now + pause);
    EXPECT_EQ(policy.due(now + pause - 1ms), Decision::not_now);
    EXPECT_EQ(policy.on_unknown_kid(now + pause - 1ms), Decision::not_now);
    now += pause;
  }
  ASSERT_EQ(policy.due(now), Decision::fetch);
  policy.succeeded(now);
  ASSERT_EQ(policy.due(now + 1h), Decision::fetch);
  policy.failed(now + 1h);
  EXPECT_EQ(policy.next_due(), now + 1h + 15s) << "a success begins the row anew";
}

TEST(JwksRefreshPolicy, BelievesStaleKeysForADay) {
  JwksRefreshPolicy policy;
  EXPECT_FALSE(policy.usable(kStart));
  EXPECT_FALSE(policy.stale(kStart));
  ASSERT_EQ(policy.due(kStart), Decision::fetch);
  EXPECT_FALSE(policy.usable(kStart));
  policy.succeeded(kStart);
  ASSERT_EQ(policy.due(kStart + 1h), Decision::fetch);
  policy.failed(kStart + 1h);
  EXPECT_TRUE(policy.usable(kStart + 24h - 1s));
  EXPECT_TRUE(policy.stale(kStart + 24h - 1s));
  EXPECT_FALSE(policy.usable(kStart + 24h));
}

TEST(JwksRefreshPolicy, ChoosesOneAskerAmongManyThreads) {
  JwksRefreshPolicy policy;
  std::atomic<int> fetches{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i)
        if (policy.on_unknown_kid(kStart) == Decision::fetch) ++fetches;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(fetches, 1);
}

}  // namespace
}  // namespace tunneld::access
