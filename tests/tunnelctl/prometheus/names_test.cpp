#include "tunnelctl/prometheus/names.h"

#include <gmock/gmock.h>

namespace tunnelctl::prometheus {
namespace {

TEST(PromqlString, CannotBeLeft) {
  EXPECT_EQ(promql_string("a"), R"("a")");
  EXPECT_EQ(promql_string("say \"hi\" \\o/\n"), R"("say \"hi\" \\o/\n")");
}

TEST(LabelInPath, IsEscapedWhereItIsNoPlainName) {
  struct Row {
    const char *label, *path;
  };
  const Row rows[] = {
      {"job", "job"},       {"__name__", "__name__"}, {"http.status_code", "U__http_2e_status__code"},
      {"a/b", "U__a_2f_b"}, {"α", "U___3b1_"},        {"€uro", "U___20ac_uro"},
      {"😀", "U___1f600_"}, {"\xE2\x82", "U___82_"},  // cut in the middle: no crash
  };
  for (const auto& row : rows) EXPECT_EQ(label_in_path(row.label), row.path) << row.label;
}

TEST(HistogramQuery, AsksForAPercentile) {
  struct Row {
    HistogramQuery query;
    const char* text;
  };
  const Row rows[] = {
      {{.metric = "m"}, "histogram_quantile(0.95, sum by (le) (rate(m_bucket[5m])))"},
      {{.metric = "m_bucket", .percentile = 99.9, .rate = "1m"},
       "histogram_quantile(0.999, sum by (le) (rate(m_bucket[1m])))"},
      {{.metric = "job:m:sum", .percentile = 0, .matchers = R"(job="a",code=~"5..")", .by = {"job", "a.b"}},
       R"(histogram_quantile(0, sum by (le, job, "a.b") (rate(job:m:sum_bucket{job="a",code=~"5.."}[5m]))))"},
      {{.metric = "m", .percentile = 100, .matchers = "{job=\"a\"}"},
       R"(histogram_quantile(1, sum by (le) (rate(m_bucket{job="a"}[5m]))))"},
      {{.metric = "http.wait", .matchers = "job=\"a\""},
       R"(histogram_quantile(0.95, sum by (le) (rate({"http.wait_bucket", job="a"}[5m]))))"},
  };
  for (const auto& row : rows) {
    const auto query = histogram_query(row.query);
    ASSERT_TRUE(query) << query.error().message;
    EXPECT_EQ(*query, row.text);
  }
}

TEST(HistogramQuery, RefusesWhatIsNoPercentileOrName) {
  for (const double percentile : {-1.0, 100.5, std::numeric_limits<double>::quiet_NaN()}) {
    const auto query = histogram_query({.metric = "m", .percentile = percentile});
    ASSERT_FALSE(query) << percentile;
    EXPECT_EQ(query.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(query.error().message, testing::HasSubstr("0 to 100"));
  }
  EXPECT_FALSE(histogram_query({}));
}

}  // namespace
}  // namespace tunnelctl::prometheus
