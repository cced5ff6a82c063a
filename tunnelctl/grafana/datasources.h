#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"

namespace tunnelctl::grafana {

struct Datasource {
  std::string uid{}, name{}, type{}, url{};
  bool is_default = false;
  bool read_only = false;  // provisioned from a file on the server
  Json json{};             // all that the server says; without passwords, those in its URL too
};

struct Datasources {
  std::vector<Datasource> items{};
  /// The caller may not list them; these are from the settings of the web page, which know less.
  bool from_settings = false;
};

/// By name.
Result<Datasources> list_datasources(Server& server);
/// By uid, else by exact name. Fails with not_found, listing what there is.
Result<Datasource> find_datasource(Server& server, const std::string& uid_or_name);

struct DatasourceWritten {
  Datasource datasource{};
  std::optional<std::string> conflict{};  // name or uid are taken, or it is provisioned
};
/// As the API has it, with its secrets in secureJsonData.
Result<DatasourceWritten> create_datasource(Server& server, const Json& json);
/// Lays `change` over what is there (RFC 7386), and saves that.
Result<DatasourceWritten> update_datasource(Server& server, const std::string& uid, const Json& change);
Result<void> delete_datasource(Server& server, const std::string& uid);

/// One way to reach a data source, and what came of it.
struct Route {
  std::string name{};   // health, resources, proxy, query
  unsigned status = 0;  // 0: no answer
  std::string said{};
};

struct Check {
  enum class State { ok, failed, unknown };  // unknown: its plugin has no health check, or we may not ask
  Datasource datasource{};
  State state = State::unknown;
  std::string message{};
  std::vector<Route> tried{};
};

/// Asks each for its health, in parallel. Where the health address itself is refused or missing, the data
/// routes are tried in turn as DatasourceRoutes would use them (for Prometheus: resources, proxy; for Loki:
/// proxy, resources), and the query route of grafana::query() after them: one may be closed while another
/// works. `done` after each round, with how many
/// are settled.
std::vector<Check> check_datasources(Server& server, const std::vector<Datasource>& datasources,
                                     const std::function<void(std::size_t)>& done = {});

}  // namespace tunnelctl::grafana
