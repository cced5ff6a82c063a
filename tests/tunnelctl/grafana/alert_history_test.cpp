#include "tunnelctl/grafana/alert_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_api.h"

namespace tunnelctl::grafana {
namespace {

using support::ScriptedApi;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kHistory = "/api/v1/rules/history";
constexpr const char* kNotes = "/api/annotations";

times::Time at(std::string_view text) {
  return *times::moment(text, times::Time{});
}

// As Grafana 12.4 was seen to answer: its own milliseconds, taken for seconds.
constexpr const char* kFrame = R"({"schema":{"name":"states","fields":[
   {"name":"time","type":"time","labels":{"from":"state-history","ruleUID":"s-abc"}},
   {"name":"text","type":"string","labels":{"from":"state-history","ruleUID":"s-abc"}},
   {"name":"prev","type":"string","labels":{"from":"state-history","ruleUID":"s-abc"}},
   {"name":"next","type":"string","labels":{"from":"state-history","ruleUID":"s-abc"}},
   {"name":"data","type":"string","labels":{"from":"state-history","ruleUID":"s-abc"}}]},
 "data":{"values":[[1795260020000000],
   ["proper abc {alertname=proper abc, grafana_folder=Eval folder, note=one, two, tunnel=alpha} - A=0.970000"],
   ["Normal"],["Alerting"],["{\"values\":{\"A\":0.97,\"C\":1}}"]]}})";

// As the history that is kept in Loki is written.
constexpr const char* kLokiFrame = R"json({"schema":{"fields":[
   {"name":"time","type":"time"},{"name":"line","type":"other"},{"name":"labels","type":"other"}]},
 "data":{"values":[[1795260020000],
   [{"schemaVersion":1,"previous":"Pending","current":"Alerting (Error)","error":"no such host","values":{"B":2},
     "ruleTitle":"High errors","ruleUID":"r9","labels":{"tunnel":"beta"}}],
   [{"from":"state-history","group":"g"}]]}})json";

const HistoryQuery kDay{.rule_uid = "s-abc",
                        .range = {at("2026-11-21T00:00:00Z"), at("2026-11-22T00:00:00Z")}};

ScriptedApi::Answer says(unsigned status, std::string body) {
  return [=](const auto&) { return ScriptedApi::Says{status, body}; };
}

Result<History> asked(const ScriptedApi& api, const HistoryQuery& query = kDay) {
  auto server = Server::make({.url = api.url()});
  return alert_history(*server, query);
}

TEST(AlertHistory, IsReadFromTheHistoryAmongAnnotations) {
  const auto changes = changes_of_frame(Json::parse(kFrame));
  ASSERT_EQ(changes.size(), 1U);
  const auto& one = changes.front();
  EXPECT_EQ(one.time, at("2026-11-21T11:20:20Z"));
  EXPECT_EQ(one.rule_uid, "s-abc");
  EXPECT_EQ(one.rule, "proper abc");
  EXPECT_EQ(one.previous, "Normal");
  EXPECT_EQ(one.current, "Alerting");
  EXPECT_EQ(one.labels, Json::parse(R"({"alertname":"proper abc","grafana_folder":"Eval folder",
                                        "note":"one, two","tunnel":"alpha"})"));
  EXPECT_EQ(one.values, Json::parse(R"({"A":0.97,"C":1})"));
}

TEST(AlertHistory, IsReadFromTheHistoryInLoki) {
  const auto changes = changes_of_frame(Json::parse(kLokiFrame));
  ASSERT_EQ(changes.size(), 1U);
  const auto& one = changes.front();
  EXPECT_EQ(one.time, at("2026-11-21T11:20:20Z"));
  EXPECT_EQ(one.rule_uid, "r9");
  EXPECT_EQ(one.rule, "High errors");
  EXPECT_EQ(one.previous, "Pending");
  EXPECT_EQ(one.current, "Alerting (Error)");
  EXPECT_EQ(one.error, "no such host");
  EXPECT_EQ(one.labels, Json::parse(R"({"tunnel":"beta"})"));
}

TEST(AlertHistory, OfOtherShapesHoldsNothing) {
  for (const char* text : {"{}", "[]", "null", R"({"schema":{"fields":{}},"data":{"values":[]}})",
                           R"({"schema":{"fields":[{"name":"time"}]},"data":{"values":["x"]}})"})
    EXPECT_THAT(changes_of_frame(Json::parse(text)), IsEmpty()) << text;
}

