#include "tunneld/admin/event_streams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "tests/tunneld/admin/fake_exchange.h"

namespace tunneld::admin {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using tests::FakeExchange;

/// A log of events, and the readers it tells.
struct Log {
  std::vector<EventSource::Event> events;
  std::uint64_t first = 1;
  std::function<void()> notify;
  int subscribed = 0;
  std::size_t asked = 0;

  void append(const std::string& kind) {
    const auto id = first + events.size();
    events.push_back({id, kind, R"({"id":)" + std::to_string(id) + "}"});
    if (notify) notify();
  }
  EventSource source() {
    EventSource made;
    made.after = [this](std::uint64_t after, std::size_t limit) {
      ++asked;
      EventSource::Page page;
      page.first = events.empty() ? 0 : events.front().id;
      page.last = events.empty() ? 0 : events.back().id;
      page.gap = !events.empty() && after + 1 < page.first;
      for (const auto& event : events)
        if (event.id > after && page.events.size() < limit) page.events.push_back(event);
      return page;
    };
    made.subscribe = [this](std::function<void()> tell) {
      notify = std::move(tell);
      ++subscribed;
      return std::shared_ptr<void>(this, [this](void*) {
        notify = nullptr;
        --subscribed;
      });
    };
    return made;
  }
};

/// One stream on a loop that the test turns.
struct Reader {
  Reader(EventStreams& streams, EventSource from, std::uint64_t after,
         std::unique_ptr<FakeExchange> over = std::make_unique<FakeExchange>("GET", "/api/tunnel/events"))
      : source(std::move(from)), exchange(std::move(over)) {
    boost::asio::co_spawn(io, streams.serve(*exchange, source, after), [this](std::exception_ptr failure) {
      ended = true;
      if (failure) std::rethrow_exception(failure);
    });
  }
  /// Everything that can happen without time passing.
  void turn() {
    io.restart();
    while (io.poll() > 0) {
    }
  }
  /// Until the text is there, or the stream has ended.
  void turn_until(const std::string& text) {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (!ended && exchange->body.find(text) == std::string::npos &&
           std::chrono::steady_clock::now() < limit) {
      io.restart();
      io.run_one_for(100ms);
    }
  }
  void turn_until_ended() { turn_until("\n\n\n\nnever"); }

  const EventSource source;
  boost::asio::io_context io;
  std::unique_ptr<FakeExchange> exchange;
  bool ended = false;
};

TEST(EventStreams, BeginWithWhatTheReaderHasNotSeen) {
  Log log;
  for (const auto* kind : {"one", "two", "three"}) log.append(kind);
  EventStreams streams;
  Reader reader(streams, log.source(), 1);
  reader.turn();
  EXPECT_EQ(reader.exchange->field("Content-Type"), "text/event-stream");
  EXPECT_EQ(reader.exchange->field("Cache-Control"), "no-store");
  EXPECT_EQ(reader.exchange->body,
            "retry: 2000\n\n"
            "id: 2\nevent: two\ndata: {\"id\":2}\n\n"
            "id: 3\nevent: three\ndata: {\"id\":3}\n\n");
  EXPECT_FALSE(reader.ended);
  streams.end();
  reader.turn();
}

TEST(EventStreams, GoOnAsEventsCome) {
  Log log;
  EventStreams streams;
  Reader reader(streams, log.source(), 0);
  reader.turn();
  EXPECT_EQ(reader.exchange->body, "retry: 2000\n\n");
  log.append("one");
  reader.turn();
  EXPECT_THAT(reader.exchange->body, HasSubstr("id: 1\nevent: one\n"));
  log.append("two");
  log.append("three");
  reader.turn();
  EXPECT_THAT(reader.exchange->body, HasSubstr("id: 3\nevent: three\n"));
  streams.end();
  reader.turn();
  EXPECT_TRUE(reader.ended);
  EXPECT_EQ(log.subscribed, 0) << "the log still knows a reader that is gone";
}

TEST(EventStreams, AreToldFromAnyThread) {
  Log log;
  EventStreams streams;
  Reader reader(streams, log.source(), 0);
  reader.turn();
  // The events are there before the threads tell of them, as the log's own thread does it.
  log.events.push_back({1, "one", "{}"});
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([tell = log.notify] {
        for (int n = 0; n < 1000; ++n) tell();
      });
    reader.turn_until("id: 1\n");
  }
  EXPECT_THAT(reader.exchange->body, HasSubstr("id: 1\nevent: one\n"));
  streams.end();
  reader.turn();
  EXPECT_TRUE(reader.ended);
}

