#include "edge/http_connection.h"

#include "tests/edge/door.h"

namespace edge {
namespace {

using namespace std::chrono_literals;
using test::Caller;

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

class HttpDoor : public testing::TestWithParam<bool> {
 protected:
  static Door::Setup setup() {
    Door::Setup made;
    made.tls = GetParam();
    return made;
  }
  static std::unique_ptr<Caller> call(const Door& door) {
    auto caller = std::make_unique<Caller>(door.port);
    if (GetParam() && !caller->start_tls()) ADD_FAILURE() << caller->tls_error();
    return caller;
  }
};
INSTANTIATE_TEST_SUITE_P(Over, HttpDoor, testing::Bool(),
                         [](const auto& over) { return over.param ? "Tls" : "Plain"; });

TEST_P(HttpDoor, AnswersRequestsOneAfterTheOtherOnOneConnection) {
  Door door(setup(), answer_hello);
  auto caller = call(door);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(caller->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    const auto answer = caller->read_answer();
    EXPECT_EQ(answer.substr(0, 17), "HTTP/1.1 200 OK\r\n");
    EXPECT_TRUE(has(answer, "\r\nDate: ")) << answer;
    EXPECT_FALSE(has(answer, "Server:")) << answer;
    EXPECT_FALSE(has(answer, "Connection:")) << answer;
    EXPECT_EQ(answer.substr(answer.size() - 5), "hello");
  }
  EXPECT_EQ(door.server->connections().front().requests, 3U);
}

TEST_P(HttpDoor, AnswersPipelinedRequestsInOrder) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const auto body = exchange.request().target;
    const auto head = ok(tunnel::SizedBody{body.size()});
    (void)co_await exchange.send_head_with(head, std::as_bytes(std::span(body)));
  });
  auto caller = call(door);
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
  ASSERT_TRUE(caller->send(requests));
  for (int i = 0; i < 50; ++i) {
    const auto answer = caller->read_answer();
    const auto expected = "/" + std::to_string(i);
    EXPECT_EQ(answer.substr(answer.find("\r\n\r\n") + 4), expected);
  }
}

