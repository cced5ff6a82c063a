#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tunnelctl::daemon {

/// The samples of a metrics page, to add up.
/// Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4)
class Exposition {
 public:
  using Labels = std::map<std::string, std::string, std::less<>>;
  struct Sample {
    std::string name{};
    Labels labels{};
    double value = 0;
  };

  /// Lines that are none are passed over.
  static Exposition parse(std::string_view text);

  /// Of the samples of that name whose labels include all of `labels`; nullopt if there is none.
  std::optional<double> sum(std::string_view name, const Labels& labels = {}) const;
  /// Of a label, in the page's order, each once.
  std::vector<std::string> values(std::string_view name, std::string_view label) const;
  /// The q-quantile of a histogram, as histogram_quantile() estimates it; nullopt when it counted nothing.
  std::optional<double> quantile(std::string_view name, double q) const;

 private:
  std::vector<Sample> samples_;
};

}  // namespace tunnelctl::daemon
