#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "edge/http_connection.h"
#include "tests/edge/door.h"

namespace edge {
namespace {

using namespace std::chrono_literals;
using test::Caller;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
const std::string kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Long enough for a handler to be watched, and for a second look at a body.
constexpr auto kWatchedFor = 400ms;

/// What a handler that waits, as in a queue, has met with. The test's thread looks and opens the gate.
struct Wait {
  std::atomic<int> begun{0};
  std::atomic<int> cancelled{0};
  std::atomic<int> let_through{0};
  std::atomic<bool> open{false};

  /// Until the gate opens. Being cancelled may show as an error or, from the next wait on, as an exception.
  asio::awaitable<bool> here() {
    struct Outcome {
      Wait& wait;
      bool through = false;
      ~Outcome() { ++(through ? wait.let_through : wait.cancelled); }
    };
    ++begun;
    Outcome outcome{*this};
    asio::steady_timer timer(co_await asio::this_coro::executor);
    boost::system::error_code error;
    while (!open && !error) {
      timer.expires_after(2ms);
      std::tie(error) = co_await timer.async_wait(kAwait);
    }
    outcome.through = !error;
    co_return !error;
  }
  bool is_cancelled() {
    return eventually([this] { return cancelled == 1; });
  }
};

class LeavingCaller : public testing::TestWithParam<bool> {
 protected:
  static Door::Setup setup() {
    Door::Setup made;
    made.tls = GetParam();
    made.threads = 1;
    return made;
  }
  static std::unique_ptr<Caller> call(const Door& door) {
    auto caller = std::make_unique<Caller>(door.port);
    if (GetParam() && !caller->start_tls()) ADD_FAILURE() << caller->tls_error();
    return caller;
  }
  /// The caller's next request arrived at our side, though nobody serves it yet.
  static bool arrived(const Door& door, std::size_t bytes) {
    return eventually([&] {
      const auto connections = door.server->connections();
      return !connections.empty() && connections.front().bytes_in >= bytes;
    });
  }
  bool waits() {
    return eventually([this] { return wait.begun > 0; });
  }

