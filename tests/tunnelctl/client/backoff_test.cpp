#include "tunnelctl/client/backoff.h"

#include <gtest/gtest.h>

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using Time = Backoff::Clock::time_point;

constexpr double kMiddle = 0.5;  // U(0.7, 1.3) is 1 there
const Time kStart = Time() + 1000s;

Backoff::Options plain() {
  Backoff::Options options;
  options.quick_for = 0ms;
  options.max_attempts.reset();
  return options;
}

TEST(Backoff, DoublesFromTheBaseToTheCap) {
  Backoff backoff(plain(), Backoff::First::at_once);
  const std::chrono::milliseconds delays[] = {0ms, 2s, 4s, 8s, 16s, 32s, 60s, 60s, 60s};
  unsigned attempt = 0;
  for (const auto delay : delays) {
    const auto turn = backoff.next(kStart, kMiddle);
    ASSERT_TRUE(turn);
    EXPECT_EQ(turn->attempt, ++attempt);
    EXPECT_EQ(turn->delay, delay) << "attempt " << attempt;
    EXPECT_TRUE(turn->may_hurry);
  }
}

TEST(Backoff, SpreadsTheDelayByThirtyPerCentBehindTheCap) {
  const struct {
    double random;
    std::chrono::milliseconds second, eighth;
  } rows[] = {{0.0, 1400ms, 42s}, {0.25, 1700ms, 51s}, {0.75, 2300ms, 69s}, {1.0, 2600ms, 78s}};
  for (const auto& row : rows) {
    Backoff backoff(plain(), Backoff::First::at_once);
    std::optional<Backoff::Turn> turn;
    for (int i = 1; i <= 8; ++i) {
      turn = backoff.next(kStart, row.random);
      if (i == 2) {
        EXPECT_EQ(turn->delay, row.second) << row.random;
      }
    }
    EXPECT_EQ(turn->delay, row.eighth) << row.random;
  }
}

TEST(Backoff, NeverOverflowsHoweverManyTriesFail) {
  Backoff backoff(plain(), Backoff::First::at_once);
  for (int i = 0; i < 1000; ++i) {
    const auto turn = backoff.next(kStart, kMiddle);
    ASSERT_TRUE(turn);
    ASSERT_GE(turn->delay, 0ms);
    ASSERT_LE(turn->delay, 60s);
  }
}

TEST(Backoff, SpreadsTheFirstTryOfUnattendedProgramsAndOfAllAfterALoss) {
  Backoff unattended(plain(), Backoff::First::spread);
  EXPECT_EQ(unattended.next(kStart, 0.25)->delay, 250ms);
  Backoff person(plain(), Backoff::First::at_once);
  EXPECT_EQ(person.next(kStart, 0.25)->delay, 0ms);
  person.connected(kStart);
  person.lost(kStart + 31s);
  EXPECT_EQ(person.next(kStart + 31s, 0.25)->delay, 250ms);
}

TEST(Backoff, CountsFromTheStartOnlyAfterAStableConnection) {
  for (const auto& [stood, attempt] : {std::pair{29'999ms, 4U}, std::pair{30'000ms, 1U}}) {
    Backoff backoff(plain(), Backoff::First::at_once);
    for (int i = 0; i < 3; ++i) (void)backoff.next(kStart, kMiddle);
    backoff.connected(kStart);
    backoff.lost(kStart + stood);
    EXPECT_EQ(backoff.next(kStart + stood, kMiddle)->attempt, attempt) << stood.count();
  }
}

TEST(Backoff, IsQuickInTheFirstTwoMinutesOfAnOutage) {
  Backoff::Options options;
  options.max_attempts.reset();
  Backoff backoff(options, Backoff::First::at_once);
  backoff.connected(kStart);
  backoff.lost(kStart + 60s);
  const auto lost = kStart + 60s;
  (void)backoff.next(lost, kMiddle);
  for (int i = 0; i < 10; ++i) {
    EXPECT_LE(backoff.next(lost + 1s, 1.0)->delay, 4s);
    EXPECT_LE(backoff.next(lost + 119s, 0.999)->delay, 4s);
  }
  // Even those at the quick cap do not beat in step.
  EXPECT_NE(backoff.next(lost + 119s, 0.1)->delay, backoff.next(lost + 119s, 0.9)->delay);
  EXPECT_EQ(backoff.next(lost + 120s, kMiddle)->delay, 60s);
}

