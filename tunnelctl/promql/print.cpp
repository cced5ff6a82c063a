#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tunnelctl/promql/parser.h"

namespace tunnelctl::promql {
namespace {

std::string label_text(const std::string& label) {
  return is_label_name(label) ? label : quote(label);
}

std::string label_list(const std::vector<std::string>& labels) {
  std::string out = "(";
  for (const auto& label : labels) {
    if (out.size() > 1) out += ", ";
    out += label_text(label);
  }
  return out + ")";
}

std::string number_text(const Number& number) {
  if (!number.duration) return print_number(number.value);
  return print_duration(std::chrono::milliseconds{std::llround(number.value * 1000)});
}

std::string modifier_text(const Modifiers& modifiers) {
  std::string out;
  if (modifiers.extended == Modifiers::Extended::anchored) out += " anchored";
  if (modifiers.extended == Modifiers::Extended::smoothed) out += " smoothed";
  if (modifiers.at_ms) {
    const bool minus = *modifiers.at_ms < 0;
    const auto whole = std::to_string(std::abs(*modifiers.at_ms / 1000));
    const auto part = std::to_string(1000 + std::abs(*modifiers.at_ms % 1000)).substr(1);
    out += std::string(" @ ") + (minus ? "-" : "") + whole + "." + part;
  }
  if (modifiers.at_edge == Modifiers::Edge::start) out += " @ start()";
  if (modifiers.at_edge == Modifiers::Edge::end) out += " @ end()";
  if (modifiers.offset.count() != 0) out += " offset " + print_duration(modifiers.offset);
  return out;
}

std::string selector_text(const Selector& selector) {
  std::vector<std::string> matchers;
  for (const auto& matcher : selector.matchers) {
    matchers.push_back(label_text(matcher.label) + std::string(spelling(matcher.op)) + quote(matcher.value));
  }
  std::sort(matchers.begin(), matchers.end());
  std::string out = selector.name;
  if (matchers.empty() && !out.empty()) return out;
  out += "{";
  for (std::size_t i = 0; i < matchers.size(); ++i) out += (i == 0 ? "" : ",") + matchers[i];
  return out + "}";
}

std::string matching_text(const Matching& matching) {
  std::string out;
  const bool grouped = matching.group != Matching::Group::none;
  if (matching.kind == Matching::Labels::on || grouped || !matching.labels.empty()) {
    out += (matching.kind == Matching::Labels::on ? " on " : " ignoring ") + label_list(matching.labels);
  }
  if (grouped) {
    out += (matching.group == Matching::Group::left ? " group_left " : " group_right ") +
           label_list(matching.include);
  }
  if (matching.fill_left) out += " fill_left (" + print_number(*matching.fill_left) + ")";
  if (matching.fill_right) out += " fill_right (" + print_number(*matching.fill_right) + ")";
  return out;
}

/// Appends to one string, so that a high tree costs no copy per level.
class Printer {
 public:
  std::string out;

  void node(const Node& node) {
    if (const auto* number = node.get_if<Number>()) out += number_text(*number);
    if (const auto* string = node.get_if<String>()) out += quote(string->value);
    if (const auto* selector = node.get_if<Selector>())
      out += selector_text(*selector) + modifier_text(selector->modifiers);
    if (const auto* matrix = node.get_if<Matrix>()) {
      out += selector_text(matrix->selector) + "[" + print_duration(matrix->range) + "]" +
             modifier_text(matrix->modifiers);
    }
    if (const auto* subquery = node.get_if<Subquery>()) {
      this->node(*subquery->inner);
      out += "[" + print_duration(subquery->range) + ":";
      if (subquery->step.count() != 0) out += print_duration(subquery->step);
      out += "]" + modifier_text(subquery->modifiers);
    }
    if (const auto* unary = node.get_if<Unary>()) {
      out += unary->minus ? "-" : "+";
      this->node(*unary->inner);
    }
    if (const auto* paren = node.get_if<Paren>()) {
      out += "(";
      this->node(*paren->inner);
      out += ")";
    }
    if (const auto* value = node.get_if<Binary>()) binary(*value);
    if (const auto* value = node.get_if<Aggregate>()) aggregate(*value);
    if (const auto* value = node.get_if<Call>()) {
      out += value->name();
      list(value->arguments);
    }
  }

 private:
  void list(const std::vector<NodePtr>& nodes) {
    out += "(";
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (i != 0) out += ", ";
      node(*nodes[i]);
    }
    out += ")";
  }

  void binary(const Binary& binary) {
    node(*binary.left);
    out += " ";
    out += spelling(binary.op);
    if (binary.return_bool) out += " bool";
    out += matching_text(binary.matching) + " ";
    node(*binary.right);
  }

  void aggregate(const Aggregate& aggregate) {
    out += aggregate.op;
    if (aggregate.grouping == Aggregate::Grouping::without)
      out += " without " + label_list(aggregate.labels) + " ";
    if (aggregate.grouping == Aggregate::Grouping::by && !aggregate.labels.empty()) {
      out += " by " + label_list(aggregate.labels) + " ";
    }
    out += "(";
    if (aggregate.parameter) {
      node(*aggregate.parameter);
      out += ", ";
    }
    node(*aggregate.inner);
    out += ")";
  }
};

}  // namespace

std::string print(const Node& node) {
  Printer printer;
  printer.node(node);
  return std::move(printer.out);
}

}  // namespace tunnelctl::promql
