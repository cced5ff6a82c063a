#include "tunnelctl/grafana/contact_points.h"

#include <map>

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {

Result<std::vector<ContactPoint>> list_contact_points(Server& server) {
  auto list = server.get("/api/v1/provisioning/contact-points");
  if (!list) return tl::unexpected(list.error());
  std::map<std::string, ContactPoint> by_name;
  for (const auto& item : *list) {
    Integration one{.uid = text_of(item, "uid"),
                    .type = text_of(item, "type"),
                    .provenance = text_of(item, "provenance"),
                    .json = item};
    for (const auto& setting : member(item, "settings").items()) one.settings.push_back(setting.key());
    auto& point = by_name[text_of(item, "name")];
    point.name = text_of(item, "name");
    point.integrations.push_back(std::move(one));
  }
  std::vector<ContactPoint> result;
  for (auto& [name, point] : by_name) result.push_back(std::move(point));
  return result;
}

Result<std::vector<Delivery>> test_contact_point(Server& server, const ContactPoint& point) {
  Json configs = Json::array();
  for (const auto& one : point.integrations) {
    Json settings = member(one.json, "settings");
    Json secure = Json::object();
    // The server fills in what it keeps secret when the uid comes with the names of those fields.
    for (const auto& name : one.settings) {
      if (settings[name] != "[REDACTED]") continue;
      secure[name] = true;
      settings.erase(name);
    }
    configs.push_back({{"uid", one.uid},
                       {"name", point.name},
                       {"type", one.type},
                       {"settings", std::move(settings)},
                       {"secureFields", std::move(secure)},
                       {"disableResolveMessage", flag_of(one.json, "disableResolveMessage")}});
  }
  const Call call{
      .method = "POST",
      .path = "/api/alertmanager/grafana/config/api/v1/receivers/test",
      .body = {{"receivers", Json::array({{{"name", point.name},
                                           {"grafana_managed_receiver_configs", std::move(configs)}}})}}};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  const Json& receivers = member(answer->json, "receivers");
  // 207: some could not be delivered; 400 and 408 tell of each too, unless the body was refused as a whole.
  if (!receivers.is_array()) return tl::unexpected(server.error(call, *answer));
  std::vector<Delivery> result;
  for (const auto& receiver : receivers) {
    for (const auto& row : member(receiver, "grafana_managed_receiver_configs")) {
      Delivery delivery{.uid = text_of(row, "uid"),
                        .name = text_of(row, "name"),
                        .delivered = text_of(row, "status") == "ok",
                        .error = text_of(row, "error")};
      for (const auto& one : point.integrations)
        if (one.uid == delivery.uid) delivery.type = one.type;
      result.push_back(std::move(delivery));
    }
  }
  return result;
}

}  // namespace tunnelctl::grafana
