#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"

/// Snapshots: dashboards with the data that they showed, readable by whoever knows their address.
namespace tunnelctl::grafana {

struct Snapshot {
  std::string key{}, name{}, created{}, expires{}, external_url{};
  bool external = false;
};

struct Snapshots {
  std::vector<Snapshot> items{};
  bool more = false;
};
/// `part` of the name; `limit` 0: all.
Result<Snapshots> list_snapshots(Server& server, const std::string& part, std::size_t limit);

/// {"meta": ..., "dashboard": ...}. Fails with not_found.
Result<Json> read_snapshot(Server& server, const std::string& key);

struct SnapshotMade {
  std::string key{}, url{};
  std::string delete_url{};  // whoever has it may delete the snapshot
};
/// The data must be in the panels already (snapshotData). `expires` 0: never.
Result<SnapshotMade> create_snapshot(Server& server, const Json& dashboard, const std::string& name,
                                     std::chrono::seconds expires);
Result<void> delete_snapshot(Server& server, const std::string& key);

}  // namespace tunnelctl::grafana
