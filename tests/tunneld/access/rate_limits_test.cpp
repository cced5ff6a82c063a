#include "tunneld/access/rate_limits.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <deque>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "common/sanitizer.h"
#include "tunneld/access/token_bucket.h"

namespace tunneld::access {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using Time = RateLimits::Time;

constexpr Time kStart{1000h};

tunnel::Address address(std::string_view text) {
  return *tunnel::Address::parse(text);
}

tunnel::Address spoofed(unsigned number) {
  return address(std::to_string(number >> 24U) + '.' + std::to_string(number >> 16U & 255U) + '.' +
                 std::to_string(number >> 8U & 255U) + '.' + std::to_string(number & 255U));
}

RateLimits::Options only_free(unsigned per_minute) {
  RateLimits::Options options;
  options.per_minute = {per_minute, 500, 5000};
  return options;
}

std::size_t resident_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) return std::stoul(line.substr(6));
  return 0;
}

TEST(TokenBucket, HoldsTenSecondsWorthAndAtLeastTen) {
  struct Row {
    unsigned per_minute, burst;
    std::chrono::nanoseconds interval;
  };
  const Row rows[] = {
      {1, 10, 60s},     {20, 10, 3s},      {60, 10, 1s},      {61, 11, 983'606'558ns},   {100, 17, 600ms},
      {500, 84, 120ms}, {1000, 167, 60ms}, {5000, 834, 12ms}, {600'000, 100'000, 100us},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.per_minute);
    const TokenBucket bucket(row.per_minute);
    EXPECT_EQ(bucket.burst(), row.burst);
    EXPECT_EQ(bucket.interval(), row.interval.count());
    EXPECT_EQ(bucket.whole_tokens(0), row.burst);
    EXPECT_EQ(bucket.whole_tokens(bucket.span()), 0U);
  }
  EXPECT_FALSE(TokenBucket(0).limits());
}

