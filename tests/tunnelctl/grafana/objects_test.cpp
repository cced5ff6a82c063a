#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_api.h"
#include "tunnelctl/grafana/administration.h"
#include "tunnelctl/grafana/datasources.h"
#include "tunnelctl/grafana/plugins.h"
#include "tunnelctl/grafana/snapshots.h"

/// Objects that are made, read and deleted one by one: snapshots, plugins, data sources, who is there.
namespace tunnelctl::grafana {
namespace {

using support::ScriptedApi;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ScriptedApi::Answer says(unsigned status, std::string body) {
  return [=](const auto&) { return ScriptedApi::Says{status, body}; };
}

Server server_of(const ScriptedApi& api) {
  return std::move(*Server::make({.url = api.url()}));
}

TEST(Snapshots, AreMadeWithTheirLifeInSeconds) {
  std::string body;
  const ScriptedApi api(
      {{"/api/snapshots", [&](const auto& asked) {
          body = asked.body;
          return ScriptedApi::Says{200, R"({"key":"k","url":"http://g/k","deleteUrl":"http://g/d"})"};
        }}});
  auto server = server_of(api);
  const auto made =
      create_snapshot(server, {{"uid", "b"}, {"title", "B"}}, "incident", std::chrono::hours(1));
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->key, "k");
  EXPECT_EQ(made->delete_url, "http://g/d");
  EXPECT_EQ(Json::parse(body),
            Json::parse(R"({"dashboard":{"uid":"b","title":"B"},"name":"incident","expires":3600})"));
  ASSERT_TRUE(create_snapshot(server, {{"uid", "b"}}, "", {}));
  EXPECT_EQ(Json::parse(body), Json::parse(R"({"dashboard":{"uid":"b"}})")) << "never, and unnamed";
}

// The server says "Dashboard not found".
TEST(Snapshots, OfADashboardWithoutAUidAreNotAskedFor) {
  const ScriptedApi api({});
  auto server = server_of(api);
  const auto made = create_snapshot(server, {{"title", "B"}}, "x", {});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, Error::Kind::bad_input);
  EXPECT_THAT(api.lines(), IsEmpty());
}

TEST(Snapshots, ThatNobodyKnowsAreNotFound) {
  const ScriptedApi api({});
  auto server = server_of(api);
  for (const auto& error : {read_snapshot(server, "x").error(), delete_snapshot(server, "x").error()}) {
    EXPECT_EQ(error.kind, Error::Kind::not_found);
    EXPECT_THAT(error.message, HasSubstr("no snapshot has the key \"x\""));
  }
}

TEST(Snapshots, BeyondTheLimitAreSaidToExist) {
  const ScriptedApi api({{"/api/dashboard/snapshots", says(200, R"([{"key":"a"},{"key":"b"}])")}});
  auto server = server_of(api);
  const auto found = list_snapshots(server, "in c", 1);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->more);
  EXPECT_EQ(found->items.size(), 1U);
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/dashboard/snapshots?limit=2&query=in%20c"));
}

