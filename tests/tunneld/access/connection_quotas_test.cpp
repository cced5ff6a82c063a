#include "tunneld/access/connection_quotas.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace tunneld::access {
namespace {

TEST(ConnectionQuotas, GiveAsManyPlacesAsTheLimitSays) {
  ConnectionQuotas quotas;
  const auto one = quotas.reserve("ann", 2);
  {
    const auto two = quotas.reserve("ann", 2);
    EXPECT_TRUE(one);
    EXPECT_TRUE(two);
    EXPECT_FALSE(quotas.reserve("ann", 2));
    EXPECT_TRUE(quotas.reserve("bob", 2));  // and given back at once
    EXPECT_EQ(quotas.held("ann"), 2U);
    EXPECT_EQ(quotas.held("bob"), 0U);
  }
  EXPECT_EQ(quotas.held("ann"), 1U);
  EXPECT_TRUE(quotas.reserve("ann", 2));
}

TEST(ConnectionQuotas, OfZeroGiveNone) {
  ConnectionQuotas quotas;
  EXPECT_FALSE(quotas.reserve("ann", 0));
  EXPECT_EQ(quotas.held("ann"), 0U);
}

TEST(ConnectionQuotas, KeepPlacesThatALowerLimitWouldNotGive) {
  ConnectionQuotas quotas;
  const auto one = quotas.reserve("ann", 3);
  const auto two = quotas.reserve("ann", 3);
  EXPECT_FALSE(quotas.reserve("ann", 1));
  EXPECT_EQ(quotas.held("ann"), 2U);
}

TEST(ConnectionQuotas, TellKeysApartByAllOfTheirBytes) {
  using namespace std::string_view_literals;
  ConnectionQuotas quotas;
  const auto held = quotas.reserve("issuer\0ann"sv, 1);
  EXPECT_TRUE(quotas.reserve("issuer\0anna"sv, 1));
  EXPECT_TRUE(quotas.reserve("issuer"sv, 1));
  EXPECT_FALSE(quotas.reserve("issuer\0ann"sv, 1));
}

TEST(ConnectionQuotas, AreGivenBackOnceHoweverAPlaceMoves) {
  ConnectionQuotas quotas;
  auto place = quotas.reserve("ann", 1);
  auto moved = std::move(place);
  EXPECT_TRUE(moved);
  EXPECT_EQ(quotas.held("ann"), 1U);
  auto other = quotas.reserve("bob", 1);
  other = std::move(moved);  // bob's is given back
  EXPECT_EQ(quotas.held("bob"), 0U);
  EXPECT_EQ(quotas.held("ann"), 1U);
  auto& same = other;
  other = std::move(same);
  EXPECT_TRUE(other);
  EXPECT_EQ(quotas.held("ann"), 1U);
  other = {};
  EXPECT_EQ(quotas.held("ann"), 0U);
}

TEST(ConnectionQuotas, AreExactUnderEightThreads) {
  ConnectionQuotas quotas;
  std::atomic<int> holding{0}, most{0}, won{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 5000; ++i) {
          const auto place = quotas.reserve("ann", 3);
          if (!place) continue;
          ++won;
          const int now = ++holding;
          for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
          }
          --holding;
        }
      });
  }
  EXPECT_LE(most, 3);
  EXPECT_GT(won, 0);
  EXPECT_EQ(quotas.held("ann"), 0U);
}

}  // namespace
}  // namespace tunneld::access
