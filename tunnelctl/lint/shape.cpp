#include "tunnelctl/lint/shape.h"

#include <algorithm>
#include <cmath>

#include "tunnelctl/promql/facts.h"

namespace tunnelctl::lint {
namespace {

using promql::Node;
using promql::Op;

Labels closed(const std::vector<std::string>& names = {}) {
  return {false, LabelNames(names.begin(), names.end())};
}

Labels without(Labels labels, const std::string& label) {
  if (labels.open)
    labels.names.insert(label);
  else
    labels.names.erase(label);
  return labels;
}
Labels with(Labels labels, const std::string& label) {
  if (labels.open)
    labels.names.erase(label);
  else
    labels.names.insert(label);
  return labels;
}
/// What either may have.
Labels either(const Labels& a, const Labels& b) {
  Labels result{a.open || b.open, {}};
  if (!result.open) {
    result.names = a.names;
    result.names.insert(b.names.begin(), b.names.end());
    return result;
  }
  for (const Labels* one : {&a, &b}) {
    if (!one->open) continue;
    for (const auto& name : one->names)
      if (!a.may_have(name) && !b.may_have(name)) result.names.insert(name);
  }
  return result;
}
/// What both may have.
Labels both(const Labels& a, const Labels& b) {
  Labels result{a.open && b.open, {}};
  if (result.open) {
    result.names = a.names;
    result.names.insert(b.names.begin(), b.names.end());
    return result;
  }
  for (const auto& name : a.open ? b.names : a.names)
    if (a.may_have(name) && b.may_have(name)) result.names.insert(name);
  return result;
}

bool picks_series(const std::string& aggregate) {
  return aggregate == "topk" || aggregate == "bottomk" || aggregate == "limitk" || aggregate == "limit_ratio";
}

Labels labels_of_aggregate(const promql::Aggregate& aggregate) {
  Labels inner = labels_of(*aggregate.inner);
  if (picks_series(aggregate.op)) return inner;
  Labels result = closed();
  if (aggregate.grouping == promql::Aggregate::Grouping::by) result = both(closed(aggregate.labels), inner);
  if (aggregate.grouping == promql::Aggregate::Grouping::without) {
    result = inner;
    for (const auto& label : aggregate.labels) result = without(result, label);
    result = without(result, "__name__");
  }
  if (aggregate.op == "count_values" && aggregate.parameter != nullptr)
    if (const auto* label = promql::without_parens(*aggregate.parameter).get_if<promql::String>())
      result = with(result, label->value);
  return result;
}

Labels labels_of_call(const promql::Call& call) {
  const auto name = call.name();
  if (name == "absent" || name == "absent_over_time") {
    Labels result = closed();
    // Each label that is matched by `=`.
    const Node& argument = promql::without_parens(*call.arguments[0]);
    const auto* selector = argument.get_if<promql::Selector>();
    if (const auto* matrix = argument.get_if<promql::Matrix>()) selector = &matrix->selector;
    if (selector != nullptr)
      for (const auto& matcher : selector->matchers)
        if (matcher.op == promql::MatchOp::equal && matcher.label != "__name__")
          result.names.insert(matcher.label);
    return result;
  }
  const Node* series = nullptr;
  for (const auto& argument : call.arguments)
    if (argument->type == promql::ValueType::vector || argument->type == promql::ValueType::matrix)
      series = argument.get();
  if (series == nullptr || name == "scalar") return closed();
  Labels result = labels_of(*series);
  if (name == "histogram_quantile") return without(result, "le");
  if ((name == "label_replace" || name == "label_join") && call.arguments.size() > 1)
    if (const auto* made = promql::without_parens(*call.arguments[1]).get_if<promql::String>())
      return with(result, made->value);
  return result;
}

Labels labels_of_binary(const promql::Binary& binary) {
  if (binary.left->type != promql::ValueType::vector) return labels_of(*binary.right);
  if (binary.right->type != promql::ValueType::vector) return labels_of(*binary.left);
  const Labels left = labels_of(*binary.left), right = labels_of(*binary.right);
  if (binary.op == Op::logical_or) return either(left, right);
  if (promql::is_set_operator(binary.op)) return left;
  const auto& matching = binary.matching;
  using Group = promql::Matching::Group;
  if (matching.group != Group::none) {
    Labels result = matching.group == Group::left ? left : right;
    for (const auto& label : matching.include) result = with(result, label);
    return result;
  }
  using Kind = promql::Matching::Labels;
  if (matching.kind == Kind::on) return both(closed(matching.labels), left);
  Labels result = both(left, right);  // series only meet with equal labels
  if (matching.kind == Kind::ignoring)
    for (const auto& label : matching.labels) result = without(result, label);
  return result;
}

Bounds bounds_of_call(const promql::Call& call) {
  const auto name = call.name();
  if (name == "absent" || name == "absent_over_time" || name == "present_over_time") return {1, 1};
  if (promql::is_growth_function(name) || name == "changes" || name == "count_over_time" ||
      name == "stddev_over_time" || name == "stdvar_over_time" || name == "abs" || name == "sqrt" ||
      name == "time" || name == "timestamp")
    return {.low = 0};
  const bool keeps = name == "avg_over_time" || name == "max_over_time" || name == "min_over_time" ||
                     name == "last_over_time" || name == "quantile_over_time" || name == "vector" ||
                     name == "scalar" || name == "label_replace" || name == "sort" || name == "sort_desc";
  if (keeps && !call.arguments.empty())
    return bounds_of(name == "quantile_over_time" ? *call.arguments[1] : *call.arguments[0]);
  return {};
}

Bounds bounds_of_aggregate(const promql::Aggregate& aggregate) {
  if (aggregate.op == "group") return {1, 1};
  if (aggregate.op == "count") return {.low = 1};
  if (aggregate.op == "stddev" || aggregate.op == "stdvar") return {.low = 0};
  const Bounds inner = bounds_of(*aggregate.inner);
  if (aggregate.op == "avg" || aggregate.op == "min" || aggregate.op == "max" || picks_series(aggregate.op))
    return inner;
  if (aggregate.op == "sum" && inner.low >= 0) return {.low = inner.low};
  return {};
}

/// sum(rate(x{a="b"}[5m])) / sum(rate(x[5m])): the part of a whole.
bool is_share(const promql::Binary& ratio) {
  const auto part = promql::facts(*ratio.left).selectors, whole = promql::facts(*ratio.right).selectors;
  if (part.size() != 1 || whole.size() != 1) return false;
  const auto &a = part.front(), &b = whole.front();
  if (a.metric.empty() || a.metric != b.metric || a.function != b.function || a.range != b.range || !a.growth)
    return false;
  const auto plain_sum = [](const Node& node) -> const promql::Aggregate* {
    const Node* inner = &promql::without_parens(node);
    // Only traffic worth a ratio: sum(…) > 0.1
    if (const auto* binary = inner->get_if<promql::Binary>();
        binary != nullptr && promql::is_comparison(binary->op) && !binary->return_bool)
      inner = &promql::without_parens(*binary->left);
    const auto* sum = inner->get_if<promql::Aggregate>();
    if (sum == nullptr || sum->op != "sum") return nullptr;
    const auto* call = promql::without_parens(*sum->inner).get_if<promql::Call>();
    return call != nullptr && promql::is_growth_function(call->name()) ? sum : nullptr;
  };
  const auto *of_part = plain_sum(*ratio.left), *of_whole = plain_sum(*ratio.right);
  if (of_part == nullptr || of_whole == nullptr || of_part->grouping != of_whole->grouping ||
      LabelNames(of_part->labels.begin(), of_part->labels.end()) !=
          LabelNames(of_whole->labels.begin(), of_whole->labels.end()))
    return false;
  return std::all_of(b.matchers.begin(), b.matchers.end(), [&](const promql::Matcher& wanted) {
    return std::any_of(a.matchers.begin(), a.matchers.end(), [&](const promql::Matcher& matcher) {
      return matcher.label == wanted.label && matcher.op == wanted.op && matcher.value == wanted.value;
    });
  });
}

Bounds bounds_of_binary(const promql::Binary& binary) {
  if (promql::is_comparison(binary.op))
    return binary.return_bool
               ? Bounds{0, 1}
               : bounds_of(binary.left->type == promql::ValueType::vector ? *binary.left : *binary.right);
  if (binary.op == Op::logical_and || binary.op == Op::unless) return bounds_of(*binary.left);
  if (binary.op == Op::logical_or) {
    const Bounds a = bounds_of(*binary.left), b = bounds_of(*binary.right);
    return {std::min(a.low, b.low), std::max(a.high, b.high)};
  }
  if (binary.op == Op::divide && is_share(binary)) return {0, 1};
  return {};
}

}  // namespace

Labels labels_of(const Node& node) {
  if (const auto* paren = node.get_if<promql::Paren>()) return labels_of(*paren->inner);
  if (const auto* unary = node.get_if<promql::Unary>()) return labels_of(*unary->inner);
  if (const auto* subquery = node.get_if<promql::Subquery>()) return labels_of(*subquery->inner);
  if (const auto* aggregate = node.get_if<promql::Aggregate>()) return labels_of_aggregate(*aggregate);
  if (const auto* call = node.get_if<promql::Call>()) return labels_of_call(*call);
  if (const auto* binary = node.get_if<promql::Binary>()) return labels_of_binary(*binary);
  if (node.type == promql::ValueType::scalar || node.type == promql::ValueType::string) return closed();
  return {};  // a series may have any label: the scrape adds some
}

Bounds bounds_of(const Node& node) {
  if (const auto value = promql::constant(node); value && !std::isnan(*value)) return {*value, *value};
  if (const auto* paren = node.get_if<promql::Paren>()) return bounds_of(*paren->inner);
  if (const auto* subquery = node.get_if<promql::Subquery>()) return bounds_of(*subquery->inner);
  if (const auto* aggregate = node.get_if<promql::Aggregate>()) return bounds_of_aggregate(*aggregate);
  if (const auto* call = node.get_if<promql::Call>()) return bounds_of_call(*call);
  if (const auto* binary = node.get_if<promql::Binary>()) return bounds_of_binary(*binary);
  const auto* selector = node.get_if<promql::Selector>();
  if (const auto* matrix = node.get_if<promql::Matrix>()) selector = &matrix->selector;
  if (selector != nullptr && selector->metric() == "up") return {0, 1};
  return {};
}

bool can_hold(Op op, const Bounds& value, double bound) {
  switch (op) {
    case Op::greater: return value.high > bound;
    case Op::greater_or_equal: return value.high >= bound;
    case Op::less: return value.low < bound;
    case Op::less_or_equal: return value.low <= bound;
    case Op::equal: return value.low <= bound && bound <= value.high;
    case Op::not_equal: return value.low != bound || value.high != bound;
    default: return true;
  }
}

bool always_holds(Op op, const Bounds& value, double bound) {
  switch (op) {
    case Op::greater: return value.low > bound;
    case Op::greater_or_equal: return value.low >= bound;
    case Op::less: return value.high < bound;
    case Op::less_or_equal: return value.high <= bound;
    case Op::equal: return value.low == bound && value.high == bound;
    case Op::not_equal: return value.low > bound || value.high < bound;
    default: return false;
  }
}

bool has_condition(const Node& node) {
  if (const auto* call = node.get_if<promql::Call>()) {
    if (call->name() == "absent" || call->name() == "absent_over_time") return true;
  }
  if (const auto* binary = node.get_if<promql::Binary>()) {
    if (binary->op == Op::unless) return true;
    if (binary->op == Op::logical_or) return has_condition(*binary->left) && has_condition(*binary->right);
    if (promql::is_comparison(binary->op) && binary->return_bool) return false;
    if (promql::is_comparison(binary->op)) {
      const auto bound = promql::constant(*binary->right);
      if (!bound || !always_holds(binary->op, bounds_of(*binary->left), *bound)) return true;
    }
  }
  const auto below = promql::children(node);
  return std::any_of(below.begin(), below.end(), [](const Node* child) { return has_condition(*child); });
}

}  // namespace tunnelctl::lint
