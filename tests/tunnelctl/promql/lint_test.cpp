#include "tunnelctl/promql/lint.h"

#include <gmock/gmock.h>

#include "tunnelctl/promql/parser.h"

using namespace tunnelctl::promql;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

namespace {

using Type = ContractMetric::Type;

const Contract& contract() {
  static const Contract value({{"requests_total", Type::counter, {"status", "code"}},
                               {"bytes", Type::counter, {}},
                               {"active", Type::gauge, {"user_tier"}},
                               {"latency_seconds", Type::histogram, {"outcome"}}},
                              {"job:errors:ratio5m"});
  return value;
}

std::vector<std::string> ids(const std::vector<Finding>& findings) {
  std::vector<std::string> out;
  for (const auto& finding : findings) out.push_back(finding.check);
  return out;
}

std::vector<std::string> lint_ids(std::string_view text, LintOptions options = {}) {
  const auto ast = parse(text);
  EXPECT_TRUE(ast) << text << ": " << ast.error().message;
  return ids(lint(*ast, options));
}

std::vector<std::string> contract_messages(std::string_view text) {
  const auto ast = parse(text);
  EXPECT_TRUE(ast) << text << ": " << ast.error().message;
  std::vector<std::string> out;
  for (const auto& finding : check_contract(*ast, contract())) {
    out.push_back(finding.check + " at " + std::string(ast->text_of(finding.span)));
  }
  return out;
}

}  // namespace

TEST(PromqlLint, FindsOneThing) {
  struct Case {
    const char* text;
    const char* check;
  };
  const Case cases[] = {
      {"requests_total", "counter-without-rate"},
      {"sum(requests_total) > 5", "counter-without-rate"},
      {"bytes", "counter-without-rate"},
      {"latency_seconds_sum / latency_seconds_count > 1 and active", "counter-without-rate"},
      {"max_over_time(requests_total[5m])", "counter-without-rate"},
      {"rate(active[5m])", "rate-of-gauge"},
      {"sum(increase(active[1h]))", "rate-of-gauge"},
      {R"(rate(requests_total{status="success"}[5m]) / rate(requests_total[5m]))", "same-label-ratio"},
      {R"((rate(requests_total{status="ok"}[5m])) / ignoring(code) rate(requests_total[5m]))",
       "same-label-ratio"},
      {R"(active{user_tier="free"} / active)", "same-label-ratio"},
      {R"(active{user_tier="free"} / on(user_tier) active)", "same-label-ratio"},
      {"histogram_quantile(0.95, sum(rate(latency_seconds_bucket[5m])))", "quantile-without-le"},
      {"histogram_quantile(0.95, sum by (outcome) (rate(latency_seconds_bucket[5m])))",
       "quantile-without-le"},
      {"histogram_quantile(0.95, sum without (le) (rate(latency_seconds_bucket[5m])))",
       "quantile-without-le"},
      {"histogram_quantile(0.95, sum by (le) (rate(latency_seconds_count[5m])))", "quantile-without-bucket"},
      {"histogram_quantile(0.95, sum by (le) (latency_seconds_bucket))", "quantile-without-rate"},
      {"rate(sum(requests_total)[5m:1m])", "rate-after-sum"},
      {"absent(sum(active))", "absent-of-aggregate"},
      {R"(active{user_tier=~"free"})", "regex-without-metacharacters"},
      {R"(rate(requests_total{status!~"error"}[5m]))", "regex-without-metacharacters"},
      {"active == NaN", "compare-with-nan"},
      {"-NaN < active", "compare-with-nan"},
      {R"(1 - sum(rate(requests_total{status="success"}[5m])) / sum(rate(requests_total[5m])))",
       "silent-at-total-failure"},
      {R"(100 - (sum(rate(requests_total{status="success"}[5m])) / sum(rate(requests_total[5m])) * 100) > 5)",
       "silent-at-total-failure"},
      {"sum by (user_tier) (active or vector(0))", "or-vector-in-aggregation"},
  };
  const LintOptions options{.contract = &contract(), .scrape_interval = {}, .native_histograms = false};
  for (const auto& [text, check] : cases) {
    auto found = lint_ids(text, options);
    found.erase(std::unique(found.begin(), found.end()), found.end());
    EXPECT_THAT(found, ElementsAre(check)) << text;
  }
}

