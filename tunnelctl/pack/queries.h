#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/pack/pack.h"
#include "tunnelctl/promql/variables.h"

/// The queries of a pack's dashboards: what lint reads and verify runs.
namespace tunnelctl::pack {

/// Every panel of a dashboard, those inside collapsed rows too, in their order.
std::vector<const Json*> panels(const Json& dashboard);

struct Query {
  std::string dashboard{};  // uid
  std::int64_t panel = 0;
  std::string panel_title{};
  std::string ref{};         // refId
  std::string datasource{};  // as written: "${datasource}" or a uid
  std::string type{};        // prometheus, loki, ...; "" if the file does not say
  std::string expr{};        // as written
  bool instant = false;
  /// "<dashboard>/<panel>/<refId>"
  std::string id() const { return dashboard + "/" + std::to_string(panel) + "/" + ref; }
};
/// Targets with an expression; hidden ones too.
std::vector<Query> queries(const Dashboard& dashboard);

/// The dashboard's own variables with their current values, and Grafana's built-in ones for a look at the
/// last hour at 15 s scrapes. A variable whose value nobody knows yet stands for everything.
promql::Variables variables(const Dashboard& dashboard);

/// "$x", "${x}" or "${x:raw}" -> "x"; nullopt for anything else.
std::optional<std::string> variable_name(std::string_view text);

/// The exception that covers a query or rule; null if none does. Exceptions name a whole dashboard, a panel
/// or a target; rules as "rule/<name>".
const Exception* covering(const std::vector<Exception>& exceptions, std::string_view id,
                          std::string_view check = {});

}  // namespace tunnelctl::pack
