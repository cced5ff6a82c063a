#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunnelctl/incident/desk_story.h"
#include "tunnelctl/incident/desk.h"

using namespace tunnelctl::incident;
using support::at;
using support::told;
using testing::HasSubstr;

namespace {

Alert alert(const std::string& id, bool firing = true) {
  Alert made;
  made.id = id;
  made.firing = firing;
  made.labels = {{"alertname", "TunnelDown"}, {"instance", "host-" + id}, {"severity", "warning"}};
  made.annotations = {{"summary", "the tunnel is down"}};
  made.starts = at(0);
  return made;
}

AlertGroup group(std::vector<Alert> alerts, bool firing = true) {
  AlertGroup made;
  made.origin = "alertmanager";
  made.key = R"({}:{alertname="TunnelDown"})";
  made.name = "TunnelDown";
  made.firing = firing;
  made.labels = {{"alertname", "TunnelDown"}, {"severity", "warning"}};
  made.alerts = std::move(alerts);
  return made;
}

std::vector<Intent> tell(Desk& desk, const AlertGroup& what, double second) {
  auto told = desk.alerts(what, at(second));
  EXPECT_TRUE(told) << told.error().message;
  return told ? *told : std::vector<Intent>();
}

}  // namespace

TEST(DeskAlerts, AGroupIsOneIncidentFromItsFirstAlertToItsLast) {
  Desk desk({});
  const auto opened = tell(desk, group({alert("1")}), 5);
  ASSERT_EQ(told(opened), "open 1");
  EXPECT_EQ(opened[0].opening.title, "TunnelDown: the tunnel is down");
  EXPECT_EQ(opened[0].opening.severity, Severity::warning);
  EXPECT_EQ(opened[0].opening.at, at(0)) << "since it fires, not since it was sent";
  EXPECT_THAT(opened[0].opening.dedup_key, testing::StartsWith("alert/TunnelDown/"));
  const auto joined = tell(desk, group({alert("1"), alert("2")}), 10);
  ASSERT_EQ(told(joined), "note 1");
  EXPECT_THAT(joined[0].note.body, HasSubstr("`instance=host-2`"));
  EXPECT_EQ(told(tell(desk, group({alert("1"), alert("2")}), 20)), "") << "a repetition is no news";
  EXPECT_EQ(told(tell(desk, group({alert("1", false), alert("2")}), 30)), "");
  EXPECT_EQ(told(tell(desk, group({alert("1", false), alert("2", false)}, false), 40)), "resolve 1");
  EXPECT_EQ(told(tell(desk, group({alert("1", false), alert("2", false)}, false), 50)), "");
}

TEST(DeskAlerts, OneThatIsMissingInItsWholeGroupIsOver) {
  Desk desk({});
  tell(desk, group({alert("1"), alert("2")}), 0);
  EXPECT_EQ(told(tell(desk, group({alert("2")}), 10)), "") << "its end was told while nobody listened";
  auto cut = group({alert("1")});
  cut.truncated = 5;
  EXPECT_EQ(told(tell(desk, cut, 20)), "note 1") << "2 may be among those that were left out";
  EXPECT_EQ(told(tell(desk, group({alert("1", false)}), 30)), "resolve 1");
}

TEST(DeskAlerts, AResolvedGroupWithoutAlertsEndsIt) {
  Desk desk({});
  tell(desk, group({alert("1"), alert("2")}), 0);
  EXPECT_EQ(told(tell(desk, group({}, false), 10)), "resolve 1");
}

TEST(DeskAlerts, WithoutAGroupKeyEachAlertIsForItself) {
  Desk desk({});
  auto loose = group({alert("1"), alert("2")});
  loose.key.clear();
  EXPECT_EQ(told(tell(desk, loose, 0)), "open 1, open 2");
  loose.alerts = {alert("2", false)};
  loose.firing = false;
  EXPECT_EQ(told(tell(desk, loose, 10)), "resolve 2");
}

TEST(DeskAlerts, GroupsOfTheSameNameFromElsewhereAreOthers) {
  Desk desk({});
  auto other = group({alert("1")});
  other.origin = "grafana";
  EXPECT_EQ(told(tell(desk, group({alert("1")}), 0)), "open 1");
  EXPECT_EQ(told(tell(desk, other, 0)), "open 2");
}

TEST(DeskAlerts, AnAlertThatFlapsStaysOneIncident) {
  Desk desk({});
  std::size_t opens = 0;
  for (int flap = 0; flap < 20; ++flap) {
    for (const auto& one : tell(desk, group({alert("1")}), flap * 15))
      opens += one.kind == Intent::Kind::open ? 1 : 0;
    tell(desk, group({alert("1", false)}, false), flap * 15 + 7);
  }
  EXPECT_EQ(opens, 1u);
}

TEST(DeskAlerts, MoreThanCanBeKeptIsRefusedSoThatTheSenderTriesAgain) {
  DeskOptions few;
  few.max_cases = 1;
  Desk desk(few);
  tell(desk, group({alert("1")}), 0);
  auto other = group({alert("1")});
  other.key = "another";
  const auto refused = desk.alerts(other, at(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::unavailable);
  EXPECT_EQ(told(tell(desk, group({alert("1", false)}, false), 2)), "resolve 1") << "ends always get through";
}
