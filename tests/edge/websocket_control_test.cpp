// Control messages: text beside the bytes of a stream.

#include <atomic>

#include <sys/socket.h>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "edge/websocket.h"
#include "tests/edge/door.h"
#include "tests/support/websocket_caller.h"

namespace edge {
namespace {

using namespace std::chrono_literals;
using test::Caller;
using test::WebSocketCaller;

constexpr std::size_t kMost = 16 * 1024;

/// What a handler saw, for the test's thread.
class Seen {
 public:
  void add(std::string text) {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(text));
  }
  std::vector<std::string> all() const {
    const std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> all_;
};

tunnel::WebSocketAccept with_control_messages(unsigned per_second = 0) {
  tunnel::WebSocketAccept accept;
  accept.control_messages_per_second = per_second;
  accept.subprotocol = "tunnel.raw.v1";
  accept.empty_message_ends = true;
  accept.control_messages = true;
  return accept;
}

/// Echoes bytes; answers each control message with "re: " and the same.
Handle echo_with_answers(Seen& seen, unsigned per_second = 0) {
  return [&seen, per_second](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(with_control_messages(per_second));
    if (!socket) co_return;
    auto* stream = socket->get();
    stream->on_control([stream, &seen](std::string text) {
      seen.add(text);
      EXPECT_TRUE(stream->post_control("re: " + text.substr(0, 100)));
    });
    co_await echo_stream(*stream);
    co_await stream->close_with(1000, "");
    EXPECT_FALSE(stream->post_control("too late"));
  };
}

TEST(ControlMessagesOfAStream, AreNoPartOfItsBytes) {
  Seen seen;
  Door door(echo_with_answers(seen));
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  caller.send(WebSocketCaller::masked(0x82, "one ") + WebSocketCaller::masked(0x81, "first") +
              WebSocketCaller::masked(0x82, "two ") + WebSocketCaller::masked(0x01, "sec") +
              WebSocketCaller::masked(0x89, "ping") + WebSocketCaller::masked(0x80, "ond") +
              WebSocketCaller::masked(0x82, "three") + WebSocketCaller::masked(0x81, ""));
  std::string bytes;
  std::vector<std::string> answers;
  while (bytes.size() < 13 || answers.size() < 3) {
    const auto frame = socket.receive();
    ASSERT_NE(frame.first_byte, 0U);
    if (frame.first_byte == 0x82) bytes += frame.payload;
    if (frame.first_byte == 0x81) answers.push_back(frame.payload);
  }
  EXPECT_EQ(bytes, "one two three");
  EXPECT_EQ(answers, (std::vector<std::string>{"re: first", "re: second", "re: "}));
  EXPECT_EQ(seen.all(), (std::vector<std::string>{"first", "second", ""}));
}

TEST(ControlMessagesOfAStream, DoNotExistWhereTheyWereNotAgreedOn) {
  Door door([](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(tunnel::WebSocketAccept());
    if (!socket) co_return;
    (*socket)->on_control([](const std::string&) { ADD_FAILURE() << "text is bytes here"; });
    EXPECT_FALSE((*socket)->post_control("{}"));
    co_await echo_stream(**socket);
  });
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  socket.send(0x81, "text");
  const auto frame = socket.receive();
  EXPECT_EQ(frame.first_byte, 0x82U);
  EXPECT_EQ(frame.payload, "text");
}

TEST(ControlMessagesOfAStream, ComeAfterTheCallersDirectionEndedToo) {
  Seen seen;
  std::atomic<bool> ended{false};
  Door door([&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(with_control_messages());
    if (!socket) co_return;
    (*socket)->on_control([&](std::string text) { seen.add(std::move(text)); });
    std::array<std::byte, 16> buffer;
    const auto got = co_await (*socket)->read(buffer);
    EXPECT_TRUE(got && *got == 0);
    asio::steady_timer tick(co_await asio::this_coro::executor);
    while (!ended) {
      tick.expires_after(1ms);
      co_await tick.async_wait(asio::use_awaitable);
    }
    co_await (*socket)->close_with(1000, "");
  });
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  socket.send(0x82, "");
  socket.send(0x01, std::string(2000, 'a'));
  socket.send(0x80, "z");
  EXPECT_TRUE(eventually([&] { return seen.all() == std::vector{std::string(2000, 'a') + "z"}; }));
  socket.send(0x82, "more bytes");
  EXPECT_EQ(socket.receive().close_code(), 1002U);
  ended = true;
}

TEST(ControlMessagesOfAStream, MayBe16KiBLongAndNoLonger) {
  Seen seen;
  Door door(echo_with_answers(seen));
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  socket.send(0x81, std::string(kMost, 'x'));
  EXPECT_EQ(socket.receive().first_byte, 0x81U);
  EXPECT_EQ(seen.all().front().size(), kMost);
  socket.send(0x82, std::string(kMost + 1, 'b'));  // bytes may
  std::size_t echoed = 0;
  while (echoed < kMost + 1) {
    const auto frame = socket.receive();
    ASSERT_EQ(frame.first_byte, 0x82U);
    echoed += frame.payload.size();
  }
  // Judged by what the headers announce: the payload need not come.
  socket.send(0x01, std::string(kMost, 'x'));
  caller.send(WebSocketCaller::masked(0x80, "y").substr(0, 6));
  EXPECT_EQ(socket.receive().close_code(), 1009U);
  EXPECT_TRUE(eventually([&] { return door.observer.count("frame_rejected:oversize") == 1; }));
  EXPECT_EQ(seen.all().size(), 1U);
}

TEST(ControlMessagesOfAStream, AreUtf8) {
  Seen seen;
  Door door(echo_with_answers(seen));
  for (const auto* text : {"\xFF", "{\"type\":\"\xED\xA0\x80\"}", "\xC3"}) {
    Caller caller(door.port);
    WebSocketCaller socket(caller);
    socket.open();
    socket.send(0x81, text);
    EXPECT_EQ(socket.receive().close_code(), 1007U);
  }
  EXPECT_TRUE(seen.all().empty());
}

TEST(ControlMessagesOfAStream, EndItWhenThereAreTooMany) {
  Seen seen;
  auto setup = Door::Setup();
  setup.options.max_control_messages_per_second = 10;
  Door door(setup, echo_with_answers(seen));
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  std::string flood;
  for (int i = 0; i < 22; ++i) flood += WebSocketCaller::masked(0x81, "{}");
  caller.send(flood);
  auto frame = socket.receive();
  while (frame.opcode() == 1) frame = socket.receive();
  EXPECT_EQ(frame.close_code(), 1008U);
  EXPECT_NE(frame.payload.find("TUNNEL_005"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return door.observer.count("frame_rejected:control_flood") == 1; }));
  EXPECT_GE(seen.all().size(), 10U);
  EXPECT_LE(seen.all().size(), 20U);  // where the second turned between two of them
}

TEST(ControlMessagesOfAStream, MayBeMoreWhereTheRequestSaysSo) {
  Seen seen;
  Door door(Door::Setup(), echo_with_answers(seen, 1000));
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  std::string many;
  for (int i = 0; i < 100; ++i) many += WebSocketCaller::masked(0x81, "{}");
  caller.send(many);
  EXPECT_TRUE(eventually([&] { return seen.all().size() == 100; }));
  EXPECT_EQ(socket.receive().opcode(), 1U);
}

TEST(ControlMessagesOfAStream, WaitForAFrameUnderWayInBoundedNumber) {
  std::atomic<int> taken{-1};
  std::atomic<bool> enough{false};
  Door door([&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    using asio::experimental::awaitable_operators::operator&&;
    auto socket = co_await exchange.accept_websocket(with_control_messages());
    if (!socket) co_return;
    auto* stream = socket->get();
    stream->on_control([&, stream](const std::string&) {
      int count = 0;
      while (stream->post_control("message " + std::to_string(count))) ++count;
      taken = count;
    });
    const auto write = [](tunnel::ByteStream& to, const std::atomic<bool>& done) -> asio::awaitable<void> {
      const std::vector<std::byte> frame(64 * 1024);
      while (!done && co_await to.write(frame)) {
      }
      (void)co_await to.shutdown_write();
    };
    const auto read = [](tunnel::ByteStream& from) -> asio::awaitable<void> {
      std::array<std::byte, 100> buffer;
      auto got = co_await from.read(buffer);
      while (got && *got > 0) got = co_await from.read(buffer);
    };
    co_await (write(*stream, enough) && read(*stream));
    co_await stream->close_with(1000, "");
  });
  Caller caller(door.port);
  const int small = 16 * 1024;
  ::setsockopt(caller.descriptor(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  WebSocketCaller socket(caller);
  socket.open();
  // Its thread does nothing else until the kernel takes no more.
  ASSERT_TRUE(eventually([&] {
    const auto open = door.server->connections();
    return !open.empty() && open.front().bytes_out > 0;
  }));
  socket.send(0x81, "now");
  ASSERT_TRUE(eventually([&] { return taken >= 0; }));
  EXPECT_EQ(taken, 16);
  enough = true;
  socket.send(0x82, "");
  int received = 0;
  auto frame = socket.receive();
  for (; frame.opcode() == 1 || frame.opcode() == 2; frame = socket.receive()) {
    if (frame.opcode() == 2) continue;
    EXPECT_EQ(frame.payload, "message " + std::to_string(received));
    ++received;
  }
  EXPECT_EQ(frame.close_code(), 1000U);
  EXPECT_EQ(received, 16);
}

TEST(ControlMessagesOfAStream, AreSentBeforeTheCloseThatFollowsThem) {
  Door door([](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(with_control_messages());
    if (!socket) co_return;
    EXPECT_TRUE((*socket)->post_control("goodbye"));
    EXPECT_FALSE((*socket)->post_control(std::string(kMost + 1, 'x')));
    co_await (*socket)->close_with(1012, "");
  });
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  EXPECT_EQ(socket.receive().payload, "goodbye");
  EXPECT_EQ(socket.receive().close_code(), 1012U);
}

TEST(ControlMessagesOfAStream, DoNotPileUpForACallerThatReadsNothing) {
  std::atomic<std::size_t> taken{0};
  Door door([&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    auto socket = co_await exchange.accept_websocket(with_control_messages());
    if (!socket) co_return;
    const std::string text(kMost, 'x');
    std::size_t count = 0;
    while ((*socket)->post_control(text) && count < 100'000) ++count;
    taken = count;
    std::array<std::byte, 16> buffer;
    (void)co_await (*socket)->read(buffer);
  });
  Caller caller(door.port);
  WebSocketCaller socket(caller);
  socket.open();
  ASSERT_TRUE(eventually([&] { return taken > 0; }));
  EXPECT_LT(taken, 100'000U);  // as much as the kernel takes and 64 KiB
  for (std::size_t i = 0; i < taken; ++i) ASSERT_EQ(socket.receive().payload.size(), kMost);
  EXPECT_EQ(door.server->connection_count(), 1U) << "the connection lives on";
}

}  // namespace
}  // namespace edge
