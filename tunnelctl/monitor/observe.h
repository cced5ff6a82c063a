#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/monitor/objects.h"

/// What a Grafana holds of what packs want, and what they once made there. Reads only.
namespace tunnelctl::monitor {

struct Seen {
  Json content{};  // normalised, comparable with Object::content
  Json raw{};      // as the API showed it, a dashboard as text: what a restore writes back
  std::string title{};
  std::string provenance{};  // "", "api", "file", "converted_prometheus"
  std::string folder{};      // of dashboards: the uid of the folder it stands in
  std::int64_t version = 0;
  bool ours = false;         // carries the mark of the pack that is asked about
  bool provisioned = false;  // from files on the server: the API cannot change it
  /// Titles of rules in a group that are not marked as the pack's.
  std::vector<std::string> strangers{};
};

struct Observed {
  std::map<Key, Seen> objects{};
  /// Name -> true if one of its integrations is not the pack's: two would become one by accident.
  std::map<std::string, bool> contact_point_names{};
  /// Rule uid -> "<folder uid>/<group>" it stands in, for every rule of the organisation.
  std::map<std::string, std::string> rule_places{};
  /// What the credentials may do; nullopt when the server does not say.
  std::optional<std::set<std::string>> permissions{};
  /// Uids of folders that hold anything beside what the packs made.
  std::set<std::string> shared_folders{};
  /// The notification policies come from files on the server: nobody's routes can be changed by the API.
  bool routes_provisioned = false;
};

/// Asks for the wanted objects and for whatever carries the packs' marks: list calls, and one request for
/// each dashboard. Fails with the first answer that cannot be understood or was refused.
Result<Observed> observe(grafana::Server& server, const std::vector<Object>& wanted,
                         const std::set<std::string>& packs);

/// The server's data sources.
struct FoundDatasource {
  std::string uid{}, name{}, type{};
  bool is_default = false;
};
Result<std::vector<FoundDatasource>> datasources(grafana::Server& server);

}  // namespace tunnelctl::monitor