TEST(RateLimits, SpendTheBurstThenRefillAtTheRate) {
  struct Step {
    milliseconds at;
    const char* who;
    bool allowed;
    unsigned remaining;
    milliseconds until_full, retry_after;
  };
  RateLimits limits(only_free(60));  // one a second, ten at once
  for (unsigned spent = 0; spent < 8; ++spent) limits.take("ann", tunnel::Tier::free, kStart);
  const Step steps[] = {
      {0ms, "ann", true, 1, 9000ms, 0ms},       {0ms, "ann", true, 0, 10'000ms, 0ms},
      {0ms, "ann", false, 0, 10'000ms, 1000ms},  // the burst is spent
      {0ms, "ann", false, 0, 10'000ms, 1000ms},  // a refusal costs nothing
      {0ms, "bob", true, 9, 1000ms, 0ms},        // buckets are of one principal
      {999ms, "ann", false, 0, 9001ms, 1ms},    {1000ms, "ann", true, 0, 10'000ms, 0ms},
      {1500ms, "ann", false, 0, 9500ms, 500ms}, {3500ms, "ann", true, 1, 8500ms, 0ms},
      {3500ms, "ann", true, 0, 9500ms, 0ms},    {3500ms, "ann", false, 0, 9500ms, 500ms},
      {60'000ms, "ann", true, 9, 1000ms, 0ms},  // never more than the burst
  };
  for (const auto& step : steps) {
    SCOPED_TRACE(testing::Message() << step.who << " at " << step.at.count() << " ms");
    const auto decision = limits.take(step.who, tunnel::Tier::free, kStart + step.at);
    EXPECT_EQ(decision.allowed, step.allowed);
    EXPECT_EQ(decision.limit, 60U);
    EXPECT_EQ(decision.remaining, step.remaining);
    EXPECT_EQ(decision.until_full, step.until_full);
    EXPECT_EQ(decision.retry_after, step.retry_after);
  }
}

TEST(RateLimits, GiveEachTierItsBurst) {
  RateLimits limits({});
  struct Row {
    tunnel::Tier tier;
    unsigned limit, burst;
  };
  for (const auto& row : {Row{tunnel::Tier::free, 100, 17}, Row{tunnel::Tier::premium, 500, 84},
                          Row{tunnel::Tier::enterprise, 5000, 834}}) {
    SCOPED_TRACE(to_string(row.tier));
    for (unsigned i = 0; i < row.burst; ++i) {
      const auto decision = limits.take(to_string(row.tier), row.tier, kStart);
      ASSERT_TRUE(decision.allowed);
      EXPECT_EQ(decision.limit, row.limit);
      EXPECT_EQ(decision.remaining, row.burst - i - 1);
    }
    const auto refused = limits.take(to_string(row.tier), row.tier, kStart);
    EXPECT_FALSE(refused.allowed);
    EXPECT_GT(refused.retry_after, 0ms);
  }
}

TEST(RateLimits, NeverSayToRetryAtOnceWhenTheyRefuse) {
  for (const unsigned per_minute : {1U, 7U, 100U, 999U, 123'457U, 10'000'000U}) {
    RateLimits limits(only_free(per_minute));
    RateDecision decision;
    while ((decision = limits.take("ann", tunnel::Tier::free, kStart)).allowed) {
    }
    EXPECT_GT(decision.retry_after, 0ms) << per_minute;
    EXPECT_FALSE(limits.take("ann", tunnel::Tier::free, kStart + decision.retry_after - 1ms).allowed)
        << per_minute;
    EXPECT_TRUE(limits.take("ann", tunnel::Tier::free, kStart + decision.retry_after).allowed) << per_minute;
  }
}

TEST(RateLimits, OfZeroAreNone) {
  RateLimits limits(
      {.per_minute = {0, 0, 0}, .address_per_minute = 0, .handshakes_per_minute = 0, .global_per_minute = 0});
  for (int i = 0; i < 10'000; ++i) {
    for (const auto& decision :
         {limits.take("ann", tunnel::Tier::free, kStart), limits.take(address("192.0.2.1"), kStart),
          limits.take_handshake(address("192.0.2.1"), kStart), limits.take_global(kStart)}) {
      ASSERT_TRUE(decision.allowed);
      ASSERT_EQ(decision.limit, 0U);
    }
  }
  limits.give_back(address("192.0.2.1"), kStart);
  EXPECT_EQ(limits.sizes().principals, 0U);
  EXPECT_EQ(limits.sizes().addresses, 0U);
  EXPECT_EQ(limits.sizes().handshakes, 0U);
}

TEST(RateLimits, CountRequestsAndHandshakesOfAnAddressApart) {
  RateLimits limits({});
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(limits.take_handshake(address("192.0.2.1"), kStart).allowed);
  const auto refused = limits.take_handshake(address("::ffff:192.0.2.1"), kStart);  // the same address
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after, 3000ms);
  EXPECT_TRUE(limits.take(address("192.0.2.1"), kStart).allowed);
  EXPECT_TRUE(limits.take_handshake(address("192.0.2.2"), kStart).allowed);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(limits.take_handshake(address("2001:db8::1"), kStart).allowed);
  EXPECT_FALSE(limits.take_handshake(address("2001:db8::ffff:2"), kStart).allowed);  // the same /64
  EXPECT_TRUE(limits.take_handshake(address("2001:db8:0:1::1"), kStart).allowed);
}

TEST(RateLimits, GiveBackExactlyWhatWasTaken) {
  RateLimits limits({.address_per_minute = 60});
  const auto caller = address("192.0.2.1");
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(limits.take(caller, kStart).allowed);
  ASSERT_FALSE(limits.take(caller, kStart).allowed);
  limits.give_back(caller, kStart);
  EXPECT_TRUE(limits.take(caller, kStart).allowed);
  EXPECT_FALSE(limits.take(caller, kStart).allowed);
  limits.give_back(address("192.0.2.9"), kStart);  // never seen: nothing to give

  // What refilled meanwhile is not given twice.
  for (int i = 0; i < 5; ++i) limits.give_back(caller, kStart + 60s);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(limits.take(caller, kStart + 60s).allowed);
  EXPECT_FALSE(limits.take(caller, kStart + 60s).allowed);

  for (int i = 0; i < 10; ++i) ASSERT_TRUE(limits.take_handshake(caller, kStart).allowed);
  limits.give_back_handshake(caller, kStart);
  EXPECT_TRUE(limits.take_handshake(caller, kStart).allowed);
  EXPECT_FALSE(limits.take_handshake(caller, kStart).allowed);
}

TEST(RateLimits, KeepTheUsedPartOfABurstWhenTheRateChanges) {
  RateLimits limits(only_free(20));  // ten, three seconds each
  for (int i = 0; i < 5; ++i) limits.take("ann", tunnel::Tier::free, kStart);
  limits.configure(only_free(600));  // a hundred
  EXPECT_EQ(limits.take("ann", tunnel::Tier::free, kStart).remaining, 49U);
  limits.configure(only_free(0));
  EXPECT_EQ(limits.take("ann", tunnel::Tier::free, kStart).limit, 0U);
  limits.configure(only_free(60));  // ten again, 51 of a hundred used
  EXPECT_EQ(limits.take("ann", tunnel::Tier::free, kStart).remaining, 3U);
  // The tier is part of the token: a better one is worth as much of its burst.
  EXPECT_EQ(limits.take("ann", tunnel::Tier::enterprise, kStart).remaining, 324U);
}

TEST(RateLimits, KeepTheUsedPartOfAllRequestsWhenTheRateChanges) {
  RateLimits limits({.global_per_minute = 600});
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(limits.take_global(kStart).allowed);
  limits.configure({.global_per_minute = 6000});
  EXPECT_EQ(limits.take_global(kStart).remaining, 499U);
  for (int i = 0; i < 499; ++i) ASSERT_TRUE(limits.take_global(kStart).allowed);
  const auto refused = limits.take_global(kStart);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.limit, 6000U);
  EXPECT_EQ(refused.retry_after, 10ms);
}

/// Over any span of time, a bucket lets through no more than its burst and what refilled.
TEST(RateLimits, HoldInEveryWindowOfARandomHistory) {
  std::mt19937_64 random(20'261'121);
  for (int round = 0; round < 40; ++round) {
    const unsigned per_minute = 1 + static_cast<unsigned>(random() % 5000);
    SCOPED_TRACE(per_minute);
    RateLimits limits(only_free(per_minute));
    const TokenBucket bucket(per_minute);
    std::vector<Time> allowed;
    Time now = kStart;
    std::int64_t refused = 0;
    for (int i = 0; i < 4000; ++i) {
      // Bursts, steady use and pauses.
      const auto mean = static_cast<std::uint64_t>(bucket.interval());
      if (random() % 3 == 0) now += std::chrono::nanoseconds(random() % (2 * mean));
      if (random() % 200 == 0) now += std::chrono::nanoseconds(random() % (40 * mean));
      if (limits.take("ann", tunnel::Tier::free, now).allowed)
        allowed.push_back(now);
      else
        ++refused;
    }
    ASSERT_GT(refused, 0);
    for (std::size_t from = 0; from < allowed.size(); from += 7)
      for (std::size_t to = from; to < allowed.size(); to += 11) {
        const auto window = (allowed[to] - allowed[from]).count();
        ASSERT_LE(static_cast<std::int64_t>(to - from + 1), bucket.burst() + window / bucket.interval() + 1);
      }
    // And it is never stingy: with the time that passed, all that came back was to be had.
    const auto passed = (now - kStart).count();
    ASSERT_LE(static_cast<std::int64_t>(allowed.size()), bucket.burst() + passed / bucket.interval() + 1);
    const auto later = now + std::chrono::nanoseconds(bucket.span());
    for (unsigned i = 0; i < bucket.burst(); ++i)
      ASSERT_TRUE(limits.take("ann", tunnel::Tier::free, later).allowed);
    ASSERT_FALSE(limits.take("ann", tunnel::Tier::free, later).allowed);
  }
}

TEST(RateLimits, AreExactUnderEightThreads) {
  RateLimits limits({.address_per_minute = 6000, .global_per_minute = 600'000});
  std::atomic<unsigned> principal{0}, stranger{0}, all{0};
  const auto caller = address("192.0.2.1");
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 15'000; ++i) {
          if (limits.take("ann", tunnel::Tier::enterprise, kStart).allowed) ++principal;
          if (limits.take(caller, kStart).allowed) ++stranger;
          if (limits.take_global(kStart).allowed) ++all;
        }
      });
  }
  EXPECT_EQ(principal, 834U);
  EXPECT_EQ(stranger, 1000U);
  EXPECT_EQ(all, 100'000U);
}

TEST(RateLimits, StayExactUnderThreadsThatGiveBack) {
  RateLimits limits({.address_per_minute = 6000});
  const auto caller = address("192.0.2.1");
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 5000; ++i)
          if (limits.take(caller, kStart).allowed) limits.give_back(caller, kStart);
      });
  }
  EXPECT_EQ(limits.take(caller, kStart).remaining, 999U);
}