TEST(PromqlLint, LeavesSoundQueriesAlone) {
  const char* const queries[] = {
      "rate(requests_total[5m])",
      "count(requests_total)",
      "count by (code) (requests_total)",
      "active and requests_total",
      "active unless on(job) requests_total",
      "absent(requests_total)",
      "changes(requests_total[1h])",
      "delta(active[5m])",
      R"(sum(rate(requests_total{status="success"}[5m])) / sum(rate(requests_total[5m])))",
      R"(rate(requests_total{status="success"}[5m]) / ignoring(status) group_left rate(requests_total[5m]))",
      R"(rate(requests_total{status="success"}[5m]) / on(job) group_left rate(requests_total[5m]))",
      "rate(latency_seconds_sum[5m]) / rate(latency_seconds_count[5m])",
      "active / active offset 1h",
      "rate(requests_total[5m]) / rate(requests_total[5m] offset 1w)",
      "histogram_quantile(0.95, sum by (le, outcome) (rate(latency_seconds_bucket[5m])))",
      "histogram_quantile(0.95, sum without (job) (rate(latency_seconds_bucket[5m])))",
      "histogram_quantile(0.95, rate(latency_seconds_bucket[5m]))",
      "max_over_time(sum(rate(requests_total[5m]))[1h:])",
      R"(active{user_tier=~"free|premium"})",
      R"(1 - (sum(rate(requests_total{status="success"}[5m])) or on() vector(0)) / sum(rate(requests_total[5m])))",
      R"(1 - sum(rate(latency_seconds_bucket{le="0.5"}[5m])) / sum(rate(latency_seconds_count[5m])))",
      R"(sum(rate(requests_total{status="error"}[5m])) / sum(rate(requests_total[5m])) > 0.05)",
      "sum(active) or vector(0)",
      "sum(active or vector(0))",
      "1 - active",
  };
  const LintOptions options{.contract = &contract(), .scrape_interval = 15s, .native_histograms = false};
  for (const char* text : queries) EXPECT_THAT(lint_ids(text, options), IsEmpty()) << text;
}

TEST(PromqlLint, JudgesByTheNameWithoutAContract) {
  EXPECT_THAT(lint_ids("foo_total"), ElementsAre("counter-without-rate"));
  EXPECT_THAT(lint_ids("rate(foo[5m])"), IsEmpty());
}

TEST(PromqlLint, WantsFourScrapesInARange) {
  const LintOptions options{.contract = nullptr, .scrape_interval = 15s, .native_histograms = false};
  EXPECT_THAT(lint_ids("rate(x_total[45s])", options), ElementsAre("range-too-short"));
  EXPECT_THAT(lint_ids("rate(x_total[1m])", options), IsEmpty());
  EXPECT_THAT(lint_ids("max_over_time(x[15s])", options), IsEmpty());
}

TEST(PromqlLint, SaysWhere) {
  const auto ast = parse("1 + sum(requests_total)");
  const auto findings = lint(*ast);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(ast->text_of(findings[0].span), "requests_total");
  EXPECT_THAT(findings[0].message, testing::HasSubstr("requests_total is a counter"));
}

TEST(PromqlContract, AcceptsWhatIsExposedOrRecorded) {
  for (const char* text :
       {R"(rate(requests_total{status="x",code=~"5..",job="tunneld",instance!=""}[5m]))",
        "sum by (le, outcome) (rate(latency_seconds_bucket{le=\"0.5\"}[5m]))",
        "latency_seconds_sum / latency_seconds_count", R"(job:errors:ratio5m{anything="x"} > 1)",
        "sum by (whatever) (job:errors:ratio5m)", "up == 0", R"(ALERTS{alertname="X"})",
        R"q(sum by (made) (label_replace(active, "made", "$1", "user_tier", "(.*)")))q",
        R"(requests_total * on(code) group_left(user_tier) active)", R"({__name__=~"requests_.*",x="y"})",
        "vector(1)"}) {
    EXPECT_THAT(contract_messages(text), IsEmpty()) << text;
  }
}

TEST(PromqlContract, NamesWhatIsNot) {
  struct Case {
    const char* text;
    const char* finding;
  };
  const Case cases[] = {
      {"rate(tunnel_bytes_transferred_total[5m])", "unknown-metric at tunnel_bytes_transferred_total"},
      {"latency_seconds", "unknown-metric at latency_seconds"},
      {R"(active{status="x"})", R"(unknown-label at status="x")"},
      {R"(latency_seconds_count{le="1"})", R"(unknown-label at le="1")"},
      {"sum by (user) (active)", "unknown-label at sum by (user) (active)"},
      {"active / on(code) active", "unknown-label at active / on(code) active"},
      {R"(label_join(active, "x", ",", "nope"))", R"(unknown-label at label_join(active, "x", ",", "nope"))"},
      {R"({__name__="nope"})", R"(unknown-metric at {__name__="nope"})"},
  };
  for (const auto& [text, finding] : cases)
    EXPECT_THAT(contract_messages(text), ElementsAre(finding)) << text;
}
