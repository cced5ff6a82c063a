#include "tunnel/queue_ledger.h"

#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunnel/silent_observer.h"

namespace tunnel {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class CountingObserver : public SilentObserver {
 public:
  void queue_entered(Priority) override { ++entered; }
  void queue_left(Priority, QueueExit how, Duration waited) override {
    const std::lock_guard lock(mutex_);
    ++left[how];
    last_wait = waited;
  }
  void queue_refused(Priority) override { ++refused; }
  void flow_level_changed(FlowLevel) override { ++levels; }
  int exits() const {
    int sum = 0;
    for (const auto& [how, count] : left) sum += count;
    return sum;
  }
  std::atomic<int> entered{0};
  std::atomic<int> refused{0};
  std::atomic<int> levels{0};
  std::map<QueueExit, int> left;
  Duration last_wait{};

 private:
  std::mutex mutex_;
};

class Ledger : public testing::Test {
 protected:
  QueueLedger& ledger() {
    if (!ledger_)
      ledger_.emplace(
          options, observer,
          [this](const std::string& who, FlowLevel level, double fill) {
            changes.push_back(who + " " + to_string(level));
            last_fill = fill;
          },
          [this] { return now; });
    return *ledger_;
  }
  Served<QueueLedger::Place> enter(const std::string& who, Priority priority = Priority::normal,
                                   std::size_t bytes = 0) {
    return ledger().enter({.principal = who,
                           .capacity = capacity,
                           .priority = priority,
                           .bytes = bytes,
                           .evict = [this, who, id = ++last_id] { evicted.push_back(id); }});
  }
  /// Fills `who`'s queue with `count` of them.
  void fill(const std::string& who, std::size_t count, Priority priority = Priority::normal) {
    for (std::size_t at = 0; at < count; ++at) {
      auto place = enter(who, priority);
      ASSERT_TRUE(place) << place.error().message;
      places.push_back(std::move(*place));
    }
  }
  void expect_full(const Served<QueueLedger::Place>& refused) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::queue_full);
    ASSERT_TRUE(refused.error().retry_after);
    EXPECT_GE(*refused.error().retry_after, 1s);
  }

  QueueLedger::Options options;
  std::size_t capacity = 100;
  CountingObserver observer;
  std::chrono::steady_clock::time_point now{};
  std::vector<std::string> changes;
  double last_fill = -1;
  int last_id = 0;
  std::vector<int> evicted;
  std::vector<QueueLedger::Place> places;
  std::optional<QueueLedger> ledger_;
};

TEST_F(Ledger, KnowsWhoWaits) {
  auto first = enter("ann", Priority::high, 10);
  auto second = enter("ann", Priority::low, 20);
  auto third = enter("bob", Priority::normal, 5);
  EXPECT_EQ(ledger().waiting("ann"), 2u);
  EXPECT_EQ(ledger().waiting("bob"), 1u);
  EXPECT_EQ(ledger().waiting("cyd"), 0u);
  auto counts = ledger().counts();
  EXPECT_EQ(counts.waiting, 3u);
  EXPECT_EQ(counts.bytes, 35u);
  EXPECT_EQ(counts.principals, 2u);
  EXPECT_DOUBLE_EQ(ledger().fullest(), 0.02);

  now += 3s;
  EXPECT_TRUE(first->leave(QueueExit::served));
  EXPECT_EQ(observer.last_wait, 3s);
  EXPECT_TRUE(second->leave(QueueExit::expired));
  EXPECT_TRUE(third->leave(QueueExit::failed));
  counts = ledger().counts();
  EXPECT_EQ(counts.waiting + counts.bytes + counts.principals, 0u) << "nothing is kept of who left";
  EXPECT_EQ(ledger().fullest(), 0);
  EXPECT_EQ(observer.left[QueueExit::served], 1);
  EXPECT_EQ(observer.left[QueueExit::expired], 1);
  EXPECT_EQ(observer.left[QueueExit::failed], 1);
}

TEST_F(Ledger, APlaceIsLeftOnceAndByDefaultAbandoned) {
  {
    auto place = enter("ann");
    EXPECT_TRUE(place->leave(QueueExit::served));
    EXPECT_FALSE(place->leave(QueueExit::expired));
    auto other = enter("ann");
    auto moved = std::move(*other);
    EXPECT_FALSE(other->leave(QueueExit::served)) << "moved away";
    QueueLedger::Place nowhere;
    EXPECT_FALSE(nowhere.leave(QueueExit::served));
    EXPECT_EQ(ledger().waiting("ann"), 1u);
  }
  EXPECT_EQ(observer.left[QueueExit::abandoned], 1);
  EXPECT_EQ(observer.exits(), 2);

  auto first = *enter("ann");
  first = *enter("bob");  // ann's place is given up for it
  EXPECT_EQ(ledger().waiting("ann"), 0u);
  auto& same = first;
  first = std::move(same);
  EXPECT_EQ(ledger().waiting("bob"), 1u);
}

