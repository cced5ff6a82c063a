#include "tunnelctl/grafana/snapshots.h"

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr std::size_t kAll = 100'000;

Result<Json> sent(Server& server, const Call& call, const std::string& key) {
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 404 && !key.empty())
    return fail(Error::Kind::not_found,
                "no snapshot has the key \"" + key + "\"; see: tunnelctl snapshot list");
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable, call.method + " " + server.url() + call.path +
                                              ": the answer is no object: " + message_of(*answer));
  return std::move(answer->json);
}

}  // namespace

Result<Snapshots> list_snapshots(Server& server, const std::string& part, std::size_t limit) {
  std::string path = "/api/dashboard/snapshots?limit=" + std::to_string(limit == 0 ? kAll : limit + 1);
  if (!part.empty()) path += "&query=" + escape(part);
  const auto answer = server.get(path);
  if (!answer) return tl::unexpected(answer.error());
  Snapshots result;
  for (const auto& item : *answer)
    result.items.push_back({.key = text_of(item, "key"),
                            .name = text_of(item, "name"),
                            .created = text_of(item, "created"),
                            .expires = text_of(item, "expires"),
                            .external_url = text_of(item, "externalUrl"),
                            .external = flag_of(item, "external")});
  result.more = limit > 0 && result.items.size() > limit;
  if (result.more) result.items.resize(limit);
  return result;
}

Result<Json> read_snapshot(Server& server, const std::string& key) {
  return sent(server, {.path = "/api/snapshots/" + escape(key)}, key);
}

Result<SnapshotMade> create_snapshot(Server& server, const Json& dashboard, const std::string& name,
                                     std::chrono::seconds expires) {
  // The server says "Dashboard not found" to it, as if it had looked.
  if (text_of(dashboard, "uid").empty())
    return fail(Error::Kind::bad_input, "the dashboard has no uid, and Grafana makes no snapshots of such");
  Call call{.method = "POST", .path = "/api/snapshots", .body = {{"dashboard", dashboard}}};
  if (!name.empty()) call.body["name"] = name;
  if (expires.count() > 0) call.body["expires"] = expires.count();
  const auto answer = sent(server, call, {});
  if (!answer) return tl::unexpected(answer.error());
  return SnapshotMade{.key = text_of(*answer, "key"),
                      .url = text_of(*answer, "url"),
                      .delete_url = text_of(*answer, "deleteUrl")};
}

Result<void> delete_snapshot(Server& server, const std::string& key) {
  const auto answer = sent(server, {.method = "DELETE", .path = "/api/snapshots/" + escape(key)}, key);
  if (!answer) return tl::unexpected(answer.error());
  return {};
}

}  // namespace tunnelctl::grafana
