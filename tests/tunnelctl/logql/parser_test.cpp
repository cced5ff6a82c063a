#include "tunnelctl/logql/parser.h"

#include <gmock/gmock.h>

#include "tunnelctl/logql/patterns.h"

using namespace tunnelctl::logql;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

LogQuery parsed(std::string_view text) {
  auto query = parse(text);
  EXPECT_TRUE(query) << text << ": " << query.error().message;
  return query ? std::move(*query) : LogQuery{};
}

std::vector<std::string> uses(const LogQuery& query) {
  std::vector<std::string> out;
  for (const auto& use : query.labels_used) out.push_back(use.where + " " + use.label);
  return out;
}

}  // namespace

TEST(LogqlFacts, ListSelectorsWithRangeAndFunction) {
  const auto good = parsed(
      R"(sum(rate({service="tunneld",level=~"error|warn"} |= "x" [5m])) / count_over_time({a="b"}[1h]))");
  ASSERT_EQ(good.selectors.size(), 2u);
  EXPECT_EQ(good.selectors[0].function, "rate");
  EXPECT_EQ(good.selectors[0].range, 5min);
  ASSERT_EQ(good.selectors[0].matchers.size(), 2u);
  EXPECT_EQ(good.selectors[0].matchers[1].label, "level");
  EXPECT_EQ(good.selectors[0].matchers[1].op, MatchOp::regexp);
  EXPECT_EQ(good.selectors[1].function, "count_over_time");
  EXPECT_EQ(good.selectors[1].range, 1h);
  ASSERT_EQ(good.line_filters.size(), 1u);
  EXPECT_EQ(good.line_filters[0].op, "|=");
  EXPECT_EQ(good.line_filters[0].text, "x");
}

TEST(LogqlFacts, GiveTheSelectorsPlace) {
  const std::string text = R"(rate( {app="x"} [5m]))";
  const auto query = parsed(text);
  const auto span = query.selectors[0].span;
  EXPECT_EQ(text.substr(span.begin, span.end - span.begin), R"({app="x"})");
}

TEST(LogqlFacts, NameLabelsUsedAndMade) {
  const auto query = parsed(
      R"(sum by (a) (sum_over_time({app="x"} | json b="c" | pattern "<d> <_>" | e > 5 or f="g" | label_format h=i | drop j | unwrap k | l="" [5m])))");
  EXPECT_THAT(uses(query), ElementsAre("by a", "filter e", "filter f", "label_format i", "drop j", "unwrap k",
                                       "filter l"));
  EXPECT_THAT(query.labels_made, ElementsAre("b", "d", "h"));
  EXPECT_FALSE(query.makes_any_label);
  EXPECT_TRUE(parsed(R"({app="x"} | json)").makes_any_label);
  EXPECT_TRUE(parsed(R"({app="x"} | logfmt --strict)").makes_any_label);
}

TEST(LogqlFacts, NameMatchingLabelsAndReplacements) {
  const auto query = parsed(
      R"q(label_replace(rate({a="b"}[5m]), "made", "$1", "source", "(.*)") * on(m) group_left(n) rate({a="c"}[5m]))q");
  EXPECT_THAT(uses(query), ElementsAre("label_replace source", "on m", "group_left n"));
  EXPECT_THAT(query.labels_made, ElementsAre("made"));
}

TEST(LogqlParser, StopsAtDeepNestingAndLongText) {
  const auto refusal = [](const std::string& text) {
    const auto query = parse(text);
    return query ? std::string("accepted") : query.error().message;
  };
  EXPECT_THAT(refusal(std::string(100'000, '(')), HasSubstr("nests too deeply"));
  EXPECT_THAT(refusal("rate(" + std::string(100'000, '(')), HasSubstr("nests too deeply"));
  EXPECT_THAT(refusal("{a=\"b\"} | " + std::string(100'000, '(')), HasSubstr("nests too deeply"));
  EXPECT_THAT(refusal("{a=\"" + std::string(131'072, 'b') + "\"}"), HasSubstr("input size too long"));
  std::string chain = "1";
  for (int i = 0; i < 10'000; ++i) chain += " + 1";
  EXPECT_EQ(refusal(chain), "accepted");
}

TEST(LogqlPatterns, NameTheirCaptures) {
  EXPECT_THAT(*pattern_captures(R"(<ip> - <_> [<ts>] "<method> < x>")"), ElementsAre("ip", "ts", "method"));
  EXPECT_THAT(*regexp_captures(R"((?P<a>\d+) (?P<b>x))"), ElementsAre("a", "b"));
}

TEST(LogqlPatterns, ReadTemplatesToTheirEnd) {
  for (const char* good :
       {"", "plain }} text", "{{.a}} {{ .b | ToUpper }}", R"({{ if eq .a "}}" }}x{{end}})", "{{/* {{ */}}"}) {
    EXPECT_TRUE(check_template(good)) << good;
  }
  for (const char* bad : {"{{", "{{ .a", R"({{ "}} )", "{{/* }}"}) EXPECT_FALSE(check_template(bad)) << bad;
}