TEST_F(Ledger, OutlivesItsPlacesOrNot) {
  auto place = enter("ann");
  ledger_.reset();
  EXPECT_TRUE(place->leave(QueueExit::served));
}

TEST_F(Ledger, RefusesWhoseQueueIsFullAndNobodyElse) {
  capacity = 10;
  fill("ann", 10);
  expect_full(enter("ann"));
  expect_full(enter("ann", Priority::high));
  EXPECT_EQ(observer.refused, 2);
  EXPECT_TRUE(enter("bob"));
  places.pop_back();
  EXPECT_TRUE(enter("ann")) << "there is room again";
}

TEST_F(Ledger, ACapacityOfZeroStillTakesOne) {
  capacity = 0;
  auto only = enter("ann");
  EXPECT_TRUE(only);
  expect_full(enter("ann"));
}

TEST_F(Ledger, APrincipalHoldsAQuarterOfTheMemory) {
  options.total_bytes = 4000;
  auto most = enter("ann", Priority::normal, 1000);
  ASSERT_TRUE(most);
  EXPECT_DOUBLE_EQ(ledger().fullest(), 1.0);
  expect_full(enter("ann", Priority::normal, 1));
  expect_full(enter("bob", Priority::normal, 1001));
  EXPECT_EQ(ledger().counts().principals, 1u) << "a refused one leaves nothing behind";
  EXPECT_TRUE(enter("bob", Priority::normal, 1000));
}

TEST_F(Ledger, AllTogetherHoldTheWholeMemory) {
  options.total_bytes = 4000;
  std::vector<Served<QueueLedger::Place>> all;
  for (const char* who : {"ann", "bob", "cyd", "dan"}) all.push_back(enter(who, Priority::normal, 1000));
  for (const auto& one : all) EXPECT_TRUE(one);
  expect_full(enter("eve", Priority::normal, 1));
  EXPECT_TRUE(enter("eve", Priority::normal, 0));
  QueueLedger::Options larger;
  larger.total_bytes = 8000;
  ledger().configure(larger);
  EXPECT_TRUE(enter("eve", Priority::normal, 2000));
  QueueLedger::Options none;
  none.total_bytes = 0;
  ledger().configure(none);
  expect_full(enter("eve", Priority::normal, 1));
}

TEST_F(Ledger, TellsEachLevelOnceOnTheWayUpAndDown) {
  fill("ann", 100);
  EXPECT_EQ(changes,
            (std::vector<std::string>{"ann slow_down", "ann throttle", "ann pause", "ann drop_low"}));
  EXPECT_EQ(ledger().level("ann"), FlowLevel::drop_low);
  EXPECT_EQ(ledger().level("bob"), FlowLevel::open);
  changes.clear();
  while (!places.empty()) places.pop_back();
  EXPECT_EQ(changes, (std::vector<std::string>{"ann pause", "ann throttle", "ann slow_down", "ann open"}));
  EXPECT_EQ(last_fill, 0.55);
  EXPECT_EQ(ledger().level("ann"), FlowLevel::open);
  EXPECT_EQ(observer.levels, 8);
}

TEST_F(Ledger, DoesNotFlutterAtAnEdge) {
  fill("ann", 60);
  for (int times = 0; times < 10; ++times) {
    places.pop_back();
    fill("ann", 1);
  }
  EXPECT_EQ(changes.size(), 1u);
}

TEST_F(Ledger, DropLowRefusesNewLowOnesAndEvictsTheNewestForOthers) {
  fill("ann", 60, Priority::normal);
  const int first_low = last_id + 1;
  fill("ann", 35, Priority::low);
  const int last_low = last_id;
  ASSERT_EQ(ledger().level("ann"), FlowLevel::drop_low);

  auto low = enter("ann", Priority::low);
  expect_full(low);
  EXPECT_THAT(low.error().message, HasSubstr("low priority"));
  EXPECT_TRUE(evicted.empty());

  auto high = enter("ann", Priority::high);
  auto normal = enter("ann", Priority::normal);
  EXPECT_TRUE(high);
  EXPECT_TRUE(normal);
  EXPECT_EQ(evicted, (std::vector<int>{last_low, last_low - 1})) << "newest first";
  EXPECT_EQ(ledger().waiting("ann"), 95u);
  EXPECT_EQ(observer.left[QueueExit::evicted], 2);
  EXPECT_FALSE(places.back().leave(QueueExit::served)) << "it was evicted";
  EXPECT_EQ(observer.left[QueueExit::served], 0);

  std::vector<QueueLedger::Place> more;
  for (int count = 0; count < 33; ++count) more.push_back(std::move(*enter("ann", Priority::high)));
  EXPECT_EQ(evicted.back(), first_low);
  EXPECT_EQ(ledger().waiting("ann"), 95u);
  for (int count = 0; count < 5; ++count) more.push_back(std::move(*enter("ann", Priority::high)));
  expect_full(enter("ann", Priority::high));
  EXPECT_EQ(evicted.size(), 35u);
}

