#include "tunnelctl/promql/parser.h"

#include <gmock/gmock.h>

#include <cmath>
#include <string>

#include "tunnelctl/promql/functions.h"

using namespace tunnelctl::promql;
using namespace std::chrono_literals;

namespace {

Ast parsed(std::string_view text, const ParseOptions& options = {}) {
  auto ast = parse(text, options);
  EXPECT_TRUE(ast) << text << ": " << ast.error().message;
  return ast ? std::move(*ast) : Ast{};
}

std::string refusal(std::string_view text, const ParseOptions& options = {}) {
  const auto ast = parse(text, options);
  return ast ? "accepted" : ast.error().message;
}

/// The tree with a parenthesis for every operator.
std::string shape(const Node& node) {
  if (const auto* binary = node.get_if<Binary>()) {
    return "(" + shape(*binary->left) + " " + std::string(spelling(binary->op)) + " " +
           shape(*binary->right) + ")";
  }
  if (const auto* unary = node.get_if<Unary>())
    return std::string(unary->minus ? "(- " : "(+ ") + shape(*unary->inner) + ")";
  return print(node);
}

}  // namespace

TEST(PromqlParser, BindsOperatorsAsPrometheusDoes) {
  struct Case {
    const char* text;
    const char* shape;
  };
  const Case cases[] = {
      {"a + b * c", "(a + (b * c))"},
      {"a - b - c", "((a - b) - c)"},
      {"a ^ b ^ c", "(a ^ (b ^ c))"},
      {"-a ^ b", "(- (a ^ b))"},
      {"-a * b", "((- a) * b)"},
      {"a ^ -b * c", "((a ^ (- b)) * c)"},
      {"a ^ -b ^ c", "(a ^ (- (b ^ c)))"},
      {"a * b atan2 c", "((a * b) atan2 c)"},
      {"a == b + c", "(a == (b + c))"},
      {"a > b < c", "((a > b) < c)"},
      {"a and b > c", "(a and (b > c))"},
      {"a or b and c unless d", "(a or ((b and c) unless d))"},
      {"a + b offset 5m", "(a + b offset 5m)"},
      {"a ^ b @ 5", "(a ^ b @ 5.000)"},
      {"foo offset -2^2", "(foo offset -2s ^ 2)"},
      {"-1 ^ 2", "(- (1 ^ 2))"},
      {"2 - -1", "(2 - -1)"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(shape(*parsed(text).root), expected) << text;
}

TEST(PromqlParser, ReadsNumbersAsGoDoes) {
  struct Case {
    const char* text;
    double value;
  };
  const Case cases[] = {{"017", 15},       {"08", 8},
                        {"0x1F", 31},      {"0X_ff", 255},
                        {"1_000", 1000},   {".5", 0.5},
                        {"5.", 5},         {"1e3", 1000},
                        {"-1e-2", -0.01},  {"1h30m", 5400},
                        {"100ms", 0.1},    {"-5m", -300},
                        {"1e-400", 0},     {"9223372036854775808", 9223372036854775808.0},
                        {"Inf", HUGE_VAL}, {"-inf", -HUGE_VAL}};
  for (const auto& [text, value] : cases) {
    const auto ast = parsed(text);
    const auto* number = ast.root->get_if<Number>();
    ASSERT_NE(number, nullptr) << text;
    EXPECT_EQ(number->value, value) << text;
  }
  EXPECT_TRUE(std::isnan(parsed("NaN").root->get_if<Number>()->value));
}

TEST(PromqlParser, KnowsWhereEachNodeStands) {
  const auto ast = parsed(" sum by (a) ( rate(x{b='c'}[5m] offset 1h) ) > bool 0.5 # done");
  EXPECT_EQ(ast.text_of(ast.root->span), "sum by (a) ( rate(x{b='c'}[5m] offset 1h) ) > bool 0.5");
  const auto* comparison = ast.root->get_if<Binary>();
  ASSERT_NE(comparison, nullptr);
  EXPECT_EQ(ast.text_of(comparison->op_span), ">");
  EXPECT_TRUE(comparison->return_bool);
  const auto* sum = comparison->left->get_if<Aggregate>();
  ASSERT_NE(sum, nullptr);
  EXPECT_EQ(ast.text_of(sum->inner->span), "rate(x{b='c'}[5m] offset 1h)");
  const auto* rate = sum->inner->get_if<Call>();
  ASSERT_NE(rate, nullptr);
  const auto* matrix = rate->arguments[0]->get_if<Matrix>();
  ASSERT_NE(matrix, nullptr);
  EXPECT_EQ(ast.text_of(rate->arguments[0]->span), "x{b='c'}[5m] offset 1h");
  EXPECT_EQ(ast.text_of(matrix->selector_span), "x{b='c'}");
  EXPECT_EQ(ast.text_of(matrix->selector.matchers[0].span), "b='c'");
  EXPECT_EQ(matrix->range, 5min);
  EXPECT_EQ(matrix->modifiers.offset, 1h);
}

TEST(PromqlParser, SpansEndWithTheModifierBehindAnAggregation) {
  const auto ast = parsed("(sum(x) by (a)) / -foo");
  const auto* ratio = ast.root->get_if<Binary>();
  EXPECT_EQ(ast.text_of(ratio->left->span), "(sum(x) by (a))");
  EXPECT_EQ(ast.text_of(without_parens(*ratio->left).span), "sum(x) by (a)");
  EXPECT_EQ(ast.text_of(ratio->right->span), "-foo");
}

TEST(PromqlParser, KeepsMatchingApart) {
  const auto ast = parsed("a * on(x, y) group_left(z) b");
  const auto& matching = ast.root->get_if<Binary>()->matching;
  EXPECT_EQ(matching.kind, Matching::Labels::on);
  EXPECT_THAT(matching.labels, testing::ElementsAre("x", "y"));
  EXPECT_EQ(matching.group, Matching::Group::left);
  EXPECT_THAT(matching.include, testing::ElementsAre("z"));
}

TEST(PromqlParser, UnquotesStringsAsGoDoes) {
  struct Case {
    const char* text;
    std::string value;
  };
  const Case cases[] = {
      {R"("a\n\t\"\\")", "a\n\t\"\\"},
      {R"('it\'s "x"')", "it's \"x\""},
      {R"(`\n`)", "\\n"},
      {R"("\x41\101")", "AA"},
      {R"("\u00e9\U0001F600")", "\u00e9\U0001F600"},
      {R"("\xff")", "\xff"},
  };
  for (const auto& [text, value] : cases)
    EXPECT_EQ(parsed(text).root->get_if<String>()->value, value) << text;
}

TEST(PromqlParser, CountsLinesAndColumns) {
  EXPECT_EQ(refusal("sum(\n  rate(x)\n)"),
            "2:8: parse error: expected type range vector in call to function \"rate\", got instant vector");
  EXPECT_EQ(refusal("a # (\n+\n"), "3:1: parse error: unexpected end of input");
  EXPECT_EQ(refusal(""), "1:1: parse error: no expression found in input");
}

TEST(PromqlParser, WantsAFlagForExperiments) {
  const ParseOptions experimental{.experimental = true};
  for (const char* text : {"limitk(2, a)", "info(a, {b=\"c\"})", "a + fill(0) b",
                           "a + on(x) group_left() fill_left(1) fill_right(2) b", "rate(a[5m] anchored)",
                           "a smoothed", "sort_by_label(a, \"b\")", "mad_over_time(a[5m])", "max_of(1, 2)"}) {
    EXPECT_THAT(refusal(text),
                testing::AnyOf(testing::HasSubstr("not enabled"), testing::HasSubstr("must be enabled")))
        << text;
    const auto ast = parsed(text, experimental);
    EXPECT_EQ(print(*parsed(print(*ast.root), experimental).root), print(*ast.root));
  }
  EXPECT_EQ(refusal("info(a, b)", experimental),
            "1:9: parse error: expected label selectors only, got vector selector instead");
}

TEST(PromqlParser, TreatsFillAsANameWhereNoParenthesisFollows) {
  EXPECT_EQ(shape(*parsed("fill + fill_left").root), "(fill + fill_left)");
}

TEST(PromqlParser, StopsAtDeepNesting) {
  const auto nested = [](std::size_t depth, const std::string& open, const std::string& close) {
    std::string text;
    for (std::size_t i = 0; i < depth; ++i) text += open;
    text += "a";
    for (std::size_t i = 0; i < depth; ++i) text += close;
    return text;
  };
  for (const char* open : {"(", "sum(", "-", "a ^ ", "abs(-"}) {
    const std::string close = std::string(open).find('(') == std::string::npos ? "" : ")";
    EXPECT_NE(refusal(nested(50, open, close)), "") << open;
    EXPECT_EQ(refusal(nested(60, open, close)), "accepted") << open;
    EXPECT_THAT(refusal(nested(100'000, open, close)), testing::HasSubstr("nests too deeply")) << open;
  }
}

TEST(PromqlParser, StopsAtEndlessChains) {
  std::string chain = "a";
  for (int i = 0; i < 900; ++i) chain += " or a";
  EXPECT_EQ(refusal(chain), "accepted");
  for (int i = 0; i < 100'000; ++i) chain += " or a";
  EXPECT_THAT(refusal(chain), testing::HasSubstr("too long"));
  std::string subqueries = "a";
  for (int i = 0; i < 100'000; ++i) subqueries += "[5m:]";
  EXPECT_NE(refusal(subqueries), "accepted");
}

TEST(PromqlFunctions, AreInOrderSoThatAllAreFound) {
  EXPECT_GT(functions().size(), 80u);
  for (const auto& function : functions())
    EXPECT_EQ(find_function(function.name), &function) << function.name;
  EXPECT_EQ(find_function("Rate"), nullptr);
}
