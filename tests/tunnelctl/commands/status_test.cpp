#include "tunnelctl/commands/status_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/tunnelctl/commands/call.h"
#include "tests/tunnelctl/daemon/daemon_pages.h"
#include "tunnelctl/commands/top_view.h"

namespace {

using namespace tunnelctl;
using support::always;
using support::call;
using support::ScriptedApi;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const Environment kToken{{"TUNNEL_TOKEN", "t0ken"}};

daemon::Overview overview() {
  return daemon::overview_of({.ready = true}, {.status = "healthy"},
                             daemon::Exposition::parse(support::kMetrics),
                             daemon::Json::parse(support::kDiagnostics));
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

TEST(StatusView, ShowsTheDaemonOnOneScreen) {
  const daemon::Rates rates{.seconds = 1,
                            .requests_per_second = 12.5,
                            .success_rate = 0.9996,
                            .bytes_in_per_second = 2048,
                            .bytes_out_per_second = 0};
  EXPECT_EQ(joined(status_lines("http://h", overview(), rates, false)),
            "tunneld 1.2.3 at http://h: serving, up 1d 1h\n"
            "  connections 4 (free 3, premium 1, enterprise 0), users 3\n"
            "  requests    12.5/s, 99.96 % good; 1000 since the start, 99 % good; 2 in flight\n"
            "  latency     p50 5.25 ms  p95 80 ms  p99 120 ms over 5 minutes\n"
            "  bytes       2 KiB/s in, 0 B/s out\n"
            "  queue       3 waiting (high 1, normal 2, low 0), fullest 40 %, 2 KiB\n"
            "  breakers    1 not closed: 0123456789abcdef\n"
            "  ssh         2 sessions, 7 channels\n"
            "  addresses   1 throttled, 2 blocked\n"
            "  records     audit ok, events ok (last 57), log ok\n"
            "  resources   40 MiB, 40 descriptors of 1024\n");
}

TEST(StatusView, ColoursTheStateAndWhatFails) {
  auto now = overview();
  now.audit_healthy = false;
  now.state = "degraded";
  const auto text = joined(status_lines("u", now, {}, true));
  EXPECT_THAT(text, HasSubstr("\x1b[33mdegraded\x1b[0m"));
  EXPECT_THAT(text, HasSubstr("audit \x1b[31mFAILING\x1b[0m"));
}

TEST(StatusView, TextsOfTheDaemonCannotSteerTheTerminal) {
  auto now = overview();
  now.version = "1\x1b[2J";
  now.state = "s\n\x07";
  now.breakers.open = {"a\x1b]0;x"};
  now.connections_by_tier = {{"t\r", 1}};
  for (const auto& line : status_lines("u", now, {}, false)) {
    EXPECT_THAT(line, Not(HasSubstr("\x1b")));
    EXPECT_EQ(line.find_first_of("\n\r\x07"), std::string::npos) << line;
  }
}

TEST(Status, TellsAProgramTheSameAndEndsWellWhileTheDaemonServes) {
  const ScriptedApi api(support::daemon_pages());
  const auto ended = call({"status", "--interval", "0.01", "--admin-url", api.url(), "-o", "json"}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_THAT(ended.err, IsEmpty());
  const auto json = nlohmann::json::parse(ended.out);
  EXPECT_EQ(json["serving"], true);
  EXPECT_EQ(json["state"], "serving");
  EXPECT_EQ(json["requests"]["p95Ms"], 80);
  EXPECT_EQ(json["requests"]["perSecond"], 0);
  EXPECT_EQ(json["queue"]["byPriority"]["normal"], 2);
  EXPECT_EQ(json["breakers"]["open"][0], "0123456789abcdef");
  EXPECT_EQ(json["auditHealthy"], true);
}

TEST(Status, SaysWithoutATokenWhatOneWouldAdd) {
  const ScriptedApi api(support::daemon_pages());
  const auto ended = call({"status", "--interval", "0", "--admin-url", api.url()});
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("tunneld 1.2.3"));
  EXPECT_THAT(ended.err, AllOf(HasSubstr("TUNNEL_TOKEN_FILE"), HasSubstr("tunnel:admin")));
}

TEST(Status, ReadsAddressAndTokenFromTheEnvironment) {
  const ScriptedApi api(support::daemon_pages());
  const auto ended =
      call({"status", "--interval", "0"}, {{"TUNNEL_ADMIN_URL", api.url()}, {"TUNNEL_TOKEN", "t0ken"}});
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("audit ok"));
}

TEST(Status, EndsByWhatItFound) {
  auto draining = support::daemon_pages();
  draining["/readyz"] = always(503, R"({"status":"not ready","reason":"draining"})");
  auto degraded = support::daemon_pages();
  degraded["/api/tunnel/health"] = always(200, R"({"status":"degraded"})");
  struct Row {
    support::Pages pages;
    Environment environment;
    ExitStatus status;
    const char* says;
  };
  const Row rows[] = {
      {draining, kToken, ExitStatus::failure, ": draining"},
      {draining, {}, ExitStatus::failure, ": draining"},
      {degraded, kToken, ExitStatus::failure, ": degraded"},
      {support::daemon_pages(), {{"TUNNEL_TOKEN", "wrong"}}, ExitStatus::denied, "TUNNEL_002"},
      {{}, {}, ExitStatus::unavailable, "503"},
  };
  for (const auto& row : rows) {
    auto pages = row.pages;
    if (pages.empty()) pages["/readyz"] = always(502, "bad gateway");
    const ScriptedApi api(pages);
    const auto ended = call({"status", "--interval", "0", "--admin-url", api.url()}, row.environment);
    EXPECT_EQ(ended.status, row.status) << ended.err;
    if (!row.pages.empty()) {
      EXPECT_THAT(ended.out + ended.err, HasSubstr(row.says));
    }
  }
  EXPECT_EQ(call({"status", "--admin-url", "http://127.0.0.1:1"}).status, ExitStatus::unavailable);
}

TEST(Status, WatchesOneJsonALineUntilItIsStopped) {
  std::stop_source stop;
  auto pages = support::daemon_pages();
  int looks = 0;
  pages["/readyz"] = [&](const ScriptedApi::Asked&) -> ScriptedApi::Says {
    ++looks;
    if (looks == 2) return {500, "away"};
    if (looks == 4) stop.request_stop();
    return {200, R"({"status":"ready"})"};
  };
  const ScriptedApi api(pages);
  const auto ended = call({"status", "--watch", "--interval", "0.1", "--admin-url", api.url(), "-o", "json"},
                          kToken, stop.get_token());
  EXPECT_EQ(ended.status, ExitStatus::interrupted);
  std::istringstream lines(ended.out);
  std::vector<bool> serving;
  for (std::string line; std::getline(lines, line);)
    serving.push_back(nlohmann::json::parse(line)["serving"].get<bool>());
  ASSERT_GE(serving.size(), 3U);
  EXPECT_EQ(serving[1], false);
  EXPECT_EQ(serving[2], true);
}

TopView view() {
  TopView result{.url = "http://h", .now = overview()};
  result.rates = daemon::Rates{.seconds = 1, .requests_per_second = 7, .bytes_in_per_second = 100};
  result.connections = daemon::connections_of(daemon::Json::parse(support::kConnections));
  result.connections[0].bytes_out_per_second = 4096;
  result.breakers = {{.id = "0123456789abcdef",
                      .state = "open",
                      .upstream = "far",
                      .service = "db",
                      .refused = 12,
                      .next_probe = "2026-01-02T03:04:35.000Z"}};
  result.users = daemon::users_of(daemon::Json::parse(support::kUsers));
  return result;
}

TEST(TopView, ShowsTotalsBreakersConnectionsAndUsers) {
  EXPECT_EQ(
      joined(top_lines(view(), 0, false)),
      "tunneld 1.2.3 at http://h: serving, up 1d 1h\n"
      "7 requests/s, 2 in flight, 100 B/s in, 0 B/s out\n"
      "p50 5.25 ms  p95 80 ms  p99 120 ms   queue: 3 waiting (high 1, normal 2, low 0), fullest 40 %, "
      "2 KiB\n"
      "breakers: 1 not closed: 0123456789abcdef   ssh: 2 sessions, 7 channels   connections: 4 (free 3, "
      "premium 1, enterprise 0)\n"
      "\n"
      "BREAKER           STATE  SERVICE  UPSTREAM  REFUSED  NEXT PROBE\n"
      "0123456789abcdef  open   db       far       12       2026-01-02T03:04:35.000Z\n"
      "\n"
      "ID  KIND       SERVICE  USER          PEER                 AGE    REQUESTS  IN  OUT\n"
      "17  http1      -        -             127.0.0.1:5000       12s    3         -   4 KiB/s\n"
      "18  websocket  db       9a8b7c6d5e4f  10.0.0.9:4242 plain  1h 1m  1         -   -\n"
      "\n"
      "USER          TIER     REQUESTS  ERRORS  MEAN    IN     OUT    LAST SEEN\n"
      "9a8b7c6d5e4f  premium  500       5       7.5 ms  1 MiB  2 KiB  2026-01-02T03:04:05.000Z\n");
}

TEST(TopView, LeavesConnectionsOutWhereThereIsNoRoomForThem) {
  auto many = view();
  many.connections.assign(100, many.connections[0]);
  const auto lines = top_lines(many, 30, false);
  EXPECT_EQ(lines.size(), 30U);
  EXPECT_THAT(joined(lines), HasSubstr("and 83 more\n"));
  // However small it is: some connections are there.
  EXPECT_THAT(joined(top_lines(many, 3, false)), HasSubstr("and 95 more\n"));
}

TEST(TopView, SortsTheBusiestFirst) {
  std::vector<daemon::Connected> list{{.id = "old", .age_seconds = 9},
                                      {.id = "busy", .age_seconds = 1, .bytes_out_per_second = 5},
                                      {.id = "older", .age_seconds = 10}};
  sort_busiest_first(list);
  EXPECT_EQ(list[0].id + " " + list[1].id + " " + list[2].id, "busy older old");
}

TEST(Top, PrintsOneJsonObjectForEachRefresh) {
  const ScriptedApi api(support::daemon_pages());
  const auto ended =
      call({"top", "--iterations", "2", "--interval", "0.1", "--admin-url", api.url(), "-o", "json"}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  std::istringstream lines(ended.out);
  std::vector<nlohmann::json> shown;
  for (std::string line; std::getline(lines, line);) shown.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(shown.size(), 2U);
  EXPECT_FALSE(shown[0]["requests"].contains("perSecond"));
  EXPECT_EQ(shown[1]["requests"]["perSecond"], 0);
  EXPECT_EQ(shown[0]["connectionList"][0]["bytesOutPerSecond"], 0) << "one look tells no rate";
  EXPECT_EQ(shown[1]["connectionList"].size(), 2U);
  EXPECT_EQ(shown[1]["breakerList"].size(), 1U) << "closed ones are left out";
  EXPECT_EQ(shown[1]["userList"][0]["meanMs"], 7.5);
}

TEST(Top, PrintsBlocksWhereThereIsNoTerminal) {
  const ScriptedApi api(support::daemon_pages());
  const auto ended =
      call({"top", "--iterations", "2", "--interval", "0.1", "--admin-url", api.url()}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_THAT(ended.out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(ended.out, HasSubstr("\n\ntunneld 1.2.3"));
}

TEST(Top, WorksWithAnOlderDaemonAndWithoutAToken) {
  auto pages = support::daemon_pages();
  pages.erase("/api/tunnel/circuit-breakers");
  pages.erase("/api/tunnel/metrics/users");
  const ScriptedApi api(pages);
  EXPECT_EQ(call({"top", "--once", "--admin-url", api.url()}, kToken).status, ExitStatus::ok);
  const auto open = call({"top", "--once", "--admin-url", api.url()});
  EXPECT_EQ(open.status, ExitStatus::ok);
  EXPECT_THAT(open.out, HasSubstr("no token"));
}

TEST(Top, EndsAtOnceWhenNobodyIsThere) {
  EXPECT_EQ(call({"top", "--admin-url", "http://127.0.0.1:1"}).status, ExitStatus::unavailable);
}

TEST(Breakers, AreListedWithTheirErrors) {
  const ScriptedApi api(support::daemon_pages());
  const auto ended = call({"breakers", "list", "--errors", "--admin-url", api.url()}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("0123456789abcdef  open"), HasSubstr("1111111111111111  closed"),
                               HasSubstr("0123456789abcdef: TUNNEL_001: connection refused\n")));
  const auto json = call({"breakers", "list", "--admin-url", api.url(), "-o", "json"}, kToken);
  EXPECT_EQ(nlohmann::json::parse(json.out)["breakers"][0]["refused"], 12);
}

TEST(Breakers, AnUnknownIdIsAWrongArgument) {
  const ScriptedApi api(support::daemon_pages());
  const auto ended = call({"breakers", "reset", "f\x1b", "--admin-url", api.url()}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::bad_input);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("no breaker has the id \"f \""), Not(HasSubstr("\x1b"))));
}

constexpr const char* kSettings = R"({"etag":"abc","values":{
    "request.slow":{"value":"5s","from":"default","hot":true},
    "request.timeout":{"value":30,"from":"TUNNEL_REQUEST_TIMEOUT","hot":true},
    "listen":{"value":["[::]:8443"],"from":"tunneld.yaml:3","hot":false,"afterRestart":["[::]:443"]}}})";

