#include "tunnel/relay.h"

#include <gtest/gtest.h>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "tests/support/memory_stream.h"
#include "tests/support/quiet_observer.h"
#include "tests/support/run_async.h"
#include "tunnel/adaptive_buffer.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnel;
using namespace asio::experimental::awaitable_operators;
using support::MemoryStream;
using How = RelayEnd::How;

class Relaying : public testing::Test {
 protected:
  Relaying() {
    std::tie(near_caller, caller) = support::memory_streams(context.get_executor(), 64 * 1024);
    std::tie(near_service, service) = support::memory_streams(context.get_executor(), 64 * 1024);
  }
  /// Relays while `talk` plays both peers, then returns how it ended.
  RelayEnd relay_during(asio::awaitable<void> talk) {
    return support::run_async(
        context, relay(*near_caller, *near_service, watch, observer, options) && std::move(talk));
  }

  asio::io_context context{1};
  DeadlineWatch watch{context.get_executor()};
  support::QuietObserver observer;
  RelayOptions options;
  std::unique_ptr<MemoryStream> near_caller, caller, near_service, service;
};

asio::awaitable<void> send_and_end(MemoryStream& stream, std::string text) {
  co_await stream.write(support::bytes_of(text));
  co_await stream.shutdown_write();
}

asio::awaitable<void> hear(MemoryStream& stream, std::string& heard) {
  heard = co_await support::read_all(stream);
}

asio::awaitable<void> question_then_answer(MemoryStream& caller, MemoryStream& service, std::string& answer) {
  co_await send_and_end(caller, "question");
  const auto question = co_await support::read_all(service);  // ends only if the half-close came through
  co_await send_and_end(service, "answer to " + question);
  answer = co_await support::read_all(caller);
}

TEST_F(Relaying, KeepsHalfCloseInBothDirections) {
  std::string answer;
  const auto end = relay_during(question_then_answer(*caller, *service, answer));
  EXPECT_EQ(answer, "answer to question");
  EXPECT_EQ(end.how, How::finished) << end.why;
  EXPECT_EQ(end.from_caller_bytes, 8u);
  EXPECT_EQ(end.from_service_bytes, 18u);
  EXPECT_EQ(observer.client.received, 8u);
  EXPECT_EQ(observer.client.sent, 18u);
  EXPECT_EQ(observer.agent.received, 18u);
  EXPECT_EQ(observer.agent.sent, 8u);
}

asio::awaitable<void> both_at_once(MemoryStream& caller, MemoryStream& service, std::string& up,
                                   std::string& down) {
  const std::string text(2'000'000, 'x');
  co_await (send_and_end(caller, text) && send_and_end(service, text + "y") && hear(service, up) &&
            hear(caller, down));
}

TEST_F(Relaying, CarriesMuchBothWaysAtOnceThroughSmallWindows) {
  std::string up, down;
  const auto end = relay_during(both_at_once(*caller, *service, up, down));
  EXPECT_EQ(end.how, How::finished);
  EXPECT_EQ(up, std::string(2'000'000, 'x'));
  EXPECT_EQ(down, std::string(2'000'000, 'x') + "y");
}

asio::awaitable<void> hang_up(MemoryStream& stream) {
  stream.close();
  co_return;
}

TEST_F(Relaying, AServiceThatBreaksLeavesTheCallersStreamForACloseCode) {
  const auto end = relay_during(hang_up(*service));
  EXPECT_EQ(end.how, How::service_failed);
  EXPECT_EQ(end.why, "connection reset");
  EXPECT_TRUE(support::run_async(context, near_caller->write(support::bytes_of("goodbye"))))
      << "still usable";
}

TEST_F(Relaying, ACallerThatBreaksClosesTheService) {
  const auto end = relay_during(hang_up(*caller));
  EXPECT_EQ(end.how, How::caller_failed);
  std::array<std::byte, 8> buffer;
  EXPECT_FALSE(support::run_async(context, service->read(buffer))) << "the service sees a reset, not an end";
}

asio::awaitable<void> end_then_refuse(MemoryStream& caller, MemoryStream& service) {
  co_await service.shutdown_write();
  co_await support::read_all(caller);
  service.close();
  co_await send_and_end(caller, "too late");
}

TEST_F(Relaying, APeerThatHasSaidAllAndRefusesMoreHasFinished) {
  const auto end = relay_during(end_then_refuse(*caller, *service));
  EXPECT_EQ(end.how, How::finished);
  EXPECT_FALSE(end.why.empty());
}

asio::awaitable<void> nothing() {
  co_return;
}

TEST_F(Relaying, EndsWhenNothingMoves) {
  options.idle_limit = 20ms;
  EXPECT_EQ(relay_during(nothing()).how, How::idle);
}

