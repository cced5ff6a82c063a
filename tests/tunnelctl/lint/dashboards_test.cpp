#include <gmock/gmock.h>

#include <functional>

#include "tests/tunnelctl/lint/lint_support.h"

namespace tunnelctl::lint {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

struct Break {
  const char* finding;
  std::function<void(Json&)> break_it;
};

TEST(DashboardLint, FindsWhatIsWrongWithADashboard) {
  const Break rows[] = {
      {"uneditable-dashboard health", [](Json& it) { it.erase("editable"); }},
      {"dashboard-timezone health", [](Json& it) { it["timezone"] = "Europe/Berlin"; }},
      {"schema-version health", [](Json& it) { it["schemaVersion"] = 16; }},
      {"schema-version health", [](Json& it) { it["schemaVersion"] = 99; }},
      {"template-on-time-change-reload health", [](Json& it) { it["templating"]["list"][1]["refresh"] = 1; }},
      {"template-label-promql health",
       [](Json& it) { it["templating"]["list"][1]["query"] = "label_values(up{, job)"; }},
      {"template-job health", [](Json& it) { it["templating"]["list"][1]["multi"] = false; }},
      {"template-instance health", [](Json& it) { it["templating"]["list"][2].erase("allValue"); }},
      {"variable-unused health",
       [](Json& it) {
         it["templating"]["list"].push_back({{"type", "textbox"}, {"name", "search"}, {"query", ""}});
       }},
      {"dashboard-link health",
       [](Json& it) {
         it["links"] = Json::array({{{"url", "/d/gone/gone?x=1"}}});
       }},
      {"dashboard-link health",
       [](Json& it) {
         it["links"] = Json::array({{{"url", "/d/health?viewPanel=99"}}});
       }},
      {"grid-overlap health/2",
       [](Json& it) {
         it["panels"].push_back(panel(2));
         it["panels"][1]["gridPos"] = {{"x", 6}, {"y", 12}, {"w", 12}, {"h", 8}};
       }},
      {"grid-width health/1", [](Json& it) { it["panels"][0]["gridPos"]["x"] = 13; }},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.finding);
    auto pack = good_pack();
    row.break_it(pack.dashboards[0].json);
    EXPECT_THAT(found(pack), ElementsAre(row.finding));
  }
}

TEST(DashboardLint, LetsGoodThingsPass) {
  const std::function<void(Json&)> rows[] = {
      [](Json& it) { it["timezone"] = "utc"; },
      [](Json& it) {
        it["links"] = Json::array({{{"url", "/d/health/x?viewPanel=panel-1"}}});
      },
      [](Json& it) {
        it["links"] = Json::array({{{"url", "/d/${other}/x"}}});
      },
      [](Json& it) {
        it["links"] = Json::array({{{"url", "https://elsewhere.example/d/x"}}});
      },
      [](Json& it) {
        it["templating"]["list"].push_back({{"type", "adhoc"}, {"name", "filters"}});
      },
      // Beside each other, and inside a collapsed row.
      [](Json& it) {
        it["panels"].push_back(panel(2));
        it["panels"][1]["gridPos"] = {{"x", 12}, {"y", 8}, {"w", 12}, {"h", 8}};
      },
      [](Json& it) {
        Json row = {{"id", 5}, {"type", "row"}, {"gridPos", {{"x", 0}, {"y", 40}, {"w", 24}, {"h", 1}}}};
        row["panels"] = Json::array({panel(6)});
        row["panels"][0]["gridPos"] = {{"x", 0}, {"y", 8}, {"w", 12}, {"h", 8}};
        it["panels"].push_back(row);
      },
      [](Json& it) { it["panels"][0]["repeat"] = "instance"; },
  };
  for (const auto& row : rows) {
    auto pack = good_pack();
    row(pack.dashboards[0].json);
    EXPECT_THAT(found(pack), IsEmpty());
  }
}

TEST(DashboardLint, WantsVariablesForDataSourceJobAndInstance) {
  auto pack = good_pack();
  pack.dashboards[0].json["templating"]["list"] = Json::array();
  const auto all = found(pack);
  for (const char* check : {"template-datasource health", "template-job health", "template-instance health",
                            "variable-undefined health/1", "variable-undefined health/1/A"})
    EXPECT_THAT(all, Contains(check));
}

