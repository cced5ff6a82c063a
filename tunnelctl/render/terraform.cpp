#include <algorithm>
#include <cctype>
#include <map>

#include "tunnelctl/render/parts.h"

/// Terraform's JSON syntax for the provider grafana/grafana 4. Source: its documentation of the resources.
namespace tunnelctl::render {
namespace {

/// In Terraform's strings `${` and `%{` begin a template.
std::string literal(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if ((text[at] == '$' || text[at] == '%') && at + 1 < text.size() && text[at + 1] == '{')
      result += text[at];
    result += text[at];
  }
  return result;
}

Json literal(Json value) {
  if (value.is_string()) return literal(value.get<std::string>());
  if (value.is_structured())
    for (Json& item : value) item = literal(std::move(item));
  return value;
}

/// A resource's name: letters, digits, "_" and "-", not beginning with a digit.
std::string identifier(const std::string& text) {
  const std::string result = monitor::uid_of(text);
  const bool fits = !result.empty() && (std::isalpha(static_cast<unsigned char>(result.front())) != 0);
  return fits ? result : "_" + result;
}

/// Grafana's settings in the provider's words; what is not named here has no attribute and goes to
/// `settings`.
const std::map<std::string, std::map<std::string, std::string>>& attributes() {
  static const std::map<std::string, std::map<std::string, std::string>> all{
      {"pagerduty",
       {{"integrationKey", "integration_key"},
        {"severity", "severity"},
        {"class", "class"},
        {"component", "component"},
        {"group", "group"},
        {"summary", "summary"},
        {"source", "source"},
        {"client", "client"},
        {"client_url", "client_url"},
        {"details", "details"}}},
      {"slack",
       {{"url", "url"},
        {"recipient", "recipient"},
        {"title", "title"},
        {"text", "text"},
        {"username", "username"},
        {"icon_emoji", "icon_emoji"},
        {"icon_url", "icon_url"},
        {"color", "color"}}},
      {"email", {{"addresses", "addresses"}, {"message", "message"}, {"subject", "subject"}}},
      {"webhook", {{"url", "url"}, {"httpMethod", "http_method"}, {"maxAlerts", "max_alerts"}}},
      {"opsgenie",
       {{"apiKey", "api_key"}, {"apiUrl", "url"}, {"message", "message"}, {"description", "description"}}}};
  return all;
}

Json split(const std::string& text, char separator) {
  Json result = Json::array();
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(separator, at), text.size());
    if (end > at) result.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return result;
}

class Writer {
 public:
  explicit Writer(Work& work) : work_(work) {}

  void run() {
    folder();
    for (const Object* dashboard : work_.objects(Kind::dashboard))
      resource("grafana_dashboard", dashboard->key.id) = {
          {"folder", "${grafana_folder." + identifier(work_.pack.folder_uid) + ".uid}"},
          {"config_json", literal(dashboard->content.dump())}};
    for (const Object* one : work_.objects(Kind::template_group))
      resource("grafana_message_template", one->key.id) = literal(one->content);
    for (const Object* one : work_.objects(Kind::mute_timing)) mute_timing(*one);
    for (const auto& point : work_.contact_points()) contact_point(point);
    for (const Object* one : work_.objects(Kind::rule_group)) rule_group(*one);

    Json document{
        {"//", "From pack " + work_.pack.name + ". Data sources by uid: " + work_.datasources_text() +
                   ". Secrets are variables; Terraform keeps their values in its state. Routes: see " +
                   work_.pack.name + "-policies.tf.json.example."},
        {"resource", std::move(resources_)}};
    if (!variables_.empty()) document["variable"] = std::move(variables_);
    work_.add(Format::terraform, work_.pack.name + ".tf.json", document.dump(2));
    policies();
    work_.add(Format::terraform, "versions.tf.json",
              Json{{"terraform",
                    {{"required_providers",
                      {{"grafana", {{"source", "grafana/grafana"}, {"version", ">= 4.0.0"}}}}}}}}
                  .dump(2));
  }

 private:
  Json& resource(const std::string& type, const std::string& name) {
    return resources_[type][identifier(name)];
  }

  void folder() {
    resource("grafana_folder", work_.pack.folder_uid) = {{"uid", literal(work_.pack.folder_uid)},
                                                         {"title", literal(work_.pack.folder_title)},
                                                         {"prevent_destroy_if_not_empty", true}};
  }

  void mute_timing(const Object& from) {
    Json& out = resource("grafana_mute_timing", from.key.id);
    out["name"] = literal(from.key.id);
    for (const Json& interval : from.content.at("time_intervals")) {
      Json one = Json::object();
      for (const auto& item : interval.items()) {
        if (item.key() == "times") {
          for (const Json& time : item.value())
            one["times"].push_back({{"start", time.at("start_time")}, {"end", time.at("end_time")}});
        } else if (item.value().is_array()) {
          for (const Json& value : item.value())
            one[item.key()].push_back(value.is_string() ? value : Json(value.dump()));
        } else {
          one[item.key()] = item.value();
        }
      }
      out["intervals"].push_back(std::move(one));
    }
  }

  std::string variable(const SecretSetting& secret) {
    std::string name;
    for (const char c : secret.environment)
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    // Variables of all packs in one folder share their names.
    std::string prefix = identifier(work_.pack.name) + "_";
    std::replace(prefix.begin(), prefix.end(), '-', '_');
    if (!name.starts_with(prefix)) name = prefix + name;
    variables_[name] = {{"type", "string"},
                        {"sensitive", true},
                        {"description", "What alertmanager.yaml reads from " + literal(secret.file)}};
    return name;
  }