TEST_P(HttpDoor, StreamsAChunkedBodyBothWaysWithTrailers) {
  Door door(setup(), answer_echo);
  auto caller = call(door);
  ASSERT_TRUE(
      caller->send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"));
  ASSERT_TRUE(caller->send("3\r\nabc\r\n"));
  EXPECT_TRUE(has(caller->read_until("\r\n\r\n"), "Transfer-Encoding: chunked"));
  EXPECT_EQ(caller->read_until("abc\r\n"), "3\r\nabc\r\n");  // before the request is over
  ASSERT_TRUE(caller->send("4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_EQ(caller->read_until("0\r\nX-Sum: 7\r\n\r\n"), "4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n");
  // What stood behind the body is the next request.
  EXPECT_TRUE(has(caller->read_until("0\r\n\r\n"), "HTTP/1.1 200"));
}

TEST_P(HttpDoor, CarriesALargeBodyBothWaysUnchanged) {
  Door door(setup(), answer_echo);
  auto caller = call(door);
  std::string body(8 * 1024 * 1024 + 17, '\0');
  std::uint32_t noise = 1;
  for (auto& c : body) c = static_cast<char>((noise = noise * 1664525 + 1013904223) >> 24);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n");
  std::size_t sent = 0;
  std::string received;
  for (;;) {
    if (received.size() == sent && sent < body.size()) {
      const auto next = std::min<std::size_t>(200'000, body.size() - sent);
      ASSERT_TRUE(caller->send(std::string_view(body).substr(sent, next)));
      if (sent == 0) {
        ASSERT_TRUE(has(caller->read_until("\r\n\r\n"), "200 OK"));
      }
      sent += next;
    }
    const auto size = std::stoul(caller->read_until("\r\n"), nullptr, 16);
    if (size == 0) break;
    received += caller->read_exactly(size);
    ASSERT_EQ(caller->read_exactly(2), "\r\n");
  }
  EXPECT_TRUE(received == body);
}

TEST_P(HttpDoor, SaysContinueOnceTheHandlerWantsTheBody) {
  Door door(setup(), answer_echo);
  auto caller = call(door);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(caller->read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  caller->send("ok");
  EXPECT_TRUE(has(caller->read_until("2\r\nok\r\n"), "200 OK"));
}

TEST_P(HttpDoor, SaysNoContinueAndClosesWhenTheAnswerComesFirst) {
  Door door(setup(), answer_hello);
  auto caller = call(door);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  const auto answer = caller->read_to_end();
  EXPECT_EQ(answer.substr(0, 15), "HTTP/1.1 200 OK");
  EXPECT_TRUE(has(answer, "Connection: close\r\n"));
}

TEST_P(HttpDoor, SendsNoBodyForHeadAnd204) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    if (exchange.request().method == "HEAD") {
      co_await answer_hello(exchange);
    } else {
      tunnel::ResponseHead head = ok(tunnel::NoBody{});
      head.status = 204;
      (void)co_await exchange.send_head(head);
    }
  });
  auto caller = call(door);
  caller->send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(has(caller->read_until("\r\n\r\n"), "Content-Length: 5"));
  const auto empty = caller->read_until("\r\n\r\n");
  EXPECT_EQ(empty.substr(0, 12), "HTTP/1.1 204");
  EXPECT_FALSE(has(empty, "Content-Length"));
}

TEST_P(HttpDoor, AnswersOldCallersUntilCloseInsteadOfChunked) {
  Door door(setup(), answer_echo);
  auto caller = call(door);
  caller->send("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
  const auto answer = caller->read_to_end();
  EXPECT_FALSE(has(answer, "chunked")) << answer;
  EXPECT_EQ(answer.substr(answer.find("\r\n\r\n")), "\r\n\r\nabc");
}

TEST_P(HttpDoor, Answers500WhenTheHandlerDoesNot) {
  Door door(setup(), [](tunnel::HttpExchange&) -> asio::awaitable<void> { co_return; });
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\nX-Correlation-ID: me-1\r\n\r\n");
  const auto answer = caller->read_to_end();
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 500");
  EXPECT_TRUE(has(answer, "X-Correlation-ID: me-1\r\n")) << answer;
}

TEST_P(HttpDoor, CutsAnAnswerThatIsShorterThanAnnounced) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const std::string_view part = "abc";
    (void)co_await exchange.send_head_with(ok(tunnel::SizedBody{10}), std::as_bytes(std::span(part)));
    const auto ended = co_await exchange.finish(std::vector<tunnel::Header>());
    EXPECT_FALSE(ended);
  });
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  caller->read_to_end();
  EXPECT_TRUE(caller->was_reset());
}

TEST_P(HttpDoor, NeverSendsMoreThanAnnounced) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    (void)co_await exchange.send_head(ok(tunnel::SizedBody{2}));
    const std::string_view body = "abc";
    const auto written = co_await exchange.write_body(std::as_bytes(std::span(body)));
    EXPECT_FALSE(written);
  });
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_FALSE(has(caller->read_to_end(), "abc"));
  EXPECT_TRUE(caller->was_reset());
}

TEST_P(HttpDoor, RefusesBrokenHeadsWithTheErrorBody) {
  struct Row {
    const char* head;
    const char* status;
    const char* code;
  };
  const std::string long_line = "GET /" + std::string(9000, 'a');
  const std::string long_field = "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(40'000, 'a');
  const Row rows[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400",
       "TUNNEL_010"},
      {"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", "400", "TUNNEL_010"},
      {"\x16\x03\x01\x02\r\n\r\n", "400", "TUNNEL_010"},
      {long_line.c_str(), "414", "TUNNEL_016"},
      {long_field.c_str(), "431", "TUNNEL_016"},
  };
  Door door(setup(), answer_hello);
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.head).substr(0, 60));
    auto caller = call(door);
    caller->send(row.head);
    const auto answer = caller->read_to_end();
    EXPECT_EQ(answer.substr(0, 12), std::string("HTTP/1.1 ") + row.status);
    EXPECT_TRUE(has(answer, row.code)) << answer;
    EXPECT_TRUE(has(answer, "Connection: close")) << answer;
  }
  EXPECT_EQ(door.observer.count("request_rejected"), 5);
}