TEST(RateLimits, ForgetTheOneUnusedForLongestWhenAllAreInUse) {
  RateLimits limits({.max_principals = 3});
  limits.take("ann", tunnel::Tier::free, kStart);
  limits.take("bob", tunnel::Tier::free, kStart);
  limits.take("cid", tunnel::Tier::free, kStart);
  limits.take("ann", tunnel::Tier::free, kStart);
  limits.take("dan", tunnel::Tier::free, kStart);  // in bob's place
  EXPECT_EQ(limits.sizes().principals, 3U);
  EXPECT_EQ(limits.take("ann", tunnel::Tier::free, kStart).remaining, 14U);
  EXPECT_EQ(limits.take("cid", tunnel::Tier::free, kStart).remaining, 15U);
  EXPECT_EQ(limits.take("bob", tunnel::Tier::free, kStart).remaining, 16U);  // begins anew
}

TEST(RateLimits, ForgetThoseThatSayNothingBeforeThoseInUse) {
  RateLimits limits({.max_principals = 3});
  for (int i = 0; i < 17; ++i) limits.take("busy", tunnel::Tier::free, kStart);
  limits.take("one", tunnel::Tier::free, kStart);  // both are full again after 600 ms
  limits.take("two", tunnel::Tier::free, kStart);
  limits.take("three", tunnel::Tier::free, kStart + 1s);
  limits.take("four", tunnel::Tier::free, kStart + 1s);
  EXPECT_EQ(limits.sizes().principals, 3U);
  EXPECT_EQ(limits.take("busy", tunnel::Tier::free, kStart + 1s).remaining, 0U);
  EXPECT_FALSE(limits.take("busy", tunnel::Tier::free, kStart + 1s).allowed);
}

