#include "tunnelctl/incident/remote.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/loopback_server.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnelctl::incident;
using support::http_answer;
using support::LoopbackServer;
using testing::HasSubstr;
using testing::Not;
using Kind = Error::Kind;

Remote at(const LoopbackServer& server) {
  auto remote = Remote::make({.service = "Service",
                              .url = server.url(""),
                              .setting = "incident.service.url",
                              .headers = {{"Authorization", "Bearer t0ken"}},
                              .timeout = 2s});
  if (!remote) throw std::runtime_error(remote.error().message);
  return std::move(*remote);
}

std::string page(unsigned status) {
  const std::string body = "<!DOCTYPE html><html><body>Sign in</body></html>";
  return "HTTP/1.1 " + std::to_string(status) +
         " Because\r\nContent-Type: text/html\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

TEST(Remote, TellsWhatARefusalMeansInTheServersWords) {
  struct Row {
    std::string answer;
    Kind kind;
    const char* says;
  };
  const Row rows[] = {
      {http_answer(400,
                   R"({"status":"invalid event","message":"Event object is invalid","errors":["no key"]})"),
       Kind::bad_input, "400: Event object is invalid; no key"},
      {http_answer(401, R"({"error":{"message":"Unauthorized","code":2006}})"), Kind::denied,
       "401: Unauthorized"},
      {http_answer(403, R"({"message":"Resource not accessible"})"), Kind::denied, "Resource not accessible"},
      {http_answer(403, R"({"message":"API rate limit exceeded"})", "x-ratelimit-remaining: 0\r\n"),
       Kind::unavailable, "API rate limit exceeded"},
      {http_answer(403, R"({"message":"You have exceeded a secondary rate limit"})"), Kind::unavailable,
       "secondary"},
      {http_answer(404, R"({"message":"Not Found"})"), Kind::not_found, "404: Not Found"},
      {http_answer(410, R"({"message":"Issues has been disabled"})"), Kind::not_found, "disabled"},
      {http_answer(422,
                   R"({"message":"Validation Failed","errors":[{"field":"title","code":"missing_field"}]})"),
       Kind::bad_input, "Validation Failed; title missing_field"},
      {http_answer(429, R"({"message":"throttled"})", "Retry-After: 60\r\n"), Kind::unavailable,
       "429: throttled"},
      {http_answer(500, "not json"), Kind::unavailable, "500: not json"},
      {http_answer(302, "", "Location: /login\r\n"), Kind::bad_input, "incident.service.url"},
      {http_answer(200, "not json"), Kind::unavailable, "not what this service sends"},
      {http_answer(200, ""), Kind::unavailable, "not what this service sends"},
      {page(200), Kind::unavailable, "the answer is a web page; look at incident.service.url"},
      {page(404), Kind::not_found, "web page"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.says);
    const LoopbackServer server(row.answer);
    const auto answer = at(server).json({.method = "POST", .path = "/x?secret=y", .body = Json::object()});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().kind, row.kind) << answer.error().message;
    EXPECT_THAT(answer.error().message, HasSubstr(row.says));
    EXPECT_THAT(answer.error().message, testing::StartsWith("Service: POST http://127.0.0.1"));
    EXPECT_THAT(answer.error().message, Not(HasSubstr("secret")));
    EXPECT_THAT(answer.error().message, Not(HasSubstr("t0ken")));
  }
}

TEST(Remote, RefusesAnAnswerWithoutEnd) {
  const LoopbackServer server(http_answer(200, "\"" + std::string(9 * 1024 * 1024, 'x') + "\""),
                              LoopbackServer::Then::close);
  const auto answer = at(server).json({.path = "/x"});
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("Service: GET"));
}

TEST(Remote, RepeatsOnlyWhatMayBeRepeated) {
  for (const bool repeatable : {false, true}) {
    const LoopbackServer server([](const LoopbackServer::Seen& seen) -> LoopbackServer::Reply {
      if (seen.number == 0) return {"", LoopbackServer::Then::close};
      return {http_answer(200, "{}"), LoopbackServer::Then::keep};
    });
    const auto answer =
        at(server).json({.method = "POST", .path = "/x", .body = Json::object(), .repeatable = repeatable});
    EXPECT_EQ(answer.has_value(), repeatable);
    EXPECT_EQ(server.seen().size(), repeatable ? 2U : 1U);
    if (!answer) {
      EXPECT_THAT(answer.error().message, HasSubstr("may have taken effect"));
    }
  }
}

TEST(Remote, LeavesAWholeAddressAsItWasGiven) {
  const LoopbackServer server(http_answer(200, "{}"));
  const auto remote = Remote::make({.url = server.url("/hook/"), .timeout = 2s});
  ASSERT_TRUE(remote);
  ASSERT_TRUE(remote->json({.method = "POST", .text = "{}"}));
  ASSERT_TRUE(remote->json({.path = "/x"}));
  EXPECT_THAT(server.seen()[0].head, testing::StartsWith("POST /hook/ HTTP"));
  EXPECT_THAT(server.seen()[1].head, testing::StartsWith("GET /hook/x HTTP"));
}

TEST(Remote, SendsNoCredentialsInTheClear) {
  const auto refused = Remote::make({.url = "http://service.example", .setting = "incident.service.url"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Kind::bad_input);
  EXPECT_THAT(refused.error().message, HasSubstr("use https"));
  EXPECT_FALSE(Remote::make({.url = "service.example", .setting = "x"}));
  EXPECT_TRUE(Remote::make({.url = "http://service.example", .allow_plain = true}));
}

TEST(Mark, ComesBackAsItWasAndEndsNoCommentEarly) {
  const Json facts{{"key", "a --> b -- c"}, {"dash", "--"}, {"more", "<!-- x: {} -->"}};
  const auto text = mark("name", facts);
  EXPECT_EQ(text.find("-->"), text.size() - 3);
  EXPECT_EQ(text.find("--", 4), text.size() - 3);
  const auto back = unmarked(text + "\n\nbody", "name");
  EXPECT_EQ(back.facts, facts);
  EXPECT_EQ(back.text, "body");
}

TEST(Mark, IsOnlyReadWhereItIsWhole) {
  for (const char* text :
       {"", "body", "<!-- name: {} ", "<!-- name: {\"a\" -->", "<!-- other: {} -->", "<!-- name: 7 -->"}) {
    const auto read = unmarked(text, "name");
    EXPECT_TRUE(read.facts.is_null()) << text;
    EXPECT_EQ(read.text, text);
  }
  EXPECT_EQ(unmarked(mark("name", {{"n", 1}}) + mark("name", {{"n", 2}}), "name").facts["n"], 1);
}

TEST(Cut, KeepsWholeCharacters) {
  EXPECT_EQ(cut("short", 10), "short");
  EXPECT_EQ(cut("a long text", 10), "a lo [...]");
  EXPECT_EQ(cut("äöüäöüäöü", 11), "äö [...]");
}

TEST(ShortKey, StaysOneForOneKey) {
  EXPECT_EQ(short_key("key", 255), "key");
  const std::string a(300, 'a');
  EXPECT_LE(short_key(a, 255).size(), 255U);
  EXPECT_EQ(short_key(a, 255), short_key(a, 255));
  EXPECT_NE(short_key(a, 255), short_key(a + "b", 255));
  EXPECT_EQ(short_key(short_key(a, 255), 255), short_key(a, 255));
}

}  // namespace
