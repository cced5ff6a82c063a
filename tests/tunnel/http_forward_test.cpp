#include "tunnel/http_forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "tests/support/fake_origin.h"
#include "tests/support/memory_exchange.h"
#include "tests/support/quiet_observer.h"
#include "tests/support/run_async.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnel;
using support::FakeOrigin;
using support::MemoryExchange;
using support::MemoryStream;
using testing::HasSubstr;
using testing::Not;
using Ending = Forwarded::Ending;
using Then = FakeOrigin::Then;

constexpr std::string_view kGet = "GET /t/web/x HTTP/1.1\r\nHost: tunnel.example\r\n\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

std::string post(std::string_view fields, std::string_view method = "POST") {
  return std::string(method)
      .append(" /t/web/x HTTP/1.1\r\nHost: tunnel.example\r\n")
      .append(fields)
      .append("\r\n");
}

class HttpForwarding : public testing::Test {
 protected:
  HttpForwarding() {
    principal.issuer = "test";
    principal.subject = "ann";
    service = {"web", "lab", "127.0.0.1", 8080, {"*"}};
    to.principal = &principal;
    to.service = &service;
    to.target = "/x?q=1";
    options.continue_wait = 30ms;
  }

  Served<Forwarded> forward(MemoryExchange& exchange) {
    HttpForward story(pool, watch, observer, options);
    return support::run_async(context, story.forward(exchange, to));
  }
  /// Forwards while `caller` plays the rest of the caller's part.
  Served<Forwarded> forward(MemoryExchange& exchange, asio::awaitable<void> caller) {
    using namespace asio::experimental::awaitable_operators;
    HttpForward story(pool, watch, observer, options);
    return support::run_async(context, story.forward(exchange, to) && std::move(caller));
  }
  void expect_refusal(const Served<Forwarded>& done, Code code, const MemoryExchange& exchange) {
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(facts(done.error().code).name, facts(code).name) << done.error().message;
    EXPECT_FALSE(exchange.head.has_value()) << "a refusal leaves the answer to the caller of forward()";
  }

  asio::io_context context{1};
  tunnel::Principal principal;
  Service service;
  ForwardTarget to;
  ForwardOptions options;
  support::QuietObserver observer;
  FakeOrigin origin{context};
  DeadlineWatch watch{context.get_executor()};
  HttpPool pool{origin, watch, {}};
};

TEST_F(HttpForwarding, SendsTheRequestOnAndTheAnswerBack) {
  origin.replies = {{kOk}};
  MemoryExchange exchange(context.get_executor(), kGet);
  const auto done = forward(exchange);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->ending, Ending::complete);
  EXPECT_EQ(done->status, 200u);
  EXPECT_EQ(exchange.answer, "ok");
  EXPECT_EQ(exchange.writes.size(), 1u) << "a small answer is one write with its head";
  EXPECT_TRUE(exchange.finished);
  EXPECT_EQ(exchange.field("x-correlation-id"), "corr-1");
  EXPECT_THAT(origin.heads.at(0), HasSubstr("GET /x?q=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"));
  EXPECT_EQ(observer.client.sent, 2u);
  EXPECT_EQ(observer.agent.received, 2u);
}

TEST_F(HttpForwarding, UsesAChannelAgainForTheNextRequest) {
  origin.replies = {{kOk}};
  for (int request = 0; request < 3; ++request) {
    MemoryExchange exchange(context.get_executor(), kGet);
    ASSERT_TRUE(forward(exchange));
  }
  EXPECT_EQ(origin.opened, 1u);
  EXPECT_EQ(origin.heads.size(), 3u);
}

TEST_F(HttpForwarding, NeverSharesAChannelBetweenPrincipals) {
  origin.replies = {{kOk}};
  MemoryExchange first(context.get_executor(), kGet);
  ASSERT_TRUE(forward(first));
  principal.subject = "bob";
  MemoryExchange second(context.get_executor(), kGet);
  ASSERT_TRUE(forward(second));
  EXPECT_EQ(origin.opened, 2u);
}