TEST(Settings, AreShownByKey) {
  const ScriptedApi api({{"/api/tunnel/config", always(200, kSettings)}});
  const auto get = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"settings", "get", "--admin-url", api.url()};
    words.insert(words.end(), more.begin(), more.end());
    return call(words, kToken);
  };
  EXPECT_EQ(get({}).out,
            "KEY              VALUE          HOT  FROM\n"
            "listen           [\"[::]:8443\"]       tunneld.yaml:3; after a restart: [\"[::]:443\"]\n"
            "request.slow     5s             yes  default\n"
            "request.timeout  30             yes  TUNNEL_REQUEST_TIMEOUT\n");
  EXPECT_THAT(get({"request.*"}).out, Not(HasSubstr("listen")));
  EXPECT_THAT(get({"--hot"}).out, Not(HasSubstr("listen")));
  EXPECT_EQ(get({"nonsense"}).status, ExitStatus::bad_input);
  EXPECT_EQ(nlohmann::json::parse(get({"listen", "-o", "json"}).out)["values"].size(), 1U);
}

TEST(Settings, AreSetTogetherAsTheyLook) {
  const ScriptedApi api({{"/api/tunnel/config", [](const ScriptedApi::Asked& asked) -> ScriptedApi::Says {
                            if (asked.method == "GET") return {200, kSettings};
                            return {200, R"({"changes":{"request.slow":"5s -> 2s"},"etag":"def"})"};
                          }}});
  const auto ended = call({"settings", "set", "request.slow=2s", "a.number=5", "a.flag=true", "a.text=a=b",
                           "a.gone=null", "a.quoted=\"5\"", "--admin-url", api.url()},
                          kToken);
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_EQ(ended.out, "request.slow: 5s -> 2s\n");
  const auto put = api.server().seen().at(1);
  EXPECT_EQ(
      put.body,
      R"({"request.slow":"2s","a.number":5,"a.flag":true,"a.text":"a=b","a.gone":null,"a.quoted":"5"})");
  EXPECT_THAT(put.head, HasSubstr("If-Match: \"abc\"\r\n"));
}

