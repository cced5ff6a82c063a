#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tunneld/admin/exemplars.h"

namespace prometheus {
struct MetricFamily;
}

namespace tunneld::admin {

/// The exemplars of one histogram: of the metric of `family` that has the label.
struct BucketExemplars {
  std::string_view family;
  std::string_view label;
  std::string_view value;
  std::vector<std::optional<Exemplar>> of_buckets;  // as Exemplars::read
};

/// The families in OpenMetrics 1.0 text: as the plain format, with UNIT lines, counter families named
/// without _total, exemplars with a trace_id behind buckets, and the closing # EOF. prometheus-cpp 1.0 writes
/// only the plain format, which has no exemplars.
/// Source: https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
std::string to_openmetrics(const std::vector<prometheus::MetricFamily>& families,
                           std::span<const BucketExemplars> exemplars = {});

}  // namespace tunneld::admin
