#include "tunnelctl/client/profile.h"

#include <gtest/gtest.h>

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;

TEST(Profiles, AreTheThreeThatTheDocumentsPromise) {
  struct Row {
    const char* name;
    unsigned retry;
    std::chrono::milliseconds base_delay, request_timeout;
    std::size_t queue;
    bool compression;
    logging::Level log_level;
  };
  const Row rows[] = {
      {"stable", 10, 2s, 30s, 100, false, logging::Level::info},
      {"unstable", 15, 1s, 60s, 200, false, logging::Level::debug},
      {"low-bandwidth", 10, 3s, 60s, 50, true, logging::Level::info},
  };
  EXPECT_EQ(std::size(rows), profiles().size());
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    const auto* found = find_profile(row.name);
    ASSERT_NE(found, nullptr);
    const auto& settings = found->settings;
    EXPECT_EQ(settings.retry, row.retry);
    EXPECT_EQ(settings.base_delay, row.base_delay);
    EXPECT_EQ(settings.request_timeout, row.request_timeout);
    EXPECT_EQ(settings.queue, row.queue);
    EXPECT_EQ(settings.compression, row.compression);
    EXPECT_EQ(settings.log_level, row.log_level);
    EXPECT_EQ(&named(found->profile), found);
  }
  EXPECT_EQ(find_profile("Stable"), nullptr);
  EXPECT_EQ(find_profile(""), nullptr);
}

TEST(Profiles, TheFirstIsWhatNobodyChose) {
  EXPECT_EQ(profiles().front().profile, Profile::stable);
  EXPECT_EQ(profiles().front().settings, ClientSettings{});
}

/// The waits before that many attempts, none of which connects. Random factor 1.
std::vector<std::chrono::milliseconds> waits(const ClientSettings& settings) {
  std::vector<std::chrono::milliseconds> result;
  Backoff backoff(backoff_of(settings), Backoff::First::at_once);
  auto now = Backoff::Clock::time_point(1h);
  while (const auto turn = backoff.next(now, 0.5)) {
    result.push_back(turn->delay);
    now += turn->delay;
  }
  return result;
}

TEST(Profiles, SayHowOftenAndHowSoonItTries) {
  const auto stable = waits(find_profile("stable")->settings);
  const auto unstable = waits(find_profile("unstable")->settings);
  const auto narrow = waits(find_profile("low-bandwidth")->settings);
  EXPECT_EQ(stable.size(), 10U);
  EXPECT_EQ(unstable.size(), 15U);
  EXPECT_EQ(narrow.size(), 10U);
  // The first comes at once, the second after the base delay.
  EXPECT_EQ(stable[1], 2s);
  EXPECT_EQ(unstable[1], 1s);
  EXPECT_EQ(unstable[2], 2s);
  EXPECT_EQ(narrow[1], 3s);
}

TEST(Profiles, ALongBaseDelayIsNotCutShortAtTheBeginningOfAnOutage) {
  const auto all = waits({.retry = 4, .base_delay = 20s});
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[1], 20s);
  for (std::size_t i = 1; i < all.size(); ++i) EXPECT_GE(all[i], 20s) << i;
}

TEST(Profiles, ForeverNeverGivesUp) {
  Backoff backoff(backoff_of({.retry = std::nullopt}), Backoff::First::at_once);
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(backoff.next(Backoff::Clock::time_point(1h), 0.5)) << i;
}

}  // namespace
}  // namespace tunnelctl::client