TEST(Settings, AConflictHasItsOwnStatus) {
  const ScriptedApi api({{"/api/tunnel/config", [](const ScriptedApi::Asked& asked) -> ScriptedApi::Says {
                            if (asked.method == "GET") return {200, kSettings};
                            return {412, R"({"error":{"code":"TUNNEL_010","message":"changed meanwhile"}})"};
                          }}});
  const auto ended = call({"settings", "set", "request.slow=2s", "--admin-url", api.url()}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::conflict);
  EXPECT_THAT(ended.err, HasSubstr("changed meanwhile"));
}

TEST(Settings, WhatIsNoKeyAndValueIsRefusedBeforeAnythingIsSent) {
  const ScriptedApi api({});
  for (const char* pair : {"request.slow", "=2s", ""})
    EXPECT_NE(call({"settings", "set", pair, "--admin-url", api.url()}, kToken).status, ExitStatus::ok);
  EXPECT_EQ(call({"settings", "set", "a=1", "a=2", "--admin-url", api.url()}, kToken).status,
            ExitStatus::bad_input);
  EXPECT_THAT(api.lines(), IsEmpty());
}

TEST(Settings, AreAllTakenBackOnlyWithConsent) {
  const ScriptedApi api({{"/api/tunnel/config/reset", always(200, R"({"changes":{}})")}});
  EXPECT_EQ(call({"settings", "reset", "--admin-url", api.url()}, kToken).status, ExitStatus::usage);
  EXPECT_THAT(api.lines(), IsEmpty());
  EXPECT_EQ(call({"settings", "reset", "--yes", "--admin-url", api.url()}, kToken).status, ExitStatus::ok);
  EXPECT_EQ(call({"settings", "reset", "a.b", "--admin-url", api.url()}, kToken).status, ExitStatus::ok);
}

