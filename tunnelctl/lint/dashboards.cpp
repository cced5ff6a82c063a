#include <algorithm>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::lint {
namespace {

/// Version 36 turned names of data sources into {type, uid}: everything older is rewritten by each Grafana
/// that loads it. 42 is Grafana 12's.
constexpr int kOldestSchema = 36;
constexpr int kNewestSchema = 42;
constexpr int kColumns = 24;

struct Box {
  const Json* panel = nullptr;
  int x = 0, y = 0, w = 0, h = 0;
  bool overlaps(const Box& other) const {
    return x < other.x + other.w && other.x < x + w && y < other.y + other.h && other.y < y + h;
  }
};

std::string panel_object(const pack::Dashboard& dashboard, const Json& panel) {
  const Json& id = member(panel, "id");
  return dashboard.uid + "/" + (id.is_number_integer() ? id.dump() : "?");
}

void lint_grid(Context& context, const pack::Dashboard& dashboard, const std::vector<Json>& panels) {
  std::vector<Box> boxes;
  for (const Json& panel : panels) {
    const Json& grid = member(panel, "gridPos");
    if (!grid.is_object()) continue;
    const auto number = [&](const char* key) { return static_cast<int>(number_of(grid, key).value_or(0)); };
    const Box box{&panel, number("x"), number("y"), number("w"), number("h")};
    if (box.x < 0 || box.y < 0 || box.w < 1 || box.h < 1 || box.x + box.w > kColumns)
      context.report.add(
          "grid-width", dashboard.place, panel_object(dashboard, panel),
          "gridPos " + grid.dump() + " leaves the grid: x + w is at most 24, w and h at least 1");
    else
      boxes.push_back(box);
  }
  std::stable_sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.y < b.y; });
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    for (std::size_t j = i + 1; j < boxes.size() && boxes[j].y < boxes[i].y + boxes[i].h; ++j) {
      if (!boxes[i].overlaps(boxes[j])) continue;
      context.report.add("grid-overlap", dashboard.place, panel_object(dashboard, *boxes[j].panel),
                         "stands where panel " + member(*boxes[i].panel, "id").dump() +
                             " is: Grafana pushes one of them away on every load");
      break;
    }
  }
}

bool has_panel(const pack::Dashboard& dashboard, std::string_view id) {
  for (const Json* panel : pack::panels(dashboard.json))
    if (member(*panel, "id").dump() == id) return true;
  return false;
}

void lint_link(Context& context, const pack::Dashboard& from, const std::string& object,
               const std::string& url) {
  if (!url.starts_with("/d/") || url.size() < 4) return;
  const std::string uid = url.substr(3, url.find_first_of("/?", 3) - 3);
  if (uid.find('$') != std::string::npos || uid == context.pack.name + "-runbooks") return;
  const auto& all = context.pack.dashboards;
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.uid == uid; });
  if (found == all.end())
    return context.report.add(
        "dashboard-link", from.place, object,
        "the link " + url + " leads to dashboard " + uid + ", which the pack does not have");
  const auto view = url.find("viewPanel=");
  if (view == std::string::npos) return;
  std::string id = url.substr(view + 10, url.find_first_of("&#", view) - view - 10);
  if (id.starts_with("panel-")) id.erase(0, 6);
  if (id.find('$') == std::string::npos && !has_panel(*found, id))
    context.report.add(
        "dashboard-link", from.place, object,
        "the link " + url + " leads to panel " + id + ", which dashboard " + uid + " does not have");
}

/// Links stand in many places: the dashboard's, a panel's, a field's, an override's.
void lint_links(Context& context, const pack::Dashboard& dashboard, const std::string& object,
                const Json& value) {
  if (value.is_object()) {
    if (const std::string url = text_of(value, "url"); !url.empty())
      lint_link(context, dashboard, object, url);
    for (const auto& item : value.items())
      if (item.key() != "panels") lint_links(context, dashboard, object, item.value());
  } else if (value.is_array()) {
    for (const Json& item : value) lint_links(context, dashboard, object, item);
  }
}

void lint_settings(Context& context, const pack::Dashboard& dashboard) {
  const auto add = [&](const char* check, std::string message) {
    context.report.add(check, dashboard.place, dashboard.uid, std::move(message));
  };
  // Absent means editable.
  if (member(dashboard.json, "editable") != Json(false))
    add("uneditable-dashboard",
        "people may edit it in Grafana, and the next setup takes that away: set \"editable\": false");
  const std::string zone = text_of(dashboard.json, "timezone");
  if (!zone.empty() && zone != "browser" && zone != "utc")
    add("dashboard-timezone", "shows everybody the time of " + zone + ": use \"browser\" or \"utc\"");
  const auto version = number_of(dashboard.json, "schemaVersion").value_or(0);
  if (version < kOldestSchema)
    add("schema-version",
        "schemaVersion " + std::to_string(static_cast<int>(version)) +
            " is rewritten by every Grafana from 9.5 on, so that file and server differ: save it "
            "in a newer one (36 to 42)");
  if (version > kNewestSchema)
    add("schema-version", "schemaVersion " + std::to_string(static_cast<int>(version)) +
                              " is newer than Grafana 12's 42: older servers may misread it");
}

}  // namespace

void lint_dashboard(Context& context, const pack::Dashboard& dashboard) {
  lint_settings(context, dashboard);
  lint_variables(context, dashboard);
  lint_links(context, dashboard, dashboard.uid, dashboard.json);
  const auto& top = items(dashboard.json, "panels");
  lint_grid(context, dashboard, top);
  // What a collapsed row holds is laid out for when it opens.
  for (const Json& panel : top) lint_grid(context, dashboard, items(panel, "panels"));
  for (const Json* panel : pack::panels(dashboard.json)) {
    if (!panel->is_object()) continue;
    lint_links(context, dashboard, panel_object(dashboard, *panel), *panel);
    lint_panel(context, dashboard, *panel);
  }
  lint_targets(context, dashboard);
}

}  // namespace tunnelctl::lint
