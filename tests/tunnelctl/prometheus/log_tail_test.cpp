#include "tunnelctl/prometheus/log_tail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace {

using namespace tunnelctl::prometheus;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr Instant kNoon{seconds(43'200)};
constexpr LogTail::Options kOptions{.late = seconds(30), .ahead = seconds(600)};

LogLine line(Instant at, std::string text, std::string app = "a") {
  return {.at = at,
          .text = std::move(text),
          .stream = std::make_shared<const Texts>(Texts{{"app", std::move(app)}})};
}

std::vector<std::string> fresh(LogTail& tail, std::vector<LogLine> page) {
  tail.keep_new(page);
  std::vector<std::string> result;
  for (const auto& one : page) result.push_back(one.text);
  return result;
}

TEST(LogTail, AsksForWhatMayHaveComeLateAndForClocksThatAreAhead) {
  LogTail tail(kNoon, kOptions);
  EXPECT_EQ(tail.window(kNoon).from, kNoon - seconds(30));
  EXPECT_EQ(tail.window(kNoon).to, kNoon + seconds(600));
  tail.reached(kNoon + seconds(100));
  EXPECT_EQ(tail.window(kNoon + seconds(110)).to, kNoon + seconds(710));
}

TEST(LogTail, ReadsAllThatMayHaveComeLateOnlyEveryTenSecondsOrPolls) {
  LogTail tail(kNoon, kOptions);
  tail.reached(kNoon);
  for (int second = 1; second <= 60; ++second) {
    const auto now = kNoon + seconds(second);
    const auto from = tail.window(now).from;
    if (second % 10 == 0)
      EXPECT_EQ(from, kNoon + seconds(second <= 30 ? -30 : second - 40)) << second;
    else
      EXPECT_EQ(from, now - seconds(3)) << "two seconds before the last poll";
    tail.reached(now);
  }
  // Polls that are far apart, or close together.
  tail.reached(kNoon + seconds(75));
  EXPECT_EQ(tail.window(kNoon + seconds(90)).from, kNoon + seconds(45));
  for (int poll = 1; poll < 10; ++poll) {
    EXPECT_EQ(tail.window(kNoon + seconds(76)).from, kNoon + seconds(poll == 1 ? 73 : 74));
    tail.reached(kNoon + seconds(76));
  }
  EXPECT_EQ(tail.window(kNoon + seconds(76)).from, kNoon + seconds(45));
}

TEST(LogTail, ShowsEachLineOnce) {
  LogTail tail(kNoon, kOptions);
  EXPECT_THAT(fresh(tail, {line(kNoon, "one"), line(kNoon, "two")}), ElementsAre("one", "two"));
  EXPECT_THAT(fresh(tail, {line(kNoon, "one"), line(kNoon, "two"), line(kNoon, "three")}),
              ElementsAre("three"));
  // The same text in another stream or moment, or with other metadata, is another line.
  auto with_metadata = line(kNoon, "one");
  with_metadata.metadata = {{"trace", "1"}};
  EXPECT_THAT(fresh(tail, {line(kNoon, "one", "b"), line(kNoon + seconds(1), "one"), with_metadata}),
              ElementsAre("one", "one", "one"));
  EXPECT_THAT(fresh(tail, {line(kNoon, "one", "b")}), IsEmpty());
}

TEST(LogTail, GoesNotOnWhileLokiIsAwayAndForAWhileAfter) {
  LogTail tail(kNoon, kOptions);
  tail.reached(kNoon);
  tail.reached(kNoon + seconds(40));
  const auto before = tail.window(kNoon + seconds(50)).from;
  EXPECT_EQ(before, kNoon + seconds(10));
  tail.lost();
  EXPECT_EQ(tail.window(kNoon + seconds(500)).from, before);
  tail.reached(kNoon + seconds(500));  // it is back: agents send what they kept
  tail.reached(kNoon + seconds(529));
  EXPECT_EQ(tail.window(kNoon + seconds(540)).from, before);
  tail.reached(kNoon + seconds(540));
  EXPECT_EQ(tail.window(kNoon + seconds(550)).from, kNoon + seconds(510));
}

TEST(LogTail, NeverGoesBackWhenTheClockDoes) {
  LogTail tail(kNoon, kOptions);
  tail.reached(kNoon);
  tail.reached(kNoon + seconds(100));
  tail.reached(kNoon + seconds(60));
  EXPECT_EQ(tail.window(kNoon).from, kNoon + seconds(70));
  EXPECT_EQ(tail.window(kNoon + seconds(61)).from, kNoon + seconds(70));
}

/// Lines come up to 30 s late, in any order, polls fail: each is shown once.
TEST(LogTail, LosesAndDoublesNothingThatComesInTime) {
  std::mt19937 random(11);
  const auto below = [&](int most) { return std::uniform_int_distribution(0, most)(random); };
  for (int round = 0; round < 50; ++round) {
    LogTail tail(kNoon, kOptions);
    std::vector<std::pair<int, LogLine>> coming;  // when Loki has it, in seconds after noon
    for (int i = 0; i < 300; ++i) {
      const int at = below(200);
      coming.emplace_back(at + below(29), line(kNoon + seconds(at), std::to_string(i)));
    }
    std::multiset<std::string> shown;
    for (int second = 1; second <= 300; ++second) {
      const auto now = kNoon + seconds(second);
      if (second < 250 && below(9) == 0) {
        tail.lost();
        continue;
      }
      const auto window = tail.window(now);
      std::vector<LogLine> page;
      for (const auto& [since, one] : coming)
        if (since < second && one.at >= window.from && one.at < window.to) page.push_back(one);
      for (const auto& text : fresh(tail, std::move(page))) shown.insert(text);
      tail.reached(now);
    }
    EXPECT_EQ(shown.size(), 300U);
    EXPECT_EQ(std::set<std::string>(shown.begin(), shown.end()).size(), 300U);
  }
}

}  // namespace
