#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/promql/ast.h"

/// What a query asks for, as far as a check or a compiler of alerts wants to know.
namespace tunnelctl::promql {

/// One selector of a query.
struct SelectorFact {
  std::string metric;  // empty if no single name is certain
  std::vector<Matcher> matchers;
  Span span;  // of the selector, without its range and modifiers where it has a range
  /// The function around it, through parentheses and operators but not through another function or
  /// aggregation's argument: "rate" in rate(x[5m]); empty if none.
  std::string function;
  /// That function takes a counter and gives its growth: rate, irate, increase, resets.
  bool growth = false;
  std::optional<std::chrono::nanoseconds> range;  // of [5m], or of the subquery right around it
};

/// A label that a query names outside a selector.
struct LabelUse {
  std::string label;
  /// "by", "without", "on", "ignoring", "group_left", "group_right", or the function: "label_replace",
  /// "label_join", "sort_by_label", "histogram_quantile" (le).
  std::string where;
  const Node* node = nullptr;
};

struct Facts {
  std::vector<SelectorFact> selectors;
  std::vector<LabelUse> labels_used;
  std::vector<std::string> labels_made;  // by label_replace, label_join and count_values
};

Facts facts(const Node& node);

/// rate, irate, increase, resets: what a counter wants around it.
bool is_growth_function(std::string_view function);

/// `inner op number`, with the number on the right: `0.05 < x` gives x > 0.05.
struct Comparison {
  std::string inner;  // PromQL, as written
  Op op = Op::greater;
  double number = 0;
  Span inner_span;
};

/// Takes a query apart whose topmost operator (parentheses aside) compares a vector with a constant, without
/// bool. Constants may be arithmetic of literals (14.4 * 0.001). nullopt for everything else, so for `a > 1
/// and b > 2`.
std::optional<Comparison> split_comparison(const Ast& ast);

/// The value of literals and arithmetic between them; nullopt if anything else is in it.
std::optional<double> constant(const Node& node);

}  // namespace tunnelctl::promql
