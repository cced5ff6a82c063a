#include "tunneld/tracing/tracer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <set>
#include <thread>

#include "common/log.h"
#include "tests/tunneld/tracing/tracing_lab.h"

namespace {

using namespace tunneld::tracing;
using namespace std::chrono_literals;
using support::LoopbackServer;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using tracing_lab::Counts;
using tracing_lab::partial_success;
using tracing_lab::plain_span;
using tracing_lab::protobuf_answer;
using Reply = LoopbackServer::Reply;
using Seen = LoopbackServer::Seen;
using Then = LoopbackServer::Then;

/// Nothing waits for the clock: a flush after an hour never comes.
Options to(const LoopbackServer& server, std::size_t batch, std::size_t queue = 100) {
  Options options;
  options.endpoint = server.url("/v1/traces");
  options.flush = 1h;
  options.batch = batch;
  options.queue = queue;
  return options;
}

std::unique_ptr<Tracer> opened(const Options& options, Counts& counts) {
  auto tracer = Tracer::open(options, {"0.1.0", "host-1"}, counts.reports());
  EXPECT_TRUE(tracer) << tracer.error().message;
  return tracer ? std::move(*tracer) : nullptr;
}

/// A tracer that samples; its collector is never asked.
std::unique_ptr<Tracer> sampling(unsigned percent) {
  Options options;
  options.endpoint = "http://127.0.0.1:1/v1/traces";
  options.sample_percent = percent;
  return Tracer::open(options, {"0.1.0", "host-1"}, {}).value();
}

std::size_t spans_in(const std::string& body) {
  std::size_t found = 0;
  for (auto at = body.find("tunnel.request"); at != std::string::npos;
       at = body.find("tunnel.request", at + 1))
    ++found;
  return found;
}

// Sampling --------------------------------------------------------------------------------------------

TEST(Tracer, IsNoneWithoutAnEndpoint) {
  const auto tracer = Tracer::open({}, {"0.1.0", "host-1"}, {});
  ASSERT_TRUE(tracer);
  EXPECT_EQ(*tracer, nullptr);
}

TEST(Tracer, CannotBeOpenedWithAnEndpointThatIsNone) {
  Options options;
  options.endpoint = "nonsense";
  const auto tracer = Tracer::open(options, {"0.1.0", "host-1"}, {});
  ASSERT_FALSE(tracer);
  EXPECT_EQ(tracer.error().kind, Error::Kind::bad_input);
}

TEST(Tracer, GoesOnWithTheCallersTraceAsTheCallerDecided) {
  for (const unsigned percent : {0U, 100U}) {
    const auto tracer = sampling(percent);
    for (const bool sampled : {true, false}) {
      SpanContext parent;
      parent.trace_id.fill(3);
      parent.span_id.fill(4);
      parent.sampled = sampled;
      const auto context = tracer->begin(parent);
      EXPECT_EQ(context.trace_id, parent.trace_id);
      EXPECT_NE(context.span_id, parent.span_id);
      EXPECT_EQ(context.sampled, sampled) << percent;
    }
  }
}

TEST(Tracer, BeginsTracesWithIdsThatDiffer) {
  const auto tracer = sampling(100);
  std::set<std::string> seen;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([&] {
      for (int round = 0; round < 1000; ++round) {
        const auto context = tracer->begin({});
        EXPECT_TRUE(parse_traceparent(context.traceparent())) << context.traceparent();
        const std::lock_guard lock(mutex);
        EXPECT_TRUE(seen.insert(context.trace_id_text()).second);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Tracer, SamplesTheShareOfTracesThatIsAskedFor) {
  struct Row {
    unsigned percent;
    int least, most;  // of 20,000; seven standard deviations
  };
  const auto tracer = sampling(10);
  for (const Row& row : {Row{0, 0, 0}, Row{1, 101, 299}, Row{10, 1703, 2297}, Row{50, 9505, 10495},
                         Row{99, 19701, 19899}, Row{100, 20000, 20000}, Row{200, 20000, 20000}}) {
    SCOPED_TRACE(row.percent);
    tracer->set_sample_percent(row.percent);
    int sampled = 0;
    for (int round = 0; round < 20'000; ++round) sampled += tracer->begin({}).sampled ? 1 : 0;
    EXPECT_GE(sampled, row.least);
    EXPECT_LE(sampled, row.most);
  }
}

// Sending ---------------------------------------------------------------------------------------------

TEST(Tracer, SendsABatchWhenItIsFull) {
  LoopbackServer server(protobuf_answer(200));
  Counts counts;
  const auto tracer = opened(to(server, 3), counts);
  for (int number = 0; number < 6; ++number) tracer->record(plain_span());
  EXPECT_TRUE(counts.reaches("exported", 6));
  ASSERT_EQ(server.seen().size(), 2U);
  EXPECT_EQ(spans_in(server.seen().at(0).body), 3U);
  EXPECT_EQ(spans_in(server.seen().at(1).body), 3U);
  EXPECT_EQ(server.connections(), 1U) << "one connection, kept";
}

TEST(Tracer, NoticesThatABatchIsFullWhileItWaitsForMore) {
  LoopbackServer server(protobuf_answer(200));
  Counts counts;
  const auto tracer = opened(to(server, 2), counts);
  for (std::uint64_t round = 1; round <= 50; ++round) {
    tracer->record(plain_span());
    for (int pause = 0; pause < 1000; ++pause) std::this_thread::yield();  // most times it waits by then
    tracer->record(plain_span());
    ASSERT_TRUE(counts.reaches("exported", 2 * round));
  }
}

TEST(Tracer, SendsAPartOfABatchWhenItIsDue) {
  LoopbackServer server(protobuf_answer(200));
  Counts counts;
  auto options = to(server, 50);
  options.flush = 20ms;
  const auto tracer = opened(options, counts);
  tracer->record(plain_span());
  EXPECT_TRUE(counts.reaches("exported", 1));
  tracer->record(plain_span());
  EXPECT_TRUE(counts.reaches("exported", 2));
}

TEST(Tracer, SendsNothingWhenThereIsNothing) {
  LoopbackServer server(protobuf_answer(200));
  Counts counts;
  auto options = to(server, 3);
  options.flush = 1ms;
  opened(options, counts).reset();
  EXPECT_EQ(server.seen().size(), 0U);
  EXPECT_EQ(server.connections(), 0U);
}

TEST(Tracer, SendsWhatIsLeftAtItsEnd) {
  LoopbackServer server(protobuf_answer(200));
  Counts counts;
  auto tracer = opened(to(server, 4), counts);
  for (int number = 0; number < 10; ++number) tracer->record(plain_span());
  tracer.reset();
  EXPECT_EQ(counts.of("exported"), 10U);
  std::size_t received = 0;
  for (const auto& seen : server.seen()) received += spans_in(seen.body);
  EXPECT_EQ(received, 10U);
}

TEST(Tracer, EndsThoughItsCollectorHangs) {
  LoopbackServer server("", Then::hold);
  Counts counts;
  auto tracer = opened(to(server, 2), counts);
  for (int number = 0; number < 5; ++number) tracer->record(plain_span());
  EXPECT_TRUE(server.wait_for_requests(1));
  tracer.reset();
  EXPECT_EQ(counts.of("failed"), 5U) << "what was on its way, and what was not sent any more";
  EXPECT_EQ(counts.of("exported"), 0U);
  EXPECT_EQ(server.seen().size(), 1U);
}

TEST(Tracer, EndsThoughItsCollectorAsksForPatience) {
  LoopbackServer server(protobuf_answer(503, "", "Retry-After: 20\r\n"));
  Counts counts;
  auto tracer = opened(to(server, 2), counts);
  for (int number = 0; number < 2; ++number) tracer->record(plain_span());
  EXPECT_TRUE(server.wait_for_requests(1));
  tracer.reset();
  EXPECT_EQ(counts.of("failed"), 2U);
}

TEST(Tracer, DropsNewSpansWhileTooManyWait) {
  LoopbackServer server("", Then::hold);
  Counts counts;
  auto tracer = opened(to(server, 2, 6), counts);
  for (int number = 0; number < 2; ++number) tracer->record(plain_span());
  EXPECT_TRUE(server.wait_for_requests(1));  // these two are on their way and count, too
  for (int number = 0; number < 10; ++number) tracer->record(plain_span());
  EXPECT_EQ(counts.of("dropped"), 6U);
  tracer.reset();
  EXPECT_EQ(counts.of("failed"), 6U);
  EXPECT_EQ(counts.of("exported"), 0U);
}

TEST(Tracer, HasRoomAgainWhenABatchIsGone) {
  std::latch go(1);
  LoopbackServer server([&go](const Seen&) {
    go.wait();
    return Reply{protobuf_answer(200)};
  });
  Counts counts;
  auto tracer = opened(to(server, 1, 1), counts);
  tracer->record(plain_span());
  tracer->record(plain_span());
  EXPECT_EQ(counts.of("dropped"), 1U);
  go.count_down();
  EXPECT_TRUE(counts.reaches("exported", 1));
  while (counts.of("exported") < 2) tracer->record(plain_span());  // as soon as it is counted off
  tracer.reset();
}

TEST(Tracer, CountsWhatTheCollectorDidNotTake) {
  LoopbackServer server([](const Seen& seen) {
    if (seen.number == 0) return Reply{protobuf_answer(200, partial_success(2, "too old"))};
    return Reply{protobuf_answer(400)};
  });
  Counts counts;
  const auto tracer = opened(to(server, 5), counts);
  for (int number = 0; number < 5; ++number) tracer->record(plain_span());
  EXPECT_TRUE(counts.reaches("failed", 2));
  EXPECT_TRUE(counts.reaches("exported", 3));
  for (int number = 0; number < 5; ++number) tracer->record(plain_span());
  EXPECT_TRUE(counts.reaches("failed", 7));
  EXPECT_EQ(counts.of("exported"), 3U);
}

TEST(Tracer, SaysOnceThatTheCollectorIsAwayAndOnceThatItIsBack) {
  std::atomic<bool> away = true;
  LoopbackServer server([&away](const Seen&) { return Reply{protobuf_answer(away ? 400 : 200)}; });
  const tracing_lab::Folder folder;
  const auto file = folder.file("log", "");
  ASSERT_TRUE(logging::start({.format = logging::Format::json, .output = file.string()}));
  {
    Counts counts;
    auto options = to(server, 1);
    options.endpoint += "?key=hush";
    const auto tracer = opened(options, counts);
    for (std::uint64_t number = 1; number <= 3; ++number) {
      tracer->record(plain_span());
      EXPECT_TRUE(counts.reaches("failed", number));
    }
    away = false;
    for (std::uint64_t number = 1; number <= 3; ++number) {
      tracer->record(plain_span());
      EXPECT_TRUE(counts.reaches("exported", number));
    }
  }
  logging::stop();
  std::ifstream in(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 2U) << testing::PrintToString(lines);
  EXPECT_THAT(lines[0], AllOf(HasSubstr("WARN"), HasSubstr("spans are lost"), HasSubstr("answered 400")));
  EXPECT_THAT(lines[1], AllOf(HasSubstr("INFO"), HasSubstr("takes spans again")));
  for (const auto& line : lines) EXPECT_THAT(line, AllOf(HasSubstr("/v1/traces"), Not(HasSubstr("hush"))));
}

TEST(Tracer, LosesCountOfNoSpanHoweverManyThreadsRecord) {
  LoopbackServer server([](const Seen& seen) {
    return seen.number % 3 == 1 ? Reply{protobuf_answer(500)} : Reply{protobuf_answer(200)};
  });
  Counts counts;
  auto tracer = opened(to(server, 16, 64), counts);
  constexpr std::uint64_t kThreads = 8;
  constexpr std::uint64_t kEach = 2000;
  std::latch start(kThreads);
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number < kThreads; ++number) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      for (std::uint64_t round = 0; round < kEach; ++round) {
        auto span = plain_span();
        span.texts = {{"service", std::string(40, 'x')}};
        tracer->record(std::move(span));
        tracer->set_sample_percent(static_cast<unsigned>(round % 100));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  tracer.reset();
  std::uint64_t received = 0;
  for (const auto& seen : server.seen()) received += spans_in(seen.body);
  EXPECT_EQ(counts.of("exported") + counts.of("failed"), received);
  EXPECT_EQ(counts.of("exported") + counts.of("failed") + counts.of("dropped"), kThreads * kEach);
  EXPECT_GT(counts.of("exported"), 0U);
}

}  // namespace
