#include "tunnelctl/promql/check.h"

#include <algorithm>

#include "tunnelctl/promql/functions.h"

namespace tunnelctl::promql {

std::string_view documented(ValueType type) {
  switch (type) {
    case ValueType::scalar: return "scalar";
    case ValueType::vector: return "instant vector";
    case ValueType::matrix: return "range vector";
    case ValueType::string: return "string";
  }
  return "";
}

namespace {

using Found = std::optional<Problem>;

Problem problem(const Node& node, std::string message) {
  return {node.span.begin, std::move(message)};
}

std::string expected_type(ValueType wanted, const std::string& where, ValueType got) {
  return "expected type " + std::string(documented(wanted)) + " in " + where + ", got " +
         std::string(documented(got));
}

/// The node itself is sound, and of that type.
Found expect(const Node& node, ValueType type, const std::string& where) {
  if (auto found = check(node)) return found;
  if (node.type != type) return problem(node, expected_type(type, where, node.type));
  return {};
}

Found check_aggregate(const Aggregate& aggregate) {
  if (auto found = expect(*aggregate.inner, ValueType::vector, "aggregation expression")) return found;
  if (!aggregate.parameter) return {};
  const auto type = aggregate.op == "count_values" ? ValueType::string : ValueType::scalar;
  return expect(*aggregate.parameter, type, "aggregation parameter");
}

Found check_set_operator(const Node& node, const Binary& binary) {
  const auto op = std::string(spelling(binary.op));
  if (binary.matching.group != Matching::Group::none) {
    return problem(node, "no grouping allowed for \"" + op + "\" operation");
  }
  if (binary.matching.fill_left || binary.matching.fill_right) {
    return problem(node, "filling in missing series not allowed for set operators");
  }
  return {};
}

Found check_binary(const Node& node, const Binary& binary) {
  if (auto found = check(*binary.left)) return found;
  if (auto found = check(*binary.right)) return found;
  const auto left = binary.left->type;
  const auto right = binary.right->type;
  const auto& matching = binary.matching;
  const bool set = is_set_operator(binary.op);

  if (binary.return_bool && !is_comparison(binary.op)) {
    return Problem{binary.op_span.begin, "bool modifier can only be used on comparison operators"};
  }
  if (is_comparison(binary.op) && !binary.return_bool && left == ValueType::scalar &&
      right == ValueType::scalar) {
    return Problem{binary.op_span.begin, "comparisons between scalars must use BOOL modifier"};
  }
  if (matching.kind == Matching::Labels::on) {
    for (const auto& label : matching.labels) {
      if (std::find(matching.include.begin(), matching.include.end(), label) != matching.include.end()) {
        return Problem{binary.op_span.begin,
                       "label " + quote(label) + " must not occur in ON and GROUP clause at once"};
      }
    }
  }
  for (const Node* side : {binary.left.get(), binary.right.get()}) {
    if (side->type != ValueType::scalar && side->type != ValueType::vector) {
      return problem(*side, "binary expression must contain only scalar and instant vector types");
    }
  }
  if (left != ValueType::vector || right != ValueType::vector) {
    if (!matching.labels.empty())
      return problem(node, "vector matching only allowed between instant vectors");
    if (matching.fill_left || matching.fill_right) {
      return problem(node, "filling in missing series only allowed between instant vectors");
    }
    if (set) {
      return problem(node, "set operator \"" + std::string(spelling(binary.op)) +
                               "\" not allowed in binary scalar expression");
    }
    return {};
  }
  return set ? check_set_operator(node, binary) : Found{};
}

/// info(v, {label selectors}): the second argument names no metric and may match everything.
Found check_info_selector(const Node& argument) {
  if (argument.type != ValueType::vector) {
    return problem(argument, expected_type(ValueType::vector, "call to function \"info\"", argument.type));
  }
  const auto* selector = argument.get_if<Selector>();
  if (selector == nullptr) return problem(argument, "expected label selectors only");
  if (!selector->name.empty())
    return problem(argument, "expected label selectors only, got vector selector instead");
  return {};
}

Found check_call(const Node& node, const Call& call) {
  const Function& function = *call.function;
  const std::string name = quote(function.name);
  const auto count = call.arguments.size();
  const auto got = " argument(s) in call to " + name + ", got " + std::to_string(count);
  const auto wanted = function.argument_count;
  if (function.variadic == 0) {
    if (count != wanted) return problem(node, "expected " + std::to_string(wanted) + got);
  } else {
    const auto least = wanted - 1;
    if (count < least) return problem(node, "expected at least " + std::to_string(least) + got);
    const auto most = least + static_cast<std::size_t>(std::max(function.variadic, 0));
    if (function.variadic > 0 && count > most)
      return problem(node, "expected at most " + std::to_string(most) + got);
  }
  const bool info = function.name == "info";
  if (info && count > 1) {
    if (auto found = check_info_selector(*call.arguments[1])) return found;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (info && i == 1) continue;
    const auto type = function.argument_types[std::min(i, wanted - 1)];
    if (auto found = expect(*call.arguments[i], type, "call to function " + name)) return found;
  }
  return {};
}

Found check_selector(std::size_t at, const Selector& selector) {
  if (!selector.name.empty()) {
    for (const auto& matcher : selector.matchers) {
      if (matcher.label == "__name__") {
        return Problem{
            at, "metric name must not be set twice: " + quote(selector.name) + " or " + quote(matcher.value)};
      }
    }
    return {};
  }
  const bool some = std::any_of(selector.matchers.begin(), selector.matchers.end(),
                                [](const Matcher& matcher) { return !matches_empty(matcher); });
  if (!some) return Problem{at, "vector selector must contain at least one non-empty matcher"};
  return {};
}

}  // namespace

Found check(const Node& node) {
  if (const auto* aggregate = node.get_if<Aggregate>()) return check_aggregate(*aggregate);
  if (const auto* binary = node.get_if<Binary>()) return check_binary(node, *binary);
  if (const auto* call = node.get_if<Call>()) return check_call(node, *call);
  if (const auto* paren = node.get_if<Paren>()) return check(*paren->inner);
  if (const auto* selector = node.get_if<Selector>()) return check_selector(node.span.begin, *selector);
  if (const auto* matrix = node.get_if<Matrix>())
    return check_selector(matrix->selector_span.begin, matrix->selector);
  if (const auto* unary = node.get_if<Unary>()) {
    if (auto found = check(*unary->inner)) return found;
    if (unary->inner->type != ValueType::scalar && unary->inner->type != ValueType::vector) {
      return problem(node,
                     "unary expression only allowed on expressions of type scalar or instant vector, got \"" +
                         std::string(documented(unary->inner->type)) + "\"");
    }
    return {};
  }
  if (const auto* subquery = node.get_if<Subquery>()) {
    if (auto found = check(*subquery->inner)) return found;
    const auto type = subquery->inner->type;
    if (type != ValueType::vector) {
      const auto name = type == ValueType::matrix ? std::string_view("matrix") : documented(type);
      return problem(node,
                     "subquery is only allowed on instant vector, got " + std::string(name) + " instead");
    }
  }
  return {};
}

}  // namespace tunnelctl::promql
