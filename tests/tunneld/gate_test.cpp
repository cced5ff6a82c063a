#include "tunneld/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tunneld/admin/fake_exchange.h"
#include "tunneld/access/local_issuer.h"
#include "tunneld/admin/metrics.h"

namespace tunneld {
namespace {

using tests::FakeExchange;
using tunnel::Code;
using tunnel::RelayEnd;

/// A stream whose peer has ended already.
class EndedStream : public tunnel::ByteStream {
 public:
  boost::asio::awaitable<Result<std::size_t>> read(std::span<std::byte>) override {
    co_return std::size_t{0};
  }
  boost::asio::awaitable<Result<void>> write(std::span<const std::byte>) override {
    co_return Result<void>{};
  }
  boost::asio::awaitable<Result<void>> shutdown_write() override { co_return Result<void>{}; }
  void close() noexcept override {}
};

class EndedWebSocket final : public tunnel::WebSocketStream {
 public:
  explicit EndedWebSocket(std::uint16_t& code) : code_(code) {}
  boost::asio::awaitable<Result<std::size_t>> read(std::span<std::byte>) override {
    co_return std::size_t{0};
  }
  boost::asio::awaitable<Result<void>> write(std::span<const std::byte>) override {
    co_return Result<void>{};
  }
  boost::asio::awaitable<Result<void>> shutdown_write() override { co_return Result<void>{}; }
  void close() noexcept override {}
  boost::asio::awaitable<void> close_with(std::uint16_t code, std::string_view) override {
    code_ = code;
    co_return;
  }
  Ending ending() const override { return {code_, false}; }

 private:
  std::uint16_t& code_;
};

/// Opens ended streams, or refuses as told.
class FakeDialer final : public tunnel::Dialer {
 public:
  boost::asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open(
      const access::Principal& principal, const tunnel::Service& service,
      std::chrono::steady_clock::time_point) override {
    opened.push_back(principal.subject + " " + service.name);
    if (refusal) co_return tl::unexpected(*refusal);
    co_return std::make_unique<EndedStream>();
  }
  std::optional<tunnel::Refusal> refusal;
  std::vector<std::string> opened;
};

struct PublicGate : testing::Test {
  PublicGate() {
    authenticator.set_verifier(verifier.get());
    policy = *Policy::make(
        {{"web", "office", "127.0.0.1", 80, {"*"}}, {"secret", "office", "127.0.0.1", 81, {"sub:bob"}}},
        {"https://app.example"}, "tunneld");
  }

  static access::LocalIssuer& issuer() {
    static auto made = *access::LocalIssuer::generate();
    return made;
  }
  static std::string token(const std::string& subject, std::vector<std::string> scopes = {},
                           std::chrono::seconds ago = {}) {
    access::TokenRequest request;
    request.subject = subject;
    request.scopes = std::move(scopes);
    return std::string(issuer().sign(request, {}, std::chrono::system_clock::now() - ago)->reveal());
  }
  void serve(FakeExchange& exchange) {
    boost::asio::io_context io;
    tunnel::DeadlineWatch watch(io.get_executor());
    tunnel::HttpPool pool(dialer, watch, {});
    tunnel::HttpForward forward(pool, watch, metrics, {});
    ActiveUsers users;
    Gate gate(common, dialer, forward, watch, users, policy, {});
    exchange.serve(gate, io);
  }
  static std::string code_of(const FakeExchange& exchange) {
    return nlohmann::json::parse(exchange.body).at("error").at("code");
  }
  FakeExchange websocket(const std::string& path) {
    FakeExchange exchange("GET", path);
    exchange.asking_for_websocket();
    exchange.next_websocket = std::make_unique<EndedWebSocket>(close_code);
    return exchange;
  }