TEST(Steering, SetsTheLogLevelForATime) {
  const ScriptedApi api({{"/api/tunnel/config/log-level", always(200, R"({"level":"WARN"})")}});
  const auto ended = call({"log-level", "set", "debug", "--ttl", "10m", "--admin-url", api.url()}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_EQ(ended.out, "WARN -> DEBUG for 10m\n");
  EXPECT_EQ(api.server().seen().at(1).body, R"({"level":"DEBUG","ttl":600})");
  EXPECT_EQ(call({"log-level", "get", "--admin-url", api.url()}, kToken).out, "WARN\n");
  EXPECT_EQ(call({"log-level", "set", "LOUD", "--admin-url", api.url()}, kToken).status, ExitStatus::usage);
  for (const char* ttl : {"0s", "10ms", "x", "-1m"})
    EXPECT_EQ(
        call({"log-level", "set", "INFO", "--ttl=" + std::string(ttl), "--admin-url", api.url()}, kToken)
            .status,
        ExitStatus::bad_input)
        << ttl;
}

TEST(Steering, DrainsOnlyWithConsent) {
  const ScriptedApi api({{"/api/tunnel/drain", always(202, R"({"deadline":"2026-01-02T03:04:35Z"})")}});
  EXPECT_EQ(call({"drain", "--admin-url", api.url()}, kToken).status, ExitStatus::usage);
  EXPECT_THAT(api.lines(), IsEmpty());
  const auto ended = call({"drain", "--yes", "--admin-url", api.url()}, kToken);
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("2026-01-02T03:04:35Z"));
}

