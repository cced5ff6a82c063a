#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/tunnelctl/monitor/small_pack.h"

namespace {

using namespace tunnelctl;
using namespace tunnelctl::monitor;
using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// --- Through Grafana; shapes as version 12.4 was seen to answer -------------------------------------

Says grafana_query(const Asked& asked) {
  const auto has = [&](const char* text) { return asked.body.find(text) != std::string::npos; };
  if (!has("\"uid\":\"m1\"")) return {404, R"({"message":"Data source not found"})"};
  if (has("broken"))
    return {
        400,
        R"({"results":{"A":{"error":"bad_data: parse error","errorSource":"downstream","status":400,"frames":[]}}})"};
  if (has("planned") || has("none"))
    return {200,
            R"({"results":{"A":{"status":200,"frames":[{"schema":{"fields":[]},"data":{"values":[]}}]}}})"};
  return {
      200,
      R"({"results":{"A":{"status":200,"frames":[{"schema":{"fields":[{"type":"time"},{"type":"number"}]},)"
      R"("data":{"values":[[1],[0.42]]}}]}}})"};
}

Api grafana_api() {
  return {
      {"/api/frontend/settings", always(200, R"({"appUrl":"http://localhost:3000/"})")},
      {"/api/datasources",
       always(200, R"([{"uid":"m1","name":"Main","type":"prometheus","isDefault":true}])")},
      {"/api/datasources/uid/m1/health", always(200, R"({"status":"OK","message":"fine"})")},
      {"/api/datasources/uid/m1/resources/api/v1/label/instance/values",
       always(200, R"({"status":"success","data":["a:1"]})")},
      {"/api/ds/query", grafana_query},
      {"/api/prometheus/grafana/api/v1/rules",
       always(
           200,
           R"({"status":"success","data":{"groups":[{"name":"g","folderUid":"small","rules":[{"uid":"small-Down",
           "name":"Down","state":"inactive","health":"ok","lastEvaluation":"2026-11-21T11:23:00Z"}]}]}})")},
      {"/api/dashboards/uid/one",
       always(200, R"({"dashboard":{"panels":[{"id":1},{"id":8,"panels":[{"id":7}]}]}})")},
  };
}

Verified verify_through_grafana(const ScriptedApi& api, const pack::Pack& pack, VerifyOptions options = {}) {
  auto server = grafana::Server::make({.url = api.url(), .read_only = true});
  if (!server) throw std::runtime_error(server.error().message);
  const std::vector<pack::Pack> packs{pack};
  return verify(*server, packs, options, {});
}

TEST(VerifyThroughGrafana, AsksEverythingAndWritesNothing) {
  const ScriptedApi api(grafana_api());
  const Verified result = verify_through_grafana(api, small_pack());
  EXPECT_THAT(told(result),
              ElementsAre("data source datasource ok", "data source loki skipped", "query one/1/A data",
                          "query one/2/A allowed", "query one/2/B empty", "query one/3/A skipped",
                          "query one/4/A{instance=a:1} data", "query rule/Down data", "rule rule/Down ok",
                          "link /d/one ok", "link /d/one?viewPanel=7 ok", "link /d/two?viewPanel=9 missing"));
  EXPECT_EQ(the(result, "one/1/A").datasource, "Main");
  EXPECT_THAT(the(result, "/d/two?viewPanel=9", Check::Kind::link).message,
              HasSubstr("no dashboard with the uid two"));
  for (const auto& line : api.lines())
    EXPECT_TRUE(line.starts_with("GET ") || line == "POST /api/ds/query") << line;
}

TEST(VerifyThroughGrafana, SendsTheTimesAsTextAndTheQueryAsThePanelWantsIt) {
  const ScriptedApi api(grafana_api());
  verify_through_grafana(api, small_pack(), {.from = "1000", .to = "4600", .parallel = 1, .rules = false});
  std::vector<Json> bodies;
  for (const auto& seen : api.server().seen())
    if (seen.head.starts_with("POST")) bodies.push_back(Json::parse(seen.body));
  ASSERT_GE(bodies.size(), 2U);
  EXPECT_EQ(bodies[0]["from"], "1000000");
  EXPECT_EQ(bodies[0]["to"], "4600000");
  const Json& range = bodies[0]["queries"][0];
  EXPECT_EQ(range["datasource"], Json::parse(R"({"type":"prometheus","uid":"m1"})"));
  EXPECT_EQ(range["range"], true);
  EXPECT_EQ(range["instant"], false);
  EXPECT_EQ(range["expr"], "rate(good{job=~\".*tunneld.*\"}[1m])");
  EXPECT_EQ(bodies[1]["queries"][0]["instant"], true);
}

