#include "tunnelctl/daemon/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/tunnelctl/daemon/daemon_pages.h"
#include "tunnelctl/daemon/overview.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnelctl::daemon;
using support::always;
using support::ScriptedApi;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Kind = Error::Kind;

Admin at(const ScriptedApi& api, Connection connection = {.token = Secret("t0ken")}) {
  connection.url = api.url();
  auto admin = Admin::make(std::move(connection));
  if (!admin) throw std::runtime_error(admin.error().message);
  return std::move(*admin);
}

TEST(Admin, ReadsTheWholeDaemonWithAToken) {
  const ScriptedApi api(support::daemon_pages());
  const auto told = read_overview(at(api));
  ASSERT_TRUE(told) << told.error().message;
  EXPECT_TRUE(told->with_token);
  EXPECT_TRUE(told->serving);
  for (const auto& seen : api.server().seen()) {
    EXPECT_THAT(seen.head, HasSubstr("Authorization: Bearer t0ken\r\n"));
    EXPECT_THAT(seen.head, HasSubstr("X-Correlation-ID: "));
  }
}

TEST(Admin, AsksOnlyTheOpenPagesWithoutAToken) {
  const ScriptedApi api(support::daemon_pages());
  const auto told = read_overview(at(api, {}));
  ASSERT_TRUE(told) << told.error().message;
  EXPECT_FALSE(told->with_token);
  EXPECT_THAT(api.lines(), ElementsAre("GET /readyz", "GET /api/tunnel/health", "GET /metrics"));
  EXPECT_THAT(api.server().seen().at(0).head, Not(HasSubstr("Authorization")));
}

TEST(Admin, TellsADaemonThatIsNotReadyFromOneThatIsAway) {
  const ScriptedApi draining(
      {{"/readyz", always(503, R"({"status":"not ready","reason":"draining"})")},
       {"/api/tunnel/health", always(503, R"({"status":"unhealthy","reason":"draining"})")}});
  const auto ready = at(draining).readiness();
  ASSERT_TRUE(ready) << ready.error().message;
  EXPECT_FALSE(ready->ready);
  EXPECT_EQ(ready->reason, "draining");
  EXPECT_EQ(at(draining).health()->status, "unhealthy");
  const auto away = Admin::make({.url = "http://127.0.0.1:1"});
  ASSERT_TRUE(away);
  EXPECT_EQ(away->readiness().error().kind, Kind::unavailable);
}

TEST(Admin, AHostThatCannotBeFoundIsNoMissingPage) {
  const auto away = Admin::make({.url = "https://nowhere.invalid"});
  ASSERT_TRUE(away);
  // Without a name server it times out.
  EXPECT_NE(away->readiness().error().kind, Kind::not_found);
}

TEST(Admin, ReadsTheTokenFromItsFile) {
  const auto file = std::filesystem::temp_directory_path() / ("tunnel-token-" + std::to_string(getpid()));
  std::ofstream(file) << "  t0ken \n";
  const ScriptedApi api(support::daemon_pages());
  EXPECT_TRUE(at(api, {.token_file = file}).diagnostics());
  std::filesystem::remove(file);
  const auto missing = Admin::make({.token_file = file});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, Kind::bad_input);
  EXPECT_THAT(missing.error().message, HasSubstr(file.string()));
}

TEST(Admin, NamesTheSettingThatCannotBeUsed) {
  EXPECT_THAT(Admin::make({.url = "ftp://x"}).error().message, HasSubstr("--admin-url"));
  EXPECT_EQ(Admin::make({.url = "ftp://x"}).error().kind, Kind::bad_input);
}

TEST(Admin, TellsRefusalsInTheDaemonsWords) {
  struct Row {
    unsigned status;
    const char* body;
    const char* token;
    Kind kind;
    const char* says;
  };
  const Row rows[] = {
      {401, R"({"error":{"code":"TUNNEL_003","message":"expired"}})", "t0ken", Kind::denied,
       "401: TUNNEL_003: expired; the token must be one of scope tunnel:admin"},
      {401, R"({"error":{"code":"TUNNEL_002","message":"none"}})", "", Kind::denied,
       "no token was sent: set TUNNEL_TOKEN, TUNNEL_TOKEN_FILE or --token-file"},
      {403, R"({"error":{"code":"TUNNEL_011","message":"lacks the scope"}})", "t0ken", Kind::denied,
       "TUNNEL_011"},
      {404, R"({"error":{"code":"TUNNEL_010","message":"no such page"}})", "t0ken", Kind::not_found,
       "no such page"},
      {400, R"({"error":{"code":"TUNNEL_010","message":"bad","details":["limit: too large","bad"]}})",
       "t0ken", Kind::bad_input, "TUNNEL_010: bad; limit: too large"},
      {503, R"({"error":{"code":"TUNNEL_004","message":"draining"}})", "t0ken", Kind::unavailable,
       "draining"},
      {500, "\x1B[31mred", "t0ken", Kind::unavailable, "500: "},
      {200, "hello", "t0ken", Kind::unavailable, "is --admin-url its admin listener?"},
      {200, "[]", "t0ken", Kind::unavailable, "is --admin-url its admin listener?"},
  };
  for (const auto& row : rows) {
    const ScriptedApi api({{"/api/tunnel/diagnostics", always(row.status, row.body)}});
    const auto answer = at(api, {.token = Secret(row.token)}).diagnostics();
    ASSERT_FALSE(answer) << row.says;
    EXPECT_EQ(answer.error().kind, row.kind) << answer.error().message;
    EXPECT_THAT(answer.error().message, HasSubstr(row.says));
    EXPECT_THAT(answer.error().message, Not(HasSubstr("\x1B")));
    EXPECT_THAT(answer.error().message, Not(HasSubstr("t0ken")));
  }
}

