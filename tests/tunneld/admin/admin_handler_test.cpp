#include "tunneld/admin/admin_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tunneld/admin/fake_exchange.h"

namespace tunneld::admin {
namespace {

using tests::FakeExchange;
using tunnel::Code;

struct AdminPages : testing::Test {
  Health health{.not_ready = {}, .started_at = {}, .uptime = std::chrono::seconds(7), .version = "1.2.3"};
  std::vector<Code> refused;
  std::string level = "INFO";
  std::optional<std::chrono::seconds> ttl;

  // What the pages were told to do.
  std::vector<std::string> done;
  struct Told {
    std::string method, page, principal;
    unsigned status;
    bool notable;
  };
  std::vector<Told> told;
  std::optional<std::string> if_match;
  nlohmann::json body_seen;
  Done<ConfigChanges> config_answer = ConfigChanges{{{"a.b", "1 -> 2"}}, "e2"};
  std::vector<access::CircuitBreakers::Info> breakers;
  std::vector<access::Revocations::Entry> revoked;
  Result<void> revoke_answer{};
  EventSource::Page page{.events = {{4, "drain.began", R"({"id":4})"}, {5, "drain.ended", R"({"id":5})"}},
                         .first = 2,
                         .last = 5,
                         .gap = false};
  std::uint64_t asked_after = 0;
  std::size_t asked_limit = 0;
  History history;
  UserTable users;

  AdminHandler handler{sources()};

