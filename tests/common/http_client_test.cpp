#include "common/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <future>
#include <set>
#include <thread>

#include "tests/support/loopback_server.h"

namespace {

using namespace std::chrono_literals;
using support::http_answer;
using support::LoopbackServer;
using testing::HasSubstr;
using testing::Not;
using Kind = Error::Kind;
using Then = LoopbackServer::Then;

http::ClientOptions once() {
  return {.retry = {.attempts = 1}, .proxies = http::Proxies{}};
}

http::Client make(http::ClientOptions options = once()) {
  auto client = http::Client::make(std::move(options));
  if (!client) throw std::runtime_error(client.error().message);
  return std::move(*client);
}

Result<http::Response> get(const std::string& url, http::ClientOptions options = once()) {
  return make(std::move(options)).send({.url = url});
}

TEST(HttpClient, GetsADocumentFromLoopback) {
  LoopbackServer server(http_answer(200, "{\"keys\":[]}", "X-Twice: 1\r\nx-TWICE: 2\r\nX-Empty:\r\n"));
  http::ClientOptions options = once();
  options.user_agent = "tunnelctl/1";
  options.correlation_id = "run-7";
  const auto answer = make(options).send(
      {.url = server.url("/keys?v=1"), .headers = {{"Authorization", "Bearer secret"}, {"X-Empty", ""}}});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 200U);
  EXPECT_EQ(answer->content_type, "application/json");
  EXPECT_EQ(answer->body, "{\"keys\":[]}");
  EXPECT_EQ(answer->attempts, 1U);
  EXPECT_FALSE(answer->body_cut);
  ASSERT_NE(answer->header("x-twice"), nullptr);
  EXPECT_EQ(*answer->header("x-twice"), "1");
  ASSERT_NE(answer->header("X-EMPTY"), nullptr);
  EXPECT_EQ(*answer->header("X-EMPTY"), "");
  EXPECT_EQ(answer->header("X-Other"), nullptr);
  const std::string head = server.seen().at(0).head;
  EXPECT_TRUE(head.starts_with("GET /keys?v=1 HTTP/1.1\r\n")) << head;
  EXPECT_THAT(head, HasSubstr("\r\nHost: 127.0.0.1:" + std::to_string(server.port()) + "\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nUser-Agent: tunnelctl/1\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nX-Correlation-ID: run-7\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nAuthorization: Bearer secret\r\n"));
  EXPECT_THAT(head, HasSubstr("\r\nX-Empty:\r\n"));
  EXPECT_THAT(head, Not(HasSubstr("Content-Type")));
}

TEST(HttpClient, SendsEveryMethodWithItsBody) {
  LoopbackServer server(http_answer(200, ""));
  const http::Client client = make();
  struct Row {
    const char* method;
    std::string body;
    const char* length;  // as the server must see it
  };
  const Row rows[] = {
      {"POST", "{\"a\":1}", "Content-Length: 7\r\n"},
      {"POST", "", "Content-Length: 0\r\n"},
      {"PUT", "b", "Content-Length: 1\r\n"},
      {"PATCH", "c", "Content-Length: 1\r\n"},
      {"DELETE", "", ""},
      {"DELETE", "d", "Content-Length: 1\r\n"},
      {"GET", "e", "Content-Length: 1\r\n"},
      {"POST", std::string(3'000'000, 'f'), "Content-Length: 3000000\r\n"},
  };
  std::size_t number = 0;
  for (const Row& row : rows) {
    SCOPED_TRACE(std::string(row.method) + " " + row.body.substr(0, 9));
    const auto answer = client.send({.method = row.method,
                                     .url = server.url("/x/../y"),
                                     .body = row.body,
                                     .content_type = "application/json"});
    ASSERT_TRUE(answer) << answer.error().message;
    const auto seen = server.seen().at(number++);
    EXPECT_TRUE(seen.head.starts_with(std::string(row.method) + " /x/../y HTTP/1.1\r\n")) << seen.head;
    EXPECT_EQ(seen.body, row.body);
    const std::size_t length = seen.head.find("Content-Length");
    EXPECT_EQ(length == std::string::npos
                  ? ""
                  : seen.head.substr(length, seen.head.find('\n', length) + 1 - length),
              row.length);
    EXPECT_THAT(seen.head, HasSubstr("\r\nContent-Type: application/json\r\n"));
    EXPECT_THAT(seen.head, Not(HasSubstr("Expect:")));
  }
}