TEST(Admin, ListsAndResetsBreakers) {
  auto pages = support::daemon_pages();
  pages["/api/tunnel/circuit-breakers/0123456789abcdef/reset"] =
      always(200, R"({"id":"0123456789abcdef","state":"closed"})");
  const ScriptedApi api(pages);
  const auto admin = at(api);
  const auto list = admin.breakers();
  ASSERT_TRUE(list) << list.error().message;
  ASSERT_EQ(list->size(), 2U);
  EXPECT_EQ(list->at(0).state, "open");
  EXPECT_EQ(list->at(0).refused, 12U);
  EXPECT_THAT(list->at(0).last_errors,
              ElementsAre("TUNNEL_001: connection refused", "TUNNEL_009: timed out"));
  EXPECT_EQ(list->at(1).opened_at, "");
  EXPECT_TRUE(admin.reset_breaker("0123456789abcdef"));
  EXPECT_EQ(admin.reset_breaker("a/b").error().kind, Kind::not_found);
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/tunnel/circuit-breakers",
                                       "POST /api/tunnel/circuit-breakers/0123456789abcdef/reset",
                                       "POST /api/tunnel/circuit-breakers/a%2Fb/reset"));
}

TEST(Admin, ListsAgentsWithWhateverIsToldOfThem) {
  const ScriptedApi api({{"/api/tunnel/agents", always(200, R"({"total":2,"agents":[
      {"agentId":"office","principal":"9a3c","peer":"192.0.2.7","user":"tunnel","hostKey":"SHA256:x",
       "services":["web","ssh",7],"connections":3,"sessions":2,"since":"2026-11-21T16:01:25.470Z"},
      {"agentId":"bare"}]})")}});
  const auto list = at(api).agents();
  ASSERT_TRUE(list) << list.error().message;
  ASSERT_EQ(list->size(), 2U);
  EXPECT_THAT(list->at(0).services, ElementsAre("web", "ssh"));
  EXPECT_EQ(list->at(0).connections, 3U);
  EXPECT_EQ(list->at(0).sessions, 2U);
  EXPECT_EQ(list->at(1).id, "bare");
  EXPECT_EQ(list->at(1).since, "");
}

TEST(Admin, MakesTunneldForgetAnAgentsKey) {
  const ScriptedApi api({{"/api/tunnel/agents/forget", always(204, "")}});
  EXPECT_TRUE(at(api).forget_agent("9a3c", "office"));
  EXPECT_THAT(api.lines(), ElementsAre("POST /api/tunnel/agents/forget"));
  const ScriptedApi none(
      {{"/api/tunnel/agents/forget", always(404, R"({"error":{"message":"no agent office is enrolled"}})")}});
  const auto refused = at(none).forget_agent("9a3c", "office");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Kind::not_found);
}

TEST(Admin, ReadsPagesOfEvents) {
  const ScriptedApi api({{"/api/tunnel/events", always(200, R"({"first":3,"last":9,"gap":true,"events":[
      {"id":3,"kind":"started","time":"2026-01-02T03:04:05Z","instanceId":"i","data":{"a":1}},
      {"id":4,"kind":"breaker.opened","time":"t","data":{}}]})")}});
  const auto page = at(api).events(1, 2);
  ASSERT_TRUE(page) << page.error().message;
  EXPECT_EQ(page->last, 9U);
  EXPECT_TRUE(page->gap);
  ASSERT_EQ(page->events.size(), 2U);
  EXPECT_EQ(page->events[0].kind, "started");
  EXPECT_EQ(page->events[0].data.dump(), R"({"a":1})");
  EXPECT_EQ(page->events[0].line,
            R"({"id":3,"kind":"started","time":"2026-01-02T03:04:05Z","instanceId":"i","data":{"a":1}})");
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/tunnel/events?after=1&limit=2"));
}

constexpr const char* kSettings = R"({"etag":"abc","values":{
    "request.slow":{"value":"5s","from":"default","hot":true},
    "listen":{"value":["[::]:8443"],"from":"tunneld.yaml:3","hot":false}}})";

TEST(Admin, ReadsSettingsWithTheirSources) {
  const ScriptedApi api({{"/api/tunnel/config", always(200, kSettings)}});
  const auto settings = at(api).settings();
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_EQ(settings->etag, "abc");
  EXPECT_EQ(settings->values.at("request.slow").value, "5s");
  EXPECT_TRUE(settings->values.at("request.slow").hot);
  EXPECT_EQ(settings->values.at("listen").value, R"(["[::]:8443"])");
  EXPECT_EQ(settings->values.at("listen").from, "tunneld.yaml:3");
}

