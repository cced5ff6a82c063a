#pragma once

#include <chrono>
#include <string_view>

#include "common/result.h"

namespace tunnelctl::monitor {

using Time = std::chrono::sys_time<std::chrono::milliseconds>;

struct TimeRange {
  Time from{};
  Time to{};
};

/// As Grafana reads the times of its addresses: "now", "now-90m", "now-1d/d" (rounded in UTC: the start down,
/// the end up), milliseconds since 1970, "2026-01-31", "2026-01-31T10:00:00Z". Units: s m h d w M y.
/// Grafana itself answers unreadable times with no data; here they fail with bad_input, as does an end that
/// is not after the start, or a year beyond 1970 to 2200.
Result<TimeRange> time_range(std::string_view from, std::string_view to, Time now);

}  // namespace tunnelctl::monitor
