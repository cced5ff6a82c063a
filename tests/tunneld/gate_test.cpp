#include "tunneld/gate.h"

#include <unistd.h>

#include <filesystem>
#include <unordered_set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
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

/// Says what it waits for, and waits until it is cancelled.
boost::asio::awaitable<void> wait_forever(bool& waiting) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor,
                                  boost::asio::steady_timer::time_point::max());
  waiting = true;
  co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
}

/// A service that takes the request and does not answer.
class SilentStream final : public EndedStream {
 public:
  explicit SilentStream(bool& waiting) : waiting_(waiting) {}
  boost::asio::awaitable<Result<std::size_t>> read(std::span<std::byte>) override {
    co_await wait_forever(waiting_);
    co_return fail(Error::Kind::cancelled, "read cancelled");
  }

 private:
  bool& waiting_;
};

/// Opens ended streams, or refuses as told.
class FakeDialer final : public tunnel::Dialer {
 public:
  boost::asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open(
      const tunnel::OpenRequest& request) override {
    opened.push_back(request.principal.subject + " " + request.service.name);
    priorities.push_back(request.priority);
    if (refusal) co_return tl::unexpected(*refusal);
    if (service_is_silent) co_return std::make_unique<SilentStream>(waiting);
    if (queue_is_long) {
      co_await wait_forever(waiting);
      if (throws_when_cancelled) throw boost::system::system_error(boost::asio::error::operation_aborted);
      co_return tl::unexpected(tunnel::Refusal{Code::unavailable, "cancelled while waiting for a channel"});
    }
    co_return std::make_unique<EndedStream>();
  }
  std::optional<tunnel::Refusal> refusal;
  bool queue_is_long = false;
  bool throws_when_cancelled = false;
  bool service_is_silent = false;
  bool waiting = false;
  std::vector<std::string> opened;
  std::vector<tunnel::Priority> priorities;
};

/// No limit on rates, so that a test which is not about them meets none.
access::RateLimits::Options unlimited() {
  access::RateLimits::Options options;
  options.per_minute = {0, 0, 0};
  options.address_per_minute = options.handshakes_per_minute = options.global_per_minute = 0;
  return options;
}

struct PublicGate : testing::Test {
  PublicGate() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    directory = std::filesystem::path(testing::TempDir()) /
                (std::string("gate-") + test->name() + "-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory);
    revocations =
        *access::Revocations::open(directory / "revocations.json", std::chrono::system_clock::now());
    authenticator = std::make_unique<Authenticator>(metrics, *revocations, [] {});
    authenticator->set_verifier(verifier.get());
    admission = std::make_unique<Admission>(
        Admission::Parts{*authenticator, rates, penalty, proxies, metrics, nullptr, {}});
    common = std::unique_ptr<Gate::Common>(
        new Gate::Common{.admission = *admission,
                         .authenticator = *authenticator,
                         .connections = connections,
                         .breakers = breakers,
                         .revocations = *revocations,
                         .queue = queue,
                         .users = users_seen,
                         .observer = metrics,
                         .audit = nullptr,
                         .tracer = nullptr,
                         .record_span = {},
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
                                              std::string(record.principal_hash), std::string(record.door),
                                              std::string(record.peer), record.status});
                             },
                         .tunnel_keys = R"({"keys":[]})",
                         .draining = draining,
                         .unaudited = unaudited,
                         .links = links,
                         .agents = nullptr});
    policy = *Policy::make(
        {{"web", "office", "127.0.0.1", 80, {"*"}}, {"secret", "office", "127.0.0.1", 81, {"sub:bob"}}},
        {"https://app.example"}, "tunneld");
  }
  ~PublicGate() override { std::filesystem::remove_all(directory); }

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
    Gate gate(*common, io, dialer, forward, watch, users, policy, options);
    exchange.serve(gate, io);
  }
  static std::string key_of(const std::string& subject) {
    tunnel::Principal principal;
    principal.issuer = "tunneld";
    principal.subject = subject;
    return principal.key();
  }
  /// The caller leaves as soon as there is nothing but to wait.
  void serve_one_who_leaves(FakeExchange& exchange) {
    boost::asio::io_context io;
    tunnel::DeadlineWatch watch(io.get_executor());
    tunnel::HttpPool pool(dialer, watch, {});
    tunnel::HttpForward forward(pool, watch, metrics, {});
    ActiveUsers users;
    Gate gate(*common, io, dialer, forward, watch, users, policy, options);
    boost::asio::cancellation_signal leaves;
    bool done = false;
    auto ended = [&done](std::exception_ptr failure) {
      done = true;
      EXPECT_FALSE(failure);
    };
    boost::asio::co_spawn(io, gate.handle(exchange),
                          boost::asio::bind_cancellation_slot(leaves.slot(), ended));
    dialer.waiting = false;
    while (!done && !dialer.waiting && io.run_one() > 0) {
    }
    EXPECT_FALSE(done) << exchange.answered.status;
    leaves.emit(boost::asio::cancellation_type::terminal);
    while (!done && io.run_one() > 0) {
    }
    std::unordered_set<std::string> active;
    users.add_to(active);
    EXPECT_TRUE(active.empty());
  }
  /// The answer to a plain request of that token.
  FakeExchange get(const std::string& path, const std::string& bearer) {
    FakeExchange exchange("GET", path);
    if (!bearer.empty()) exchange.with_bearer(bearer);
    serve(exchange);
    return exchange;
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
  std::filesystem::path directory;
  access::RateLimits rates{unlimited()};
  access::PenaltyBox penalty{{}};
  tunnel::TrustedProxies proxies;
  access::ConnectionQuotas connections;
  links::LinkTable links;
  access::CircuitBreakers breakers{{}, [](const access::CircuitBreakers::Change&) {}};
  std::unique_ptr<access::Revocations> revocations;
  tunnel::QueueLedger queue{{}, metrics, [](const std::string&, tunnel::FlowLevel, double) {}};
  admin::UserTable users_seen;
  std::unique_ptr<Authenticator> authenticator;
  std::unique_ptr<Admission> admission;
  FakeDialer dialer;
  std::shared_ptr<const Policy> policy;
  std::atomic<bool> draining{false};
  std::atomic<bool> unaudited{false};
  std::optional<std::string> not_ready;
  std::uint16_t close_code = 1006;
  struct Logged {
    std::string service, code, hash, door, peer;
    unsigned status;
  };
  std::vector<Logged> log;
  Gate::Options options{.tiers = Config{}.tiers};
  std::unique_ptr<Gate::Common> common;
};

