#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"

/// Plugins that are installed.
namespace tunnelctl::grafana {

struct Plugin {
  std::string id{}, name{}, type{};  // datasource, panel, app, ...
  std::string version{};
  bool enabled = false;
};

/// By id. `type` filters, "" does not; `core`: those that come with Grafana too.
Result<std::vector<Plugin>> list_plugins(Server& server, const std::string& type, bool core);

/// All that the server says of one; nullopt when it is not installed.
Result<std::optional<Json>> read_plugin(Server& server, const std::string& id);

/// From the catalogue that the server uses, which is on the internet unless its operator set another. Fails
/// with denied where plugins are managed otherwise, and the route is not there.
Result<void> install_plugin(Server& server, const std::string& id, const std::string& version);

}  // namespace tunnelctl::grafana
