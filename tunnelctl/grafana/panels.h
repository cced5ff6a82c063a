#pragma once

#include <string>
#include <vector>

#include "tunnelctl/grafana/dashboards.h"
#include "tunnelctl/grafana/json_path.h"

/// What a dashboard is made of, in both schemas, and how a person names a part of it.
namespace tunnelctl::grafana {

struct Panel {
  Location location{};         // in the dashboard's content
  const Json* json = nullptr;  // classic: the panel; v2: the element's spec
  std::string id{}, title{}, type{};
  std::string row{};  // the title of the row it is folded into
};

/// All of them, those in collapsed rows too; rows themselves are none.
std::vector<Panel> panels_of(const Json& content);

/// A part of a dashboard by what does not move when somebody inserts a panel.
struct Selector {
  std::string panel{};     // id or exact title
  std::string query{};     // refId in that panel
  std::string variable{};  // name of a template variable
  bool empty() const { return panel.empty() && query.empty() && variable.empty(); }
};

/// Where that part stands (in schema v2: its spec); the root for an empty selector. Fails with not_found,
/// listing what there is, and with bad_input when the name fits several.
Result<Location> find(const Json& content, const Selector& selector);

/// Title, folder, variables, panels and their queries:
/// {"uid", "title", "version", "schema", "folder": {"uid", "title"}, "tags": [], "time": {}, "refresh",
/// "url",
///  "variables": [{"name", "type", "value"}], "panels": [{"id", "type", "title", "row", "queries": [{"ref",
///  "datasource", "query"}]}]}
Json summary(const Dashboard& dashboard);

}  // namespace tunnelctl::grafana
