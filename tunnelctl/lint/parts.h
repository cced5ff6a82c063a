#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "tunnelctl/lint/json.h"
#include "tunnelctl/lint/report.h"
#include "tunnelctl/promql/ast.h"
#include "tunnelctl/promql/contract.h"

/// The linter's parts, one a subject.
namespace tunnelctl::lint {

struct Context {
  const pack::Pack& pack;
  const LintOptions& options;
  Report& report;
  /// Nothing is known of metrics without one.
  std::optional<promql::Contract> contract{};
  std::chrono::nanoseconds scrape_interval{};
  std::set<std::string, std::less<>> metrics_used{};
};

void lint_dashboard(Context& context, const pack::Dashboard& dashboard);
/// One panel, without its queries.
void lint_panel(Context& context, const pack::Dashboard& dashboard, const Json& panel);
/// The variables: made, used, filled.
void lint_variables(Context& context, const pack::Dashboard& dashboard);
/// The queries of all panels.
void lint_targets(Context& context, const pack::Dashboard& dashboard);
bool is_unit(std::string_view unit);

void lint_rules(Context& context);
/// Go templates in an alert's labels and annotations.
void lint_templates(Context& context, const pack::Rule& rule, const promql::Ast& ast);

/// A PromQL query of a panel or rule: checks that need nothing but the query and the contract.
struct QueryPlace {
  pack::Place place;
  std::string object;
};
void lint_query(Context& context, const promql::Ast& ast, const QueryPlace& where);

void lint_notifications(Context& context);
void lint_inhibition(Context& context);
void lint_runbooks(Context& context);
void lint_contract(Context& context);
void lint_secrets(Context& context);

/// An alert's labels as Alertmanager gets them, as far as the rule says; templates left as they are.
pack::Texts alert_labels(const pack::RuleGroup& group, const pack::Rule& rule);

/// Calls visit(group, rule) for every rule of the pack.
template <class Visit>
void each_rule(const pack::Pack& pack, const Visit& visit) {
  for (const auto& file : pack.rule_files)
    for (const auto& group : file.groups)
      for (const auto& rule : group.rules) visit(group, rule);
}

}  // namespace tunnelctl::lint
