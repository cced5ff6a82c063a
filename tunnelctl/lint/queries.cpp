#include <algorithm>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/lint/shape.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/lint.h"

namespace tunnelctl::lint {
namespace {

using promql::Node;

class QueryLinter {
 public:
  QueryLinter(Context& context, const promql::Ast& ast, const QueryPlace& where)
      : context_(context), ast_(ast), where_(where) {}

  void run() {
    promql::LintOptions options;
    if (context_.contract) options.contract = &*context_.contract;
    if (context_.scrape_interval.count() > 0) options.scrape_interval = context_.scrape_interval;
    // One finding for each check and message: the same selector often stands on both sides.
    for (const auto& finding : promql::lint(ast_, options)) add(finding.check, finding.message);
    if (context_.contract)
      for (const auto& finding : promql::check_contract(ast_, *context_.contract))
        add(finding.check, finding.message);
    for (const auto& selector : promql::facts(*ast_.root).selectors)
      context_.metrics_used.insert(selector.metric);
    visit(*ast_.root);
  }

 private:
  void add(const std::string& check, const std::string& message) {
    if (said_.insert(check + message).second)
      context_.report.add(check, where_.place, where_.object, message);
  }
  std::string text(const Node& node) const { return std::string(ast_.text_of(node.span)); }

  void visit(const Node& node) {
    if (const auto* binary = node.get_if<promql::Binary>()) {
      comparison(node, *binary);
      matching(node, *binary);
    }
    if (const auto* aggregate = node.get_if<promql::Aggregate>()) grouping(node, *aggregate);
    for (const Node* child : promql::children(node)) visit(*child);
  }

  void comparison(const Node& node, const promql::Binary& binary) {
    if (!promql::is_comparison(binary.op) || binary.return_bool) return;
    const auto right = promql::constant(*binary.right);
    if (!right || promql::constant(*binary.left)) return;
    const Bounds value = bounds_of(*binary.left);
    if (can_hold(binary.op, value, *right)) return;
    add("impossible-comparison", text(node) + " never holds: its left side lies between " +
                                     promql::print_number(value.low) + " and " +
                                     promql::print_number(value.high));
  }

  void grouping(const Node& node, const promql::Aggregate& aggregate) {
    if (aggregate.grouping != promql::Aggregate::Grouping::by) return;
    const Labels inner = labels_of(*aggregate.inner);
    for (const auto& label : aggregate.labels)
      if (!inner.may_have(label))
        add("impossible-matching",
            "groups by " + label + ", which an inner aggregation has dropped: " + text(node));
  }

  /// Both sides must have the labels by which they meet.
  void matching(const Node& node, const promql::Binary& binary) {
    if (binary.left->type != promql::ValueType::vector || binary.right->type != promql::ValueType::vector)
      return;
    if (binary.op == promql::Op::logical_or) return;
    const Labels left = labels_of(*binary.left), right = labels_of(*binary.right);
    using Kind = promql::Matching::Labels;
    const auto& labels = binary.matching.labels;
    if (binary.matching.kind == Kind::on) {
      for (const auto& label : labels)
        if (!left.may_have(label) || !right.may_have(label))
          add("impossible-matching", "matches on " + label + ", which its " +
                                         (left.may_have(label) ? "right" : "left") +
                                         " side has not: " + text(node));
      return;
    }
    // What an aggregation names is there, as a rule; what the other side dropped is not.
    const auto missing = [&](const Labels& has, const Labels& lacks, const char* side) {
      if (has.open) return false;
      for (const auto& label : has.names) {
        const bool ignored = std::find(labels.begin(), labels.end(), label) != labels.end();
        if (ignored || lacks.may_have(label)) continue;
        add("impossible-matching", std::string("its ") + side + " side has no " + label +
                                       ", the other has: no two series meet in " + text(node));
        return true;
      }
      return false;
    };
    if (!missing(left, right, "right")) missing(right, left, "left");
  }

  Context& context_;
  const promql::Ast& ast_;
  const QueryPlace& where_;
  std::set<std::string> said_;
};

}  // namespace

void lint_query(Context& context, const promql::Ast& ast, const QueryPlace& where) {
  QueryLinter(context, ast, where).run();
}

}  // namespace tunnelctl::lint
