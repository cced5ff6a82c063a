#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

/// Names as Prometheus' language and addresses want them.
namespace tunnelctl::prometheus {

/// A PromQL string, in double quotation marks.
std::string promql_string(std::string_view text);

/// A label as the path of its values wants it: other names than letters, digits and "_" need the escaping of
/// Prometheus 3. Source: https://prometheus.io/docs/prometheus/latest/querying/api/
std::string label_in_path(const std::string& label);

struct HistogramQuery {
  std::string metric{};           // with or without "_bucket"
  double percentile = 95;         // 0 to 100
  std::string matchers{};         // `job="api",code=~"5.."`; braces around them do no harm
  std::vector<std::string> by{};  // labels to keep beside "le"
  std::string rate = "5m";
};

/// histogram_quantile(0.95, sum by (le) (rate(m_bucket{job="api"}[5m]))), of a classic histogram. Fails with
/// bad_input for a percentile outside 0 to 100 and an empty name.
Result<std::string> histogram_query(const HistogramQuery& query);

}  // namespace tunnelctl::prometheus