TEST(HttpClient, AsksForHeadsWithoutABody) {
  LoopbackServer server("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n");
  const http::Client client = make();
  for (int i = 0; i < 2; ++i) {
    const auto answer = client.send({.method = "HEAD", .url = server.url()});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, "");
  }
  EXPECT_EQ(server.connections(), 1U);
}

TEST(HttpClient, UnderstandsEveryWayABodyEnds) {
  for (const char* answer :
       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Late: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nabcde", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        "HTTP/1.1 103 Early Hints\r\nX-Late: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"}) {
    SCOPED_TRACE(answer);
    LoopbackServer server(answer, Then::close);
    const auto got = get(server.url());
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->body, "abcde");
    EXPECT_EQ(got->status, 200U);
    EXPECT_EQ(got->header("X-Late"), nullptr);
  }
}

TEST(HttpClient, HandsOverEveryStatus) {
  for (const unsigned status :
       {201U, 204U, 302U, 304U, 400U, 401U, 403U, 404U, 412U, 429U, 500U, 503U, 599U}) {
    SCOPED_TRACE(status);
    const bool bare = status == 204 || status == 304;
    LoopbackServer server(
        bare ? "HTTP/1.1 " + std::to_string(status) + " So\r\n\r\n"
             : http_answer(status, "{\"message\":\"why\"}", "Location: http://127.0.0.1:1/\r\n"));
    const auto got = get(server.url());
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->status, status);
    EXPECT_EQ(got->body, bare ? "" : "{\"message\":\"why\"}");
    EXPECT_EQ(server.seen().size(), 1U) << "redirects are not followed";
  }
}

TEST(HttpClient, KeepsTheStatusOfARefusalWhoseBodyIsNotAllThere) {
  http::ClientOptions options = once();
  options.max_body_bytes = 10;
  for (const std::string& answer : {std::string("HTTP/1.1 500 Oops\r\nContent-Length: 999999\r\n\r\nabc"),
                                    http_answer(502, std::string(50, 'x'))}) {
    LoopbackServer server(answer, Then::close);
    const auto got = get(server.url(), options);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_TRUE(got->body_cut);
    EXPECT_TRUE(got->body == "abc" || got->body == "xxxxxxxxxx") << got->body;
  }
}