TEST(Steering, RevokesOneTokenOrAllOfASubject) {
  const ScriptedApi api({{"/api/tunnel/revocations", always(201, "{}")}});
  const auto revoke = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"revoke", "--admin-url", api.url()};
    words.insert(words.end(), more.begin(), more.end());
    return call(words, kToken).status;
  };
  EXPECT_EQ(revoke({"--token-id", "9f", "--reason", "lost"}), ExitStatus::ok);
  EXPECT_EQ(revoke({"--issuer", "i", "--subject", "s"}), ExitStatus::ok);
  EXPECT_EQ(api.server().seen().size(), 2U);
  for (const auto& words :
       std::vector<std::vector<std::string>>{{},
                                             {"--issuer", "i"},
                                             {"--subject", "s"},
                                             {"--token-id", "9f", "--issuer", "i"},
                                             {"--token-id", "9f", "--issuer", "i", "--subject", "s"},
                                             {"--reason", "r"}})
    EXPECT_EQ(revoke(words), ExitStatus::usage);
  EXPECT_EQ(api.server().seen().size(), 2U);
}

TEST(Steering, PardonsAnAddress) {
  const ScriptedApi api({{"/api/tunnel/penalties/203.0.113.7", always(204, "")},
                         {"/api/tunnel/penalties/2001:db8::1", always(204, "")}});
  for (const char* address : {"203.0.113.7", "2001:db8::1"})
    EXPECT_EQ(call({"pardon", address, "--admin-url", api.url()}, kToken).status, ExitStatus::ok) << address;
  EXPECT_EQ(call({"pardon", "../drain", "--admin-url", api.url()}, kToken).status, ExitStatus::bad_input);
  EXPECT_EQ(api.lines().back(), "DELETE /api/tunnel/penalties/..%2Fdrain");
}

