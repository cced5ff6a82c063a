#include "tunneld/fetch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "tests/support/loopback_server.h"
#include "tests/support/run_async.h"

namespace tunneld {
namespace {

using namespace std::chrono_literals;
using support::http_answer;
using support::LoopbackServer;
using Kind = Error::Kind;
using Then = LoopbackServer::Then;

Result<std::string> fetched(const std::string& url, const FetchLimits& limits = {}) {
  boost::asio::io_context control;
  const auto fetch = make_fetch(limits);
  if (!fetch) return tl::unexpected(fetch.error());
  return support::run_async(control, (*fetch)(url));
}

TEST(Fetch, GetsADocument) {
  LoopbackServer server(http_answer(200, "{\"keys\":[]}"));
  const auto got = fetched(server.url("/keys?v=1"));
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(*got, "{\"keys\":[]}");
  const std::string head = server.seen().at(0).head;
  EXPECT_TRUE(head.starts_with("GET /keys?v=1 HTTP/1.1\r\n")) << head;
  EXPECT_NE(head.find("\r\nConnection: close\r\n"), std::string::npos) << head;
}

TEST(Fetch, ReportsWhatIsNotTheDocument) {
  struct Row {
    std::string answer;
    Kind kind;
    const char* cause;
  };
  const Row rows[] = {
      {http_answer(302, "", "Location: http://127.0.0.1:1/\r\n"), Kind::bad_input,
       "status 302: redirects are not followed; use the final URL"},
      {http_answer(401, ""), Kind::denied, "status 401"},
      {http_answer(403, ""), Kind::denied, "status 403"},
      {http_answer(404, ""), Kind::not_found, "status 404"},
      {http_answer(410, ""), Kind::not_found, "status 410"},
      {http_answer(429, ""), Kind::unavailable, "status 429"},
      {http_answer(503, ""), Kind::unavailable, "status 503"},
      {"HTTP/1.1 500 Oops\r\nContent-Length: 999999\r\n\r\n", Kind::unavailable, "status 500"},
      {http_answer(200, std::string(256 * 1024 + 1, 'x')), Kind::bad_input,
       "the answer is larger than 262144 bytes"},
      {"", Kind::unavailable, "the server closed the connection without an answer"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.answer.substr(0, 40));
    LoopbackServer server(row.answer, Then::close);
    const auto got = fetched(server.url("/keys?v=1"));
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().message, "GET " + server.url("/keys") + ": " + row.cause);
    EXPECT_EQ(got.error().kind, row.kind);
    EXPECT_EQ(server.seen().size(), 1U) << "when to try again is decided elsewhere";
  }
  EXPECT_EQ(fetched("http://192.0.2.1/keys").error().kind, Kind::bad_input);
}

TEST(Fetch, GivesUpAtItsDeadlineAndLetsTheLoopRunMeanwhile) {
  LoopbackServer server("", Then::hold);
  const auto fetch = make_fetch({.deadline = 200ms});
  ASSERT_TRUE(fetch);
  boost::asio::io_context control;
  std::optional<Result<std::string>> got;
  boost::asio::co_spawn(control, (*fetch)(server.url()),
                        [&](std::exception_ptr, Result<std::string> document) { got = std::move(document); });
  control.poll();
  bool ran = false;
  boost::asio::post(control, [&] { ran = true; });
  control.poll();
  EXPECT_TRUE(ran);
  EXPECT_FALSE(got);
  control.run_for(10s);
  ASSERT_TRUE(got);
  ASSERT_FALSE(*got);
  EXPECT_EQ(got->error().kind, Kind::timed_out);
}

TEST(Fetch, EndsAtOnceWhenItGoes) {
  LoopbackServer server("", Then::hold);
  boost::asio::io_context control;
  std::optional<Result<std::string>> got;
  auto fetch = std::make_unique<TokenKeys::Fetch>(make_fetch().value());
  for (int i = 0; i < 2; ++i) {  // the second waits for the first
    boost::asio::co_spawn(
        control, (*fetch)(server.url()),
        [&](std::exception_ptr, Result<std::string> document) { got = std::move(document); });
  }
  control.poll();
  ASSERT_TRUE(server.wait_for_requests(1));
  const auto start = std::chrono::steady_clock::now();
  fetch.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
  control.run_for(10s);
  ASSERT_TRUE(got);
  ASSERT_FALSE(*got);
  EXPECT_EQ(got->error().kind, Kind::cancelled);
  EXPECT_EQ(server.seen().size(), 1U);
}

TEST(Fetch, MayOutliveALoopThatStopped) {
  // As at the daemon's end: the loop stops with a fetch under way, then the keys go, then the loop.
  LoopbackServer server("", Then::hold);
  boost::asio::io_context control;
  {
    const auto fetch = make_fetch();
    ASSERT_TRUE(fetch);
    boost::asio::co_spawn(control, (*fetch)(server.url()),
                          [](std::exception_ptr, Result<std::string>) { FAIL(); });
    control.poll();
    ASSERT_TRUE(server.wait_for_requests(1));
  }
}

}  // namespace
}  // namespace tunneld
