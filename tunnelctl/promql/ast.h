#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tunnelctl/promql/text.h"

/// A PromQL query as a tree of plain structs.
namespace tunnelctl::promql {

/// What an expression gives; `vector` is an instant vector, `matrix` a range vector.
enum class ValueType { scalar, vector, matrix, string };

struct Node;
using NodePtr = std::unique_ptr<Node>;

enum class MatchOp { equal, not_equal, regexp, not_regexp };

struct Matcher {
  std::string label;
  MatchOp op = MatchOp::equal;
  std::string value;
  Span span;
};
/// "=", "!=", "=~" or "!~".
std::string_view spelling(MatchOp op);
/// Whether a series without that label is taken, which is what an empty value means.
bool matches_empty(const Matcher& matcher);

/// `offset 5m` and `@ …` behind a selector, a range or a subquery; for a range they stand in its Matrix.
struct Modifiers {
  std::chrono::nanoseconds offset{0};
  std::optional<std::int64_t> at_ms;  // @ 1609746000
  enum class Edge { none, start, end } at_edge = Edge::none;
  enum class Extended { none, anchored, smoothed } extended = Extended::none;
};

struct Number {
  double value = 0;
  bool duration = false;  // written as 5m; `value` in seconds
};
struct String {
  std::string value;
};
struct Selector {
  std::string name;               // the name before the braces; empty if there is none
  std::vector<Matcher> matchers;  // as written, `{"name"}` as an equal matcher on __name__
  Modifiers modifiers;
  /// The metric if one name is certain: before the braces, or by an equal matcher on __name__.
  std::string metric() const;
};
/// `selector[5m]`; the selector's own modifiers are empty.
struct Matrix {
  Selector selector;
  Span selector_span;
  std::chrono::nanoseconds range{0};
  Modifiers modifiers;
};
struct Subquery {
  NodePtr inner;
  std::chrono::nanoseconds range{0};
  std::chrono::nanoseconds step{0};  // 0: the default
  Modifiers modifiers;
};
struct Unary {
  bool minus = false;
  NodePtr inner;
};
enum class Op {
  add,
  subtract,
  multiply,
  divide,
  modulo,
  power,
  atan2,
  equal,
  not_equal,
  less,
  less_or_equal,
  greater,
  greater_or_equal,
  trim_upper,
  trim_lower,
  logical_and,
  logical_or,
  unless
};
std::string_view spelling(Op op);
/// == != < <= > >=
bool is_comparison(Op op);
/// and, or, unless
bool is_set_operator(Op op);

struct Matching {
  enum class Labels { none, on, ignoring } kind = Labels::none;
  std::vector<std::string> labels;
  enum class Group { none, left, right } group = Group::none;
  std::vector<std::string> include;  // the labels of group_left(…)
  std::optional<double> fill_left, fill_right;
};
struct Binary {
  Op op = Op::add;
  NodePtr left, right;
  bool return_bool = false;
  Matching matching;
  Span op_span;
};
struct Aggregate {
  std::string op;     // "sum", "topk", …, in lower case
  NodePtr parameter;  // k of topk, the label of count_values, …; else null
  NodePtr inner;
  enum class Grouping { none, by, without } grouping = Grouping::none;
  std::vector<std::string> labels;
};
struct Function;
struct Call {
  const Function* function = nullptr;  // a row of functions.h
  std::vector<NodePtr> arguments;
  std::string_view name() const;
};
struct Paren {
  NodePtr inner;
};

struct Node {
  Span span;  // where it stands in the text; modifiers and brackets included
  std::variant<Number, String, Selector, Matrix, Subquery, Unary, Binary, Aggregate, Call, Paren> as;
  ValueType type = ValueType::vector;
  std::uint32_t height = 1;  // of the tree below, itself included; bounded by the parser

  template <class T>
  const T* get_if() const {
    return std::get_if<T>(&as);
  }
};

/// The nodes directly below, in the order of the text.
std::vector<const Node*> children(const Node& node);
/// The node inside any number of parentheses.
const Node& without_parens(const Node& node);

/// A parsed query: its text, and the tree whose spans point into it.
struct Ast {
  std::string text;
  NodePtr root;
  std::string_view text_of(Span span) const {
    return std::string_view(text).substr(span.begin, span.end - span.begin);
  }
};

}  // namespace tunnelctl::promql
