#include <algorithm>

#include "tunnelctl/export/parts.h"
#include "tunnelctl/promql/variables.h"

namespace tunnelctl::exporting {
namespace {

std::string runbook_dashboard(const Export& work) {
  return monitor::uid_of(work.options.name + "-runbooks");
}

bool is_known(const std::string& type) {
  return type == "prometheus" || type == "loki";
}

/// Grafana's own: no data source of a server.
bool is_special(const std::string& uid) {
  return uid.empty() || uid.starts_with("-- ") || uid == "grafana" || uid == "__expr__" || uid == "-100";
}

/// The server's data source of that uid or, as files before Grafana 8.3 have it, name; null for the default.
const Json* find_source(const Export& work, const Json& named) {
  const std::string text = named.is_string() ? named.get<std::string>() : text_of(named, "uid");
  for (const Json& one : work.seen.datasources) {
    if (named.is_null() ? one.value("isDefault", false)
                        : text_of(one, "uid") == text || text_of(one, "name") == text)
      return &one;
  }
  return nullptr;
}

class DashboardExporter {
 public:
  DashboardExporter(Export& work, Json dashboard) : work_(work), json_(std::move(dashboard)) {}

  void run() {
    const std::string uid = text_of(json_, "uid");
    for (const char* server_s_own : {"id", "version", "iteration"}) json_.erase(server_s_own);
    tags();
    own_variables();
    sources(json_, uid);
    links(json_);
    add_variables();
    if (has_library_panels(json_))
      work_.note("dashboard " + uid +
                 " uses library panels, which stay on the server: a pack cannot bring them");
    work_.file("dashboards/" + file_name(uid) + ".json", json_.dump(2) + "\n");
  }

 private:
  void tags() {
    const auto found = json_.find("tags");
    if (found == json_.end() || !found->is_array()) return;
    Json kept = Json::array();
    for (const Json& tag : *found)
      if (!tag.is_string() || !tag.get<std::string>().starts_with("tunnelctl:")) kept.push_back(tag);
    *found = std::move(kept);
  }

  /// What somebody chose last is not the dashboard's.
  void own_variables() {
    const auto templating = json_.find("templating");
    if (templating == json_.end() || !templating->is_object() || !templating->contains("list")) return;
    for (Json& variable : (*templating)["list"]) {
      const std::string type = text_of(variable, "type");
      if (type != "query" && type != "datasource") continue;
      variable.erase("current");
      variable.erase("options");
      if (type != "datasource" || !is_known(text_of(variable, "query"))) continue;
      const std::string name = text_of(variable, "name");
      own_.insert(name);
      if (std::none_of(work_.sources.begin(), work_.sources.end(),
                       [&](const Source& one) { return one.variable == name; }))
        work_.sources.push_back({name, text_of(variable, "query"), ""});
    }
  }

  void sources(Json& value, const std::string& uid) {
    if (value.is_array()) {
      for (Json& item : value) sources(item, uid);
      return;
    }
    if (!value.is_object()) return;
    for (auto item = value.begin(); item != value.end(); ++item) {
      if (item.key() == "datasource")
        source(*item, uid, value);
      else
        sources(*item, uid);
    }
  }

  void source(Json& named, const std::string& uid, const Json& holder) {
    if (named.is_object() &&
        (is_special(text_of(named, "uid")) || !promql::variables_used(text_of(named, "uid")).empty()))
      return;
    if (named.is_string() && (is_special(named) || !promql::variables_used(named.get<std::string>()).empty()))
      return;
    // A null means the default, and in what asks for nothing it means nothing.
    if (named.is_null() && !holder.contains("targets") && !holder.contains("expr")) return;
    const Json* found = find_source(work_, named);
    const std::string type = found != nullptr ? text_of(*found, "type") : text_of(named, "type");
    const std::string fixed = found != nullptr    ? text_of(*found, "uid")
                              : named.is_string() ? named.get<std::string>()
                                                  : text_of(named, "uid");
    const std::string variable = variable_for(work_, fixed, type);
    if (variable.empty()) {
      if (told_.insert(fixed).second)
        work_.note("dashboard " + uid + " asks data source " + fixed + " (" + (type.empty() ? "gone" : type) +
                   "), which stays as it is: packs know prometheus and loki");
      return;
    }
    if (told_.insert(fixed).second)
      work_.note("dashboard " + uid + ": data source " + fixed + " became the variable $" + variable);
    needed_.insert(variable);
    named = {{"type", type}, {"uid", "${" + variable + "}"}};
  }

