#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/times/moment.h"

/// What alert rules did: their changes of state.
namespace tunnelctl::grafana {

struct StateChange {
  times::Time time{};
  std::string rule_uid{};             // "" where the server does not say
  std::string rule{};                 // its title
  std::string previous{}, current{};  // "Normal", "Pending", "Alerting", "Alerting (NoData)", ...
  Json labels = Json::object();       // of the alert
  Json values = Json::object();       // of its expressions, by refId
  std::string error{};
};

struct HistoryQuery {
  std::string rule_uid{};  // "": of all rules
  times::Range range{};
  std::size_t limit = 100;
};

struct History {
  std::vector<StateChange> changes{};  // the newest first
  bool more = false;                   // there are more than these, or may be: 5,000 are asked for at most
  std::string source{};                // "history", or "annotations" where that knows nothing
};

/// Asks the state history, which Grafana keeps in Loki or among its annotations; and where it cannot say
/// (no such rule for it, no rule named, an older server), the annotations themselves.
Result<History> alert_history(Server& server, const HistoryQuery& query);

/// The changes in an answer of /api/v1/rules/history, in its own order. Exposed for tests.
std::vector<StateChange> changes_of_frame(const Json& frame);

}  // namespace tunnelctl::grafana