TEST_P(HttpDoor, CutsAHeadThatDribbles) {
  auto made = setup();
  made.options.header_timeout = 80ms;
  Door door(made, answer_hello);
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\n");
  const auto answer = caller->read_to_end();
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 408");
  EXPECT_EQ(door.observer.count("request_rejected:header_timeout"), 1);
}

TEST_P(HttpDoor, ClosesAnIdleConnectionQuietly) {
  auto made = setup();
  made.options.keep_alive_idle = 50ms;
  Door door(made, answer_hello);
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  caller->read_answer();
  EXPECT_EQ(caller->read_to_end(), "");
  EXPECT_TRUE(door.ended("idle"));
}

TEST_P(HttpDoor, TellsTheHandlerThatABodyStalled) {
  auto made = setup();
  made.options.body_timeout = 50ms;
  std::promise<Error> seen;
  Door door(made, [&seen](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    std::array<std::byte, 16> buffer;
    Result<std::size_t> got = std::size_t{1};
    while (got && *got > 0) got = co_await exchange.read_body(buffer);
    seen.set_value(got ? Error{} : got.error());
  });
  auto caller = call(door);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_EQ(seen.get_future().get().kind, Error::Kind::timed_out);
  EXPECT_EQ(caller->read_to_end().substr(0, 12), "HTTP/1.1 500");
}

TEST_P(HttpDoor, DropsASmallUnreadBodyAndGoesOn) {
  Door door(setup(), answer_hello);
  auto caller = call(door);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + std::string(30'000, 'x'));
  caller->read_answer();
  caller->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(caller->read_answer().substr(0, 12), "HTTP/1.1 200");
}

TEST_P(HttpDoor, ClosesAfterALargeUnreadBodyButLetsTheAnswerArrive) {
  Door door(setup(), answer_hello);
  auto caller = call(door);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + std::string(150'000, 'x'));
  const auto answer = caller->read_to_end();
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 200");
  EXPECT_EQ(answer.substr(answer.size() - 5), "hello");
}

TEST_P(HttpDoor, ReportsABrokenChunkedBody) {
  Door door(setup(), answer_echo);
  auto caller = call(door);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
  EXPECT_EQ(caller->read_to_end().substr(0, 12), "HTTP/1.1 500");  // this handler answers nothing itself
  EXPECT_GE(door.observer.count("request_rejected"), 1);
}

TEST_P(HttpDoor, GivesUpOnACallerThatTakesNothing) {
  auto made = setup();
  made.options.write_stall = 100ms;
  std::promise<Error> seen;
  Door door(made, [&seen](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const std::vector<std::byte> piece(1024 * 1024);
    auto sent = co_await exchange.send_head(ok(tunnel::ChunkedBody{}));
    while (sent) sent = co_await exchange.write_body(piece);
    seen.set_value(sent.error());
  });
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(seen.get_future().get().kind, Error::Kind::timed_out);
}

TEST_P(HttpDoor, HandsOverEarlyBytesOnUpgrade) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    tunnel::ResponseHead head;
    head.status = 101;
    head.reason = "Switching Protocols";
    head.fields = {{"Upgrade", "echo"}, {"Connection", "Upgrade"}};
    auto stream = co_await exchange.upgrade(head);
    if (stream) co_await echo_stream(**stream);
  });
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly");
  EXPECT_EQ(caller->read_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 101");
  EXPECT_EQ(caller->read_exactly(5), "early");
  caller->send("late");
  caller->end_sending();
  EXPECT_EQ(caller->read_to_end(), "late");
}

}  // namespace
}  // namespace edge
