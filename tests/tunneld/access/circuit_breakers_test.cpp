#include "tunneld/access/circuit_breakers.h"

#include <gmock/gmock.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

namespace tunneld::access {
namespace {

using namespace std::chrono_literals;
using namespace std::string_view_literals;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using State = BreakerState;
using Time = CircuitBreaker::Time;

constexpr Time kStart{1000h};

/// What happens to a breaker, and what then holds.
struct Step {
  enum What { admit, ok, fail, probe_ok, probe_fail, abandon, probe_abandon } what;
  milliseconds at;
  State state;
  bool allowed = true;  // of admit
  bool probe = false;
  milliseconds retry_after{0};
};

void run(const BreakerOptions& options, const std::vector<Step>& steps) {
  CircuitBreaker breaker;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto& step = steps[i];
    SCOPED_TRACE(testing::Message() << "step " << i << " at " << step.at.count() << " ms");
    const Time now = kStart + step.at;
    const State before = breaker.state();
    std::optional<bool> changed;
    switch (step.what) {
      case Step::admit: {
        const auto admission = breaker.admit(options, now);
        EXPECT_EQ(admission.allowed, step.allowed);
        EXPECT_EQ(admission.probe, step.probe);
        EXPECT_EQ(admission.retry_after, step.retry_after);
        break;
      }
      case Step::ok: changed = breaker.succeeded(options, false, now); break;
      case Step::fail: changed = breaker.failed(options, false, now); break;
      case Step::probe_ok: changed = breaker.succeeded(options, true, now); break;
      case Step::probe_fail: changed = breaker.failed(options, true, now); break;
      case Step::abandon: breaker.abandoned(false); break;
      case Step::probe_abandon: breaker.abandoned(true); break;
    }
    EXPECT_EQ(breaker.state(), step.state);
    if (changed) {
      EXPECT_EQ(*changed, before != step.state);
    }
  }
}

TEST(CircuitBreaker, OpensAtTheFifthFailureInARow) {
  run({}, {{Step::fail, 0ms, State::closed},
           {Step::fail, 0ms, State::closed},
           {Step::fail, 0ms, State::closed},
           {Step::fail, 0ms, State::closed},
           {Step::ok, 0ms, State::closed},  // breaks the row
           {Step::fail, 0ms, State::closed},
           {Step::fail, 0ms, State::closed},
           {Step::fail, 0ms, State::closed},
           {Step::abandon, 0ms, State::closed},  // does not
           {Step::fail, 0ms, State::closed},
           {Step::admit, 0ms, State::closed},
           {Step::fail, 5ms, State::open},
           {Step::admit, 5ms, State::open, false, false, 60'000ms},
           {Step::admit, 60'004ms, State::open, false, false, 1ms}});
}

TEST(CircuitBreaker, ClosesAfterTwoProbesOneAtATime) {
  run({.failures = 1}, {{Step::fail, 0ms, State::open},
                        {Step::admit, 59'999ms, State::open, false, false, 1ms},
                        {Step::admit, 60'000ms, State::half_open, true, true},
                        {Step::admit, 60'000ms, State::half_open, false, false, 1000ms},
                        {Step::probe_ok, 60'100ms, State::half_open},
                        {Step::admit, 60'100ms, State::half_open, true, true},
                        {Step::admit, 60'100ms, State::half_open, false, false, 1000ms},
                        {Step::probe_ok, 60'200ms, State::closed},
                        {Step::admit, 60'200ms, State::closed}});
}

TEST(CircuitBreaker, DoublesItsResetToTenMinutesAndBeginsAnewOnceClosed) {
  CircuitBreaker breaker;
  const BreakerOptions options{.failures = 1, .successes = 1};
  Time now = kStart;
  breaker.failed(options, false, now);
  for (const auto reset : {60s, 120s, 240s, 480s, 600s, 600s}) {
    EXPECT_EQ(breaker.next_probe() - now, reset);
    EXPECT_EQ(breaker.opened_at(), kStart);
    EXPECT_FALSE(breaker.admit(options, now + reset - 1ms).allowed);
    now += reset;
    EXPECT_TRUE(breaker.admit(options, now).probe);
    EXPECT_TRUE(breaker.failed(options, true, now));
  }
  now += 600s;
  EXPECT_TRUE(breaker.admit(options, now).probe);
  EXPECT_TRUE(breaker.succeeded(options, true, now));
  EXPECT_TRUE(breaker.blank());
  EXPECT_TRUE(breaker.failed(options, false, now));
  EXPECT_EQ(breaker.next_probe() - now, 60s);
  EXPECT_EQ(breaker.opened_at(), now);
}

TEST(CircuitBreaker, ReopensWhenTheSecondProbeFails) {
  run({.failures = 1}, {{Step::fail, 0ms, State::open},
                        {Step::admit, 60'000ms, State::half_open, true, true},
                        {Step::probe_ok, 60'000ms, State::half_open},
                        {Step::admit, 60'000ms, State::half_open, true, true},
                        {Step::probe_fail, 60'000ms, State::open},
                        {Step::admit, 60'000ms, State::open, false, false, 120'000ms},
                        {Step::admit, 180'000ms, State::half_open, true, true},
                        {Step::probe_ok, 180'000ms, State::half_open},  // one again, not two
                        {Step::admit, 180'000ms, State::half_open, true, true},
                        {Step::probe_ok, 180'000ms, State::closed}});
}

TEST(CircuitBreaker, SendsAnotherProbeWhenOneIsAbandoned) {
  run({.failures = 1}, {{Step::fail, 0ms, State::open},
                        {Step::admit, 60'000ms, State::half_open, true, true},
                        {Step::probe_abandon, 60'500ms, State::half_open},
                        {Step::admit, 60'500ms, State::half_open, true, true},
                        {Step::abandon, 60'500ms, State::half_open},  // of another request
                        {Step::admit, 60'500ms, State::half_open, false, false, 1000ms}});
}

TEST(CircuitBreaker, TakesNoLateOutcomeForAProbes) {
  run({.failures = 1}, {{Step::fail, 0ms, State::open},
                        {Step::ok, 1ms, State::open},
                        {Step::fail, 1ms, State::open},
                        {Step::admit, 59'999ms, State::open, false, false, 1ms},
                        {Step::admit, 60'000ms, State::half_open, true, true},
                        {Step::ok, 60'000ms, State::half_open},
                        {Step::ok, 60'000ms, State::half_open},
                        {Step::fail, 60'000ms, State::half_open},
                        {Step::admit, 60'000ms, State::half_open, false, false, 1000ms}});
  // A probe of before, when it is open again.
  run({.failures = 1}, {{Step::fail, 0ms, State::open},
                        {Step::probe_ok, 1ms, State::open},
                        {Step::probe_fail, 1ms, State::open},
                        {Step::probe_abandon, 1ms, State::open},
                        {Step::admit, 59'999ms, State::open, false, false, 1ms}});
}

TEST(CircuitBreaker, NeverWaitsLessThanItsResetWhateverTheLongestSays) {
  CircuitBreaker breaker;
  const BreakerOptions options{.failures = 1, .successes = 1, .reset = 60s, .max_reset = 1s};
  breaker.failed(options, false, kStart);
  breaker.admit(options, kStart + 60s);
  breaker.failed(options, true, kStart + 60s);
  EXPECT_EQ(breaker.next_probe(), kStart + 120s);
}

class Breakers : public testing::Test {
 protected:
  using Key = CircuitBreakers::Key;
  using Permit = CircuitBreakers::Permit;
  static constexpr Key kDb{"issuer\0ann"sv, "office", "db"};

  std::optional<Permit> admit(Time now, const Key& key = kDb) {
    auto answer = breakers_.admit(key, now);
    if (auto* refused = std::get_if<CircuitBreakers::Open>(&answer)) {
      retry_after_ = refused->retry_after;
      return std::nullopt;
    }
    return std::move(std::get<Permit>(answer));
  }
  void fail(Time now, int times = 1, const Key& key = kDb) {
    for (int i = 0; i < times; ++i) admit(now, key)->failed(now, "TUNNEL_001: refused");
  }
  CircuitBreakers::Info only(Time now) {
    const auto all = breakers_.list(now);
    EXPECT_THAT(all, SizeIs(1));
    return all.empty() ? CircuitBreakers::Info{} : all.front();
  }
  std::vector<std::pair<State, State>> changes() const {
    std::vector<std::pair<State, State>> pairs;
    for (const auto& change : told_) pairs.emplace_back(change.from, change.breaker.state);
    return pairs;
  }

  std::vector<CircuitBreakers::Change> told_;
  CircuitBreakers breakers_{{}, [this](const auto& change) {
                              // May ask: no lock is held.
                              breakers_.list(kStart);
                              told_.push_back(change);
                            }};
  milliseconds retry_after_{};
};

TEST_F(Breakers, RememberNothingWhileNothingFails) {
  for (int i = 0; i < 100; ++i) admit(kStart)->succeeded(kStart);
  admit(kStart);  // goes away silently
  EXPECT_THAT(breakers_.list(kStart), IsEmpty());
  fail(kStart, 4);
  EXPECT_EQ(only(kStart).failures_in_a_row, 4U);
  admit(kStart)->succeeded(kStart);
  EXPECT_THAT(breakers_.list(kStart), IsEmpty());
  EXPECT_THAT(told_, IsEmpty());
}

TEST_F(Breakers, AreOfOnePrincipalUpstreamAndService) {
  fail(kStart, 5);
  EXPECT_FALSE(admit(kStart));
  for (const Key& other : {Key{"issuer\0bob"sv, "office", "db"}, Key{"issuer\0ann"sv, "lab", "db"},
                           Key{"issuer\0ann"sv, "office", "web"}, Key{"issuer\0ann"sv, "officed", "b"}})
    EXPECT_TRUE(admit(kStart, other));
}

TEST_F(Breakers, KeepKeysApartThatReadTheSameWhenJoined) {
  const Key one{"a\0b"sv, "c"sv, "d"sv}, other{"a"sv, "b\0c"sv, "d"sv}, third{"1,1,a"sv, ""sv, ""sv};
  fail(kStart, 5, one);
  EXPECT_TRUE(admit(kStart, other));
  EXPECT_TRUE(admit(kStart, third));
  const auto info = only(kStart);
  EXPECT_EQ(info.principal, "a\0b"sv);
  EXPECT_EQ(info.upstream, "c");
  EXPECT_EQ(info.service, "d");
}

TEST_F(Breakers, TellWhatOpenedThem) {
  for (int i = 1; i <= 5; ++i) admit(kStart)->failed(kStart, "TUNNEL_001: try " + std::to_string(i));
  ASSERT_THAT(told_, SizeIs(1));
  const auto& change = told_.front();
  EXPECT_EQ(change.from, State::closed);
  EXPECT_EQ(change.breaker.state, State::open);
  EXPECT_EQ(change.breaker.failures_in_a_row, 5U);
  EXPECT_EQ(change.breaker.opened_at, kStart);
  EXPECT_EQ(change.breaker.next_probe, kStart + 60s);
  EXPECT_EQ(change.breaker.upstream, "office");
  EXPECT_EQ(change.breaker.service, "db");
  EXPECT_EQ(change.open_for, 0ms);
  EXPECT_THAT(change.breaker.last_errors,
              ElementsAre("TUNNEL_001: try 1", "TUNNEL_001: try 2", "TUNNEL_001: try 3", "TUNNEL_001: try 4",
                          "TUNNEL_001: try 5"));
  EXPECT_EQ(change.breaker.id.size(), 16U);
  EXPECT_EQ(change.breaker.id.find_first_not_of("0123456789abcdef"), std::string::npos);
}

TEST_F(Breakers, KeepTheLastFiveErrorsShortAndWhole) {
  std::string wide(198, 'x');
  wide += "\xe2\x82\xac and more";  // a euro sign over the 200th byte
  admit(kStart)->failed(kStart, "first");
  for (int i = 0; i < 5; ++i) {
    auto permit = admit(kStart);
    if (permit)
      permit->failed(kStart, wide);
    else
      break;
  }
  const auto errors = only(kStart).last_errors;
  ASSERT_EQ(errors.size(), 5U);
  EXPECT_EQ(errors.front(), "first");
  EXPECT_EQ(errors.back(), std::string(198, 'x'));
  admit(kStart + 60s)->failed(kStart + 60s, std::string(200, 'y'));
  EXPECT_EQ(only(kStart).last_errors.size(), 5U);
  EXPECT_EQ(only(kStart).last_errors.front(), std::string(198, 'x'));
  EXPECT_EQ(only(kStart).last_errors.back(), std::string(200, 'y'));
}

TEST_F(Breakers, CountWhomTheyRefusedAndTellHowLongTheyWereOpen) {
  fail(kStart, 5);
  EXPECT_FALSE(admit(kStart + 1s));
  EXPECT_EQ(retry_after_, 59s);
  EXPECT_FALSE(admit(kStart + 2s));
  EXPECT_EQ(only(kStart).refused, 2U);
  admit(kStart + 60s)->succeeded(kStart + 61s);
  EXPECT_EQ(only(kStart).successes_in_a_row, 1U);
  admit(kStart + 61s)->succeeded(kStart + 62s);
  EXPECT_THAT(changes(),
              ElementsAre(std::pair(State::closed, State::open), std::pair(State::open, State::half_open),
                          std::pair(State::half_open, State::closed)));
  EXPECT_EQ(told_.back().open_for, 62s);
  EXPECT_EQ(told_.back().breaker.successes_in_a_row, 2U);
  EXPECT_EQ(told_.back().breaker.refused, 2U);
  EXPECT_THAT(told_.back().breaker.last_errors, SizeIs(5));
  EXPECT_THAT(breakers_.list(kStart), IsEmpty());
}

TEST_F(Breakers, FreeTheProbeThatGoesAwaySilently) {
  fail(kStart, 5);
  {
    auto probe = admit(kStart + 60s);
    ASSERT_TRUE(probe);
    auto moved = std::move(*probe);
    probe.reset();  // the empty one: says nothing
    EXPECT_FALSE(admit(kStart + 60s));
    *&moved = std::move(moved);
    EXPECT_FALSE(admit(kStart + 60s));
  }
  EXPECT_TRUE(admit(kStart + 60s));
  EXPECT_EQ(only(kStart).state, State::half_open);
}

TEST_F(Breakers, HearOnlyTheFirstWord) {
  auto permit = admit(kStart);
  permit->failed(kStart, "TUNNEL_001: refused");
  for (int i = 0; i < 10; ++i) permit->failed(kStart, "again");
  permit->succeeded(kStart);
  EXPECT_EQ(only(kStart).failures_in_a_row, 1U);
}

TEST_F(Breakers, IgnoreOutcomesOfRequestsFromBeforeTheyOpened) {
  auto slow = admit(kStart), slower = admit(kStart), slowest = admit(kStart);
  fail(kStart, 5);
  slow->succeeded(kStart + 1s);
  EXPECT_EQ(only(kStart).state, State::open);
  auto probe = admit(kStart + 60s);
  slower->succeeded(kStart + 60s);
  EXPECT_EQ(only(kStart).successes_in_a_row, 0U);
  slowest->failed(kStart + 60s, "TUNNEL_007: late");
  EXPECT_EQ(only(kStart).state, State::half_open);
  EXPECT_FALSE(admit(kStart + 60s));  // the probe is still out
  probe->succeeded(kStart + 61s);
  EXPECT_EQ(only(kStart).successes_in_a_row, 1U);
}

TEST_F(Breakers, CloseWhenTheOperatorSaysSo) {
  fail(kStart, 5);
  const auto id = only(kStart).id;
  EXPECT_FALSE(breakers_.reset("0123456789abcdef", kStart));
  EXPECT_FALSE(breakers_.reset("", kStart));
  EXPECT_TRUE(breakers_.reset(id, kStart + 7s));
  EXPECT_FALSE(breakers_.reset(id, kStart + 7s));
  ASSERT_THAT(told_, SizeIs(2));
  EXPECT_EQ(told_.back().from, State::open);
  EXPECT_EQ(told_.back().breaker.state, State::closed);
  EXPECT_EQ(told_.back().breaker.failures_in_a_row, 0U);
  EXPECT_EQ(told_.back().open_for, 7s);
  EXPECT_EQ(told_.back().breaker.successes_in_a_row, 0U);
  EXPECT_TRUE(admit(kStart + 7s));

  fail(kStart, 3);  // closed, with something held against it
  EXPECT_TRUE(breakers_.reset(only(kStart).id, kStart));
  EXPECT_THAT(breakers_.list(kStart), IsEmpty());
  EXPECT_THAT(told_, SizeIs(2));
}

TEST_F(Breakers, HaveTheSameIdForTheSameKey) {
  fail(kStart);
  const auto id = only(kStart).id;
  breakers_.reset(id, kStart);
  fail(kStart);
  EXPECT_EQ(only(kStart).id, id);
  fail(kStart, 1, {"issuer\0ann"sv, "office", "web"});
  const auto all = breakers_.list(kStart);
  EXPECT_NE(all[0].id, all[1].id);
}

TEST_F(Breakers, TakeNoProbeFromBeforeAResetForTheirOwn) {
  fail(kStart, 5);
  auto old = admit(kStart + 60s), older = admit(kStart + 60s);
  EXPECT_FALSE(older);
  ASSERT_TRUE(breakers_.reset(only(kStart).id, kStart + 60s));
  // Nothing is held against the new one.
  {
    auto copy = std::move(*old);
    copy.failed(kStart + 61s, "TUNNEL_007: late");
    EXPECT_THAT(breakers_.list(kStart), IsEmpty());
  }
  fail(kStart + 100s, 5);
  auto stale_failure = admit(kStart + 160s);
  auto id = only(kStart).id;
  breakers_.reset(id, kStart + 160s);
  fail(kStart + 200s, 5);
  auto stale_success = admit(kStart + 260s);
  breakers_.reset(id, kStart + 260s);
  fail(kStart + 300s, 5);
  auto stale_silence = admit(kStart + 360s);
  breakers_.reset(id, kStart + 360s);
  fail(kStart + 400s, 5);
  auto probe = admit(kStart + 460s);
  ASSERT_TRUE(probe);
  stale_failure->failed(kStart + 461s, "TUNNEL_007: late");
  EXPECT_EQ(only(kStart).state, State::half_open);
  stale_success->succeeded(kStart + 461s);
  EXPECT_EQ(only(kStart).successes_in_a_row, 0U);
  stale_silence.reset();
  EXPECT_FALSE(admit(kStart + 461s));
  probe->succeeded(kStart + 462s);
  EXPECT_EQ(only(kStart).successes_in_a_row, 1U);
}

TEST_F(Breakers, ForgetWithoutHarmTheProbeOfAForgottenOne) {
  fail(kStart, 5);
  auto success = admit(kStart + 60s);
  breakers_.reset(only(kStart).id, kStart + 60s);
  fail(kStart, 1, {"issuer\0bob"sv, "office", "db"});  // something to look into
  success->succeeded(kStart + 61s);
  EXPECT_THAT(breakers_.list(kStart), SizeIs(1));
  fail(kStart, 5);
  auto silence = admit(kStart + 60s);
  breakers_.reset(breakers_.list(kStart).front().id, kStart);
  breakers_.reset(only(kStart).id, kStart);
  silence.reset();
  EXPECT_THAT(breakers_.list(kStart), IsEmpty());
}

TEST_F(Breakers, FollowNewOptions) {
  breakers_.configure({{.failures = 2, .successes = 1, .reset = 1s, .max_reset = 2s}});
  fail(kStart, 2);
  EXPECT_FALSE(admit(kStart));
  EXPECT_EQ(retry_after_, 1s);
  admit(kStart + 1s)->failed(kStart + 1s, "TUNNEL_001: refused");
  admit(kStart + 3s)->failed(kStart + 3s, "TUNNEL_001: refused");
  EXPECT_FALSE(admit(kStart + 3s));
  EXPECT_EQ(retry_after_, 2s);
}

TEST(CircuitBreakersTable, ForgetsClosedOnesBeforeOpenOnesAndTheOldestFirst) {
  CircuitBreakers breakers({{.failures = 2}, 3}, nullptr);
  const auto fail = [&](std::string_view who, int times) {
    for (int i = 0; i < times; ++i)
      std::get<CircuitBreakers::Permit>(breakers.admit({who, "office", "db"}, kStart))
          .failed(kStart, "TUNNEL_001: no");
  };
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& info : breakers.list(kStart)) all.push_back(info.principal);
    return all;
  };
  fail("ann", 2);
  fail("bob", 1);
  fail("cid", 1);
  EXPECT_TRUE(
      std::holds_alternative<CircuitBreakers::Permit>(breakers.admit({"bob", "office", "db"}, kStart)));
  fail("dan", 2);  // in cid's place: bob was used since
  EXPECT_THAT(names(), testing::UnorderedElementsAre("ann", "bob", "dan"));
  fail("eve", 2);
  EXPECT_THAT(names(), testing::UnorderedElementsAre("ann", "dan", "eve"));
  EXPECT_TRUE(std::holds_alternative<CircuitBreakers::Open>(breakers.admit({"ann", "office", "db"}, kStart)));
  fail("fay", 1);  // all open: dan's was refused to nobody for longest
  EXPECT_THAT(names(), testing::UnorderedElementsAre("ann", "eve", "fay"));
}

TEST(CircuitBreakersTable, StaysWithinItsBounds) {
  CircuitBreakers breakers({{}, 2048}, nullptr);
  for (int i = 0; i < 20'000; ++i) {
    const auto who = std::to_string(i);
    std::get<CircuitBreakers::Permit>(breakers.admit({who, "office", "db"}, kStart))
        .failed(kStart, "TUNNEL_001: no");
  }
  EXPECT_LE(breakers.list(kStart).size(), 2048U);
  EXPECT_GT(breakers.list(kStart).size(), 1900U);
}

TEST(CircuitBreakersTable, NeverLetsTwoProbesOutUnderEightThreads) {
  CircuitBreakers breakers({{.failures = 1, .successes = 1'000'000}, 1024}, nullptr);
  const CircuitBreakers::Key key{"ann", "office", "db"};
  std::get<CircuitBreakers::Permit>(breakers.admit(key, kStart)).failed(kStart, "TUNNEL_001: no");
  std::atomic<int> out{0}, most{0}, probes{0};
  {
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < 8; ++t)
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int i = 0; i < 5000; ++i) {
          auto answer = breakers.admit(key, kStart + 24h);
          auto* permit = std::get_if<CircuitBreakers::Permit>(&answer);
          if (permit == nullptr) continue;
          const int now = ++out;
          ++probes;
          for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
          }
          if (random() % 4 == 0) std::this_thread::yield();
          --out;
          if (random() % 3 != 0) permit->succeeded(kStart + 24h);  // the others go away silently
        }
      });
  }
  EXPECT_EQ(most, 1);
  EXPECT_GT(probes, 1);
}

TEST(CircuitBreakersTable, OpensOnceUnderEightThreads) {
  std::atomic<int> opened{0};
  CircuitBreakers breakers({{.failures = 500}, 1024}, [&](const CircuitBreakers::Change& change) {
    if (change.breaker.state == State::open) ++opened;
  });
  std::atomic<int> refused{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) {
          auto answer = breakers.admit({"ann", "office", "db"}, kStart);
          if (auto* permit = std::get_if<CircuitBreakers::Permit>(&answer))
            permit->failed(kStart, "TUNNEL_001: no");
          else
            ++refused;
        }
      });
  }
  EXPECT_EQ(opened, 1);
  const auto all = breakers.list(kStart);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].refused, static_cast<std::uint64_t>(refused));
  EXPECT_EQ(all[0].failures_in_a_row, 500U);
}

}  // namespace
}  // namespace tunneld::access