/// Events 1 to 5, in pages.
ScriptedApi::Answer five_events() {
  return [](const ScriptedApi::Asked& asked) -> ScriptedApi::Says {
    const auto number = [&](const std::string& name) {
      return std::stoi(asked.query.substr(asked.query.find(name + "=") + name.size() + 1));
    };
    std::string list;
    for (int id = number("after") + 1; id <= 5 && id <= number("after") + number("limit"); ++id)
      list +=
          (list.empty() ? "" : ",") + std::string("{\"id\":") + std::to_string(id) +
          R"(,"kind":"upstream.lost","time":"T","data":{"upstream":"far","why":"connection refused","n":1}})";
    return {200, R"({"first":1,"last":5,"gap":false,"events":[)" + list + "]}"};
  };
}

TEST(Events, AreTheNewestUnlessABeginningIsSaid) {
  const ScriptedApi api({{"/api/tunnel/events", five_events()}});
  const auto newest = call({"events", "--limit", "2", "--admin-url", api.url()}, kToken);
  EXPECT_EQ(newest.status, ExitStatus::ok) << newest.err;
  EXPECT_EQ(newest.out,
            "4  T  upstream.lost  upstream=far why=\"connection refused\" n=1\n"
            "5  T  upstream.lost  upstream=far why=\"connection refused\" n=1\n");
  const auto first = call({"events", "--after", "1", "--limit", "2", "--admin-url", api.url()}, kToken);
  EXPECT_THAT(first.out, AllOf(HasSubstr("2  T"), HasSubstr("3  T"), Not(HasSubstr("4  T"))));
  EXPECT_THAT(first.err, HasSubstr("--after 3"));
  const auto all = call({"events", "--limit", "0", "--admin-url", api.url(), "-o", "json"}, kToken);
  EXPECT_EQ(std::count(all.out.begin(), all.out.end(), '\n'), 5);
  EXPECT_EQ(nlohmann::json::parse(all.out.substr(0, all.out.find('\n')))["id"], 1);
}

TEST(Events, FollowGoesOnWithTheStreamBehindThePages) {
  std::stop_source stop;
  const support::LoopbackServer server([&](const support::LoopbackServer::Seen& seen)
                                           -> support::LoopbackServer::Reply {
    using Then = support::LoopbackServer::Then;
    const auto asked = ScriptedApi::parse(seen);
    if (seen.head.find("text/event-stream") == std::string::npos)
      return {support::http_answer(200, five_events()(asked).body), Then::keep};
    if (seen.head.find("Last-Event-ID: 6") != std::string::npos) {
      stop.request_stop();
      return {"", Then::hold};
    }
    return {
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\nid: 6\nevent: upstream.back\n"
        "data: {\"id\":6,\"kind\":\"upstream.back\",\"time\":\"T\",\"data\":{}}\n\n",
        Then::close};
  });
  const auto ended =
      call({"events", "--follow", "--limit", "1", "--admin-url", server.url()}, kToken, stop.get_token());
  EXPECT_EQ(ended.status, ExitStatus::interrupted);
  EXPECT_THAT(ended.out, AllOf(testing::StartsWith("5  T"), HasSubstr("\n6  T  upstream.back\n")));
  EXPECT_THAT(ended.err, HasSubstr("again in 1s"));
}

}  // namespace