TEST_F(Relaying, EndsWhenTheTokenExpires) {
  options.until = std::chrono::steady_clock::now() + 20ms;
  EXPECT_EQ(relay_during(nothing()).how, How::expired);
}

TEST_F(Relaying, EndsAtOnceForATokenThatHasExpired) {
  options.until = std::chrono::steady_clock::now() - 1s;
  EXPECT_EQ(relay_during(nothing()).how, How::expired);
}

asio::awaitable<void> chatter(MemoryStream& from, MemoryStream& to, std::chrono::milliseconds pause,
                              int times) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (int count = 0; count < times; ++count) {
    timer.expires_after(pause);
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    co_await from.write(support::bytes_of("x"));
    co_await support::read_exactly(to, 1);
  }
  co_await from.shutdown_write();
  co_await to.shutdown_write();
}

TEST_F(Relaying, TrafficInOneDirectionKeepsItAlive) {
  options.idle_limit = 200ms;
  const auto end = relay_during(chatter(*service, *caller, 40ms, 10));
  EXPECT_EQ(end.how, How::finished) << end.why;
  EXPECT_EQ(end.from_service_bytes, 10u);
}

asio::awaitable<void> cancel_after(std::chrono::milliseconds pause, asio::awaitable<RelayEnd> story) {
  asio::steady_timer timer(co_await asio::this_coro::executor, pause);
  co_await (std::move(story) || timer.async_wait(asio::use_awaitable));
}

TEST_F(Relaying, ClosesTheServiceWhenItIsCancelled) {
  support::run_async(context,
                     cancel_after(10ms, relay(*near_caller, *near_service, watch, observer, options)));
  std::array<std::byte, 8> buffer;
  EXPECT_FALSE(support::run_async(context, service->read(buffer)));
}

