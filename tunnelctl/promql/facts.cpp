#include "tunnelctl/promql/facts.h"

#include <algorithm>
#include <cmath>

#include "tunnelctl/promql/functions.h"

namespace tunnelctl::promql {
namespace {

struct Context {
  std::string_view function;
  std::optional<std::chrono::nanoseconds> subquery;
};

const std::string* string_argument(const Call& call, std::size_t index) {
  if (index >= call.arguments.size()) return nullptr;
  const auto* string = without_parens(*call.arguments[index]).get_if<String>();
  return string != nullptr ? &string->value : nullptr;
}

class Collector {
 public:
  Facts found;

  void visit(const Node& node, Context context) {
    if (const auto* selector = node.get_if<Selector>()) add(*selector, node.span, context, context.subquery);
    if (const auto* matrix = node.get_if<Matrix>())
      add(matrix->selector, matrix->selector_span, context, matrix->range);
    if (const auto* binary = node.get_if<Binary>()) labels_of(node, binary->matching);
    if (const auto* aggregate = node.get_if<Aggregate>()) {
      if (aggregate->grouping != Aggregate::Grouping::none) {
        use(node, aggregate->labels, aggregate->grouping == Aggregate::Grouping::by ? "by" : "without");
      }
      if (aggregate->op == "count_values") made(*aggregate->parameter);
      context = {};
    }
    if (const auto* call = node.get_if<Call>()) {
      labels_of(node, *call);
      context = {call->name(), {}};
    }
    if (const auto* subquery = node.get_if<Subquery>()) context.subquery = subquery->range;
    for (const Node* child : children(node)) visit(*child, context);
  }

 private:
  void add(const Selector& selector, Span span, const Context& context,
           std::optional<std::chrono::nanoseconds> range) {
    SelectorFact fact{
        selector.metric(), selector.matchers, span, std::string(context.function), false, range};
    fact.growth = is_growth_function(fact.function);
    found.selectors.push_back(std::move(fact));
  }
  void use(const Node& node, const std::vector<std::string>& labels, std::string_view where) {
    for (const auto& label : labels) found.labels_used.push_back({label, std::string(where), &node});
  }
  void made(const Node& node) {
    if (const auto* name = without_parens(node).get_if<String>()) found.labels_made.push_back(name->value);
  }

  void labels_of(const Node& node, const Matching& matching) {
    if (matching.kind != Matching::Labels::none) {
      use(node, matching.labels, matching.kind == Matching::Labels::on ? "on" : "ignoring");
    }
    if (matching.group != Matching::Group::none) {
      use(node, matching.include, matching.group == Matching::Group::left ? "group_left" : "group_right");
    }
  }

  void labels_of(const Node& node, const Call& call) {
    const auto name = call.name();
    const auto argument = [&](std::size_t index) {
      if (const auto* label = string_argument(call, index)) use(node, {*label}, name);
    };
    if (name == "label_replace") {
      argument(3);
      made(*call.arguments[1]);
    }
    if (name == "label_join") {
      for (std::size_t i = 3; i < call.arguments.size(); ++i) argument(i);
      made(*call.arguments[1]);
    }
    if (name == "sort_by_label" || name == "sort_by_label_desc") {
      for (std::size_t i = 1; i < call.arguments.size(); ++i) argument(i);
    }
  }
};

Op mirrored(Op op) {
  switch (op) {
    case Op::less: return Op::greater;
    case Op::less_or_equal: return Op::greater_or_equal;
    case Op::greater: return Op::less;
    case Op::greater_or_equal: return Op::less_or_equal;
    default: return op;
  }
}

}  // namespace

bool is_growth_function(std::string_view function) {
  return function == "rate" || function == "irate" || function == "increase" || function == "resets";
}

Facts facts(const Node& node) {
  Collector collector;
  collector.visit(node, {});
  return std::move(collector.found);
}

std::optional<double> constant(const Node& node) {
  const Node& inner = without_parens(node);
  if (const auto* number = inner.get_if<Number>()) return number->value;
  if (const auto* unary = inner.get_if<Unary>()) {
    const auto value = constant(*unary->inner);
    if (!value) return std::nullopt;
    return unary->minus ? -*value : *value;
  }
  const auto* binary = inner.get_if<Binary>();
  if (binary == nullptr || inner.type != ValueType::scalar) return std::nullopt;
  const auto left = constant(*binary->left);
  const auto right = constant(*binary->right);
  if (!left || !right) return std::nullopt;
  switch (binary->op) {
    case Op::add: return *left + *right;
    case Op::subtract: return *left - *right;
    case Op::multiply: return *left * *right;
    case Op::divide: return *left / *right;
    case Op::modulo: return std::fmod(*left, *right);
    case Op::power: return std::pow(*left, *right);
    default: return std::nullopt;
  }
}

std::optional<Comparison> split_comparison(const Ast& ast) {
  const auto* binary = without_parens(*ast.root).get_if<Binary>();
  if (binary == nullptr || !is_comparison(binary->op) || binary->return_bool) return std::nullopt;
  const bool number_right = binary->right->type == ValueType::scalar;
  const Node& inner = number_right ? *binary->left : *binary->right;
  const auto number = constant(number_right ? *binary->right : *binary->left);
  if (!number || inner.type != ValueType::vector) return std::nullopt;
  return Comparison{std::string(ast.text_of(inner.span)), number_right ? binary->op : mirrored(binary->op),
                    *number, inner.span};
}

}  // namespace tunnelctl::promql
