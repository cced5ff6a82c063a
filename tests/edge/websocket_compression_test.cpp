// permessage-deflate at the door: what is agreed on, and messages both ways.

#include "edge/websocket.h"
#include "tests/edge/door.h"
#include "tests/support/deflate.h"
#include "tests/support/websocket_caller.h"

namespace edge {
namespace {

using test::Caller;
using test::deflated;
using test::inflated;
using test::WebSocketCaller;

constexpr const char* kOffer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

Door::Setup with_compression() {
  Door::Setup setup;
  setup.options.compression = true;
  return setup;
}

/// Reads with a buffer of that size and writes everything back at the end of the caller's direction.
Handle answer_at_end(std::size_t buffer_bytes, bool control_messages = false) {
  return [buffer_bytes, control_messages](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    tunnel::WebSocketAccept accept;
    accept.empty_message_ends = true;
    accept.control_messages = control_messages;
    auto socket = co_await exchange.accept_websocket(accept);
    if (!socket) co_return;
    auto* stream = socket->get();
    stream->on_control([stream](const std::string& text) { EXPECT_TRUE(stream->post_control(text + text)); });
    std::vector<std::byte> all;
    std::vector<std::byte> buffer(buffer_bytes);
    for (;;) {
      auto got = co_await stream->read(buffer);
      if (!got) co_return;
      if (*got == 0) break;
      all.insert(all.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(*got));
    }
    (void)co_await stream->write(all);
    (void)co_await stream->shutdown_write();
    co_await stream->close_with(1000, "");
  };
}

TEST(CompressedMessages, AreAgreedOnOnlyWhereOfferedAndAllowed) {
  Door off(answer_websocket_echo);
  Door on(with_compression(), answer_websocket_echo);
  struct Row {
    const Door& door;
    const char* fields;
    bool agreed;
  };
  const Row rows[] = {
      {off, kOffer, false},
      {on, "", false},
      {on, kOffer, true},
      {on, "Sec-WebSocket-Extensions: other\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", true},
      {on, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n", false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.fields);
    Caller caller(row.door.port);
    WebSocketCaller socket(caller);
    const auto answer = socket.open("/", row.fields);
    EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 101");
    EXPECT_EQ(has(answer, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"),
              row.agreed)
        << answer;
    if (row.agreed) continue;
    socket.send(0xC2, deflated("x"));
    EXPECT_EQ(socket.receive().close_code(), 1002U);
  }
}

TEST(CompressedMessages, GoBothWays) {
  for (const std::size_t buffer : {std::size_t{1}, std::size_t{100}, std::size_t{64 * 1024}}) {
    SCOPED_TRACE(buffer);
    Door door(with_compression(), answer_at_end(buffer));
    Caller caller(door.port);
    WebSocketCaller socket(caller);
    socket.open("/", kOffer);
    const std::string text(10'000, 'a');
    const auto packed = deflated(text + "compressed, ");
    caller.send(WebSocketCaller::masked(0x82, "plain, ") +
                WebSocketCaller::masked(0x42, packed.substr(0, 5)) + WebSocketCaller::masked(0x89, "ping") +
                WebSocketCaller::masked(0x80, packed.substr(5)) +
                WebSocketCaller::masked(0xC1, deflated("text, ")) + WebSocketCaller::masked(0x82, "plain") +
                WebSocketCaller::masked(0xC2, deflated("")));
    EXPECT_EQ(socket.receive().first_byte, 0x8AU);
    const auto frame = socket.receive();
    EXPECT_EQ(frame.first_byte, 0xC2U);
    EXPECT_TRUE(inflated(frame.payload, 12) == "plain, " + text + "compressed, text, plain");
    EXPECT_LT(frame.payload.size(), 200U);
    EXPECT_EQ(socket.receive().first_byte, 0x82U);  // the empty message that ends our direction
    EXPECT_EQ(socket.receive().close_code(), 1000U);
    EXPECT_EQ(door.observer.count("compressed:client"), 3);
    EXPECT_EQ(door.observer.count("compressed:agent"), 1);
  }
}

TEST(CompressedMessages, AreNotMadeOfWhatIsShortOrSecretOrDoesNotShrink) {
  Door door(with_compression(), answer_at_end(64 * 1024));
  std::string noise;
  for (std::uint32_t i = 1; noise.size() < 5000; i = i * 1664525U + 1013904223U)
    noise.push_back(static_cast<char>(i >> 24U));
  for (const auto& text : {std::string(1023, 'a'), std::string(2000, 'a') + "\r\nCookie: x\r\n", noise}) {
    Caller caller(door.port);
    WebSocketCaller socket(caller);
    socket.open("/", kOffer);
    socket.send(0x82, text);
    socket.send(0x82, "");
    const auto frame = socket.receive();
    EXPECT_EQ(frame.first_byte, 0x82U);
    EXPECT_TRUE(frame.payload == text);
  }
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open("/", kOffer);
  socket.send(0x82, std::string(1024, 'a'));
  socket.send(0x82, "");
  EXPECT_EQ(socket.receive().first_byte, 0xC2U);
}

TEST(CompressedMessages, MayBeControlMessagesWhichAreNeverSentSo) {
  Door door(with_compression(), answer_at_end(1000, true));
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open("/", kOffer);
  const std::string text(2000, 'x');
  socket.send(0xC1, deflated(text));
  const auto frame = socket.receive();
  EXPECT_EQ(frame.first_byte, 0x81U);
  EXPECT_TRUE(frame.payload == text + text);
  socket.send(0xC1, deflated(std::string(16 * 1024 + 1, 'x')));
  EXPECT_EQ(socket.receive().close_code(), 1009U);
}

TEST(CompressedMessages, EndItWhenTheyAreWrong) {
  struct Row {
    const char* what;
    std::string frames;
    unsigned code;
    const char* metric;
  };
  const std::string mebi(1024 * 1024, 'x');
  auto mixed = mebi;  // shrinks to less than a hundredth no more
  for (std::size_t i = 0; i < mixed.size(); i += 20) mixed[i] = static_cast<char>(i * 2654435761U >> 13U);
  const Row rows[] = {
      {"no deflate data", WebSocketCaller::masked(0xC2, "\xFF\xFF\xFF"), 1007, "frame_rejected:inflate"},
      {"text that is not UTF-8", WebSocketCaller::masked(0xC1, deflated("\xC3")), 1007,
       "frame_rejected:utf8"},
      {"a byte over the limit", WebSocketCaller::masked(0xC2, deflated(mixed + "x")), 1009,
       "frame_rejected:inflate"},
      {"100:1", WebSocketCaller::masked(0xC2, test::deflated_to_ratio(100, 1)), 1009,
       "frame_rejected:inflate"},
      {"1000:1", WebSocketCaller::masked(0xC2, test::deflated_zeros(1'000'000)), 1009,
       "frame_rejected:inflate"},
      {"100 MB", WebSocketCaller::masked(0xC2, test::deflated_zeros(100'000'000)), 1009,
       "frame_rejected:inflate"},
      {"a compressed continuation",
       WebSocketCaller::masked(0x42, "") + WebSocketCaller::masked(0xC0, deflated("x")), 1002,
       "frame_rejected:protocol"},
      {"a compressed ping", WebSocketCaller::masked(0xC9, ""), 1002, "frame_rejected:protocol"},
      {"another reserved bit", WebSocketCaller::masked(0xA2, "x"), 1002, "frame_rejected:protocol"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    Door door(with_compression(), answer_at_end(64 * 1024));
    Caller caller(door.port);
    WebSocketCaller socket(caller);
    socket.open("/", kOffer);
    caller.send(row.frames);
    EXPECT_EQ(socket.receive().close_code(), row.code);
    EXPECT_TRUE(eventually([&] { return door.observer.count(row.metric) == 1; }));
  }
  Door door(with_compression(), answer_at_end(64 * 1024));
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open("/", kOffer);
  socket.send(0xC2, deflated(mixed));  // at the limit to the byte
  socket.send(0x82, "");
  std::size_t answered = 0;
  auto frame = socket.receive();
  for (; frame.opcode() == 2; frame = socket.receive())
    answered += (frame.first_byte & 0x40U) != 0 ? inflated(frame.payload).size() : frame.payload.size();
  EXPECT_EQ(answered, mixed.size());
  EXPECT_EQ(frame.close_code(), 1000U);
}

TEST(CompressedMessages, AreNotReadByAWebSocketThatIsBeingClosed) {
  Door door(with_compression(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
    if (socket) co_await (*socket)->close_with(1012, "");
  });
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open("/", kOffer);
  caller.send(WebSocketCaller::masked(0xC2, deflated("one")) +
              WebSocketCaller::masked(0xC2, deflated("two")));
  const auto close = socket.receive();
  EXPECT_EQ(close.close_code(), 1012U);
  socket.send(0x88, close.payload);
  EXPECT_EQ(caller.read_to_end(), "");
  EXPECT_TRUE(door.ended("upgraded"));
}

}  // namespace
}  // namespace edge