TEST_F(PublicGate, AdminPagesAndAllElseAreNotFound) {
  for (const auto* path : {"/metrics", "/api/tunnel/metrics", "/healthz", "/api/tunnel/diagnostics",
                           "/api/tunnel/config/log-level", "/", "/t", "/wsx", "/agents", "/ws/web/more"}) {
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

TEST_F(PublicGate, LinksAndAgentsAreRefusedAsHttp) {
  struct Row {
    const char* path;
    std::string token;
    const char* protocol;
    const char* session;
    unsigned status;
    const char* code;
  };
  const auto alice = token("alice");
  const Row rows[] = {
      {"/ws", "", "tunnel.v1", "", 401, "TUNNEL_002"},
      {"/tunnel", "", "tunnel.v1", "", 401, "TUNNEL_002"},
      {"/ws", alice, "", "", 400, "TUNNEL_010"},
      {"/ws", alice, "tunnel.raw.v1, binary", "", 400, "TUNNEL_010"},
      {"/ws", alice, "tunnel-agent.v1", "", 400, "TUNNEL_010"},
      {"/ws", alice, "tunnel.v1", "00112233445566778899aabbccddeeff", 404, "TUNNEL_010"},
      {"/ws", alice, "tunnel.v1", "nonsense", 404, "TUNNEL_010"},
      {"/agent", alice, "tunnel-agent.v1", "", 503, "TUNNEL_004"},
      {"/agent/session", alice, "tunnel-agent.v1", "", 404, "TUNNEL_010"},
      {"/agent/session", alice, "tunnel-agent.v1", "00112233445566778899aabbccddeeff", 404, "TUNNEL_010"},
      {"/agent/session/00112233445566778899aabbccddeeff", alice, "tunnel-agent.v1", "", 404, "TUNNEL_010"},
      {"/agent/session/00112233445566778899aabbccddeeff", alice, "tunnel.v1", "", 400, "TUNNEL_010"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.path) + " " + row.protocol + " " + row.session);
    auto exchange = websocket(row.path);
    if (!row.token.empty()) exchange.with_bearer(row.token);
    if (*row.protocol != 0) exchange.with("Sec-WebSocket-Protocol", row.protocol);
    if (*row.session != 0) exchange.with("Tunnel-Session", row.session);
    serve(exchange);
    EXPECT_EQ(exchange.answered.status, row.status);
    EXPECT_EQ(code_of(exchange), row.code);
  }
  EXPECT_EQ(connections.held(key_of("alice")), 0U);
}

TEST_F(PublicGate, ALinkNeedsAPlaceAndGetsNoneBesideTooMany) {
  options.tiers[0].connections = 1;
  const auto held = connections.reserve(key_of("alice"), 1);
  auto exchange = websocket("/ws");
  exchange.with_bearer(token("alice")).with("Sec-WebSocket-Protocol", "tunnel.v1");
  serve(exchange);
  EXPECT_EQ(exchange.answered.status, 429U);
  EXPECT_EQ(code_of(exchange), "TUNNEL_012");
}

TEST_F(PublicGate, WhoOpensALinkAndSaysNothingSensibleLeavesNothingBehind) {
  auto exchange = websocket("/ws");  // whose stream has ended already
  exchange.with_bearer(token("alice")).with("Sec-WebSocket-Protocol", "tunnel.v1");
  serve(exchange);
  EXPECT_EQ(exchange.answered.status, 101U);
  EXPECT_EQ(exchange.accepted.subprotocol, "tunnel.v1");
  EXPECT_EQ(connections.held(key_of("alice")), 0U);
  EXPECT_EQ(links.size(), 0U);
  EXPECT_EQ(log.back().door, "links");
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
  authenticator->set_verifier(nullptr);
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
  const Row rows[] = {{How::finished, 1000},        {How::service_failed, 1011}, {How::idle, 4408},
                      {How::expired, 4401},         {How::revoked, 4401},        {How::draining, 1012},
                      {How::closed_by_admin, 1008}, {How::cancelled, 1012}};
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

// Protection ---------------------------------------------------------------------------------------

TEST_F(PublicGate, APrincipalGetsItsBurstAndThenIsTurnedAwayWithTheTimeToWait) {
  auto limits = unlimited();
  limits.per_minute = {60, 0, 0};  // ten at once, then one a second
  rates.configure(limits);
  const auto alice = token("alice");
  for (int i = 0; i < 10; ++i) {
    const auto answer = get("/api/tunnel/me", alice);
    ASSERT_EQ(answer.answered.status, 200U);
    EXPECT_EQ(answer.field("X-RateLimit-Limit"), "60");
    EXPECT_EQ(answer.field("X-RateLimit-Remaining"), std::to_string(9 - i));
  }
  const auto refused = get("/t/web/", alice);
  EXPECT_EQ(refused.answered.status, 429U);
  EXPECT_EQ(code_of(refused), "TUNNEL_005");
  EXPECT_EQ(refused.field("Retry-After"), "1");
  EXPECT_EQ(refused.field("X-RateLimit-Limit"), "60");
  EXPECT_EQ(refused.field("X-RateLimit-Remaining"), "0");
  EXPECT_FALSE(refused.field("X-RateLimit-Reset").empty());
  EXPECT_EQ(get("/api/tunnel/me", token("bob")).answered.status, 200U) << "another's bucket is full";
  EXPECT_TRUE(dialer.opened.empty());
}

TEST_F(PublicGate, WhatAllSendTogetherIsLimitedToo) {
  auto limits = unlimited();
  limits.global_per_minute = 60;
  rates.configure(limits);
  unsigned served = 0;
  FakeExchange last = get("/api/tunnel/me", token("user0"));
  for (int i = 1; i < 12; ++i) {
    served += last.answered.status == 200 ? 1U : 0U;
    last = get("/api/tunnel/me", token("user" + std::to_string(i)));
  }
  EXPECT_EQ(served, 10U);
  EXPECT_EQ(last.answered.status, 429U);
  EXPECT_EQ(last.field("X-RateLimit-Limit"), "") << "its own bucket is not what was empty";
}

TEST_F(PublicGate, GuessersAreSlowedAndBlockedWhileThoseWhoAreSignedInPass) {
  const auto alice = token("alice");
  ASSERT_EQ(get("/api/tunnel/me", alice).answered.status, 200U);
  penalty.configure({.throttle_after = 2, .block_after = 3});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(get("/t/web/", "x.y.z").answered.status, 401U);
  const auto blocked = get("/t/web/", "x.y.z");
  EXPECT_EQ(blocked.answered.status, 429U);
  EXPECT_EQ(code_of(blocked), "TUNNEL_005");
  EXPECT_GT(std::stoi(blocked.field("Retry-After")), 3500);
  EXPECT_EQ(get("/t/web/", token("carol")).answered.status, 429U)
      << "a token not seen before is not looked at";
  EXPECT_EQ(get("/api/tunnel/me", alice).answered.status, 200U);
  EXPECT_EQ(get("/api/tunnel/health", "").answered.status, 429U);
}

TEST_F(PublicGate, AnExpiredTokenIsNoGuess) {
  const auto old = token("alice", {}, std::chrono::hours(2));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(get("/t/web/", old).answered.status, 401U);
  EXPECT_EQ(penalty.counts(std::chrono::steady_clock::now()).entries, 0U);
}

TEST_F(PublicGate, OnlyATrustedProxyIsBelievedAboutTheAddress) {
  FakeExchange direct("GET", "/api/tunnel/me");
  direct.with("X-Forwarded-For", "203.0.113.9").with_bearer(token("alice"));
  serve(direct);
  EXPECT_EQ(log.back().peer, "192.0.2.7");
  proxies = *tunnel::TrustedProxies::parse({"192.0.2.0/24"});
  FakeExchange proxied("GET", "/api/tunnel/me");
  proxied.with("X-Forwarded-For", "198.51.100.1, 203.0.113.9").with_bearer(token("alice"));
  serve(proxied);
  EXPECT_EQ(log.back().peer, "203.0.113.9") << "what the caller wrote left of it is not believed";
}

TEST_F(PublicGate, ARevokedTokenIsInvalidAtOnce) {
  const auto alice = token("alice");
  ASSERT_EQ(get("/api/tunnel/me", alice).answered.status, 200U);
  access::Revocations::Entry entry;
  entry.issuer = "tunneld";
  entry.subject = "alice";
  entry.issued_until = std::chrono::system_clock::now() + std::chrono::seconds(1);
  ASSERT_TRUE(revocations->add(entry, std::chrono::system_clock::now()));
  const auto refused = get("/t/web/", alice);
  EXPECT_EQ(refused.answered.status, 401U);
  EXPECT_EQ(code_of(refused), "TUNNEL_002");
  EXPECT_EQ(get("/api/tunnel/me", token("bob")).answered.status, 200U);
}

TEST_F(PublicGate, AStreamHoldsOneOfItsPrincipalsConnections) {
  options.tiers[0].connections = 1;
  const auto held = connections.reserve(key_of("alice"), 5);
  auto exchange = websocket("/ws/web");
  exchange.with_bearer(token("alice"));
  serve(exchange);
  EXPECT_EQ(exchange.answered.status, 429U);
  EXPECT_EQ(code_of(exchange), "TUNNEL_012");
  EXPECT_FALSE(exchange.field("Retry-After").empty());
  auto other = websocket("/ws/web");
  other.with_bearer(token("bob"));
  serve(other);
  EXPECT_EQ(other.answered.status, 101U);
  EXPECT_EQ(connections.held(key_of("bob")), 0U) << "given back with the stream's end";
}

TEST_F(PublicGate, FiveFailuresInARowOpenTheCircuitOfThatPrincipalAndServiceAlone) {
  dialer.refusal = tunnel::Refusal{Code::unreachable, "office does not answer"};
  const auto alice = token("alice");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(get("/t/web/", alice).answered.status, 503U);
  const auto asked = dialer.opened.size();
  const auto refused = get("/t/web/", alice);
  EXPECT_EQ(code_of(refused), "TUNNEL_014");
  EXPECT_EQ(refused.field("Retry-After"), "60");
  auto stream = websocket("/ws/web");
  stream.with_bearer(alice);
  serve(stream);
  EXPECT_EQ(code_of(stream), "TUNNEL_014") << "the same circuit at the other door";
  EXPECT_EQ(dialer.opened.size(), asked) << "nobody was asked";
  EXPECT_EQ(code_of(get("/t/web/", token("bob"))), "TUNNEL_001");
  const auto list = breakers.list(std::chrono::steady_clock::now());
  ASSERT_EQ(list.size(), 2U) << "bob's has failed once";
  for (const auto& breaker : list) {
    if (breaker.state != access::BreakerState::open) continue;
    EXPECT_TRUE(breakers.reset(breaker.id, std::chrono::steady_clock::now()));
  }
  EXPECT_EQ(code_of(get("/t/web/", alice)), "TUNNEL_001");
}

TEST_F(PublicGate, WhatIsOurOwnDoingOpensNoCircuit) {
  for (const auto code : {Code::queue_full, Code::unavailable, Code::bad_request, Code::service_denied}) {
    dialer.refusal = tunnel::Refusal{code, "not the service's fault"};
    for (int i = 0; i < 6; ++i) get("/t/web/", token("alice"));
  }
  EXPECT_TRUE(breakers.list(std::chrono::steady_clock::now()).empty());
}

TEST_F(PublicGate, ACallerThatLeavesIsRecordedAndGivesBackWhatItHeld) {
  struct Row {
    const char* where;
    bool queue, throws, service;
  };
  const Row rows[] = {{"in the queue", true, false, false},
                      {"in the queue, by an exception", true, true, false},
                      {"at a silent service", false, false, true}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.where);
    dialer.queue_is_long = row.queue;
    dialer.throws_when_cancelled = row.throws;
    dialer.service_is_silent = row.service;
    for (int i = 0; i < 6; ++i) {
      FakeExchange exchange("GET", "/t/web/");
      exchange.with_bearer(token("alice"));
      serve_one_who_leaves(exchange);
      EXPECT_EQ(exchange.answered.status, 0U);
      EXPECT_EQ(log.back().status, 499U);
      EXPECT_EQ(log.back().code, "");
    }
  }
  EXPECT_EQ(log.size(), 18U);
  EXPECT_TRUE(breakers.list(std::chrono::steady_clock::now()).empty()) << "it says nothing of the service";
}

TEST_F(PublicGate, ACallerThatLeavesBeforeItsStreamBeginsIsRecordedToo) {
  dialer.queue_is_long = true;
  for (const bool throws : {false, true}) {
    dialer.throws_when_cancelled = throws;
    auto exchange = websocket("/ws/web");
    exchange.with_bearer(token("alice"));
    serve_one_who_leaves(exchange);
    EXPECT_EQ(exchange.answered.status, 0U);
    EXPECT_EQ(log.back().status, 499U);
    EXPECT_EQ(connections.held(key_of("alice")), 0U);
  }
  EXPECT_TRUE(breakers.list(std::chrono::steady_clock::now()).empty());
}

TEST_F(PublicGate, PrioritiesReachTheDialerAndWrongOnesAreRefused) {
  dialer.refusal = tunnel::Refusal{Code::unreachable, "office does not answer"};
  for (const auto* name : {"high", "normal", "low"}) {
    FakeExchange exchange("GET", "/t/web/");
    exchange.with("X-Tunnel-Priority", name).with_bearer(token(name));
    serve(exchange);
    EXPECT_STREQ(tunnel::to_string(dialer.priorities.back()), name);
  }
  FakeExchange wrong("GET", "/t/web/");
  wrong.with("X-Tunnel-Priority", "urgent").with_bearer(token("alice"));
  serve(wrong);
  EXPECT_EQ(wrong.answered.status, 400U);
  EXPECT_EQ(code_of(wrong), "TUNNEL_010");
}

TEST_F(PublicGate, WithoutAnAuditLogNothingIsServedWhereItIsWanted) {
  unaudited = true;
  const auto refused = get("/t/web/", token("alice"));
  EXPECT_EQ(refused.answered.status, 503U);
  EXPECT_EQ(code_of(refused), "TUNNEL_004");
  EXPECT_EQ(get("/api/tunnel/health", "").answered.status, 200U);
}

TEST_F(PublicGate, MeTellsThePrincipalOfItselfAlone) {
  (void)get("/api/tunnel/me", token("bob"));
  (void)get("/t/unknown/", token("alice"));
  const auto page = get("/api/tunnel/me", token("alice"));
  ASSERT_EQ(page.answered.status, 200U);
  const auto body = nlohmann::json::parse(page.body);
  EXPECT_EQ(body["subject"], "alice");
  EXPECT_EQ(body["usage"]["requests"], 1);
  EXPECT_EQ(body["limits"]["connections"]["limit"], 3);
  EXPECT_EQ(page.body.find("bob"), std::string::npos);
  EXPECT_EQ(get("/api/tunnel/me", "").answered.status, 401U);
}

}  // namespace
}  // namespace tunneld
