#include "tunnelctl/grafana/administration.h"

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr std::size_t kPage = 1000;       // what the server gives at most
constexpr std::size_t kMostPages = 1000;  // against one whose pages never end

Result<Listed> pages(Server& server, const std::string& path, const char* member_name,
                     const std::string& part, std::size_t limit) {
  Listed result;
  for (std::size_t page = 1; page <= kMostPages; ++page) {
    std::string asked = path + "?perpage=" + std::to_string(kPage) + "&page=" + std::to_string(page);
    if (!part.empty()) asked += "&query=" + escape(part);
    const auto answer = server.get(asked);
    if (!answer) return tl::unexpected(answer.error());
    const Json& rows = member(*answer, member_name);
    if (!rows.is_array())
      return fail(Error::Kind::unavailable, "GET " + server.url() + path + ": the answer holds no list");
    for (const auto& row : rows) {
      if (limit > 0 && result.items.size() == limit) {
        result.more = true;
        return result;
      }
      result.items.push_back(row);
    }
    if (rows.size() < kPage) return result;
  }
  result.more = true;
  return result;
}

Result<Json> enterprise(Server& server, const Call& call) {
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 404 && message_of(*answer) == "Not found")
    return fail(Error::Kind::not_found,
                call.method + " " + server.url() + call.path.substr(0, call.path.find('?')) +
                    ": 404: this Grafana has no such route; roles are part of Grafana Enterprise and Cloud");
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return std::move(answer->json);
}

}  // namespace

Result<Listed> org_users(Server& server) {
  const auto answer = server.get("/api/org/users");
  if (!answer) return tl::unexpected(answer.error());
  Listed result;
  for (const auto& one : *answer) result.items.push_back(one);
  return result;
}

Result<Listed> teams(Server& server, const std::string& part, std::size_t limit) {
  return pages(server, "/api/teams/search", "teams", part, limit);
}

Result<Listed> service_accounts(Server& server, const std::string& part, std::size_t limit) {
  return pages(server, "/api/serviceaccounts/search", "serviceAccounts", part, limit);
}

Result<Json> roles(Server& server, bool delegatable) {
  return enterprise(
      server, {.path = std::string("/api/access-control/roles") + (delegatable ? "?delegatable=true" : "")});
}

Result<Json> role(Server& server, const std::string& uid, bool assignments) {
  return enterprise(
      server, {.path = "/api/access-control/roles/" + escape(uid) + (assignments ? "/assignments" : "")});
}

Result<Json> roles_of(Server& server, Holders holders, const std::vector<std::int64_t>& ids) {
  const bool users = holders == Holders::users;
  return enterprise(
      server, {.method = "POST",
               .path = std::string("/api/access-control/") + (users ? "users" : "teams") + "/roles/search",
               .body = {{users ? "userIds" : "teamIds", ids}},
               .asks = true});
}

Result<Json> resource_permissions(Server& server, const std::string& resource, const std::string& id) {
  return enterprise(server, {.path = "/api/access-control/" + escape(resource) + "/" + escape(id)});
}

Result<Json> resource_description(Server& server, const std::string& resource) {
  return enterprise(server, {.path = "/api/access-control/" + escape(resource) + "/description"});
}

}  // namespace tunnelctl::grafana