  Json integration(const Object& from) {
    const std::string type = from.content.at("type");
    Json result = Json::object();
    const auto names = attributes().find(type);
    for (const auto& item : from.content.at("settings").items()) {
      const auto known = names == attributes().end() ? std::string() : [&] {
        const auto found = names->second.find(item.key());
        return found == names->second.end() ? std::string() : found->second;
      }();
      if (known.empty())
        result["settings"][item.key()] = literal(item.value());
      else
        result[known] = literal(item.value());
    }
    for (const auto& secret : work_.secrets(from)) {
      const auto& known = names->second.at(secret.key);
      result[known] = "${var." + variable(secret) + "}";
    }
    if (type == "email") result["addresses"] = split(result.value("addresses", ""), ';');
    if (result.contains("max_alerts") && result["max_alerts"].is_string()) {
      const Json number = Json::parse(result["max_alerts"].get<std::string>(), nullptr, false);
      if (number.is_number_integer()) result["max_alerts"] = number;
    }
    result["disable_resolve_message"] = from.content.value("disableResolveMessage", false);
    return result;
  }

  void contact_point(const ContactPoint& point) {
    Json& out = resource("grafana_contact_point", point.name);
    out["name"] = literal(point.name);
    for (const Object* one : point.integrations)
      out[one->content.at("type").get<std::string>()].push_back(integration(*one));
    for (const Object* one : work_.objects(Kind::template_group))
      out["depends_on"].push_back("grafana_message_template." + identifier(one->key.id));
  }

  static Json rule(const Json& from) {
    const Json whole = whole_rule(from);
    Json result{{"name", literal(whole.at("title"))}, {"uid", literal(whole.at("uid"))}};
    if (whole.contains("record")) {
      const Json& record = whole["record"];
      result["record"] =
          Json::array({{{"metric", literal(record.at("metric"))},
                        {"from", record.at("from")},
                        {"target_datasource_uid", literal(record.at("target_datasource_uid"))}}});
    } else {
      result["condition"] = whole.at("condition");
      result["no_data_state"] = whole.at("noDataState");
      result["exec_err_state"] = whole.at("execErrState");
      result["for"] = whole.at("for");
      if (whole.contains("keep_firing_for")) result["keep_firing_for"] = whole["keep_firing_for"];
    }
    result["is_paused"] = whole.value("isPaused", false);
    for (const char* key : {"labels", "annotations"})
      if (whole.contains(key)) result[key] = literal(whole[key]);
    for (const Json& node : whole.at("data"))
      result["data"].push_back({{"ref_id", node.at("refId")},
                                {"query_type", node.value("queryType", "")},
                                {"datasource_uid", literal(node.at("datasourceUid"))},
                                {"relative_time_range", Json::array({node.at("relativeTimeRange")})},
                                {"model", literal(node.at("model").dump())}});
    return result;
  }

  void rule_group(const Object& from) {
    Json& out = resource("grafana_rule_group", own_name(work_.pack, from.title));
    out = {{"name", literal(from.title)},
           {"folder_uid", "${grafana_folder." + identifier(work_.pack.folder_uid) + ".uid}"},
           {"interval_seconds", from.content.at("interval")}};
    for (const Json& one : from.content.at("rules")) out["rule"].push_back(rule(one));
  }

  Json policy(const Json& from) const {
    Json result{{"contact_point", contact_point_reference(from.at("receiver"))}};
    if (const auto matchers = from.find("object_matchers"); matchers != from.end())
      for (const Json& one : *matchers)
        result["matcher"].push_back(
            {{"label", literal(one.at(0))}, {"match", one.at(1)}, {"value", literal(one.at(2))}});
    for (const char* key : {"group_by", "group_wait", "group_interval", "repeat_interval", "continue"})
      if (from.contains(key)) result[key] = literal(from[key]);
    const auto timings = [&](const char* theirs, const char* ours) {
      if (from.contains(theirs))
        for (const Json& one : from[theirs])
          result[ours].push_back("${grafana_mute_timing." + identifier(one) + ".name}");
    };
    timings("mute_time_intervals", "mute_timings");
    timings("active_time_intervals", "active_timings");
    if (const auto routes = from.find("routes"); routes != from.end())
      for (const Json& one : *routes) result["policy"].push_back(policy(one));
    return result;
  }

  static std::string contact_point_reference(const std::string& name) {
    return "${grafana_contact_point." + identifier(name) + ".name}";
  }

  void policies() {
    for (const Object* one : work_.objects(Kind::routes)) {
      const Json tree{{"contact_point", contact_point_reference(one->content.at("receiver"))},
                      {"group_by", Json::array({"grafana_folder", "alertname"})},
                      {"policy", Json::array({policy(one->content)})}};
      const Json document{
          {"//",
           "NOT read by Terraform under this name, and on purpose: an organisation has one tree of "
           "notification "
           "policies, and this resource replaces the whole tree, everybody else's routes included. Put the "
           "entry "
           "under `policy` into the resource that has your tree, or rename this file if the tree is yours "
           "alone."},
          {"resource", {{"grafana_notification_policy", {{identifier(work_.pack.name), tree}}}}}};
      work_.add(Format::terraform, work_.pack.name + "-policies.tf.json.example", document.dump(2));
    }
  }

  Work& work_;
  Json resources_ = Json::object();
  Json variables_ = Json::object();
};

}  // namespace

Result<void> terraform(Work& work) {
  Writer(work).run();
  return {};
}

}  // namespace tunnelctl::render
