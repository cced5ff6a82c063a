#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/promql/text.h"

/// Grafana's variables in queries: $x, ${x}, ${x:format}, ${x.field}, [[x]], [[x:format]]. Source: Grafana's
/// templating (variableRegex, formatRegistry) and the Prometheus data source's interpolateQueryExpr.
namespace tunnelctl::promql {

struct Variable {
  std::vector<std::string> values;  // what is selected; `$__all` alone means all
  /// The variable's own value for "All", used as it is; empty: `.+`.
  std::string all_value;
  /// Multi-value, or with "All": a plain $x then stands in a regular expression, and is escaped for one.
  bool multi = false;
};

/// Names without dollar. Built-in ones ($__rate_interval, $__range, …) are entries like others.
using Variables = std::map<std::string, Variable, std::less<>>;

struct VariableUse {
  std::string name;
  std::string format;  // "regex" of ${x:regex}; empty if none
  Span span;
};

/// Every use, in order. Names of digits only ($1 of label_replace) are no variables.
std::vector<VariableUse> variables_used(std::string_view text);

/// Whether Grafana gives the variable its value itself: names that begin with "__", and timeFilter.
bool is_builtin_variable(std::string_view name);

struct Expansion {
  std::string text;
  std::vector<std::string> undefined;  // used, but not in the map; left in the text as they are. Each once
};

/// Puts the values in. A plain $x of one value is that value; of a `multi` variable the value escaped for a
/// regular expression inside a PromQL string, several as `(a|b)`. Formats: regex, pipe, csv, raw, glob, json,
/// singlequote, doublequote, text; an unknown one is treated as glob, as Grafana does. One pass: a value that
/// holds a dollar sign is not expanded again.
Expansion expand(std::string_view text, const Variables& variables);

}  // namespace tunnelctl::promql
