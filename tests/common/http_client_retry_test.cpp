#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/http_client.h"
#include "tests/support/loopback_server.h"

namespace {

using namespace std::chrono_literals;
using support::http_answer;
using support::LoopbackServer;
using testing::HasSubstr;
using Kind = Error::Kind;
using Reply = LoopbackServer::Reply;
using Seen = LoopbackServer::Seen;
using Then = LoopbackServer::Then;

/// Pauses so short that nobody waits for them.
http::ClientOptions patient() {
  return {.retry = {.attempts = 4, .first_pause = 1ms}, .proxies = http::Proxies{}};
}

Result<http::Response> send(const http::Request& request, http::ClientOptions options = patient()) {
  auto client = http::Client::make(std::move(options));
  if (!client) return tl::unexpected(client.error());
  return client->send(request);
}

/// Fails `failures` times with `first`, then answers well.
LoopbackServer::Handler after(std::size_t failures, Reply first) {
  return [=](const Seen& seen) { return seen.number < failures ? first : Reply{http_answer(200, "well")}; };
}

TEST(HttpClientRetry, RepeatsSafeRequestsUntilTheyWork) {
  const Reply rows[] = {
      {http_answer(502, "")},
      {http_answer(503, "busy")},
      {http_answer(504, "")},
      {http_answer(429, "")},
      {"", Then::close},
      {"", Then::reset},
      {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nmid-body", Then::reset},
      {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nmid-body", Then::close},
  };
  for (const Reply& row : rows) {
    SCOPED_TRACE(row.bytes);
    LoopbackServer server(after(2, row));
    const auto got = send({.method = "PUT", .url = server.url(), .body = "x", .safe_to_repeat = true});
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->body, "well");
    EXPECT_EQ(got->attempts, 3U);
    EXPECT_EQ(server.seen().at(2).body, "x") << "the body is sent again";
  }
}

TEST(HttpClientRetry, HandsOverTheLastAnswer) {
  LoopbackServer server(http_answer(503, "busy"));
  const auto got = send({.url = server.url()});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->status, 503U);
  EXPECT_EQ(got->body, "busy");
  EXPECT_EQ(got->attempts, 4U);
  EXPECT_EQ(server.seen().size(), 4U);
}

TEST(HttpClientRetry, AsksNoServerTwiceForMoreThanItCanDo) {
  LoopbackServer server(http_answer(503, "busy"));
  const auto got = send({.url = server.url(), .heavy = true});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->status, 503U);
  EXPECT_EQ(got->attempts, 1U);
  LoopbackServer gone("", Then::close);
  ASSERT_FALSE(send({.url = gone.url(), .heavy = true}));
  EXPECT_EQ(gone.seen().size(), 4U) << "a lost connection is none of that";
}

TEST(HttpClientRetry, SaysHowOftenItHasTried) {
  LoopbackServer server("", Then::close);
  const auto got = send({.url = server.url()});
  ASSERT_FALSE(got);
  EXPECT_EQ(
      got.error().message,
      "GET " + server.url() + ": the server closed the connection without an answer (after 4 attempts)");
}

TEST(HttpClientRetry, RepeatsNothingTheServerMayHaveActedOn) {
  const Reply rows[] = {
      {"", Then::close}, {"", Then::reset}, {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Then::close}};
  for (const char* body : {"x", ""}) {
    for (const Reply& row : rows) {
      LoopbackServer server(row.bytes, row.then);
      const auto got = send({.method = "POST", .url = server.url(), .body = body});
      ASSERT_FALSE(got);
      EXPECT_EQ(got.error().kind, Kind::unavailable);
      EXPECT_THAT(got.error().message, testing::EndsWith("; it may have taken effect"));
      EXPECT_EQ(server.seen().size(), 1U);
    }
    for (const unsigned status : {500U, 502U, 503U, 504U}) {
      LoopbackServer server(http_answer(status, "no"));
      const auto got = send({.method = "POST", .url = server.url(), .body = body});
      ASSERT_TRUE(got);
      EXPECT_EQ(got->attempts, 1U);
    }
  }
}

TEST(HttpClientRetry, DoesNotLetLibcurlRepeatOnAKeptConnection) {
  // By itself it sends anything again, on a fresh connection, when a kept one is dead.
  for (const char* body : {"x", ""}) {
    for (const char* method : {"POST", "DELETE"}) {
      SCOPED_TRACE(std::string(method) + body);
      LoopbackServer server([](const Seen& seen) {
        return seen.head.starts_with("GET ") ? Reply{http_answer(200, "")} : Reply{"", Then::close};
      });
      auto client = http::Client::make(patient());
      ASSERT_TRUE(client);
      ASSERT_TRUE(client->send({.url = server.url()}));
      EXPECT_FALSE(client->send({.method = method, .url = server.url(), .body = body}));
      EXPECT_EQ(server.seen().size(), 2U);
    }
  }
}

TEST(HttpClientRetry, RepeatsAnyRequestOfWhichNothingWasSent) {
  std::string url;
  {
    LoopbackServer gone("");
    url = gone.url();
  }
  const auto refused = send({.method = "POST", .url = url, .body = "x"});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::EndsWith("failed: Connection refused (after 4 attempts)"));

  LoopbackServer busy(after(2, {http_answer(429, "")}));
  const auto got = send({.method = "POST", .url = busy.url(), .body = "x"});
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->body, "well");
}

TEST(HttpClientRetry, WaitsAsLongAsTheServerAsks) {
  LoopbackServer server(after(1, {http_answer(429, "", "Retry-After: 1\r\n")}));
  const auto start = std::chrono::steady_clock::now();
  const auto got = send({.method = "POST", .url = server.url(), .body = "x"});
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->attempts, 2U);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 1s);
}

TEST(HttpClientRetry, GivesTheAnswerBackWhenAskedToWaitTooLong) {
  LoopbackServer server(http_answer(503, "later", "Retry-After: 3600\r\n"));
  const auto got = send({.url = server.url()});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->status, 503U);
  EXPECT_EQ(got->attempts, 1U);
}

TEST(HttpClientRetry, EndsWithItsTotalTime) {
  LoopbackServer server(http_answer(503, "later", "Retry-After: 5\r\n"));
  http::ClientOptions options = patient();
  options.total = 2s;
  const auto got = send({.url = server.url()}, options);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->attempts, 1U) << "a pause that ends after it is not begun";
}

TEST(HttpClientRetry, LoadsABusyServerNoMoreThanBefore) {
  // Every request is refused once; those in a pause keep their place.
  std::mutex mutex;
  std::map<std::string, int> asked;
  LoopbackServer server([&](const Seen& seen) {
    const std::lock_guard lock(mutex);
    return asked[seen.head.substr(0, seen.head.find('\r'))]++ == 0 ? Reply{http_answer(429, "")}
                                                                   : Reply{http_answer(200, "")};
  });
  http::ClientOptions options = patient();
  options.max_in_flight = 4;
  const auto client = http::Client::make(options);
  ASSERT_TRUE(client);
  std::vector<http::Request> requests;
  for (int i = 0; i < 100; ++i)
    requests.push_back({.method = "POST", .url = server.url("/" + std::to_string(i)), .body = "x"});
  std::size_t good = 0;
  client->send_all(
      requests, [&](std::size_t, Result<http::Response> answer) { good += answer && answer->status == 200; });
  EXPECT_EQ(good, 100U);
  EXPECT_LE(server.most_at_once(), 4U);
  EXPECT_EQ(server.seen().size(), 200U);
}

}  // namespace
