#pragma once

#include <string>
#include <string_view>

#include "common/result.h"
#include "tunnelctl/promql/ast.h"

/// Reads PromQL, from Prometheus 2.42 to 3.x: what any of them accepts is accepted, in their words else.
/// Grafana's variables are not PromQL: expand them first (variables.h).
namespace tunnelctl::promql {

/// Parsing nests no deeper than this, so that hostile text cannot exhaust the stack.
inline constexpr std::size_t kMaxNesting = 250;
/// A tree is no higher: a chain of operators may be long, but it is walked by recursion later.
inline constexpr std::uint32_t kMaxHeight = 1000;

struct ParseOptions {
  /// Accept what Prometheus has behind feature flags: experimental functions, limitk, limit_ratio, fill
  /// modifiers, anchored and smoothed. Arithmetic in durations ([5m * 2]) is never accepted.
  bool experimental = false;
};

/// Checks syntax and types. Fails with bad_input and the first problem, e.g.
/// `1:5: parse error: unexpected identifier "b"`; line and column as promtool counts them.
/// Takes time linear in the text.
Result<Ast> parse(std::string_view text, const ParseOptions& options = {});

/// The canonical text: one line, one spelling for each meaning, matchers sorted. It parses to the same tree.
std::string print(const Node& node);

}  // namespace tunnelctl::promql
