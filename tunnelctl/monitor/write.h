#pragma once

#include <optional>

#include "tunnelctl/monitor/apply.h"

/// The requests that make, change, remove and put back one object.
namespace tunnelctl::monitor {

/// The one request of a change; nullopt for routes, which are read and written in one go (write_routes).
std::optional<grafana::Call> request(const Change& change, const ApplyOptions& options);
/// The one request that makes it as it was before the change; nullopt for routes.
std::optional<grafana::Call> restoring(const Change& change);

/// What shows the object once more right before it is written, for kinds without a version that could be sent
/// along; nullopt for the others. A contact point is shown in the list of all.
std::optional<grafana::Call> look(const Change& change);

/// Replaces the pack's subtree of the notification policies by `subtree` (null: removes it), and leaves every
/// other route as it stands at this moment. `expected` is the subtree that must be there (null: none),
/// unless `subtree` is there already; nullopt takes any. Their provenance stays what it is.
Result<void> write_routes(grafana::Server& server, const std::string& pack, const Json& subtree,
                          const std::optional<Json>& expected);

/// What a person types to look at the object.
std::string inspection(const Key& key);

}  // namespace tunnelctl::monitor
