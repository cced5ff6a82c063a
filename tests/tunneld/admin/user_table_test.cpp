#include "tunneld/admin/user_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace tunneld::admin {
namespace {

using namespace std::chrono_literals;
using tunnel::Tier;
using WallTime = UserTable::WallTime;

const WallTime kStart{1'800'000'000s};

TEST(UserTable, AddsUpWhatAUserDid) {
  UserTable users;
  users.request_finished("ann", {.tier = Tier::premium, .took = 30ms, .bytes_in = 10, .bytes_out = 100},
                         kStart);
  users.request_finished("ann", {.tier = Tier::premium, .failed = true, .took = 10ms, .bytes_in = 1},
                         kStart + 5s);
  users.connection_opened("ann", Tier::premium, kStart + 6s);
  const auto ann = users.find("ann");
  ASSERT_TRUE(ann);
  EXPECT_EQ(ann->requests, 2U);
  EXPECT_EQ(ann->errors, 1U);
  EXPECT_EQ(ann->total_time, 40ms);
  EXPECT_EQ(ann->bytes_in, 11U);
  EXPECT_EQ(ann->bytes_out, 100U);
  EXPECT_EQ(ann->open_connections, 1U);
  EXPECT_EQ(ann->tier, Tier::premium);
  EXPECT_EQ(ann->first_seen, kStart);
  EXPECT_EQ(ann->last_seen, kStart + 6s);
  users.connection_closed("ann", 1000, 2000, kStart + 7s);
  EXPECT_EQ(users.find("ann")->open_connections, 0U);
  EXPECT_EQ(users.find("ann")->bytes_out, 2100U);
}

TEST(UserTable, KeepsUsersApart) {
  UserTable users;
  // The same subject of two issuers: two people.
  users.request_finished(std::string("a\0sub", 5), {.tier = Tier::free}, kStart);
  users.request_finished(std::string("b\0sub", 5), {.tier = Tier::free}, kStart);
  EXPECT_EQ(users.find(std::string("a\0sub", 5))->requests, 1U);
  EXPECT_EQ(users.size(), 2U);
  EXPECT_FALSE(users.find("sub"));
}

TEST(UserTable, IsFoundByTheHashThatStandsForTheUser) {
  UserTable users;
  users.request_finished("ann", {.tier = Tier::free}, kStart);
  EXPECT_EQ(tunnel::principal_hash("ann").size(), 16U);
  ASSERT_TRUE(users.find_hash(tunnel::principal_hash("ann")));
  EXPECT_FALSE(users.find_hash(tunnel::principal_hash("bob")));
  EXPECT_FALSE(users.find_hash(""));
  EXPECT_FALSE(users.find_hash("ann"));
}

TEST(UserTable, ForgetsTheOneNotSeenForLongestWhenItIsFull) {
  UserTable users(3);
  for (int i = 0; i < 3; ++i)
    users.request_finished("user" + std::to_string(i), {.tier = Tier::free},
                           kStart + std::chrono::seconds(i));
  users.request_finished("user0", {.tier = Tier::free}, kStart + 10s);  // seen again
  users.request_finished("new", {.tier = Tier::free}, kStart + 11s);
  EXPECT_EQ(users.size(), 3U);
  EXPECT_TRUE(users.find("user0"));
  EXPECT_FALSE(users.find("user1"));
  EXPECT_TRUE(users.find("user2"));
  EXPECT_TRUE(users.find("new"));
}

TEST(UserTable, HoldsTenThousandAndNoMore) {
  UserTable users;
  for (int i = 0; i < 10'000; ++i)
    users.request_finished("user" + std::to_string(i), {.tier = Tier::free},
                           kStart + std::chrono::seconds(i));
  EXPECT_EQ(users.size(), 10'000U);
  EXPECT_TRUE(users.find("user0"));
  for (int i = 0; i < 500; ++i)
    users.request_finished("flood" + std::to_string(i), {.tier = Tier::free}, kStart + 20'000s);
  EXPECT_EQ(users.size(), 10'000U);
  EXPECT_FALSE(users.find("user0"));
}

TEST(UserTable, ACloseAfterItsUserWasForgottenCountsNothingBelowZero) {
  UserTable users(1);
  users.connection_opened("ann", Tier::free, kStart);
  users.request_finished("bob", {.tier = Tier::free}, kStart + 1s);
  users.connection_closed("ann", 0, 0, kStart + 2s);
  EXPECT_EQ(users.find("ann")->open_connections, 0U);
}

TEST(UserTable, ListsTheBusiestFirst) {
  UserTable users;
  for (int i = 1; i <= 5; ++i)
    for (int n = 0; n < i; ++n)
      users.request_finished("user" + std::to_string(i), {.tier = Tier::free}, kStart);
  const auto two = users.busiest(2);
  ASSERT_EQ(two.size(), 2U);
  EXPECT_EQ(two[0].requests, 5U);
  EXPECT_EQ(two[1].requests, 4U);
  EXPECT_EQ(users.busiest(100).size(), 5U);
  EXPECT_TRUE(users.busiest(0).empty());
}

TEST(UserTable, LosesNothingToManyThreads) {
  UserTable users(50);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&users, t] {
        for (int i = 0; i < 2000; ++i) {
          users.request_finished("shared", {.tier = Tier::free}, kStart + std::chrono::seconds(i));
          // Others come and go, and push each other out.
          if (i % 4 == 0)
            users.request_finished("t" + std::to_string(t) + "." + std::to_string(i), {.tier = Tier::free},
                                   kStart);
        }
      });
  }
  EXPECT_EQ(users.find("shared")->requests, 16'000U);
  EXPECT_LE(users.size(), 50U);
}

}  // namespace
}  // namespace tunneld::admin
