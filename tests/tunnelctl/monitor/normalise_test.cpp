#include "tunnelctl/monitor/normalise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::monitor {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> paths(const std::vector<Difference>& all) {
  std::vector<std::string> result;
  for (const auto& one : all) result.push_back(one.path);
  return result;
}

TEST(Normalise, WhatTheServerAndTheEditorAddMakesNoDifference) {
  struct Case {
    Kind kind;
    const char *sent, *shown;
  };
  const Case cases[] = {
      {Kind::dashboard, R"({"uid":"a","title":"A","tags":["y","x"],"panels":[{"id":1,"type":"stat"}]})",
       R"({"id":7,"version":3,"uid":"a","title":"A","tags":["x","y"],"editable":true,"graphTooltip":0,"links":[],
           "fiscalYearStartMonth":0,"liveNow":false,"weekStart":"","timepicker":{},
           "panels":[{"id":1,"type":"stat","pluginVersion":"12.4.0","transparent":false,"links":[],"description":""}]})"},
      {Kind::rule_group,
       R"({"title":"g","interval":30,"rules":[{"uid":"r","title":"R","for":"300s","data":[{"refId":"B","relativeTimeRange":{"from":0,"to":0}}]}]})",
       R"({"title":"g","interval":30,"rules":[{"id":4,"uid":"r","orgID":1,"folderUID":"f","ruleGroup":"g","title":"R","for":"5m",
           "keep_firing_for":"0s","updated":"2026","provenance":"api","isPaused":false,"notification_settings":null,"record":null,
           "annotations":{},"labels":{},"data":[{"refId":"B","queryType":""}]}]})"},
      {Kind::routes, R"({"receiver":"a","group_wait":"60s","object_matchers":[["b","=","1"],["a","=","2"]]})",
       R"({"receiver":"a","group_wait":"1m","object_matchers":[["a","=","2"],["b","=","1"]],"routes":[],"continue":false})"},
      {Kind::template_group, R"({"name":"t","template":"{{ define \"x\" }}{{ end }}\n"})",
       R"({"name":"t","template":"{{ define \"x\" }}{{ end }}"})"},
      {Kind::contact_point, R"({"uid":"u","settings":{"maxAlerts":5.0}})",
       R"({"uid":"u","settings":{"maxAlerts":5},"disableResolveMessage":false})"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(name(one.kind));
    const Json sent = normalise(one.kind, Json::parse(one.sent));
    const Json shown = normalise(one.kind, Json::parse(one.shown));
    EXPECT_THAT(paths(differences(shown, sent)), IsEmpty()) << shown << "\n" << sent;
    EXPECT_EQ(normalise(one.kind, shown), shown) << "a second time changes nothing";
  }
}

TEST(Normalise, WhatSomebodyChangedStays) {
  const auto before = normalise(
      Kind::dashboard,
      Json::parse(R"({"uid":"a","editable":false,"refresh":"1m","panels":[{"id":1,"title":"A"}]})"));
  EXPECT_FALSE(
      differences(
          before,
          normalise(
              Kind::dashboard,
              Json::parse(R"({"uid":"a","editable":true,"refresh":"1m","panels":[{"id":1,"title":"A"}]})")))
          .empty());
  EXPECT_THAT(
      paths(differences(
          before,
          normalise(Kind::dashboard,
                    Json::parse(
                        R"({"uid":"a","editable":false,"refresh":"5m","panels":[{"id":1,"title":"B"}]})")))),
      ElementsAre("/panels[1]/title", "/refresh"));
  const auto rules = normalise(Kind::rule_group, Json::parse(R"({"rules":[{"uid":"r","isPaused":true}]})"));
  EXPECT_THAT(
      paths(differences(rules, normalise(Kind::rule_group, Json::parse(R"({"rules":[{"uid":"r"}]})")))),
      ElementsAre("/rules[r]/isPaused"));
}

TEST(Differences, AnInsertedPanelIsOne) {
  const auto before = Json::parse(R"({"panels":[{"id":1,"title":"A"},{"id":2,"title":"B"}]})");
  const auto after =
      Json::parse(R"({"panels":[{"id":1,"title":"A"},{"id":9,"title":"New"},{"id":2,"title":"B"}]})");
  EXPECT_THAT(paths(differences(before, after)), ElementsAre("/panels[9]"));
  EXPECT_THAT(paths(differences(after, before)), ElementsAre("/panels[9]"));
}

TEST(Differences, AnotherOrderIsToldOnce) {
  EXPECT_THAT(
      paths(differences(Json::parse(R"([{"id":1},{"id":2}])"), Json::parse(R"([{"id":2},{"id":1}])"))),
      ElementsAre(""));
}

TEST(UidOf, IsShortPlainAndTheSameOnEveryRun) {
  EXPECT_EQ(uid_of("tunnel-TunnelDown"), "tunnel-TunnelDown");
  const std::string longer(60, 'x');
  EXPECT_EQ(uid_of(longer).size(), 40U);
  EXPECT_EQ(uid_of(longer), uid_of(longer));
  EXPECT_NE(uid_of(longer), uid_of(longer + "y"));
  EXPECT_NE(uid_of("a b"), uid_of("a-b")) << "what was replaced must not make two names one";
}

}  // namespace
}  // namespace tunnelctl::monitor
