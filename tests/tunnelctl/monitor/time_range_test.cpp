#include "tunnelctl/monitor/time_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace std::chrono;
using tunnelctl::monitor::Time;
using tunnelctl::monitor::time_range;

/// Wednesday.
const Time kNow = sys_days(year(2026) / 3 / 31) - days(6) + hours(13) + minutes(14) + milliseconds(1500);

TEST(TimeRange, ReadsGrafanasTimes) {
  const Time day = sys_days(year(2026) / 3 / 25);
  struct Case {
    const char* from;
    const char* to;
    Time start, end;
  };
  const Case cases[] = {
      {"now-1h", "now", kNow - hours(1), kNow},
      {"now-1d/d", "now/d", day - days(1), day + days(1) - milliseconds(1)},
      {"now/w", "now", day - days(2), kNow},  // Monday
      {"now/M", "now/M", sys_days(year(2026) / 3 / 1), sys_days(year(2026) / 4 / 1) - milliseconds(1)},
      {"now-1y/y", "now", sys_days(year(2025) / 1 / 1), kNow},
      {"now-1M", "now", sys_days(year(2026) / 2 / 25) + (kNow - day), kNow},
      {"now-1h-30m", "now+5s", kNow - minutes(90), kNow + seconds(5)},
      {"1000", "2500", Time(seconds(1)), Time(milliseconds(2500))},
      {"2026-03-25", "2026-03-25T10:00:00.250Z", day, day + hours(10) + milliseconds(250)},
      {"2026-03-25T02:30:00+02:00", "2026-03-25 10:00", day + minutes(30), day + hours(10)},
  };
  for (const auto& one : cases) {
    const auto range = time_range(one.from, one.to, kNow);
    ASSERT_TRUE(range) << range.error().message;
    EXPECT_EQ(range->from, one.start) << one.from;
    EXPECT_EQ(range->to, one.end) << one.to;
  }
}

TEST(TimeRange, GoesToTheLastDayOfAShorterMonth) {
  const Time march = sys_days(year(2026) / 3 / 31);
  EXPECT_EQ(time_range("now-1M", "now", march)->from, Time(sys_days(year(2026) / 2 / 28)));
}

TEST(TimeRange, RefusesWhatGrafanaWouldAnswerWithNothing) {
  for (const char* from : {"",
                           "yesterday",
                           "now-",
                           "now-1",
                           "now-1x",
                           "now-x",
                           "now 1h",
                           "now-1h/",
                           "now/q",
                           "-5",
                           "now--1h",
                           "now-99999999999y",
                           "now-9999999999999999999s",
                           "now-500y",
                           "1.5",
                           "2026-13-01",
                           "2026-02-30",
                           "2026-03-25T25:00:00Z",
                           "2026-03-25T10:00:00+99:00",
                           "2026-03-25x",
                           "99999999999999999"}) {
    const auto range = time_range(from, "now", kNow);
    ASSERT_FALSE(range) << from;
    EXPECT_EQ(range.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(range.error().message, testing::HasSubstr("--from"));
  }
  EXPECT_THAT(time_range("now", "now-1h", kNow).error().message, testing::HasSubstr("is not after"));
  EXPECT_THAT(time_range("now-1h", "soon", kNow).error().message, testing::HasSubstr("--to: \"soon\""));
}

}  // namespace
