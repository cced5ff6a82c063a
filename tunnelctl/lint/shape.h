#pragma once

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "tunnelctl/promql/ast.h"

/// What a query's results can look like, whatever the data are.
namespace tunnelctl::lint {

using LabelNames = std::set<std::string, std::less<>>;

/// Which labels the series of a result may have.
struct Labels {
  /// Any label that is not in `names`; else just those in `names`.
  bool open = true;
  LabelNames names{};
  bool may_have(const std::string& label) const { return open != names.contains(label); }
};
Labels labels_of(const promql::Node& node);

/// Between which bounds the values lie, both included; NaN aside.
struct Bounds {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};
Bounds bounds_of(const promql::Node& node);

/// Whether a comparison with `bound` on its right side can hold, and whether it always does.
bool can_hold(promql::Op op, const Bounds& value, double bound);
bool always_holds(promql::Op op, const Bounds& value, double bound);

/// Whether the query gives something only on some condition: a comparison that can fail, absent(), unless.
bool has_condition(const promql::Node& node);

}  // namespace tunnelctl::lint
