#include "tunnelctl/grafana/alert_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::grafana {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

/// A query, what reduces it, and the threshold: a rule that works.
const Json kRule = Json::parse(R"({
  "uid": "r1", "title": "Errors", "folderUID": "f", "ruleGroup": "g", "condition": "C", "noDataState": "OK", "execErrState": "Error",
  "for": "5m", "labels": {"severity": "critical"}, "annotations": {"summary": "s"},
  "data": [
    {"refId": "A", "datasourceUid": "prom", "relativeTimeRange": {"from": 600, "to": 0},
     "model": {"refId": "A", "expr": "up", "instant": true, "datasource": {"type": "prometheus", "uid": "prom"}}},
    {"refId": "B", "datasourceUid": "__expr__", "model": {"refId": "B", "type": "reduce", "expression": "A", "reducer": "last"}},
    {"refId": "C", "datasourceUid": "__expr__", "model": {"refId": "C", "type": "threshold", "expression": "B",
     "conditions": [{"evaluator": {"type": "gt", "params": [0.05]}}]}}]})");

std::vector<std::string> problems_with(const char* pointer, const Json& value) {
  Json rule = kRule;
  rule[Json::json_pointer(pointer)] = value;
  return check_rule(rule);
}

std::vector<std::string> problems_without(const char* parent, const char* key) {
  Json rule = kRule;
  rule[Json::json_pointer(parent)].erase(key);
  return check_rule(rule);
}

TEST(AlertRuleCheck, FindsNothingInARuleThatWorks) {
  EXPECT_THAT(check_rule(kRule), IsEmpty());
  Json recording = kRule;
  for (const char* key : {"condition", "noDataState", "execErrState"}) recording.erase(key);
  recording["record"] = {{"metric", "m"}, {"from", "B"}};
  EXPECT_THAT(check_rule(recording), IsEmpty());
}

// The server answers 201 to each, and the rule never works; or it says no more than "bad request data".
TEST(AlertRuleCheck, FindsWhatTheServerTakesOrRefusesWithoutAReason) {
  struct Case {
    std::vector<std::string> problems;
    const char* message;
  };
  const Case cases[] = {
      {problems_with("/condition", "X"), "condition: \"X\" names no query; there are: A, B, C"},
      {problems_with("/condition", ""), "condition: is missing; there are: A, B, C"},
      {problems_with("/data/1/refId", "A"), "data[1].refId: \"A\" is there twice"},
      {problems_without("/data/0", "relativeTimeRange"),
       "data[0].relativeTimeRange: is missing: {\"from\": 600, \"to\": 0}, in seconds before now"},
      {problems_with("/data/0/relativeTimeRange/from", 0),
       "data[0].relativeTimeRange: from must be a larger number of seconds than to"},
      {problems_with("/data/0/datasourceUid", ""), "data[0].datasourceUid: is missing"},
      {problems_with("/data/0/model/refId", "Z"),
       "data[0].model.refId: \"Z\" is another than the query's, \"A\""},
      {problems_with("/data/1/model/expression", "Z"), "data[1].model.expression: \"Z\" names no query"},
      {problems_with("/data/1/model/type", "reducer"), "data[1].model.type: \"reducer\" is unknown"},
      {problems_with("/data", Json::array()), "data: must be a list with at least one query"},
      {problems_with("/for", "1.5m"), "for: \"1.5m\" is no duration such as \"5m\" or \"1h30m\""},
      {problems_with("/for", 60), "for: 60 is no duration"},
      {problems_with("/keep_firing_for", "-1m"), "keep_firing_for: \"-1m\" is no duration"},
      {problems_with("/noDataState", "Ok"),
       "noDataState: \"Ok\" is unknown; there are: Alerting, KeepLast, NoData, OK"},
      {problems_without("", "execErrState"),
       "execErrState: is missing; there are: Alerting, Error, KeepLast, OK"},
      {problems_with("/uid", "a b"), "uid: \"a b\" has other characters than letters, digits, - and _"},
      {problems_with("/uid", std::string(41, 'u')), "has 41 characters; 40 are allowed"},
      {problems_with("/labels/severity", 1), "labels.severity: 1 must be text: \"...\""},
      {problems_with("/labels/grafana_folder", "x"), "labels.grafana_folder: is set by Grafana itself"},
      {problems_with("/annotations/__dashboardUid__", "x"),
       "annotations: __dashboardUid__ and __panelId__ only work together"},
      {problems_with("/notification_settings", Json::object()), "notification_settings.receiver: is missing"},
      {problems_with("/folder", "f"), "folder: is no member of an alert rule"},
      {problems_with("/data/0/expr", "up"), "data[0].expr: is unknown here"},
      {problems_without("", "folderUID"), "folderUID: is missing"},
      {problems_without("", "title"), "title: is missing"},
      {problems_with("/title", std::string(191, 't')), "title: has more than 190 characters"},
  };
  for (const auto& one : cases)
    EXPECT_THAT(one.problems, Contains(HasSubstr(one.message))) << testing::PrintToString(one.problems);
}

