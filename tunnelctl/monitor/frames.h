#pragma once

#include <cstddef>
#include <string>

#include "tunnelctl/monitor/objects.h"

namespace tunnelctl::monitor {

struct FrameCount {
  std::size_t frames = 0;     // with any row; Prometheus' and Loki's are one for each series
  std::size_t with_data = 0;  // those with anything but times, nulls and NaN
  std::string notices{};      // what the data source remarks on the query
};

/// Grafana's data frames, as /api/ds/query gives them: `frames` of one refId. NaN and infinities are null
/// there and told apart by `entities`.
FrameCount count_frames(const Json& frames);

}  // namespace tunnelctl::monitor
