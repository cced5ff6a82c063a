#pragma once

#include <string>
#include <vector>

namespace prometheus {
struct MetricFamily;
}

namespace tunneld::admin {

/// The families in OpenMetrics 1.0 text: as the plain format, with UNIT lines, counter families named
/// without _total, and the closing # EOF. prometheus-cpp 1.0 writes only the plain format.
/// Source: https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
std::string to_openmetrics(const std::vector<prometheus::MetricFamily>& families);

}  // namespace tunneld::admin