TEST(DashboardLint, TakesAJobVariableOfAnyName) {
  auto pack = good_pack();
  std::string text = pack.dashboards[0].json.dump();
  for (std::size_t at = 0; (at = text.find("$job", at)) != std::string::npos; at += 4)
    text.replace(at, 4, "$svc");
  pack.dashboards[0].json = Json::parse(text);
  pack.dashboards[0].json["templating"]["list"][1]["name"] = "svc";
  EXPECT_THAT(found(pack), IsEmpty());
}

TEST(DashboardLint, FindsWhatIsWrongWithAPanel) {
  const Break rows[] = {
      {"panel-title-description health/1", [](Json& it) { it["title"] = ""; }},
      {"panel-title-description health/1", [](Json& it) { it.erase("description"); }},
      {"panel-units health/1", [](Json& it) { it["fieldConfig"]["defaults"].erase("unit"); }},
      {"panel-units health/1", [](Json& it) { it["fieldConfig"]["defaults"]["unit"] = "MB"; }},
      {"panel-units health/1",  // an empty list maps nothing
       [](Json& it) {
         it["fieldConfig"]["defaults"].erase("unit");
         it["fieldConfig"]["defaults"]["mappings"] = Json::array();
       }},
      {"panel-datasource health/1", [](Json& it) { it["datasource"]["uid"] = "PBFA97CFB590B2093"; }},
      {"panel-datasource health/1", [](Json& it) { it["datasource"] = "Prometheus"; }},
      {"panel-type-graph health/1", [](Json& it) { it["type"] = "graph"; }},
      {"panel-type-graph health/1", [](Json& it) { it["type"] = "grafana-piechart-panel"; }},
      {"panel-refid health/1", [](Json& it) { it["targets"].push_back(it["targets"][0]); }},
      {"panel-reduce health/1", [](Json& it) { it["type"] = "stat"; }},
      {"panel-reduce health/1", [](Json& it) { it["type"] = "table"; }},
      {"panel-thresholds health/1",
       [](Json& it) {
         it["fieldConfig"]["defaults"]["thresholds"]["steps"] = Json::array({{{"value", 0}}});
       }},
      {"panel-thresholds health/1",
       [](Json& it) {
         it["fieldConfig"]["defaults"]["thresholds"]["steps"] =
             Json::array({{{"value", nullptr}}, {{"value", 5}}, {{"value", 2}}});
       }},
      {"panel-gauge-range health/1",
       [](Json& it) {
         it["type"] = "gauge";
         it["targets"][0]["instant"] = true;
         it["fieldConfig"]["defaults"].erase("max");
       }},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.finding);
    auto pack = good_pack();
    row.break_it(panel_of(pack));
    EXPECT_THAT(found(pack), ElementsAre(row.finding));
  }
}

TEST(DashboardLint, FindsAPanelThatAsksForNothing) {
  auto pack = good_pack();
  pack.dashboards[0].json["panels"].push_back(panel(2));
  pack.dashboards[0].json["panels"][1]["targets"] = Json::array();
  EXPECT_THAT(found(pack), ElementsAre("panel-no-targets health/2"));
}

TEST(DashboardLint, LetsGoodPanelsPass) {
  const std::function<void(Json&)> rows[] = {
      [](Json& it) { it["fieldConfig"]["defaults"]["unit"] = "suffix:streams"; },
      [](Json& it) {
        it["fieldConfig"]["defaults"].erase("unit");
        it["fieldConfig"]["defaults"]["mappings"] = Json::array({{{"type", "value"}}});
      },
      [](Json& it) {
        it["fieldConfig"]["defaults"].erase("unit");
        it["fieldConfig"]["overrides"] =
            Json::array({{{"properties", Json::array({{{"id", "unit"}, {"value", "s"}}})}}});
      },
      [](Json& it) { it["datasource"]["uid"] = "-- Mixed --"; },
      [](Json& it) {
        it["type"] = "stat";
        it["options"]["reduceOptions"]["calcs"] = Json::array({"lastNotNull"});
      },
      [](Json& it) {
        it["type"] = "table";
        it["transformations"] = Json::array({{{"id", "reduce"}}});
      },
      [](Json& it) {
        it["type"] = "gauge";
        it["targets"][0]["instant"] = true;
      },
      [](Json& it) {
        it["fieldConfig"]["defaults"]["thresholds"]["steps"] =
            Json::array({{{"value", nullptr}}, {{"value", 2}}, {{"value", 5}}});
      },
  };
  for (const auto& row : rows) {
    auto pack = good_pack();
    row(panel_of(pack));
    EXPECT_THAT(found(pack), IsEmpty());
  }
}

