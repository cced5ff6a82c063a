#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/metric_names.h"
#include "tunnelctl/incident/enrichment_parts.h"
#include "tunnelctl/logql/parser.h"
#include "tunnelctl/promql/contract.h"
#include "tunnelctl/promql/lint.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::incident {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = Question::Kind;

promql::Contract contract() {
  std::vector<promql::ContractMetric> metrics;
  for (const auto& metric : metric_names::kAll) {
    if (metric.since != metric_names::Since::now) continue;
    promql::ContractMetric one{.name = metric.name, .labels = {}};
    one.type = metric.type == metric_names::Type::counter ? promql::ContractMetric::Type::counter
               : metric.type == metric_names::Type::gauge ? promql::ContractMetric::Type::gauge
                                                          : promql::ContractMetric::Type::histogram;
    for (const auto label : metric.labels)
      if (!label.empty()) one.labels.emplace_back(label);
    metrics.push_back(std::move(one));
  }
  return {metrics, {}};
}

std::string ids(const std::vector<promql::Finding>& findings) {
  std::string text;
  for (const auto& finding : findings) text += finding.check + ": " + finding.message + "\n";
  return text;
}

Result<std::string> expand(const char* expr, std::vector<Label> labels = {}) {
  return expanded({.expr = expr}, {.labels = std::move(labels)}, EnrichmentOptions());
}

TEST(DefaultQuestions, AskOnlyForWhatTunneldExposesAndMeanSomething) {
  const auto known = contract();
  promql::LintOptions lint_options;
  lint_options.contract = &known;
  lint_options.scrape_interval = std::chrono::seconds(15);
  for (const auto& question : default_questions()) {
    SCOPED_TRACE(question.name);
    const auto expr = expand(question.expr.c_str());
    ASSERT_TRUE(expr) << expr.error().message;
    if (question.kind == Kind::logs || question.kind == Kind::patterns) {
      EXPECT_TRUE(logql::parse(*expr)) << *expr;
      continue;
    }
    const auto ast = promql::parse(*expr);
    ASSERT_TRUE(ast) << ast.error().message;
    EXPECT_EQ(ids(promql::check_contract(*ast, known)), "");
    EXPECT_EQ(ids(promql::lint(*ast, lint_options)), "");
  }
}

TEST(DefaultQuestions, PassTheirOwnCheck) {
  const auto good = check_questions(default_questions());
  EXPECT_TRUE(good) << good.error().message;
}

TEST(DefaultQuestions, HaveNamesOfTheirOwnAndSomethingForEachKind) {
  std::set<std::string> names;
  for (const auto& question : default_questions())
    EXPECT_TRUE(names.insert(question.name).second) << question.name;
  for (const std::string kind :
       {"breaker", "upstream", "agent", "daemon", "audit", "overload", "alert", "manual"}) {
    std::size_t own = 0;
    for (const auto& question : default_questions())
      own += testing::Value(question.kinds, testing::Contains(kind)) ? 1U : 0U;
    EXPECT_GE(own, 1U) << kind;
  }
}

TEST(Questions, HaveTheSubjectsLabelsPutIn) {
  const std::vector<Label> labels{{"service", "api"}, {"odd", "a\"b\\c\nd"}};
  EXPECT_EQ(*expand("x{s=\"${service}\"}[${window}]", labels), "x{s=\"api\"}[30m]");
  EXPECT_EQ(*expand("x{s=\"${odd}\"}", labels), "x{s=\"a\\\"b\\\\c\\nd\"}");
  EXPECT_EQ(*expand("${streams} |= \"$\" | json", labels), "{job=\"tunneld\"} |= \"$\" | json");
  EXPECT_EQ(*expand("x{s=\"\\\"${service}\"}", labels), "x{s=\"\\\"api\"}");
  const auto missing = expand("x{s=\"${agent}\"}", labels);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "the incident has no label agent");
}

TEST(Questions, ThatCannotWorkAreRefusedByName) {
  struct Row {
    Question question;
    const char* says;
  };
  const Row rows[] = {
      {{.name = "", .expr = "up"}, "q[1].name: is missing"},
      {{.name = "a", .expr = " "}, "q[1].expr: is missing"},
      {{.name = "a", .expr = "sum(rate(x[5m])"}, "q[1].expr: is no PromQL: 1:16: parse error"},
      {{.name = "a", .expr = "x{a=${service}}"},
       "q[1].expr: ${service} must stand in double quotes, as a label's value"},
      {{.name = "a", .expr = "x{a='${service}'}"}, "must stand in double quotes"},
      {{.name = "a", .expr = "up", .unit = "miles"},
       "q[1].unit: \"miles\" is none; allowed: percent, seconds, bytes, per second, or nothing"},
      {{.name = "a", .expr = "up", .kinds = {"breaker", "weather"}},
       "q[1].kinds: \"weather\" is none; allowed: breaker"},
      {{.kind = Kind::logs, .name = "a", .expr = "up"}, "q[1].expr: is no LogQL: "},
      {{.kind = Kind::patterns, .name = "a", .expr = "count_over_time(${streams}[${window}])"},
       "q[1].expr: gives numbers; of kind logs and patterns it must give lines"},
  };
  for (const auto& row : rows) {
    const auto result = check_questions({{.name = "good", .expr = "up"}, row.question}, "q");
    ASSERT_FALSE(result) << row.says;
    EXPECT_EQ(result.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(result.error().message, HasSubstr(row.says));
  }
  EXPECT_TRUE(check_questions({}));
}

}  // namespace
}  // namespace tunnelctl::incident