  void add_variables() {
    Json made = Json::array();
    for (const auto& source : work_.sources) {
      if (!needed_.contains(source.variable) || own_.contains(source.variable)) continue;
      Json variable{
          {"name", source.variable}, {"type", "datasource"}, {"query", source.type}, {"refresh", 1}};
      variable["label"] = source.type == "loki" ? "Logs" : "Metrics";
      made.push_back(std::move(variable));
    }
    if (made.empty()) return;
    // In front: the other variables ask them.
    Json& list = json_["templating"]["list"];
    if (list.is_array()) made.insert(made.end(), list.begin(), list.end());
    list = std::move(made);
  }

  void links(Json& value) {
    if (value.is_array()) {
      for (Json& item : value) links(item);
    } else if (value.is_object()) {
      if (const std::string url = text_of(value, "url"); !url.empty())
        value["url"] = runbook_link(work_, url);
      for (auto& item : value.items()) links(item.value());
    }
  }

  static bool has_library_panels(const Json& value) {
    if (value.is_object() && value.contains("libraryPanel")) return true;
    return value.is_structured() &&
           std::any_of(value.begin(), value.end(), [](const Json& item) { return has_library_panels(item); });
  }

  Export& work_;
  Json json_;
  std::set<std::string> own_, needed_, told_;
};

void remember(Export& work, const Json& dashboard, const Json& panels) {
  const std::string uid = text_of(dashboard, "uid");
  work.dashboards.insert(uid);
  if (!panels.is_array()) return;
  for (const Json& panel : panels) {
    work.dashboards.insert(uid + "/" + member(panel, "id").dump());
    remember(work, dashboard, member(panel, "panels"));
  }
}

}  // namespace

std::string variable_for(Export& work, const std::string& uid, const std::string& type) {
  if (!is_known(type)) return {};
  if (const auto known = work.variables.find(uid); known != work.variables.end()) return known->second;
  const std::string base = type == "loki" ? "loki" : "datasource";
  std::string name;
  // The first stands for the usual one; a second is another on purpose, and keeps its name.
  const bool first = std::none_of(work.variables.begin(), work.variables.end(),
                                  [&](const auto& one) { return one.second == base; });
  for (int i = 2; name.empty(); ++i) {
    const std::string candidate = first ? base : base + "_" + std::to_string(i);
    const bool taken = std::any_of(work.sources.begin(), work.sources.end(), [&](const Source& one) {
      return one.variable == candidate && (!first || one.type != type);
    });
    if (!taken || first) name = candidate;
  }
  work.variables[uid] = name;
  if (std::none_of(work.sources.begin(), work.sources.end(),
                   [&](const Source& one) { return one.variable == name; })) {
    Source source{name, type, ""};
    if (!first)
      for (const Json& one : work.seen.datasources)
        if (text_of(one, "uid") == uid) source.name = text_of(one, "name");
    work.sources.push_back(std::move(source));
  }
  return name;
}

std::string runbook_link(const Export& work, const std::string& url) {
  const std::string mark = "/d/" + runbook_dashboard(work) + "?viewPanel=";
  const auto at = url.find(mark);
  if (at == std::string::npos) return url;
  const auto found = work.runbooks.find(url.substr(at + mark.size()));
  return found == work.runbooks.end() ? url : "runbooks/" + found->second + ".md";
}

void export_runbooks(Export& work) {
  constexpr std::string_view kAbout = "The runbook of the alert ";
  for (const Json& raw : work.seen.dashboards) {
    const Json& dashboard = member(raw, "dashboard");
    if (text_of(dashboard, "uid") != runbook_dashboard(work)) continue;
    for (const Json& panel : dashboard.value("panels", Json::array())) {
      std::string name = text_of(panel, "description");
      if (!name.starts_with(kAbout)) continue;
      name = name.substr(kAbout.size());
      if (name.ends_with('.')) name.pop_back();
      name = file_name(name);
      work.runbooks[member(panel, "id").dump()] = name;
      work.file("runbooks/" + name + ".md",
                "# " + text_of(panel, "title") + "\n" + text_of(member(panel, "options"), "content"));
    }
  }
}

void export_dashboards(Export& work) {
  for (const Json& raw : work.seen.dashboards) {
    const Json& dashboard = member(raw, "dashboard");
    if (!dashboard.is_object()) continue;
    if (text_of(dashboard, "uid") == runbook_dashboard(work) && !work.runbooks.empty()) continue;
    remember(work, dashboard, member(dashboard, "panels"));
    DashboardExporter(work, dashboard).run();
  }
}

}  // namespace tunnelctl::exporting
