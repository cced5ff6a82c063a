#include "tunnelctl/grafana/datasource_routes.h"

#include <gmock/gmock.h>

#include <atomic>
#include <set>

#include "tests/support/scripted_api.h"

namespace tunnelctl::grafana {
namespace {

using support::ScriptedApi;
using testing::ElementsAre;

constexpr const char* kQuery = "/api/v1/query";
constexpr const char* kResources = "/api/datasources/uid/prom-1/resources/api/v1/query";
constexpr const char* kProxy = "/api/datasources/proxy/uid/prom-1/api/v1/query";

ScriptedApi::Answer always(unsigned status, std::string body = "{}") {
  return [=](const ScriptedApi::Asked&) { return ScriptedApi::Says{status, body}; };
}

DatasourceRoutes routes(const ScriptedApi& api, Json source = {{"uid", "prom-1"}, {"type", "prometheus"}}) {
  auto server = Server::make({.url = api.url(), .read_only = true});
  if (!server) throw std::runtime_error(server.error().message);
  Datasource datasource{.uid = source["uid"], .type = source["type"], .json = source};
  return {std::make_shared<Server>(std::move(*server)), std::move(datasource)};
}

TEST(DatasourceRoutes, SwitchOnlyWhereTheRouteIsClosed) {
  struct Row {
    unsigned first, second;
    unsigned status;  // that comes out
    std::size_t asked;
    const char* refused;
  };
  const Row rows[] = {
      {200, 200, 200, 1, ""},
      {401, 200, 200, 2, "resources: 401: no"},
      {403, 200, 200, 2, "resources: 403: no"},
      {500, 200, 200, 2, "resources: 500: no"},
      {403, 403, 403, 2, "resources: 403: no"},
      {403, 400, 400, 2, "resources: 403: no"},
      {400, 200, 400, 1, ""},  // the query's fault, on any route
      {404, 200, 404, 1, ""},
      {502, 200, 502, 1, ""},
      {422, 200, 422, 1, ""},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(testing::Message() << row.first << " then " << row.second);
    const auto says = [](unsigned status) { return always(status, R"({"message":"no"})"); };
    const ScriptedApi api({{kResources, says(row.first)}, {kProxy, says(row.second)}});
    const auto way = routes(api);
    const auto answer = way.ask({.path = kQuery, .query = "query=up"});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->answer.status, row.status);
    EXPECT_EQ(answer->refused, row.refused);
    EXPECT_EQ(answer->where, "GET " + api.url() + (row.asked == 2 ? kProxy : kResources));
    const auto lines = api.lines();  // a 502 is asked again on the same route
    EXPECT_EQ((std::set<std::string>(lines.begin(), lines.end()).size()), row.asked);
  }
}

TEST(DatasourceRoutes, AskNoQueryTwiceThatIsTooMuch) {
  const ScriptedApi api({{kResources, always(503)}});
  const auto way = routes(api);
  ASSERT_TRUE(way.ask({.path = kQuery, .query = "query=up", .form = true}));
  EXPECT_EQ(api.lines().size(), 1U);
}

TEST(DatasourceRoutes, RememberWhatWorkedForAPath) {
  const ScriptedApi api({{kResources, always(403)}, {kProxy, always(200)}});
  const auto way = routes(api);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(way.ask({.path = kQuery}));
  ASSERT_TRUE(way.ask({.path = "/api/v1/labels"}));
  EXPECT_THAT(api.lines(), ElementsAre(std::string("GET ") + kResources, std::string("GET ") + kProxy,
                                       std::string("GET ") + kProxy, std::string("GET ") + kProxy,
                                       "GET /api/datasources/uid/prom-1/resources/api/v1/labels"));
}

TEST(DatasourceRoutes, GoBackWhenTheRememberedOneCloses) {
  std::atomic<bool> turned = false;
  const ScriptedApi api({{kResources,
                          [&](const auto&) {
                            return ScriptedApi::Says{turned ? 200U : 403U, "{}"};
                          }},
                         {kProxy, [&](const auto&) {
                            return ScriptedApi::Says{turned ? 403U : 200U, "{}"};
                          }}});
  const auto way = routes(api);
  ASSERT_TRUE(way.ask({.path = kQuery}));
  turned = true;
  const auto answer = way.ask({.path = kQuery});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->answer.status, 200U);
  EXPECT_EQ(answer->refused, "proxy: 403: {}");
}

TEST(DatasourceRoutes, SendQueriesAsFormsUnlessTheDataSourceIsSetToGet) {
  const ScriptedApi api({{kResources, always(200)}});
  ASSERT_TRUE(routes(api).ask({.path = kQuery, .query = "query=up", .form = true}));
  EXPECT_EQ(api.lines().back(), std::string("POST ") + kResources);
  EXPECT_EQ(api.server().seen().back().body, "query=up");
  EXPECT_THAT(api.server().seen().back().head,
              testing::HasSubstr("Content-Type: application/x-www-form-urlencoded\r\n"));
  const Json with_get{{"uid", "prom-1"}, {"type", "prometheus"}, {"jsonData", {{"httpMethod", "GET"}}}};
  ASSERT_TRUE(routes(api, with_get).ask({.path = kQuery, .query = "query=up", .form = true}));
  EXPECT_EQ(api.lines().back(), std::string("GET ") + kResources + "?query=up");
}

TEST(DatasourceRoutes, AskLokiByTheProxyFirst) {
  const Json loki{{"uid", "loki 1"}, {"type", "loki"}};
  const std::string proxy = "/api/datasources/proxy/uid/loki%201/loki/api/v1/";
  const std::string resources = "/api/datasources/uid/loki%201/resources/";
  const ScriptedApi api({{proxy + "labels", always(403)},
                         {resources + "labels", always(200)},
                         {proxy + "query_range", always(403, R"({"message":"no rights"})")}});
  const auto way = routes(api, loki);
  const auto labels =
      way.ask({.path = "/loki/api/v1/labels", .form = true, .headers = {{"X-Scope-OrgID", "a"}}});
  ASSERT_TRUE(labels);
  EXPECT_EQ(labels->answer.status, 200U);
  EXPECT_THAT(api.server().seen().back().head, testing::HasSubstr("X-Scope-OrgID: a\r\n"));
  // Grafana passes no queries on as resources of Loki.
  const auto logs = way.ask({.path = "/loki/api/v1/query_range", .query = "query=x", .form = true});
  ASSERT_TRUE(logs);
  EXPECT_EQ(logs->answer.status, 403U);
  EXPECT_THAT(api.lines(), ElementsAre("GET " + proxy + "labels", "GET " + resources + "labels?",
                                       "GET " + proxy + "query_range?query=x"));
}

TEST(DatasourceRoutes, TellThatThereWasNoAnswer) {
  std::string url;
  {
    const ScriptedApi gone({});
    url = gone.url();
  }
  auto server = Server::make({.url = url, .timeout = std::chrono::milliseconds(500)});
  ASSERT_TRUE(server);
  const DatasourceRoutes way(std::make_shared<Server>(std::move(*server)),
                             {.uid = "x", .type = "prometheus"});
  EXPECT_FALSE(way.ask({.path = kQuery}));
}

}  // namespace
}  // namespace tunnelctl::grafana
