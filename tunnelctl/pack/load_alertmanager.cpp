#include <algorithm>
#include <set>

#include "tunnelctl/pack/load_parts.h"
#include "tunnelctl/pack/yaml_reader.h"

namespace tunnelctl::pack {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// `severity=~"warning|critical"`, the form that both of Alertmanager's parsers read.
std::optional<Matcher> matcher(std::string_view text) {
  text = trimmed(text);
  const auto at = text.find_first_of("=!");
  if (at == 0 || at == std::string_view::npos) return std::nullopt;
  Matcher result{.label = std::string(trimmed(text.substr(0, at)))};
  const auto rest = text.substr(at);
  for (const std::string_view op : {"=~", "!~", "!=", "="}) {
    if (!rest.starts_with(op)) continue;
    result.op = op;
    auto value = trimmed(rest.substr(op.size()));
    if (value.starts_with('"') != (value.size() > 1 && value.ends_with('"'))) return std::nullopt;
    if (value.starts_with('"')) {
      value = value.substr(1, value.size() - 2);
      for (std::size_t i = 0; i < value.size(); ++i) {
        if (value[i] == '\\' && i + 1 < value.size()) ++i;
        result.value += value[i];
      }
    } else {
      result.value = value;
    }
    return result;
  }
  return std::nullopt;
}

Route read_route(const Node& node, const std::string& file, const std::string& object, Problems& problems) {
  MapReader reader(node, file, object, problems);
  Route route{.place = reader.place()};
  route.receiver = reader.text("receiver");
  for (const auto& text : reader.texts("matchers")) {
    if (auto one = matcher(text))
      route.matchers.push_back(std::move(*one));
    else
      reader.problem("matcher " + text + " must be label, one of = != =~ !~, and a value in double quotes");
  }
  for (const auto key : {"match", "match_re"})
    for (const auto& [label, value] : reader.text_map(key))
      route.matchers.push_back({label, std::string(key) == "match" ? "=" : "=~", value});
  route.group_by = reader.texts("group_by");
  route.group_wait = reader.duration_text("group_wait");
  route.group_interval = reader.duration_text("group_interval");
  route.repeat_interval = reader.duration_text("repeat_interval");
  route.go_on = reader.flag("continue");
  route.mute_time_intervals = reader.texts("mute_time_intervals");
  route.active_time_intervals = reader.texts("active_time_intervals");
  std::size_t index = 0;
  for (const Node& child : reader.list("routes"))
    route.routes.push_back(
        read_route(child, file, object + ".routes[" + std::to_string(index++) + "]", problems));
  reader.finish();
  return route;
}

Receiver read_receiver(const Node& node, const std::string& file, std::size_t index, Problems& problems) {
  MapReader reader(node, file, "receivers[" + std::to_string(index) + "]", problems);
  Receiver receiver{.place = reader.place()};
  receiver.name = reader.text("name", true);
  // The kinds that Grafana has too; a receiver may name several of each.
  for (const std::string kind : {"pagerduty", "slack", "email", "webhook", "opsgenie"}) {
    for (const Node& config : reader.list(kind + "_configs"))
      receiver.integrations.push_back({reader.at(config), kind, to_json(config)});
  }
  reader.finish();
  return receiver;
}

void check_routes(const Route& route, bool root, const Alertmanager& all, Problems& problems) {
  const auto problem = [&](std::string message) {
    problems.push_back({route.place, "route", std::move(message)});
  };
  const auto known = [](const auto& list, const std::string& name) {
    return std::any_of(list.begin(), list.end(), [&](const auto& item) { return item.name == name; });
  };
  if (root && route.receiver.empty()) problem("the root route must name a receiver");
  if (root && !route.matchers.empty()) problem("the root route must not have matchers");
  if (!route.receiver.empty() && !known(all.receivers, route.receiver))
    problem("no receiver is called \"" + route.receiver + "\"");
  for (const auto& list : {route.mute_time_intervals, route.active_time_intervals})
    for (const auto& name : list)
      if (!known(all.time_intervals, name)) problem("no time interval is called \"" + name + "\"");
  for (const Route& child : route.routes) check_routes(child, false, all, problems);
}

void used_receivers(const Route& route, std::set<std::string>& names) {
  names.insert(route.receiver);
  for (const Route& child : route.routes) used_receivers(child, names);
}

}  // namespace

void load_alertmanager(const std::filesystem::path& path, Pack& pack, Problems& problems) {
  auto content = read(path, problems);
  if (!content) return;
  const auto root = config::yaml::parse(*content, path.string(), kYamlLimits);
  if (!root) {
    problems.push_back({{}, "", root.error().message});
    return;
  }
  Alertmanager result{.path = path, .text = std::move(*content), .document = to_json(*root)};
  const std::string file = path.string();
  MapReader reader(*root, file, "", problems);
  reader.ignore({"global"});
  std::size_t index = 0;
  for (const Node& node : reader.list("receivers"))
    result.receivers.push_back(read_receiver(node, file, index++, problems));
  result.inhibits = !reader.list("inhibit_rules").empty();
  for (const auto key : {"time_intervals", "mute_time_intervals"}) {
    for (const Node& node : reader.list(key)) {
      MapReader interval(node, file, key, problems);
      TimeInterval one{.place = interval.place(), .name = interval.text("name", true)};
      if (const Node* times = interval.take("time_intervals")) one.intervals = to_json(*times);
      interval.finish();
      result.time_intervals.push_back(std::move(one));
    }
  }
  for (const auto& pattern : reader.texts("templates")) {
    const auto files = files_of(path.parent_path(), pattern);
    if (files.empty()) reader.problem("templates: no file is called " + pattern);
    for (const auto& found : files)
      if (auto text = read(found, problems))
        result.templates.push_back({found.stem().string(), found, *text});
  }
  if (const Node* route = reader.take("route"))
    result.root = read_route(*route, file, "route", problems);
  else
    reader.problem("key \"route\" is missing");
  reader.finish();

  std::set<std::string> names;
  for (const auto& receiver : result.receivers)
    if (!names.insert(receiver.name).second)
      problems.push_back({receiver.place, receiver.name, "another receiver has the same name"});
  check_routes(result.root, true, result, problems);
  std::set<std::string> used;
  used_receivers(result.root, used);
  for (const auto& receiver : result.receivers)
    if (!used.contains(receiver.name))
      problems.push_back({receiver.place, receiver.name, "no route leads to this receiver"});
  pack.alertmanager = std::move(result);
}

}  // namespace tunnelctl::pack
