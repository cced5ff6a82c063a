#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "tests/tunnelctl/render/lab.h"
#include "tunnelctl/monitor/normalise.h"
#include "tunnelctl/render/yaml.h"

/// What each format says, translated back, is what `tunnelctl monitor setup` sends: compile()'s objects.
namespace tunnelctl::render {
namespace {

using monitor::Kind;
using monitor::Object;

/// Of every text in the value.
Json each_text(Json value, const std::function<std::string(const std::string&)>& change) {
  if (value.is_string()) return change(value.get<std::string>());
  if (value.is_structured())
    for (Json& item : value) item = each_text(std::move(item), change);
  return value;
}

/// What Grafana makes of a text in its files: a dollar alone begins a variable, which is lost.
Json after_environment(Json value) {
  return each_text(std::move(value), [](const std::string& text) {
    std::string result;
    for (std::size_t at = 0; at < text.size(); ++at) {
      const bool dollar = text[at] == '$';
      if (dollar && text.substr(at + 1, 1) != "$")
        result += "<lost>";
      else
        result += text[at];
      if (dollar) ++at;
    }
    return result;
  });
}

/// What Terraform makes of it; a template that is no reference of ours is lost.
Json after_terraform(Json value) {
  return each_text(std::move(value), [](const std::string& text) {
    std::string result;
    for (std::size_t at = 0; at < text.size(); ++at) {
      const std::string_view rest = std::string_view(text).substr(at);
      if (rest.starts_with("$${") || rest.starts_with("%%{")) {
        result += rest.substr(1, 2);
        at += 2;
      } else if (rest.starts_with("%{") ||
                 (rest.starts_with("${") && !rest.starts_with("${var.") && !rest.starts_with("${grafana_"))) {
        result += "<lost>";
      } else {
        result += text[at];
      }
    }
    return result;
  });
}

void rename(Json& object, const char* from, const char* to) {
  if (!object.contains(from)) return;
  object[to] = object[from];
  object.erase(from);
}

std::string difference(const Json& a, const Json& b) {
  std::string text;
  for (const auto& one : monitor::differences(a, b))
    text += one.path + ": " + one.before.dump() + " -> " + one.after.dump() + "\n";
  return text;
}

/// Each object of the kind is among `found` (by its id) and the same, and there are no others.
void expect_same(Kind kind, const std::map<std::string, Json>& found, const std::vector<Object>& wanted) {
  EXPECT_EQ(found.size(), wanted.size());
  for (const Object& object : wanted) {
    const auto one = found.find(object.key.id);
    if (one == found.end()) {
      ADD_FAILURE() << object.key.id << " is missing";
      continue;
    }
    EXPECT_EQ(difference(object.content, monitor::normalise(kind, one->second)), "") << object.key.id;
  }
}

monitor::CompileOptions with_records() {
  auto options = lab::options().compile;
  options.record_in_grafana = true;
  return options;
}

std::vector<File> all_files() {
  RenderOptions options;
  options.compile = with_records();
  return lab::files(options);
}

std::vector<Object> wanted(Kind kind) {
  return lab::objects(kind, with_records());
}

class Agrees : public testing::Test {
 protected:
  Json one(const std::string& path) { return lab::documents(lab::text_of(files_, path)).at(0); }
  std::vector<Json> all(const std::string& path) { return lab::documents(lab::text_of(files_, path)); }
  /// The `spec` of every object of the kind in grafana-operator's files.
  std::vector<Json> specs(const std::string& kind) {
    std::vector<Json> result;
    for (const File& file : files_)
      if (file.path.starts_with("grafana-operator/"))
        for (Json& document : lab::documents(file.text))
          if (document["kind"] == kind) result.push_back(document["spec"]);
    return result;
  }
  std::vector<File> files_ = all_files();
};

TEST_F(Agrees, HasSomethingToCompare) {
  for (const Kind kind : {Kind::folder, Kind::template_group, Kind::mute_timing, Kind::contact_point,
                          Kind::routes, Kind::rule_group, Kind::dashboard})
    EXPECT_FALSE(wanted(kind).empty()) << monitor::name(kind);
}

// Grafana's files -----------------------------------------------------------------------------------

TEST_F(Agrees, RulesOfGrafanasFiles) {
  std::map<std::string, Json> found;
  const Json file = one("grafana-files/alerting/demo.yaml");
  for (const Json& group : file["groups"]) {
    EXPECT_EQ(after_environment(group["folder"]), "Demo: $5 a\\/b");
    Json rules = Json::array();
    for (const Json& from : group["rules"]) {
      Json rule = after_environment(from);
      if (from.contains("annotations")) rule["annotations"] = from["annotations"];
      for (std::size_t i = 0; i < from["data"].size(); ++i)
        rule["data"][i]["model"] = from["data"][i]["model"];
      if (rule.contains("dashboardUid")) {
        EXPECT_EQ(rule["dashboardUid"], rule["annotations"]["__dashboardUid__"]);
        EXPECT_EQ(Json(rule["panelId"].dump()), rule["annotations"]["__panelId__"]);
        rule.erase("dashboardUid");
        rule.erase("panelId");
      }
      rename(rule, "keepFiringFor", "keep_firing_for");
      if (rule.contains("record")) rename(rule["record"], "targetDatasourceUid", "target_datasource_uid");
      rules.push_back(std::move(rule));
    }
    const std::string title = after_environment(group["name"]);
    const auto interval = pack::duration(group["interval"].get<std::string>());
    found["demo-folder/" + title] = {{"title", title},
                                     {"folderUid", "demo-folder"},
                                     {"interval", interval->count() / 1000},
                                     {"rules", std::move(rules)}};
  }
  expect_same(Kind::rule_group, found, wanted(Kind::rule_group));
}

TEST_F(Agrees, ContactPointsOfGrafanasFiles) {
  std::map<std::string, Json> found;
  const Json file = one("grafana-files/alerting/demo.yaml");
  for (const Json& point : file["contactPoints"]) {
    for (Json receiver : point["receivers"]) {
      for (Json& setting : receiver["settings"])
        if (setting == "$DEMO_PAGERDUTY_KEY" || setting == "$DEMO_SLACK_URL") setting = monitor::kRedacted;
      receiver["settings"] = after_environment(receiver["settings"]);
      receiver["name"] = after_environment(point["name"]);
      found[receiver["uid"]] = receiver;
    }
  }
  expect_same(Kind::contact_point, found, wanted(Kind::contact_point));
}

TEST_F(Agrees, TemplatesAndMuteTimingsOfGrafanasFiles) {
  const Json file = one("grafana-files/alerting/demo.yaml");
  for (const auto& [key, kind] :
       {std::pair("templates", Kind::template_group), std::pair("muteTimes", Kind::mute_timing)}) {
    std::map<std::string, Json> found;
    for (Json item : file[key]) {
      item.erase("orgId");
      found[item["name"]] = item;
    }
    expect_same(kind, found, wanted(kind));
  }
}

TEST_F(Agrees, RoutesOfGrafanasFiles) {
  const Json tree = one("grafana-files/demo-policies.yaml.example")["policies"][0];
  ASSERT_EQ(tree["routes"].size(), 1U);
  expect_same(Kind::routes, {{"demo", after_environment(tree["routes"][0])}}, wanted(Kind::routes));
}

// Dashboards, everywhere ----------------------------------------------------------------------------

TEST_F(Agrees, DashboardsOfEveryFormat) {
  std::map<std::string, std::map<std::string, Json>> found;
  for (const File& file : files_) {
    if (file.path.starts_with("grafana-files/dashboards/demo/")) {
      const Json dashboard = Json::parse(file.text);
      found["files"][dashboard["uid"]] = dashboard;
    } else if (file.path.starts_with("kubernetes/demo/dashboard-")) {
      const Json object = one(file.path);
      for (const auto& item : object["data"].items()) {
        const Json dashboard = Json::parse(item.value().get<std::string>());
        EXPECT_EQ(item.key(), dashboard["uid"].get<std::string>() + ".json");
        found["kubernetes"][dashboard["uid"]] = dashboard;
      }
    }
  }
  for (const Json& spec : specs("GrafanaDashboard"))
    found["operator"][spec["uid"]] = Json::parse(spec["json"].get<std::string>());
  const Json document = Json::parse(lab::text_of(files_, "terraform/demo.tf.json"));
  for (const Json& item : document["resource"]["grafana_dashboard"]) {
    const Json dashboard = Json::parse(after_terraform(item["config_json"]).get<std::string>());
    found["terraform"][dashboard["uid"]] = dashboard;
  }
  EXPECT_EQ(found.size(), 4U);
  for (const auto& [format, dashboards] : found) {
    SCOPED_TRACE(format);
    expect_same(Kind::dashboard, dashboards, wanted(Kind::dashboard));
  }
}

// grafana-operator ----------------------------------------------------------------------------------

TEST_F(Agrees, RulesOfGrafanaOperator) {
  std::map<std::string, Json> found;
  for (const Json& spec : specs("GrafanaAlertRuleGroup")) {
    Json rules = spec["rules"];
    for (Json& rule : rules) {
      rename(rule, "keepFiringFor", "keep_firing_for");
      if (rule.contains("record")) rename(rule["record"], "targetDatasourceUid", "target_datasource_uid");
    }
    found["demo-folder/" + spec["name"].get<std::string>()] = {
        {"title", spec["name"]},
        {"folderUid", "demo-folder"},
        {"interval", pack::duration(spec["interval"].get<std::string>())->count() / 1000},
        {"rules", std::move(rules)}};
  }
  expect_same(Kind::rule_group, found, wanted(Kind::rule_group));
}

TEST_F(Agrees, NotificationsOfGrafanaOperator) {
  std::map<std::string, Json> points;
  for (const Json& spec : specs("GrafanaContactPoint")) {
    for (Json receiver : spec["receivers"]) {
      if (receiver.contains("valuesFrom"))
        for (const Json& value : receiver["valuesFrom"])
          receiver["settings"][value["targetPath"].get<std::string>()] = monitor::kRedacted;
      receiver.erase("valuesFrom");
      receiver["name"] = spec["name"];
      points[receiver["uid"]] = receiver;
    }
  }
  expect_same(Kind::contact_point, points, wanted(Kind::contact_point));

  for (const auto& [name, kind] : {std::pair("GrafanaNotificationTemplate", Kind::template_group),
                                   std::pair("GrafanaMuteTiming", Kind::mute_timing)}) {
    std::map<std::string, Json> found;
    for (Json spec : specs(name)) {
      spec.erase("instanceSelector");
      found[spec["name"]] = spec;
    }
    expect_same(kind, found, wanted(kind));
  }
  const auto routes = specs("GrafanaNotificationPolicyRoute");
  ASSERT_EQ(routes.size(), 1U);
  expect_same(Kind::routes, {{"demo", routes[0]}}, wanted(Kind::routes));
  const auto folders = specs("GrafanaFolder");
  ASSERT_EQ(folders.size(), 1U);
  const Json folder{{"uid", folders[0]["uid"]}, {"title", folders[0]["title"]}};
  expect_same(Kind::folder, {{"demo-folder", folder}}, wanted(Kind::folder));
}

// Terraform -----------------------------------------------------------------------------------------

Json terraform(const std::vector<File>& files, const char* type) {
  return after_terraform(Json::parse(lab::text_of(files, "terraform/demo.tf.json"))["resource"][type]);
}

TEST_F(Agrees, RulesOfTerraform) {
  std::map<std::string, Json> found;
  for (const Json& group : terraform(files_, "grafana_rule_group")) {
    EXPECT_EQ(group["folder_uid"], "${grafana_folder.demo-folder.uid}");
    Json rules = Json::array();
    for (Json rule : group["rule"]) {
      rename(rule, "name", "title");
      rename(rule, "no_data_state", "noDataState");
      rename(rule, "exec_err_state", "execErrState");
      rename(rule, "is_paused", "isPaused");
      if (rule.contains("record")) rule["record"] = Json(rule["record"][0]);
      for (Json& node : rule["data"]) {
        rename(node, "ref_id", "refId");
        rename(node, "query_type", "queryType");
        rename(node, "datasource_uid", "datasourceUid");
        node["relativeTimeRange"] = node["relative_time_range"][0];
        node.erase("relative_time_range");
        node["model"] = Json::parse(node["model"].get<std::string>());
      }
      rules.push_back(std::move(rule));
    }
    found["demo-folder/" + group["name"].get<std::string>()] = {{"title", group["name"]},
                                                                {"folderUid", "demo-folder"},
                                                                {"interval", group["interval_seconds"]},
                                                                {"rules", std::move(rules)}};
  }
  expect_same(Kind::rule_group, found, wanted(Kind::rule_group));
}

TEST_F(Agrees, ContactPointsOfTerraform) {
  // Blocks of the provider have no uid, so they are found by name and type.
  std::map<std::string, Json> blocks;
  for (const Json& point : terraform(files_, "grafana_contact_point"))
    for (const char* type : {"pagerduty", "slack", "email", "webhook"})
      if (point.contains(type)) blocks[point["name"].get<std::string>() + "/" + type] = point[type].at(0);
  const auto points = wanted(Kind::contact_point);
  EXPECT_EQ(blocks.size(), points.size());
  for (const Object& object : points) {
    const std::string type = object.content["type"];
    Json settings = blocks[object.content["name"].get<std::string>() + "/" + type];
    EXPECT_EQ(settings["disable_resolve_message"], object.content.value("disableResolveMessage", false));
    settings.erase("disable_resolve_message");
    if (type == "pagerduty") {
      EXPECT_EQ(settings["integration_key"], "${var.demo_pagerduty_key}");
      rename(settings, "integration_key", "integrationKey");
      settings["integrationKey"] = monitor::kRedacted;
    } else if (type == "slack") {
      EXPECT_EQ(settings["url"], "${var.demo_slack_url}");
      settings["url"] = monitor::kRedacted;
    } else if (type == "email") {
      EXPECT_EQ(settings["addresses"], Json::array({"a@example.com", "b@example.com"}));
      settings["addresses"] = "a@example.com;b@example.com";
    } else {
      rename(settings, "http_method", "httpMethod");
      settings["maxAlerts"] = settings["max_alerts"].dump();
      settings.erase("max_alerts");
    }
    EXPECT_EQ(difference(object.content["settings"], settings), "") << object.key.id;
  }
  const Json variables = Json::parse(lab::text_of(files_, "terraform/demo.tf.json"))["variable"];
  for (const char* name : {"demo_pagerduty_key", "demo_slack_url"})
    EXPECT_EQ(variables[name]["sensitive"], true);
}

TEST_F(Agrees, TemplatesMuteTimingsAndFolderOfTerraform) {
  std::map<std::string, Json> templates;
  for (const Json& item : terraform(files_, "grafana_message_template")) templates[item["name"]] = item;
  expect_same(Kind::template_group, templates, wanted(Kind::template_group));

  std::map<std::string, Json> timings;
  for (const Json& item : terraform(files_, "grafana_mute_timing")) {
    Json intervals = item["intervals"];
    for (Json& interval : intervals)
      for (Json& time : interval["times"]) {
        rename(time, "start", "start_time");
        rename(time, "end", "end_time");
      }
    timings[item["name"]] = {{"name", item["name"]}, {"time_intervals", intervals}};
  }
  expect_same(Kind::mute_timing, timings, wanted(Kind::mute_timing));

  const Json folder = terraform(files_, "grafana_folder")["demo-folder"];
  const Json as_sent{{"uid", folder["uid"]}, {"title", folder["title"]}};
  expect_same(Kind::folder, {{"demo-folder", as_sent}}, wanted(Kind::folder));
}

/// "${grafana_contact_point.demo-all.name}" -> "demo-all"
std::string referred(const Json& reference) {
  const auto text = reference.get<std::string>();
  const auto from = text.find('.') + 1;
  return text.substr(from, text.rfind('.') - from);
}

Json route_of(Json policy) {
  Json route{{"receiver", referred(policy["contact_point"])}};
  for (const char* key : {"group_by", "group_wait", "group_interval", "repeat_interval", "continue"})
    if (policy.contains(key)) route[key] = policy[key];
  for (const Json& matcher : policy["matcher"])
    route["object_matchers"].push_back(Json::array({matcher["label"], matcher["match"], matcher["value"]}));
  for (const auto& [theirs, ours] : {std::pair("mute_timings", "mute_time_intervals"),
                                     std::pair("active_timings", "active_time_intervals")})
    if (policy.contains(theirs))
      for (const Json& one : policy[theirs]) route[ours].push_back(referred(one));
  if (policy.contains("policy"))
    for (const Json& child : policy["policy"]) route["routes"].push_back(route_of(child));
  return route;
}

TEST_F(Agrees, RoutesOfTerraform) {
  const Json file = Json::parse(lab::text_of(files_, "terraform/demo-policies.tf.json.example"));
  const Json tree = file["resource"]["grafana_notification_policy"]["demo"];
  ASSERT_EQ(tree["policy"].size(), 1U);
  expect_same(Kind::routes, {{"demo", after_terraform(route_of(tree["policy"][0]))}}, wanted(Kind::routes));
}

// Prometheus ----------------------------------------------------------------------------------------

void expect_prometheus_rules(const Json& groups) {
  std::vector<const pack::RuleGroup*> wanted;
  for (const auto& file : lab::demo().rule_files)
    for (const auto& group : file.groups) wanted.push_back(&group);
  ASSERT_EQ(groups.size(), wanted.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    EXPECT_EQ(groups[i]["name"], wanted[i]->name);
    ASSERT_EQ(groups[i]["rules"].size(), wanted[i]->rules.size());
    for (std::size_t k = 0; k < wanted[i]->rules.size(); ++k) {
      const pack::Rule& rule = wanted[i]->rules[k];
      const Json& found = groups[i]["rules"][k];
      EXPECT_EQ(found.value(rule.alert.empty() ? "record" : "alert", ""), rule.name());
      EXPECT_EQ(found["expr"], rule.expr);
      EXPECT_EQ(pack::duration(found.value("for", "0s")).value(), rule.hold);
      EXPECT_EQ(pack::duration(found.value("keep_firing_for", "0s")).value(), rule.keep_firing);
      pack::Texts labels = wanted[i]->labels;
      for (const auto& [name, value] : rule.labels) labels[name] = value;
      EXPECT_EQ(found["labels"], Json(labels));
      const auto texts = monitor::annotations(lab::demo(), rule, lab::options().compile);
      EXPECT_EQ(found.value("annotations", Json::object()), texts.empty() ? Json::object() : Json(texts));
    }
  }
}

TEST_F(Agrees, RulesOfPrometheus) {
  expect_prometheus_rules(one("prometheus/demo/demo.yaml")["groups"]);
}

TEST_F(Agrees, RulesOfThePrometheusOperator) {
  expect_prometheus_rules(one("kubernetes/demo/prometheusrule.yaml")["spec"]["groups"]);
}

}  // namespace
}  // namespace tunnelctl::render
