#include "tunnelctl/promql/facts.h"

#include <gmock/gmock.h>

#include "tunnelctl/promql/parser.h"

using namespace tunnelctl::promql;
using namespace std::chrono_literals;
using testing::ElementsAre;

namespace {

struct Parsed {
  Ast ast;
  Facts found;
};

Parsed facts_of(std::string_view text) {
  auto ast = parse(text);
  EXPECT_TRUE(ast) << text << ": " << ast.error().message;
  auto found = facts(*ast->root);
  return {std::move(*ast), std::move(found)};
}

}  // namespace

TEST(PromqlFacts, ListsSelectorsWithTheFunctionAroundThem) {
  const auto [ast, found] = facts_of(
      R"(histogram_quantile(0.9, sum by (le) (rate(x_bucket{a="1"}[5m]))) > up or max_over_time({__name__="y"}[1h]))");
  ASSERT_EQ(found.selectors.size(), 3u);
  const auto& bucket = found.selectors[0];
  EXPECT_EQ(bucket.metric, "x_bucket");
  EXPECT_EQ(bucket.function, "rate");
  EXPECT_TRUE(bucket.growth);
  EXPECT_EQ(bucket.range, 5min);
  EXPECT_EQ(ast.text_of(bucket.span), R"(x_bucket{a="1"})");
  EXPECT_EQ(found.selectors[1].metric, "up");
  EXPECT_EQ(found.selectors[1].function, "");
  EXPECT_EQ(found.selectors[1].range, std::nullopt);
  EXPECT_EQ(found.selectors[2].metric, "y");
  EXPECT_FALSE(found.selectors[2].growth);
}

TEST(PromqlFacts, AnAggregationEndsTheFunction) {
  EXPECT_EQ(facts_of("ceil(sum(x))").found.selectors[0].function, "");
  EXPECT_EQ(facts_of("ceil((x) * 2)").found.selectors[0].function, "ceil");
  EXPECT_EQ(facts_of("rate(x[1h:5m])").found.selectors[0].range, 1h);
}

TEST(PromqlFacts, NamesTheLabelsUsedAndMade) {
  const auto [ast, found] = facts_of(
      R"(sum by (a) (x) * on(b) group_left(c) count without (d) (label_replace(y, "e", "$1", "f", ".*")) + ignoring(g) count_values("h", z))");
  std::vector<std::string> used;
  for (const auto& use : found.labels_used) used.push_back(use.where + " " + use.label);
  EXPECT_THAT(used,
              ElementsAre("ignoring g", "on b", "group_left c", "by a", "without d", "label_replace f"));
  EXPECT_THAT(found.labels_made, ElementsAre("e", "h"));
}

TEST(PromqlComparison, IsTakenOffTheTop) {
  struct Case {
    const char* text;
    const char* inner;
    Op op;
    double number;
  };
  const Case cases[] = {
      {"sum(rate(x[5m])) > 0.05", "sum(rate(x[5m]))", Op::greater, 0.05},
      {"a / b >= 1", "a / b", Op::greater_or_equal, 1},
      {"a == 0", "a", Op::equal, 0},
      {"a != 0", "a", Op::not_equal, 0},
      {"0.05 < a", "a", Op::greater, 0.05},
      {"1 >= a + b", "a + b", Op::less_or_equal, 1},
      {"((a < -1))", "a", Op::less, -1},
      {"(a) <= (1)", "(a)", Op::less_or_equal, 1},
      {"a > 14.4 * (1 - 0.999)", "a", Op::greater, 14.4 * (1 - 0.999)},
      {"a\n  # why\n > 5m", "a", Op::greater, 300},
      {"a > 1 > 2", "a > 1", Op::greater, 2},
  };
  for (const auto& [text, inner, op, number] : cases) {
    const auto split = split_comparison(*parse(text));
    ASSERT_TRUE(split) << text;
    EXPECT_EQ(split->inner, inner) << text;
    EXPECT_EQ(split->op, op) << text;
    EXPECT_DOUBLE_EQ(split->number, number) << text;
    EXPECT_TRUE(parse(split->inner)) << split->inner;
  }
}

TEST(PromqlComparison, StaysWhereItIsNoThreshold) {
  for (const char* text : {"a > 0.05 and b > 10", "a > b", "a > bool 1", "a", "a + 1", "1 > bool 2",
                           "a > scalar(b)", "sum(a > 1)", "absent(up == 1)", "a > 1 unless b", "-(a > 1)"}) {
    EXPECT_FALSE(split_comparison(*parse(text))) << text;
  }
}
