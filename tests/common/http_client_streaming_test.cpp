#include "common/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/loopback_server.h"

namespace {

using namespace std::chrono_literals;
using support::LoopbackServer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = Error::Kind;
using Then = LoopbackServer::Then;

constexpr const char* kEndless = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

http::Client make(http::ClientOptions options = {.retry = {.attempts = 1}, .proxies = http::Proxies{}}) {
  auto client = http::Client::make(std::move(options));
  if (!client) throw std::runtime_error(client.error().message);
  return std::move(*client);
}

/// Keeps all, and says "enough" once it holds `until`.
http::Streaming into(std::string& text, std::string until = "\x01 never",
                     std::chrono::milliseconds silence = 60s) {
  return {.take =
              [&text, until = std::move(until)](std::string_view piece) {
                text += piece;
                return text.find(until) == std::string::npos;
              },
          .longest_silence = silence};
}

TEST(HttpStreaming, HandsPiecesOverWhileTheAnswerHasNoEnd) {
  LoopbackServer server(std::string(kEndless) + "data: 1\n\ndata: 2\n\n", Then::hold);
  std::string text;
  const auto answer = make().send({.url = server.url(), .streaming = into(text, "data: 2\n\n")});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 200U);
  EXPECT_EQ(answer->content_type, "text/event-stream");
  EXPECT_EQ(answer->body, "");
  EXPECT_FALSE(answer->body_cut);
  EXPECT_EQ(text, "data: 1\n\ndata: 2\n\n");
}

TEST(HttpStreaming, IsUnderNoTimeLimitButThatOfSilence) {
  // Far more in all than the limits for ordinary requests, in both time and size.
  LoopbackServer server(std::string(kEndless) + std::string(300'000, 'x') + "end", Then::hold);
  std::string text;
  const auto client = make({.deadline = 1ms,
                            .total = 1ms,
                            .max_body_bytes = 1'000,
                            .retry = {.attempts = 1},
                            .proxies = http::Proxies{}});
  const auto answer = client.send({.url = server.url(), .streaming = into(text, "end")});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(text.size(), 300'003U);
}

TEST(HttpStreaming, AServerThatFallsSilentIsLeft) {
  for (const char* said : {"", kEndless}) {
    LoopbackServer server(said, Then::hold);
    std::string text;
    const auto answer =
        make().send({.url = server.url("/e?token=1"), .streaming = into(text, "never", 100ms)});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().kind, Kind::timed_out);
    EXPECT_EQ(answer.error().message,
              "GET " + server.url("/e") + ": the server was silent for longer than 100 ms");
  }
}

TEST(HttpStreaming, IsNotSentAgainOnceAPieceWasTaken) {
  // Ten bytes are promised and three come.
  LoopbackServer server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Then::close);
  std::string text;
  const auto client = make({.retry = {.attempts = 3, .first_pause = 1ms}, .proxies = http::Proxies{}});
  const auto answer = client.send({.url = server.url(), .streaming = into(text)});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, Kind::unavailable);
  EXPECT_EQ(text, "abc");
  EXPECT_EQ(server.seen().size(), 1U);
}

TEST(HttpStreaming, IsSentAgainWhileNothingWasTaken) {
  LoopbackServer server([](const LoopbackServer::Seen& seen) -> LoopbackServer::Reply {
    if (seen.number == 0) return {"", Then::reset};
    return {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Then::keep};
  });
  std::string text;
  const auto client = make({.retry = {.attempts = 3, .first_pause = 1ms}, .proxies = http::Proxies{}});
  const auto answer = client.send({.url = server.url(), .streaming = into(text)});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(text, "abc");
}

TEST(HttpStreaming, ARefusalsBodyIsAnAnswersAsAlways) {
  LoopbackServer server(support::http_answer(403, R"({"error":{}})"));
  std::string text;
  const auto answer = make().send({.url = server.url(), .streaming = into(text)});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 403U);
  EXPECT_EQ(answer->body, R"({"error":{}})");
  EXPECT_THAT(text, IsEmpty());
}

TEST(HttpStreaming, AStopEndsItAtOnce) {
  std::stop_source stop;
  LoopbackServer server(std::string(kEndless) + "data: 1\n\n", Then::hold);
  const auto client = make();
  const http::Streaming streaming{.take = [&](std::string_view) {
    stop.request_stop();
    return true;
  }};
  const auto answer = client.send({.url = server.url(), .streaming = streaming}, stop.get_token());
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, Kind::cancelled);
}

}  // namespace
