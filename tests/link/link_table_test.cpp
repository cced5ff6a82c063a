#include "link/link_table.h"

#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/link/cut_carriers.h"
#include "tests/support/run_async.h"

namespace links {
namespace {

struct LinkTableTest : testing::Test {
  std::shared_ptr<Link> make_link() {
    auto& pair = pairs.emplace_back(std::make_unique<cut::Pair>(context));
    support::run_async(context, pair->establish());
    return pair->server;
  }
  boost::asio::io_context context;
  std::vector<std::unique_ptr<cut::Pair>> pairs;
};

TEST_F(LinkTableTest, FindsALinkForItsPrincipalOnly) {
  LinkTable table;
  const auto link = make_link();
  const auto place = table.enter(link, context, "ann");
  const auto found = table.find(link->id(), "ann");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->home, &context);
  EXPECT_EQ(found->link.lock(), link);
  EXPECT_FALSE(table.find(link->id(), "bob"));
  EXPECT_FALSE(table.find(SessionId{}, "ann"));
}

TEST_F(LinkTableTest, APlaceIsLeftWhenItDies) {
  LinkTable table;
  const auto one = make_link();
  const auto other = make_link();
  {
    auto place = table.enter(one, context, "ann");
    auto moved = std::move(place);
    EXPECT_EQ(table.size(), 1U);
    place = table.enter(other, context, "ann");
    EXPECT_EQ(table.size(), 2U);
    moved = std::move(place);  // leaves the first
    EXPECT_EQ(table.size(), 1U);
    EXPECT_FALSE(table.find(one->id(), "ann"));
    EXPECT_TRUE(table.find(other->id(), "ann"));
  }
  EXPECT_EQ(table.size(), 0U);
}

TEST_F(LinkTableTest, DoesNotKeepALinkAlive) {
  LinkTable table;
  auto link = make_link();
  const auto id = link->id();
  const auto place = table.enter(link, context, "ann");
  pairs.clear();  // closes it
  link.reset();
  support::run_async(context, cut::settle());
  ASSERT_TRUE(table.find(id, "ann"));
  EXPECT_TRUE(table.find(id, "ann")->link.expired());
}

TEST_F(LinkTableTest, AnAgentsNewStartEndsTheLinksOfItsEarlierOnesAndNobodyElses) {
  LinkTable table;
  struct Row {
    const char* principal;
    LinkTable::Agent agent;
    bool ends;
  };
  const Row rows[] = {
      {"ann", {"laptop", "first boot"}, true},
      {"ann", {"laptop", "even earlier"}, true},
      {"ann", {"laptop", "second boot"}, false},
      {"ann", {"nas", "first boot"}, false},
      {"bob", {"laptop", "first boot"}, false},
      {"ann", {"laptop", ""}, false},
      {"ann", {}, false},
  };
  std::vector<std::shared_ptr<Link>> links;
  std::vector<LinkTable::Place> places;
  for (const auto& row : rows) {
    links.push_back(make_link());
    places.push_back(table.enter(links.back(), context, row.principal, row.agent));
  }
  table.end_earlier("ann", {});
  table.end_earlier("ann", {"laptop", "second boot"});
  EXPECT_EQ(links[0]->state(), Link::State::attached);  // not within the call: each on its own thread
  support::run_async(context, cut::settle());
  for (std::size_t i = 0; i < std::size(rows); ++i) {
    SCOPED_TRACE(testing::Message() << rows[i].principal << "'s " << rows[i].agent.id << ", "
                                    << rows[i].agent.boot_id);
    EXPECT_EQ(links[i]->state(), rows[i].ends ? Link::State::over : Link::State::attached);
  }
}

TEST_F(LinkTableTest, MayBeUsedByManyThreads) {
  LinkTable table;
  const auto link = make_link();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&table, &link, this] {
      for (int round = 0; round < 200; ++round) {
        const auto place = table.enter(link, context, "ann");
        table.find(link->id(), "ann");
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(table.size(), 0U);
}

}  // namespace
}  // namespace links
