#include "tunneld/access/penalty_box.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace tunneld::access {
namespace {

using namespace std::chrono_literals;
using std::chrono::seconds;
using Standing = PenaltyBox::Standing;
using Time = PenaltyBox::Time;

constexpr Time kStart{1000h};

tunnel::Address address(std::string_view text) {
  return *tunnel::Address::parse(text);
}
const tunnel::Address kHostile = address("192.0.2.1");
const tunnel::Address kHonest = address("192.0.2.2");

void fail_times(PenaltyBox& box, int times, Time now, const tunnel::Address& who = kHostile) {
  for (int i = 0; i < times; ++i) box.failed(who, now);
}

TEST(PenaltyBox, LetsAddressesWithoutFailuresPass) {
  PenaltyBox box({});
  const auto verdict = box.check(kHonest, kStart);
  EXPECT_TRUE(verdict.allowed);
  EXPECT_EQ(verdict.standing, Standing::free);
  fail_times(box, 20, kStart);
  EXPECT_TRUE(box.check(kHonest, kStart).allowed);
  EXPECT_EQ(box.counts(kStart).entries, 1U);
}

TEST(PenaltyBox, ThrottlesAtFiveFailuresAndBlocksAtTen) {
  PenaltyBox box({});
  for (int failure = 1; failure <= 12; ++failure) {
    SCOPED_TRACE(failure);
    const auto change = box.failed(kHostile, kStart);
    const auto expected = failure == 5    ? std::optional(Standing::throttled)
                          : failure == 10 ? std::optional(Standing::blocked)
                                          : std::nullopt;
    EXPECT_EQ(change, expected);
    const auto standing = failure < 5    ? Standing::free
                          : failure < 10 ? Standing::throttled
                                         : Standing::blocked;
    EXPECT_EQ(box.check(kHostile, kStart).standing, standing);
    const auto counts = box.counts(kStart);
    EXPECT_EQ(counts.throttled, standing == Standing::throttled ? 1U : 0U);
    EXPECT_EQ(counts.blocked, standing == Standing::blocked ? 1U : 0U);
    EXPECT_EQ(counts.entries, 1U);
  }
}

TEST(PenaltyBox, LeavesAThrottledAddressTenRequestsAMinute) {
  PenaltyBox box({});
  fail_times(box, 5, kStart);
  int allowed = 0;
  for (auto at = kStart; at < kStart + 1min; at += 100ms)
    if (box.check(kHostile, at).allowed) ++allowed;
  EXPECT_GE(allowed, 10);
  EXPECT_LE(allowed, 12);  // two may come at once

  const auto refused = box.check(kHostile, kStart + 1min);
  if (!refused.allowed) {
    EXPECT_GE(refused.retry_after, 1s);
    EXPECT_LE(refused.retry_after, 6s);
    EXPECT_TRUE(box.check(kHostile, kStart + 1min + refused.retry_after).allowed);
  }
}

TEST(PenaltyBox, TellsAThrottledAddressWhenToComeBack) {
  PenaltyBox box({});
  fail_times(box, 5, kStart);
  EXPECT_TRUE(box.check(kHostile, kStart).allowed);
  EXPECT_TRUE(box.check(kHostile, kStart).allowed);
  const auto refused = box.check(kHostile, kStart);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.standing, Standing::throttled);
  EXPECT_EQ(refused.retry_after, 6s);
  EXPECT_EQ(box.check(kHostile, kStart + 5500ms).retry_after, 1s);
  EXPECT_TRUE(box.check(kHostile, kStart + 6s).allowed);
}

TEST(PenaltyBox, CountsEachFailureForItsWindow) {
  PenaltyBox box({});
  for (int i = 0; i < 5; ++i) box.failed(kHostile, kStart + i * 60s);
  EXPECT_EQ(box.check(kHostile, kStart + 299s).standing, Standing::throttled);
  EXPECT_EQ(box.check(kHostile, kStart + 300s).standing, Standing::free);  // the first has faded
  EXPECT_EQ(box.failed(kHostile, kStart + 301s), Standing::throttled);
  EXPECT_EQ(box.check(kHostile, kStart + 1h).standing, Standing::free);
  EXPECT_EQ(box.counts(kStart + 1h).throttled, 0U);
}

TEST(PenaltyBox, BlocksForAnHourFromTheFailureThatBlocked) {
  PenaltyBox box({});
  fail_times(box, 10, kStart);
  EXPECT_EQ(box.check(kHostile, kStart).retry_after, 3600s);
  // Others behind the same address go on failing: that prolongs nothing.
  for (auto at = kStart; at < kStart + 1h; at += 10s) EXPECT_EQ(box.failed(kHostile, at), std::nullopt);
  const auto last = box.check(kHostile, kStart + 1h - 1ms);
  EXPECT_FALSE(last.allowed);
  EXPECT_EQ(last.retry_after, 1s);
  EXPECT_TRUE(box.check(kHostile, kStart + 1h).allowed);
}

TEST(PenaltyBox, KeepsAnAddressThrottledForAWindowAfterItsBlock) {
  PenaltyBox box({});
  fail_times(box, 10, kStart);
  EXPECT_EQ(box.check(kHostile, kStart + 1h).standing, Standing::throttled);
  EXPECT_EQ(box.check(kHostile, kStart + 1h + 299s).standing, Standing::throttled);
  EXPECT_EQ(box.check(kHostile, kStart + 1h + 300s).standing, Standing::free);
  // One that goes on is blocked again after ten more.
  for (int i = 0; i < 9; ++i) EXPECT_EQ(box.failed(kHostile, kStart + 1h), std::nullopt);
  EXPECT_EQ(box.failed(kHostile, kStart + 1h), Standing::blocked);
}