TEST(VerifyThroughGrafana, TakesTheProxyWhereResourcesAreClosed) {
  for (const unsigned status : {401U, 403U, 500U}) {
    Api api = grafana_api();
    api["/api/datasources/uid/m1/resources/api/v1/label/instance/values"] = always(status, "{}");
    api["/api/datasources/proxy/uid/m1/api/v1/label/instance/values"] =
        always(200, R"({"status":"success","data":["p:1"]})");
    const ScriptedApi server(api);
    EXPECT_EQ(the(verify_through_grafana(server, small_pack()), "one/4/A{instance=p:1}").status,
              Status::data);
  }
}

TEST(VerifyThroughGrafana, TellsAQuerysErrorInTheDataSourcesWords) {
  pack::Pack pack = small_pack();
  pack.dashboards[0].json["panels"][0]["targets"][0]["expr"] = "broken";
  pack.dashboards[0].json["panels"][1]["datasource"]["uid"] = "elsewhere";
  const ScriptedApi api(grafana_api());
  const Verified result = verify_through_grafana(api, pack);
  EXPECT_EQ(the(result, "one/1/A").message, "bad_data: parse error");
  EXPECT_EQ(the(result, "one/2/A").status, Status::error);
  EXPECT_THAT(the(result, "one/2/A").message, HasSubstr("404: Data source not found"));
}

TEST(VerifyThroughGrafana, SaysHowToNameTheDataSourceWhenNoneCanBeChosen) {
  Api api = grafana_api();
  api["/api/datasources"] = always(
      200, R"([{"uid":"a","name":"A","type":"prometheus"},{"uid":"b","name":"B","type":"prometheus"}])");
  const ScriptedApi server(api);
  const Verified undecided = verify_through_grafana(server, small_pack());
  EXPECT_THAT(the(undecided, "datasource", Check::Kind::datasource).message,
              HasSubstr("--datasource datasource=UID"));
  EXPECT_EQ(the(undecided, "one/1/A").status, Status::error);
  EXPECT_THAT(server.lines(), Not(Contains("POST /api/ds/query")));

  VerifyOptions options;
  options.compile.datasources["datasource"] = {"m1", "Main", "prometheus"};
  options.compile.datasources["loki"] = {};
  const ScriptedApi named(grafana_api());
  EXPECT_EQ(the(verify_through_grafana(named, small_pack(), options), "one/1/A").status, Status::data);
}

TEST(VerifyThroughGrafana, JudgesARuleByItsHealthBecauseItsStateHidesErrors) {
  struct Case {
    const char* rule;
    Status status;
    const char* says;
  };
  const Case cases[] = {
      {R"("state":"inactive","health":"error","lastError":"boom","lastEvaluation":"2026-11-21T11:23:00Z")",
       Status::error, "boom"},
      {R"("state":"inactive","health":"nodata","lastEvaluation":"2026-11-21T11:23:00Z")", Status::empty,
       "no data"},
      {R"("state":"inactive","health":"ok","lastEvaluation":"0001-01-01T00:00:00Z")", Status::pending,
       "not evaluated"},
      {R"("state":"inactive","health":"unknown","lastEvaluation":"2026-11-21T11:23:00Z")", Status::pending,
       ""},
      {R"("state":"firing","health":"ok","lastEvaluation":"2026-11-21T11:23:00Z")", Status::ok, "firing"},
      {R"("state":"inactive","health":"ok","isPaused":true,"lastEvaluation":"2026-11-21T11:23:00Z")",
       Status::warning, "paused"},
  };
  for (const auto& one : cases) {
    Api api = grafana_api();
    // Another folder's rule of that name, as a missing folder brings it.
    api["/api/prometheus/grafana/api/v1/rules"] = always(
        200,
        std::string(R"({"data":{"groups":[{"name":"g","rules":[{"uid":"other","name":"Down","health":"ok"},)"
                    R"({"uid":"small-Down","name":"Down",)") +
            one.rule + "}]}]}}");
    const ScriptedApi server(api);
    const Check check = the(verify_through_grafana(server, small_pack()), "rule/Down", Check::Kind::rule);
    EXPECT_EQ(check.status, one.status) << one.rule;
    EXPECT_THAT(check.message, HasSubstr(one.says));
  }
}