TEST(HttpClient, SaysWhatWasWrongWithAnAnswer) {
  struct Row {
    std::string answer;
    Kind kind;
    const char* cause;  // its start
  };
  const Row rows[] = {
      {http_answer(200, std::string(101, 'x')), Kind::bad_input, "the answer is larger than 100 bytes"},
      {"HTTP/1.1 200 OK\r\n\r\n" + std::string(200, 'x'), Kind::bad_input,
       "the answer is larger than 100 bytes"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + std::string(255, 'x'), Kind::bad_input,
       "the answer is larger than 100 bytes"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Kind::bad_input,
       "the answer is not valid HTTP: "},
      {"HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n", Kind::bad_input,
       "the answer's header is larger than 65536 bytes"},
      {"HTTP/1.1 200 OK\r\nX: " + std::string(300'000, 'x') + "\r\n\r\n", Kind::bad_input,
       "the answer's header is larger than 65536 bytes"},
      {"SSH-2.0-OpenSSH_9.2\r\n", Kind::bad_input, "the answer is not valid HTTP: "},
      {std::string("\0\x16\x03\x01 garbage \xFF\xFE\r\n\r\n", 20), Kind::bad_input,
       "the answer is not valid HTTP: "},
      {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", Kind::unavailable, "the answer broke off: "},
      {"HTTP/1.1 200 OK\r\nX: 1\r\n", Kind::unavailable, "the answer broke off: "},
      {"", Kind::unavailable, "the server closed the connection without an answer"},
  };
  http::ClientOptions options = once();
  options.max_body_bytes = 100;
  for (const Row& row : rows) {
    SCOPED_TRACE(row.answer.substr(0, 60));
    LoopbackServer server(row.answer, Then::close);
    const auto got = get(server.url("/keys?token=hidden"), options);
    ASSERT_FALSE(got) << got->status << got->body;
    EXPECT_TRUE(got.error().message.starts_with("GET " + server.url("/keys") + ": " + row.cause))
        << got.error().message;
    EXPECT_THAT(got.error().message, Not(HasSubstr("hidden")));
    EXPECT_EQ(got.error().kind, row.kind);
  }
}

TEST(HttpClient, TakesHeadersOfFortyKilobytes) {
  LoopbackServer server(http_answer(200, "ok", "X-Large: " + std::string(40'000, 'x') + "\r\n"));
  const auto got = get(server.url());
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->header("X-Large")->size(), 40'000U);
}

TEST(HttpClient, KeepsNoMoreOfAHugeBodyThanAllowed) {
  // A gigabyte announced, sent without end.
  LoopbackServer server("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + std::string(8'000'000, 'x'),
                        Then::hold);
  http::ClientOptions options = once();
  options.max_body_bytes = 1'000'000;
  const auto got = get(server.url(), options);
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().message, HasSubstr("larger than 1000000 bytes"));
}

TEST(HttpClient, GivesUpAtTheDeadline) {
  struct Row {
    const char* answer;
    const char* cause;
  };
  for (const Row& row :
       {Row{"", "no answer came within 50 ms"},
        Row{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "the answer took longer than 50 ms"}}) {
    LoopbackServer server(row.answer, Then::hold);
    http::ClientOptions options = once();
    options.deadline = 50ms;
    const auto got = get(server.url(), options);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, Kind::timed_out);
    EXPECT_EQ(got.error().message, "GET " + server.url() + ": " + row.cause);
  }
  LoopbackServer server("", Then::hold);
  const auto got = make().send({.method = "POST", .url = server.url(), .body = "x", .deadline = 50ms});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().message,
            "POST " + server.url() + ": no answer came within 50 ms; it may have taken effect");
}

TEST(HttpClient, SaysWhoRefusedTheConnection) {
  std::string url;
  {
    LoopbackServer gone("");
    url = gone.url();
  }
  const auto got = get(url);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, Kind::unavailable);
  const std::string port = url.substr(17, url.size() - 18);
  EXPECT_EQ(got.error().message,
            "GET " + url + ": connecting to 127.0.0.1 port " + port + " failed: Connection refused");
}

TEST(HttpClient, SendsNothingInTheClearBeyondLoopback) {
  const auto got = get("http://192.0.2.1/keys");
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, Kind::bad_input);
  EXPECT_EQ(got.error().message,
            "GET http://192.0.2.1/keys: plain http is allowed to loopback only; use https");
}

TEST(HttpClient, RefusesRequestsItCannotMean) {
  struct Row {
    http::Request request;
    const char* message;
  };
  const Row rows[] = {
      {{.url = "https://user:pass@a/b?c"},
       "GET https://***@a/b: the URL must not contain a user or password; give them by environment variable "
       "or file instead"},
      {{.url = "ftp://a/"}, "GET ftp://a/: the URL must start with https:// or http://"},
      {{.method = "GE T", .url = "https://a/"}, "GE T https://a/: the method is malformed"},
      {{.url = "https://a/", .headers = {{"X: y\r\nZ", "1"}}},
       "GET https://a/: a header's name is malformed"},
      {{.url = "https://a/", .headers = {{"Authorization", "Bearer hidden\r\nX: y"}}},
       "GET https://a/: the value of the header Authorization contains a line break or control character"},
      {{.url = "https://a/", .content_type = "a\nb"}, "GET https://a/: the content type is malformed"},
  };
  for (const Row& row : rows) {
    const auto got = make().send(row.request);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, Kind::bad_input);
    EXPECT_EQ(got.error().message, row.message);
  }
}

TEST(HttpClient, UsesOneConnectionForTwentyRequests) {
  LoopbackServer server(http_answer(200, "ok"));
  const http::Client client = make();
  for (int i = 0; i < 20; ++i) {
    const auto got =
        client.send({.method = i % 2 ? "POST" : "GET", .url = server.url(), .body = i % 2 ? "x" : ""});
    ASSERT_TRUE(got) << got.error().message;
  }
  EXPECT_EQ(server.seen().size(), 20U);
  EXPECT_EQ(server.connections(), 1U);
}

