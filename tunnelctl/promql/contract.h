#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/promql/ast.h"
#include "tunnelctl/promql/finding.h"

/// The metrics that a program promises to expose, and whether a query asks for anything else.
namespace tunnelctl::promql {

struct ContractMetric {
  enum class Type { counter, gauge, histogram };
  /// As exposed; of a histogram the name without _bucket, _sum and _count.
  std::string name;
  Type type = Type::gauge;
  std::vector<std::string> labels;  // its own, without `le`
};

/// What is known of one series' name.
struct KnownMetric {
  bool counter = false;
  bool gauge = false;
  bool any_label = false;  // a recorded or synthetic series: its labels are not known here
  std::set<std::string, std::less<>> labels;
};

class Contract {
 public:
  /// `recorded`: names of recording rules. `target_labels`: what the scrape adds to each series.
  Contract(const std::vector<ContractMetric>& metrics, std::vector<std::string> recorded,
           std::vector<std::string> target_labels = {"job", "instance"});

  /// A histogram's x is known as x_bucket (with `le`), x_sum and x_count, all counters. `up`, `scrape_*`,
  /// ALERTS and ALERTS_FOR_STATE are known too.
  const KnownMetric* find(std::string_view name) const;
  /// Whether a histogram of that name (without suffix) is in it.
  bool is_histogram(std::string_view name) const { return histograms_.contains(name); }
  bool is_target_label(std::string_view label) const { return target_labels_.contains(label); }

 private:
  std::map<std::string, KnownMetric, std::less<>> metrics_;
  std::set<std::string, std::less<>> histograms_;
  std::set<std::string, std::less<>> target_labels_;
};

/// Findings `unknown-metric` (a selector's metric is not in the contract) and `unknown-label` (a matcher, by,
/// without, on, ignoring, group_x or label_x names a label that no metric below it has). Labels that
/// label_replace, label_join or count_values make are known. A selector without a certain name is not judged.
std::vector<Finding> check_contract(const Ast& ast, const Contract& contract);

}  // namespace tunnelctl::promql
