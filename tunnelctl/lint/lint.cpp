#include "tunnelctl/lint/lint.h"

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::lint {
namespace {

std::optional<promql::Contract> contract_of(const pack::Pack& pack) {
  if (pack.contract.empty()) return std::nullopt;
  using Type = promql::ContractMetric::Type;
  std::vector<promql::ContractMetric> metrics;
  for (const auto& one : pack.contract) {
    const auto type = one.type == "counter" ? Type::counter
                      : one.type == "gauge" ? Type::gauge
                                            : Type::histogram;
    metrics.push_back({one.name, type, one.labels});
  }
  std::vector<std::string> recorded;
  each_rule(pack, [&](const pack::RuleGroup&, const pack::Rule& rule) {
    if (!rule.record.empty()) recorded.push_back(rule.record);
  });
  return promql::Contract(metrics, std::move(recorded));
}

}  // namespace

std::vector<Finding> lint(const pack::Pack& pack, const LintOptions& options) {
  Report report;
  Context context{.pack = pack, .options = options, .report = report, .contract = contract_of(pack)};
  const auto interval =
      pack.scrape ? pack::duration(pack.scrape->interval) : Result<std::chrono::milliseconds>{};
  context.scrape_interval = interval ? *interval : std::chrono::milliseconds(0);
  for (const auto& dashboard : pack.dashboards) lint_dashboard(context, dashboard);
  lint_rules(context);
  lint_notifications(context);
  lint_runbooks(context);
  lint_contract(context);
  lint_secrets(context);
  return report.finish(pack);
}

}  // namespace tunnelctl::lint