TEST(Backoff, AConnectionThatFallsAtOnceIsTheSameOutage) {
  Backoff::Options options;
  options.max_attempts.reset();
  Backoff backoff(options, Backoff::First::at_once);
  auto now = kStart;
  for (int i = 0; i < 200; ++i, now += 1s) {
    (void)backoff.next(now, kMiddle);
    backoff.connected(now);
    backoff.lost(now + 500ms);
  }
  EXPECT_EQ(backoff.next(now, kMiddle)->delay, 60s);
}

TEST(Backoff, TheServersHintWins) {
  Backoff backoff(plain(), Backoff::First::at_once);
  for (int i = 0; i < 6; ++i) (void)backoff.next(kStart, kMiddle);
  const auto turn = backoff.next(kStart, 0.0, {.hint = 7s});
  EXPECT_EQ(turn->delay, 7s);
  EXPECT_FALSE(turn->may_hurry);
  EXPECT_EQ(backoff.next(kStart, 1.0, {.hint = 10s})->delay, 11s);
  EXPECT_EQ(backoff.next(kStart, kMiddle, {.hint = 0ms})->delay, 0ms);
  EXPECT_EQ(backoff.next(kStart, 0.0, {.hint = std::chrono::hours(24 * 365)})->delay, 10min);
  EXPECT_EQ(backoff.next(kStart, 0.0, {.hint = -5s})->delay, 0ms);
}

TEST(Backoff, BadMannersDoubleTheWaitAndAreNotQuick) {
  Backoff::Options options;
  Backoff backoff(options, Backoff::First::at_once);
  backoff.connected(kStart);
  backoff.lost(kStart + 60s);
  EXPECT_EQ(backoff.next(kStart + 60s, kMiddle, {.factor = 2})->delay, 4s);
  EXPECT_EQ(backoff.next(kStart + 60s, kMiddle, {.factor = 2})->delay, 4s);
  EXPECT_EQ(backoff.next(kStart + 60s, kMiddle, {.factor = 2})->delay, 8s);
}

TEST(Backoff, GivesUpAfterItsAttemptsButNotWhileALinkMayBeResumed) {
  Backoff::Options options;
  options.max_attempts = 3;
  Backoff backoff(options, Backoff::First::at_once);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(backoff.next(kStart, kMiddle));
  EXPECT_FALSE(backoff.next(kStart, kMiddle));
  backoff.hold_on_until(kStart + 60s);
  EXPECT_TRUE(backoff.next(kStart + 59s, kMiddle));
  EXPECT_FALSE(backoff.next(kStart + 60s, kMiddle));
}

TEST(Backoff, StaysQuickAsLongAsALinkMayBeResumed) {
  Backoff backoff(plain(), Backoff::First::at_once);
  for (int i = 0; i < 9; ++i) backoff.next(kStart, kMiddle);
  const auto late = kStart + 200s;  // beyond quick_for
  EXPECT_GT(backoff.next(late, kMiddle)->delay, 30s);
  backoff.hold_on_until(late + 60s);
  EXPECT_LE(backoff.next(late, 0.999)->delay, 4s);
  EXPECT_LE(backoff.next(late + 56s, 0.999)->delay, 4s);
  EXPECT_GT(backoff.next(late + 57s, kMiddle)->delay, 30s);
}

TEST(Backoff, ATryThatIsNotMadeDoesNotCount) {
  Backoff backoff(plain(), Backoff::First::at_once);
  backoff.withdraw();
  EXPECT_EQ(backoff.next(kStart, kMiddle)->attempt, 1U);
  backoff.withdraw();
  EXPECT_EQ(backoff.next(kStart, kMiddle)->attempt, 1U);
}

TEST(Backoff, AHurriedTryComesASecondAfterTheLastOne) {
  Backoff backoff(plain(), Backoff::First::at_once);
  EXPECT_EQ(backoff.hurried_delay(kStart), 0ms);
  backoff.begin(kStart);
  EXPECT_EQ(backoff.hurried_delay(kStart + 300ms), 700ms);
  EXPECT_EQ(backoff.hurried_delay(kStart + 5s), 0ms);
}

}  // namespace
}  // namespace tunnelctl::client
