#include "tunnelctl/grafana/queries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_api.h"

namespace tunnelctl::grafana {
namespace {

using support::ScriptedApi;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const times::Range kHour{times::Time(std::chrono::milliseconds(1767225600000)),
                         times::Time(std::chrono::milliseconds(1767229200000))};
const Datasource kSource{.uid = "ch-1", .name = "ClickHouse", .type = "clickhouse"};

/// Of two columns: a time and a value that JSON cannot hold.
constexpr const char* kFrame = R"({"schema":{"name":"up","refId":"A","meta":{"executedQueryString":"Expr: up",
     "notices":[{"severity":"warning","text":"one series was dropped"}]},
   "fields":[{"name":"Time","type":"time"},{"name":"Value","type":"number","labels":{"job":"api"}}]},
 "data":{"values":[[1767225600000,1767225600123,null],[1,null,2.5]],"entities":[null,{"NaN":[1],"Inf":[],"NegInf":[]}]}})";

std::string results(const std::string& inside) {
  return "{\"results\":{" + inside + "}}";
}

/// Asks an API that answers so; what was sent comes back through `body`.
Result<QueryResult> asked(unsigned status, const std::string& answer, const std::vector<Json>& queries,
                          Json* body = nullptr) {
  const ScriptedApi api({{"/api/ds/query", [&](const auto& asked) {
                            if (body != nullptr) *body = Json::parse(asked.body);
                            return ScriptedApi::Says{status, answer};
                          }}});
  auto server = Server::make({.url = api.url()});
  return query(*server, kSource, queries, kHour);
}

TEST(SourceQuery, FrameIsReadByColumns) {
  const auto frames = frames_of("A", Json::parse("{\"frames\":[" + std::string(kFrame) + "]}"));
  ASSERT_EQ(frames.size(), 1U);
  const auto& frame = frames.front();
  EXPECT_EQ(frame.rows(), 3U);
  ASSERT_EQ(frame.columns.size(), 2U);
  EXPECT_THAT(frame.columns[0].values,
              ElementsAre("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.123Z", Json(nullptr)));
  EXPECT_THAT(frame.columns[1].values, ElementsAre(1, "NaN", 2.5));
  EXPECT_EQ(frame.columns[1].heading(), "Value {job=\"api\"}");
  EXPECT_THAT(frame.notices, ElementsAre("one series was dropped"));
}

TEST(SourceQuery, FramesOfOtherShapesHoldNothing) {
  for (const char* text : {"{}", "null", R"({"frames":[{}]})", R"({"frames":["x",3]})",
                           R"({"frames":[{"schema":{"fields":[{"name":"a"}]},"data":{"values":[3]}}]})",
                           R"({"frames":[{"schema":{"fields":[{"name":"a"}]},"data":{"values":[]}}]})"})
    for (const auto& frame : frames_of("A", Json::parse(text))) EXPECT_THAT(frame.columns, IsEmpty()) << text;
  const auto far =
      frames_of("A", Json::parse(R"({"frames":[{"schema":{"fields":[{"name":"a","type":"number"}]},
      "data":{"values":[[1]],"entities":[{"NaN":[7,-1,"x"]}]}}]})"));
  EXPECT_THAT(far.front().columns.front().values, ElementsAre(1)) << "no entity beyond the rows";
}

TEST(SourceQuery, WhatIsMissingIsFilledIn) {
  Json body;
  const auto result = asked(
      200, results("\"A\":{\"frames\":[" + std::string(kFrame) + "]}"),
      {{{"rawSql", "select 1"}}, {{"refId", "A"}, {"rawSql", "select 2"}, {"maxDataPoints", 7}}}, &body);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(body["from"], "1767225600000") << "numbers are refused";
  EXPECT_EQ(body["to"], "1767229200000");
  EXPECT_EQ(body["queries"][0], Json::parse(R"({"rawSql":"select 1","refId":"B","intervalMs":15000,
      "maxDataPoints":1000,"datasource":{"type":"clickhouse","uid":"ch-1"}})"));
  EXPECT_EQ(body["queries"][1]["refId"], "A");
  EXPECT_EQ(body["queries"][1]["maxDataPoints"], 7);
  EXPECT_THAT(result->executed, ElementsAre("A: Expr: up"));
}

TEST(SourceQuery, ThatIsNoneIsNotSent) {
  struct Case {
    std::vector<Json> queries;
    const char* message;
  };
  const Case cases[] = {
      {{}, "there is no query"},
      {{"select 1"}, "query 1: is no JSON object"},
      {{Json::object(), {{"refId", 3}}}, "query 2: refId: must be a text"},
      {{{{"datasource", "Prometheus"}}}, "query 1: datasource: must read"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.message);
    const auto result = asked(200, "{}", one.queries);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(result.error().message, HasSubstr(one.message));
  }
}

TEST(SourceQuery, ThatFailsBesideAnotherLeavesTheOthersFrames) {
  const auto result = asked(400,
                            results("\"A\":{\"frames\":[" + std::string(kFrame) +
                                    R"(]},"B":{"error":"parse error at char 5","status":400})"),
                            {Json::object()});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->frames.size(), 1U);
  EXPECT_THAT(result->errors, ElementsAre("B: parse error at char 5"));
}

TEST(SourceQuery, ThatFailsAloneIsAnErrorInTheSourcesWords) {
  struct Case {
    unsigned status;
    std::string answer;
    Error::Kind kind;
    const char* message;
  };
  const Case cases[] = {
      {400, results(R"("A":{"error":"bad_data: invalid parameter \"query\": 1:6: parse error"})"),
       Error::Kind::bad_input, "A: bad_data: invalid parameter \"query\": 1:6: parse error"},
      // As Grafana 12.4 answers for a data source that it does not reach.
      {400,
       results(R"("A":{"error":"Post \"http://127.0.0.1:33019/api/v1/query\": dial tcp 127.0.0.1:33019: )"
               R"(connect: connection refused","errorSource":"downstream","status":502,"frames":[]})"),
       Error::Kind::unavailable, "connect: connection refused"},
      {400, results(R"("A":{"error":"no rights","status":403},"B":{"error":"bad","status":400})"),
       Error::Kind::denied, "A: no rights"},
      {200, results(R"("A":{"error":"bad","status":400})"), Error::Kind::bad_input, "A: bad"},
      {404, R"({"message":"Data source not found"})", Error::Kind::not_found, "Data source not found"},
      {500, R"({"message":"Query data error"})", Error::Kind::unavailable, "Query data error"},
      {200, "<html>", Error::Kind::unavailable, "the answer holds no results"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.message);
    const auto result = asked(one.status, one.answer, {Json::object()});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, one.kind);
    EXPECT_THAT(result.error().message, HasSubstr(one.message));
  }
}

}  // namespace
}  // namespace tunnelctl::grafana
