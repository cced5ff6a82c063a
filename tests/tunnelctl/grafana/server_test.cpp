#include "tunnelctl/grafana/server.h"

#include <gmock/gmock.h>

#include "tests/support/scripted_api.h"

namespace tunnelctl::grafana {
namespace {

using support::LoopbackServer;
using support::ScriptedApi;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Server at(std::string url, bool read_only = false) {
  auto server = Server::make({.url = std::move(url), .read_only = read_only});
  if (!server) throw std::runtime_error(server.error().message);
  return std::move(*server);
}

TEST(GrafanaServer, RefusesWhateverCouldWriteWhereItIsReadOnly) {
  const Json sql{{"queries", {{{"refId", "A"}, {"rawSql", "drop table orders"}}}}};
  const Json shouted{{"Queries", {{{"refId", "A"}, {"RawSQL", "drop table orders"}}}}};
  const Json promql{{"queries", {{{"refId", "A"}, {"expr", "up"}}}}};
  struct Row {
    Call call;
    bool refused;
  };
  const Row rows[] = {
      {{.path = "/api/org"}, false},
      {{.path = "/api/snapshots-delete/key"}, true},
      {{.path = "/api/snapshots-delete/key?x=1"}, true},
      {{.path = "/api//snapshots-delete/key"}, true},
      {{.path = "/api/%73napshots%2Ddelete/key"}, true},
      {{.path = "/api/snapshots/key"}, false},
      {{.method = "POST", .path = "/api/ds/query", .body = promql, .asks = true}, false},
      {{.method = "POST", .path = "/api/ds/query", .body = sql, .asks = true}, true},
      {{.method = "POST", .path = "/api/ds/query", .body = shouted, .asks = true}, true},
      {{.method = "POST", .path = "/api/ds/query?x=1", .body = sql, .asks = true}, true},
      {{.method = "POST", .path = "/api/folders", .body = Json::object()}, true},
  };
  const auto says = [](const ScriptedApi::Asked&) { return ScriptedApi::Says{200, "{}"}; };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.call.method + " " + row.call.path + " " + row.call.body.dump());
    const ScriptedApi api(std::map<std::string, ScriptedApi::Answer>{{"/api/org", says}});
    const auto refused = at(api.url(), true).call(row.call);
    EXPECT_EQ(refused.has_value(), !row.refused);
    EXPECT_EQ(api.lines().empty(), row.refused) << "nothing is sent";
    if (!refused) {
      EXPECT_EQ(refused.error().kind, Error::Kind::denied);
      EXPECT_THAT(refused.error().message, HasSubstr("read-only"));
    }
    EXPECT_TRUE(at(api.url()).call(row.call)) << "elsewhere all of it may be sent";
  }
}

TEST(GrafanaServer, TellsARedirectAndAPageFromAnAnswer) {
  struct Row {
    std::string answer;
    const char* says;
  };
  const Row rows[] = {
      {"HTTP/1.1 302 Found\r\nLocation: https://sso.example/login?state=geheim\r\nContent-Length: 0\r\n\r\n",
       "302, a redirect to https://sso.example/login; perhaps a proxy in front wants people to sign in"},
      {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
       "200: the answer is a web page; is the URL the root of Grafana?; perhaps a proxy"},
  };
  for (const auto& row : rows) {
    const LoopbackServer web(row.answer);
    auto url = web.url();
    url.pop_back();
    auto server = at(url);
    const Call call{.path = "/api/datasources/uid/x"};
    const auto answer = server.call(call);
    ASSERT_TRUE(answer);
    const auto error = server.error(call, *answer);
    EXPECT_EQ(error.kind, Error::Kind::unavailable);
    EXPECT_THAT(error.message, HasSubstr(row.says));
    EXPECT_THAT(error.message, Not(HasSubstr("geheim")));
  }
}

TEST(GrafanaServer, StandsSettingsOfOtherShapes) {
  for (const char* body : {R"({"appUrl":7,"buildInfo":{"version":["x"]}})", R"({"buildInfo":3})", "[]"}) {
    const ScriptedApi api({{"/api/frontend/settings", [=](const ScriptedApi::Asked&) {
                              return ScriptedApi::Says{200, body};
                            }}});
    auto server = at(api.url());
    EXPECT_THAT(server.version(), IsEmpty()) << body;
    EXPECT_EQ(server.public_url(), api.url()) << body;
  }
}

}  // namespace
}  // namespace tunnelctl::grafana
