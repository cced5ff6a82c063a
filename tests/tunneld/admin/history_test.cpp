#include "tunneld/admin/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

namespace tunneld::admin {
namespace {

using namespace std::chrono_literals;
using Aggregation = History::Aggregation;
using WallTime = History::WallTime;
using testing::HasSubstr;

/// A full hour and day of UTC.
const WallTime kMidnight{std::chrono::sys_days{std::chrono::year{2026} / 3 / 1}};

/// Counters that grow by the same amount every ten seconds.
class Daemon {
 public:
  explicit Daemon(WallTime start = kMidnight) : now(start) { history.add(totals, now); }
  void run(std::chrono::seconds time, std::uint64_t requests = 1, std::chrono::milliseconds took = 10ms) {
    for (auto left = time; left > 0s; left -= 10s) {
      totals.requests += requests;
      for (std::uint64_t i = 0; i < requests; ++i) sketch.observe(took);
      totals.durations = sketch.read();
      now += 10s;
      history.add(totals, now);
    }
  }
  History history;
  History::Totals totals{};
  DurationSketch sketch;
  WallTime now;
};

struct Folder {
  Folder() {
    std::string name = "/tmp/tunneld-history-XXXXXX";
    path = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

TEST(History, KnowsNothingBeforeTheSecondReading) {
  Daemon daemon;
  EXPECT_TRUE(daemon.history.periods(1h, Aggregation::raw, daemon.now).empty());
  daemon.run(10s);
  EXPECT_EQ(daemon.history.periods(1h, Aggregation::raw, daemon.now).size(), 1U);
}

TEST(History, KeepsDifferencesOfCountersAndHighestLevels) {
  Daemon daemon;
  daemon.totals.errors = 2;
  daemon.totals.bytes_in = 100;
  daemon.totals.queue = 7;
  daemon.totals.connections = 3;
  daemon.run(10s, 5);
  daemon.totals.queue = 1;
  daemon.run(10s, 5);
  const auto raw = daemon.history.periods(1h, Aggregation::raw, daemon.now);
  ASSERT_EQ(raw.size(), 2U);
  EXPECT_EQ(raw[0].begin, kMidnight);
  EXPECT_EQ(raw[0].length, 10s);
  EXPECT_EQ(raw[0].requests, 5U);
  EXPECT_EQ(raw[0].errors, 2U);
  EXPECT_EQ(raw[1].errors, 0U);
  EXPECT_EQ(raw[0].bytes_in, 100U);
  const auto hour = daemon.history.periods(1h, Aggregation::hourly, daemon.now);
  ASSERT_EQ(hour.size(), 1U);
  EXPECT_EQ(hour[0].requests, 10U);
  EXPECT_EQ(hour[0].length, 20s);
  EXPECT_EQ(hour[0].queue, 7U);
  EXPECT_EQ(hour[0].connections, 3U);
}

TEST(History, HoldsAnHourOfTensOfSeconds) {
  Daemon daemon;
  daemon.run(2h);
  const auto raw = daemon.history.periods(24h, Aggregation::raw, daemon.now);
  EXPECT_EQ(raw.size(), 360U);
  EXPECT_EQ(raw.front().begin, kMidnight + 1h);
}

TEST(History, HoldsAWeekOfHoursAndDaysAndNoMore) {
  Daemon daemon;
  daemon.run(24h * 9);
  const auto hours = daemon.history.periods(24h * 30, Aggregation::hourly, daemon.now);
  EXPECT_EQ(hours.size(), 168U);
  for (const auto& hour : hours) EXPECT_EQ(hour.requests, 360U);
  EXPECT_EQ(hours.back().begin, kMidnight + 24h * 9 - 1h);
  const auto days = daemon.history.periods(24h * 30, Aggregation::daily, daemon.now);
  EXPECT_EQ(days.size(), 7U);
  for (const auto& day : days) {
    EXPECT_EQ(day.requests, 8640U);
    EXPECT_EQ(day.length, 24h);
  }
}

TEST(History, APercentileOfAnHourIsThatOfItsRequests) {
  Daemon daemon;
  // Ninety fast requests and ten slow ones in other ten seconds: an average of p95s would say 505 ms.
  daemon.run(10s, 90, 10ms);
  daemon.run(10s, 10, 1000ms);
  const auto hour = daemon.history.periods(1h, Aggregation::hourly, daemon.now).at(0);
  EXPECT_NEAR(hour.percentile(0.50), 0.010, 0.00125);
  EXPECT_NEAR(hour.percentile(0.95), 1.0, 0.125);
  EXPECT_NEAR(hour.percentile(0.90), 0.010, 0.00125);
}

TEST(History, SumsTheLastMinutes) {
  Daemon daemon;
  daemon.run(10min, 2);
  const auto five = daemon.history.sum(5min, daemon.now);
  EXPECT_EQ(five.requests, 60U);
  EXPECT_EQ(five.length, 5min);
  EXPECT_EQ(five.begin, daemon.now - 5min);
  EXPECT_EQ(History().sum(5min, kMidnight).requests, 0U);
}

TEST(History, AWindowLeavesOlderHoursOut) {
  Daemon daemon;
  daemon.run(30h);
  EXPECT_EQ(daemon.history.periods(24h, Aggregation::hourly, daemon.now).size(), 24U);
  EXPECT_EQ(daemon.history.periods(1h, Aggregation::hourly, daemon.now).size(), 1U);
}

TEST(History, ACounterThatBeganAnewIsNotNegative) {
  Daemon daemon;
  daemon.run(10s, 100);
  daemon.totals.requests = 3;
  daemon.history.add(daemon.totals, daemon.now += 10s);
  EXPECT_EQ(daemon.history.periods(1h, Aggregation::raw, daemon.now).back().requests, 3U);
}

TEST(History, AClockThatIsSetBackChangesNoOldHour) {
  Daemon daemon(kMidnight + 2h);
  daemon.run(10min);
  daemon.now -= 1h;
  daemon.history.add(daemon.totals, daemon.now);
  daemon.run(10min);
  const auto hours = daemon.history.periods(24h, Aggregation::hourly, kMidnight + 3h);
  ASSERT_EQ(hours.size(), 1U);
  EXPECT_EQ(hours[0].begin, kMidnight + 2h);
  EXPECT_EQ(hours[0].requests, 120U);
}

TEST(History, AClockThatIsSetForwardLeavesAGap) {
  Daemon daemon;
  daemon.run(10min);
  daemon.now += 5h;
  daemon.history.add(daemon.totals, daemon.now);
  daemon.run(10min);
  const auto hours = daemon.history.periods(24h, Aggregation::hourly, daemon.now);
  ASSERT_EQ(hours.size(), 2U);
  EXPECT_EQ(hours[1].begin, kMidnight + 5h);
  EXPECT_LE(hours[1].length, 11min);
}

TEST(History, IsToldAsJson) {
  Daemon daemon;
  daemon.run(20s, 4, 20ms);
  const auto json = daemon.history.json("1h", 1h, Aggregation::raw, daemon.now);
  EXPECT_EQ(json["window"], "1h");
  EXPECT_EQ(json["aggregation"], "raw");
  ASSERT_EQ(json["periods"].size(), 2U);
  EXPECT_EQ(json["periods"][0]["time"], "2026-03-01T00:00:00.000Z");
  EXPECT_EQ(json["periods"][0]["requests"], 4);
  EXPECT_NEAR(json["periods"][0]["p95Ms"].get<double>(), 20, 2.5);
}

TEST(History, SurvivesARestart) {
  const Folder folder;
  const auto file = folder.path / "history.json";
  Daemon before;
  before.run(30h, 3);
  ASSERT_TRUE(before.history.save(file));
  struct stat about {};
  ASSERT_EQ(::stat(file.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777U, 0600U);

  History after;
  ASSERT_TRUE(after.load(file, before.now));
  const auto old_hours = before.history.periods(24h * 7, Aggregation::hourly, before.now);
  const auto hours = after.periods(24h * 7, Aggregation::hourly, before.now);
  ASSERT_EQ(hours.size(), old_hours.size());
  for (std::size_t i = 0; i < hours.size(); ++i) {
    EXPECT_EQ(hours[i].begin, old_hours[i].begin);
    EXPECT_EQ(hours[i].requests, old_hours[i].requests);
    EXPECT_EQ(hours[i].percentile(0.95), old_hours[i].percentile(0.95));
  }
  EXPECT_EQ(after.periods(24h * 7, Aggregation::daily, before.now).size(), 2U);
  // And goes on in the hour that was going on.
  History::Totals fresh{};
  after.add(fresh, before.now + 10s);
  fresh.requests = 9;
  after.add(fresh, before.now + 20s);
  EXPECT_EQ(after.periods(24h * 7, Aggregation::daily, before.now + 20s).back().requests,
            old_hours.back().requests * 6 + 9);
}

TEST(History, AWeekLaterNothingOfItIsLeft) {
  const Folder folder;
  const auto file = folder.path / "history.json";
  Daemon before;
  before.run(3h);
  ASSERT_TRUE(before.history.save(file));
  History after;
  ASSERT_TRUE(after.load(file, before.now + 24h * 8));
  EXPECT_TRUE(after.periods(24h * 365, Aggregation::hourly, before.now + 24h * 8).empty());
}

TEST(History, NoFileIsAnEmptyHistory) {
  const Folder folder;
  History history;
  EXPECT_TRUE(history.load(folder.path / "none.json", kMidnight));
}

TEST(History, GarbageIsSaidAndLeavesItEmpty) {
  const Folder folder;
  const auto file = folder.path / "history.json";
  const std::string hour =
      R"({"begin":1772323200,"length":10,"requests":1,"errors":0,"bytes_in":0,"bytes_out":0,"connections":0,"queue":0,"in_flight":0,"durations":)";
  const std::string texts[] = {
      "",
      "{",
      "[]",
      "\0\0\0",
      R"({"version":2,"hours":[],"days":[]})",
      R"({"version":1,"hours":[]})",
      R"({"version":1,"hours":{},"days":[]})",
      R"({"version":1,"hours":[{}],"days":[]})",
      R"({"version":1,"hours":[{"begin":-3600}],"days":[]})",
      R"({"version":1,"hours":[)" + hour + R"([[999,1]]}],"days":[]})",
      R"({"version":1,"hours":[)" + hour + R"([["x",1]]}],"days":[]})",
      R"({"version":1,"hours":[)" + hour + "[]}," + hour + R"([]}],"days":[]})",
      std::string(5 * 1024 * 1024, ' '),
  };
  for (const auto& text : texts) {
    SCOPED_TRACE(text.substr(0, 60));
    std::ofstream(file) << text;
    History history;
    const auto loaded = history.load(file, kMidnight + 1h);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(loaded.error().message, HasSubstr(file.string()));
    EXPECT_TRUE(history.periods(24h * 7, Aggregation::hourly, kMidnight + 1h).empty());
  }
  // The row that the broken ones were made of is good.
  std::ofstream(file) << R"({"version":1,"hours":[)" + hour + R"([[3,1]]}],"days":[]})";
  History history;
  EXPECT_TRUE(history.load(file, kMidnight + 1h));
  EXPECT_EQ(history.periods(24h, Aggregation::hourly, kMidnight + 1h).size(), 1U);
}

}  // namespace
}  // namespace tunneld::admin
