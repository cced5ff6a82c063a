#pragma once

#include <string>
#include <vector>

#include "common/result.h"
#include "tunnelctl/grafana/server.h"
#include "tunnelctl/monitor/objects.h"
#include "tunnelctl/render/render.h"

/// The way back: what stands in folders of a Grafana, as the files of a pack. Reads only; ids that belong to
/// one server, secrets and tunnelctl's own marks stay behind. `compile` of the exported pack gives the same
/// objects as the pack that was set up; what somebody made in Grafana by hand comes as near as files can say
/// it, and the notes tell the rest.
namespace tunnelctl::exporting {

using pack::Json;

struct ExportOptions {
  /// Uids. The first is the pack's folder.
  std::vector<std::string> folders{};
  bool dashboards = true;
  bool rules = true;
  /// The routes that are marked as those of a pack of this name; if there are none, the whole tree.
  bool notifications = true;
  std::string name{};   // of the pack: a-z, 0-9, - and _
  std::string title{};  // empty: the folder's
};

/// What Grafana's API answers, each list in its order.
struct Snapshot {
  Json folders = Json::array();      // GET /api/folders/:uid
  Json dashboards = Json::array();   // GET /api/dashboards/uid/:uid
  Json rule_groups = Json::array();  // GET /api/v1/provisioning/folder/:uid/rule-groups/:group
  Json datasources = Json::array();  // GET /api/datasources
  Json contact_points = Json::array();
  Json policies = nullptr;
  Json templates = Json::array();
  Json mute_timings = Json::array();
};

struct Exported {
  /// pack.yaml and what it names, in the order of their paths.
  std::vector<render::File> files{};
  /// What was changed or left out, and what is to be filled in.
  std::vector<std::string> notes{};
};

/// Only GETs. Fails with the first that is refused.
Result<Snapshot> fetch(grafana::Server& server, const ExportOptions& options);
/// Pure; the same snapshot gives the same bytes. Fails with bad_input if the name cannot be a pack's.
Result<Exported> pack_files(const Snapshot& seen, const ExportOptions& options);
/// Both.
Result<Exported> export_pack(grafana::Server& server, const ExportOptions& options);

}  // namespace tunnelctl::exporting