TEST(Plugins, AreListedByIdAndReallyByType) {
  const ScriptedApi api({{"/api/plugins", says(200, R"([{"id":"z","type":"panel","info":{"version":"1.2"}},
    {"id":"b","type":"app"},{"id":"a","type":"app"}])")}});
  auto server = server_of(api);
  const auto apps = list_plugins(server, "app", false);
  ASSERT_TRUE(apps);
  ASSERT_EQ(apps->size(), 2U);
  EXPECT_EQ(apps->front().id, "a");
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/plugins?embedded=0&core=0&type=app"));
}

TEST(Plugins, ThatAreNotInstalledAreNoError) {
  const ScriptedApi api({{"/api/plugins/there/settings", says(200, R"({"id":"there"})")}});
  auto server = server_of(api);
  EXPECT_EQ((**read_plugin(server, "there"))["id"], "there");
  const auto missing = read_plugin(server, "missing");
  ASSERT_TRUE(missing);
  EXPECT_FALSE(*missing);
}

TEST(Plugins, CannotBeInstalledWhereTheServerDoesNotManageThem) {
  const ScriptedApi api({{"/api/plugins/x/install", says(404, R"({"message":"Not found"})")},
                         {"/api/plugins/y/install", says(404, R"({"message":"Plugin not found"})")}});
  auto server = server_of(api);
  const auto off = install_plugin(server, "x", "");
  ASSERT_FALSE(off);
  EXPECT_EQ(off.error().kind, Error::Kind::denied);
  EXPECT_THAT(off.error().message, HasSubstr("grafana cli plugins install x"));
  EXPECT_EQ(install_plugin(server, "y", "1.0").error().kind, Error::Kind::not_found);
}

TEST(Roles, AreSaidToBePartOfEnterpriseWhereThereAreNone) {
  const ScriptedApi api({});
  auto server = server_of(api);
  const auto all = roles(server, true);
  ASSERT_FALSE(all);
  EXPECT_EQ(all.error().kind, Error::Kind::not_found);
  EXPECT_THAT(all.error().message, AllOf(HasSubstr("404"), HasSubstr("Grafana Enterprise and Cloud")));
  EXPECT_FALSE(role(server, "fixed:a:b", true));
  EXPECT_FALSE(roles_of(server, Holders::teams, {3}));
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/access-control/roles?delegatable=true",
                                       "GET /api/access-control/roles/fixed%3Aa%3Ab/assignments",
                                       "POST /api/access-control/teams/roles/search"));
}

TEST(Teams, ComeInPages) {
  const ScriptedApi api({{"/api/teams/search", [](const auto& asked) {
                            Json page{{"teams", Json::array()}};
                            const auto count = asked.query.find("&page=1") != std::string::npos ? 1000 : 3;
                            for (int i = 0; i < count; ++i) page["teams"].push_back({{"id", i}});
                            return ScriptedApi::Says{200, page.dump()};
                          }}});
  auto server = server_of(api);
  EXPECT_EQ(teams(server, "", 0)->items.size(), 1003U);
  const auto few = teams(server, "", 5);
  EXPECT_EQ(few->items.size(), 5U);
  EXPECT_TRUE(few->more);
}

TEST(DatasourceChange, LaysOverWhatIsThereAndSendsTheVersion) {
  Json put;
  const ScriptedApi api(
      {{"/api/datasources/uid/p", [&](const auto& asked) {
          if (asked.method == "GET")
            return ScriptedApi::Says{200, R"({"uid":"p","name":"P","type":"prometheus","access":"proxy",
                                "url":"http://a","version":4,"jsonData":{"httpMethod":"POST","timeInterval":"15s"}})"};
          put = Json::parse(asked.body);
          return ScriptedApi::Says{200, R"({"datasource":{"uid":"p","name":"P","url":"http://u:pw@b"}})"};
        }}});
  auto server = server_of(api);
  const auto written =
      update_datasource(server, "p", Json::parse(R"({"url":"http://b","jsonData":{"timeInterval":null}})"));
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(put["version"], 4);
  EXPECT_EQ(put["url"], "http://b");
  EXPECT_EQ(put["jsonData"], Json::parse(R"({"httpMethod":"POST"})"));
  EXPECT_EQ(written->datasource.url, "http://***@b") << "no password in what is shown";
}

TEST(DatasourceChange, OfWhatIsSomebodyElsesIsAConflict) {
  const ScriptedApi api(
      {{"/api/datasources/uid/p", says(200, R"({"uid":"p","readOnly":true})")},
       {"/api/datasources", says(409, R"({"message":"data source with the same name already exists"})")}});
  auto server = server_of(api);
  const auto provisioned = update_datasource(server, "p", Json::object());
  ASSERT_TRUE(provisioned && provisioned->conflict);
  EXPECT_THAT(*provisioned->conflict, HasSubstr("provisioned from a file"));
  EXPECT_EQ(api.lines().size(), 1U);
  const auto taken = create_datasource(server, {{"name", "P"}});
  ASSERT_TRUE(taken && taken->conflict);
  EXPECT_THAT(*taken->conflict, HasSubstr("same name"));
}

}  // namespace
}  // namespace tunnelctl::grafana
