#include "tunnel/fair_queue.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace tunnel {
namespace {

/// Counts per priority, of a stretch of turns.
using Tally = std::array<unsigned, 3>;

Tally tally(const std::vector<Priority>& turns, std::size_t from, std::size_t count) {
  Tally tally{};
  for (std::size_t at = from; at < from + count; ++at) ++tally[index_of(turns[at])];
  return tally;
}

/// Keeps `kept` of each priority waiting, and takes `count` turns.
std::vector<Priority> take_turns(PriorityQueue<Priority>& queue, const std::vector<Priority>& kept,
                                 std::size_t count) {
  std::vector<Priority> turns;
  for (std::size_t at = 0; at < count; ++at) {
    for (const auto priority : kept)
      if (queue.size(priority) == 0) queue.push(priority, priority);
    turns.push_back(queue.take());
  }
  return turns;
}

TEST(PriorityQueue, IsEmptyAtFirstAndAtLast) {
  PriorityQueue<int> queue;
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.next(), nullptr);
  queue.push(Priority::low, 7);
  EXPECT_EQ(queue.size(), 1u);
  ASSERT_NE(queue.next(), nullptr);
  EXPECT_EQ(*queue.next(), 7);
  EXPECT_EQ(queue.take(), 7);
  EXPECT_TRUE(queue.empty());
}

TEST(PriorityQueue, ServesThoseOfOnePriorityAsTheyCame) {
  for (const auto priority : kPriorities) {
    PriorityQueue<int> queue;
    for (int item = 0; item < 100; ++item) queue.push(priority, item);
    for (int item = 0; item < 100; ++item) EXPECT_EQ(queue.take(), item);
  }
}

TEST(PriorityQueue, Gives8Turns4Turns1TurnWhileAllWait) {
  PriorityQueue<Priority> queue;
  const std::vector<Priority> all{Priority::low, Priority::normal, Priority::high};
  const auto turns = take_turns(queue, all, 13 * 50);
  for (std::size_t from = 0; from + 13 <= turns.size(); ++from)
    ASSERT_EQ(tally(turns, from, 13), (Tally{8, 4, 1})) << "in the 13 turns from the " << from << "th";
  EXPECT_EQ(turns.front(), Priority::high);
}

TEST(PriorityQueue, KeepsTheProportionOfThoseWhoWait) {
  struct Row {
    std::vector<Priority> kept;
    std::size_t round;
    Tally in_round;
  };
  const Row rows[] = {
      {{Priority::high, Priority::normal}, 12, {8, 4, 0}},
      {{Priority::high, Priority::low}, 9, {8, 0, 1}},
      {{Priority::normal, Priority::low}, 5, {0, 4, 1}},
      {{Priority::low}, 3, {0, 0, 3}},
  };
  for (const auto& row : rows) {
    PriorityQueue<Priority> queue;
    const auto turns = take_turns(queue, row.kept, row.round * 20);
    for (std::size_t from = 0; from + row.round <= turns.size(); ++from)
      ASSERT_EQ(tally(turns, from, row.round), row.in_round);
  }
}

TEST(PriorityQueue, APauseNeitherEarnsNorCostsTurns) {
  PriorityQueue<Priority> queue;
  take_turns(queue, {Priority::high, Priority::normal}, 1000);  // low did not wait for any of these
  const std::vector<Priority> all{Priority::high, Priority::normal, Priority::low};
  auto turns = take_turns(queue, all, 13 * 4);
  EXPECT_EQ(tally(turns, 0, 13)[index_of(Priority::low)], 1u) << "is not owed what it did not wait for";
  EXPECT_EQ(tally(turns, 13, 13), (Tally{8, 4, 1}));

  while (!queue.empty()) queue.take();
  take_turns(queue, {Priority::low}, 1000);  // low alone: nobody was kept waiting
  turns = take_turns(queue, all, 13 * 4);
  EXPECT_EQ(tally(turns, 13, 13), (Tally{8, 4, 1}));
  EXPECT_GE(tally(turns, 0, 26)[index_of(Priority::low)], 1u) << "nor does it owe for those";
}

TEST(PriorityQueue, LowIsServedWithin13TurnsWhateverComesAndGoes) {
  std::mt19937 random(7);
  PriorityQueue<Priority> queue;
  bool low_waits = false;
  std::size_t low_since = 0;
  for (std::size_t turn = 0; turn < 20'000; ++turn) {
    if (!low_waits && random() % 4 == 0) {
      queue.push(Priority::low, Priority::low);
      low_waits = true;
      low_since = turn;
    }
    // The others come one by one, leave again, or flood: each way to seem always new.
    if (random() % 2 == 0 && queue.size(Priority::high) == 0) queue.push(Priority::high, Priority::high);
    if (random() % 2 == 0 && queue.size(Priority::normal) < 3) queue.push(Priority::normal, Priority::normal);
    if (queue.size(Priority::high) == 0) {
      const auto place = queue.push(Priority::high, Priority::high);
      queue.remove(place);
      queue.push(Priority::high, Priority::high);
    }
    if (queue.take() != Priority::low) continue;
    ASSERT_LE(turn - low_since, 13u);
    low_waits = false;
  }
}

