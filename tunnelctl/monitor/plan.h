#pragma once

#include <string>
#include <vector>

#include "tunnelctl/monitor/normalise.h"
#include "tunnelctl/monitor/observe.h"

/// What apply would do, and why some of it must not be done. Pure.
namespace tunnelctl::monitor {

enum class Action { none, create, update, remove };
std::string_view name(Action action);

struct Change {
  Action action = Action::none;
  Object wanted{};  // of a removal only key, pack and title
  Seen before{};    // of a creation empty
  std::vector<Difference> differences{};
  /// Why it is not ours to change; empty when it is. The commands carry such a plan out only with --force.
  std::string conflict{};
  /// Of contact points: the secrets are written, too. Otherwise "[REDACTED]" keeps those the server has.
  bool send_secrets = false;
};

struct PlanOptions {
  bool prune = true;            // remove what packs once made and no longer want
  bool rotate_secrets = false;  // write contact points again although only their secrets may differ
  bool destroy = false;         // want nothing
};

struct Plan {
  std::vector<Change> changes{};  // in the order of apply; those without action are left out
  std::size_t unchanged = 0;
  std::vector<std::string> missing_permissions{};
  std::vector<std::string> missing_secrets{};
  std::vector<std::string> notes{};
  bool empty() const { return changes.empty(); }
  std::size_t conflicts() const;
  std::size_t count(Action action) const;
};

/// Takes its arguments over: of what changes nothing is copied, of what does not nothing is kept.
Plan plan(std::vector<Object> wanted, Observed observed, const std::set<std::string>& packs,
          const PlanOptions& options);

}  // namespace tunnelctl::monitor