TEST(DashboardLint, LeavesListsTextsAndLibraryPanelsAlone) {
  for (const Json& extra : {Json{{"type", "text"}}, Json{{"type", "alertlist"}}, Json{{"type", "row"}},
                            Json{{"type", "stat"}, {"libraryPanel", {{"uid", "x"}}}}}) {
    auto pack = good_pack();
    Json added = extra;
    added["id"] = 2;
    pack.dashboards[0].json["panels"].push_back(added);
    EXPECT_THAT(found(pack), IsEmpty()) << extra;
  }
}

TEST(DashboardLint, FindsTheFieldThatNamesNoDataSource) {
  auto pack = good_pack();
  panel_of(pack)["targets"].push_back({{"refId", "B"}, {"datasourceUid", "prom"}, {"expr", ""}});
  EXPECT_THAT(found(pack), ElementsAre("target-datasource-uid-field health/1/B"));
}

struct Query {
  const char* finding;  // "" if there is none
  const char* expr;
};

TEST(DashboardLint, JudgesPrometheusQueries) {
  const Query rows[] = {
      {"", kGoodQuery},
      {"target-promql", "sum(rate(tunnel_requests_total{job=~\"$job\"}[$__rate_interval])"},
      {"target-job", "sum(rate(tunnel_requests_total{instance=~\"$instance\"}[$__rate_interval]))"},
      {"target-instance",
       "sum(rate(tunnel_requests_total{job=~\"$job\", instance=\"a:1\"}[$__rate_interval]))"},
      {"target-rate-interval",
       "sum(rate(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"}[5m]))"},
      {"target-rate-interval",
       "sum(rate(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"}[$__interval]))"},
      {"", "sum(increase(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"}[5m]))"},
      {"", "sum(rate(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"}[$__range]))"},
      {"counter-without-rate", "sum(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"})"},
      {"fragile-topk",
       "topk(5, sum by (status) (rate(tunnel_requests_total{job=~\"$job\", "
       "instance=~\"$instance\"}[$__rate_interval])))"},
      {"unknown-label",
       "sum by (tier) (rate(tunnel_requests_total{job=~\"$job\", "
       "instance=~\"$instance\"}[$__rate_interval]))"},
      {"same-label-ratio",
       "rate(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\", "
       "status=\"success\"}[$__rate_interval]) / "
       "rate(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"}[$__rate_interval])"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.expr);
    auto pack = good_pack();
    panel_of(pack)["targets"].push_back(target(row.expr, "B"));
    if (*row.finding == '\0')
      EXPECT_THAT(found(pack), IsEmpty());
    else
      EXPECT_THAT(found(pack), ElementsAre(std::string(row.finding) + " health/1/B"));
  }
}

TEST(DashboardLint, LetsAnInstantQueryChooseItsRange) {
  auto pack = good_pack();
  panel_of(pack)["targets"][0]["expr"] =
      "topk(5, sum by (status) (rate(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"}[5m])))";
  panel_of(pack)["targets"][0]["instant"] = true;
  EXPECT_THAT(found(pack), IsEmpty());
}

TEST(DashboardLint, JudgesLokiQueries) {
  const Query rows[] = {
      {"", "{service=\"tunneld\"} | json | level=\"error\""},
      {"", "sum(count_over_time({service=\"tunneld\"} |= \"[5m]\" [$__auto]))"},
      {"target-logql", "{service=\"tunneld\""},
      {"target-logql-auto", "sum(count_over_time({service=\"tunneld\"}[5m]))"},
      {"target-logql-auto", "sum(count_over_time({service=\"tunneld\"}[$__interval]))"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.expr);
    auto pack = good_pack();
    auto& json = pack.dashboards[0].json;
    json["templating"]["list"].push_back({{"type", "datasource"}, {"name", "loki"}, {"query", "loki"}});
    json["panels"].push_back(panel(2, "logs"));
    json["panels"][1]["targets"] = Json::array({logs_target(row.expr)});
    if (*row.finding == '\0')
      EXPECT_THAT(found(pack), IsEmpty());
    else
      EXPECT_THAT(found(pack), ElementsAre(std::string(row.finding) + " health/2/A"));
  }
}

}  // namespace
}  // namespace tunnelctl::lint
