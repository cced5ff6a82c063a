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

  AdminHandler handler{Sources{
      .metrics = [](bool open,
                    bool compat) { return std::string(open ? "open" : "plain") + (compat ? " compat" : ""); },
      .health = [this] { return health; },
      .counts =
          [] {
            return HealthCounts{3, 2};
          },
      .authenticate = [](const tunnel::RequestHead& head) -> tunnel::Served<access::Principal> {
        const auto* bearer = head.find("authorization");
        access::Principal who;
        if (bearer == nullptr) return tunnel::refuse(Code::token_invalid, "no token");
        if (*bearer == "Bearer old") return tunnel::refuse(Code::token_expired, "expired");
        who.scopes = {*bearer == "Bearer admin" ? "tunnel:admin" : "tunnel:administrator"};
        return who;
      },
      .connections =
          [] {
            return nlohmann::ordered_json{{"connections", nlohmann::json::array()}};
          },
      .diagnostics =
          [] {
            return nlohmann::ordered_json{{"service", "here"}};
          },
      .log_level = [this] { return level; },
      .set_log_level =
          [this](const std::string& to, std::optional<std::chrono::seconds> lasting) {
            level = to;
            ttl = lasting;
          },
      .refused = [this](Code code) { refused.push_back(code); }}};

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

TEST_F(AdminPages, DiagnosticsNeedTheExactScope) {
  for (const auto* path :
       {"/api/tunnel/connections", "/api/tunnel/diagnostics", "/api/tunnel/config/log-level"}) {
    SCOPED_TRACE(path);
    const auto none = get(path);
    EXPECT_EQ(none.answered.status, 401U);
    EXPECT_EQ(none.field("WWW-Authenticate"), "Bearer error=\"invalid_token\"");
    EXPECT_EQ(error_of(none)["code"], "TUNNEL_002");
    EXPECT_EQ(error_of(get(path, "old"))["code"], "TUNNEL_003");
    // A scope that only contains the right one is a wrong one.
    const auto other = get(path, "user");
    EXPECT_EQ(other.answered.status, 403U);
    EXPECT_EQ(error_of(other)["code"], "TUNNEL_011");
    EXPECT_EQ(get(path, "admin").answered.status, 200U);
  }
  EXPECT_THAT(refused, testing::Contains(Code::forbidden));
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

}  // namespace
}  // namespace tunneld::admin
