#include "tunnelctl/commands/query_span.h"

#include <array>
#include <chrono>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/moments.h"

namespace tunnelctl {
namespace {

using std::chrono::milliseconds;

/// More points of a series are refused. Source: Prometheus web/api/v1, Loki pkg/loghttp.
constexpr std::int64_t kMostPoints = 11'000;
constexpr std::int64_t kGoodPoints = 240;

/// The shortest usual step that gives about 240 points.
milliseconds step_for(milliseconds length) {
  using namespace std::chrono;
  constexpr std::array<seconds, 20> kUsual = {seconds(1),  seconds(2),  seconds(5), seconds(10), seconds(15),
                                              seconds(30), minutes(1),  minutes(2), minutes(5),  minutes(10),
                                              minutes(15), minutes(30), hours(1),   hours(2),    hours(3),
                                              hours(6),    hours(12),   hours(24),  hours(48),   hours(168)};
  for (const auto step : kUsual)
    if (length / step <= kGoodPoints) return step;
  return ceil<hours>(length / kGoodPoints);
}

}  // namespace

void add_query_span(CLI::App& verb, QuerySpan& span) {
  verb.add_option("--from", span.from,
                  "start: now-1h, 15m (ago), now/d, 2026-01-31T10:00:00Z, seconds since 1970")
      ->type_name("TIME")
      ->capture_default_str();
  verb.add_option("--to", span.to, "end, likewise")->type_name("TIME")->capture_default_str();
}

void add_query_step(CLI::App& verb, QuerySpan& span) {
  verb.add_option("--step", span.step, "time between points, e.g. 30s; without it about 240 points")
      ->type_name("DURATION");
}

Result<prometheus::Range> range_of(const QuerySpan& span, const char* server) {
  const auto range = times::range(span.from, span.to, now());
  if (!range) return tl::unexpected(range.error());
  const milliseconds length = range->to - range->from;
  prometheus::Range result{.from = range->from, .to = range->to, .step = step_for(length)};
  if (!span.step.empty()) {
    const auto step = times::duration(span.step);
    if (!step) return fail(step.error().kind, "--step: " + step.error().message);
    result.step = *step;
  }
  if (const auto points = length / result.step + 1; points > kMostPoints)
    return fail(
        Error::Kind::bad_input,
        "--step " + times::duration_text(result.step) + " makes " + std::to_string(points) +
            " points of each series, and " + server + " gives " + std::to_string(kMostPoints) +
            " at most; say --step " +
            times::duration_text(std::chrono::ceil<std::chrono::seconds>(length / (kMostPoints - 1))) +
            " or longer, or a shorter time");
  return result;
}

}  // namespace tunnelctl
