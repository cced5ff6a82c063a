#include "tunnelctl/incident/receiver.h"

#include <atomic>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/http_client.h"

using namespace tunnelctl::incident;
using testing::HasSubstr;

namespace {

constexpr const char* kBody =
    R"({"status":"firing","groupKey":"g","alerts":[{"status":"firing","labels":{"alertname":"A"}}]})";

class ReceiverTest : public testing::Test {
 protected:
  void start(ReceiverOptions options) {
    options.listen = "127.0.0.1:0";
    auto started = Receiver::start(std::move(options), parts());
    ASSERT_TRUE(started) << started.error().message;
    receiver = std::move(*started);
  }
  Receiver::Parts parts() {
    Receiver::Parts made;
    made.take = [this](const AlertGroup& group) -> Result<void> {
      const std::lock_guard lock(mutex);
      if (full) return fail(Error::Kind::unavailable, "the outbox is full");
      taken.push_back(group);
      return {};
    };
    made.refused = [this](std::string_view, std::string_view why) {
      const std::lock_guard lock(mutex);
      refused.emplace_back(why);
    };
    made.metrics = [] { return std::string("a_metric 1\n"); };
    made.healthy = []() -> Result<void> { return {}; };
    made.ready = []() -> Result<void> { return fail(Error::Kind::denied, "refused by tunneld"); };
    made.now = [] { return Time(std::chrono::seconds(1'767'348'000)); };
    return made;
  }
  http::Response ask(const std::string& method, const std::string& path, const std::string& body = "",
                     std::vector<http::Header> headers = {}) {
    http::ClientOptions options;
    options.retry.attempts = 1;
    const auto client = http::Client::make(options);
    http::Request request;
    request.method = method;
    request.url = "http://127.0.0.1:" + std::to_string(receiver->port()) + path;
    request.body = body;
    request.headers = std::move(headers);
    const auto answer = client->send(request);
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *answer : http::Response();
  }

  std::mutex mutex;
  std::atomic<bool> full = false;
  std::vector<AlertGroup> taken;
  std::vector<std::string> refused;
  std::unique_ptr<Receiver> receiver;
};

}  // namespace

TEST_F(ReceiverTest, TakesAlertsWithTheTokenAndFromNobodyElse) {
  start({.token = Secret(std::string("the-token"))});
  EXPECT_EQ(ask("POST", "/alertmanager", kBody, {{"Authorization", "Bearer the-token"}}).status, 200u);
  EXPECT_EQ(ask("POST", "/grafana", kBody, {{"Authorization", "bearer the-token"}}).status, 200u);
  for (const char* other : {"", "Bearer", "Bearer ", "Bearer the-toke", "Bearer the-token2",
                            "Basic the-token", "the-token", "Bearer  the-token"}) {
    SCOPED_TRACE(other);
    std::vector<http::Header> headers;
    if (*other != '\0') headers.push_back({"Authorization", other});
    const auto answer = ask("POST", "/alertmanager", kBody, headers);
    EXPECT_EQ(answer.status, 401u);
    EXPECT_THAT(answer.body, testing::Not(HasSubstr("the-token")));
    ASSERT_NE(answer.header("WWW-Authenticate"), nullptr);
  }
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0].origin, "alertmanager");
  EXPECT_EQ(taken[1].origin, "grafana");
  EXPECT_THAT(refused, testing::Each("401"));
}

TEST_F(ReceiverTest, WithoutATokenThisMachineMayPost) {
  start({});
  EXPECT_EQ(ask("POST", "/alertmanager", kBody).status, 200u);
}

TEST_F(ReceiverTest, ASignatureDoesInPlaceOfATokenForGrafanaAlone) {
  start({.token = Secret(std::string("the-token")), .grafana_secret = Secret(std::string("key"))});
  // printf '%s' '{"status":"firing"}' | openssl dgst -sha256 -hmac key: what it signs is looked at
  // afterwards.
  const std::string body = R"({"status":"firing"})";
  const char* signature = "e2edb22a2a1a4c9ef59c8de1097faf148cf3d6cc7cb88e964ced2d1ae50daead";
  const auto signed_ = ask("POST", "/grafana", body, {{"X-Grafana-Alerting-Signature", signature}});
  EXPECT_EQ(signed_.status, 400u) << signed_.body;
  EXPECT_EQ(ask("POST", "/grafana", body + " ", {{"X-Grafana-Alerting-Signature", signature}}).status, 401u);
  EXPECT_EQ(ask("POST", "/alertmanager", body, {{"X-Grafana-Alerting-Signature", signature}}).status, 401u);
}

TEST_F(ReceiverTest, WrongBodiesAreRefusedWithTheReason) {
  start({});
  for (const char* body : {"", "garbage", "<html>", "{}", "\xff\xfe", "[[[[[["}) {
    SCOPED_TRACE(body);
    const auto answer = ask("POST", "/alertmanager", body);
    EXPECT_EQ(answer.status, 400u);
    EXPECT_THAT(answer.body, HasSubstr("{\"error\":"));
  }
  EXPECT_EQ(ask("POST", "/alertmanager", std::string(kMaxWebhook + 1, ' ')).status, 413u);
  EXPECT_EQ(ask("POST", "/alertmanager", std::string(kMaxWebhook, ' ')).status, 400u);
  EXPECT_TRUE(taken.empty());
}

TEST_F(ReceiverTest, WhatCannotBeWrittenDownIsAskedForAgain) {
  start({});
  full = true;
  const auto answer = ask("POST", "/alertmanager", kBody);
  EXPECT_EQ(answer.status, 503u);
  EXPECT_THAT(answer.body, HasSubstr("the outbox is full"));
  ASSERT_NE(answer.header("Retry-After"), nullptr);
  full = false;
  EXPECT_EQ(ask("POST", "/alertmanager", kBody).status, 200u);
}

TEST_F(ReceiverTest, TellsHowItDoes) {
  start({.token = Secret(std::string("the-token"))});
  EXPECT_EQ(ask("GET", "/metrics").body, "a_metric 1\n");
  EXPECT_EQ(ask("GET", "/healthz").status, 200u);
  const auto ready = ask("GET", "/readyz");
  EXPECT_EQ(ready.status, 503u);
  EXPECT_THAT(ready.body, HasSubstr("refused by tunneld"));
  EXPECT_EQ(ask("GET", "/alertmanager").status, 405u);
  EXPECT_EQ(ask("DELETE", "/metrics").status, 405u);
  EXPECT_EQ(ask("GET", "/").status, 404u);
  EXPECT_EQ(ask("POST", "/elsewhere", kBody).status, 404u);
}

TEST_F(ReceiverTest, BeyondThisMachineOnlyWithATokenAndNotInPlainText) {
  struct Row {
    ReceiverOptions options;
    const char* says;
  };
  const Row rows[] = {
      {{.listen = "0.0.0.0:0"}, "only with --listen-token-file"},
      {{.listen = "0.0.0.0:0", .token = Secret(std::string("t"))}, "would read the token"},
      {{.listen = "0.0.0.0:0", .token = Secret(std::string("t")), .certificate = "/nonexistent", .key = "/x"},
       "--listen-certificate"},
      {{.listen = "9465"}, "name an address and a port"},
      {{.listen = ""}, "name an address and a port"},
      {{.listen = "127.0.0.1:banana"}, "--listen"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.says);
    const auto refused_start = Receiver::start(row.options, parts());
    ASSERT_FALSE(refused_start);
    EXPECT_EQ(refused_start.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(refused_start.error().message, HasSubstr(row.says));
  }
}
