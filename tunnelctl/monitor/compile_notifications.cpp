#include <algorithm>
#include <array>
#include <set>

#include "tunnelctl/monitor/compile.h"
#include "tunnelctl/monitor/normalise.h"
#include "tunnelctl/monitor/notifiers.h"

namespace tunnelctl::monitor {
namespace {

/// Settings that mean something to Alertmanager alone, or stand in Grafana's own configuration.
bool is_alertmanager_s_own(const std::string& kind, const std::string& key) {
  static const std::set<std::string> email{
      "from",          "smarthost",   "auth_username", "auth_password", "auth_password_file",
      "auth_identity", "auth_secret", "hello",         "require_tls",   "tls_config",
      "html"};
  static const std::set<std::string> any{"send_resolved", "http_config", "title_link", "fallback", "url",
                                         "short_fields",  "link_names",  "mrkdwn_in",  "links",    "images"};
  return any.contains(key) || (kind == "email" && email.contains(key));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

class Compiler {
 public:
  Compiler(const pack::Pack& pack, const CompileOptions& options, Compiled& out)
      : pack_(pack), alertmanager_(*pack.alertmanager), options_(options), out_(out) {}

  void run() {
    for (const auto& one : alertmanager_.templates) {
      add({Kind::template_group, own(without_pack(one.name))}, one.name,
          {{"name", own(without_pack(one.name))}, {"template", one.text}}, {alertmanager_.path.string()});
    }
    for (const auto& one : alertmanager_.time_intervals)
      add({Kind::mute_timing, own(without_pack(one.name))}, one.name,
          {{"name", own(without_pack(one.name))}, {"time_intervals", one.intervals}}, one.place);
    for (const auto& receiver : alertmanager_.receivers) add_receiver(receiver);
    Json tree = route(alertmanager_.root, contact_point(alertmanager_.root.receiver));
    tree["object_matchers"] = Json::array({Json::array({std::string(kPackLabel), "=", pack_.name})});
    add({Kind::routes, pack_.name}, "routes of pack " + pack_.name, std::move(tree),
        alertmanager_.root.place);
    if (alertmanager_.inhibits)
      out_.notes.push_back(
          alertmanager_.path.string() +
          ": inhibit_rules stay with Alertmanager; Grafana's own alerting does not have them");
  }

 private:
  std::string own(const std::string& name) const { return own_prefix(pack_.name) + name; }
  std::string without_pack(const std::string& name) const {
    const std::string prefix = pack_.name + "-";
    return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  }
  /// The name people see. It carries the pack's, as all packs share one list.
  std::string contact_point(const std::string& receiver) const {
    return receiver.starts_with(pack_.name) ? receiver : pack_.name + "-" + receiver;
  }

  Object& add(Key key, std::string title, Json content, const pack::Place& place) {
    content = normalise(key.kind, std::move(content));
    out_.objects.push_back({.key = std::move(key),
                            .pack = pack_.name,
                            .title = std::move(title),
                            .content = std::move(content),
                            .place = place});
    return out_.objects.back();
  }

  Json route(const pack::Route& from, const std::string& inherited) {
    Json result{{"receiver", from.receiver.empty() ? inherited : contact_point(from.receiver)}};
    if (left_out_.contains(result["receiver"])) result["receiver"] = inherited;
    Json matchers = Json::array();
    for (const auto& matcher : from.matchers)
      matchers.push_back(Json::array({matcher.label, matcher.op, matcher.value}));
    if (!matchers.empty()) result["object_matchers"] = std::move(matchers);
    if (!from.group_by.empty()) result["group_by"] = from.group_by;
    const auto copy = [&](const char* key, const std::string& value) {
      if (!value.empty()) result[key] = value;
    };
    copy("group_wait", from.group_wait);
    copy("group_interval", from.group_interval);
    copy("repeat_interval", from.repeat_interval);
    if (from.go_on) result["continue"] = true;
    const auto timings = [&](const char* key, const std::vector<std::string>& names) {
      for (const auto& name : names) result[key].push_back(own(without_pack(name)));
    };
    timings("mute_time_intervals", from.mute_time_intervals);
    timings("active_time_intervals", from.active_time_intervals);
    const std::string receiver = result["receiver"];
    for (const auto& child : from.routes) result["routes"].push_back(route(child, receiver));
    return result;
  }

  void add_receiver(const pack::Receiver& receiver) {
    const std::string name = contact_point(receiver.name);
    std::map<std::string, int> seen;
    std::size_t made = 0;
    for (const auto& integration : receiver.integrations) {
      const int count = ++seen[integration.kind];
      const std::string uid = uid_of(own(without_pack(receiver.name) + "-" + integration.kind) +
                                     (count > 1 ? "-" + std::to_string(count) : std::string()));
      if (add_integration(receiver, name, integration, uid)) ++made;
    }
    if (made > 0) return;
    // A receiver without integrations is how Alertmanager drops alerts; Grafana cannot have one.
    left_out_.insert(name);
    out_.notes.push_back("receiver " + receiver.name +
                         " has no integration that Grafana could use; its routes go to the "
                         "receiver above");
    if (receiver.name == alertmanager_.root.receiver)
      out_.problems.push_back(
          {receiver.place, receiver.name,
           "the root route's receiver has no integration for Grafana; name another, or run with "
           "--notifications none"});
  }

  const pack::SecretSource* source(const std::string& file) const {
    const auto found = std::find_if(pack_.secrets.begin(), pack_.secrets.end(),
                                    [&](const pack::SecretSource& one) { return one.file == file; });
    return found == pack_.secrets.end() ? nullptr : &*found;
  }

  /// The receiver's own value or file, else the global one; whether it is the name of a file.
  std::pair<const Json*, bool> look_up(const pack::Integration& from, const Setting& setting,
                                       std::set<std::string>& used) const {
    const auto in = [&](const Json& holder, const std::string& name) -> std::pair<const Json*, bool> {
      if (const auto value = holder.find(name); value != holder.end()) return {&*value, false};
      if (const auto file = holder.find(name + "_file"); file != holder.end()) return {&*file, true};
      return {nullptr, false};
    };
    used.insert({setting.theirs, std::string(setting.theirs) + "_file"});
    const auto own = in(from.settings, setting.theirs);
    if (own.first != nullptr || *setting.global == '\0') return own;
    const auto global = alertmanager_.document.find("global");
    return global != alertmanager_.document.end() && global->is_object() ? in(*global, setting.global) : own;
  }

  bool add_integration(const pack::Receiver& receiver, const std::string& name, const pack::Integration& from,
                       const std::string& uid) {
    const auto found = std::find_if(translations().begin(), translations().end(),
                                    [&](const Translation& one) { return one.kind == from.kind; });
    if (found == translations().end()) return false;
    const auto problem = [&](std::string message) {
      out_.problems.push_back({from.place, receiver.name + "/" + from.kind, std::move(message)});
    };
    Object object{.key = {Kind::contact_point, uid},
                  .pack = pack_.name,
                  .title = name + "/" + from.kind,
                  .place = from.place};
    Json settings = Json::object();
    std::set<std::string> used;
    for (const auto& setting : found->settings) {
      const auto [value, by_file] = look_up(from, setting, used);
      if (value == nullptr) continue;
      if (by_file && value->is_string()) {
        if (!take_secret(receiver, setting.ours, value->get<std::string>(), settings, object)) return false;
      } else if (setting.secret) {
        problem(std::string(setting.theirs) + " must not stand in a file that is shared; use " +
                setting.theirs + "_file");
      } else {
        settings[setting.ours] = *value;
      }
    }
    translate_more(from, settings, used);
    for (const auto& item : from.settings.items())
      if (!used.contains(item.key()) && !is_alertmanager_s_own(from.kind, item.key()))
        out_.notes.push_back("receiver " + receiver.name + "/" + from.kind + ": " + item.key() +
                             " has no counterpart in Grafana");

    Json content{{"uid", uid}, {"name", name}, {"type", from.kind}, {"settings", std::move(settings)}};
    content["disableResolveMessage"] = !from.settings.value("send_resolved", found->sends_resolved);
    object.content = normalise(Kind::contact_point, std::move(content));
    out_.objects.push_back(std::move(object));
    return true;
  }

  /// False when the integration is to be left out for want of it.
  bool take_secret(const pack::Receiver& receiver, const char* key, const std::string& file, Json& settings,
                   Object& object) {
    pack::SecretSource where{.file = file};
    if (const auto* named = source(file)) where = *named;
    auto value = options_.secret ? options_.secret(where) : std::nullopt;
    settings[key] = kRedacted;
    if (value) {
      object.secrets.emplace(key, std::move(*value));
      return true;
    }
    const std::string how =
        "receiver " + receiver.name + ": " +
        (where.environment.empty() ? "make " + file + " readable"
                                   : "set " + where.environment + ", or make " + file + " readable");
    if (options_.notifications == Notifications::available &&
        !options_.contact_points.contains(object.key.id)) {
      out_.notes.push_back(how + "; left out for now (--notifications available)");
      return false;
    }
    object.missing.push_back(how);
    return true;
  }

  /// What is no plain renaming.
  void translate_more(const pack::Integration& from, Json& settings, std::set<std::string>& used) {
    if (from.kind == "email") {
      // Alertmanager separates addresses by commas, Grafana by semicolons.
      if (settings.contains("addresses") && settings["addresses"].is_string())
        settings["addresses"] =
            replaced(replaced(settings["addresses"].get<std::string>(), ", ", ";"), ",", ";");
      if (const auto headers = from.settings.find("headers");
          headers != from.settings.end() && headers->is_object()) {
        used.insert("headers");
        for (const auto& item : headers->items())
          if (item.key() == "Subject" || item.key() == "subject") settings["subject"] = item.value();
      }
    }
    if (from.kind == "webhook") {
      settings["httpMethod"] = "POST";
      if (settings.contains("maxAlerts"))
        settings["maxAlerts"] =
            settings["maxAlerts"].is_string() ? settings["maxAlerts"] : Json(settings["maxAlerts"].dump());
    }
  }

  const pack::Pack& pack_;
  const pack::Alertmanager& alertmanager_;
  const CompileOptions& options_;
  Compiled& out_;
  std::set<std::string> left_out_;
};

}  // namespace

void compile_notifications(const pack::Pack& pack, const CompileOptions& options, Compiled& out) {
  if (pack.alertmanager) Compiler(pack, options, out).run();
}

}  // namespace tunnelctl::monitor
