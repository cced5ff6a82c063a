#include <algorithm>
#include <cctype>

#include "tunnelctl/export/parts.h"
#include "tunnelctl/monitor/notifiers.h"
#include "tunnelctl/render/yaml.h"

namespace tunnelctl::exporting {
namespace {

std::string upper(const std::string& text) {
  std::string result;
  for (const char c : text)
    result += std::isalnum(static_cast<unsigned char>(c)) != 0
                  ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
                  : '_';
  return result;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

/// `severity="critical"`, the value quoted for both of Alertmanager's parsers.
std::string matcher(const Json& parts) {
  const std::string value = replaced(replaced(parts[2].get<std::string>(), "\\", "\\\\"), "\"", "\\\"");
  return parts[0].get<std::string>() + parts[1].get<std::string>() + "\"" + value + "\"";
}
bool is_matcher(const Json& parts) {
  return parts.is_array() && parts.size() == 3 &&
         std::all_of(parts.begin(), parts.end(), [](const Json& part) { return part.is_string(); });
}

class NotificationExporter {
 public:
  explicit NotificationExporter(Export& work) : work_(work) {}

  void run() {
    const Json tree = root();
    if (!tree.is_object() || text_of(tree, "receiver").empty()) return;
    Json file{{"route", route(tree, true)}};
    Json receivers = Json::array();
    for (const auto& name : used_) receivers.push_back(receiver(name));
    file["receivers"] = std::move(receivers);
    Json intervals = Json::array();
    for (const Json& timing : work_.seen.mute_timings)
      if (timings_.contains(text_of(timing, "name")))
        intervals.push_back({{"name", without_prefix(text_of(timing, "name"))},
                             {"time_intervals", timing.value("time_intervals", Json::array())}});
    if (!intervals.empty()) file["time_intervals"] = std::move(intervals);
    if (templates()) file["templates"] = Json::array({"templates/*.tmpl"});
    if (email_)
      work_.note("alertmanager.yaml: for email, Alertmanager needs global.smtp_smarthost and smtp_from");
    work_.alertmanager = true;
    work_.file("alertmanager.yaml",
               render::yaml_file(
                   "Secrets are files; pack.yaml says which environment variables stand for them.", {file}));
  }

 private:
  std::string prefix() const { return monitor::own_prefix(work_.options.name); }
  std::string without_prefix(const std::string& name) const {
    return name.starts_with(prefix()) ? name.substr(prefix().size()) : name;
  }

  /// The pack's subtree without its mark, or everything.
  Json root() {
    const Json mark = Json::array({std::string(monitor::kPackLabel), "=", work_.options.name});
    for (const Json& one : member(work_.seen.policies, "routes").is_array()
                               ? member(work_.seen.policies, "routes")
                               : Json::array()) {
      if (one.value("object_matchers", Json()) != Json::array({mark})) continue;
      own_ = true;
      Json result = one;
      result.erase("object_matchers");
      result.erase("continue");
      return result;
    }
    return work_.seen.policies;
  }

  /// As alertmanager.yaml calls the contact point: compile put the pack's name in front, or did not.
  std::string receiver_name(const std::string& point) const {
    const std::string front = work_.options.name + "-";
    if (!point.starts_with(front)) return point;
    const std::string bare = point.substr(front.size());
    for (const Json& one : work_.seen.contact_points)
      if (text_of(one, "name") == point &&
          text_of(one, "uid") == monitor::uid_of(prefix() + bare + "-" + text_of(one, "type")))
        return bare;
    return point;
  }

  Json route(const Json& from, bool is_root) {
    Json result = Json::object();
    if (const std::string name = text_of(from, "receiver"); !name.empty()) {
      if (std::find(used_.begin(), used_.end(), name) == used_.end()) used_.push_back(name);
      result["receiver"] = receiver_name(name);
    }
    Json matchers = Json::array();
    for (const Json& parts : from.value("object_matchers", Json::array()))
      if (is_matcher(parts)) matchers.push_back(matcher(parts));
    for (const Json& text : from.value("matchers", Json::array()))
      if (text.is_string()) matchers.push_back(text);
    if (!matchers.empty() && !is_root) result["matchers"] = std::move(matchers);
    for (const char* key : {"group_by", "group_wait", "group_interval", "repeat_interval", "continue"})
      if (const Json& value = member(from, key);
          !value.is_null() && value != Json(false) && value != Json(""))
        result[key] = value;
    for (const char* key : {"mute_time_intervals", "active_time_intervals"})
      for (const Json& name : from.value(key, Json::array()))
        if (name.is_string()) {
          timings_.insert(name);
          result[key].push_back(without_prefix(name));
        }
    for (const Json& child : from.value("routes", Json::array()))
      result["routes"].push_back(route(child, false));
    return result;
  }

  Json receiver(const std::string& point) {
    const std::string name = receiver_name(point);
    Json result{{"name", name}};
    std::map<std::string, int> seen;
    bool any = false;
    for (const Json& one : work_.seen.contact_points) {
      if (text_of(one, "name") != point) continue;
      any = true;
      const std::string type = text_of(one, "type");
      const auto& all = monitor::translations();
      const auto found =
          std::find_if(all.begin(), all.end(), [&](const auto& row) { return row.kind == type; });
      if (found == all.end()) {
        work_.note("contact point " + point + ": " + type + " has no counterpart in packs, and was left out");
        continue;
      }
      const int count = ++seen[type];
      result[type + "_configs"].push_back(
          integration(one, *found, name + (count > 1 ? "_" + std::to_string(count) : std::string())));
    }
    if (!any) work_.note("contact point " + point + " tells nobody");
    return result;
  }

  void secret(Json& out, const std::string& theirs, const std::string& owner) {
    const std::string base = file_name(owner) + "_" + theirs;
    const std::string front = work_.options.name + "-";
    out[theirs + "_file"] = "secrets/" + base;
    const std::string variable = upper(owner.starts_with(front) ? base : front + base);
    work_.secrets.push_back({"secrets/" + base, variable});
    work_.note("put the secret " + theirs + " of " + owner + " into secrets/" + base + ", or into " +
               variable);
  }

  Json integration(const Json& point, const monitor::Translation& row, const std::string& owner) {
    const Json settings = point.value("settings", Json::object());
    Json out = Json::object();
    std::set<std::string> used;
    for (const auto& setting : row.settings) {
      if (!settings.contains(setting.ours)) continue;
      used.insert(setting.ours);
      const Json& value = settings[setting.ours];
      // Addresses carry tokens, even where Grafana does not hide them.
      const bool address = std::string(setting.theirs) == "url" && value.is_string() &&
                           value.get<std::string>().find_first_of("?@") != std::string::npos;
      if (setting.secret || value == Json(monitor::kRedacted) || address)
        secret(out, setting.theirs, owner);
      else
        out[setting.theirs] = value;
    }
    if (text_of(point, "type") == "email") {
      email_ = true;
      if (out.contains("to") && out["to"].is_string())
        out["to"] = replaced(replaced(out["to"].get<std::string>(), "\n", ";"), ";", ", ");
      if (settings.contains("subject")) out["headers"] = {{"Subject", settings["subject"]}};
      used.insert("subject");
    }
    if (text_of(point, "type") == "webhook") {
      if (text_of(settings, "httpMethod") == "POST") used.insert("httpMethod");
      if (out.contains("max_alerts") && out["max_alerts"].is_string()) {
        const auto number = Json::parse(out["max_alerts"].get<std::string>(), nullptr, false);
        if (number.is_number_integer()) out["max_alerts"] = number;
      }
    }
    for (const auto& item : settings.items())
      if (!used.contains(item.key()))
        work_.note("contact point " + text_of(point, "name") + "/" + text_of(point, "type") + ": " +
                   item.key() + " has no counterpart in alertmanager.yaml");
    out["send_resolved"] = !point.value("disableResolveMessage", false);
    return out;
  }

  bool templates() {
    bool any = false;
    for (const Json& one : work_.seen.templates) {
      const std::string name = text_of(one, "name");
      if (own_ && !name.starts_with(prefix())) continue;
      work_.file("templates/" + file_name(without_prefix(name)) + ".tmpl", text_of(one, "template"));
      any = true;
    }
    return any;
  }

  Export& work_;
  bool own_ = false;
  bool email_ = false;
  std::vector<std::string> used_;
  std::set<std::string> timings_;
};

}  // namespace

void export_notifications(Export& work) {
  NotificationExporter(work).run();
}

}  // namespace tunnelctl::exporting