TEST(PriorityQueue, ARemovedItemUsesNoTurnAndLeavesTheOrder) {
  PriorityQueue<int> queue;
  std::vector<PriorityQueue<int>::Place> places;
  for (int item = 0; item < 6; ++item) places.push_back(queue.push(Priority::normal, item));
  queue.remove(places[0]);
  queue.remove(places[3]);
  queue.remove(places[5]);
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(queue.take(), 1);
  EXPECT_EQ(queue.take(), 2);
  EXPECT_EQ(queue.take(), 4);
  EXPECT_TRUE(queue.empty());
}

TEST(PriorityQueue, VisitsAllThatWait) {
  PriorityQueue<int> queue;
  queue.push(Priority::low, 3);
  queue.push(Priority::high, 1);
  queue.push(Priority::normal, 2);
  std::multiset<int> seen;
  queue.for_each([&seen](int item) { seen.insert(item); });
  EXPECT_EQ(seen, (std::multiset<int>{1, 2, 3}));
}

TEST(FairQueue, PrincipalsTakeTurnsWhateverTheirPriorities) {
  FairQueue<std::string> queue;
  for (const char* item : {"a1", "a2", "a3"}) queue.push("ann", Priority::high, item);
  for (const char* item : {"b1", "b2"}) queue.push("bob", Priority::low, item);
  queue.push("cyd", Priority::normal, "c1");
  EXPECT_EQ(queue.principals(), 3u);
  std::vector<std::string> order;
  while (!queue.empty()) {
    EXPECT_EQ(*queue.next(), *queue.next()) << "looking uses no turn";
    order.push_back(queue.take());
  }
  EXPECT_EQ(order, (std::vector<std::string>{"a1", "b1", "c1", "a2", "b2", "a3"}));
  EXPECT_EQ(queue.next(), nullptr);
  EXPECT_EQ(queue.principals(), 0u) << "nothing is kept of who has nothing to wait for";
}

TEST(FairQueue, APriorityCountsOnlyAgainstItsOwnPrincipal) {
  FairQueue<std::string> queue;
  queue.push("ann", Priority::low, "a low");
  queue.push("ann", Priority::high, "a high");
  for (int item = 0; item < 8; ++item) queue.push("bob", Priority::high, "b high");
  EXPECT_EQ(queue.take(), "a high");
  EXPECT_EQ(queue.take(), "b high");
  EXPECT_EQ(queue.take(), "a low") << "bob's higher ones do not go before it";
}

TEST(FairQueue, AThousandItemsOfOneDelayAnothersFirstByOneTurn) {
  FairQueue<int> queue;
  for (int item = 0; item < 1000; ++item) queue.push("flood", Priority::high, item);
  for (int taken = 0; taken < 500; ++taken) {
    queue.take();
    queue.push("victim", Priority::low, -1);
    const int first = queue.take();
    const int second = first == -1 ? -1 : queue.take();
    ASSERT_EQ(second, -1) << "after " << taken;
    if (queue.size() < 10) break;
  }
}

TEST(FairQueue, RemovingTheLastOfAPrincipalGivesItsTurnToTheNext) {
  FairQueue<int> queue;
  const auto only = queue.push("ann", Priority::normal, 1);
  queue.push("bob", Priority::normal, 2);
  const auto late = queue.push("bob", Priority::low, 3);
  queue.remove(only);
  EXPECT_EQ(queue.principals(), 1u);
  EXPECT_EQ(queue.take(), 2);
  queue.remove(late);
  EXPECT_TRUE(queue.empty());
}

TEST(FairQueue, LosesNothingServesNothingTwiceAndKeepsTheOrder) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    FairQueue<int> queue;
    struct Known {
      std::string principal;
      Priority priority;
      FairQueue<int>::Place place;
    };
    std::map<int, Known> waiting;   // by item: later ones have higher numbers
    std::deque<std::string> turns;  // of principals, as they should be
    const auto leaves = [&](std::map<int, Known>::iterator item) {
      const auto principal = item->second.principal;
      waiting.erase(item);
      const bool more = std::any_of(waiting.begin(), waiting.end(),
                                    [&](const auto& other) { return other.second.principal == principal; });
      if (!more) std::erase(turns, principal);
    };
    int next_item = 0;
    for (int step = 0; step < 3'000; ++step) {
      const auto action = random() % 10;
      if (action < 5) {
        const std::string principal = "user" + std::to_string(random() % 6);
        const auto priority = kPriorities[random() % 3];
        const auto place = queue.push(principal, priority, next_item);
        waiting.emplace(next_item++, Known{principal, priority, place});
        if (std::find(turns.begin(), turns.end(), principal) == turns.end()) turns.push_back(principal);
      } else if (action < 9 && !queue.empty()) {
        const auto item = waiting.find(queue.take());
        ASSERT_NE(item, waiting.end()) << "served twice, or never came";
        ASSERT_EQ(item->second.principal, turns.front());
        turns.push_back(turns.front());
        turns.pop_front();
        for (const auto& [other, known] : waiting) {
          const bool same =
              known.principal == item->second.principal && known.priority == item->second.priority;
          ASSERT_FALSE(same && other < item->first) << "first come, first served";
        }
        leaves(item);
      } else if (action == 9 && !waiting.empty()) {
        auto item = waiting.begin();
        std::advance(item, random() % waiting.size());
        queue.remove(item->second.place);
        leaves(item);
      }
      ASSERT_EQ(queue.size(), waiting.size());
      ASSERT_EQ(queue.principals(), turns.size());
    }
    while (!queue.empty()) ASSERT_EQ(waiting.erase(queue.take()), 1u);
    EXPECT_TRUE(waiting.empty());
  }
}

}  // namespace
}  // namespace tunnel
