#include <algorithm>
#include <set>

#include "tunnelctl/pack/load_parts.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::pack {
namespace {

Place place_of_byte(const std::string& file, const std::string& content, std::size_t byte) {
  const std::size_t at = std::min(byte == 0 ? 0 : byte - 1, content.size());
  const auto line = 1 + std::count(content.begin(), content.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  const auto start = content.substr(0, at).rfind('\n');
  const auto column = at - (start == std::string::npos ? 0 : start + 1) + 1;
  return {file, static_cast<int>(line), static_cast<int>(column)};
}

/// nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ..." has
/// the place twice and its own name; what follows the place is for people.
std::string plain(std::string message) {
  if (const auto at = message.find(": "); at != std::string::npos) message.erase(0, at + 2);
  return "is not valid JSON: " + message;
}

std::string called(const Json& panel) {
  std::string name = "panel";
  if (panel.contains("id")) name += " " + panel["id"].dump();
  if (panel.contains("title") && panel["title"].is_string() && panel["title"] != "")
    name += " \"" + panel["title"].get<std::string>() + "\"";
  return name;
}

bool names_datasource(const Json& holder) {
  const auto found = holder.find("datasource");
  return found != holder.end() && found->is_object() && found->value("uid", Json()).is_string();
}

void check_panel(const Json& panel, const Place& place, std::set<std::int64_t>& ids, Problems& problems) {
  const auto problem = [&](std::string message) {
    problems.push_back({place, called(panel), std::move(message)});
  };
  if (!panel.is_object()) return problem("a panel must be an object");
  if (!panel.contains("id") || !panel["id"].is_number_integer())
    problem("has no id; Grafana would invent one, and links would break");
  else if (!ids.insert(panel["id"].get<std::int64_t>()).second)
    problem("another panel has the same id");
  if (!panel.contains("type") || !panel["type"].is_string()) return problem("has no type");
  const auto targets = panel.find("targets");
  if (targets == panel.end() || targets->empty()) return;
  if (!targets->is_array()) return problem("targets must be a list");
  std::set<std::string> refs;
  for (const Json& target : *targets) {
    if (!target.is_object()) {
      problem("each target must be an object");
      continue;
    }
    const std::string ref = target.value("refId", Json("")).is_string() ? target.value("refId", "") : "";
    if (ref.empty()) problem("a target has no refId");
    if (!ref.empty() && !refs.insert(ref).second) problem("refId " + ref + " is there twice");
    if (!names_datasource(target) && !names_datasource(panel))
      problem("target " + ref +
              " names no data source; write \"datasource\": {\"type\": ..., \"uid\": \"${datasource}\"}");
    if (target.contains("expr") && !target["expr"].is_string())
      problem("target " + ref + ": expr must be text");
  }
}

}  // namespace

void load_dashboard(const std::filesystem::path& path, Pack& pack, Problems& problems) {
  const auto content = read(path, problems);
  if (!content) return;
  Dashboard dashboard{.place = {path.string()}};
  try {
    dashboard.json = Json::parse(*content);
  } catch (const Json::parse_error& error) {
    problems.push_back({place_of_byte(path.string(), *content, error.byte), "", plain(error.what())});
    return;
  }
  const auto problem = [&](std::string message) {
    problems.push_back({dashboard.place, "", std::move(message)});
  };
  if (!dashboard.json.is_object()) return problem("a dashboard must be a JSON object");
  // What GET answers, and what people save from there.
  if (dashboard.json.contains("dashboard") && dashboard.json["dashboard"].is_object())
    return problem(
        "is an answer of Grafana's API; keep only what stands under \"dashboard\" (tunnelctl monitor export "
        "does)");
  if (dashboard.json.contains("elements") || dashboard.json.contains("spec"))
    return problem("is a dashboard of schema v2 or a Kubernetes object; packs hold classic dashboard JSON");
  const auto text_of = [&](const char* key) {
    const auto found = dashboard.json.find(key);
    return found != dashboard.json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  dashboard.uid = text_of("uid");
  dashboard.title = text_of("title");
  if (dashboard.uid.empty()) problem("has no uid; each save would make another dashboard");
  if (dashboard.title.empty()) problem("has no title");
  if (dashboard.json.contains("id") && !dashboard.json["id"].is_null())
    problem("has a numeric id, which belongs to one server; remove it");
  if (dashboard.json.contains("panels") && !dashboard.json["panels"].is_array())
    problem("panels must be a list");
  if (dashboard.json.contains("tags") && !dashboard.json["tags"].is_array()) problem("tags must be a list");
  std::set<std::int64_t> ids;
  for (const Json* panel : panels(dashboard.json)) check_panel(*panel, dashboard.place, ids, problems);
  pack.dashboards.push_back(std::move(dashboard));
}

}  // namespace tunnelctl::pack
