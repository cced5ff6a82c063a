#include "tunneld/admin/cells.h"

#include <gtest/gtest.h>

#include <thread>

namespace tunneld::admin {
namespace {

using namespace std::chrono_literals;

TEST(Counter, LosesNothingBetweenThreads) {
  // static: g++ 12's address sanitizer misplaces aligned locals.
  static Counter counter;
  static Level level;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] {
      for (int n = 0; n < 10'000; ++n) {
        counter.add();
        level.add(n % 2 == 0 ? 1 : -1);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 40'000U);
  EXPECT_EQ(level.value(), 0);
}

TEST(Level, MayGoDownOnAnotherThreadThanItWentUp) {
  static Level level;  // static: see above
  level.add(2);
  std::thread([] { level.add(-3); }).join();
  EXPECT_EQ(level.value(), -1);
}

TEST(Histogram, CountsAValueInTheBucketWhoseUpperBoundItReaches) {
  const std::array bounds{0.01, 0.1};
  Histogram histogram(bounds);
  for (const auto took : {10ms, 11ms, 100ms, 101ms}) histogram.observe(took);
  histogram.observe(-5ms);  // a clock that ran backwards counts as nothing, not as a century
  const auto reading = histogram.read();
  EXPECT_EQ(reading.cumulative, (std::vector<std::uint64_t>{2, 4, 5}));
  EXPECT_NEAR(reading.sum, 0.222, 1e-9);
}

TEST(LabelledCounters, CountWhatDoesNotFitAsOther) {
  const std::array<std::string_view, 1> known{"known"};
  LabelledCounters counters(known);
  EXPECT_EQ(counters.read().at(0).value, 0U);
  for (int i = 0; i < 100; ++i) counters.add("reason" + std::to_string(i));
  counters.add("known");
  const auto entries = counters.read();
  EXPECT_EQ(entries.size(), LabelledCounters::kMaxValues + 1);
  EXPECT_EQ(entries.front().value, 1U);
  EXPECT_EQ(entries.back().label, "other");
  EXPECT_EQ(entries.back().value, 100U - (LabelledCounters::kMaxValues - 1));
}

TEST(SlidingDurations, TellPercentilesOfTheLastFiveMinutesOnly) {
  SlidingDurations durations;
  SlidingDurations::Clock::time_point now{1h};
  EXPECT_EQ(durations.read(now).count, 0U);
  for (int i = 0; i < 1000; ++i) durations.observe(1s, now);
  now += 290s;
  for (int i = 1; i <= 100; ++i) durations.observe(i * 1ms, now);
  EXPECT_EQ(durations.read(now).count, 1100U);
  now += 10s;  // the first slice is 300 s old
  const auto recent = durations.read(now);
  EXPECT_EQ(recent.count, 100U);
  EXPECT_NEAR(recent.mean, 0.0505, 0.0001);
  EXPECT_NEAR(recent.p50, 0.050, 0.050 * 0.045);
  EXPECT_NEAR(recent.p95, 0.095, 0.095 * 0.045);
  EXPECT_NEAR(recent.p99, 0.099, 0.099 * 0.045);
  EXPECT_EQ(durations.read(now + 300s).count, 0U);
}

TEST(SlidingDurations, HoldAnythingFromNothingToHours) {
  SlidingDurations durations;
  const SlidingDurations::Clock::time_point now{1h};
  for (const std::chrono::nanoseconds took :
       {std::chrono::nanoseconds(-1), 0ns, 1ns, std::chrono::nanoseconds(9h)})
    durations.observe(took, now);
  EXPECT_EQ(durations.read(now).count, 4U);
}

TEST(SlidingDurations, AThreadASliceBehindDoesNotTurnTheRingBack) {
  SlidingDurations durations;
  const SlidingDurations::Clock::time_point now{1h};
  durations.observe(1ms, now);
  durations.observe(1ms, now - 300s);  // the same place in the ring
  EXPECT_EQ(durations.read(now).count, 2U);
}

TEST(SlidingDurations, TellAShorterWindowInStepsOfTenSeconds) {
  SlidingDurations durations;
  SlidingDurations::Clock::time_point now{1h};
  durations.observe(1s, now - 60s);
  durations.observe(1ms, now);
  EXPECT_EQ(durations.read(now, 10s).count, 1U);
  EXPECT_EQ(durations.read(now, 60s).count, 1U);
  EXPECT_EQ(durations.read(now, 70s).count, 2U);
  EXPECT_EQ(durations.read(now, 1s).count, 1U) << "less than a step is one";
  EXPECT_EQ(durations.read(now, 2h).count, 2U) << "more than the ring is the ring";
}

TEST(DurationSketch, TellsPercentilesOfSumsAndDifferences) {
  DurationSketch sketch;
  for (int i = 0; i < 50; ++i) sketch.observe(10ms);
  const auto before = sketch.read();
  for (int i = 0; i < 50; ++i) sketch.observe(1s);
  const auto all = sketch.read();
  EXPECT_NEAR(DurationSketch::percentile(all, 0.5), 0.010, 0.010 * 0.125);
  EXPECT_NEAR(DurationSketch::percentile(all, 0.51), 1, 0.125);
  auto later = all;
  for (std::size_t i = 0; i < later.size(); ++i) later[i] -= before[i];
  EXPECT_NEAR(DurationSketch::percentile(later, 0.01), 1, 0.125);
}

TEST(DurationSketch, IsAtMostAnEighthOff) {
  for (auto took = 20us; took < std::chrono::microseconds(10min); took = took * 11 / 10 + 1us) {
    DurationSketch sketch;
    sketch.observe(took);
    const double seconds = std::chrono::duration<double>(took).count();
    EXPECT_NEAR(DurationSketch::percentile(sketch.read(), 1), seconds, seconds * 0.1251);
  }
}

TEST(DurationSketch, HoldsAnythingFromNothingToHours) {
  DurationSketch sketch;
  EXPECT_EQ(DurationSketch::percentile(sketch.read(), 0.95), 0);
  for (const std::chrono::nanoseconds took :
       {std::chrono::nanoseconds(-1), 0ns, 1ns, std::chrono::nanoseconds(9h)})
    sketch.observe(took);
  std::uint64_t count = 0;
  for (const auto one : sketch.read()) count += one;
  EXPECT_EQ(count, 4U);
}

}  // namespace
}  // namespace tunneld::admin
