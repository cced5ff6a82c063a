#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "tunnelctl/monitor/plan.h"

/// Carries a plan out. The only part that writes.
namespace tunnelctl::monitor {

struct ApplyOptions {
  /// People may change in Grafana's pages what is provisioned here (X-Disable-Provenance).
  bool editable = false;
  std::string message = "tunnelctl monitor setup";  // in the dashboards' history
  std::size_t parallel = 8;
  /// Called after each write, for progress.
  std::function<void(const Change&)> done{};
};

struct Applied {
  std::size_t writes = 0;
};

/// An apply that did not reach its end, and what became of what it had changed.
struct Failure {
  Error cause{};
  std::vector<std::string> restored{};
  /// What could not be put back: the object's state and the command that finishes the work.
  std::vector<std::string> left{};
};

/// In the order of the plan. Dashboards and rule groups go in parallel; whatever shares Alertmanager's
/// configuration goes one by one, because Grafana loses parallel writes of it. Versions that were seen in
/// the plan are sent along, and what has none is read once more: what somebody changed in between is an
/// error, not overwritten. When a write fails, or the stop is requested, everything written so far is put
/// back as the plan saw it.
tl::expected<Applied, Failure> apply(grafana::Server& server, const Plan& plan, const ApplyOptions& options,
                                     std::stop_token stop);

}  // namespace tunnelctl::monitor