TEST(RateLimits, AreNotShakenOffByAFloodOfOtherAddresses) {
  RateLimits limits({.max_addresses = 1024});
  const auto hostile = address("192.0.2.1");
  while (limits.take(hostile, kStart).allowed) {
  }
  // Ten thousand others a second, twenty times the table: each is full again after 60 ms and gives way.
  Time now = kStart;
  for (unsigned i = 0; i < 20'000; ++i) limits.take(spoofed(0x0a000000U + i), now += 100us);
  EXPECT_LE(limits.take(hostile, now).remaining, 33U);  // what came back in two seconds, not 166
  EXPECT_EQ(limits.sizes().addresses, 1024U);
}

TEST(RateLimits, OfAMillionSpoofedAddressesCostLessThan32MiB) {
  if (sanitizer::kUsed) GTEST_SKIP() << "sanitizers keep their own books in memory";
  malloc_trim(0);
  const auto before = resident_kib();
  ASSERT_GT(before, 0U);
  RateLimits limits({});
  for (unsigned i = 0; i < 1'000'000; ++i) {
    const auto spoof = spoofed(0x0b000000U + i * 7);
    limits.take(spoof, kStart + std::chrono::microseconds(i));
    limits.take_handshake(spoof, kStart + std::chrono::microseconds(i));
  }
  EXPECT_EQ(limits.sizes().addresses, 131'072U);
  EXPECT_EQ(limits.sizes().handshakes, 131'072U);
  const auto grown = resident_kib() - before;
  RecordProperty("rss_kib", static_cast<int>(grown));
  EXPECT_LT(grown, 32U * 1024U);
}

}  // namespace
}  // namespace tunneld::access
