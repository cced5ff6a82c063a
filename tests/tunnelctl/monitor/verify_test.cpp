#include "tunnelctl/monitor/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/tunnelctl/monitor/small_pack.h"

namespace {

using namespace tunnelctl;
using namespace tunnelctl::monitor;
using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// --- A Prometheus: `good` has data, `none` and `planned` have not, `nan` has nothing but NaN ---------

std::string vector(const std::string& result) {
  return R"({"status":"success","data":{"resultType":"vector","result":[)" + result + "]}}";
}

Says prometheus_query(const Asked& asked) {
  const auto has = [&](const char* text) { return asked.query.find(text) != std::string::npos; };
  if (has("broken")) return {400, R"({"status":"error","errorType":"bad_data","error":"1:1: parse error"})"};
  if (has("nan")) return {200, vector(R"({"metric":{},"value":[1,"NaN"]})")};
  if (has("planned") || has("none")) return {200, vector("")};
  return {200, vector(R"({"metric":{},"value":[1,"1"]},{"metric":{"a":"b"},"value":[1,"2"]})")};
}

Api prometheus_api() {
  return {{"/api/v1/query", prometheus_query},
          {"/api/v1/query_range", prometheus_query},
          {"/api/v1/label/instance/values", always(200, R"({"status":"success","data":["a:1","b:2"]})")},
          {"/api/v1/rules", always(200, kGoodRules)}};
}

Verified verify_directly(const ScriptedApi& api, const pack::Pack& pack, const VerifyOptions& options = {},
                         std::stop_token stop = {}) {
  auto server = prometheus::Server::make({.url = api.url()}, stop);
  if (!server) throw std::runtime_error(server.error().message);
  const std::vector<pack::Pack> packs{pack};
  return verify(*server, nullptr, packs, options, stop);
}

TEST(VerifyDirectly, TellsOfEachQueryAndRuleWhetherItWorks) {
  const ScriptedApi api(prometheus_api());
  const Verified result = verify_directly(api, small_pack());
  EXPECT_THAT(told(result), ElementsAre("data source datasource ok", "data source loki skipped",
                                        "query one/1/A data", "query one/2/A allowed", "query one/2/B empty",
                                        "query one/3/A skipped", "query one/4/A{instance=a:1} data",
                                        "query one/4/A{instance=b:2} data", "query rule/Down data",
                                        "query rule/x:y data", "rule rule/Down ok", "rule rule/x:y ok"));
  EXPECT_FALSE(result.good);
  EXPECT_EQ(result.counts.at(Status::data), 5U);
  EXPECT_EQ(the(result, "one/1/A").series, 2U);
  EXPECT_EQ(the(result, "one/1/A").title, "Rate");
  EXPECT_EQ(the(result, "one/2/A").reason, "planned");
  EXPECT_THAT(the(result, "one/3/A").message, HasSubstr("--loki-url"));
}

TEST(VerifyDirectly, PutsInWhatVariablesStandFor) {
  const ScriptedApi api(prometheus_api());
  const Verified result = verify_directly(api, small_pack());
  EXPECT_EQ(the(result, "one/1/A").expr, "rate(good{job=~\".*tunneld.*\"}[1m])");
  EXPECT_EQ(the(result, "one/4/A{instance=b:2}").expr, "good{instance=~\"b:2\"}");
  // The comparison is taken out: a healthy rule returns data, too.
  EXPECT_EQ(the(result, "rule/Down").expr, "good");
  EXPECT_THAT(api.lines(), Contains(HasSubstr("match%5B%5D=up%7Bjob%3D~%22.%2Atunneld.%2A%22%7D")));
}

TEST(VerifyDirectly, FollowsTheLeastStepOfAPanelAndTheTimeRange) {
  pack::Pack pack = small_pack();
  pack.dashboards[0].json["panels"][0]["interval"] = "5m";
  pack.dashboards[0].json["panels"][0]["targets"][0]["expr"] =
      "good[$__interval] $__interval_ms $__rate_interval $__range $__from";
  const ScriptedApi api(prometheus_api());
  const Verified result = verify_directly(api, pack, {.from = "1000", .to = "8200", .rules = false});
  EXPECT_EQ(the(result, "one/1/A").expr, "good[5m] 300000 5m15s 7200s 1000000");
  EXPECT_THAT(api.lines(), Contains(HasSubstr("&start=1000.000&end=8200.000&step=300.000")));
}

TEST(VerifyDirectly, TellsTheServersErrorAndDoesNotCountNaN) {
  pack::Pack pack = small_pack();
  auto& panels = pack.dashboards[0].json["panels"];
  panels[0]["targets"][0]["expr"] = "broken";
  panels[1]["targets"][1]["expr"] = "nan";
  const ScriptedApi api(prometheus_api());
  const Verified result = verify_directly(api, pack, {.rules = false});
  EXPECT_EQ(the(result, "one/1/A").status, Status::error);
  EXPECT_THAT(the(result, "one/1/A").message, HasSubstr("400: bad_data: 1:1: parse error"));
  EXPECT_EQ(the(result, "one/2/B").status, Status::empty);
  EXPECT_THAT(the(result, "one/2/B").message, HasSubstr("nothing but NaN"));
}

TEST(VerifyDirectly, NotesAnExceptionThatIsNoLongerNeeded) {
  pack::Pack pack = small_pack();
  pack.allow_empty = {{.object = "one/2", .reason = "both"}, {.object = "one/1", .reason = "not yet"}};
  pack.dashboards[0].json["panels"][1]["targets"][0]["expr"] = "good";
  const ScriptedApi api(prometheus_api());
  const Verified result = verify_directly(api, pack);
  EXPECT_TRUE(result.good);
  EXPECT_THAT(the(result, "one/1/A").message, HasSubstr("has data, though one/1 may be empty"));
  // Its other target is still empty.
  EXPECT_THAT(the(result, "one/2/A").message, IsEmpty());
}

TEST(VerifyDirectly, FindsRulesThatAreMissingBrokenNewOrOthers) {
  struct Case {
    const char* rule;
    Status status;
    const char* says;
  };
  const Case cases[] = {
      {"", Status::missing, "load the pack's rule files"},
      {R"({"type":"alerting","name":"Down","query":"good < 1","health":"err","lastError":"boom"},)",
       Status::error, "boom"},
      {R"({"type":"alerting","name":"Down","query":"good < 1","health":"unknown"},)", Status::pending,
       "not evaluated"},
      {R"({"type":"alerting","name":"Down","query":"good < 2","health":"ok","state":"firing"},)",
       Status::warning, "another expression than the pack's: good < 2"},
      {R"({"type":"alerting","name":"Down","query":"(good) < 1.0","health":"ok","state":"firing"},)",
       Status::warning, "another"},
      {R"({"type":"alerting","name":"Down","query":"good   < 1","health":"ok","state":"firing"},)",
       Status::ok, "firing"},
      {R"({"type":"recording","name":"Down","query":"good < 1","health":"ok"},)", Status::missing, ""},
  };
  for (const auto& one : cases) {
    Api api = prometheus_api();
    api["/api/v1/rules"] =
        always(200, std::string(R"({"status":"success","data":{"groups":[{"name":"g","rules":[)") + one.rule +
                        R"--({"type":"recording","name":"x:y","query":"sum(good)","health":"ok"}]}]}})--");
    const ScriptedApi server(api);
    const Check check = the(verify_directly(server, small_pack()), "rule/Down", Check::Kind::rule);
    EXPECT_EQ(check.status, one.status) << one.rule << ": " << check.message;
    EXPECT_THAT(check.message, HasSubstr(one.says));
  }
}

TEST(VerifyDirectly, AsksNothingOfAServerThatDoesNotAnswer) {
  Api api = prometheus_api();
  api["/api/v1/query"] = always(500, "out of order");
  const ScriptedApi server(api);
  const Verified result = verify_directly(server, small_pack(), {.rules = false});
  EXPECT_EQ(the(result, "datasource", Check::Kind::datasource).status, Status::error);
  EXPECT_EQ(the(result, "one/1/A").status, Status::error);
  EXPECT_THAT(the(result, "one/1/A").message, HasSubstr("500: out of order"));
  EXPECT_EQ(server.lines().size(), 1U);
}

TEST(VerifyDirectly, WaitsForWhatIsEmptyAndAsksOnlyThatAgain) {
  std::atomic<int> asked{0};
  Api api = prometheus_api();
  api["/api/v1/query"] = [&](const Asked& query) {
    if (query.query.find("none") == std::string::npos) return prometheus_query(query);
    return Says{200, vector(++asked < 2 ? "" : R"({"metric":{},"value":[1,"1"]})")};
  };
  const ScriptedApi server(api);
  std::size_t progress = 0;
  std::size_t of = 0;
  VerifyOptions options{.wait = 30s, .rules = false};
  options.progress = [&](std::size_t done, std::size_t all) {
    progress = done;
    of = all;
  };
  const Verified result = verify_directly(server, small_pack(), options);
  EXPECT_TRUE(result.good);
  EXPECT_EQ(the(result, "one/2/B").status, Status::data);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(progress, 6U);
  EXPECT_EQ(of, 6U);
  std::size_t planned = 0;
  for (const auto& line : server.lines()) planned += line.find("query=planned") == std::string::npos ? 0 : 1;
  EXPECT_EQ(planned, 1U);  // allowed to be empty: not asked twice
}

TEST(VerifyDirectly, StopsWaitingWhenTimeIsOver) {
  const ScriptedApi server(prometheus_api());
  const auto begin = std::chrono::steady_clock::now();
  const Verified result = verify_directly(server, small_pack(), {.wait = 50ms, .rules = false});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
  EXPECT_FALSE(result.good);
  EXPECT_EQ(the(result, "one/2/B").status, Status::empty);
}

TEST(VerifyDirectly, EndsAtOnceWhenItIsStopped) {
  std::stop_source stop;
  Api api = prometheus_api();
  // The pack asks for `none` last but for the repeated panel: the stop comes in the middle.
  api["/api/v1/query"] = [&](const Asked& query) {
    if (query.query.find("planned") != std::string::npos) stop.request_stop();
    return prometheus_query(query);
  };
  const ScriptedApi server(api);
  VerifyOptions options{.wait = 600s, .parallel = 1};
  const Verified result = verify_directly(server, small_pack(), options, stop.get_token());
  EXPECT_FALSE(result.good);
  EXPECT_EQ(the(result, "one/1/A").status, Status::data);
  EXPECT_EQ(the(result, "one/2/B").status, Status::cancelled);
  EXPECT_THAT(server.lines(), Not(Contains(HasSubstr("query=none"))));
}

TEST(VerifyDirectly, AsksAtMostSoManyAtOnce) {
  pack::Pack pack = small_pack();
  auto& targets = pack.dashboards[0].json["panels"][0]["targets"];
  for (int i = 0; i < 40; ++i) targets.push_back({{"refId", "X" + std::to_string(i)}, {"expr", "good"}});
  Api api = prometheus_api();
  api["/api/v1/query_range"] = [](const Asked& query) {
    std::this_thread::sleep_for(5ms);  // long enough to overlap
    return prometheus_query(query);
  };
  const ScriptedApi server(api);
  const Verified result = verify_directly(server, pack, {.parallel = 3, .rules = false});
  EXPECT_EQ(the(result, "one/1/X39").status, Status::data);
  EXPECT_GT(server.server().most_at_once(), 1U);
  EXPECT_LE(server.server().most_at_once(), 3U);
}

TEST(VerifyDirectly, CallsDataThatComesLateSlow) {
  const ScriptedApi server(prometheus_api());
  const Verified result = verify_directly(server, small_pack(), {.slow = -1ms, .rules = false});
  EXPECT_EQ(the(result, "one/1/A").status, Status::slow);
  EXPECT_EQ(the(result, "one/2/B").status, Status::empty);
}

TEST(VerifyDirectly, AsksARepeatedPanelOnceWhenItsVariableHasNoValues) {
  Api api = prometheus_api();
  api["/api/v1/label/instance/values"] = always(200, R"({"status":"success","data":[]})");
  const ScriptedApi server(api);
  const Check check = the(verify_directly(server, small_pack()), "one/4/A");
  EXPECT_EQ(check.expr, "good{instance=~\".+\"}");
  EXPECT_EQ(check.status, Status::data);
  EXPECT_THAT(check.message, HasSubstr("repeated for each value of instance, which has none"));
}

TEST(VerifyDirectly, LooksWhetherRunbooksAnswer) {
  const ScriptedApi pages({{"/docs/Down.md", [](const Asked& asked) {
                              return asked.method == "HEAD" ? Says{405, ""} : Says{200, "{}"};
                            }}});
  const ScriptedApi api(prometheus_api());
  VerifyOptions options{.queries = false, .rules = false};
  options.compile.runbook_url = pages.url() + "/docs";
  const Verified good = verify_directly(api, small_pack(), options);
  EXPECT_THAT(told(good), ElementsAre("link " + pages.url() + "/docs/Down.md ok"));
  EXPECT_THAT(pages.lines(), ElementsAre("HEAD /docs/Down.md", "GET /docs/Down.md"));

  options.compile.runbook_url = pages.url() + "/gone";
  const Verified gone = verify_directly(api, small_pack(), options);
  EXPECT_TRUE(gone.good);
  EXPECT_EQ(gone.checks.at(0).status, Status::warning);
  EXPECT_THAT(gone.checks.at(0).message, HasSubstr("answers 404"));
}

TEST(VerifyDirectly, SaysWhichTimeCannotBeRead) {
  const ScriptedApi api(prometheus_api());
  const Verified result = verify_directly(api, small_pack(), {.from = "yesterday-ish"});
  EXPECT_FALSE(result.good);
  ASSERT_EQ(result.checks.size(), 1U);
  EXPECT_THAT(result.checks[0].message, HasSubstr("--from: \"yesterday-ish\""));
  EXPECT_THAT(api.lines(), IsEmpty());
}

}  // namespace
