#include <algorithm>

#include "tunnelctl/monitor/verify_parts.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::monitor {
namespace {

/// One spelling for each meaning; text that does not parse is itself.
std::string canonical(const std::string& expr) {
  const auto parsed = promql::parse(expr, {.experimental = true});
  return parsed ? promql::print(*parsed->root) : expr;
}

const prometheus::Rule* find(const std::vector<prometheus::RuleGroup>& groups, const pack::RuleGroup& group,
                             const pack::Rule& wanted) {
  const prometheus::Rule* same_name = nullptr;
  const std::string expr = canonical(wanted.expr);
  for (const auto& one : groups) {
    if (one.name != group.name) continue;
    for (const auto& rule : one.rules) {
      if (rule.name != wanted.name() || rule.alerting != wanted.record.empty()) continue;
      if (canonical(rule.query) == expr) return &rule;
      if (same_name == nullptr) same_name = &rule;
    }
  }
  return same_name;
}

void judge(const prometheus::Rule& rule, const pack::Rule& wanted, Check& check) {
  if (!rule.last_error.empty() || rule.health == "err") {
    check.status = Status::error;
    check.message = rule.last_error.empty() ? "health err" : rule.last_error;
    return;
  }
  if (rule.health == "unknown") {
    check.status = Status::pending;
    check.message = "not evaluated yet";
    return;
  }
  check.status = Status::ok;
  check.message = rule.state.empty() ? "health " + rule.health : rule.state;
  if (canonical(rule.query) != canonical(wanted.expr)) {
    check.status = Status::warning;
    check.message += "; the server runs another expression than the pack's: " + rule.query;
  }
}

}  // namespace

std::vector<Check> check_prometheus_rules(const pack::Pack& pack,
                                          const std::vector<prometheus::RuleGroup>& groups,
                                          const std::string& suffix) {
  std::vector<Check> result;
  RuleIds ids;
  for (const auto& file : pack.rule_files) {
    for (const auto& group : file.groups) {
      for (const auto& wanted : group.rules) {
        Check check{.kind = Check::Kind::rule,
                    .id = ids.next(wanted.name()) + suffix,
                    .title = wanted.name(),
                    .expr = wanted.expr};
        if (const auto* rule = find(groups, group, wanted)) {
          judge(*rule, wanted, check);
        } else {
          check.status = Status::missing;
          check.message = "no rule of that name in a group " + group.name +
                          "; load the pack's rule files into Prometheus (rule_files)";
        }
        result.push_back(std::move(check));
      }
    }
  }
  return result;
}

std::vector<RuleQuery> prometheus_rule_queries(const pack::Pack& pack) {
  std::vector<RuleQuery> result;
  for (const auto& file : pack.rule_files) {
    for (const auto& group : file.groups) {
      for (const auto& rule : group.rules) {
        RuleQuery query{rule.name(), rule.expr, !rule.alert.empty()};
        const auto parsed = promql::parse(rule.expr, {.experimental = true});
        if (const auto split = parsed && query.whole ? promql::split_comparison(*parsed) : std::nullopt) {
          query.expr = split->inner;
          query.whole = false;
        }
        result.push_back(std::move(query));
      }
    }
  }
  return result;
}

}  // namespace tunnelctl::monitor