TEST_F(HttpForwarding, DoesNotKeepAChannelThatCannotBeTrusted) {
  const struct {
    const char* name;
    std::string answer;
  } rows[] = {
      {"the service closes", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
      {"HTTP/1.0 without keep-alive", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"},
      {"bytes after the answer", kOk + "HTTP/1.1 200 OK\r\n"},
      {"a 204 that announces a body", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    origin.replies = {{row.answer}};
    MemoryExchange exchange(context.get_executor(), kGet);
    ASSERT_TRUE(forward(exchange));
    EXPECT_EQ(pool.idle(), 0u);
  }
}

TEST_F(HttpForwarding, FramesTheAnswerForTheCaller) {
  const struct {
    const char* name;
    const char* method;
    std::string answer;
    const char* body;
    std::size_t framing;  // index in BodyFraming
  } rows[] = {
      {"sized", "GET", kOk, "ok", 1},
      {"empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 1},
      {"chunked", "GET",
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", "ok", 2},
      {"until close becomes chunked", "GET", "HTTP/1.1 200 OK\r\n\r\nok", "ok", 2},
      {"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "", 0},
      {"304 keeps its length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", 1},
      {"HEAD keeps its length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", 1},
      {"HEAD without a length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", "", 3},
      {"HEAD of a chunked answer", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", 2},
  };
  for (const auto& row : rows) {
    for (const std::size_t piece : {0, 1}) {
      SCOPED_TRACE(std::string(row.name) + (piece == 0 ? " at once" : " byte by byte"));
      origin.heads.clear();
      pool.clear();
      origin.replies = {{row.answer, Then::close, false, piece}};
      MemoryExchange exchange(context.get_executor(), post("", row.method));
      const auto done = forward(exchange);
      ASSERT_TRUE(done) << done.error().message;
      EXPECT_EQ(done->ending, Ending::complete) << done->why;
      EXPECT_EQ(exchange.answer, row.body);
      EXPECT_EQ(exchange.head->body.index(), row.framing);
      EXPECT_EQ(exchange.field("content-length"), "-") << "framing fields come from `body` alone";
      EXPECT_TRUE(exchange.finished);
    }
  }
}

TEST_F(HttpForwarding, SpeaksToAnHttp10CallerWithoutChunks) {
  origin.replies = {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n"}};
  MemoryExchange exchange(context.get_executor(), "GET /t/web/x HTTP/1.0\r\n\r\n");
  ASSERT_TRUE(forward(exchange));
  EXPECT_TRUE(std::holds_alternative<UntilCloseBody>(exchange.head->body));
  EXPECT_EQ(exchange.answer, "ok");
  EXPECT_TRUE(exchange.trailers_got.empty());
}

TEST_F(HttpForwarding, PassesTrailersBothWays) {
  origin.replies = {
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"}};
  MemoryExchange exchange(context.get_executor(), post("Transfer-Encoding: chunked\r\n"), {"ab", "cd"});
  exchange.sent_trailers = {{"X-Up", "3"}};
  ASSERT_TRUE(forward(exchange));
  EXPECT_EQ(origin.bodies.at(0), "abcd");
  ASSERT_EQ(origin.trailers.size(), 1u);
  EXPECT_EQ(origin.trailers[0].value, "3");
  ASSERT_EQ(exchange.trailers_got.size(), 1u);
  EXPECT_EQ(exchange.trailers_got[0].name, "X-Sum");
}

TEST_F(HttpForwarding, StreamsLargeBodiesBothWaysWithoutHoldingThem) {
  const std::string piece(30'000, 'u');
  const std::size_t pieces = 100;
  std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + std::string(3'000'000, 'd');
  origin.replies = {{answer}};
  MemoryExchange exchange(context.get_executor(), post("Content-Length: 3000000\r\n"),
                          std::vector<std::string>(pieces, piece));
  const auto done = forward(exchange);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(origin.bodies.at(0).size(), 3'000'000u);
  EXPECT_EQ(exchange.answer.size(), 3'000'000u);
  EXPECT_EQ(done->from_caller_bytes, 3'000'000u);
  EXPECT_EQ(done->from_service_bytes, 3'000'000u);
  for (const auto& write : exchange.writes) ASSERT_LE(write.size(), 64u * 1024);
  EXPECT_EQ(pool.idle(), 1u);
  EXPECT_EQ(observer.client.received, 3'000'000u);
  EXPECT_EQ(observer.agent.sent, 3'000'000u);
}

asio::awaitable<void> echo_chunks(MemoryStream& stream) {
  // Answers before the body ends, and echoes each chunk as it comes: both directions at once.
  std::string head = co_await support::read_exactly(stream, 1);
  while (head.find("\r\n\r\n") == head.npos) head += co_await support::read_exactly(stream, 1);
  co_await stream.write(support::bytes_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
  for (;;) {
    const auto byte = co_await support::read_exactly(stream, 1);
    if (byte.empty()) co_return;
    co_await stream.write(support::bytes_of("1\r\n" + byte + "\r\n"));
    if (byte == "Z") co_return (void) co_await stream.write(support::bytes_of("0\r\n\r\n"));
  }
}

asio::awaitable<void> converse(MemoryExchange& exchange) {
  co_await exchange.wait_for_head();
  exchange.push("a");
  while (exchange.answer.find('a') == std::string::npos)
    co_await exchange.wait_for_body(exchange.answer.size() + 1);
  exchange.push("Z");
}

TEST_F(HttpForwarding, IsFullDuplex) {
  origin.script = echo_chunks;
  MemoryExchange exchange(context.get_executor(), post("Transfer-Encoding: chunked\r\n"));
  exchange.body_stays_open = true;
  const auto done = forward(exchange, converse(exchange));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->ending, Ending::complete) << done->why;
  EXPECT_THAT(exchange.answer, HasSubstr("a"));
  EXPECT_EQ(pool.idle(), 0u) << "the upload did not end, so the channel is spent";
}

TEST_F(HttpForwarding, AnEarlyFinalAnswerStopsTheUploadAndSpendsTheChannel) {
  origin.replies = {{"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig", Then::hang, true}};
  origin.capacity = 1024;
  MemoryExchange exchange(context.get_executor(), post("Content-Length: 1000000\r\n"), {"start"});
  exchange.body_stays_open = true;
  const auto done = forward(exchange);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->ending, Ending::complete);
  EXPECT_EQ(done->status, 413u);
  EXPECT_EQ(exchange.answer, "big");
  EXPECT_EQ(pool.idle(), 0u);
}

TEST_F(HttpForwarding, FlushesServerSentEventsAsTheyCome) {
  origin.replies = {
      {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
       "9\r\ndata: 1\n\n\r\n",
       Then::hang}};
  options.request_timeout = 50ms;
  MemoryExchange exchange(context.get_executor(), kGet);
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(exchange.answer, "data: 1\n\n") << "the first event went out though no more came";
  EXPECT_EQ(done->ending, Ending::timed_out);
  EXPECT_TRUE(exchange.aborted);
}

// --- Interim answers and Expect -----------------------------------------------------------------

TEST_F(HttpForwarding, PassesInterimAnswersButNot100) {
  origin.replies = {{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + kOk}};
  MemoryExchange exchange(context.get_executor(), kGet);
  ASSERT_TRUE(forward(exchange));
  ASSERT_EQ(exchange.interim.size(), 1u);
  EXPECT_EQ(exchange.interim[0].status, 103u);
  EXPECT_EQ(exchange.answer, "ok");
}

TEST_F(HttpForwarding, LetsTheServiceRefuseABodyItWasNotSent) {
  origin.replies = {{"HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Then::close, true}};
  MemoryExchange exchange(context.get_executor(), post("Expect: 100-continue\r\nContent-Length: 5\r\n"),
                          {"hello"});
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->status, 417u);
  EXPECT_EQ(exchange.body_reads, 0u) << "reading it would have told the caller to go on";
  EXPECT_THAT(origin.heads.at(0), HasSubstr("Expect: 100-continue\r\n"));
}

asio::awaitable<void> continue_then_read(MemoryStream& stream) {
  std::string head = co_await support::read_exactly(stream, 1);
  while (head.find("\r\n\r\n") == head.npos) head += co_await support::read_exactly(stream, 1);
  co_await stream.write(support::bytes_of("HTTP/1.1 100 Continue\r\n\r\n"));
  const auto body = co_await support::read_exactly(stream, 5);
  const auto answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body;
  co_await stream.write(support::bytes_of(answer));
}

TEST_F(HttpForwarding, SendsTheBodyWhenTheServiceSaysContinue) {
  options.continue_wait = 1h;
  origin.script = continue_then_read;
  MemoryExchange exchange(context.get_executor(), post("Expect: 100-continue\r\nContent-Length: 5\r\n"),
                          {"hello"});
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(exchange.answer, "hello");
  EXPECT_TRUE(exchange.interim.empty()) << "read_body() has said it already";
}

TEST_F(HttpForwarding, SendsTheBodyAfterAWhileToAServiceThatIgnoresExpect) {
  origin.replies = {{kOk}};
  MemoryExchange exchange(context.get_executor(), post("Expect: 100-continue\r\nContent-Length: 5\r\n"),
                          {"hello"});
  ASSERT_TRUE(forward(exchange));
  EXPECT_EQ(origin.bodies.at(0), "hello");
}

// --- Upgrades -----------------------------------------------------------------------------------

constexpr std::string_view kUpgrade =
    "GET /t/web/x HTTP/1.1\r\nHost: t\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

asio::awaitable<void> upgrade_and_echo(MemoryStream& stream) {
  std::string head = co_await support::read_exactly(stream, 1);
  while (head.find("\r\n\r\n") == head.npos) head += co_await support::read_exactly(stream, 1);
  if (head.find("Upgrade: websocket\r\nConnection: Upgrade\r\n") == head.npos) co_return;
  co_await stream.write(
      support::bytes_of("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: x\r\n\r\nearly"));
  const auto got = co_await support::read_all(stream);
  co_await stream.write(support::bytes_of(got));
  co_await stream.shutdown_write();
  co_await support::read_all(stream);
}

asio::awaitable<void> talk_upgraded(MemoryExchange& exchange, std::string& heard) {
  co_await exchange.wait_for_head();
  while (!exchange.upgraded_peer) co_await exchange.wait_for_head();
  co_await exchange.upgraded_peer->write(support::bytes_of(" hello"));
  co_await exchange.upgraded_peer->shutdown_write();
  heard = co_await support::read_all(*exchange.upgraded_peer);
}

TEST_F(HttpForwarding, RelaysAnUpgradedConnectionWithWhatCameEarly) {
  origin.script = upgrade_and_echo;
  MemoryExchange exchange(context.get_executor(), kUpgrade);
  std::string heard;
  const auto done = forward(exchange, talk_upgraded(exchange, heard));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->ending, Ending::upgraded);
  EXPECT_EQ(done->status, 101u);
  EXPECT_EQ(heard, "early hello");
  EXPECT_EQ(exchange.field("upgrade"), "websocket");
  EXPECT_EQ(exchange.field("sec-websocket-accept"), "x");
  ASSERT_TRUE(done->relay);
  EXPECT_EQ(done->relay->how, RelayEnd::How::finished);
  EXPECT_EQ(done->from_service_bytes, 11u);
}

TEST_F(HttpForwarding, ARefusedUpgradeIsAnOrdinaryAnswer) {
  origin.replies = {{"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"}};
  MemoryExchange exchange(context.get_executor(), kUpgrade);
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->status, 403u);
  EXPECT_EQ(exchange.answer, "no");
}

TEST_F(HttpForwarding, A101NobodyAskedForBreaksHttp) {
  origin.replies = {{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"}};
  MemoryExchange exchange(context.get_executor(), kGet);
  expect_refusal(forward(exchange), Code::websocket_error, exchange);
}

// --- Repeating ----------------------------------------------------------------------------------

TEST_F(HttpForwarding, RepeatsOnlyWhatMayBeRepeatedAndOnlyFromAReusedChannel) {
  const struct {
    const char* name;
    const char* method;
    const char* fields;
    std::vector<std::string> body;
    bool reused;
    unsigned requests_at_origin;  // the first one excluded
    std::optional<Code> refusal;
  } rows[] = {
      {"GET", "GET", "", {}, true, 2, {}},
      {"HEAD", "HEAD", "", {}, true, 2, {}},
      {"DELETE", "DELETE", "", {}, true, 2, {}},
      {"OPTIONS", "OPTIONS", "", {}, true, 2, {}},
      {"PUT with a small body", "PUT", "Content-Length: 2\r\n", {"hi"}, true, 2, {}},
      {"PUT with a streamed body", "PUT", "Transfer-Encoding: chunked\r\n", {"hi"}, true, 1, Code::ssh_error},
      {"POST", "POST", "Content-Length: 2\r\n", {"hi"}, true, 1, Code::outcome_unknown},
      {"PATCH", "PATCH", "", {}, true, 1, Code::outcome_unknown},
      {"POST with a key", "POST", "Idempotency-Key: k\r\nContent-Length: 2\r\n", {"hi"}, true, 2, {}},
      {"GET on a new channel", "GET", "", {}, false, 1, Code::ssh_error},
      {"POST on a new channel", "POST", "", {}, false, 1, Code::outcome_unknown},
  };
  for (const auto& row : rows) {
    for (const auto then : {Then::close, Then::reset}) {
      SCOPED_TRACE(std::string(row.name) + (then == Then::close ? ", closed" : ", reset"));
      pool.clear();
      origin.heads.clear();
      origin.bodies.clear();
      origin.replies = {{kOk}, {"", then}, {kOk}};
      if (row.reused) {
        MemoryExchange first(context.get_executor(), kGet);
        ASSERT_TRUE(forward(first));
      } else {
        origin.replies.erase(origin.replies.begin());
      }
      const auto before = origin.heads.size();
      MemoryExchange exchange(context.get_executor(), post(row.fields, row.method), row.body);
      const auto done = forward(exchange);
      EXPECT_EQ(origin.heads.size() - before, row.requests_at_origin);
      if (row.refusal) {
        expect_refusal(done, *row.refusal, exchange);
      } else {
        ASSERT_TRUE(done) << done.error().message;
        EXPECT_EQ(done->status, 200u);
        if (!row.body.empty()) {
          EXPECT_EQ(origin.bodies.back(), row.body[0]) << "the body is sent again whole";
        }
      }
    }
  }
}

TEST_F(HttpForwarding, ASecondFailureIsNotRepeated) {
  origin.replies = {{kOk}, {"", Then::close}, {"", Then::close}, {kOk}};
  MemoryExchange first(context.get_executor(), kGet);
  ASSERT_TRUE(forward(first));
  MemoryExchange exchange(context.get_executor(), kGet);
  expect_refusal(forward(exchange), Code::ssh_error, exchange);
  EXPECT_EQ(origin.heads.size(), 3u);
}

asio::awaitable<void> answer_once_then_close(MemoryStream& stream) {
  std::string head = co_await support::read_exactly(stream, 1);
  while (head.find("\r\n\r\n") == head.npos) head += co_await support::read_exactly(stream, 1);
  co_await stream.write(support::bytes_of(kOk));
}

TEST_F(HttpForwarding, AChannelKnownToBeClosedCostsNoRequest) {
  origin.script = answer_once_then_close;
  for (int request = 0; request < 3; ++request) {
    MemoryExchange exchange(context.get_executor(), post("Content-Length: 2\r\n"), {"hi"});
    const auto done = forward(exchange);
    ASSERT_TRUE(done) << done.error().message;
    context.restart();
    context.poll();  // lets the service's close arrive
  }
  EXPECT_EQ(origin.opened, 3u) << "POSTs that would have been lost on the old channel";
}

// --- Broken services ----------------------------------------------------------------------------

TEST_F(HttpForwarding, AHeadCutAtAnyByteIsARefusal) {
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
  for (std::size_t size = 0; size < head.size(); ++size) {
    SCOPED_TRACE(size);
    pool.clear();
    origin.heads.clear();
    origin.replies = {{head.substr(0, size), Then::close}};
    MemoryExchange exchange(context.get_executor(), kGet);
    expect_refusal(forward(exchange), size == 0 ? Code::ssh_error : Code::websocket_error, exchange);
  }
}

TEST_F(HttpForwarding, AnAnswerThatIsNotHttpIsARefusal) {
  const std::string rows[] = {
      "SSH-2.0-OpenSSH_9.2\r\n",
      "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n",
      "HTTP/1.1 999 What\r\n\r\n",
      "HTTP/1.1 200 OK\r\nX: " + std::string(40'000, 'x'),
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.substr(0, 60));
    pool.clear();
    origin.heads.clear();
    origin.replies = {{row, Then::close}};
    MemoryExchange exchange(context.get_executor(), kGet);
    expect_refusal(forward(exchange), Code::websocket_error, exchange);
  }
}

TEST_F(HttpForwarding, ABodyCutShortAbortsTheAnswer) {
  const std::string rows[] = {
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
  };
  for (const auto& row : rows) {
    for (const auto then : {Then::close, Then::reset}) {
      SCOPED_TRACE(row.substr(20) + (then == Then::close ? " closed" : " reset"));
      pool.clear();
      origin.heads.clear();
      origin.replies = {{row, then}};
      MemoryExchange exchange(context.get_executor(), kGet);
      const auto done = forward(exchange);
      ASSERT_TRUE(done);
      EXPECT_EQ(done->ending, Ending::service_cut);
      EXPECT_EQ(exchange.answer, "ab");
      EXPECT_TRUE(exchange.aborted);
      EXPECT_FALSE(exchange.finished) << "a cut answer must not look whole";
      EXPECT_EQ(pool.idle(), 0u);
    }
  }
}

TEST_F(HttpForwarding, AResetWhileUntilCloseAnswerRunsIsNotItsEnd) {
  origin.replies = {{"HTTP/1.1 200 OK\r\n\r\nab", Then::reset}};
  MemoryExchange exchange(context.get_executor(), kGet);
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->ending, Ending::service_cut);
  EXPECT_TRUE(exchange.aborted);
}

TEST_F(HttpForwarding, AResetDuringTheUploadLeavesTheOutcomeUnknown) {
  origin.replies = {{"", Then::reset, true}};
  origin.capacity = 1024;
  MemoryExchange exchange(context.get_executor(), post("Content-Length: 100000\r\n"),
                          {std::string(100'000, 'x')});
  expect_refusal(forward(exchange), Code::outcome_unknown, exchange);
}

TEST_F(HttpForwarding, EndlessInterimAnswersAreARefusal) {
  std::string answers;
  for (int count = 0; count < 100; ++count) answers += "HTTP/1.1 103 Early Hints\r\n\r\n";
  origin.replies = {{answers + kOk}};
  MemoryExchange exchange(context.get_executor(), kGet);
  expect_refusal(forward(exchange), Code::websocket_error, exchange);
}

// --- Deadlines ----------------------------------------------------------------------------------

TEST_F(HttpForwarding, NoFirstByteInTimeIsATimeout) {
  options.request_timeout = 30ms;
  origin.replies = {{"", Then::hang}};
  for (const char* fields : {"", "Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n"}) {
    MemoryExchange exchange(context.get_executor(), post(fields), {"hi"});
    if (*fields == '\0') exchange.body.clear();
    expect_refusal(forward(exchange), Code::timed_out, exchange);
  }
}

TEST_F(HttpForwarding, AServiceThatDoesNotReadTheBodyTimesOut) {
  options.request_timeout = 30ms;
  origin.replies = {{"", Then::hang, true}};
  origin.script = [](MemoryStream&) -> asio::awaitable<void> {
    asio::steady_timer never(co_await asio::this_coro::executor, 1h);
    co_await never.async_wait(asio::as_tuple(asio::use_awaitable));
  };
  origin.capacity = 1024;
  MemoryExchange exchange(context.get_executor(), post("Content-Length: 100000\r\n"),
                          {std::string(100'000, 'x')});
  expect_refusal(forward(exchange), Code::timed_out, exchange);
}

TEST_F(HttpForwarding, ThePauseOfASlowUploaderIsNotTheServicesFault) {
  options.request_timeout = 20ms;
  origin.replies = {{kOk}};
  MemoryExchange exchange(context.get_executor(), post("Transfer-Encoding: chunked\r\n"), {"a"});
  exchange.body_stays_open = true;
  const auto late = [](MemoryExchange& caller) -> asio::awaitable<void> {
    asio::steady_timer pause(co_await asio::this_coro::executor, 80ms);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    caller.push("b");
    caller.end_body();
  };
  const auto done = forward(exchange, late(exchange));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(origin.bodies.at(0), "ab");
}

TEST_F(HttpForwarding, TheWholeExchangeHasALimitToo) {
  options.max_duration = 40ms;
  origin.replies = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + std::string(100'000, 'x'), Then::hang}};
  MemoryExchange exchange(context.get_executor(), kGet);
  exchange.stops_reading = true;
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->ending, Ending::timed_out);
  EXPECT_TRUE(exchange.aborted);
}

TEST_F(HttpForwarding, HonoursTheCallersTimeoutAndRefusesNonsense) {
  for (const char* value : {"0", "601", "-1", "5s", "", "1.5", " ", "99999999999999999999"}) {
    MemoryExchange exchange(context.get_executor(),
                            post(std::string("X-Tunnel-Timeout: ") + value + "\r\n", "GET"));
    expect_refusal(forward(exchange), Code::bad_request, exchange);
  }
  EXPECT_EQ(origin.opened, 0u);
  options.request_timeout = 10ms;
  origin.replies = {{kOk}};
  MemoryExchange exchange(context.get_executor(), post("X-Tunnel-Timeout: 600\r\n", "GET"));
  ASSERT_TRUE(forward(exchange));
  EXPECT_THAT(origin.heads.at(0), Not(HasSubstr("X-Tunnel")));
}

// --- Broken callers -----------------------------------------------------------------------------

TEST_F(HttpForwarding, ABrokenRequestBodyIsTheCallersFault) {
  const struct {
    const char* fields;
    Error::Kind kind;
    std::optional<unsigned> status;
  } rows[] = {
      {"Content-Length: 5\r\n", Error::Kind::bad_input, {}},
      {"Content-Length: 50000\r\n", Error::Kind::bad_input, {}},
      {"Transfer-Encoding: chunked\r\n", Error::Kind::bad_input, {}},
      {"Content-Length: 5\r\n", Error::Kind::timed_out, 408},
      {"Transfer-Encoding: chunked\r\n", Error::Kind::timed_out, 408},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.fields);
    origin.replies = {{kOk}};
    MemoryExchange exchange(context.get_executor(), post(row.fields), {"hi"});
    exchange.body_error = Error{row.kind, "broken body"};
    const auto done = forward(exchange);
    expect_refusal(done, Code::bad_request, exchange);
    EXPECT_EQ(done.error().http_status, row.status);
    EXPECT_EQ(pool.idle(), 0u);
  }
}

TEST_F(HttpForwarding, ASmallBodyThatNeverArrivesReachesNoService) {
  MemoryExchange exchange(context.get_executor(), post("Content-Length: 5\r\n"), {"hi"});
  exchange.body_error = Error{Error::Kind::unavailable, "reset"};
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->ending, Ending::caller_gone);
  EXPECT_EQ(done->status, 499u);
  EXPECT_EQ(origin.opened, 0u);
}

TEST_F(HttpForwarding, ACallerThatHangsUpEndsTheExchange) {
  origin.replies = {{"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + std::string(200'000, 'x')}};
  MemoryExchange exchange(context.get_executor(), kGet);
  exchange.gone = true;
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->ending, Ending::caller_gone);
  EXPECT_EQ(pool.idle(), 0u);
}

TEST_F(HttpForwarding, PassesTheDialersRefusalOn) {
  origin.refusal = Refusal{Code::queue_full, "full", 3s};
  MemoryExchange exchange(context.get_executor(), kGet);
  const auto done = forward(exchange);
  expect_refusal(done, Code::queue_full, exchange);
  EXPECT_EQ(done.error().retry_after, 3s);
}

// --- The queue, traces and limits ---------------------------------------------------------------

TEST_F(HttpForwarding, TellsTheDialerHowUrgentTheRequestIsAndWhatItHolds) {
  origin.replies = {{kOk}};
  to.priority = Priority::high;
  MemoryExchange exchange(context.get_executor(), post("Content-Length: 2\r\n"), {"hi"});
  ASSERT_TRUE(forward(exchange));
  EXPECT_EQ(origin.priorities.at(0), Priority::high);
  EXPECT_EQ(origin.held_bytes.at(0), origin.heads.at(0).size() + 2);
}

TEST_F(HttpForwarding, SaysWhenItGotItsChannelAndHowLongItQueued) {
  origin.replies = {{kOk}};
  origin.queued = 7s;
  ForwardTimes times;
  to.times = &times;
  MemoryExchange exchange(context.get_executor(), kGet);
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->queued, 7s);
  EXPECT_EQ(times.queued, 7s);
  ASSERT_TRUE(times.got_channel_after);
  EXPECT_EQ(done->got_channel_after, *times.got_channel_after);

  MemoryExchange again(context.get_executor(), kGet);
  const auto reused = forward(again);
  ASSERT_TRUE(reused);
  EXPECT_EQ(reused->queued, 0s) << "an idle channel was at hand";
}

TEST_F(HttpForwarding, SaysSoOfARefusedRequestToo) {
  origin.refusal = Refusal{Code::timed_out, "no channel"};
  origin.queued = 7s;
  ForwardTimes times;
  to.times = &times;
  MemoryExchange exchange(context.get_executor(), kGet);
  expect_refusal(forward(exchange), Code::timed_out, exchange);
  EXPECT_EQ(times.queued, 7s);
  EXPECT_FALSE(times.got_channel_after);
}

TEST_F(HttpForwarding, ARepeatedRequestCountsBothItsWaits) {
  origin.replies = {{kOk}, {"", Then::close}, {kOk}};
  MemoryExchange first(context.get_executor(), kGet);
  ASSERT_TRUE(forward(first));
  origin.queued = 3s;
  MemoryExchange exchange(context.get_executor(), kGet);
  const auto done = forward(exchange);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->queued, 3s) << "none for the idle channel, and these for the new one";
}

TEST_F(HttpForwarding, AddsTheTunnelsOwnFieldsToTheFinalAnswerOnly) {
  origin.replies = {
      {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nx-ratelimit-limit: theirs\r\n"
       "X-Other: kept\r\nContent-Length: 2\r\n\r\nok"}};
  to.answer_fields = {{"X-RateLimit-Limit", "100"}, {"X-RateLimit-Remaining", "7"}};
  MemoryExchange exchange(context.get_executor(), kGet);
  ASSERT_TRUE(forward(exchange));
  EXPECT_EQ(exchange.field("x-ratelimit-limit"), "100") << "the service cannot speak for the tunnel";
  EXPECT_EQ(exchange.field("x-ratelimit-remaining"), "7");
  EXPECT_EQ(exchange.field("x-other"), "kept");
  ASSERT_EQ(exchange.interim.size(), 1u);
  for (const auto& field : exchange.interim[0].fields) EXPECT_NE(field.name, "X-RateLimit-Limit");
}

TEST_F(HttpForwarding, SendsOurTraceparentInPlaceOfTheCallers) {
  origin.replies = {{kOk}};
  for (const char* ours : {"", "00-ours-01"}) {
    to.traceparent = ours;
    MemoryExchange exchange(context.get_executor(), post("traceparent: 00-theirs-01\r\n", "GET"));
    ASSERT_TRUE(forward(exchange));
    const bool replaced = *ours != '\0';
    EXPECT_EQ(origin.heads.back().find("00-theirs-01") == std::string::npos, replaced);
    EXPECT_EQ(origin.heads.back().find("traceparent: 00-ours-01\r\n") != std::string::npos, replaced);
  }
}

asio::awaitable<void> end_upgraded(MemoryExchange& exchange, RelayControl& control) {
  while (!exchange.upgraded_peer) co_await exchange.wait_for_head();
  control.stop(RelayEnd::How::closed_by_admin, "enough");
  co_await support::read_all(*exchange.upgraded_peer);
}

TEST_F(HttpForwarding, AnUpgradedConnectionCanBeEndedFromOutside) {
  origin.script = upgrade_and_echo;
  RelayControl control;
  to.relay_control = &control;
  to.answer_fields = {{"X-RateLimit-Limit", "100"}};
  MemoryExchange exchange(context.get_executor(), kUpgrade);
  const auto done = forward(exchange, end_upgraded(exchange, control));
  ASSERT_TRUE(done) << done.error().message;
  ASSERT_TRUE(done->relay);
  EXPECT_EQ(done->relay->how, RelayEnd::How::closed_by_admin);
  EXPECT_EQ(exchange.field("x-ratelimit-limit"), "100");
}

// --- The pool -----------------------------------------------------------------------------------

TEST_F(HttpForwarding, IdleChannelsEndAfterTheirTime) {
  HttpPool quick(origin, watch, {.idle_limit = 20ms});
  HttpForward story(quick, watch, observer, options);
  origin.replies = {{kOk}};
  MemoryExchange exchange(context.get_executor(), kGet);
  ASSERT_TRUE(support::run_async(context, story.forward(exchange, to)));
  EXPECT_EQ(quick.idle(), 1u);
  context.restart();
  const auto give_up = std::chrono::steady_clock::now() + 5s;
  while (origin.ended_channels == 0 && std::chrono::steady_clock::now() < give_up)
    context.run_one_until(give_up);
  EXPECT_EQ(quick.idle(), 0u);
  EXPECT_EQ(origin.ended_channels, 1u) << "the service saw the channel end";
}

TEST_F(HttpForwarding, KeepsNoMoreIdleChannelsThanAllowed) {
  HttpPool small(origin, watch, {.max_idle_per_service = 1, .max_idle = 2});
  origin.replies = {{kOk}};
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  const char* subjects[] = {"ann", "ann", "bob", "cyd"};
  std::vector<HttpPool::Lease> leases;
  for (const auto* subject : subjects) {
    principal.subject = subject;
    const OpenRequest request{.principal = principal, .service = service, .deadline = deadline};
    auto lease = support::run_async(context, small.take(request, HttpPool::Source::idle_or_new));
    ASSERT_TRUE(lease);
    leases.push_back(std::move(*lease));
  }
  for (auto& lease : leases) small.put(std::move(lease));
  EXPECT_EQ(small.idle(), 2u) << "one of ann's, one of bob's";
}

}  // namespace
