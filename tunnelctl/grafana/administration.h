#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"

/// Who is there, and who may do what.
namespace tunnelctl::grafana {

/// All objects of a list that comes in pages, up to `limit` (0: all).
struct Listed {
  std::vector<Json> items{};
  bool more = false;
};

/// Users of the organisation.
Result<Listed> org_users(Server& server);
/// With `part` in their name.
Result<Listed> teams(Server& server, const std::string& part, std::size_t limit);
Result<Listed> service_accounts(Server& server, const std::string& part, std::size_t limit);

/// The rest is Grafana Enterprise's and Cloud's: an open-source Grafana has no such routes, and these fail
/// with not_found, saying so.
///
/// Roles; `uid`: this one; with `assignments`: who has it.
Result<Json> roles(Server& server, bool delegatable);
Result<Json> role(Server& server, const std::string& uid, bool assignments);
/// Roles of users or teams: {"1": [...]}.
enum class Holders { users, teams };
Result<Json> roles_of(Server& server, Holders holders, const std::vector<std::int64_t>& ids);

/// Who may do what with one thing: `resource` such as folders, dashboards, datasources. An open-source
/// Grafana has it.
Result<Json> resource_permissions(Server& server, const std::string& resource, const std::string& id);
/// What can be permitted with things of that kind.
Result<Json> resource_description(Server& server, const std::string& resource);

}  // namespace tunnelctl::grafana
