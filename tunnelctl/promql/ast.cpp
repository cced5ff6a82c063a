#include "tunnelctl/promql/ast.h"

#include "tunnelctl/promql/functions.h"
#include "tunnelctl/promql/regexp.h"

namespace tunnelctl::promql {

std::string_view spelling(MatchOp op) {
  switch (op) {
    case MatchOp::equal: return "=";
    case MatchOp::not_equal: return "!=";
    case MatchOp::regexp: return "=~";
    case MatchOp::not_regexp: return "!~";
  }
  return "";
}

bool matches_empty(const Matcher& matcher) {
  switch (matcher.op) {
    case MatchOp::equal: return matcher.value.empty();
    case MatchOp::not_equal: return !matcher.value.empty();
    case MatchOp::regexp:
    case MatchOp::not_regexp: {
      const auto pattern = parse_regexp(matcher.value);
      const bool matches = pattern && pattern->matches_empty;
      return matches == (matcher.op == MatchOp::regexp);
    }
  }
  return false;
}

std::string_view spelling(Op op) {
  switch (op) {
    case Op::add: return "+";
    case Op::subtract: return "-";
    case Op::multiply: return "*";
    case Op::divide: return "/";
    case Op::modulo: return "%";
    case Op::power: return "^";
    case Op::atan2: return "atan2";
    case Op::equal: return "==";
    case Op::not_equal: return "!=";
    case Op::less: return "<";
    case Op::less_or_equal: return "<=";
    case Op::greater: return ">";
    case Op::greater_or_equal: return ">=";
    case Op::trim_upper: return "</";
    case Op::trim_lower: return ">/";
    case Op::logical_and: return "and";
    case Op::logical_or: return "or";
    case Op::unless: return "unless";
  }
  return "";
}

bool is_comparison(Op op) {
  return op >= Op::equal && op <= Op::greater_or_equal;
}
bool is_set_operator(Op op) {
  return op >= Op::logical_and;
}

std::string Selector::metric() const {
  if (!name.empty()) return name;
  for (const auto& matcher : matchers) {
    if (matcher.label == "__name__" && matcher.op == MatchOp::equal) return matcher.value;
  }
  return {};
}

std::string_view Call::name() const {
  return function->name;
}

std::vector<const Node*> children(const Node& node) {
  std::vector<const Node*> out;
  const auto add = [&](const NodePtr& child) {
    if (child) out.push_back(child.get());
  };
  if (const auto* subquery = node.get_if<Subquery>()) add(subquery->inner);
  if (const auto* unary = node.get_if<Unary>()) add(unary->inner);
  if (const auto* paren = node.get_if<Paren>()) add(paren->inner);
  if (const auto* binary = node.get_if<Binary>()) {
    add(binary->left);
    add(binary->right);
  }
  if (const auto* aggregate = node.get_if<Aggregate>()) {
    add(aggregate->parameter);
    add(aggregate->inner);
  }
  if (const auto* call = node.get_if<Call>()) {
    for (const auto& argument : call->arguments) add(argument);
  }
  return out;
}

const Node& without_parens(const Node& node) {
  const Node* inner = &node;
  while (const auto* paren = inner->get_if<Paren>()) inner = paren->inner.get();
  return *inner;
}

}  // namespace tunnelctl::promql