  admin::Metrics metrics{admin::Metrics::Options{}};
  std::unique_ptr<access::TokenVerifier> verifier = *access::TokenVerifier::create(
      *access::validated({}),
      std::make_shared<const access::JwkSet>(*access::JwkSet::parse(issuer().jwks())));
  Authenticator authenticator{metrics, [] {}};
  FakeDialer dialer;
  std::shared_ptr<const Policy> policy;
  std::atomic<bool> draining{false};
  std::optional<std::string> not_ready;
  std::uint16_t close_code = 1006;
  struct Logged {
    std::string service, code, hash, door;
    unsigned status;
  };
  std::vector<Logged> log;
  Gate::Common common{
      .authenticator = authenticator,
      .observer = metrics,
      .health =
          [this] {
            admin::Health health;
            health.not_ready = not_ready;
            return health;
          },
      .counts =
          [] {
            return admin::HealthCounts{5, 6};
          },
      .log =
          [this](const AccessRecord& record) {
            log.push_back({std::string(record.service), std::string(record.code),
                           std::string(record.principal_hash), std::string(record.door), record.status});
          },
      .tunnel_keys = R"({"keys":[]})",
      .draining = draining};
};

TEST_F(PublicGate, AdminPagesAndAllElseAreNotFound) {
  for (const auto* path : {"/metrics", "/api/tunnel/metrics", "/healthz", "/api/tunnel/diagnostics",
                           "/api/tunnel/config/log-level", "/", "/t", "/ws", "/ws/web/more"}) {
    SCOPED_TRACE(path);
    auto exchange = websocket(path);
    exchange.with_bearer(token("alice", {"tunnel:admin"}));
    serve(exchange);
    EXPECT_EQ(exchange.answered.status, 404U);
  }
  EXPECT_TRUE(dialer.opened.empty());
}

TEST_F(PublicGate, RefusalsHaveTheirStatusAndCode) {
  struct Row {
    const char* path;
    std::string token;
    unsigned status;
    const char* code;
  };
  const Row rows[] = {
      {"/t/web/", "", 401, "TUNNEL_002"},
      {"/t/web/", "x.y.z", 401, "TUNNEL_002"},
      {"/t/web/", token("alice", {}, std::chrono::hours(2)), 401, "TUNNEL_003"},
      {"/t/web/?token=eyJhbGciOiJFZERTQSJ9.e30.AA", "", 401, "TUNNEL_002"},
      {"/t/secret/", token("alice"), 403, "TUNNEL_017"},
      {"/t/unknown/", token("alice"), 403, "TUNNEL_017"},
      {"/t/web/a/../b", token("alice"), 400, "TUNNEL_010"},
      {"/ws/web", "", 401, "TUNNEL_002"},
      {"/ws/secret", token("alice"), 403, "TUNNEL_017"},
      {"/ws/unknown", token("alice"), 403, "TUNNEL_017"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.path);
    auto exchange = websocket(row.path);
    if (!row.token.empty()) exchange.with_bearer(row.token);
    serve(exchange);
    EXPECT_EQ(exchange.answered.status, row.status);
    EXPECT_EQ(code_of(exchange), row.code);
    EXPECT_EQ(exchange.field("Cache-Control"), "no-store");
    if (row.status == 401) {
      EXPECT_EQ(exchange.field("WWW-Authenticate"), "Bearer error=\"invalid_token\"");
    }
    EXPECT_EQ(log.back().code, row.code);
    EXPECT_EQ(log.back().status, row.status);
  }
  EXPECT_TRUE(dialer.opened.empty());
}

TEST_F(PublicGate, UnknownAndDeniedServicesAnswerAlike) {
  FakeExchange denied("GET", "/t/secret/");
  FakeExchange unknown("GET", "/t/nothere/");
  for (auto* exchange : {&denied, &unknown}) {
    exchange->with_bearer(token("alice"));
    serve(*exchange);
  }
  auto first = nlohmann::json::parse(denied.body)["error"];
  auto second = nlohmann::json::parse(unknown.body)["error"];
  first.erase("timestamp");
  second.erase("timestamp");
  EXPECT_EQ(first, second);
}

TEST_F(PublicGate, AStreamOpensItsChannelAndEndsWith1000) {
  auto exchange = websocket("/ws/secret");
  exchange.with_bearer(token("bob")).with("Sec-WebSocket-Protocol", "binary");
  serve(exchange);
  EXPECT_EQ(dialer.opened, std::vector<std::string>{"bob secret"});
  EXPECT_EQ(exchange.answered.status, 101U);
  EXPECT_EQ(exchange.accepted.subprotocol, "binary");
  EXPECT_EQ(close_code, 1000);
  EXPECT_EQ(log.back().service, "secret");
  EXPECT_EQ(log.back().hash.size(), 16U);
}

TEST_F(PublicGate, AChannelThatCannotOpenIsAnHttpAnswer) {
  dialer.refusal = tunnel::Refusal{Code::unreachable, "office does not answer"};
  auto exchange = websocket("/ws/web");
  exchange.with_bearer(token("alice"));
  serve(exchange);
  EXPECT_EQ(exchange.answered.status, 503U);
  EXPECT_EQ(code_of(exchange), "TUNNEL_001");
}

TEST_F(PublicGate, ForeignBrowserPagesMayNotOpenStreams) {
  struct Row {
    const char* origin;
    unsigned status;
  };
  const Row rows[] = {{"https://evil.example", 403},
                      {"null", 403},
                      {"https://app.example.evil", 403},
                      {"https://app.example", 101}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.origin);
    auto exchange = websocket("/ws/web");
    exchange.with_bearer(token("alice")).with("Origin", row.origin);
    serve(exchange);
    EXPECT_EQ(exchange.answered.status, row.status);
    if (row.status == 403) {
      EXPECT_EQ(code_of(exchange), "TUNNEL_011");
    }
  }
}

TEST_F(PublicGate, OnlyWebSocketsEnterTheStreamDoor) {
  FakeExchange get("GET", "/ws/web");
  get.with_bearer(token("alice"));
  serve(get);
  EXPECT_EQ(get.answered.status, 426U);
  EXPECT_EQ(get.field("Upgrade"), "websocket");
  auto post = FakeExchange("POST", "/ws/web");
  post.with_bearer(token("alice"));
  serve(post);
  EXPECT_EQ(post.answered.status, 405U);
}

TEST_F(PublicGate, WhileDrainingNoStreamBegins) {
  draining = true;
  auto exchange = websocket("/ws/web");
  exchange.with_bearer(token("alice"));
  serve(exchange);
  EXPECT_EQ(exchange.answered.status, 503U);
  EXPECT_EQ(code_of(exchange), "TUNNEL_004");
  EXPECT_EQ(exchange.field("Retry-After"), "1");
}

TEST_F(PublicGate, HealthIsOpenAndCountsNeedTheirScope) {
  FakeExchange anybody("GET", "/api/tunnel/health");
  serve(anybody);
  EXPECT_EQ(anybody.answered.status, 200U);
  EXPECT_FALSE(nlohmann::json::parse(anybody.body).contains("connections"));
  FakeExchange scraper("GET", "/api/tunnel/health");
  scraper.with_bearer(token("alice", {"tunnel:metrics"}));
  serve(scraper);
  EXPECT_EQ(nlohmann::json::parse(scraper.body)["connections"], 5);
  not_ready = "draining";
  FakeExchange late("GET", "/api/tunnel/health");
  serve(late);
  EXPECT_EQ(late.answered.status, 503U);
}

TEST_F(PublicGate, WithoutKeysNobodyIsJudged) {
  authenticator.set_verifier(nullptr);
  FakeExchange exchange("GET", "/t/web/");
  exchange.with_bearer(token("alice"));
  serve(exchange);
  EXPECT_EQ(exchange.answered.status, 503U);
  EXPECT_EQ(code_of(exchange), "TUNNEL_004");
}

TEST(Subprotocols, AreChosenNeverEchoingATokenNorGuessing) {
  struct Row {
    const char* offered;
    const char* chosen;  // nullptr: refused
  };
  const Row rows[] = {{"binary", "binary"},
                      {"binary, tunnel.raw.v1", "tunnel.raw.v1"},
                      {"binary, bearer.a.b.c", "binary"},
                      {"bearer.a.b.c", ""},
                      {"chat", nullptr},
                      {"chat, bearer.a.b.c", nullptr},
                      {"chat, binary", "binary"},
                      {"Binary", nullptr},
                      {"", ""}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.offered);
    tunnel::RequestHead head;
    head.fields.push_back({"Sec-WebSocket-Protocol", row.offered});
    const auto chosen = choose_subprotocol(head);
    ASSERT_EQ(chosen.has_value(), row.chosen != nullptr);
    if (chosen) {
      EXPECT_EQ(*chosen, row.chosen);
    }
  }
  EXPECT_EQ(*choose_subprotocol({}), "");
}

