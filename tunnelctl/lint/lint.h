#pragma once

#include <chrono>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/pack/pack.h"

/// Judges a pack that loads: what would work badly, mislead or stay silent, although every file is valid.
/// Knows the rules of grafana/dashboard-linter and cloudflare/pint as far as they need no server, and what
/// follows from seeing dashboards, rules, routes, runbooks and the metric contract together. Pure; touches
/// neither files nor servers.
namespace tunnelctl::lint {

/// error: it cannot do what it is there for. warning: it misleads, or is fragile. info: good to know.
enum class Severity { error, warning, info };
std::string_view name(Severity severity);

struct Check {
  std::string_view id{};
  Severity severity = Severity::warning;
  std::string_view about{};  // one line
  /// What dashboard-linter ("target-counter-agg-rule") or pint ("promql/counter") call it; suppressions may
  /// use that name, too. Empty: theirs do not have it.
  std::string_view also{};
};
/// Every check, sorted by id.
std::span<const Check> list_checks();

struct Finding {
  std::string check{};
  Severity severity = Severity::warning;
  pack::Place place{};
  /// "<dashboard uid>[/<panel id>[/<refId>]]", "rule/<name>", "alertmanager/<part>", "runbook/<name>",
  /// "contract/<metric>", "pack"
  std::string object{};
  std::string message{};  // with the remedy
  /// Why the pack accepts it (lint.ignore); empty when it stands.
  std::string suppressed{};
};

struct LintOptions {
  /// What the label `severity` may say.
  std::vector<std::string> severities{"critical", "warning", "info"};
  /// What every alert carries.
  std::vector<std::string> labels{"severity", "component", "service"};
  /// Gauges of states that do not last: an alert on one state, held by `for` that long, never fires.
  /// tunneld's breaker half-opens after a minute.
  std::map<std::string, std::chrono::milliseconds, std::less<>> states{
      {"tunnel_circuit_breaker_state", std::chrono::seconds(60)}};
};

/// In the order of the pack: dashboards, rules, notifications, runbooks, contract; suppressed ones included.
/// The same pack gives the same list.
std::vector<Finding> lint(const pack::Pack& pack, const LintOptions& options = {});

}  // namespace tunnelctl::lint
