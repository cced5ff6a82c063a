#include "tunnelctl/grafana/plugins.h"

#include <algorithm>

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {

Result<std::vector<Plugin>> list_plugins(Server& server, const std::string& type, bool core) {
  std::string path = "/api/plugins?embedded=0";
  if (!core) path += "&core=0";
  if (!type.empty()) path += "&type=" + escape(type);
  const auto answer = server.get(path);
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Plugin> result;
  for (const auto& item : *answer) {
    Plugin one{.id = text_of(item, "id"),
               .name = text_of(item, "name"),
               .type = text_of(item, "type"),
               .version = text_of(member(item, "info"), "version"),
               .enabled = flag_of(item, "enabled")};
    // Unknown types are no filter for the server.
    if (type.empty() || one.type == type) result.push_back(std::move(one));
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return result;
}

Result<std::optional<Json>> read_plugin(Server& server, const std::string& id) {
  const Call call{.path = "/api/plugins/" + escape(id) + "/settings"};
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 404) return std::nullopt;
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable,
                "GET " + server.url() + call.path + ": the answer is no object: " + message_of(*answer));
  Json json = std::move(answer->json);
  json.erase("secureJsonData");
  return std::optional<Json>(std::move(json));
}

Result<void> install_plugin(Server& server, const std::string& id, const std::string& version) {
  Call call{.method = "POST", .path = "/api/plugins/" + escape(id) + "/install", .body = Json::object()};
  if (!version.empty()) call.body["version"] = version;
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  // The route is there only where the server manages plugins itself, and for its own administrators.
  if (answer->status == 404 && message_of(*answer) == "Not found")
    return fail(Error::Kind::denied,
                server.url() + " installs no plugins over its API (plugin_admin_enabled is off); install " +
                    id + " on the machine: grafana cli plugins install " + id);
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return {};
}

}  // namespace tunnelctl::grafana