TEST(EventStreams, LateWordToAStreamThatIsGoneDoesNothing) {
  Log log;
  EventStreams streams;
  std::function<void()> late;
  Reader reader(streams, log.source(), 0);
  reader.turn();
  late = log.notify;
  streams.end();
  reader.turn();
  ASSERT_TRUE(reader.ended);
  reader.exchange.reset();
  late();
  reader.turn();
}

TEST(EventStreams, ReadInBatchesUntilAllIsSaid) {
  Log log;
  for (int i = 0; i < 250; ++i) log.append("many");
  EventStreams streams;
  Reader reader(streams, log.source(), 0);
  reader.turn();
  EXPECT_THAT(reader.exchange->body, HasSubstr("id: 250\n"));
  EXPECT_EQ(log.asked, 4U) << "three batches, and one that shows there is no more";
  streams.end();
  reader.turn();
}

TEST(EventStreams, SayWhatIsLost) {
  Log log;
  log.first = 10;
  log.append("ten");
  EventStreams streams;
  Reader reader(streams, log.source(), 4);
  reader.turn();
  EXPECT_THAT(reader.exchange->body, HasSubstr("event: gap\ndata: {\"first\":10,\"last\":10}\n\nid: 10\n"));
  streams.end();
  reader.turn();
}

TEST(EventStreams, AnIdFromAnotherLifeOfTheLogBeginsAtItsStart) {
  Log log;
  log.append("one");
  EventStreams streams;
  Reader reader(streams, log.source(), 999'999);
  reader.turn();
  EXPECT_THAT(reader.exchange->body, HasSubstr("event: gap\n"));
  EXPECT_THAT(reader.exchange->body, HasSubstr("id: 1\nevent: one\n"));
  streams.end();
  reader.turn();
}

TEST(EventStreams, AQuietStreamShowsThatItLives) {
  Log log;
  EventStreams streams(EventStreams::Options{.keep_alive = 1ms});
  Reader reader(streams, log.source(), 0);
  reader.turn_until(": keep-alive\n\n: keep-alive\n\n");
  EXPECT_THAT(reader.exchange->body, HasSubstr(": keep-alive\n\n: keep-alive\n\n"));
  streams.end();
  reader.turn_until_ended();
  EXPECT_TRUE(reader.ended);
}

TEST(EventStreams, EndWithTheDaemonAndHaveNoRoomThen) {
  Log log;
  EventStreams streams;
  Reader reader(streams, log.source(), 0);
  reader.turn();
  EXPECT_TRUE(streams.room());
  streams.end();
  reader.turn();
  EXPECT_TRUE(reader.ended);
  EXPECT_TRUE(reader.exchange->finished) << "cut off instead of ended";
  EXPECT_THAT(reader.exchange->body, HasSubstr(": the daemon is stopping\n\n"));
  EXPECT_FALSE(streams.room());
}

TEST(EventStreams, AreAtMostSixteen) {
  Log log;
  EventStreams streams;
  std::vector<std::unique_ptr<Reader>> readers;
  while (streams.room() && readers.size() < 100) {
    readers.push_back(std::make_unique<Reader>(streams, log.source(), 0));
    readers.back()->turn();
  }
  EXPECT_EQ(readers.size(), 16U);
  streams.end();
  for (auto& reader : readers) reader->turn();
}

/// Takes the head and then nothing more, until it is cut off.
class StalledExchange final : public FakeExchange {
 public:
  StalledExchange() : FakeExchange("GET", "/api/tunnel/events") {}
  boost::asio::awaitable<Result<void>> write_body(std::span<const std::byte>) override {
    boost::asio::steady_timer forever(co_await boost::asio::this_coro::executor, std::chrono::hours(1));
    waiting_ = &forever;
    co_await forever.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    waiting_ = nullptr;
    co_return fail(Error::Kind::cancelled, "aborted");
  }
  void abort() noexcept override {
    aborted = true;
    if (waiting_ != nullptr) waiting_->cancel();
  }

 private:
  boost::asio::steady_timer* waiting_ = nullptr;
};

TEST(EventStreams, AReaderThatTakesNothingIsCutOff) {
  Log log;
  EventStreams streams(EventStreams::Options{.stall = 5ms});
  Reader reader(streams, log.source(), 0, std::make_unique<StalledExchange>());
  reader.turn_until_ended();
  EXPECT_TRUE(reader.ended);
  EXPECT_TRUE(reader.exchange->aborted);
  EXPECT_FALSE(reader.exchange->finished);
  EXPECT_TRUE(streams.room());
  EXPECT_EQ(log.subscribed, 0);
}

}  // namespace
}  // namespace tunneld::admin
