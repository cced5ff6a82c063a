#include "tunnelctl/prometheus/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/scripted_api.h"
#include "tunnelctl/prometheus/loki.h"

namespace {

using namespace tunnelctl::prometheus;
using support::ScriptedApi;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Kind = Error::Kind;

constexpr Time kTen{std::chrono::milliseconds(10'500)};
constexpr const char* kNothing =
    R"({"status":"success","data":{"resultType":"vector","result":[]},"warnings":["partial answer"]})";

ScriptedApi::Answer always(unsigned status, std::string body) {
  return [=](const ScriptedApi::Asked&) { return ScriptedApi::Says{status, body}; };
}

Server at(const ScriptedApi& api, Connection connection = {}) {
  connection.url = api.url();
  auto server = Server::make(std::move(connection));
  if (!server) throw std::runtime_error(server.error().message);
  return std::move(*server);
}

TEST(Prometheus, AsksForAnInstantAndForARange) {
  const ScriptedApi api(
      {{"/api/v1/query", always(200, kNothing)}, {"/api/v1/query_range", always(200, kNothing)}});
  const Server server = at(api);
  const auto instant = server.query("up{job=\"a b\"}", kTen);
  ASSERT_TRUE(instant) << instant.error().message;
  EXPECT_THAT(instant->warnings, ElementsAre("partial answer"));
  ASSERT_TRUE(
      server.query_range("up", {kTen, kTen + std::chrono::seconds(60), std::chrono::milliseconds(1500)}));
  EXPECT_THAT(api.lines(),
              ElementsAre("GET /api/v1/query?query=up%7Bjob%3D%22a%20b%22%7D&time=10.500",
                          "GET /api/v1/query_range?query=up&start=10.500&end=70.500&step=1.500"));
}

TEST(Prometheus, SendsAQueryTooLongForAUrlAsAForm) {
  const ScriptedApi api({{"/api/v1/query", always(200, kNothing)}});
  ASSERT_TRUE(at(api).query("up" + std::string(8'000, ' '), kTen));
  EXPECT_THAT(api.lines(), ElementsAre("POST /api/v1/query"));
  const auto seen = api.server().seen().at(0);
  EXPECT_TRUE(seen.body.starts_with("query=up%20%20"));
  EXPECT_THAT(seen.head, HasSubstr("Content-Type: application/x-www-form-urlencoded\r\n"));
}

TEST(Prometheus, TakesTheServersUrlWithItsPathAndTrailingSlash) {
  const ScriptedApi api({{"/under/api/v1/query", always(200, kNothing)}});
  const auto server = Server::make({.url = api.url() + "/under/"});
  ASSERT_TRUE(server);
  EXPECT_TRUE(server->query("1", kTen));
}

TEST(Prometheus, SendsItsCredentialsTenantAndHeaders) {
  const auto file = std::filesystem::temp_directory_path() / ("token-" + std::to_string(getpid()));
  std::ofstream(file) << "  from-file \n";
  struct Case {
    Connection connection;
    const char* expected;
  };
  const Case cases[] = {
      {{.token = Secret("abc")}, "Authorization: Bearer abc\r\n"},
      {{.token_file = file}, "Authorization: Bearer from-file\r\n"},
      {{.username = "ann", .password = Secret("pw")}, "Authorization: Basic YW5uOnB3\r\n"},
      {{.tenant = "team-a"}, "X-Scope-OrgID: team-a\r\n"},
      {{.headers = {{"X-Way", "in"}}}, "X-Way: in\r\n"},
  };
  for (const auto& one : cases) {
    const ScriptedApi api({{"/api/v1/query", always(200, kNothing)}});
    ASSERT_TRUE(at(api, one.connection).query("1", kTen));
    EXPECT_THAT(api.server().seen().at(0).head, HasSubstr(one.expected));
  }
  std::filesystem::remove(file);
}

TEST(Prometheus, TellsErrorsInTheServersWords) {
  struct Case {
    unsigned status;
    const char* body;
    Kind kind;
    const char* says;
  };
  const Case cases[] = {
      {400, R"({"status":"error","errorType":"bad_data","error":"1:6: parse error"})", Kind::bad_input,
       "400: bad_data: 1:6: parse error"},
      {422, R"({"status":"error","errorType":"execution","error":"many-to-many"})", Kind::bad_input,
       "422: execution: many-to-many"},
      {200, R"({"status":"error","error":"said with 200"})", Kind::bad_input, "said with 200"},
      {401, "Unauthorized\n", Kind::denied,
       "401: Unauthorized; no credentials were sent: set --prometheus-token-file"},
      {404, "404 page not found", Kind::not_found, "is --prometheus-url the root"},
      {500, "no org id\x1B[31m\xFF", Kind::unavailable, "500: no org id [31m?"},
      {200, "hello", Kind::unavailable, "the answer is no JSON: is this a Prometheus? It says: hello"},
      {200, "<!doctype html><html>login</html>", Kind::unavailable,
       "answered with a web page, application/json: is this a Prometheus?"},
      {500, "<html><h1>Bad Gateway</h1></html>", Kind::unavailable,
       "500: answered with a web page, application/json: is this a Prometheus?"},
      {500, R"({"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"})",
       Kind::unavailable, "500: timeout: query timed out"},
      {200, R"({"status":"success","data":{"result":[]}})", Kind::unavailable, "no result"},
  };
  for (const auto& one : cases) {
    const ScriptedApi api({{"/api/v1/query", always(one.status, one.body)}});
    const auto answer = at(api).query("rate(", kTen);
    ASSERT_FALSE(answer) << one.says;
    EXPECT_EQ(answer.error().kind, one.kind) << answer.error().message;
    EXPECT_THAT(answer.error().message, HasSubstr(one.says));
  }
}

TEST(Prometheus, RefusesAnAnswerThatIsTooLarge) {
  const ScriptedApi api({{"/api/v1/query", always(200, "{" + std::string(2'000, ' ') + "}")}});
  const auto answer = at(api, {.max_answer_bytes = 1'000}).query("up", kTen);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, Kind::bad_input);
  EXPECT_THAT(answer.error().message, HasSubstr("/api/v1/query: "));
  EXPECT_THAT(answer.error().message, HasSubstr("1000 bytes; ask for a shorter time, a longer --step"));
}

TEST(Prometheus, IsNotAskedAgainForMoreThanItCanDo) {
  for (const unsigned status : {503U, 504U}) {
    const ScriptedApi api({{"/api/v1/query", always(status, "too many queries")},
                           {"/api/v1/rules", always(status, "starting")}});
    EXPECT_FALSE(at(api).query("count({__name__=~\".+\"})", kTen));
    EXPECT_EQ(api.lines().size(), 1U) << "a query is work for it";
    EXPECT_FALSE(at(api).rules());
    EXPECT_GT(api.lines().size(), 2U) << "the rest is cheap";
  }
}

TEST(Prometheus, NamesWhereARedirectLeadsWithoutItsSecrets) {
  const support::LoopbackServer server(
      std::string("HTTP/1.1 302 Found\r\nLocation: https://sso.example/login?state=geheim#t\r\n"
                  "Content-Length: 0\r\n\r\n"));
  auto made = Server::make({.url = server.url()});
  ASSERT_TRUE(made);
  const auto answer = made->query("up", kTen);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, Kind::unavailable);
  EXPECT_THAT(answer.error().message, HasSubstr("302, a redirect to https://sso.example/login (perhaps"));
}

TEST(Prometheus, IsAskedWithoutTlsOnlyWhereThatIsAllowed) {
  for (const char* url : {"http://prometheus:9090", "http://192.0.2.1"}) {
    const auto refused = Server::make({.url = url, .url_setting = "prometheus_url"});
    ASSERT_FALSE(refused) << url;
    EXPECT_EQ(refused.error().kind, Kind::bad_input);
    EXPECT_THAT(refused.error().message, HasSubstr(std::string("prometheus_url: ") + url + ": would send"));
    EXPECT_THAT(refused.error().message, HasSubstr("--allow-plain-http"));
    EXPECT_THAT(refused.error().message, HasSubstr("allow_plain_http: true"));
    EXPECT_TRUE(Server::make({.url = url, .allow_plain = true}));
  }
  EXPECT_TRUE(Server::make({.url = "http://localhost:9090"}));
  EXPECT_TRUE(Server::make({.url = "https://prometheus"}));
}

TEST(Prometheus, ListsNamesWithinAScope) {
  const auto list = always(200, R"({"status":"success","data":["b","a",7],"infos":["cut short"]})");
  const ScriptedApi api({{"/api/v1/labels", list},
                         {"/api/v1/label/job/values", list},
                         {"/api/v1/label/U__a_2e_b__c/values", list},
                         {"/api/v1/label/U___3b1__20ac_/values", list},
                         {"/api/v1/label/__name__/values", list}});
  const Server server = at(api);
  const auto labels = server.label_names(
      {.selectors = {"up", "x{a=\"b\"}"}, .range = Range{kTen, kTen + std::chrono::seconds(1)}});
  ASSERT_TRUE(labels) << labels.error().message;
  EXPECT_THAT(labels->items, ElementsAre("a", "b"));
  EXPECT_THAT(labels->warnings, ElementsAre("cut short"));
  ASSERT_TRUE(server.label_values("job", Scope{}));
  ASSERT_TRUE(server.label_values("a.b_c", Scope{}));
  ASSERT_TRUE(server.label_values("α€", Scope{}));
  ASSERT_TRUE(server.metric_names("", Scope{}));
  ASSERT_TRUE(server.metric_names("^up$|\"\\d", Scope{}));
  EXPECT_THAT(
      api.lines(),
      ElementsAre("GET /api/v1/labels?start=10.500&end=11.500&match%5B%5D=up&match%5B%5D=x%7Ba%3D%22b%22%7D",
                  "GET /api/v1/label/job/values", "GET /api/v1/label/U__a_2e_b__c/values",
                  "GET /api/v1/label/U___3b1__20ac_/values", "GET /api/v1/label/__name__/values",
                  "GET /api/v1/label/__name__/values?match%5B%5D=%7B__name__%21%3D%22%22%2C__name__%3D~%22"
                  "%28%3Fs%3A.%2A%29%28%3F%3A%5Eup%24%7C%5C%22%5C%5Cd%29%28%3Fs%3A.%2A%29%22%7D"));
}

TEST(Prometheus, KnowsAListFromWhatIsNone) {
  struct Case {
    const char* body;
    bool good;
  };
  for (const Case& one : {Case{R"({"status":"success"})", true},  // Loki leaves empty lists out
                          Case{R"({"status":"success","data":null})", true},
                          Case{R"({"status":"success","data":{}})", false}, Case{R"({"hello":1})", false}}) {
    const ScriptedApi api({{"/api/v1/labels", always(200, one.body)}});
    const auto labels = at(api).label_names(Scope{});
    EXPECT_EQ(labels.has_value(), one.good) << one.body;
    EXPECT_THAT(labels ? "" : labels.error().message,
                HasSubstr(one.good ? "" : "/api/v1/labels: the answer has no list"));
  }
}

TEST(Prometheus, TellsWhatMetricsAre) {
  const ScriptedApi api({{"/api/v1/metadata", always(200, R"({"status":"success","data":{
      "up":[{"type":"gauge","help":"Is it up?","unit":""}],
      "x_seconds":[{"type":"counter","help":"a","unit":"seconds"},{"type":"unknown","help":"b"}],
      "odd":7}})")}});
  const Server server = at(api);
  const auto all = server.metadata();
  ASSERT_TRUE(all) << all.error().message;
  ASSERT_EQ(all->size(), 2U);
  EXPECT_THAT(all->at("up"), ElementsAre(Metadata{"gauge", "Is it up?", ""}));
  EXPECT_THAT(all->at("x_seconds"),
              ElementsAre(Metadata{"counter", "a", "seconds"}, Metadata{"unknown", "b", ""}));
  ASSERT_TRUE(server.metadata("up"));
  EXPECT_EQ(api.lines().back(), "GET /api/v1/metadata?metric=up");
}

TEST(Prometheus, IsAskedByWhateverWayItIsGiven) {
  struct Way final : Transport {
    Result<Json> get(const Ask& ask) const override {
      asked.push_back(ask.path + (ask.form ? " form" : ""));
      return Json::parse(kNothing);
    }
    const std::string& name() const override { return called; }
    mutable std::vector<std::string> asked;
    std::string called = "data source prom-1";
  };
  const auto way = std::make_shared<Way>();
  const Server server(way);
  EXPECT_EQ(server.name(), "data source prom-1");
  ASSERT_TRUE(server.query("up", kTen));
  EXPECT_FALSE(server.label_values("job", Scope{}));
  EXPECT_THAT(way->asked, ElementsAre("/api/v1/query form", "/api/v1/label/job/values"));
  EXPECT_EQ(Loki(way).name(), "data source prom-1");
}

TEST(Prometheus, NamesTheSettingThatCannotBeUsed) {
  struct Case {
    Connection connection;
    const char* says;
  };
  const Case cases[] = {
      {{}, "set --prometheus-url"},
      {{.url = "prometheus:9090"}, "--prometheus-url: "},
      {{.url = "http://127.0.0.1:1", .token_file = "/nowhere/token"},
       "--prometheus-token-file: /nowhere/token: cannot be read"},
  };
  for (const auto& one : cases) {
    const auto server = Server::make(one.connection);
    ASSERT_FALSE(server) << one.says;
    EXPECT_EQ(server.error().kind, Kind::bad_input);
    EXPECT_THAT(server.error().message, HasSubstr(one.says));
  }
  EXPECT_THAT(Loki::make({}).error().message, HasSubstr("set --loki-url"));
}

TEST(Prometheus, ReadsRulesWithTheirHealth) {
  const ScriptedApi api({{"/api/v1/rules", always(200, R"({"status":"success","data":{"groups":[
      {"name":"g","file":"a.yaml","interval":15,"rules":[
        {"type":"alerting","name":"Down","query":"up == 0","health":"ok","state":"firing","labels":{"severity":"critical"}},
        {"type":"recording","name":"x:y","query":"x","health":"err","lastError":"boom"}, 7]}]
}
})")}});
  const auto groups = at(api).rules();
  ASSERT_TRUE(groups) << groups.error().message;
  ASSERT_EQ(groups->size(), 1U);
  EXPECT_EQ(groups->front().interval_seconds, 15);
  ASSERT_EQ(groups->front().rules.size(), 2U);
  const Rule& down = groups->front().rules[0];
  EXPECT_TRUE(down.alerting);
  EXPECT_EQ(down.state, "firing");
  EXPECT_EQ(down.labels.at("severity"), "critical");
  const Rule& recorded = groups->front().rules[1];
  EXPECT_FALSE(recorded.alerting);
  EXPECT_EQ(recorded.last_error, "boom");
}

TEST(Prometheus, ListsTargetsAndTheValuesOfALabel) {
  const ScriptedApi api(
      {{"/api/v1/targets", always(200, R"({"status":"success","data":{"activeTargets":[
           {"labels":{"job":"tunneld"},"scrapeUrl":"http://a/metrics","health":"down","lastError":"refused"}]}})")},
       {"/api/v1/label/instance/values", always(200, R"({"status":"success","data":["a:1","b:2"]})")}});
  const Server server = at(api);
  const auto targets = server.targets();
  ASSERT_TRUE(targets);
  EXPECT_EQ(targets->at(0).health, "down");
  EXPECT_EQ(targets->at(0).last_error, "refused");
  const auto values = server.label_values("instance", "up{job=\"x\"}", {kTen, kTen});
  ASSERT_TRUE(values);
  EXPECT_THAT(*values, ElementsAre("a:1", "b:2"));
  EXPECT_EQ(api.lines().at(1),
            "GET /api/v1/label/instance/values?start=10.500&end=10.500&match%5B%5D=up%7Bjob%3D%22x%22%7D");
}

TEST(Loki, AsksInNanoseconds) {
  const ScriptedApi api(
      {{"/loki/api/v1/query_range", always(200, kNothing)}, {"/loki/api/v1/query", always(200, kNothing)}});
  const auto loki = Loki::make({.url = api.url()});
  ASSERT_TRUE(loki);
  ASSERT_TRUE(loki->query_range("{a=\"b\"}", {kTen, kTen, std::chrono::seconds(15)}, 7));
  ASSERT_TRUE(loki->query("1", kTen));
  EXPECT_THAT(api.lines(),
              ElementsAre("GET /loki/api/v1/query_range?query=%7Ba%3D%22b%22%7D&start=10500000000&end="
                          "10500000000&step=15.000&limit=7&direction=backward",
                          "GET /loki/api/v1/query?query=1&time=10500000000"));
}

TEST(Loki, TellsItsPlainTextErrors) {
  const ScriptedApi api(
      {{"/loki/api/v1/query_range", always(400, "parse error at line 1, col 3: syntax error")}});
  const auto answer = Loki::make({.url = api.url()})->query_range("{", {});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, Kind::bad_input);
  EXPECT_THAT(answer.error().message, HasSubstr("400: parse error at line 1, col 3"));
}

}  // namespace
