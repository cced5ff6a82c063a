#include <algorithm>

#include "tunnelctl/render/parts.h"

/// For grafana-operator v5. Source: its CRDs, grafana.integreatly.org/v1beta1.
namespace tunnelctl::render {
namespace {

/// etcd takes 1.5 MiB, the API server's requests a little more.
constexpr std::size_t kMostData = 1400 * 1024;

/// Some fields are Go's durations, which know no days.
std::string go_duration(std::chrono::milliseconds value) {
  using namespace std::chrono;
  std::string result;
  const auto take = [&](milliseconds unit, const char* name) {
    if (value < unit) return;
    result += std::to_string(value / unit) + name;
    value %= unit;
  };
  take(hours(1), "h");
  take(minutes(1), "m");
  take(seconds(1), "s");
  take(milliseconds(1), "ms");
  return result.empty() ? "0s" : result;
}

class Writer {
 public:
  explicit Writer(Work& work) : work_(work) {}

  Result<void> run() {
    folder();
    if (auto done = dashboards(); !done) return done;
    rule_groups();
    contact_points();
    templates();
    mute_timings();
    routes();
    return {};
  }

 private:
  Json object(const std::string& kind, const std::string& name, Json spec) {
    Json result = kubernetes_object(work_, "grafana.integreatly.org/v1beta1", kind, name);
    spec["instanceSelector"] = {{"matchLabels", work_.options.kubernetes.instance_labels}};
    result["spec"] = std::move(spec);
    return result;
  }

  void add(const std::string& file, const std::string& comment, const std::vector<Json>& documents) {
    if (!documents.empty())
      work_.add(Format::grafana_operator, work_.pack.name + "/" + file, yaml_file(comment, documents));
  }

  std::string folder_name() const { return kubernetes_name(work_.pack.folder_uid); }

  void folder() {
    add("folder.yaml",
        "instanceSelector, here and in the other files, must be the labels of your Grafana object.",
        {object("GrafanaFolder", folder_name(),
                {{"uid", work_.pack.folder_uid}, {"title", work_.pack.folder_title}})});
  }

  Result<void> dashboards() {
    for (const Object* dashboard : work_.objects(Kind::dashboard)) {
      std::string text = dashboard_text(dashboard->content);
      if (text.size() > kMostData)
        return fail(Error::Kind::bad_input, "dashboard " + dashboard->key.id + " has " +
                                                std::to_string(text.size() / 1024) +
                                                " KiB, more than Kubernetes keeps in one object");
      add("dashboard-" + dashboard->key.id + ".yaml",
          "Data sources by uid: " + work_.datasources_text() + ".",
          {object("GrafanaDashboard", kubernetes_name(dashboard->key.id),
                  {{"uid", dashboard->key.id}, {"folderRef", folder_name()}, {"json", std::move(text)}})});
    }
    return {};
  }

  static Json rule(const Json& from) {
    Json result = whole_rule(from);
    if (const auto keep = result.find("keep_firing_for"); keep != result.end()) {
      if (const auto value = pack::duration(keep->get<std::string>()))
        result["keepFiringFor"] = go_duration(*value);
      result.erase("keep_firing_for");
    }
    if (const auto record = result.find("record"); record != result.end())
      *record = {{"metric", record->at("metric")},
                 {"from", record->at("from")},
                 {"targetDatasourceUid", record->at("target_datasource_uid")}};
    return result;
  }

  void rule_groups() {
    for (const Object* group : work_.objects(Kind::rule_group)) {
      const std::string name = kubernetes_name(own_name(work_.pack, group->title));
      Json rules = Json::array();
      for (const Json& one : group->content.at("rules")) rules.push_back(rule(one));
      add("rules-" + name + ".yaml", "Rules ask the data source by uid: " + work_.datasources_text() + ".",
          {object("GrafanaAlertRuleGroup", name,
                  {{"name", group->title},
                   {"folderRef", folder_name()},
                   {"interval", go_duration(std::chrono::seconds(group->content.at("interval").get<int>()))},
                   {"rules", std::move(rules)}})});
    }
  }

  void contact_points() {
    std::vector<Json> documents;
    std::vector<std::string> keys;
    for (const auto& point : work_.contact_points()) {
      Json receivers = Json::array();
      for (const Object* integration : point.integrations) {
        const Json& from = integration->content;
        Json one{{"uid", from.at("uid")},
                 {"type", from.at("type")},
                 {"settings", from.at("settings")},
                 {"disableResolveMessage", from.value("disableResolveMessage", false)}};
        for (const auto& secret : work_.secrets(*integration)) {
          const std::string key = secret_key(secret.file);
          one["settings"].erase(secret.key);
          one["valuesFrom"].push_back(
              {{"targetPath", secret.key},
               {"valueFrom", {{"secretKeyRef", {{"name", kubernetes_secret(work_)}, {"key", key}}}}}});
          if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
        }
        receivers.push_back(std::move(one));
      }
      documents.push_back(object("GrafanaContactPoint", kubernetes_name(own_name(work_.pack, point.name)),
                                 {{"name", point.name}, {"receivers", std::move(receivers)}}));
    }
    std::sort(keys.begin(), keys.end());
    add("contact-points.yaml",
        keys.empty() ? "They need no secret."
                     : "The Secret " + kubernetes_secret(work_) +
                           " in the same namespace must have the keys:\n" + lines_of(keys),
        documents);
  }

  void templates() {
    std::vector<Json> documents;
    for (const Object* one : work_.objects(Kind::template_group))
      documents.push_back(object("GrafanaNotificationTemplate", kubernetes_name(one->key.id),
                                 {{"name", one->key.id}, {"template", one->content.at("template")}}));
    add("templates.yaml", "Texts of the notifications.", documents);
  }

  void mute_timings() {
    std::vector<Json> documents;
    for (const Object* one : work_.objects(Kind::mute_timing)) {
      Json intervals = one->content.at("time_intervals");
      // "2030" may have been read as a number.
      for (Json& interval : intervals)
        for (const char* key : {"weekdays", "days_of_month", "months", "years"})
          if (interval.contains(key))
            for (Json& item : interval[key])
              if (!item.is_string()) item = item.dump();
      documents.push_back(object("GrafanaMuteTiming", kubernetes_name(one->key.id),
                                 {{"name", one->key.id}, {"time_intervals", std::move(intervals)}}));
    }
    add("mute-timings.yaml", "When the routes that name them are silent.", documents);
  }

  void routes() {
    for (const Object* one : work_.objects(Kind::routes)) {
      Json route =
          kubernetes_object(work_, "grafana.integreatly.org/v1beta1", "GrafanaNotificationPolicyRoute",
                            kubernetes_name(work_.pack.name + "-routes"));
      const std::string label(monitor::kPackLabel);
      route["metadata"]["labels"][label] = kubernetes_name(work_.pack.name);
      route["spec"] = one->content;
      add("routes.yaml",
          "An organisation has one tree of notification policies, that of your GrafanaNotificationPolicy "
          "object. "
          "It\ntakes this route in when its spec.route (or a route below) says\n  routeSelector: "
          "{matchLabels: {" +
              label + ": " + kubernetes_name(work_.pack.name) + "}}",
          {route});
    }
  }

  Work& work_;
};

}  // namespace

Result<void> grafana_operator(Work& work) {
  return Writer(work).run();
}

}  // namespace tunnelctl::render
