#include <algorithm>
#include <filesystem>

#include "tunnelctl/render/parts.h"

/// For the Prometheus operator (monitoring.coreos.com) and the dashboard sidecar of Grafana's chart.
namespace tunnelctl::render {
namespace {

constexpr std::size_t kMebibyte = 1024 * 1024;
/// The operator refuses rules over 0.5 MiB; its own YAML may be a little longer than ours.
constexpr std::size_t kMostRules = kMebibyte / 2 - 64 * 1024;
/// A ConfigMap's data; the rest is for names and labels.
constexpr std::size_t kMostData = kMebibyte - 16 * 1024;

Error too_large(const std::string& what, std::size_t size, std::size_t most) {
  return {Error::Kind::bad_input, what + " has " + std::to_string(size / 1024) + " KiB; Kubernetes takes " +
                                      std::to_string(most / 1024) + " KiB in one object"};
}

Result<void> rules(Work& work) {
  std::vector<Json> lists;
  std::size_t size = 0;
  for (const auto& file : work.pack.rule_files) {
    for (const auto& group : file.groups) {
      Json one = prometheus_group(work, group);
      const std::size_t more = yaml({{"groups", Json::array({one})}}).size();
      if (more > kMostRules) return tl::unexpected(too_large("rule group " + group.name, more, kMostRules));
      if (lists.empty() || size + more > kMostRules) {
        lists.push_back(Json::array());
        size = 0;
      }
      size += more;
      lists.back().push_back(std::move(one));
    }
  }
  std::vector<Json> documents;
  for (auto& list : lists) {
    const std::string number = lists.size() > 1 ? "-" + std::to_string(documents.size() + 1) : "";
    Json object = kubernetes_object(work, "monitoring.coreos.com/v1", "PrometheusRule",
                                    kubernetes_name(work.pack.name + "-rules" + number));
    object["spec"] = {{"groups", std::move(list)}};
    documents.push_back(std::move(object));
  }
  if (!documents.empty())
    work.add(
        Format::kubernetes, work.pack.name + "/prometheusrule.yaml",
        yaml_file("The labels must be those that the Prometheus object's ruleSelector asks for.", documents));
  return {};
}

void service_monitor(Work& work) {
  if (!work.pack.scrape) return;
  const auto& scrape = *work.pack.scrape;
  Json object = kubernetes_object(work, "monitoring.coreos.com/v1", "ServiceMonitor",
                                  kubernetes_name(own_name(work.pack, scrape.job)));
  Json labels = work.options.kubernetes.service_labels;
  if (labels.empty()) labels = {{"app.kubernetes.io/name", scrape.job}};
  object["spec"] = {
      {"selector", {{"matchLabels", std::move(labels)}}},
      {"endpoints", Json::array({{{"port", scrape.port},
                                  {"path", scrape.path},
                                  {"interval", scrape.interval},
                                  {"relabelings",
                                   Json::array({{{"targetLabel", "job"}, {"replacement", scrape.job}}})}}})}};
  work.add(Format::kubernetes, work.pack.name + "/servicemonitor.yaml",
           yaml_file("`port` is the name of a port of the Service, not a number; the Service must have the "
                     "labels of\n`selector`. Rules and dashboards look for job=\"" +
                         scrape.job + "\", whatever the Service is called.",
                     {object}));
}

Result<void> dashboards(Work& work) {
  for (const Object* dashboard : work.objects(Kind::dashboard)) {
    std::string text = dashboard_text(dashboard->content);
    if (text.size() > kMostData)
      return tl::unexpected(too_large("dashboard " + dashboard->key.id, text.size(), kMostData));
    Json object = kubernetes_object(work, "v1", "ConfigMap",
                                    kubernetes_name(own_name(work.pack, dashboard->key.id) + "-dashboard"));
    object["metadata"]["labels"]["grafana_dashboard"] = "1";
    object["metadata"]["annotations"] = {{"grafana_folder", work.pack.folder_title}};
    object["data"] = {{dashboard->key.id + ".json", std::move(text)}};
    work.add(
        Format::kubernetes, work.pack.name + "/dashboard-" + dashboard->key.id + ".yaml",
        yaml_file(
            "For the sidecar of Grafana's chart. The folder needs sidecar.dashboards.folderAnnotation: "
            "grafana_folder\nand provider.foldersFromFilesStructure: true there.\nData sources by uid: " +
                work.datasources_text() + ".",
            {object}));
  }
  return {};
}

/// Relative `*_file` settings, pointed to where the operator mounts the Secret.
void mount_secrets(Json& value, const std::string& folder, std::vector<std::string>& files) {
  if (value.is_object()) {
    for (auto& item : value.items()) {
      if (item.key().ends_with("_file") && item.value().is_string()) {
        const auto path = item.value().get<std::string>();
        if (path.starts_with("/")) continue;
        if (std::find(files.begin(), files.end(), path) == files.end()) files.push_back(path);
        item.value() = folder + secret_key(path);
      } else {
        mount_secrets(item.value(), folder, files);
      }
    }
  } else if (value.is_array()) {
    for (Json& item : value) mount_secrets(item, folder, files);
  }
}

/// A Secret and no AlertmanagerConfig: that one has no place for templates and global settings, and the
/// operator adds a matcher on `namespace` to its routes, which alerts about absence do not have.
Result<void> alertmanager_secret(Work& work) {
  if (!work.pack.alertmanager) return {};
  const auto& from = *work.pack.alertmanager;
  const std::string secret = kubernetes_secret(work);
  Json document = from.document;
  std::vector<std::string> files;
  mount_secrets(document, "/etc/alertmanager/secrets/" + secret + "/", files);
  std::sort(files.begin(), files.end());
  Json object = kubernetes_object(work, "v1", "Secret", kubernetes_name("alertmanager-" + work.pack.name));
  object["type"] = "Opaque";
  std::size_t size = 0;
  if (!from.templates.empty()) document["templates"] = Json::array();
  for (const auto& one : from.templates) {
    const std::string key = one.path.filename().string();
    if (object.contains("stringData") && object["stringData"].contains(key))
      return fail(Error::Kind::bad_input, from.path.string() + ": two templates are called " + key +
                                              "; in a Secret the names must differ");
    document["templates"].push_back("/etc/alertmanager/config/" + key);
    object["stringData"][key] = one.text;
    size += one.text.size();
  }
  object["stringData"]["alertmanager.yaml"] = yaml(document);
  size += object["stringData"]["alertmanager.yaml"].get_ref<const std::string&>().size();
  if (size > kMostData)
    return tl::unexpected(too_large("the configuration of Alertmanager", size, kMostData));
  std::string comment = "For spec.configSecret of the operator's Alertmanager object. It holds no secret.\n";
  if (!files.empty()) {
    comment += "Those it reads from files: name the Secret " + secret +
               " under spec.secrets there, and give it\nthese keys (kubectl create secret generic " + secret +
               " --from-file=...):\n";
    std::vector<std::string> keys;
    for (const auto& file : files)
      if (std::find(keys.begin(), keys.end(), secret_key(file)) == keys.end())
        keys.push_back(secret_key(file));
    comment += lines_of(keys);
  }
  comment += "An AlertmanagerConfig cannot hold it: it has neither templates nor global settings.";
  work.add(Format::kubernetes, work.pack.name + "/alertmanager-secret.yaml", yaml_file(comment, {object}));
  return {};
}

}  // namespace

Result<void> kubernetes(Work& work) {
  service_monitor(work);
  if (auto done = rules(work); !done) return done;
  if (auto done = dashboards(work); !done) return done;
  return alertmanager_secret(work);
}

}  // namespace tunnelctl::render