TEST(AlertHistory, IsAskedForInSecondsWithTheRule) {
  const ScriptedApi api({{kHistory, says(200, kFrame)}});
  const auto history = asked(api);
  ASSERT_TRUE(history) << history.error().message;
  EXPECT_EQ(history->source, "history");
  EXPECT_EQ(history->changes.size(), 1U);
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/v1/rules/history?from=1795219200&to=1795305600&limit=5000"
                                       "&ruleUID=s-abc"));
}

TEST(AlertHistory, OutsideTheRangeIsLeftOutWhateverTheServerDoes) {
  const ScriptedApi api({{kHistory, says(200, kFrame)}, {kNotes, says(200, "[]")}});
  auto query = kDay;
  query.range = {at("2026-11-20T00:00:00Z"), at("2026-11-21T11:20:19Z")};
  const auto history = asked(api, query);
  ASSERT_TRUE(history) << history.error().message;
  EXPECT_THAT(history->changes, IsEmpty());
}

TEST(AlertHistory, ThatTheServerCannotTellComesFromTheAnnotations) {
  constexpr const char* kNote =
      R"([{"id":34,"alertName":"proper for 30s","newState":"Alerting","prevState":"Pending",
    "time":1795260050000,"timeEnd":1795260050000,"text":"proper for 30s {alertname=proper for 30s, tunnel=alpha} - A=0.97",
    "data":{"values":{"A":0.97}}},
    {"id":35,"alertName":"proper for 30s","newState":"Normal","prevState":"Alerting","time":1795260060000,
    "text":"proper for 30s {tunnel=alpha} - "}])";
  const std::pair<unsigned, const char*> kinds[] = {
      {500, R"({"message":"ruleUID is required to query annotations"})"}, {404, ""}, {400, "{}"}};
  for (const auto& [status, body] : kinds) {
    SCOPED_TRACE(status);
    const ScriptedApi api({{kHistory, says(status, body)}, {kNotes, says(200, kNote)}});
    auto query = kDay;
    query.rule_uid.clear();
    const auto history = asked(api, query);
    ASSERT_TRUE(history) << history.error().message;
    EXPECT_EQ(history->source, "annotations");
    ASSERT_EQ(history->changes.size(), 2U);
    EXPECT_EQ(history->changes[0].current, "Normal") << "the newest first";
    EXPECT_EQ(history->changes[1].rule, "proper for 30s");
    EXPECT_EQ(history->changes[1].labels["tunnel"], "alpha");
    EXPECT_EQ(history->changes[1].values["A"], 0.97);
    EXPECT_THAT(api.lines().back(), HasSubstr("type=alert&from=1795219200000&to=1795305600000"));
  }
}

TEST(AlertHistory, SaysWhenThereIsMoreThanTheLimit) {
  constexpr const char* kTwo = R"({"schema":{"fields":[{"name":"time"},{"name":"next"}]},
    "data":{"values":[[1795260020000,1795260030000],["Pending","Alerting"]]}})";
  const ScriptedApi api({{kHistory, says(200, kTwo)}});
  auto query = kDay;
  query.limit = 1;
  const auto one = asked(api, query);
  ASSERT_TRUE(one);
  EXPECT_TRUE(one->more);
  ASSERT_EQ(one->changes.size(), 1U);
  EXPECT_EQ(one->changes.front().current, "Alerting");
  query.limit = 0;
  const auto all = asked(api, query);
  EXPECT_FALSE(all->more);
  EXPECT_EQ(all->changes.size(), 2U);
}

TEST(AlertHistory, ThatTheServerCutIsSaidToHaveMore) {
  Json times = Json::array(), states = Json::array();
  for (int i = 0; i < 5000; ++i) {
    times.push_back(1795260020000 + i);
    states.push_back("Alerting");
  }
  const Json frame{{"schema", {{"fields", {{{"name", "time"}}, {{"name", "next"}}}}}},
                   {"data", {{"values", {times, states}}}}};
  const ScriptedApi api({{kHistory, says(200, frame.dump())}});
  auto query = kDay;
  for (const std::size_t limit : {0, 5000}) {
    query.limit = limit;
    const auto history = asked(api, query);
    ASSERT_TRUE(history) << history.error().message;
    EXPECT_EQ(history->changes.size(), 5000U);
    EXPECT_TRUE(history->more) << "it was asked for 5000 at most";
  }
}

TEST(AlertHistory, ThatNobodyMayReadIsDenied) {
  const ScriptedApi api({{kHistory, says(403, R"({"message":"Permissions needed: alert.rules:read"})")}});
  const auto history = asked(api);
  ASSERT_FALSE(history);
  EXPECT_EQ(history.error().kind, Error::Kind::denied);
  EXPECT_THAT(history.error().message, HasSubstr("alert.rules:read"));
}

}  // namespace
}  // namespace tunnelctl::grafana
