#include "tunneld/admin/openmetrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <limits>

namespace tunneld::admin {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

const std::string kTrace = "0af7651916cd43dd8448eb211c80319c";

/// A histogram with the buckets 0.01, 0.5 and +Inf for each outcome.
prometheus::MetricFamily durations() {
  prometheus::MetricFamily family;
  family.name = "tunnel_request_duration_seconds";
  family.help = "How long requests took";
  family.type = prometheus::MetricType::Histogram;
  for (const char* outcome : {"success", "error"}) {
    auto& metric = family.metric.emplace_back();
    metric.label = {{"outcome", outcome}};
    metric.histogram.sample_count = 3;
    metric.histogram.sample_sum = 1.25;
    metric.histogram.bucket = {{1, 0.01}, {2, 0.5}, {3, std::numeric_limits<double>::infinity()}};
  }
  return family;
}

Exemplar exemplar(std::chrono::nanoseconds value, std::chrono::milliseconds at) {
  Exemplar made{.value = value, .at = std::chrono::system_clock::time_point(at)};
  std::copy(kTrace.begin(), kTrace.end(), made.trace_id.begin());
  return made;
}

TEST(OpenMetrics, HasExemplarsBehindTheBucketsOfTheirOwnHistogram) {
  const BucketExemplars exemplars[] = {
      {"tunnel_request_duration_seconds",
       "outcome",
       "success",
       {exemplar(10ms, 1'800'000'000'123ms), std::nullopt, exemplar(2s, 1'800'000'000'000ms)}}};
  EXPECT_EQ(to_openmetrics({durations()}, exemplars),
            "# TYPE tunnel_request_duration_seconds histogram\n"
            "# UNIT tunnel_request_duration_seconds seconds\n"
            "# HELP tunnel_request_duration_seconds How long requests took\n"
            "tunnel_request_duration_seconds_bucket{outcome=\"success\",le=\"0.01\"} 1.0 # {trace_id=\"" +
                kTrace +
                "\"} 0.01 1800000000.123\n"
                "tunnel_request_duration_seconds_bucket{outcome=\"success\",le=\"0.5\"} 2.0\n"
                "tunnel_request_duration_seconds_bucket{outcome=\"success\",le=\"+Inf\"} 3.0 # {trace_id=\"" +
                kTrace +
                "\"} 2.0 1800000000.000\n"
                "tunnel_request_duration_seconds_count{outcome=\"success\"} 3.0\n"
                "tunnel_request_duration_seconds_sum{outcome=\"success\"} 1.25\n"
                "tunnel_request_duration_seconds_bucket{outcome=\"error\",le=\"0.01\"} 1.0\n"
                "tunnel_request_duration_seconds_bucket{outcome=\"error\",le=\"0.5\"} 2.0\n"
                "tunnel_request_duration_seconds_bucket{outcome=\"error\",le=\"+Inf\"} 3.0\n"
                "tunnel_request_duration_seconds_count{outcome=\"error\"} 3.0\n"
                "tunnel_request_duration_seconds_sum{outcome=\"error\"} 1.25\n"
                "# EOF\n");
}

TEST(OpenMetrics, HasNoExemplarsWhereNoneBelong) {
  const std::vector<std::optional<Exemplar>> one{exemplar(1ms, 1ms)};
  const BucketExemplars strangers[] = {{"tunnel_forward_overhead_seconds", "outcome", "success", one},
                                       {"tunnel_request_duration_seconds", "outcome", "other", one},
                                       {"tunnel_request_duration_seconds", "tier", "success", one},
                                       {"tunnel_request_duration_seconds", "outcome", "success", {}}};
  EXPECT_THAT(to_openmetrics({durations()}, strangers), Not(HasSubstr("trace_id")));
  EXPECT_THAT(to_openmetrics({durations()}), Not(HasSubstr("trace_id")));
}

TEST(OpenMetrics, NeverPutsAnExemplarPastItsBucketsBound) {
  // Seconds are made of nanoseconds as bounds are read from text.
  for (const auto bound : {1ms, 5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 300ms, 500ms, 700ms}) {
    auto family = durations();
    const double seconds = static_cast<double>(bound.count()) / 1e3;
    family.metric[0].histogram.bucket = {{1, seconds}};
    const BucketExemplars exemplars[] = {
        {"tunnel_request_duration_seconds", "outcome", "success", {exemplar(bound, 1ms)}}};
    const auto text = to_openmetrics({family}, exemplars);
    const auto number = [&text](std::string_view mark) {
      return std::stod(text.substr(text.find(mark) + mark.size()));
    };
    EXPECT_LE(number("c80319c\"} "), number("le=\"")) << text;
  }
}

}  // namespace
}  // namespace tunneld::admin