// The alert that people copy: queryType is ignored, so it is a range query, and each evaluation fails.
TEST(AlertRuleCheck, FindsARangeQueryWhereOneValueIsNeeded) {
  Json naive = kRule;
  naive["condition"] = "A";
  naive["data"] = Json::array({kRule["data"][0]});
  naive["data"][0]["model"].erase("instant");
  naive["data"][0]["queryType"] = "instant";
  EXPECT_THAT(
      check_rule(naive),
      testing::ElementsAre(HasSubstr("data[0].queryType: \"instant\" has no effect"),
                           HasSubstr("condition: query A is a range query, which has no single value")));
  Json straight = kRule;
  straight["data"][2]["model"]["expression"] = "A";
  EXPECT_THAT(check_rule(straight), IsEmpty()) << "a threshold on an instant query works";
  straight["data"][0]["model"]["instant"] = false;
  EXPECT_THAT(check_rule(straight),
              Contains(HasSubstr("data[2].model.expression: query A is a range query")));
}

TEST(AlertRuleCheck, ReadsTheQueriesOfMathAndClassicConditions) {
  Json math = kRule;
  math["data"][2]["model"] = {{"type", "math"}, {"expression", "$B > 0 && ${A} < 5 || $Z"}};
  EXPECT_THAT(check_rule(math),
              testing::ElementsAre(HasSubstr("data[2].model.expression: \"Z\" names no query")));
  Json classic = kRule;
  classic["data"][2]["model"] = {{"type", "classic_conditions"},
                                 {"conditions", {{{"query", {{"params", {"Q"}}}}}}}};
  EXPECT_THAT(check_rule(classic),
              testing::ElementsAre(HasSubstr("data[2].model.conditions: a condition names no query")));
}

TEST(AlertRuleCheck, SurvivesWrongTypesEverywhere) {
  for (const char* wrong : {"null", "[]", "7", "\"x\"", "{}"}) {
    const auto value = Json::parse(wrong);
    check_rule(value);
    check_rule_change(value);
    for (const auto& item : kRule.items())
      EXPECT_NO_THROW(problems_with(("/" + item.key()).c_str(), value)) << item.key() << " " << wrong;
    for (const char* pointer : {"/data/0", "/data/0/model", "/data/2/model", "/data/0/relativeTimeRange",
                                "/data/2/model/conditions"})
      EXPECT_NO_THROW(problems_with(pointer, value)) << pointer << " " << wrong;
  }
}

TEST(AlertRuleChange, IsLaidOverTheRuleAndKeepsTheRest) {
  const auto rule = merged(
      kRule,
      Json::parse(R"({"for": "10m", "labels": {"team": "a", "severity": null}, "annotations": null})"));
  EXPECT_EQ(rule["for"], "10m");
  EXPECT_EQ(rule["labels"], Json({{"team", "a"}}));
  EXPECT_FALSE(rule.contains("annotations"));
  EXPECT_EQ(rule["data"], kRule["data"]);
  EXPECT_THAT(check_rule_change(Json::parse(R"({"fro": "10m"})")),
              Contains(HasSubstr("fro: is no member of an alert rule")));
  EXPECT_THAT(check_rule_change(Json::parse(R"({"for": "10m", "labels": {"team": null}})")), IsEmpty());
  EXPECT_THAT(check_rule_change(Json::parse(R"({"labels": {"team": 7}})")),
              Contains(HasSubstr("must be text")));
}

}  // namespace
}  // namespace tunnelctl::grafana