TEST(Admin, ChangesSettingsOnlyAsTheyWereRead) {
  const ScriptedApi api({{"/api/tunnel/config", always(200, R"({"message":"changed","etag":"def",
                                                   "changes":{"request.slow":"5s -> 2s"}})")}});
  const auto answer = at(api).change_settings({{"request.slow", "2s"}, {"x", nullptr}}, "abc");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_THAT(std::get<Changes>(*answer), ElementsAre(testing::Pair("request.slow", "5s -> 2s")));
  const auto seen = api.server().seen().at(0);
  EXPECT_TRUE(seen.head.starts_with("PUT /api/tunnel/config HTTP/1.1\r\n"));
  EXPECT_THAT(seen.head, HasSubstr("If-Match: \"abc\"\r\n"));
  EXPECT_EQ(seen.body, R"({"request.slow":"2s","x":null})");
}

TEST(Admin, AColdKeyAndAChangeMeanwhileAreConflicts) {
  for (const unsigned status : {409U, 412U}) {
    const auto refusal = always(status, R"({"error":{"code":"TUNNEL_010","message":"listen is cold"}})");
    const ScriptedApi api({{"/api/tunnel/config", refusal}, {"/api/tunnel/config/reset", refusal}});
    for (const auto& answer :
         {at(api).change_settings({{"listen", "x"}}, "abc"), at(api).reset_settings({"listen"})}) {
      ASSERT_TRUE(answer) << answer.error().message;
      EXPECT_THAT(std::get<Conflict>(*answer).why, HasSubstr("listen is cold"));
    }
  }
}

TEST(Admin, ResetsSomeSettingsOrAll) {
  const ScriptedApi api({{"/api/tunnel/config/reset", always(200, R"({"changes":{}})")}});
  EXPECT_TRUE(at(api).reset_settings({"a", "b"}));
  EXPECT_TRUE(at(api).reset_settings({}));
  EXPECT_EQ(api.server().seen().at(0).body, R"({"keys":["a","b"]})");
  EXPECT_EQ(api.server().seen().at(1).body, "{}");
}

TEST(Admin, SteersARunningDaemon) {
  const ScriptedApi api({{"/api/tunnel/config/log-level", always(200, R"({"level":"WARN"})")},
                         {"/api/tunnel/drain", always(202, R"({"deadline":"2026-01-02T03:04:35Z"})")},
                         {"/api/tunnel/revocations", always(201, R"({"revocations":[]})")},
                         {"/api/tunnel/connections/17", always(204, "")}});
  const auto admin = at(api);
  EXPECT_EQ(*admin.log_level(), "WARN");
  EXPECT_TRUE(admin.set_log_level("DEBUG", 600s));
  EXPECT_TRUE(admin.set_log_level("INFO", std::nullopt));
  EXPECT_EQ(*admin.drain(), "2026-01-02T03:04:35Z");
  EXPECT_TRUE(admin.revoke({.token_id = "9f", .reason = "lost"}));
  EXPECT_TRUE(admin.revoke({.issuer = "i", .subject = "s"}));
  EXPECT_TRUE(admin.close_connection("17"));
  EXPECT_EQ(admin.close_connection("18").error().kind, Kind::not_found);
  const auto seen = api.server().seen();
  EXPECT_EQ(seen[1].body, R"({"level":"DEBUG","ttl":600})");
  EXPECT_EQ(seen[2].body, R"({"level":"INFO"})");
  EXPECT_TRUE(seen[3].head.starts_with("POST /api/tunnel/drain "));
  EXPECT_EQ(seen[4].body, R"({"tokenId":"9f","reason":"lost"})");
  EXPECT_EQ(seen[5].body, R"({"issuer":"i","subject":"s"})");
  EXPECT_TRUE(seen[6].head.starts_with("DELETE /api/tunnel/connections/17 "));
}

TEST(Admin, ChangesNothingInAReadOnlyContext) {
  const ScriptedApi api(support::daemon_pages());
  const auto admin = at(api, {.token = Secret("t0ken"), .read_only = true});
  EXPECT_EQ(admin.reset_breaker("0123456789abcdef").error().kind, Kind::denied);
  EXPECT_EQ(admin.change_settings({{"a", 1}}, "e").error().kind, Kind::denied);
  EXPECT_EQ(admin.reset_settings({}).error().kind, Kind::denied);
  EXPECT_EQ(admin.set_log_level("INFO", {}).error().kind, Kind::denied);
  EXPECT_EQ(admin.drain().error().kind, Kind::denied);
  EXPECT_EQ(admin.revoke({.token_id = "9f"}).error().kind, Kind::denied);
  EXPECT_EQ(admin.close_connection("17").error().kind, Kind::denied);
  EXPECT_THAT(api.lines(), IsEmpty());
  EXPECT_TRUE(admin.breakers());
}

}  // namespace
