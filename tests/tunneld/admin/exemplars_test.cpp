#include "tunneld/admin/exemplars.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <set>
#include <string>
#include <thread>

namespace tunneld::admin {
namespace {

using namespace std::chrono_literals;

constexpr std::array kBounds{0.01, 0.1};
const std::string kOne(32, '1');
const std::string kTwo(32, '2');

std::chrono::system_clock::time_point second(int number) {
  return std::chrono::system_clock::time_point(std::chrono::seconds(number));
}

TEST(Exemplars, AreNoneBeforeTheFirst) {
  const Exemplars exemplars(kBounds);
  EXPECT_THAT(exemplars.read(), testing::ElementsAre(std::nullopt, std::nullopt, std::nullopt));
}

TEST(Exemplars, StandInTheBucketWhereTheHistogramCountsTheSame) {
  struct Row {
    std::chrono::nanoseconds took;
    std::size_t bucket;
  };
  for (const Row& row : {Row{-5ms, 0}, Row{0ms, 0}, Row{10ms, 0}, Row{10ms + 1ns, 1}, Row{100ms, 1},
                         Row{100ms + 1ns, 2}, Row{1h, 2}}) {
    SCOPED_TRACE(testing::Message() << row.took.count() << " ns");
    Exemplars exemplars(kBounds);
    Histogram histogram(kBounds);
    exemplars.observe(row.took, kOne, second(1));
    histogram.observe(row.took);
    const auto found = exemplars.read();
    ASSERT_EQ(found.size(), 3U);
    for (std::size_t at = 0; at < 3; ++at) EXPECT_EQ(found[at].has_value(), at == row.bucket);
    const auto counts = histogram.read().cumulative;
    EXPECT_EQ(counts[row.bucket], 1U);
    EXPECT_TRUE(row.bucket == 0 || counts[row.bucket - 1] == 0);
    EXPECT_EQ(found[row.bucket]->value, std::max(row.took, 0ns));
    EXPECT_EQ(found[row.bucket]->trace(), kOne);
    EXPECT_EQ(found[row.bucket]->at, second(1));
  }
}

TEST(Exemplars, GiveWayToNewerOnesOnly) {
  Exemplars exemplars(kBounds);
  exemplars.observe(1ms, kOne, second(10));
  exemplars.observe(2ms, kTwo, second(11));
  EXPECT_EQ(exemplars.read()[0]->trace(), kTwo);
  exemplars.observe(3ms, kOne, second(9));  // a thread that was held up
  EXPECT_EQ(exemplars.read()[0]->trace(), kTwo);
  exemplars.observe(3ms, kOne, second(11));
  EXPECT_EQ(exemplars.read()[0]->trace(), kOne);
  exemplars.observe(50ms, kTwo, second(1));
  EXPECT_EQ(exemplars.read()[1]->trace(), kTwo) << "buckets do not know each other";
}

TEST(Exemplars, TakeNothingThatIsNoTraceId) {
  Exemplars exemplars(kBounds);
  for (const std::string& no_id :
       {std::string(), std::string(31, '1'), std::string(33, '1'), std::string(32, 'A'), std::string(32, 'g'),
        std::string(31, '1') + "\"", std::string(31, '1') + "\n", std::string(32, '\0')})
    exemplars.observe(1ms, no_id, second(1));
  EXPECT_FALSE(exemplars.read()[0]);
}

TEST(Exemplars, AreWholeHoweverManyThreadsWrite) {
  Exemplars exemplars(kBounds);
  std::latch start(5);
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      const std::string id(32, static_cast<char>('a' + number));
      start.arrive_and_wait();
      for (int round = 0; round < 20'000; ++round)
        exemplars.observe(std::chrono::milliseconds(number + 1), id, second(number + 1));
    });
  }
  start.arrive_and_wait();
  for (int round = 0; round < 2'000; ++round) {
    const auto found = exemplars.read()[0];
    if (!found) continue;
    const std::set<char> digits(found->trace_id.begin(), found->trace_id.end());
    ASSERT_EQ(digits.size(), 1U);
    const int number = *digits.begin() - 'a';
    EXPECT_EQ(found->value, std::chrono::milliseconds(number + 1));
    EXPECT_EQ(found->at, second(number + 1));
  }
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(exemplars.read()[0]);
}

}  // namespace
}  // namespace tunneld::admin