TEST(PenaltyBox, DoesNothingWhenItIsOff) {
  PenaltyBox box({.enabled = false});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(box.failed(kHostile, kStart), std::nullopt);
  EXPECT_EQ(box.counts(kStart).entries, 0U);
  box.configure({});
  fail_times(box, 10, kStart);
  EXPECT_FALSE(box.check(kHostile, kStart).allowed);
  box.configure({.enabled = false});
  EXPECT_TRUE(box.check(kHostile, kStart).allowed);
}

TEST(PenaltyBox, FollowsNewThresholds) {
  PenaltyBox box({});
  fail_times(box, 5, kStart);
  box.configure({.throttle_after = 50, .block_after = 100});
  EXPECT_EQ(box.check(kHostile, kStart).standing, Standing::free);
  box.configure({.throttle_after = 2, .block_after = 6, .block_for = 60s});
  EXPECT_EQ(box.check(kHostile, kStart).standing, Standing::throttled);
  EXPECT_EQ(box.failed(kHostile, kStart), Standing::blocked);
  EXPECT_EQ(box.check(kHostile, kStart).retry_after, 60s);
}

TEST(PenaltyBox, RefusesAThrottledAddressAltogetherWhereNothingIsLeftToIt) {
  PenaltyBox box({.throttled_per_minute = 0});
  fail_times(box, 5, kStart);
  const auto verdict = box.check(kHostile, kStart);
  EXPECT_EQ(verdict.standing, Standing::throttled);
  EXPECT_FALSE(verdict.allowed);
  EXPECT_EQ(verdict.retry_after, 300s);
}

TEST(PenaltyBox, CountsManyFailuresWithoutRememberingEachOne) {
  PenaltyBox box({.throttle_after = 500, .block_after = 1000});
  std::optional<Standing> change;
  int failures = 0;
  while (change != Standing::blocked) {
    change = box.failed(kHostile, kStart + failures * 100ms);
    ++failures;
    ASSERT_LE(failures, 1000);
    if (failures == 500) {
      EXPECT_EQ(change, Standing::throttled);
    }
  }
  EXPECT_EQ(failures, 1000);
}

TEST(PenaltyBox, NeverBlocksWhoStaysUnderALargeThreshold) {
  PenaltyBox box({.throttle_after = 500, .block_after = 1000});
  // Three a second are 900 in a window, and 929 with the last part of it that counts as one.
  for (int i = 0; i < 20'000; ++i)
    EXPECT_NE(box.failed(kHostile, kStart + i * 1000ms / 3), Standing::blocked);
  EXPECT_EQ(box.check(kHostile, kStart + 20'000s / 3).standing, Standing::throttled);
  EXPECT_EQ(box.check(kHostile, kStart + 20'000s / 3 + 310s).standing, Standing::free);
}

TEST(PenaltyBox, RemembersFewerWhenAThresholdIsLowered) {
  PenaltyBox box({.throttle_after = 100, .block_after = 1000});
  for (int i = 0; i < 33; ++i) box.failed(kHostile, kStart + i * 9s);
  box.configure({.throttle_after = 20, .block_after = 32});
  for (int i = 0; i < 40; ++i) box.failed(kHostile, kStart + 290s);
  EXPECT_EQ(box.check(kHostile, kStart + 290s).standing, Standing::blocked);
}

TEST(PenaltyBox, PardonsAtOnce) {
  PenaltyBox box({});
  fail_times(box, 10, kStart);
  EXPECT_TRUE(box.pardon(kHostile));
  EXPECT_FALSE(box.pardon(kHostile));
  EXPECT_EQ(box.check(kHostile, kStart).standing, Standing::free);
  EXPECT_EQ(box.counts(kStart).entries, 0U);
  fail_times(box, 4, kStart);
  EXPECT_EQ(box.check(kHostile, kStart).standing, Standing::free);  // from the beginning
}

TEST(PenaltyBox, ForgetsTheLeastRecentlyFailedWhenItIsFull) {
  PenaltyBox box({.max_entries = 2});
  fail_times(box, 10, kStart, kHostile);
  fail_times(box, 5, kStart + 1s, kHonest);
  box.check(kHostile, kStart + 2s);  // asking is no failure
  box.failed(address("192.0.2.3"), kStart + 3s);
  EXPECT_EQ(box.counts(kStart + 3s).entries, 2U);
  EXPECT_EQ(box.check(kHostile, kStart + 3s).standing, Standing::free);
  EXPECT_EQ(box.check(kHonest, kStart + 3s).standing, Standing::throttled);
}

TEST(PenaltyBox, ForgetsWhatHasFadedBeforeWhatCounts) {
  PenaltyBox box({.max_entries = 2});
  fail_times(box, 10, kStart, kHostile);
  box.failed(kHonest, kStart + 1s);
  box.failed(address("192.0.2.3"), kStart + 302s);  // kHonest's only failure has faded
  EXPECT_EQ(box.check(kHostile, kStart + 302s).standing, Standing::blocked);
}

TEST(PenaltyBox, CountsExactlyUnderEightThreads) {
  PenaltyBox box({.throttle_after = 8000, .block_after = 100'000});
  std::atomic<int> throttled{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) {
          if (box.failed(kHostile, kStart) == Standing::throttled) ++throttled;
          box.check(kHostile, kStart);
        }
      });
  }
  EXPECT_EQ(throttled, 1);
  EXPECT_EQ(box.check(kHostile, kStart).standing, Standing::throttled);
}

}  // namespace
}  // namespace tunneld::access