TEST(HttpClient, KeepsAtMostSoManyInFlight) {
  // Each answer waits until the third request is there, so three are proved to be in flight.
  std::atomic<unsigned> come{0};
  LoopbackServer server([&](const LoopbackServer::Seen& seen) {
    ++come;
    while (come < 3) std::this_thread::yield();
    return LoopbackServer::Reply{http_answer(200, seen.head.substr(5, seen.head.find(" HTTP") - 5))};
  });
  http::ClientOptions options = once();
  options.max_in_flight = 3;
  std::vector<http::Request> requests;
  for (int i = 0; i < 60; ++i) requests.push_back({.url = server.url("/" + std::to_string(i))});
  requests[5].url = "nonsense";
  std::set<std::size_t> done;
  const auto caller = std::this_thread::get_id();
  make(options).send_all(requests, [&](std::size_t index, Result<http::Response> answer) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_TRUE(done.insert(index).second) << index << " twice";
    if (index == 5) {
      EXPECT_FALSE(answer);
      return;
    }
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, std::to_string(index));
  });
  EXPECT_EQ(done.size(), 60U);
  EXPECT_EQ(server.most_at_once(), 3U);
  EXPECT_EQ(server.connections(), 3U);
}

TEST(HttpClient, SendsMoreFromWithinDone) {
  LoopbackServer server(http_answer(200, "ok"));
  const http::Client client = make();
  std::size_t answers = 0;
  const std::vector<http::Request> requests(4, {.url = server.url("/outer")});
  client.send_all(requests, [&](std::size_t, Result<http::Response> outer) {
    const auto inner = client.send({.url = server.url("/inner")});
    if (outer && inner) answers += 2;
  });
  EXPECT_EQ(answers, 8U);
}

TEST(HttpClient, LetsGoOfItsRequestsWhenDoneThrows) {
  LoopbackServer server(http_answer(200, "ok"));
  const http::Client client = make();
  const std::vector<http::Request> requests(20, {.url = server.url()});
  EXPECT_THROW(
      client.send_all(requests, [](std::size_t, Result<http::Response>) { throw std::runtime_error("so"); }),
      std::runtime_error);
  EXPECT_TRUE(client.send({.url = server.url()}));
}

TEST(HttpClient, ServesManyThreads) {
  LoopbackServer server(http_answer(200, "ok"));
  const http::Client client = make();
  std::vector<std::future<bool>> callers;
  for (int i = 0; i < 8; ++i) {
    callers.push_back(std::async(std::launch::async, [&] {
      bool good = true;
      for (int n = 0; n < 10; ++n) good = good && client.send({.url = server.url()}).has_value();
      return good;
    }));
  }
  for (auto& caller : callers) EXPECT_TRUE(caller.get());
}

TEST(HttpClient, StopsAtOnce) {
  struct Row {
    const char* what;
    LoopbackServer::Reply reply;
  };
  const Row rows[] = {
      {"waiting for an answer", {"", Then::hold}},
      {"in the middle of one", {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", Then::hold}},
      {"in a pause", {http_answer(429, "", "Retry-After: 30\r\n")}},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    LoopbackServer server([&](const LoopbackServer::Seen&) { return row.reply; });
    http::ClientOptions options = once();
    options.max_in_flight = 2;
    options.retry.attempts = 4;
    const http::Client client = make(options);
    const std::vector<http::Request> requests(5, {.method = "PUT", .url = server.url(), .body = "x"});
    std::stop_source stop;
    std::chrono::steady_clock::time_point asked;
    std::thread person([&] {
      EXPECT_TRUE(server.wait_for_requests(2));
      // Nothing tells that the client has gone to sleep; too early a stop would be noticed without a wake.
      std::this_thread::sleep_for(100ms);
      asked = std::chrono::steady_clock::now();
      stop.request_stop();
    });
    std::vector<std::string> messages;
    client.send_all(
        requests,
        [&](std::size_t, Result<http::Response> answer) {
          ASSERT_FALSE(answer);
          EXPECT_EQ(answer.error().kind, Kind::cancelled);
          messages.push_back(answer.error().message);
        },
        stop.get_token());
    const auto took = std::chrono::steady_clock::now();
    person.join();
    EXPECT_LT(took - asked, 1s);
    ASSERT_EQ(messages.size(), 5U);
    EXPECT_EQ(messages.back(), "PUT " + server.url() + ": cancelled");
    if (row.reply.then == Then::hold) {
      EXPECT_EQ(messages.front(), "PUT " + server.url() + ": cancelled; it may have taken effect");
    }
    EXPECT_EQ(server.seen().size(), 2U) << "nothing begins after a stop";
  }
}

TEST(HttpClient, MakesCorrelationIds) {
  const std::string id = http::new_correlation_id();
  EXPECT_THAT(id, testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(id.size(), 32U);
  EXPECT_NE(id, http::new_correlation_id());
}

}  // namespace