TEST(VerifyThroughGrafana, AllowsARuleWithoutDataWhereTheManifestDoes) {
  Api api = grafana_api();
  api["/api/prometheus/grafana/api/v1/rules"] = always(
      200, R"({"data":{"groups":[{"name":"g","rules":[{"uid":"small-Down","name":"Down","health":"nodata",)"
           R"("lastEvaluation":"2026-11-21T11:23:00Z"}]}]}})");
  pack::Pack pack = small_pack();
  pack.allow_empty = {{.object = "rule/Down", .reason = "planned"}};
  const ScriptedApi server(api);
  const Check check = the(verify_through_grafana(server, pack), "rule/Down", Check::Kind::rule);
  EXPECT_EQ(check.status, Status::allowed);
  EXPECT_EQ(check.reason, "planned");
}

TEST(VerifyThroughGrafana, WaitsForARuleThatIsNotThereYet) {
  std::atomic<int> asked{0};
  Api api = grafana_api();
  const auto rules = api["/api/prometheus/grafana/api/v1/rules"];
  api["/api/prometheus/grafana/api/v1/rules"] = [&](const Asked& query) {
    return ++asked < 2 ? Says{200, R"({"data":{"groups":[]}})"} : rules(query);
  };
  const ScriptedApi server(api);
  pack::Pack pack = small_pack();
  const Verified result =
      verify_through_grafana(server, pack, {.wait = 30s, .queries = false, .links = false});
  EXPECT_TRUE(result.good);
  EXPECT_EQ(asked, 2);
}

TEST(VerifyThroughGrafana, LooksForRulesInPrometheusWhereTheyLiveThere) {
  Api api = grafana_api();
  api["/api/prometheus/m1/api/v1/rules"] = always(200, kGoodRules);
  const ScriptedApi server(api);
  VerifyOptions options{.queries = false, .links = false};
  options.compile.target = Target::all;
  const Verified result = verify_through_grafana(server, small_pack(), options);
  EXPECT_THAT(told(result), ElementsAre("data source datasource ok", "data source loki skipped",
                                        "query rule/Down data", "rule rule/Down ok",
                                        "rule rule/Down/prometheus ok", "rule rule/x:y/prometheus ok"));
}

TEST(VerifyThroughGrafana, LooksForTheContactPointsOfItsRoutes) {
  pack::Pack pack = small_pack();
  pack.alertmanager.emplace();
  const auto mail = [](const std::string& name) {
    return pack::Receiver{.name = name,
                          .integrations = {{.kind = "email", .settings = {{"to", "a@example.org"}}}}};
  };
  pack.alertmanager->receivers = {mail("day"), mail("night")};
  pack.alertmanager->root = {.receiver = "day", .routes = {{.receiver = "night"}}};
  Api api = grafana_api();
  api["/api/v1/provisioning/contact-points"] =
      always(200, R"([{"uid":"x","name":"small-day","type":"email"}])");
  const ScriptedApi server(api);
  VerifyOptions options{.queries = false, .links = false};
  const Verified result = verify_through_grafana(server, pack, options);
  EXPECT_EQ(the(result, "small-day", Check::Kind::contact_point).status, Status::ok);
  EXPECT_EQ(the(result, "small-night", Check::Kind::contact_point).status, Status::missing);
  options.compile.notifications = Notifications::none;
  for (const auto& check : verify_through_grafana(server, pack, options).checks)
    EXPECT_NE(check.kind, Check::Kind::contact_point);
}

}  // namespace
