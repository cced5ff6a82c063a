#include "edge/moved_websocket.h"

#include <atomic>

#include <boost/asio/post.hpp>

#include "tests/edge/door.h"
#include "tests/support/websocket_caller.h"

namespace edge {
namespace {

using namespace std::chrono_literals;
using test::Caller;
using test::WebSocketCaller;
using Stream = std::unique_ptr<tunnel::WebSocketStream>;

/// A thread beside the door's.
class Home {
 public:
  Home() : guard_(asio::make_work_guard(context)), thread_([this] { context.run(); }) {}
  ~Home() {
    guard_.reset();
    thread_.join();  // nothing may be left here
  }
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;
  std::thread::id id() const { return thread_.get_id(); }

  asio::io_context context{1};

 private:
  asio::executor_work_guard<asio::io_context::executor_type> guard_;
  std::thread thread_;
};

/// What became of it, for the test's thread.
struct Seen {
  std::atomic<int> taken{0};
  std::atomic<bool> on_home{false};
  std::atomic<bool> stream_gone{false};
  std::atomic<bool> returned{false};
  std::atomic<bool> gone_before_return{false};
  std::mutex mutex;
  Result<void> result;
  Error::Kind error() {
    const std::lock_guard lock(mutex);
    return result ? Error::Kind::bug : result.error().kind;
  }
};

asio::awaitable<void> echo(Stream stream, Seen& seen) {
  co_await echo_stream(*stream);
  co_await stream->close_with(1000, "");
  seen.stream_gone = true;
  stream.reset();
}

/// Accepts the WebSocket for `home`, where it echoes.
Handle echo_on(asio::io_context& home, Seen& seen) {
  return [&home, &seen](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    exchange.authenticated(tunnel::Tier::premium);
    tunnel::WebSocketAccept accept;
    accept.role = "agent";
    std::function<void(Stream)> take = [&home, &seen](Stream stream) {
      seen.on_home = home.get_executor().running_in_this_thread();
      ++seen.taken;
      asio::co_spawn(home, echo(std::move(stream), seen), [](const std::exception_ptr&) {});
    };
    auto ended = co_await exchange.accept_websocket_on(home, accept, take);
    {
      const std::lock_guard lock(seen.mutex);
      seen.result = std::move(ended);
    }
    seen.gone_before_return = seen.stream_gone.load();
    seen.returned = true;
  };
}

class MovedWebSockets : public testing::TestWithParam<bool> {
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
INSTANTIATE_TEST_SUITE_P(Over, MovedWebSockets, testing::Bool(),
                         [](const auto& over) { return over.param ? "Tls" : "Plain"; });

TEST_P(MovedWebSockets, EchoesFromAnotherThreadAndCountsOn) {
  Home home;
  Seen seen;
  Door door(setup(), echo_on(home.context, seen));
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  EXPECT_EQ(socket.open().substr(0, 12), "HTTP/1.1 101");
  const std::string big(200'000, 'x');
  socket.send(0x82, big);
  std::string echoed;
  while (echoed.size() < big.size()) {
    const auto frame = socket.receive();
    ASSERT_NE(frame.first_byte, 0U);
    echoed += frame.payload;
  }
  EXPECT_TRUE(echoed == big);
  EXPECT_TRUE(seen.on_home);
  EXPECT_FALSE(seen.returned);
  const auto listed = door.server->connections();
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_STREQ(listed.front().kind, "websocket");
  EXPECT_GT(listed.front().bytes_in, big.size());
  EXPECT_GT(listed.front().bytes_out, big.size());
  socket.send(0x88, "\x03\xE8");
  EXPECT_EQ(socket.receive().close_code(), 1000U);
  EXPECT_EQ(caller->read_to_end(), "");
  EXPECT_FALSE(caller->was_reset());
  EXPECT_TRUE(door.ended("upgraded"));
  EXPECT_TRUE(seen.gone_before_return);
  EXPECT_EQ(seen.error(), Error::Kind::bug) << "it succeeded";
  EXPECT_EQ(door.last_ended().close_code, 1000);
  EXPECT_GT(door.last_ended().bytes_in, big.size());
  EXPECT_EQ(door.observer.count("websocket_opened:agent,premium"), 1);
  EXPECT_EQ(door.observer.count("websocket_closed:1000,client"), 1);
}

TEST_P(MovedWebSockets, TakesFramesSentTogetherWithTheRequest) {
  Home home;
  Seen seen;
  Door door(setup(), echo_on(home.context, seen));
  auto caller = call(door);
  caller->send(
      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
      "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" +
      WebSocketCaller::masked(0x82, "early"));
  caller->read_until("\r\n\r\n");
  EXPECT_EQ(WebSocketCaller(*caller).receive().payload, "early");
}

TEST_P(MovedWebSockets, CanBeEndedByItsNumber) {
  Home home;
  Seen seen;
  Door door(setup(), echo_on(home.context, seen));
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  socket.send(0x82, "hello");
  EXPECT_EQ(socket.receive().payload, "hello");
  ASSERT_TRUE(door.server->close_connection(door.server->connections().front().id, 4403, "enough"));
  const auto close = socket.receive();
  EXPECT_EQ(close.close_code(), 4403U);
  EXPECT_EQ(close.payload.substr(2), "enough");
  socket.send(0x88, "\x11\x33");
  EXPECT_EQ(caller->read_to_end(), "");
  EXPECT_FALSE(caller->was_reset());
  EXPECT_TRUE(door.ended("upgraded"));
  EXPECT_EQ(door.last_ended().close_code, 4403);
  EXPECT_STREQ(door.last_ended().closed_by, "server");
}

TEST_P(MovedWebSockets, AreResetWhenEverythingIsClosed) {
  Home home;
  Seen seen;
  Door door(setup(), echo_on(home.context, seen));
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  ASSERT_TRUE(eventually([&] { return seen.taken == 1; }));
  door.server->close_all();
  caller->read_to_end();
  EXPECT_TRUE(caller->was_reset());
  ASSERT_TRUE(eventually([&] { return seen.returned.load(); }));
  EXPECT_TRUE(seen.gone_before_return);
  EXPECT_EQ(seen.error(), Error::Kind::cancelled);
  EXPECT_TRUE(eventually([&] { return door.server->connection_count() == 0; }));
}

TEST_P(MovedWebSockets, EndWhenTheirPeerLeaves) {
  Home home;
  Seen seen;
  Door door(setup(), echo_on(home.context, seen));
  auto caller = call(door);
  WebSocketCaller(*caller).open();
  ASSERT_TRUE(eventually([&] { return seen.taken == 1; }));
  caller->reset();
  EXPECT_TRUE(door.ended("upgraded"));
  EXPECT_TRUE(seen.gone_before_return);
  EXPECT_EQ(door.last_ended().close_code, 1006);
  EXPECT_EQ(door.observer.count("websocket_closed:1006,client"), 1);
}

TEST_P(MovedWebSockets, ManyComeAndGoAtOnce) {
  Home home;
  Seen seen;
  Door door(setup(), echo_on(home.context, seen));
  for (int round = 0; round < 5; ++round) {
    std::vector<std::unique_ptr<Caller>> callers;
    for (int i = 0; i < 8; ++i) {
      callers.push_back(call(door));
      WebSocketCaller(*callers.back()).open();
      WebSocketCaller(*callers.back()).send(0x82, "hello");
    }
    for (auto& caller : callers) EXPECT_EQ(WebSocketCaller(*caller).receive().payload, "hello");
    for (const auto& connection : door.server->connections())
      door.server->close_connection(connection.id, 1001, "");
    for (auto& caller : callers) caller->reset();
    EXPECT_TRUE(eventually([&] { return door.server->connection_count() == 0; }));
  }
  EXPECT_EQ(seen.taken, 40);
}

TEST_P(MovedWebSockets, ReportLargeMessagesOnTheirConnectionsThread) {
  Home home;
  Seen seen;
  std::atomic<int> reports{0};
  std::atomic<bool> at_home{false};
  auto made = setup();
  made.options.warn_message_bytes = 1000;
  made.more.on_large_message = [&](const ConnectionInfo&, std::uint64_t) {
    at_home = home.context.get_executor().running_in_this_thread();
    ++reports;
  };
  Door door(std::move(made), echo_on(home.context, seen));
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  for (int i = 0; i < 2; ++i) socket.send(0x82, std::string(2000, 'x'));
  EXPECT_TRUE(eventually([&] { return reports == 1; }));
  EXPECT_FALSE(at_home);
}

TEST_P(MovedWebSockets, BehaveAlikeOnTheirConnectionsOwnThread) {
  asio::io_context* home = nullptr;
  Seen seen;
  auto made = setup();
  made.threads = 1;
  Door door(std::move(made), [&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const auto handle = echo_on(*home, seen);
    co_await handle(exchange);
  });
  home = &door.context();
  auto caller = call(door);
  WebSocketCaller socket(*caller);
  socket.open();
  socket.send(0x82, "hello");
  EXPECT_EQ(socket.receive().payload, "hello");
  EXPECT_TRUE(seen.on_home);
  ASSERT_TRUE(door.server->close_connection(door.server->connections().front().id, 4403, "enough"));
  EXPECT_EQ(socket.receive().close_code(), 4403U);
  socket.send(0x88, "\x11\x33");
  EXPECT_EQ(caller->read_to_end(), "");
  EXPECT_TRUE(door.ended("upgraded"));
  EXPECT_TRUE(seen.gone_before_return);

  auto second = call(door);
  WebSocketCaller(*second).open();
  ASSERT_TRUE(eventually([&] { return seen.taken == 2; }));
  door.server->close_all();
  second->read_to_end();
  EXPECT_TRUE(second->was_reset());
  EXPECT_TRUE(eventually([&] { return door.server->connection_count() == 0; }));
  EXPECT_EQ(seen.error(), Error::Kind::cancelled);
}

TEST_P(MovedWebSockets, AreOverWhenTheirHomeGoesBeforeTheyArrive) {
  auto home = std::make_unique<asio::io_context>(1);  // nobody runs it
  Seen seen;
  Door door(setup(), echo_on(*home, seen));
  auto caller = call(door);
  WebSocketCaller(*caller).open();
  // The 101 leaves before the WebSocket does, within one turn of the connection's thread: let that end.
  for (std::size_t i = 0; i < 2; ++i) asio::post(door.context(i), asio::use_future).get();
  home.reset();
  caller->read_to_end();
  EXPECT_TRUE(door.ended("upgraded"));
  EXPECT_EQ(seen.taken, 0);
  EXPECT_EQ(seen.error(), Error::Kind::unavailable);
}

/// A door whose threads stop while a WebSocket lives: everything is destroyed, in either order.
void destroy_with_a_websocket(bool home_first) {
  Seen seen;
  test::RecordingObserver observer;
  auto own = std::make_unique<asio::io_context>(1);
  auto home = std::make_unique<asio::io_context>(1);
  struct Handler final : tunnel::HttpHandler {
    asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override { return with(exchange); }
    Handle with;
  } handler;
  handler.with = echo_on(*home, seen);
  Options options;
  options.listen = {"127.0.0.1:0"};
  Server::Parts parts;
  parts.threads = {own.get()};
  parts.handler = [&](std::size_t) -> tunnel::HttpHandler& { return handler; };
  parts.observer = &observer;
  auto server = std::make_unique<Server>(options, std::move(parts));
  ASSERT_TRUE(server->start());
  auto home_guard = asio::make_work_guard(*home);
  std::thread first([&] { own->run(); });
  std::thread second([&] { home->run(); });
  {
    Caller caller(server->local_endpoints().front().port());
    WebSocketCaller socket(caller);
    socket.open();
    socket.send(0x82, "hello");
    EXPECT_EQ(socket.receive().payload, "hello");
    own->stop();
    home->stop();
    first.join();
    second.join();
    home_guard.reset();
    server.reset();
    if (home_first) home.reset();
    own.reset();
    home.reset();
    caller.read_to_end();
  }
  EXPECT_EQ(observer.count("websocket_closed"), 1);
  EXPECT_EQ(observer.count("socket_closed"), 1);
}

TEST(MovedWebSocket, DiesWithItsServerAndItsHome) {
  destroy_with_a_websocket(false);
  destroy_with_a_websocket(true);
}

}  // namespace
}  // namespace edge
