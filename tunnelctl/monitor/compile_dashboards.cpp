#include <algorithm>

#include "tunnelctl/monitor/compile.h"

namespace tunnelctl::monitor {
namespace {

void for_each_panel(Json& dashboard, const std::function<void(Json&)>& visit) {
  const auto list = dashboard.find("panels");
  if (list == dashboard.end() || !list->is_array()) return;
  for (Json& panel : *list) {
    if (!panel.is_object()) continue;
    visit(panel);
    for_each_panel(panel, visit);
  }
}

void complete_links(const pack::Pack& pack, Json& holder, const CompileOptions& options) {
  const auto links = holder.find("links");
  if (links == holder.end() || !links->is_array()) return;
  for (Json& link : *links)
    if (link.is_object() && link.contains("url") && link["url"].is_string())
      link["url"] = runbook_link(pack, link["url"].get<std::string>(), options);
}

std::string runbook_dashboard_uid(const pack::Pack& pack) {
  return uid_of(pack.name + "-runbooks");
}

/// Room for the text: panels have a fixed height, and what does not fit is scrolled.
int height_of(const std::string& text) {
  const auto lines = std::count(text.begin(), text.end(), '\n');
  return static_cast<int>(std::clamp<std::ptrdiff_t>(lines * 3 / 4 + 2, 8, 40));
}

}  // namespace

std::string runbook_link(const pack::Pack& pack, const std::string& link, const CompileOptions& options) {
  if (pack.runbook_prefix.empty() || !link.starts_with(pack.runbook_prefix)) return link;
  const std::string page = link.substr(pack.runbook_prefix.size());
  if (!options.runbook_url.empty()) return options.runbook_url + "/" + page;
  const std::string name = page.substr(0, page.find(".md"));
  for (std::size_t i = 0; i < pack.runbooks.size(); ++i)
    if (pack.runbooks[i].name == name)
      return options.grafana_url + "/d/" + runbook_dashboard_uid(pack) +
             "?viewPanel=" + std::to_string(i + 1);
  return link;
}

std::optional<pack::Dashboard> runbook_dashboard(const pack::Pack& pack) {
  if (pack.runbooks.empty()) return std::nullopt;
  Json panels = Json::array();
  int y = 0;
  int id = 0;
  for (const auto& runbook : pack.runbooks) {
    // The heading is the panel's title.
    const auto body =
        runbook.text.starts_with("# ") ? runbook.text.substr(runbook.text.find('\n') + 1) : runbook.text;
    const int height = height_of(body);
    panels.push_back({{"id", ++id},
                      {"type", "text"},
                      {"title", runbook.title},
                      {"description", "The runbook of the alert " + runbook.name + "."},
                      {"gridPos", {{"x", 0}, {"y", y}, {"w", 24}, {"h", height}}},
                      {"options", {{"mode", "markdown"}, {"content", body}}}});
    y += height;
  }
  const std::string uid = runbook_dashboard_uid(pack);
  pack::Dashboard result{
      .place = {pack.runbook_folder.string()}, .uid = uid, .title = pack.title + ": runbooks"};
  result.json = {{"uid", uid},
                 {"title", result.title},
                 {"description", "What to do about each alert."},
                 {"tags", Json::array({pack.name, "runbooks"})},
                 {"schemaVersion", 39},
                 {"editable", false},
                 {"timezone", "browser"},
                 {"time", {{"from", "now-1h"}, {"to", "now"}}},
                 {"panels", std::move(panels)},
                 {"templating", {{"list", Json::array()}}},
                 {"annotations", {{"list", Json::array()}}}};
  return result;
}

Json grafana_dashboard(const pack::Pack& pack, const pack::Dashboard& dashboard,
                       const CompileOptions& options) {
  Json json = dashboard.json;
  for (const char* server_s_own : {"id", "version", "iteration"}) json.erase(server_s_own);
  Json& tags = json["tags"];
  if (!tags.is_array()) tags = Json::array();
  const std::string tag = pack_tag(pack.name);
  if (std::find(tags.begin(), tags.end(), tag) == tags.end()) tags.push_back(tag);

  if (json.contains("templating") && json["templating"].is_object() && json["templating"].contains("list")) {
    for (Json& variable : json["templating"]["list"]) {
      if (!variable.is_object() || variable.value("type", "") != "datasource") continue;
      const auto found = options.datasources.find(variable.value("name", ""));
      if (found != options.datasources.end())
        variable["current"] = {
            {"selected", false}, {"text", found->second.name}, {"value", found->second.uid}};
    }
  }
  complete_links(pack, json, options);
  for_each_panel(json, [&](Json& panel) {
    complete_links(pack, panel, options);
    if (panel.contains("fieldConfig") && panel["fieldConfig"].is_object() &&
        panel["fieldConfig"].contains("defaults"))
      complete_links(pack, panel["fieldConfig"]["defaults"], options);
  });
  return json;
}

}  // namespace tunnelctl::monitor