  Wait wait;
  Handle wait_and_answer = [this](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const bool served = co_await wait.here();
    if (served) co_await answer_hello(exchange);
  };
};
INSTANTIATE_TEST_SUITE_P(Over, LeavingCaller, testing::Bool(),
                         [](const auto& over) { return over.param ? "Tls" : "Plain"; });

TEST_P(LeavingCaller, CancelsTheHandlerByClosing) {
  Door door(setup(), wait_and_answer);
  auto caller = call(door);
  caller->send(kGet);
  ASSERT_TRUE(waits());
  caller.reset();
  EXPECT_TRUE(wait.is_cancelled());
  EXPECT_TRUE(door.ended("closed by peer"));
  EXPECT_TRUE(eventually([&] { return door.server->connection_count() == 0; }));
}

TEST_P(LeavingCaller, CancelsTheHandlerByAReset) {
  Door door(setup(), wait_and_answer);
  auto caller = call(door);
  caller->send(kGet);
  ASSERT_TRUE(waits());
  caller->reset();
  EXPECT_TRUE(wait.is_cancelled());
  EXPECT_TRUE(door.ended("closed by peer"));
}

TEST_P(LeavingCaller, IsOneThatEndsItsDirectionToo) {
  Door door(setup(), wait_and_answer);
  auto caller = call(door);
  caller->send(kGet);
  ASSERT_TRUE(waits());
  caller->end_sending();  // over TLS a close_notify, and no FIN
  EXPECT_TRUE(wait.is_cancelled());
  EXPECT_EQ(caller->read_to_end(), "");
}

TEST_P(LeavingCaller, MayLeaveBeforeItIsWatched) {
  Door door(setup(), wait_and_answer);
  for (int i = 1; i <= 5; ++i) {
    auto caller = call(door);
    caller->send(kGet);
    ASSERT_TRUE(eventually([&] { return wait.begun == i; }));
    caller.reset();
    EXPECT_TRUE(eventually([&] { return wait.cancelled == i; }));
  }
}

TEST_P(LeavingCaller, CancelsAHandlerThatThrowsOverIt) {
  std::atomic<bool> unwound = false;
  Door door(setup(), [&](tunnel::HttpExchange&) -> asio::awaitable<void> {
    struct Unwinding {
      std::atomic<bool>& done;
      ~Unwinding() { done = true; }
    };
    const Unwinding unwinding{unwound};
    ++wait.begun;
    asio::steady_timer forever(co_await asio::this_coro::executor,
                               std::chrono::steady_clock::time_point::max());
    co_await forever.async_wait(asio::use_awaitable);
  });
  auto caller = call(door);
  caller->send(kGet);
  ASSERT_TRUE(waits());
  caller.reset();
  EXPECT_TRUE(door.ended("closed by peer"));
  EXPECT_TRUE(unwound);
}

TEST_P(LeavingCaller, CancelsAStreamThatHasNothingToSay) {
  Door door(setup(), [this](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    (void)co_await exchange.send_head(ok(tunnel::ChunkedBody{}));
    (void)co_await wait.here();
  });
  auto caller = call(door);
  caller->send(kGet);
  caller->read_until("\r\n\r\n");
  caller.reset();
  EXPECT_TRUE(wait.is_cancelled());
}

TEST_P(LeavingCaller, IsNoticedBehindABodyThatNobodyHasRead) {
  Door door(setup(), wait_and_answer);
  auto caller = call(door);
  caller->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + std::string(50'000, 'x'));
  ASSERT_TRUE(waits());
  caller.reset();
  EXPECT_TRUE(wait.is_cancelled());
}

TEST_P(LeavingCaller, IsNoticedBehindAPipelinedRequest) {
  Door door(setup(), wait_and_answer);
  auto caller = call(door);
  caller->send(kGet + kGet);
  ASSERT_TRUE(waits());
  caller.reset();
  EXPECT_TRUE(wait.is_cancelled());
  EXPECT_TRUE(door.ended("closed by peer"));
  EXPECT_EQ(wait.begun, 1) << "nobody is there for the second answer";
}

TEST_P(LeavingCaller, IsNotOneWhoseNextRequestArrivesMeanwhile) {
  Door door(setup(), wait_and_answer);
  auto caller = call(door);
  const std::string next = "POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
  caller->send(kGet);
  ASSERT_TRUE(waits());
  for (const char byte : next) ASSERT_TRUE(caller->send({&byte, 1}));
  ASSERT_TRUE(arrived(door, kGet.size() + next.size()));  // looked for while the handler waits
  EXPECT_EQ(wait.begun, 1);
  wait.open = true;
  for (int i = 0; i < 2; ++i) {
    const auto answer = caller->read_answer();
    EXPECT_EQ(answer.substr(0, 15), "HTTP/1.1 200 OK");
    EXPECT_EQ(answer.substr(answer.size() - 5), "hello");
  }
  EXPECT_EQ(wait.let_through, 2);
  EXPECT_EQ(wait.cancelled, 0);
}

TEST_P(LeavingCaller, IsNotLookedForBeyondTheBoundOfWhatIsKept) {
  auto made = setup();
  made.options.head.max_total_bytes = 20'000;
  Door door(made, wait_and_answer);
  auto caller = call(door);
  caller->send(kGet);
  ASSERT_TRUE(waits());
  const std::string much(200'000, 'x');
  ASSERT_TRUE(caller->send("POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + much));
  ASSERT_TRUE(arrived(door, 20'000));
  EXPECT_LE(door.server->connections().front().bytes_in, 20'000 + 16 * 1024 + kGet.size());
  wait.open = true;
  EXPECT_EQ(caller->read_answer().substr(0, 15), "HTTP/1.1 200 OK");
  EXPECT_EQ(caller->read_answer().substr(0, 15), "HTTP/1.1 200 OK") << "nothing of it was lost";
}

TEST_P(LeavingCaller, LeavesTheBodyToAHandlerThatReadsItSlowly) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    asio::steady_timer timer(co_await asio::this_coro::executor);
    std::string body;
    std::array<std::byte, 40'000> buffer;
    for (std::size_t got = 1; got > 0;) {
      timer.expires_after(body.size() < 80'000 ? kWatchedFor : 0ms);
      co_await timer.async_wait(kAwait);
      const auto read = co_await exchange.read_body(buffer);
      got = read.value_or(0);
      body.append(reinterpret_cast<const char*>(buffer.data()), got);
    }
    const auto head = ok(tunnel::SizedBody{body.size()});
    (void)co_await exchange.send_head_with(head, std::as_bytes(std::span(body)));
  });
  auto caller = call(door);
  std::string body;
  while (body.size() < 200'000) body += std::to_string(body.size()) + " ";
  const std::string post =
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  caller->send(post + kGet);
  const auto answer = caller->read_answer();
  EXPECT_TRUE(answer.substr(answer.find("\r\n\r\n") + 4) == body);
  EXPECT_EQ(caller->read_answer().substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_P(LeavingCaller, DoesNoHarmOnceItHasItsWholeAnswer) {
  std::atomic<int> done = 0;
  std::atomic<int> cancelled = 0;
  Door door(setup(), [&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    co_await answer_hello(exchange);
    asio::steady_timer afterwards(co_await asio::this_coro::executor, kWatchedFor);
    const auto [error] = co_await afterwards.async_wait(kAwait);
    if (error) ++cancelled;
    ++done;
  });
  auto caller = call(door);
  caller->send(kGet);
  EXPECT_TRUE(caller->read_answer().ends_with("hello"));
  caller.reset();
  EXPECT_TRUE(eventually([&] { return done == 1; }));
  EXPECT_EQ(cancelled, 0);
  EXPECT_TRUE(door.ended("closed by peer"));
}

TEST_P(LeavingCaller, StaysForSlowAnswersOneAfterTheOther) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    asio::steady_timer slow(co_await asio::this_coro::executor, 80ms);
    co_await slow.async_wait(asio::use_awaitable);
    co_await answer_hello(exchange);
  });
  auto caller = call(door);
  caller->send(kGet + kGet);
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(caller->read_answer().ends_with("hello"));
    caller->send(kGet);
  }
}

TEST_P(LeavingCaller, MayEndItsDirectionAfterAnUpgrade) {
  Door door(setup(), [this](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    asio::steady_timer slow(co_await asio::this_coro::executor, 80ms);
    co_await slow.async_wait(asio::use_awaitable);  // watched up to here
    tunnel::ResponseHead head;
    head.status = 101;
    head.reason = "Switching Protocols";
    head.fields = {{"Upgrade", "echo"}, {"Connection", "Upgrade"}};
    auto stream = co_await exchange.upgrade(head);
    if (!stream) co_return;
    const bool through = co_await wait.here();
    if (through) co_await echo_stream(**stream);
  });
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly");
  EXPECT_EQ(caller->read_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 101");
  caller->send("late");
  caller->end_sending();
  ASSERT_TRUE(waits());
  wait.open = true;
  EXPECT_EQ(caller->read_to_end(), "earlylate");
  EXPECT_EQ(wait.cancelled, 0);
}

TEST_P(LeavingCaller, CancelsAWaitForAnUpgrade) {
  Door door(setup(), wait_and_answer);
  auto caller = call(door);
  caller->send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly");
  ASSERT_TRUE(waits());
  caller.reset();
  EXPECT_TRUE(wait.is_cancelled());
}

}  // namespace
}  // namespace edge
