#include "edge/websocket.h"

#include <array>
#include <atomic>

#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "tests/edge/door.h"
#include "tests/support/websocket_caller.h"

namespace edge {
namespace {

using namespace std::chrono_literals;
using test::Caller;
using test::WebSocketCaller;

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

class WebSocketDoors : public testing::TestWithParam<bool> {
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
INSTANTIATE_TEST_SUITE_P(Over, WebSocketDoors, testing::Bool(),
                         [](const auto& over) { return over.param ? "Tls" : "Plain"; });

TEST_P(WebSocketDoors, EchoesAndClosesInGoodOrder) {
  Door door(setup(), answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  const auto answer = socket.open();
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 101");
  EXPECT_TRUE(has(answer, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
      << answer;  // RFC 6455 1.3
  socket.send(0x82, "hello");
  const auto echoed = socket.receive();
  EXPECT_EQ(echoed.first_byte, 0x82U);
  EXPECT_EQ(echoed.payload, "hello");
  ASSERT_TRUE(eventually([&] { return !door.server->connections().empty(); }));
  const auto seen = door.server->connections().front();
  EXPECT_STREQ(seen.kind, "websocket");
  EXPECT_EQ(seen.service, "echo");
  socket.send(0x88,
              "\x03\xE8"
              "done");
  EXPECT_EQ(socket.receive().close_code(), 1000U);
  EXPECT_EQ(caller->read_to_end(), "");
  EXPECT_FALSE(caller->was_reset());
  EXPECT_TRUE(eventually([&] { return door.observer.count("websocket_closed:1000,client") == 1; }));
  EXPECT_EQ(door.observer.count("websocket_opened:caller,premium"), 1);
}

TEST_P(WebSocketDoors, TakesFramesSentTogetherWithTheRequest) {
  Door door(setup(), answer_websocket_echo);
  auto caller = call(door);
  caller->send(
      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
      "13\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" +
      WebSocketCaller::masked(0x82, "early"));
  caller->read_until("\r\n\r\n");
  EXPECT_EQ(WebSocketCaller(*caller).receive().payload, "early");
}

TEST_P(WebSocketDoors, CarriesFragmentsWithPingsBetweenThem) {
  Door door(setup(), answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  const std::string big(200'000, 'x');
  socket.send(0x02, "abc");
  socket.send(0x89, "are you there");
  socket.send(0x00, big);
  socket.send(0x80, "end");
  std::string data;
  std::string pong;
  while (data.size() < big.size() + 6) {
    const auto frame = socket.receive();
    ASSERT_NE(frame.first_byte, 0U);
    if (frame.opcode() == 10)
      pong = frame.payload;
    else
      data += frame.payload;
  }
  EXPECT_TRUE(data == "abc" + big + "end");
  EXPECT_EQ(pong, "are you there");
}

TEST_P(WebSocketDoors, SendsTwoPiecesAsOneMessage) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const tunnel::WebSocketAccept accept;
    auto socket = co_await exchange.accept_websocket(accept);
    if (!socket) co_return;
    const std::string head = "head ";
    const std::string body(100'000, 'b');
    const auto head_bytes = std::as_bytes(std::span(head));
    const auto body_bytes = std::as_bytes(std::span(body));
    const std::span<const std::byte> nothing;
    const std::array both{std::span<const std::byte>(head_bytes), std::span<const std::byte>(body_bytes)};
    const std::array first{both[0], nothing}, none{nothing, nothing}, last{nothing, both[0]};
    EXPECT_TRUE(co_await (*socket)->write_pieces(both));
    EXPECT_TRUE(co_await (*socket)->write_pieces(first));
    EXPECT_TRUE(co_await (*socket)->write_pieces(none)) << "sends nothing";
    EXPECT_TRUE(co_await (*socket)->write_pieces(last));
    co_await (*socket)->close_with(1000, "");
  });
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  const auto both = socket.receive();
  EXPECT_EQ(both.first_byte, 0x82U);
  EXPECT_TRUE(both.payload == "head " + std::string(100'000, 'b'));
  EXPECT_EQ(socket.receive().payload, "head ");
  EXPECT_EQ(socket.receive().payload, "head ");
  EXPECT_EQ(socket.receive().close_code(), 1000U);
  socket.send(0x88, "\x03\xE8");
}

TEST_P(WebSocketDoors, SendsManyPiecesAsOneMessageAndMoreThanItHoldsAsSeveral) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const tunnel::WebSocketAccept accept;
    auto socket = co_await exchange.accept_websocket(accept);
    if (!socket) co_return;
    const std::string text(40'000, 'b');
    const auto bytes = std::as_bytes(std::span(text));
    const std::vector<std::span<const std::byte>> few{bytes.first(1), bytes, {}, bytes.first(5), bytes};
    EXPECT_TRUE(co_await (*socket)->write_pieces(few));
    const std::vector<std::span<const std::byte>> many(20, bytes.first(3));
    EXPECT_TRUE(co_await (*socket)->write_pieces(many));
    const std::vector<std::span<const std::byte>> none(2);
    EXPECT_TRUE(co_await (*socket)->write_pieces(none)) << "sends nothing";
    co_await (*socket)->close_with(1000, "");
  });
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  EXPECT_TRUE(socket.receive().payload == std::string(80'006, 'b'));
  std::string rest;
  while (rest.size() < 60) rest += socket.receive().payload;
  EXPECT_EQ(rest, std::string(60, 'b'));
  EXPECT_EQ(socket.receive().close_code(), 1000U);
  socket.send(0x88, "\x03\xE8");
}

TEST_P(WebSocketDoors, KeepsHalfCloseWithEmptyMessages) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    tunnel::WebSocketAccept accept;
    accept.subprotocol = "tunnel.raw.v1";
    accept.empty_message_ends = true;
    auto socket = co_await exchange.accept_websocket(accept);
    if (!socket) co_return;
    std::array<std::byte, 100> buffer;
    std::string all;
    for (;;) {
      auto got = co_await (*socket)->read(buffer);
      if (!got || *got == 0) break;
      all.append(reinterpret_cast<const char*>(buffer.data()), *got);
    }
    all += "!";
    (void)co_await (*socket)->write(std::as_bytes(std::span(all)));
    (void)co_await (*socket)->shutdown_write();
    co_await (*socket)->close_with(1000, "");
  });
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  EXPECT_TRUE(has(socket.open(), "Sec-WebSocket-Protocol: tunnel.raw.v1\r\n"));
  socket.send(0x82, "one ");
  socket.send(0x82, "two");
  socket.send(0x82, "");
  EXPECT_EQ(socket.receive().payload, "one two!");
  const auto ended = socket.receive();
  EXPECT_EQ(ended.first_byte, 0x82U);
  EXPECT_EQ(ended.payload, "");
  EXPECT_EQ(socket.receive().close_code(), 1000U);
  socket.send(0x88, "\x03\xE8");
  EXPECT_EQ(caller->read_to_end(), "");
}

TEST_P(WebSocketDoors, AnswersPingsAfterThePeersDirectionEnded) {
  std::promise<void> finish;
  auto finished = std::make_shared<std::shared_future<void>>(finish.get_future().share());
  Door door(setup(), [finished](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    tunnel::WebSocketAccept accept;
    accept.empty_message_ends = true;
    auto socket = co_await exchange.accept_websocket(accept);
    if (!socket) co_return;
    std::array<std::byte, 16> buffer;
    auto got = co_await (*socket)->read(buffer);
    EXPECT_TRUE(got && *got == 0);
    asio::steady_timer tick(co_await asio::this_coro::executor);
    while (finished->wait_for(0s) != std::future_status::ready) {
      tick.expires_after(1ms);
      co_await tick.async_wait(asio::use_awaitable);
    }
    co_await (*socket)->close_with(1000, "");
  });
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  socket.send(0x82, "");
  socket.send(0x89, "still there?");
  EXPECT_EQ(socket.receive().payload, "still there?");
  finish.set_value();
  EXPECT_EQ(socket.receive().close_code(), 1000U);
}

TEST_P(WebSocketDoors, FailsWhatBreaksTheRules) {
  struct Row {
    const char* what;
    unsigned first_byte;
    std::string payload;
    unsigned code;
    const char* metric;
  };
  const Row rows[] = {
      {"reserved bit", 0xC2, "x", 1002, "frame_rejected:protocol"},
      {"bad text", 0x81, "\xFF", 1007, "frame_rejected:utf8"},
      {"too large", 0x82, std::string(1024 * 1024 + 1, 'x'), 1009, "frame_rejected:oversize"},
  };
  Door door(setup(), answer_websocket_echo);
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    auto caller = call(door);
    WebSocketCaller socket(*caller);
    socket.open();
    socket.send(row.first_byte, row.payload);
    EXPECT_EQ(socket.receive().close_code(), row.code);
    EXPECT_TRUE(eventually([&] { return door.observer.count(row.metric) == 1; }));
  }
}

TEST_P(WebSocketDoors, LetsAPeerSeeWhyItWasRefusedAfterItHasSentEverything) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
    if (!socket) co_return;
    std::array<std::byte, 4096> buffer;
    auto got = co_await (*socket)->read(buffer);
    while (got && *got > 0) got = co_await (*socket)->read(buffer);
  });
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  const std::string part(1000, 'x');
  std::string frames = WebSocketCaller::masked(0x02, part);
  for (int i = 0; i < 4000; ++i) frames += WebSocketCaller::masked(0x00, part);  // refused at about a quarter
  EXPECT_TRUE(caller->send(frames));  // after a reset most clients would not even look for an answer
  const auto close = socket.receive();
  EXPECT_EQ(close.close_code(), 1009U);
  socket.send(0x88, close.payload);
  caller->end_sending();
  EXPECT_EQ(caller->read_to_end(), "");
  EXPECT_FALSE(caller->was_reset());
}

TEST_P(WebSocketDoors, EndsAPingFlood) {
  Door door(setup(), answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  std::string flood;
  for (int i = 0; i < 12; ++i) flood += WebSocketCaller::masked(0x89, std::to_string(i));
  caller->send(flood);
  auto frame = socket.receive();
  while (frame.opcode() == 10) frame = socket.receive();
  EXPECT_EQ(frame.close_code(), 1008U);
}

TEST_P(WebSocketDoors, AnswersEachPingWhileNothingIsInTheWay) {
  Door door(setup(), answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  caller->send(WebSocketCaller::masked(0x89, "one") + WebSocketCaller::masked(0x89, "two"));
  EXPECT_EQ(socket.receive().payload, "one");
  EXPECT_EQ(socket.receive().payload, "two");
}

asio::awaitable<void> write_until(tunnel::ByteStream& stream, const std::atomic<bool>& enough) {
  const std::vector<std::byte> frame(64 * 1024);
  while (!enough && co_await stream.write(frame)) {
  }
  (void)co_await stream.shutdown_write();
}

asio::awaitable<void> read_to_end(tunnel::ByteStream& stream, std::atomic<bool>& heard) {
  std::array<std::byte, 4096> buffer;
  auto got = co_await stream.read(buffer);
  while (got && *got > 0) {
    heard = true;
    got = co_await stream.read(buffer);
  }
}

TEST_P(WebSocketDoors, AnswersOnlyTheNewestOfSeveralPingsThatCameBehindAFrame) {
  std::atomic<bool> heard{false};
  std::atomic<bool> enough{false};
  Door door(setup(), [&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    using asio::experimental::awaitable_operators::operator&&;
    auto socket = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
    if (!socket) co_return;
    co_await (write_until(**socket, enough) && read_to_end(**socket, heard));
  });
  auto caller = call(door);
  const int small = 16 * 1024;  // so that the writer is soon stuck
  ::setsockopt(caller->descriptor(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  WebSocketCaller socket(*caller);
  socket.open();
  caller->send(WebSocketCaller::masked(0x89, "one") + WebSocketCaller::masked(0x89, "two") +
               WebSocketCaller::masked(0x89, "three") + WebSocketCaller::masked(0x82, "data"));
  ASSERT_TRUE(eventually([&] { return heard.load(); }));
  enough = true;
  std::vector<std::string> pongs;
  auto frame = socket.receive();
  for (; frame.opcode() == 2 || frame.opcode() == 10; frame = socket.receive())
    if (frame.opcode() == 10) pongs.push_back(frame.payload);
  EXPECT_EQ(frame.close_code(), 1000U);
  EXPECT_EQ(pongs, std::vector<std::string>{"three"});
  socket.send(0x88, frame.payload);
}

/// Takes 100 bytes before it says anything.
asio::awaitable<void> answer_after_100(tunnel::HttpExchange& exchange) {
  auto socket = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
  if (!socket) co_return;
  std::array<std::byte, 100> all;
  std::size_t have = 0;
  while (have < all.size()) {
    auto got = co_await (*socket)->read(std::span(all).subspan(have));
    if (!got || *got == 0) co_return;
    have += *got;
  }
  (void)co_await (*socket)->write(all);
  co_await (*socket)->close_with(1000, "");
}

/// Sends a byte every few milliseconds until the server answers; what it then answered.
WebSocketCaller::Frame dribble(Caller& caller, WebSocketCaller& socket, std::string_view bytes) {
  for (const char byte : bytes) {
    pollfd answer{caller.descriptor(), POLLIN, 0};
    if (::poll(&answer, 1, 5) != 0) break;
    if (!caller.send({&byte, 1})) break;
  }
  return socket.receive();
}

TEST_P(WebSocketDoors, EndsAFrameThatDribbles) {
  auto made = setup();
  made.options.frame_window = 60ms;
  made.options.min_frame_progress_bytes = 1000;
  Door door(made, answer_after_100);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  const auto answer = dribble(*caller, socket, WebSocketCaller::masked(0x82, std::string(100, 'x')));
  EXPECT_EQ(answer.close_code(), 1008U);
  EXPECT_TRUE(has(answer.payload, "TUNNEL_010"));
  EXPECT_TRUE(eventually([&] { return door.observer.count("frame_rejected:slow") == 1; }));
}

TEST_P(WebSocketDoors, EndsAFrameWhoseRestNeverComes) {
  auto made = setup();
  made.options.frame_window = 60ms;
  Door door(made, answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  caller->send(WebSocketCaller::masked(0x82, "all of it") +
               WebSocketCaller::masked(0x82, "cut").substr(0, 1));
  EXPECT_EQ(socket.receive().payload, "all of it");
  EXPECT_EQ(socket.receive().close_code(), 1008U);
}

TEST_P(WebSocketDoors, LetsASlowFrameThatKeepsComingFinish) {
  auto made = setup();
  made.options.frame_window = 200ms;  // the frame takes more than two of them
  made.options.min_frame_progress_bytes = 1;
  Door door(made, answer_after_100);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  const std::string slow(100, 'x');
  EXPECT_EQ(dribble(*caller, socket, WebSocketCaller::masked(0x82, slow)).payload, slow);
  EXPECT_EQ(door.observer.count("frame_rejected:slow"), 0);
}

TEST_P(WebSocketDoors, PingsASilentPeerAndMeasuresTheRoundTrip) {
  auto made = setup();
  made.options.ping_after = 40ms;
  Door door(made, answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  const auto ping = socket.receive();
  EXPECT_EQ(ping.first_byte, 0x89U);
  socket.send(0x8A, ping.payload);
  EXPECT_TRUE(eventually([&] { return door.observer.count("heartbeat_rtt") == 1; }));
}

TEST_P(WebSocketDoors, GivesUpOnAPeerThatStaysSilent) {
  auto made = setup();
  made.options.ping_after = 30ms;
  made.options.dead_after = 60ms;
  made.options.close_timeout = 50ms;
  Door door(made, answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  EXPECT_EQ(socket.receive().opcode(), 9U);
  EXPECT_EQ(socket.receive().close_code(), 4408U);
  EXPECT_TRUE(eventually([&] { return door.observer.count("heartbeat_timed_out") == 1; }));
  caller->read_to_end();
}

TEST_P(WebSocketDoors, ReportsAPeerThatVanished) {
  Door door(setup(), answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  socket.send(0x82, "x");
  socket.receive();
  caller->reset();
  EXPECT_TRUE(eventually([&] { return door.observer.count("websocket_closed:1006,client") == 1; }));
}

TEST_P(WebSocketDoors, RefusesABrokenHandshakeWithItsStatus) {
  struct Row {
    const char* fields;
    const char* status;
  };
  const Row rows[] = {
      {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", "400"},
      {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
       "c2hvcnQ=\r\n",
       "400"},
      {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: "
       "dGhlIHNhbXBsZSBub25jZQ==\r\n",
       "426"},
      {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "426"},
      {"Upgrade: other\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
       "dGhlIHNhbXBsZSBub25jZQ==\r\n",
       "400"},
  };
  Door door(setup(), answer_websocket_echo);
  for (const auto& row : rows) {
    SCOPED_TRACE(row.fields);
    auto caller = call(door);
    caller->send(std::string("GET / HTTP/1.1\r\nHost: a\r\n") + row.fields + "\r\n");
    const auto answer = caller->read_answer();
    EXPECT_EQ(answer.substr(0, 12), std::string("HTTP/1.1 ") + row.status);
    EXPECT_EQ(has(answer, "Sec-WebSocket-Version: 13\r\n"), row.status == std::string("426"));
    EXPECT_TRUE(has(answer, "TUNNEL_010"));
  }
}

TEST_P(WebSocketDoors, GoesOnWhileTheServerDrainsUntilItsHandlerEndsIt) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
    if (!socket) co_return;
    std::array<std::byte, 1> buffer{};
    while (buffer[0] != std::byte{'z'}) {
      auto got = co_await (*socket)->read(buffer);
      if (!got || *got == 0) co_return;
      (void)co_await (*socket)->write(buffer);
    }
    co_await (*socket)->close_with(1012, R"({"code":"TUNNEL_004","retryAfterMs":1000})");
  });
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  socket.send(0x82, "x");
  EXPECT_EQ(socket.receive().payload, "x");
  auto drained = door.drain(10s);
  socket.send(0x82, "y");
  EXPECT_EQ(socket.receive().payload, "y");
  socket.send(0x82, "z");
  EXPECT_EQ(socket.receive().payload, "z");
  const auto close = socket.receive();
  EXPECT_EQ(close.close_code(), 1012U);
  socket.send(0x88, close.payload);
  EXPECT_TRUE(drained.get());
}

TEST_P(WebSocketDoors, SeesWhyItWasEndedThoughItTookNothing) {
  std::promise<void> stop;
  auto stopped = std::make_shared<std::shared_future<void>>(stop.get_future().share());
  Door door(setup(), [stopped](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    using asio::experimental::awaitable_operators::operator||;
    auto socket = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
    if (!socket) co_return;
    const auto wait = [](std::shared_future<void> until) -> asio::awaitable<void> {
      asio::steady_timer tick(co_await asio::this_coro::executor);
      while (until.wait_for(0s) != std::future_status::ready) {
        tick.expires_after(1ms);
        co_await tick.async_wait(asio::use_awaitable);
      }
    };
    const auto write = [](tunnel::ByteStream& stream) -> asio::awaitable<void> {
      const std::vector<std::byte> frame(64 * 1024);
      while (co_await stream.write(frame)) {
      }
    };
    co_await (write(**socket) || wait(*stopped));
    co_await (*socket)->close_with(4401, R"({"code":"TUNNEL_003"})");
  });
  auto caller = call(door);
  const int small = 16 * 1024;
  ::setsockopt(caller->descriptor(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  WebSocketCaller socket(*caller);
  socket.open();
  // Its thread does nothing else until the kernel takes no more.
  ASSERT_TRUE(eventually([&] {
    const auto open = door.server->connections();
    return !open.empty() && open.front().bytes_out > 0;
  }));
  stop.set_value();
  auto frame = socket.receive();
  for (; frame.opcode() == 2; frame = socket.receive()) ASSERT_EQ(frame.payload.size(), 64U * 1024);
  EXPECT_EQ(frame.close_code(), 4401U);
  socket.send(0x88, frame.payload);
  EXPECT_EQ(caller->read_to_end(), "");
  EXPECT_FALSE(caller->was_reset());
}

TEST_P(WebSocketDoors, CanBeEndedByItsNumber) {
  Door door(setup(), answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  socket.send(0x82, "x");
  socket.receive();
  const auto id = door.server->connections().front().id;
  EXPECT_FALSE(door.server->close_connection(id + 1, 1008, ""));
  EXPECT_TRUE(door.server->close_connection(id, 4403, R"({"code":"TUNNEL_011"})"));
  const auto close = socket.receive();
  EXPECT_EQ(close.close_code(), 4403U);
  EXPECT_TRUE(has(close.payload, "TUNNEL_011"));
  socket.send(0x88, close.payload);
  EXPECT_EQ(caller->read_to_end(), "");
  ASSERT_TRUE(door.ended("upgraded"));
  const auto ended = door.last_ended();
  EXPECT_EQ(ended.close_code, 4403U);
  EXPECT_STREQ(ended.closed_by, "server");
  EXPECT_EQ(ended.service, "echo");
  EXPECT_TRUE(eventually([&] { return door.server->connection_count() == 0; }));
  EXPECT_FALSE(door.server->close_connection(id, 1008, ""));
}

TEST_P(WebSocketDoors, ReportsTheFirstLargeMessageOfAConnection) {
  auto made = setup();
  made.options.warn_message_bytes = 1000;
  std::mutex mutex;
  std::vector<std::uint64_t> large;
  made.more.on_large_message = [&](const ConnectionInfo& connection, std::uint64_t bytes) {
    const std::lock_guard lock(mutex);
    EXPECT_STREQ(connection.kind, "websocket");
    large.push_back(bytes);
  };
  Door door(made, answer_websocket_echo);
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  socket.send(0x82, std::string(1000, 'a'));
  socket.send(0x02, std::string(700, 'b'));
  socket.send(0x80, std::string(301, 'b'));
  socket.send(0x82, std::string(5000, 'c'));
  std::size_t echoed = 0;
  while (echoed < 7001) echoed += socket.receive().payload.size();
  const std::lock_guard lock(mutex);
  EXPECT_EQ(large, std::vector<std::uint64_t>{1001});
}

}  // namespace
}  // namespace edge
