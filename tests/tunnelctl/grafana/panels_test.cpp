#include "tunnelctl/grafana/panels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::grafana {
namespace {

using testing::HasSubstr;

const Json kClassic = Json::parse(R"({
  "title": "Board", "templating": {"list": [{"name": "job", "type": "query", "current": {"value": "a"}}]},
  "panels": [
    {"id": 1, "type": "stat", "title": "Up", "datasource": {"uid": "prom"}, "targets": [{"refId": "A", "expr": "up"}]},
    {"id": 2, "type": "stat", "title": "Twice"}, {"id": 3, "type": "stat", "title": "Twice"},
    {"id": 7, "type": "row", "title": "More", "panels": [{"id": 9, "type": "logs", "title": "Folded", "targets": [{"refId": "L", "expr": "{a=\"b\"}"}]}]},
    {"id": 10, "type": "stat", "title": "1"}]})");

const Json kV2 = Json::parse(R"({
  "title": "Board 2", "layout": {}, "variables": [{"kind": "QueryVariable", "spec": {"name": "job", "current": {"value": "a"}}}],
  "elements": {"panel-1": {"kind": "Panel", "spec": {"id": 1, "title": "Up", "vizConfig": {"kind": "VizConfig", "group": "stat"},
    "data": {"spec": {"queries": [{"spec": {"refId": "A", "query": {"group": "prometheus", "datasource": {"name": "prom"}, "spec": {"expr": "up"}}}}]}}}}}})");

std::string where(const Json& content, const Selector& selector) {
  const auto place = find(content, selector);
  return place ? written(*place) : place.error().message;
}

TEST(PanelSelector, FindsPartsByWhatDoesNotMove) {
  EXPECT_EQ(where(kClassic, {}), "$");
  EXPECT_EQ(where(kClassic, {.panel = "9"}), "$.panels[3].panels[0]");
  EXPECT_EQ(where(kClassic, {.panel = "Folded", .query = "L"}), "$.panels[3].panels[0].targets[0]");
  EXPECT_EQ(where(kClassic, {.variable = "job"}), "$.templating.list[0]");
  EXPECT_EQ(where(kV2, {.panel = "Up"}), "$.elements.panel-1.spec");
  EXPECT_EQ(where(kV2, {.panel = "1", .query = "A"}), "$.elements.panel-1.spec.data.spec.queries[0].spec");
  EXPECT_EQ(where(kV2, {.variable = "job"}), "$.variables[0].spec");
}

TEST(PanelSelector, RefusesWhatFitsSeveralAndNamesWhatThereIs) {
  EXPECT_THAT(where(kClassic, {.panel = "Twice"}),
              HasSubstr("names 2 panels: 2 \"Twice\" at $.panels[1], 3 \"Twice\" at $.panels[2]"));
  EXPECT_THAT(where(kClassic, {.panel = "1"}), HasSubstr("\"1\" names 2 panels"))
      << "an id and another's title";
  EXPECT_THAT(where(kClassic, {.panel = "nope"}), HasSubstr("there are: 1 \"Up\", 2 \"Twice\""));
  EXPECT_THAT(where(kClassic, {.panel = "9", .query = "Z"}),
              HasSubstr("no query is called \"Z\"; there are: L"));
  EXPECT_THAT(where(kClassic, {.panel = "2", .query = "A"}), HasSubstr("there are: none"));
  EXPECT_THAT(where(kClassic, {.query = "A"}), HasSubstr("name the panel too"));
  EXPECT_THAT(where(kClassic, {.panel = "1", .variable = "job"}), HasSubstr("cannot stand beside"));
  EXPECT_THAT(where(kClassic, {.variable = "nope"}),
              HasSubstr("no variable is called \"nope\"; there are: job"));
}

TEST(Summary, CountsPanelsInFoldedRowsAndReadsBothSchemas) {
  const auto classic = summary({.uid = "b", .title = "Board", .version = 3, .content = kClassic});
  ASSERT_EQ(classic["panels"].size(), 5U);
  EXPECT_EQ(classic["panels"][3], Json::parse(R"({"id": 9, "type": "logs", "title": "Folded", "row": "More",
                                                   "queries": [{"ref": "L", "datasource": "", "query": "{a=\"b\"}"}]})"));
  EXPECT_EQ(classic["panels"][0]["queries"][0],
            Json({{"ref", "A"}, {"datasource", "prom"}, {"query", "up"}}));
  EXPECT_EQ(classic["variables"], Json::parse(R"([{"name": "job", "type": "query", "value": "a"}])"));
  const auto v2 =
      summary({.uid = "b", .title = "Board 2", .version = 3, .schema = "v2beta1", .content = kV2});
  EXPECT_EQ(v2["panels"], Json::parse(R"([{"id": 1, "type": "stat", "title": "Up", "row": "",
                                           "queries": [{"ref": "A", "datasource": "prom", "query": "up"}]}])"));
  EXPECT_EQ(v2["variables"][0]["name"], "job");
}

TEST(Summary, SurvivesDashboardsOfAnyShape) {
  for (const char* text :
       {"{}", R"({"panels": {}})", R"({"panels": [1, null, {"targets": 7}], "templating": [], "tags": 1})",
        R"({"elements": [], "layout": 1})", R"({"elements": {"a": 1, "b": {"spec": []}}})"}) {
    Dashboard dashboard{.content = Json::parse(text)};
    EXPECT_NO_THROW(summary(dashboard)) << text;
    dashboard.schema = "v2beta1";
    EXPECT_NO_THROW(summary(dashboard)) << text;
  }
}

}  // namespace
}  // namespace tunnelctl::grafana
