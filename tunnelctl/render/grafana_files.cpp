#include <algorithm>

#include "tunnelctl/render/parts.h"

/// Grafana's provisioning folder. Source: pkg/services/provisioning of Grafana 12.4 and its documentation.
namespace tunnelctl::render {
namespace {

/// Grafana replaces `$NAME` by the environment's value in most of these files; "$$" is a dollar.
std::string dollars(const std::string& text) {
  std::string result;
  for (const char c : text) result.append(c == '$' ? 2 : 1, c);
  return result;
}

Json dollars(Json value) {
  if (value.is_string()) return dollars(value.get<std::string>());
  if (value.is_structured())
    for (Json& item : value) item = dollars(std::move(item));
  return value;
}

/// In a rule group's `folder` a slash leads into a folder; in a dashboard provider's it is a letter.
std::string folder_path(const std::string& title) {
  std::string result;
  for (const char c : title) {
    if (c == '/') result += '\\';
    result += c;
  }
  return result;
}

/// Annotations and models are read as they stand; all other text goes through the environment.
Json rule(const Json& from) {
  const Json whole = whole_rule(from);
  Json result = Json::object();
  for (const auto& item : whole.items()) {
    if (item.key() == "annotations")
      result["annotations"] = item.value();
    else if (item.key() == "keep_firing_for")
      result["keepFiringFor"] = item.value();
    else if (item.key() != "data" && item.key() != "record")
      result[item.key()] = dollars(item.value());
  }
  for (const Json& node : whole["data"]) {
    Json one = dollars(node);
    one["model"] = node.at("model");
    result["data"].push_back(std::move(one));
  }
  if (whole.contains("record")) {
    const Json& record = whole["record"];
    result["record"] = {{"metric", dollars(record.at("metric"))},
                        {"from", record.at("from")},
                        {"targetDatasourceUid", dollars(record.at("target_datasource_uid"))}};
    for (const char* meaningless : {"condition", "noDataState", "execErrState", "for"})
      result.erase(meaningless);
  }
  // Grafana keeps the panel beside the annotations that say the same.
  if (const auto texts = whole.find("annotations");
      texts != whole.end() && texts->contains("__dashboardUid__")) {
    const std::string panel = texts->value("__panelId__", "");
    if (!panel.empty() && panel.size() < 10 && panel.find_first_not_of("0123456789") == std::string::npos) {
      result["dashboardUid"] = dollars(texts->at("__dashboardUid__"));
      result["panelId"] = std::stoi(panel);
    }
  }
  return result;
}

Json contact_point(const Work& work, const ContactPoint& point) {
  Json receivers = Json::array();
  for (const Object* integration : point.integrations) {
    const Json& from = integration->content;
    Json settings = dollars(from.at("settings"));
    // Without braces: a value between braces would be looked through for variables once more.
    for (const auto& secret : work.secrets(*integration)) settings[secret.key] = "$" + secret.environment;
    receivers.push_back({{"uid", from.at("uid")},
                         {"type", from.at("type")},
                         {"settings", std::move(settings)},
                         {"disableResolveMessage", from.value("disableResolveMessage", false)}});
  }
  return {{"orgId", work.options.org}, {"name", dollars(point.name)}, {"receivers", std::move(receivers)}};
}

Json with_org(const Work& work, Json object) {
  object["orgId"] = work.options.org;
  return object;
}

void dashboards(Work& work) {
  const auto all = work.objects(Kind::dashboard);
  if (all.empty()) return;
  const std::string folder = "dashboards/" + work.pack.name;
  // No folderUid: rules come before dashboards and find their folder by its title alone, so that on an empty
  // Grafana a provider with another uid would make a second folder of the same title.
  const Json provider{{"name", dollars(work.pack.name)},
                      {"orgId", work.options.org},
                      {"type", "file"},
                      {"folder", dollars(work.pack.folder_title)},
                      {"disableDeletion", false},
                      {"allowUiUpdates", false},
                      {"updateIntervalSeconds", 30},
                      {"options", {{"path", dollars(work.options.provisioning_path + "/" + folder)}}}};
  work.add(
      Format::grafana_files, folder + ".yaml",
      yaml_file("The dashboards of pack " + work.pack.name + ", for " + work.options.provisioning_path +
                    "/dashboards.\nTheir data sources are those with the uids " + work.datasources_text() +
                    ";\nname others with --datasource when these files are rendered. The folder gets uid " +
                    work.pack.folder_uid +
                    " only\nif it exists before, as Grafana makes missing folders "
                    "by their title.",
                {{{"apiVersion", 1}, {"providers", Json::array({provider})}}}));
  for (const Object* dashboard : all)
    work.add(Format::grafana_files, folder + "/" + dashboard->key.id + ".json", dashboard->content.dump(2));
}

void alerting(Work& work) {
  Json document{{"apiVersion", 1}};
  for (const Object* group : work.objects(Kind::rule_group)) {
    Json rules = Json::array();
    for (const Json& one : group->content.at("rules")) rules.push_back(rule(one));
    document["groups"].push_back(
        {{"orgId", work.options.org},
         {"name", dollars(group->title)},
         {"folder", dollars(folder_path(work.pack.folder_title))},
         {"interval", pack::duration_text(std::chrono::seconds(group->content.at("interval").get<int>()))},
         {"rules", std::move(rules)}});
  }
  for (const auto& point : work.contact_points())
    document["contactPoints"].push_back(contact_point(work, point));
  // Templates and mute timings are read as they stand.
  for (const Object* one : work.objects(Kind::template_group))
    document["templates"].push_back(with_org(work, one->content));
  for (const Object* one : work.objects(Kind::mute_timing))
    document["muteTimes"].push_back(with_org(work, one->content));
  if (document.size() == 1) return;
  std::string comment = "Alerting of pack " + work.pack.name + ", for " + work.options.provisioning_path +
                        "/alerting.\nData sources by uid: " + work.datasources_text() + ".\n";
  std::vector<std::string> names;
  for (const auto& secret : work.secrets()) names.push_back(secret.environment);
  if (!names.empty())
    comment +=
        "Secrets come from the environment of Grafana's process, which does not start without them:\n" +
        lines_of(names);
  comment +=
      "What is taken out of this file stays in Grafana; name it under deleteRules, deleteContactPoints, ...";
  work.add(Format::grafana_files, "alerting/" + work.pack.name + ".yaml", yaml_file(comment, {document}));
}

/// Beside `alerting`: in there Grafana would complain of the name at every start.
void policies(Work& work) {
  for (const Object* routes : work.objects(Kind::routes)) {
    Json root{{"orgId", work.options.org}, {"receiver", dollars(routes->content.at("receiver"))}};
    root["routes"].push_back(dollars(routes->content));
    work.add(
        Format::grafana_files, work.pack.name + "-policies.yaml.example",
        yaml_file("NOT for Grafana's folder as it is: an organisation has one tree of "
                  "notification\npolicies, and a file with `policies` replaces the whole tree, everybody "
                  "else's routes included.\nPut the entry under `routes` into the file that has your "
                  "tree, or rename this one into alerting/ if the tree is\nyours alone. `tunnelctl monitor "
                  "setup` adds "
                  "the entry and leaves all others as they are.",
                  {{{"apiVersion", 1}, {"policies", Json::array({root})}}}));
  }
}

}  // namespace

Result<void> grafana_files(Work& work) {
  dashboards(work);
  alerting(work);
  policies(work);
  return {};
}

}  // namespace tunnelctl::render
