#include <gtest/gtest.h>

#include "tunnelctl/patterns/miner.h"

namespace {

using namespace tunnelctl::patterns;
using namespace std::chrono_literals;

Mined mined(std::initializer_list<std::pair<const char*, std::uint64_t>> patterns) {
  Mined all;
  for (const auto& [text, count] : patterns) {
    all.lines += count;
    all.patterns.push_back({.text = text, .count = count});
  }
  for (auto& pattern : all.patterns)
    pattern.share = static_cast<double>(pattern.count) / static_cast<double>(all.lines);
  return all;
}

const char* word(Change::Kind kind) {
  switch (kind) {
    case Change::Kind::fresh: return "fresh";
    case Change::Kind::grown: return "grown";
    case Change::Kind::shrunk: return "shrunk";
    case Change::Kind::gone: return "gone";
    case Change::Kind::unknown: return "unknown";
    case Change::Kind::same: break;
  }
  return "same";
}

TEST(Comparison, JudgesCountsByAPoissonTestAndAtLeastAFactorOfTwo) {
  struct Row {
    std::uint64_t before;
    std::chrono::nanoseconds before_span;
    std::uint64_t now;
    std::chrono::nanoseconds now_span;
    const char* kind;
    double times;
  };
  const Row rows[] = {
      {100, 1h, 100, 1h, "same", 1},
      {100, 1h, 199, 1h, "same", 1.99},  // sure, but not doubled
      {100, 1h, 200, 1h, "grown", 2},
      {100, 1h, 50, 1h, "shrunk", 0.5},
      {100, 1h, 51, 1h, "same", 0.51},
      {1, 1h, 2, 1h, "same", 2},     // doubled, but by chance
      {1, 1h, 10, 1h, "same", 10},   // 1.2 %
      {1, 1h, 14, 1h, "grown", 14},  // 0.098 %
      {1, 1h, 13, 1h, "same", 13},   // 0.18 %
      {10, 1h, 2, 1h, "same", 0.2},
      {600, 1h, 100, 10min, "same", 1},  // the same rate in a sixth of the time
      {600, 1h, 600, 10min, "grown", 6},
      {100, 10min, 100, 1h, "shrunk", 1.0 / 6},
      {20, 1h, 0, 1h, "gone", 0},
      {20, 1h, 0, 1min, "same", 0},  // a minute is too short to miss it
      {3, 1h, 0, 1h, "same", 0},
      {0, 1h, 1, 1h, "fresh", 0},
      {1'000'000'000, 1h, 2'100'000'000, 1h, "grown", 2.1},
      {1'000'000'000, 1h, 1'000'100'000, 1h, "same", 1.0001},
      {100, 0s, 300, 1h, "grown", 3},  // an unknown time: counts are compared
      {100, 1h, 300, -1s, "grown", 3},
  };
  for (const auto& row : rows) {
    const auto before = row.before > 0 ? mined({{"x", row.before}}) : mined({});
    const auto now = row.now > 0 ? mined({{"x", row.now}}) : mined({});
    const auto changes = compare(before, row.before_span, now, row.now_span);
    ASSERT_EQ(changes.size(), 1U);
    EXPECT_STREQ(word(changes[0].kind), row.kind) << row.before << " -> " << row.now;
    EXPECT_NEAR(changes[0].times, row.times, 1e-9) << row.before << " -> " << row.now;
    EXPECT_EQ(changes[0].before, row.before);
    EXPECT_EQ(changes[0].now.count, row.now);
  }
}

TEST(Comparison, DoesNotCallNewWhatTheBaselineMayHaveGivenUp) {
  struct Row {
    std::uint64_t given_up_before, before, given_up_now, now;
    const char* kind;
  };
  const Row rows[] = {
      {0, 0, 0, 40, "fresh"},       {500, 0, 0, 40, "unknown"},  // all 40 a time may be among the 500
      {5, 0, 0, 40, "fresh"},                                    // 5 at most before: grown at least
      {40, 0, 0, 41, "unknown"},    {0, 40, 0, 0, "gone"},      {0, 40, 500, 0, "unknown"},
      {0, 40, 5, 0, "gone"},        {500, 40, 500, 41, "same"},  // what both have is compared as ever
      {500, 40, 500, 400, "grown"},
  };
  for (const auto& row : rows) {
    auto before = row.before > 0 ? mined({{"x", row.before}}) : mined({});
    auto now = row.now > 0 ? mined({{"x", row.now}}) : mined({});
    before.given_up = row.given_up_before;
    now.given_up = row.given_up_now;
    const auto changes = compare(before, 1h, now, 1h);
    ASSERT_EQ(changes.size(), 1U);
    EXPECT_STREQ(word(changes[0].kind), row.kind) << row.before << " -> " << row.now;
  }
}

TEST(Comparison, IsEmptyWithoutPatterns) {
  EXPECT_TRUE(compare(Mined{}, 1h, Mined{}, 1h).empty());
}

TEST(Comparison, PutsFreshAndGrownOnesFirstByHowSureItIs) {
  const auto changes = compare(
      mined({{"steady", 500}, {"grown a little", 20}, {"grown a lot", 20}, {"shrunk", 90}, {"gone", 900}}),
      1h,
      mined({{"steady", 510},
             {"grown a little", 60},
             {"grown a lot", 600},
             {"shrunk", 20},
             {"fresh", 40},
             {"fresh, once", 1}}),
      1h);
  std::vector<std::string> order;
  for (const auto& change : changes) order.push_back(std::string(word(change.kind)) + ": " + change.now.text);
  EXPECT_EQ(order,
            std::vector<std::string>({"grown: grown a lot", "fresh: fresh", "grown: grown a little",
                                      "fresh: fresh, once", "gone: gone", "shrunk: shrunk", "same: steady"}));
}

TEST(Comparison, ShowsTheBaselinesPatternOfWhatIsGone) {
  auto before = mined({{"x", 50}});
  before.patterns[0].level = "error";
  before.patterns[0].samples = {"x"};
  const auto changes = compare(before, 1h, Mined{}, 1h);
  EXPECT_EQ(changes[0].now.text, "x");
  EXPECT_EQ(changes[0].now.count, 0U);
  EXPECT_EQ(changes[0].now.share, 0);
  EXPECT_EQ(changes[0].now.level, "error");
  EXPECT_EQ(changes[0].now.samples.size(), 1U);
}

TEST(Comparison, TakesATextAndItsMoreGeneralFormForOnePattern) {
  // One window saw one service only, so that its name looked like a part of the text.
  const auto one = compare(mined({{"unknown service <*> at home", 50}}), 1h,
                           mined({{"unknown service db at home", 55}}), 1h);
  ASSERT_EQ(one.size(), 1U);
  EXPECT_STREQ(word(one[0].kind), "same");
  EXPECT_EQ(one[0].now.text, "unknown service <*> at home");
  EXPECT_EQ(one[0].now.count, 55U);

  const auto two = compare(mined({{"get /a=x of it", 30}, {"get /a=y of it", 20}}), 1h,
                           mined({{"get /a=<*> of it", 200}}), 1h);
  ASSERT_EQ(two.size(), 1U);
  EXPECT_STREQ(word(two[0].kind), "grown");
  EXPECT_EQ(two[0].before, 50U);

  // What stands for nearly everything is nobody's more general form.
  const auto vague =
      compare(mined({{"<*> <*> done", 50}}), 1h, mined({{"<*> <*> done", 50}, {"disk is done", 9}}), 1h);
  ASSERT_EQ(vague.size(), 2U);
  EXPECT_STREQ(word(vague[0].kind), "fresh");
  EXPECT_EQ(vague[0].now.text, "disk is done");
}

}  // namespace
