#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunnelctl/promql/ast.h"

/// Checks LogQL as Loki 3 does, and says what a query asks for. Source: Loki's pkg/logql/syntax.
namespace tunnelctl::logql {

using promql::Matcher;
using promql::MatchOp;
using promql::Span;

/// {…}, and the range that belongs to it in a metric query.
struct Selector {
  std::vector<Matcher> matchers;
  Span span;
  std::optional<std::chrono::nanoseconds> range;
  std::string function;  // the range function around it: "rate", "count_over_time", …
};

/// A label that the query reads outside its selectors.
struct LabelUse {
  std::string label;
  std::string where;  // "filter", "unwrap", "label_format", "drop", "keep", "by", "without", "on",
                      // "ignoring", "group_left", "group_right", "label_replace"
  Span span;
};

/// |= "x" and the like.
struct LineFilter {
  std::string op;
  std::string text;
};

struct LogQuery {
  enum class Kind { log, metric } kind = Kind::log;
  std::vector<Selector> selectors;
  std::vector<LineFilter> line_filters;
  std::vector<LabelUse> labels_used;
  std::vector<std::string> labels_made;  // by parsers with names, label_format and label_replace
  /// A parser without names (json, logfmt, unpack) is in it: lines may bring any label.
  bool makes_any_label = false;
};

/// Nothing nests deeper, and no query is longer: Loki's limit.
inline constexpr std::size_t kMaxNesting = 250;
inline constexpr std::size_t kMaxLength = 131'071;

/// Fails with bad_input and the first problem, as `1:5: parse error: syntax error: unexpected IDENTIFIER
/// "b"`. What Loki finds only when it runs a query is found too: a broken regular expression or pattern, a
/// template without its end, a label formatted twice.
Result<LogQuery> parse(std::string_view text);

}  // namespace tunnelctl::logql