TEST_F(Ledger, NeverEvictsFromAnothersQueue) {
  capacity = 10;
  fill("bob", 5, Priority::low);
  fill("ann", 10, Priority::high);
  expect_full(enter("ann", Priority::high));
  EXPECT_TRUE(evicted.empty());
  EXPECT_EQ(ledger().waiting("bob"), 5u);
}

TEST_F(Ledger, EvictsAsManyAsALargeRequestNeedsOrNone) {
  options.total_bytes = 4000;
  auto normal = enter("ann", Priority::normal, 300);
  std::vector<Served<QueueLedger::Place>> lows;
  for (int count = 0; count < 3; ++count) lows.push_back(enter("ann", Priority::low, 200));
  expect_full(enter("ann", Priority::high, 800));
  EXPECT_TRUE(evicted.empty()) << "it would not fit without them either";
  EXPECT_TRUE(enter("ann", Priority::high, 400));
  EXPECT_EQ(evicted.size(), 2u);
  expect_full(enter("ann", Priority::low, 600));
}

TEST_F(Ledger, AnEntryWithoutAnEvictorIsEvictedAllTheSame) {
  capacity = 1;
  auto low =
      ledger().enter({.principal = "ann", .capacity = 1, .priority = Priority::low, .bytes = 0, .evict = {}});
  ASSERT_TRUE(low);
  EXPECT_TRUE(enter("ann", Priority::high));
  EXPECT_FALSE(low->leave(QueueExit::served));
}

TEST_F(Ledger, SuggestsToComeBackAfterAsLongAsOthersWaited) {
  capacity = 10;
  fill("ann", 10);
  EXPECT_EQ(enter("ann").error().retry_after, 1s) << "nobody was served yet";
  now += 6500ms;
  ASSERT_TRUE(places.back().leave(QueueExit::served));
  places.pop_back();
  fill("ann", 1);
  EXPECT_EQ(enter("ann").error().retry_after, 7s);
  now += 1h;
  while (places.size() > 1) {
    places.back().leave(QueueExit::served);
    places.pop_back();
  }
  fill("ann", 9);
  EXPECT_EQ(enter("ann").error().retry_after, 60s) << "but not for ever";
}

TEST_F(Ledger, HoldsItsBoundsUnderEightThreads) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 4'000;
  constexpr std::size_t kCapacity = 20;
  options.total_bytes = 64 * 1024;
  std::atomic<int> evictions{0};
  std::atomic<int> accepted{0};
  std::atomic<int> refused{0};
  std::atomic<bool> beyond{false};
  QueueLedger shared(options, observer, nullptr);
  const auto play = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<QueueLedger::Place> mine;
    for (int round = 0; round < kRounds; ++round) {
      const std::string who = "user" + std::to_string(random() % 4);
      auto place = shared.enter({.principal = who,
                                 .capacity = kCapacity,
                                 .priority = kPriorities[random() % 3],
                                 .bytes = random() % 1024,
                                 .evict = [&evictions] { ++evictions; }});
      if (place) {
        ++accepted;
        mine.push_back(std::move(*place));
      } else {
        ++refused;
      }
      const auto counts = shared.counts();
      if (shared.waiting(who) > kCapacity || counts.bytes > options.total_bytes || counts.principals > 4)
        beyond = true;
      if (mine.size() > random() % 16) {
        std::swap(mine[random() % mine.size()], mine.back());
        if (random() % 4 != 0) mine.back().leave(QueueExit::served);
        mine.pop_back();
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) threads.emplace_back(play, thread + 1);
  for (auto& thread : threads) thread.join();

  EXPECT_FALSE(beyond);
  EXPECT_EQ(accepted + refused, kThreads * kRounds);
  EXPECT_GT(refused, 0);
  EXPECT_GT(evictions, 0);
  EXPECT_EQ(observer.entered, accepted);
  EXPECT_EQ(observer.exits(), accepted) << "each ended in exactly one way";
  EXPECT_EQ(observer.left[QueueExit::evicted], evictions);
  EXPECT_EQ(observer.refused, refused);
  const auto counts = shared.counts();
  EXPECT_EQ(counts.waiting + counts.bytes + counts.principals, 0u);
}

}  // namespace
}  // namespace tunnel