  Sources sources() {
    Sources made;
    made.metrics = [](bool open, bool compat) {
      return std::string(open ? "open" : "plain") + (compat ? " compat" : "");
    };
    made.health = [this] { return health; };
    made.counts = [] { return HealthCounts{3, 2}; };
    made.authenticate = [](const tunnel::RequestHead& head) -> tunnel::Served<tunnel::Principal> {
      const auto* bearer = head.find("authorization");
      tunnel::Principal who;
      if (bearer == nullptr) return tunnel::refuse(Code::token_invalid, "no token");
      if (*bearer == "Bearer old") return tunnel::refuse(Code::token_expired, "expired");
      who.subject = bearer->substr(7);
      who.scopes = {*bearer == "Bearer admin" ? "tunnel:admin" : "tunnel:administrator"};
      return who;
    };
    made.agents = [] { return nlohmann::ordered_json{{"agents", nlohmann::json::array()}}; };
    made.forget_agent = [this](const std::string& whose, const std::string& id) -> tunnel::Served<void> {
      done.push_back("forget " + whose + " " + id);
      if (id != "home") return tunnel::refuse(Code::bad_request, "no agent of that name is enrolled");
      return {};
    };
    made.connections = [] { return nlohmann::ordered_json{{"connections", nlohmann::json::array()}}; };
    made.diagnostics = [] { return nlohmann::ordered_json{{"service", "here"}}; };
    made.log_level = [this] { return level; };
    made.set_log_level = [this](const std::string& to, std::optional<std::chrono::seconds> lasting) {
      level = to;
      ttl = lasting;
    };
    made.refused = [this](Code code) { refused.push_back(code); };
    made.called = [this](const AdminCall& call) {
      told.push_back({std::string(call.method), std::string(call.page),
                      call.principal ? call.principal->subject : "", call.status, call.notable});
    };
    made.config = [] { return nlohmann::ordered_json{{"etag", "e1"}, {"values", nlohmann::json::object()}}; };
    made.put_config = [this](const std::optional<std::string>& match, const nlohmann::json& body) {
      if_match = match;
      body_seen = body;
      done.push_back("put_config");
      return config_answer;
    };
    made.reset_config = [this](const std::optional<std::string>& match,
                               const std::vector<std::string>& keys) {
      if_match = match;
      body_seen = keys;
      done.push_back("reset_config");
      return config_answer;
    };
    made.snapshot = [] {
      Metrics::Snapshot shot;
      shot.sockets = 11;
      shot.waiting_by_priority = {1, 2, 3};
      shot.waiting = 6;
      shot.slow = 4;
      return shot;
    };
    made.latency = [](std::chrono::seconds) {
      return SlidingDurations::Percentiles{.count = 1, .mean = 0.1, .p50 = 0.05, .p95 = 0.2, .p99 = 0.3};
    };
    made.history = &history;
    made.users = &users;
    made.breakers = [this] { return breakers; };
    made.reset_breaker = [this](std::string_view id) {
      done.push_back("reset " + std::string(id));
      return id == "00ff00ff00ff00ff";
    };
    made.pardon = [this](const std::string& address) {
      done.push_back("pardon " + address);
      return address != "192.0.2.1";
    };
    made.revocations = [this] { return revoked; };
    made.revoke = [this](access::Revocations::Entry entry) {
      if (revoke_answer) revoked.push_back(std::move(entry));
      return revoke_answer;
    };
    made.close_connection = [this](std::uint64_t id) {
      done.push_back("close " + std::to_string(id));
      return id == 7;
    };
    made.drain = [this] {
      done.push_back("drain");
      return std::chrono::system_clock::time_point(std::chrono::seconds(1'772'323'200));
    };
    made.events.after = [this](std::uint64_t after, std::size_t limit) {
      asked_after = after;
      asked_limit = limit;
      return page;
    };
    made.events.subscribe = [](std::function<void()>) { return std::shared_ptr<void>(); };
    return made;
  }

  FakeExchange send(const std::string& method, const std::string& path, const std::string& body = "",
                    const std::string& token = "admin") {
    FakeExchange exchange(method, path);
    if (!token.empty()) exchange.with_bearer(token);
    if (!body.empty()) exchange.with_body(body);
    exchange.serve(handler);
    return exchange;
  }
  FakeExchange get(const std::string& path, const std::string& token = "") {
    FakeExchange exchange("GET", path);
    if (!token.empty()) exchange.with_bearer(token);
    exchange.serve(handler);
    return exchange;
  }
  static nlohmann::json error_of(const FakeExchange& exchange) {
    return nlohmann::json::parse(exchange.body).at("error");
  }
};

TEST_F(AdminPages, EveryAnswerIsUncachedAndCarriesTheCorrelationId) {
  for (const auto* path : {"/healthz", "/metrics", "/nowhere", "/api/tunnel/diagnostics"}) {
    SCOPED_TRACE(path);
    const auto exchange = get(path);
    EXPECT_EQ(exchange.field("Cache-Control"), "no-store");
    EXPECT_EQ(exchange.field("X-Correlation-ID"), "test-1");
    EXPECT_TRUE(exchange.finished);
  }
}

TEST_F(AdminPages, OnlyTheOlderPathShowsTheCompatibilityNames) {
  EXPECT_EQ(get("/metrics").body, "plain");
  EXPECT_EQ(get("/api/tunnel/metrics").body, "plain compat");
  EXPECT_EQ(get("/metrics").field("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
}

TEST_F(AdminPages, OpenMetricsIsSpokenToThoseWhoPreferIt) {
  struct Row {
    const char* accept;
    bool open;
  };
  const Row rows[] = {
      {"application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true},
      {"application/openmetrics-text", true},
      {"text/plain;q=1, application/openmetrics-text;q=0.5", false},
      {"application/openmetrics-text;q=0", false},
      {"text/plain", false},
      {"*/*", false},
      {"", false},
      {";;;,,,q=9", false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.accept);
    FakeExchange exchange("GET", "/metrics");
    exchange.with("Accept", row.accept).serve(handler);
    EXPECT_EQ(exchange.body, row.open ? "open" : "plain");
  }
}

TEST_F(AdminPages, DrainingTurnsReadinessButNotLiveness) {
  EXPECT_EQ(get("/readyz").answered.status, 200U);
  EXPECT_EQ(get("/api/tunnel/health").answered.status, 200U);
  health.not_ready = "draining";
  EXPECT_EQ(get("/readyz").answered.status, 503U);
  EXPECT_EQ(get("/healthz").answered.status, 200U);
  const auto summary = get("/api/tunnel/health");
  EXPECT_EQ(summary.answered.status, 503U);
  const auto body = nlohmann::json::parse(summary.body);
  EXPECT_EQ(body["status"], "unhealthy");
  EXPECT_EQ(body["reason"], "draining");
}

TEST_F(AdminPages, TheSummaryTellsStateVersionUptimeAndCounts) {
  const auto body = nlohmann::json::parse(get("/api/tunnel/health").body);
  EXPECT_EQ(body["status"], "healthy");
  EXPECT_EQ(body["version"], "1.2.3");
  EXPECT_EQ(body["uptime"], 7);
  EXPECT_EQ(body["connections"], 3);
}

struct Guarded {
  const char* method;
  const char* path;
};
constexpr Guarded kGuarded[] = {
    {"GET", "/api/tunnel/diagnostics"},      {"GET", "/api/tunnel/config"},
    {"PUT", "/api/tunnel/config"},           {"POST", "/api/tunnel/config/reset"},
    {"GET", "/api/tunnel/config/log-level"}, {"PUT", "/api/tunnel/config/log-level"},
    {"GET", "/api/tunnel/metrics/json"},     {"GET", "/api/tunnel/metrics/history"},
    {"GET", "/api/tunnel/metrics/users"},    {"GET", "/api/tunnel/metrics/user/0123456789abcdef"},
    {"GET", "/api/tunnel/circuit-breakers"}, {"POST", "/api/tunnel/circuit-breakers/00ff00ff00ff00ff/reset"},
    {"GET", "/api/tunnel/connections"},      {"GET", "/api/tunnel/agents"},
    {"DELETE", "/api/tunnel/connections/7"}, {"POST", "/api/tunnel/drain"},
    {"GET", "/api/tunnel/events"},           {"GET", "/api/tunnel/revocations"},
    {"POST", "/api/tunnel/revocations"},     {"DELETE", "/api/tunnel/penalties/192.0.2.7"},
    {"POST", "/api/tunnel/agents/forget"},
};

TEST_F(AdminPages, AllButTheOpenOnesNeedTheExactScope) {
  for (const auto& [method, path] : kGuarded) {
    SCOPED_TRACE(std::string(method) + " " + path);
    const auto none = send(method, path, "", "");
    EXPECT_EQ(none.answered.status, 401U);
    EXPECT_EQ(none.field("WWW-Authenticate"), "Bearer error=\"invalid_token\"");
    EXPECT_EQ(error_of(none)["code"], "TUNNEL_002");
    EXPECT_EQ(error_of(send(method, path, "", "old"))["code"], "TUNNEL_003");
    // A scope that only contains the right one is a wrong one.
    const auto other = send(method, path, "", "user");
    EXPECT_EQ(other.answered.status, 403U);
    EXPECT_EQ(error_of(other)["code"], "TUNNEL_011");
  }
  EXPECT_THAT(done, testing::IsEmpty()) << "something was done for those who may not";
  EXPECT_TRUE(revoked.empty());
  EXPECT_EQ(level, "INFO");
  EXPECT_THAT(refused, testing::Contains(Code::forbidden));
}

TEST_F(AdminPages, NothingThatACallerWritesBesideTheTokenOpensThem) {
  FakeExchange forged("POST", "/api/tunnel/drain");
  forged.with("X-Forwarded-For", "127.0.0.1")
      .with("X-Forwarded-User", "admin")
      .with("X-Scope", "tunnel:admin")
      .with("X-Original-URL", "/healthz")
      .with("X-HTTP-Method-Override", "GET")
      .with("Cookie", "token=admin")
      .serve(handler);
  EXPECT_EQ(forged.answered.status, 401U);
  for (const auto* path :
       {"/api/tunnel/drain?access_token=admin", "/healthz/../api/tunnel/drain", "//api/tunnel/drain",
        "/api/tunnel/drain/", "/API/tunnel/drain", "/api/tunnel/dr%61in"})
    EXPECT_GE(send("POST", path, "", "").answered.status, 401U) << path;
  EXPECT_THAT(done, testing::IsEmpty());
}

TEST_F(AdminPages, EveryCallOfAGuardedPageIsReported) {
  send("GET", "/api/tunnel/diagnostics");
  send("GET", "/api/tunnel/diagnostics", "", "");
  send("DELETE", "/api/tunnel/connections/7", "", "user");
  send("DELETE", "/api/tunnel/connections/7");
  send("GET", "/healthz", "", "");
  send("GET", "/nowhere");
  ASSERT_EQ(told.size(), 4U) << "open and unknown pages are not";
  EXPECT_EQ(told[0].principal, "admin");
  EXPECT_FALSE(told[0].notable);
  EXPECT_EQ(told[1].status, 401U);
  EXPECT_EQ(told[1].principal, "");
  EXPECT_TRUE(told[1].notable) << "it was denied";
  EXPECT_EQ(told[2].status, 403U);
  EXPECT_EQ(told[2].principal, "user") << "the token was good, the scope was not";
  EXPECT_EQ(told[3].page, "/api/tunnel/connections/{id}") << "the pattern: ids are for the log alone";
  EXPECT_EQ(told[3].status, 204U);
  EXPECT_TRUE(told[3].notable) << "it changed something";
}

TEST_F(AdminPages, UnknownPagesAndMethodsAreRefusedInTheOneBody) {
  const auto nowhere = get("/api/tunnel/nowhere");
  EXPECT_EQ(nowhere.answered.status, 404U);
  EXPECT_EQ(error_of(nowhere)["correlationId"], "test-1");
  FakeExchange post("POST", "/metrics");
  post.serve(handler);
  EXPECT_EQ(post.answered.status, 405U);
  EXPECT_EQ(post.field("Allow"), "GET, HEAD");
}

TEST_F(AdminPages, HeadHasTheFieldsAndNoBody) {
  FakeExchange head("HEAD", "/healthz");
  head.serve(handler);
  EXPECT_EQ(head.answered.status, 200U);
  EXPECT_TRUE(head.body.empty());
  EXPECT_TRUE(head.finished);
}

TEST_F(AdminPages, TheLogLevelIsReadAndChanged) {
  EXPECT_EQ(nlohmann::json::parse(get("/api/tunnel/config/log-level", "admin").body)["level"], "INFO");
  FakeExchange put("PUT", "/api/tunnel/config/log-level");
  put.with_bearer("admin").with_body(R"({"level":"DEBUG","ttl":600})").serve(handler);
  EXPECT_EQ(put.answered.status, 200U);
  EXPECT_EQ(level, "DEBUG");
  EXPECT_EQ(ttl, std::chrono::seconds(600));
}

TEST_F(AdminPages, BadLogLevelsChangeNothingAndNameEveryFault) {
  struct Row {
    const char* body;
    std::size_t details;
  };
  const std::string deep = R"({"level":)" + std::string(2000, '[') + std::string(2000, ']') + "}";
  const std::string large = R"({"level":"INFO","x":")" + std::string(5000, 'x') + "\"}";
  const Row rows[] = {
      {"", 1},
      {"{", 1},
      {"[]", 1},
      {"{}", 1},
      {R"({"level":"info"})", 1},
      {R"({"level":3})", 1},
      {R"({"level":"LOUD","ttl":0,"extra":1})", 3},
      {R"({"level":"INFO","ttl":1.5})", 1},
      {R"({"level":"INFO","ttl":86401})", 1},
      {R"({"level":"INFO","ttl":99999999999999999999})", 1},
      {R"({"level":"INFO","level":"DEBUG"})", 1},
      {R"({"level":"INFO"} x)", 1},
      {deep.c_str(), 1},
      {large.c_str(), 1},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.body).substr(0, 60));
    FakeExchange put("PUT", "/api/tunnel/config/log-level");
    put.with_bearer("admin").with_body(row.body).serve(handler);
    EXPECT_EQ(put.answered.status, 400U);
    EXPECT_EQ(error_of(put)["code"], "TUNNEL_010");
    EXPECT_EQ(error_of(put)["details"].size(), row.details) << put.body;
    EXPECT_EQ(level, "INFO");
  }
}

TEST_F(AdminPages, TheMethodsOfAPageAreTold) {
  struct Row {
    const char* method;
    const char* path;
    const char* allow;
  };
  const Row rows[] = {
      {"DELETE", "/api/tunnel/config", "GET, HEAD, PUT"},
      {"GET", "/api/tunnel/config/reset", "POST"},
      {"GET", "/api/tunnel/connections/7", "DELETE"},
      {"PUT", "/api/tunnel/revocations", "GET, HEAD, POST"},
      {"GET, HEAD", "/api/tunnel/diagnostics", "GET, HEAD"},
      {"get", "/healthz", "GET, HEAD"},
      {"GE", "/healthz", "GET, HEAD"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.path);
    const auto exchange = send(row.method, row.path);
    EXPECT_EQ(exchange.answered.status, 405U);
    EXPECT_EQ(exchange.field("Allow"), row.allow);
  }
}

TEST_F(AdminPages, TheConfigurationHasAnEtag) {
  const auto page_of_config = send("GET", "/api/tunnel/config");
  EXPECT_EQ(page_of_config.answered.status, 200U);
  EXPECT_EQ(page_of_config.field("ETag"), "\"e1\"");
}

TEST_F(AdminPages, AChangeOfTheConfigurationIsPassedOnWithItsCondition) {
  FakeExchange put("PUT", "/api/tunnel/config");
  put.with_bearer("admin").with("If-Match", "\"x\"").with("if-match", "\"e1\"").with_body(R"({"a.b":2})");
  put.serve(handler);
  EXPECT_EQ(put.answered.status, 200U);
  EXPECT_EQ(if_match, "\"x\", \"e1\"");
  EXPECT_EQ(body_seen, nlohmann::json::parse(R"({"a.b":2})"));
  EXPECT_EQ(put.field("ETag"), "\"e2\"");
  const auto body = nlohmann::json::parse(put.body);
  EXPECT_EQ(body["changes"]["a.b"], "1 -> 2");
  EXPECT_EQ(body["etag"], "e2");
}

TEST_F(AdminPages, ARefusedChangeKeepsItsStatusAndDetails) {
  for (const unsigned status : {400U, 409U, 412U, 428U}) {
    config_answer = tl::unexpected(Fault{{Code::bad_request, "no", {}, status}, {"a.b: one", "c.d: two"}});
    const auto put = send("PUT", "/api/tunnel/config", R"({"a.b":2})");
    EXPECT_EQ(put.answered.status, status);
    EXPECT_EQ(error_of(put)["code"], "TUNNEL_010");
    EXPECT_THAT(error_of(put)["details"], testing::ElementsAre("a.b: one", "c.d: two"));
    EXPECT_EQ(if_match, std::nullopt);
  }
}

TEST_F(AdminPages, AResetNamesItsKeysOrMeansAll) {
  EXPECT_EQ(send("POST", "/api/tunnel/config/reset").answered.status, 200U);
  EXPECT_EQ(body_seen, nlohmann::json::array());
  EXPECT_EQ(send("POST", "/api/tunnel/config/reset", "{}").answered.status, 200U);
  EXPECT_EQ(send("POST", "/api/tunnel/config/reset", R"({"keys":["a.b"]})").answered.status, 200U);
  EXPECT_EQ(body_seen, nlohmann::json::array({"a.b"}));
  done.clear();
  for (const auto* body : {R"({"keys":[]})", R"({"keys":"a.b"})", R"({"keys":[1]})", R"({"keys":[""]})",
                           R"({"key":["a.b"]})", "[]", "null x", R"({"keys":["a\u0000b"]})"}) {
    SCOPED_TRACE(body);
    EXPECT_EQ(send("POST", "/api/tunnel/config/reset", body).answered.status, 400U);
  }
  EXPECT_THAT(done, testing::IsEmpty());
}

TEST_F(AdminPages, ABodyTooLargeIsRefusedAsSuch) {
  const auto put = send("PUT", "/api/tunnel/config", "{\"a\":\"" + std::string(64 * 1024, 'x') + "\"}");
  EXPECT_EQ(put.answered.status, 413U);
  EXPECT_EQ(error_of(put)["code"], "TUNNEL_016");
  EXPECT_THAT(done, testing::IsEmpty());
}

TEST_F(AdminPages, AHostileNameOfAFieldIsQuotedHarmlessly) {
  const auto put = send("PUT", "/api/tunnel/config/log-level",
                        "{\"level\":\"INFO\",\"" + std::string(63, 'x') + "\xC3\xA9\\u0007\":1}");
  EXPECT_EQ(put.answered.status, 400U);
  EXPECT_EQ(error_of(put)["details"].size(), 1U);
  EXPECT_EQ(level, "INFO");
}

TEST_F(AdminPages, NumbersTellAWindow) {
  History::Totals totals{};
  const auto now = std::chrono::system_clock::now();
  history.add(totals, now - std::chrono::seconds(30));
  totals.requests = 60;
  totals.errors = 6;
  history.add(totals, now - std::chrono::seconds(20));
  const auto body = nlohmann::json::parse(send("GET", "/api/tunnel/metrics/json?window=1m").body);
  EXPECT_EQ(body["windowSeconds"], 60);
  EXPECT_EQ(body["coveredSeconds"], 10);
  EXPECT_EQ(body["requests"]["total"], 60);
  EXPECT_EQ(body["requests"]["perSecond"], 6.0);
  EXPECT_DOUBLE_EQ(body["requests"]["successRate"].get<double>(), 0.9);
  EXPECT_DOUBLE_EQ(body["latencyMs"]["p95"].get<double>(), 200);
  EXPECT_EQ(body["queue"]["byPriority"]["low"], 3);
  EXPECT_EQ(body["sinceStart"]["slow"], 4);
}

TEST_F(AdminPages, BadQueriesNameEveryFault) {
  struct Row {
    const char* target;
    std::size_t details;
  };
  const Row rows[] = {
      {"/api/tunnel/metrics/json?window=5", 1},
      {"/api/tunnel/metrics/json?window=1s", 1},
      {"/api/tunnel/metrics/json?window=2h", 1},
      {"/api/tunnel/metrics/json?window=5m&window=5m", 1},
      {"/api/tunnel/metrics/json?window=-1m", 1},
      {"/api/tunnel/metrics/json?windows=5m", 1},
      {"/api/tunnel/metrics/json?window", 1},
      {"/api/tunnel/metrics/history?window=2h", 1},
      {"/api/tunnel/metrics/history?window=24h&aggregation=raw", 1},
      {"/api/tunnel/metrics/history?window=x&aggregation=y&z=1", 3},
      {"/api/tunnel/metrics/users?limit=0", 1},
      {"/api/tunnel/metrics/users?limit=10001", 1},
      {"/api/tunnel/metrics/users?limit=1e3", 1},
      {"/api/tunnel/metrics/users?limit=+5", 1},
      {"/api/tunnel/events?after=-1", 1},
      {"/api/tunnel/events?after=18446744073709551616", 1},
      {"/api/tunnel/events?after=1&limit=1001", 1},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.target);
    const auto exchange = send("GET", row.target);
    EXPECT_EQ(exchange.answered.status, 400U);
    EXPECT_EQ(error_of(exchange)["code"], "TUNNEL_010");
    EXPECT_EQ(error_of(exchange)["details"].size(), row.details) << exchange.body;
  }
}

TEST_F(AdminPages, HistoryHasAnAggregationThatFitsTheWindow) {
  const auto of = [this](const char* query) {
    return nlohmann::json::parse(send("GET", std::string("/api/tunnel/metrics/history") + query).body);
  };
  EXPECT_EQ(of("")["aggregation"], "raw");
  EXPECT_EQ(of("?window=24h")["aggregation"], "hourly");
  EXPECT_EQ(of("?window=7d&aggregation=daily")["window"], "7d");
}

TEST_F(AdminPages, UsersAreToldByTheirHashes) {
  const auto now = std::chrono::system_clock::now();
  const std::string key("issuer\0alice", 12);
  users.request_finished(key, {.tier = tunnel::Tier::premium, .took = std::chrono::milliseconds(30)}, now);
  users.request_finished(
      key, {.tier = tunnel::Tier::premium, .failed = true, .took = std::chrono::milliseconds(10)}, now);
  users.request_finished("bob", {.tier = tunnel::Tier::free}, now);
  const auto list = send("GET", "/api/tunnel/metrics/users?limit=1");
  EXPECT_THAT(list.body, testing::Not(testing::HasSubstr("alice")));
  const auto body = nlohmann::json::parse(list.body);
  EXPECT_EQ(body["total"], 2);
  ASSERT_EQ(body["users"].size(), 1U);
  const auto& alice = body["users"][0];
  EXPECT_EQ(alice["principal"], tunnel::principal_hash(key));
  EXPECT_EQ(alice["tier"], "premium");
  EXPECT_EQ(alice["requests"], 2);
  EXPECT_EQ(alice["errors"], 1);
  EXPECT_EQ(alice["meanMs"], 20.0);
  const auto one = send("GET", "/api/tunnel/metrics/user/" + tunnel::principal_hash(key));
  EXPECT_EQ(nlohmann::json::parse(one.body)["requests"], 2);
  EXPECT_EQ(send("GET", "/api/tunnel/metrics/user/0000000000000000").answered.status, 404U);
  EXPECT_EQ(send("GET", "/api/tunnel/metrics/user/").answered.status, 404U);
  EXPECT_EQ(send("GET", "/api/tunnel/metrics/user/a/b").answered.status, 404U);
}

TEST_F(AdminPages, BreakersAreListedAndReset) {
  access::CircuitBreakers::Info breaker;
  breaker.id = "00ff00ff00ff00ff";
  breaker.principal = std::string("issuer\0alice", 12);
  breaker.upstream = "lab";
  breaker.service = "web";
  breaker.state = access::BreakerState::half_open;
  breaker.opened_at = std::chrono::steady_clock::now();
  breaker.last_errors = {"TUNNEL_001: refused \xFF"};
  breakers = {breaker};
  const auto list = send("GET", "/api/tunnel/circuit-breakers");
  EXPECT_THAT(list.body, testing::Not(testing::HasSubstr("alice")));
  const auto one = nlohmann::json::parse(list.body)["breakers"][0];
  EXPECT_EQ(one["state"], "half_open");
  EXPECT_EQ(one["principal"], tunnel::principal_hash(breaker.principal));
  EXPECT_TRUE(one["openedAt"].is_string());
  EXPECT_TRUE(one["nextProbe"].is_null());
  EXPECT_EQ(one["lastErrors"].size(), 1U);

  const auto reset = send("POST", "/api/tunnel/circuit-breakers/00ff00ff00ff00ff/reset");
  EXPECT_EQ(reset.answered.status, 200U);
  EXPECT_EQ(nlohmann::json::parse(reset.body)["state"], "closed");
  EXPECT_EQ(send("POST", "/api/tunnel/circuit-breakers/ffff/reset").answered.status, 404U);
  EXPECT_EQ(send("POST", "/api/tunnel/circuit-breakers/00ff00ff00ff00ff/reset", R"({"force":true})")
                .answered.status,
            400U);
  EXPECT_EQ(send("POST", "/api/tunnel/circuit-breakers//reset").answered.status, 404U);
  EXPECT_THAT(done, testing::ElementsAre("reset 00ff00ff00ff00ff", "reset ffff"));
}

TEST_F(AdminPages, ConnectionsAreClosedByTheirNumber) {
  const auto closed = send("DELETE", "/api/tunnel/connections/7");
  EXPECT_EQ(closed.answered.status, 204U);
  EXPECT_EQ(closed.body, "");
  EXPECT_EQ(closed.field("Content-Type"), "");
  for (const auto* id : {"8", "x", "-7", "7x", "%37%00", "99999999999999999999", "+7", "%"})
    EXPECT_EQ(send("DELETE", std::string("/api/tunnel/connections/") + id).answered.status, 404U) << id;
  EXPECT_THAT(done, testing::ElementsAre("close 7", "close 8"));
}

TEST_F(AdminPages, ADrainTellsItsDeadline) {
  const auto drain = send("POST", "/api/tunnel/drain");
  EXPECT_EQ(drain.answered.status, 202U);
  EXPECT_EQ(nlohmann::json::parse(drain.body)["deadline"], "2026-03-01T00:00:00.000Z");
  EXPECT_EQ(send("POST", "/api/tunnel/drain", R"({"now":true})").answered.status, 400U);
  EXPECT_EQ(done.size(), 1U);
}

TEST_F(AdminPages, TokensAreRevokedByIdOrBySubject) {
  const auto by_id = send("POST", "/api/tunnel/revocations", R"({"tokenId":"abc","reason":"lost laptop"})");
  EXPECT_EQ(by_id.answered.status, 201U);
  const auto by_subject =
      send("POST", "/api/tunnel/revocations", R"({"issuer":"https://id/","subject":"bob"})");
  EXPECT_EQ(by_subject.answered.status, 201U);
  ASSERT_EQ(revoked.size(), 2U);
  EXPECT_EQ(revoked[0].token_id, "abc");
  EXPECT_EQ(revoked[0].reason, "lost laptop");
  EXPECT_EQ(revoked[1].subject, "bob");
  EXPECT_NE(revoked[1].issued_until, std::chrono::system_clock::time_point{});
  const auto list = nlohmann::json::parse(send("GET", "/api/tunnel/revocations").body)["revocations"];
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["tokenId"], "abc");
  EXPECT_FALSE(list[0].contains("subject"));
  EXPECT_EQ(list[1]["issuer"], "https://id/");
}

TEST_F(AdminPages, BrokenRevocationsChangeNothingAndNameEveryFault) {
  struct Row {
    std::string body;
    std::size_t details;
  };
  const Row rows[] = {
      {"", 1},
      {"{}", 2},
      {R"({"issuer":"i"})", 1},
      {R"({"subject":"s"})", 1},
      {R"({"tokenId":"a","subject":"s"})", 1},
      {R"({"tokenId":7})", 1},
      {R"({"tokenId":""})", 1},
      {R"({"tokenId":"a","reason":"x\ny"})", 1},
      {R"({"tokenId":"a","until":"tomorrow"})", 1},
      {R"({"tokenId":")" + std::string(256, 'x') + R"("})", 1},
      {R"({"tokenId":"a","reason":")" + std::string(201, 'x') + R"("})", 1},
      {R"({"tokenId":"a","tokenId":"b"})", 1},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.body.substr(0, 60));
    const auto post = send("POST", "/api/tunnel/revocations", row.body);
    EXPECT_EQ(post.answered.status, 400U);
    EXPECT_EQ(error_of(post)["details"].size(), row.details) << post.body;
  }
  EXPECT_TRUE(revoked.empty());
}

TEST_F(AdminPages, ARevocationThatCannotBeKeptIsNotPromised) {
  revoke_answer = fail(Error::Kind::unavailable, "revocations.json: no space left");
  const auto post = send("POST", "/api/tunnel/revocations", R"({"tokenId":"abc"})");
  EXPECT_EQ(post.answered.status, 503U);
  EXPECT_EQ(error_of(post)["code"], "TUNNEL_004");
}

TEST_F(AdminPages, AddressesArePardoned) {
  EXPECT_EQ(send("DELETE", "/api/tunnel/penalties/198.51.100.7").answered.status, 204U);
  EXPECT_EQ(send("DELETE", "/api/tunnel/penalties/2001:db8::1").answered.status, 204U);
  EXPECT_EQ(send("DELETE", "/api/tunnel/penalties/2001%3Adb8%3A%3A1").answered.status, 204U);
  EXPECT_EQ(send("DELETE", "/api/tunnel/penalties/192.0.2.1").answered.status, 404U);
  EXPECT_EQ(send("DELETE", "/api/tunnel/penalties/example.com").answered.status, 400U);
  EXPECT_THAT(done, testing::ElementsAre("pardon 198.51.100.7", "pardon 2001:db8::1", "pardon 2001:db8::1",
                                         "pardon 192.0.2.1"));
}

TEST_F(AdminPages, AnAgentsHostKeyIsForgotten) {
  constexpr const char* kPage = "/api/tunnel/agents/forget";
  EXPECT_EQ(send("POST", kPage, R"({"agentId":"home","principal":"00ff"})").answered.status, 204U);
  EXPECT_EQ(send("POST", kPage, R"({"agentId":"cabin","principal":"00ff"})").answered.status, 400U);
  for (const auto* body : {"", "{}", R"({"agentId":"home"})", R"({"agentId":1,"principal":"a"})",
                           R"({"agentId":"home","principal":"a","more":1})"})
    EXPECT_EQ(send("POST", kPage, body).answered.status, 400U) << body;
  EXPECT_EQ(send("GET", kPage).answered.status, 405U);
  EXPECT_THAT(done, testing::ElementsAre("forget 00ff home", "forget 00ff cabin"));
}

TEST_F(AdminPages, EventsComeAsAPage) {
  const auto body = nlohmann::json::parse(send("GET", "/api/tunnel/events?after=3&limit=50").body);
  EXPECT_EQ(asked_after, 3U);
  EXPECT_EQ(asked_limit, 50U);
  EXPECT_EQ(body["first"], 2);
  EXPECT_EQ(body["last"], 5);
  EXPECT_EQ(body["gap"], false);
  ASSERT_EQ(body["events"].size(), 2U);
  EXPECT_EQ(body["events"][1]["id"], 5);
  page = {};
  EXPECT_EQ(nlohmann::json::parse(send("GET", "/api/tunnel/events").body)["events"].size(), 0U);
}

TEST_F(AdminPages, AnEventStreamBeginsWhereItsReaderWas) {
  page = {.events = {}, .first = 2, .last = 5, .gap = false};
  handler.end_streams();  // so that a stream would end at once: there is no room for it
  FakeExchange none("GET", "/api/tunnel/events");
  none.with_bearer("admin").with("Accept", "text/event-stream").serve(handler);
  EXPECT_EQ(none.answered.status, 503U);
  EXPECT_EQ(none.field("Retry-After"), "10");
  FakeExchange broken("GET", "/api/tunnel/events");
  broken.with_bearer("admin")
      .with("Accept", "text/event-stream")
      .with("Last-Event-ID", "4; drop")
      .serve(handler);
  EXPECT_EQ(broken.answered.status, 400U);
}

}  // namespace
}  // namespace tunneld::admin