asio::awaitable<void> pause_for(std::chrono::milliseconds pause) {
  asio::steady_timer timer(co_await asio::this_coro::executor, pause);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

asio::awaitable<void> tell(RelayControl& control, How how, std::string why) {
  control.stop(how, std::move(why));
  co_return;
}

TEST_F(Relaying, EndsAsItsControlSaysAndForItsReason) {
  for (const auto how : {How::revoked, How::draining, How::closed_by_admin}) {
    RelayControl control;
    options.control = &control;
    const auto end = relay_during(tell(control, how, "because"));
    EXPECT_EQ(end.how, how);
    EXPECT_EQ(end.why, "because");
    std::array<std::byte, 8> buffer;
    EXPECT_FALSE(support::run_async(context, service->read(buffer))) << "the service is closed";
    EXPECT_TRUE(support::run_async(context, near_caller->write(support::bytes_of("why"))))
        << "the caller not";
    std::tie(near_caller, caller) = support::memory_streams(context.get_executor());
    std::tie(near_service, service) = support::memory_streams(context.get_executor());
  }
}

TEST_F(Relaying, KeepsTheFirstReasonItIsGiven) {
  RelayControl control;
  options.control = &control;
  control.stop(How::revoked, "first");
  control.stop(How::draining, "second");
  const auto end = relay_during(nothing());
  EXPECT_EQ(end.how, How::revoked);
  EXPECT_EQ(end.why, "first");
}

asio::awaitable<void> stall_then_tell(MemoryStream& service, RelayControl& control) {
  // Nobody reads the caller's end: both pumps' memory is full and a write waits.
  const std::string much(1'000'000, 'x');
  co_await (service.write(support::bytes_of(much)) || pause_for(20ms));
  control.stop(How::revoked, "revoked");
}

TEST_F(Relaying, EndsThoughACallerTakesNothing) {
  RelayControl control;
  options.control = &control;
  EXPECT_EQ(relay_during(stall_then_tell(*service, control)).how, How::revoked);
}

asio::awaitable<void> refresh(RelayControl& control, std::optional<RelayControl::Clock::time_point> until,
                              MemoryStream& caller, MemoryStream& service) {
  control.set_until(until);
  co_await chatter(caller, service, 10ms, 6);
}

TEST_F(Relaying, LivesOnWithARefreshedToken) {
  RelayControl control;
  options.control = &control;
  options.until = RelayControl::Clock::now() + 30ms;
  const auto end = relay_during(refresh(control, RelayControl::Clock::now() + 1h, *caller, *service));
  EXPECT_EQ(end.how, How::finished) << end.why;
  EXPECT_EQ(end.from_caller_bytes, 6u);
}

TEST_F(Relaying, EndsWhenARefreshedTokenExpiresToo) {
  RelayControl control;
  options.control = &control;
  control.set_until(RelayControl::Clock::now() + 20ms);
  EXPECT_EQ(relay_during(nothing()).how, How::expired);
}

TEST_F(Relaying, EndsAtOnceWhenToldOfATimeThatHasPassed) {
  RelayControl control;
  options.control = &control;
  options.until = RelayControl::Clock::now() + 1h;
  EXPECT_EQ(relay_during(refresh(control, RelayControl::Clock::now() - 1s, *caller, *service)).how,
            How::expired);
}

asio::awaitable<void> drain_when_quiet(RelayControl& control, std::chrono::milliseconds quiet,
                                       asio::awaitable<void> talk) {
  control.stop_when_quiet(quiet, How::draining, "quiet");
  co_await std::move(talk);
}

TEST_F(Relaying, ADrainWaitsForThePauseAfterTheLastByte) {
  RelayControl control;
  options.control = &control;
  auto last_words = [](MemoryStream& from, MemoryStream& to) -> asio::awaitable<void> {
    for (int count = 0; count < 10; ++count) {
      co_await pause_for(20ms);
      co_await from.write(support::bytes_of("x"));
      co_await support::read_exactly(to, 1);
    }
  };
  const auto end = relay_during(drain_when_quiet(control, 150ms, last_words(*service, *caller)));
  EXPECT_EQ(end.how, How::draining);
  EXPECT_EQ(end.why, "quiet");
  EXPECT_EQ(end.from_service_bytes, 10u) << "it ended between two bytes that belonged together";
}

TEST_F(Relaying, ADrainEndsWhatHasLongBeenQuiet) {
  RelayControl control;
  options.control = &control;
  auto later = [](RelayControl& told) -> asio::awaitable<void> {
    co_await pause_for(30ms);
    told.stop_when_quiet(10ms, How::draining, "quiet");
  };
  EXPECT_EQ(relay_during(later(control)).how, How::draining);
}

TEST_F(Relaying, OutlivesItsControlAndIsOutlivedByIt) {
  auto control = std::make_unique<RelayControl>();
  options.control = control.get();
  auto forget = [](std::unique_ptr<RelayControl>& forgotten, MemoryStream& from,
                   MemoryStream& to) -> asio::awaitable<void> {
    forgotten.reset();
    co_await chatter(from, to, 1ms, 2);
  };
  EXPECT_EQ(relay_during(forget(control, *caller, *service)).how, How::finished);

  std::tie(near_caller, caller) = support::memory_streams(context.get_executor());
  std::tie(near_service, service) = support::memory_streams(context.get_executor());
  RelayControl longer;
  options.control = &longer;
  EXPECT_EQ(relay_during(chatter(*caller, *service, 1ms, 2)).how, How::finished);
  longer.stop(How::revoked, "too late");
  longer.set_until(RelayControl::Clock::now());
  longer.stop_when_quiet(1ms, How::draining, "too late");
}

TEST(AdaptiveBuffers, GrowWhileFilledAndShrinkWhenQuiet) {
  AdaptiveBuffer buffer;
  EXPECT_EQ(buffer.space().size(), 4096u);
  for (int round = 0; round < 10; ++round) buffer.note(buffer.space().size());
  EXPECT_EQ(buffer.space().size(), AdaptiveBuffer::kLargest);
  for (int round = 0; round < 15; ++round) buffer.note(1);
  EXPECT_EQ(buffer.space().size(), AdaptiveBuffer::kLargest) << "a few short reads are no reason";
  buffer.note(1);
  EXPECT_EQ(buffer.space().size(), AdaptiveBuffer::kLargest / 2);
  for (int round = 0; round < 200; ++round) {
    buffer.space();
    buffer.note(1);
  }
  EXPECT_EQ(buffer.space().size(), 4096u);
}

class Counted : public DeadlineWatch::Entry {
 public:
  int times = 0;

 private:
  void expired() override { ++times; }
};

TEST(DeadlineWatches, FireOncePerDeadlineAndFollowMovedOnes) {
  asio::io_context context{1};
  DeadlineWatch watch(context.get_executor());
  const auto now = std::chrono::steady_clock::now();
  Counted soon, moved, left;
  auto gone = std::make_unique<Counted>();
  soon.watch_until(watch, now + 5ms);
  moved.watch_until(watch, now + 5ms);
  moved.watch_until(watch, now + 30ms);
  left.watch_until(watch, now + 5ms);
  left.leave();
  gone->watch_until(watch, now + 5ms);
  gone.reset();
  context.run_one();
  EXPECT_EQ(soon.times, 1);
  EXPECT_EQ(moved.times, 0);
  while (moved.times == 0) context.run_one();
  EXPECT_GE(std::chrono::steady_clock::now(), now + 30ms);
  EXPECT_EQ(soon.times, 1);
  EXPECT_EQ(left.times, 0);
}

}  // namespace