TEST(Farewell, TellsHowAStreamEndedInACloseCode) {
  struct Row {
    RelayEnd::How how;
    std::uint16_t code;
  };
  using How = RelayEnd::How;
  const Row rows[] = {{How::finished, 1000},
                      {How::service_failed, 1011},
                      {How::idle, 4408},
                      {How::expired, 4401},
                      {How::cancelled, 1012}};
  for (const auto& row : rows) {
    RelayEnd end;
    end.how = row.how;
    const auto farewell = farewell_after(end);
    EXPECT_EQ(farewell.code, row.code);
    EXPECT_LE(farewell.reason.size(), 123U);
    if (!farewell.reason.empty()) {
      EXPECT_TRUE(nlohmann::json::accept(farewell.reason)) << farewell.reason;
    }
  }
}

TEST(PrincipalHash, IsTheSameForOnePrincipalAndNamesNobody) {
  access::Principal alice{.issuer = "i", .subject = "alice", .scopes = {}, .token_id = {}, .expires_at = {}};
  auto bob = alice;
  bob.subject = "bob";
  EXPECT_EQ(principal_hash(alice), principal_hash(alice));
  EXPECT_NE(principal_hash(alice), principal_hash(bob));
  EXPECT_EQ(principal_hash(alice).find("alice"), std::string::npos);
}

}  // namespace
}  // namespace tunneld
