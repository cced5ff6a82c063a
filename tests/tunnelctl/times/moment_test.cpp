#include "tunnelctl/times/moment.h"

#include <gmock/gmock.h>

namespace tunnelctl::times {
namespace {

using namespace std::chrono;
using testing::HasSubstr;

/// Wednesday, 2026-03-25 13:14:01.500.
const Time kDay = sys_days(year(2026) / 3 / 25);
const Time kNow = kDay + hours(13) + minutes(14) + milliseconds(1500);

TEST(Moment, ReadsOneGrammarOfTimes) {
  struct Row {
    const char* given;
    Time start;
  };
  const Row rows[] = {
      {"now", kNow},
      {"  now ", kNow},
      {"now-90m", kNow - minutes(90)},
      {"now-1h-30m", kNow - minutes(90)},
      {"now-1d+1h", kNow - hours(23)},
      {"now+5s", kNow + seconds(5)},
      {"now-250ms", kNow - milliseconds(250)},
      {"now-2w", kNow - weeks(2)},
      {"now-1M", sys_days(year(2026) / 2 / 25) + (kNow - kDay)},
      {"now-1y", sys_days(year(2025) / 3 / 25) + (kNow - kDay)},
      {"15m", kNow - minutes(15)},
      {"-15m", kNow - minutes(15)},
      {"1h30m", kNow - minutes(90)},
      {"-2d", kNow - days(2)},
      {"3M", sys_days(year(2025) / 12 / 25) + (kNow - kDay)},
      {"2026-03-25", kDay},
      {"2026-03-25 10:00", kDay + hours(10)},
      {"2026-03-25 10:00:07", kDay + hours(10) + seconds(7)},
      {"2026-03-25T10:00", kDay + hours(10)},
      {"2026-03-25T10:00:00Z", kDay + hours(10)},
      {"2026-03-25t10:00:00z", kDay + hours(10)},
      {"2026-03-25T10:00Z", kDay + hours(10)},
      {"2026-03-25T10:00:00.25Z", kDay + hours(10) + milliseconds(250)},
      {"2026-03-25T10:00:00.123456789Z", kDay + hours(10) + milliseconds(123)},
      {"2026-03-25T02:30:00+02:00", kDay + minutes(30)},
      {"2026-03-25T02:30:00-05:30", kDay + hours(8)},
      {"2026-12-31T23:59:60Z", sys_days(year(2027) / 1 / 1)},  // a leap second
      {"2024-02-29", sys_days(year(2024) / 2 / 29)},
      {"0", Time()},
      {"1774437241", Time(seconds(1774437241))},
      {"1774437241.5", Time(milliseconds(1774437241500))},
      {"1774437241.5009", Time(milliseconds(1774437241500))},
      {"1774437241500", Time(milliseconds(1774437241500))},
      {"1774437241500999", Time(milliseconds(1774437241500))},     // microseconds
      {"1774437241500999999", Time(milliseconds(1774437241500))},  // nanoseconds
      {"2200-01-01", sys_days(year(2200) / 1 / 1)},
  };
  for (const auto& row : rows) {
    const auto read = moment(row.given, kNow);
    ASSERT_TRUE(read) << row.given << ": " << read.error().message;
    EXPECT_EQ(*read, row.start) << row.given << " is " << text(*read);
  }
}

TEST(Moment, RoundsToTheEdgeThatIsAskedFor) {
  struct Row {
    const char* given;
    Time start, next;
  };
  const Row rows[] = {
      {"now/s", floor<seconds>(kNow), floor<seconds>(kNow) + seconds(1)},
      {"now/m", floor<minutes>(kNow), floor<minutes>(kNow) + minutes(1)},
      {"now/h", kDay + hours(13), kDay + hours(14)},
      {"now/d", kDay, kDay + days(1)},
      {"now-1d/d", kDay - days(1), kDay},
      {"now/w", kDay - days(2), kDay + days(5)},  // from Monday
      {"now/M", sys_days(year(2026) / 3 / 1), sys_days(year(2026) / 4 / 1)},
      {"now-1M/M", sys_days(year(2026) / 2 / 1), sys_days(year(2026) / 3 / 1)},
      {"now/y", sys_days(year(2026) / 1 / 1), sys_days(year(2027) / 1 / 1)},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.given);
    EXPECT_EQ(moment(row.given, kNow, Edge::start).value(), row.start);
    EXPECT_EQ(moment(row.given, kNow, Edge::end).value(), row.next - milliseconds(1));
    EXPECT_EQ(moment(row.given, kNow, Edge::behind).value(), row.next);
  }
  EXPECT_EQ(moment("now/d+1h", kNow).value(), kDay + hours(1));
  EXPECT_EQ(moment("2026-03-25", kNow, Edge::end).value(), kDay) << "a date is its first moment, always";
}

TEST(Moment, MakesRangesWithoutTheirEndForThoseWhoWantIt) {
  EXPECT_EQ(range("now/d", "now/d", kNow)->to, kDay + days(1) - milliseconds(1));
  const auto without = range("now/d", "now/d", kNow, "--from", "--to", Edge::behind).value();
  EXPECT_EQ(without.from, kDay);
  EXPECT_EQ(without.to, kDay + days(1));
}

TEST(Moment, GoesToTheLastDayOfAShorterMonth) {
  const Time march = sys_days(year(2026) / 3 / 31);
  EXPECT_EQ(moment("now-1M", march).value(), Time(sys_days(year(2026) / 2 / 28)));
  EXPECT_EQ(moment("now-1y", sys_days(year(2024) / 2 / 29)).value(), Time(sys_days(year(2023) / 2 / 28)));
}

TEST(Moment, SaysHowFarItUnderstoodAndWhatWouldDo) {
  struct Row {
    const char* given;
    const char* says;
  };
  const Row rows[] = {
      {"", "\"\" is no time: there is nothing; write now-1h"},
      {"yesterday", "\"yesterday\" is no time: no time begins so"},
      {"NOW", "no time begins so"},
      {"now-", "understood up to \"now-\", then a number should come here"},
      {"now-1", "understood up to \"now-1\", then the units are ms s m h d w M y"},
      {"now-1x", "understood up to \"now-1\", then \"x\": the units are"},
      {"now--1h", "then \"-1h\": a number should come here"},
      {"now 1h", "understood up to \"now\", then \"1h\""},
      {"nowadays", "understood up to \"now\", then \"adays\""},
      {"now-1h/", "rounding is to s m h d w M or y"},
      {"now/q", "understood up to \"now/\", then \"q\": rounding"},
      {"-5", "understood up to \"-5\", then the units"},
      {"15 m", "then \"m\": the units"},
      {"1h30", "understood up to \"1h30\", then the units"},
      {"now-500y", "outside the years 1970 to 2200"},
      {"now-99999999999y", "outside the years"},
      {"now-99999999999h", "too far away"},
      {"now-9999999999999999999s", "too large"},
      {"1969-12-31T23:59:59Z", "outside the years"},
      {"2200-01-02", "outside the years"},
      {"99999999999999", "outside the years"},
      {"99999999999999999999", "outside the years"},
      {"999999999999999999999", "more than 20 digits"},
      {"1774437241.", "digits should follow the point"},
      {"1774437241.5.5", "understood up to \"1774437241.5\", then \".5\": a number ends here"},
      {"1774437241500.5", "then \".5\": a number ends here"},
      {"2026-13-01",
       "understood up to \"2026-\", then \"13-01\": two digits of a month should come here, at most 12"},
      {"2026-00-01", "no such day"},
      {"2026-02-30", "that month has no such day"},
      {"2026-1-1", "then \"1-1\": two digits of a month"},
      {"26-01-01", "a year of four digits"},
      {"2026-03-25x", "understood up to \"2026-03-25\", then \"x\": T, a space or the end"},
      {"2026-03-25T25:00:00Z", "two digits of hours should come here, at most 23"},
      {"2026-03-25T10", "understood up to \"2026-03-25T10\", then \":\" should come here"},
      {"2026-03-25T10:00:00+99:00", "the offset's two digits of hours"},
      {"2026-03-25T10:00:00Zulu", "then \"ulu\": the time ends here"},
      {"2026-03-25T10:00:00 CET", "Z, +02:00 or the end would do here"},
      {"\x1b[31mred", "\" [31mred\" is no time"},
  };
  for (const auto& row : rows) {
    const auto read = moment(row.given, kNow);
    ASSERT_FALSE(read) << row.given << " is " << text(*read);
    EXPECT_EQ(read.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(read.error().message, HasSubstr(row.says)) << row.given;
    EXPECT_THAT(read.error().message, testing::Not(HasSubstr("\x1b")));
  }
}

TEST(TimeRange, HasAnEndAfterItsStart) {
  const auto day = range("now-1d/d", "now/d", kNow);
  ASSERT_TRUE(day);
  EXPECT_EQ(day->from, kDay - days(1));
  EXPECT_EQ(day->to, kDay + days(1) - milliseconds(1));
  struct Row {
    const char *from, *to, *says;
  };
  const Row rows[] = {
      {"now", "now-1h",
       "--to \"now-1h\" (2026-03-25T12:14:01.500Z) is not after --from \"now\" (2026-03-25T13:14:01.500Z)"},
      {"now", "now", "is not after"},
      {"soon", "now", "--from: \"soon\" is no time"},
      {"now-1h", "later", "--to: \"later\" is no time"},
  };
  for (const auto& row : rows) {
    const auto read = range(row.from, row.to, kNow);
    ASSERT_FALSE(read) << row.from << " to " << row.to;
    EXPECT_EQ(read.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(read.error().message, HasSubstr(row.says));
  }
  EXPECT_THAT(range("soon", "now", kNow, "start", "end").error().message, HasSubstr("start: \"soon\""));
}

TEST(Duration, IsReadAndWritten) {
  struct Row {
    const char* given;
    milliseconds length;
    const char* written;
  };
  const Row rows[] = {
      {"500ms", milliseconds(500), "500ms"}, {"90s", seconds(90), "1m30s"},  {"90", seconds(90), "1m30s"},
      {"0.5", milliseconds(500), "500ms"},   {"1.5h", minutes(90), "1h30m"}, {"5m", minutes(5), "5m"},
      {"1h30m", minutes(90), "1h30m"},       {"2d", days(2), "2d"},          {"1w", weeks(1), "7d"},
      {"1h0m5s", seconds(3605), "1h5s"},     {" 5m ", minutes(5), "5m"},
  };
  for (const auto& row : rows) {
    const auto read = duration(row.given);
    ASSERT_TRUE(read) << row.given << ": " << read.error().message;
    EXPECT_EQ(*read, row.length) << row.given;
    EXPECT_EQ(duration_text(*read), row.written);
  }
  EXPECT_EQ(duration_text(milliseconds(0)), "0s");
  EXPECT_EQ(duration_text(-seconds(90)), "-1m30s");
  EXPECT_EQ(duration_text(milliseconds::min()).front(), '-');
}

TEST(Duration, IsPositiveAndOfKnownUnits) {
  struct Row {
    const char *given, *says;
  };
  const Row rows[] = {
      {"", "there is nothing; write 500ms"},
      {"0", "longer than nothing"},
      {"0s", "longer than nothing"},
      {"-5m", "\"-5m\" is no duration: a number should come here"},
      {"5x", "understood up to \"5\", then \"x\": the units are ms s m h d w"},
      {"5m5", "understood up to \"5m5\", then the units"},
      {"1M", "months and years have no length of their own"},
      {"1y", "months and years"},
      {"m", "a number should come here"},
      {"101y", "months"},
      {"99999w", "more than 100 years"},
      {"99999999999999999999", "too large"},
      {"1.h", "digits should follow the point"},
      {"1h1.5m", "then \".5m\""},
  };
  for (const auto& row : rows) {
    const auto read = duration(row.given);
    ASSERT_FALSE(read) << row.given;
    EXPECT_EQ(read.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(read.error().message, HasSubstr(row.says)) << row.given;
  }
}

TEST(Text, IsRfc3339InUtcWithMilliseconds) {
  EXPECT_EQ(text(kNow), "2026-03-25T13:14:01.500Z");
  EXPECT_EQ(text(Time()), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(moment(text(kNow), Time()).value(), kNow);
}

}  // namespace
}  // namespace tunnelctl::times
