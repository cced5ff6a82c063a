#include "tunnelctl/grafana/organisations.h"

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
Result<std::vector<Organisation>> organisations(Server& server) {
  auto current = server.get("/api/org");
  if (!current) return tl::unexpected(current.error());
  const Organisation own{.id = number_of(*current, "id"), .name = text_of(*current, "name"), .current = true};
  const auto answer = server.call({.path = "/api/user/orgs"});
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Organisation> result;
  // A service account is no user: the list is refused or empty, and its organisation is the only one.
  if (answer->ok() && answer->json.is_array())
    for (const auto& item : answer->json) {
      const auto id = number_of(item, "orgId");
      result.push_back(
          {.id = id, .name = text_of(item, "name"), .role = text_of(item, "role"), .current = id == own.id});
    }
  if (result.empty()) result.push_back(own);
  return result;
}

}  // namespace tunnelctl::grafana
