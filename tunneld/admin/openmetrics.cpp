#include "tunneld/admin/openmetrics.h"

#include <prometheus/metric_family.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace tunneld::admin {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricType;

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\\' || c == '"')
      (out += '\\') += c;
    else
      out += c;
  }
}

void append_number(std::string& out, double value) {
  if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
    return;
  }
  std::array<char, 32> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  const std::string_view written(text.data(), static_cast<std::size_t>(end - text.data()));
  out += written;
  // Canonical numbers keep a point, so that le="1.0" never meets le="1".
  if (error == std::errc{} && written.find_first_of(".e") == std::string_view::npos) out += ".0";
}

/// What OpenMetrics wants behind a bucket: " # {labels} value time".
void append_exemplar(std::string& out, const Exemplar& exemplar) {
  ((out += " # {trace_id=\"") += exemplar.trace()) += "\"} ";
  append_number(out, static_cast<double>(exemplar.value.count()) / 1e9);
  const auto at = std::chrono::duration_cast<std::chrono::milliseconds>(exemplar.at.time_since_epoch());
  std::array<char, 32> time{};
  // Not append_number: round seconds would get an exponent.
  std::snprintf(time.data(), time.size(), " %lld.%03d", static_cast<long long>(at.count() / 1000),
                static_cast<int>(at.count() % 1000));
  out += time.data();
}

void append_sample(std::string& out, std::string_view name, std::string_view suffix,
                   const ClientMetric& metric, double value, const double* bound = nullptr,
                   const Exemplar* exemplar = nullptr) {
  (out += name) += suffix;
  char separator = '{';
  for (const auto& label : metric.label) {
    ((out += separator) += label.name) += "=\"";
    append_escaped(out, label.value);
    out += '"';
    separator = ',';
  }
  if (bound != nullptr) {
    (out += separator) += "le=\"";
    append_number(out, *bound);
    out += '"';
    separator = ',';
  }
  if (separator == ',') out += '}';
  out += ' ';
  append_number(out, value);
  if (exemplar != nullptr) append_exemplar(out, *exemplar);
  out += '\n';
}

/// Those of a histogram; nullptr if it has none.
const BucketExemplars* exemplars_of(std::span<const BucketExemplars> all, std::string_view family,
                                    const ClientMetric& metric) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const BucketExemplars& one) {
    return one.family == family &&
           std::any_of(metric.label.begin(), metric.label.end(), [&one](const ClientMetric::Label& label) {
             return label.name == one.label && label.value == one.value;
           });
  });
  return found == all.end() ? nullptr : &*found;
}

void append_histogram(std::string& out, std::string_view name, const ClientMetric& metric,
                      const BucketExemplars* exemplars) {
  const auto& histogram = metric.histogram;
  for (std::size_t at = 0; at < histogram.bucket.size(); ++at) {
    const auto& bucket = histogram.bucket[at];
    const bool has_one =
        exemplars != nullptr && at < exemplars->of_buckets.size() && exemplars->of_buckets[at].has_value();
    append_sample(out, name, "_bucket", metric, static_cast<double>(bucket.cumulative_count),
                  &bucket.upper_bound, has_one ? &*exemplars->of_buckets[at] : nullptr);
  }
  append_sample(out, name, "_count", metric, static_cast<double>(histogram.sample_count));
  append_sample(out, name, "_sum", metric, histogram.sample_sum);
}

std::string_view unit_of(std::string_view family) {
  for (std::string_view unit : {"seconds", "bytes", "ratio"})
    if (family.size() > unit.size() && family.ends_with(unit) &&
        family[family.size() - unit.size() - 1] == '_')
      return unit;
  return {};
}

}  // namespace

std::string to_openmetrics(const std::vector<prometheus::MetricFamily>& families,
                           std::span<const BucketExemplars> exemplars) {
  std::string out;
  out.reserve(64 * 1024);
  for (const auto& family : families) {
    std::string_view name = family.name;
    const bool counter = family.type == MetricType::Counter;
    if (counter && name.ends_with("_total")) name.remove_suffix(6);
    const char* type = counter ? "counter" : family.type == MetricType::Histogram ? "histogram" : "gauge";
    ((((out += "# TYPE ") += name) += ' ') += type) += '\n';
    if (const auto unit = unit_of(name); !unit.empty())
      ((((out += "# UNIT ") += name) += ' ') += unit) += '\n';
    ((out += "# HELP ") += name) += ' ';
    append_escaped(out, family.help);
    out += '\n';
    for (const auto& metric : family.metric) {
      if (counter) {
        append_sample(out, name, "_total", metric, metric.counter.value);
      } else if (family.type == MetricType::Histogram) {
        append_histogram(out, name, metric, exemplars_of(exemplars, family.name, metric));
      } else {
        append_sample(out, name, "", metric, metric.gauge.value);
      }
    }
  }
  out += "# EOF\n";
  return out;
}

}  // namespace tunneld::admin
