#include "tunnelctl/grafana/panels.h"

#include <algorithm>

namespace tunnelctl::grafana {
namespace {

/// Ids are numbers, in hand-written dashboards sometimes text.
std::string id_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number() ? value.dump() : "";
}

Location below(Location location, std::initializer_list<Step> steps) {
  location.insert(location.end(), steps);
  return location;
}

Panel panel(Location location, const Json& json, std::string row) {
  return {std::move(location),   &json,         id_of(member(json, "id")), text_of(json, "title"),
          text_of(json, "type"), std::move(row)};
}

void classic_panels(const Json& holder, const Location& at, const std::string& row, std::vector<Panel>& out) {
  const Json& list = member(holder, "panels");
  for (std::size_t i = 0; i < list.size() && list.is_array(); ++i) {
    const auto place = below(at, {std::string("panels"), i});
    if (text_of(list[i], "type") == "row") {
      classic_panels(list[i], place, text_of(list[i], "title"), out);
    } else if (list[i].is_object()) {
      out.push_back(panel(place, list[i], row));
    }
  }
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < 20; ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > 20) text += " and " + std::to_string(names.size() - 20) + " more";
  return names.empty() ? "none" : text;
}

std::string called(const Panel& panel) {
  return panel.id + (panel.title.empty() ? "" : " \"" + panel.title + "\"");
}

Result<Location> find_panel(const Json& content, const std::string& name) {
  const auto all = panels_of(content);
  std::vector<const Panel*> fitting;
  std::vector<std::string> names;
  for (const auto& one : all) {
    names.push_back(called(one));
    if (one.id == name || one.title == name) fitting.push_back(&one);
  }
  if (fitting.size() == 1) return fitting.front()->location;
  if (fitting.empty())
    return fail(Error::Kind::not_found,
                "no panel has the id or title \"" + name + "\"; there are: " + listed(names));
  names.clear();
  for (const auto* one : fitting) names.push_back(called(*one) + " at " + written(one->location));
  return fail(Error::Kind::bad_input,
              "\"" + name + "\" names " + std::to_string(fitting.size()) + " panels: " + listed(names));
}

/// The one item of the list at `list` whose `key` is `name`.
Result<Location> find_item(const Json& content, const Location& list, const Location& key,
                           const std::string& name, const char* kind) {
  std::vector<std::string> names;
  std::vector<Location> fitting;
  if (const Json* items = at(content, list); items != nullptr && items->is_array()) {
    for (std::size_t i = 0; i < items->size(); ++i) {
      const Json* value = at((*items)[i], key);
      if (value == nullptr || !value->is_string()) continue;
      names.push_back(value->get<std::string>());
      if (names.back() == name) fitting.push_back(below(list, {i}));
    }
  }
  if (fitting.size() == 1) return fitting.front();
  if (fitting.empty())
    return fail(Error::Kind::not_found,
                "no " + std::string(kind) + " is called \"" + name + "\"; there are: " + listed(names));
  return fail(Error::Kind::bad_input, std::to_string(fitting.size()) + " are called " + kind + " \"" + name +
                                          "\"; the first two: " + written(fitting[0]) + ", " +
                                          written(fitting[1]));
}

std::string datasource_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (auto uid = text_of(value, "uid"); !uid.empty()) return uid;
  return text_of(value, "name");
}

/// The text of a query, whatever its kind of data source calls it.
std::string query_text(const Json& target) {
  for (const char* key : {"expr", "query", "expression", "rawSql", "rawSQL", "rawQuery", "target"})
    if (auto text = text_of(target, key); !text.empty()) return text;
  return "";
}

Json queries_of(const Panel& panel, bool v2) {
  Json result = Json::array();
  if (v2) {
    for (const auto& item : member(member(member(*panel.json, "data"), "spec"), "queries")) {
      const Json& spec = member(item, "spec");
      const Json& query = member(spec, "query");
      const Json& data = query.is_object() && query.contains("spec") ? query["spec"] : query;
      const Json& datasource = query.is_object() && query.contains("datasource") ? query["datasource"]
                                                                                 : member(spec, "datasource");
      result.push_back({{"ref", text_of(spec, "refId")},
                        {"datasource", datasource_of(datasource)},
                        {"query", query_text(data)}});
    }
    return result;
  }
  for (const auto& target : member(*panel.json, "targets")) {
    auto datasource = datasource_of(member(target, "datasource"));
    if (datasource.empty()) datasource = datasource_of(member(*panel.json, "datasource"));
    result.push_back(
        {{"ref", text_of(target, "refId")}, {"datasource", datasource}, {"query", query_text(target)}});
  }
  return result;
}

Json variable(const Json& json, const std::string& type) {
  const Json& current = member(json, "current");
  const Json& value = current.is_object() ? member(current, "value") : current;
  return {{"name", text_of(json, "name")}, {"type", type}, {"value", value}};
}

}  // namespace

std::vector<Panel> panels_of(const Json& content) {
  std::vector<Panel> result;
  if (is_v2(content)) {
    for (const auto& [name, element] : member(content, "elements").items()) {
      if (!element.is_object()) continue;
      auto one = panel({std::string("elements"), name, std::string("spec")}, member(element, "spec"), "");
      const Json& kind = member(*one.json, "vizConfig");
      one.type = text_of(kind, "group").empty() ? text_of(kind, "kind") : text_of(kind, "group");
      if (one.type.empty()) one.type = text_of(element, "kind");
      result.push_back(std::move(one));
    }
    return result;
  }
  classic_panels(content, {}, "", result);
  // Before Grafana 5 panels stood in rows.
  const Json& rows = member(content, "rows");
  for (std::size_t i = 0; rows.is_array() && i < rows.size(); ++i)
    classic_panels(rows[i], {std::string("rows"), i}, text_of(rows[i], "title"), result);
  return result;
}

Result<Location> find(const Json& content, const Selector& selector) {
  const bool v2 = is_v2(content);
  const auto step = [](const char* name) { return Step(std::string(name)); };
  // Schema v2 wraps each part: {"kind": ..., "spec": {what people mean}}.
  const auto item = [&](const Location& list, const char* key, const std::string& name,
                        const char* kind) -> Result<Location> {
    if (!v2) return find_item(content, list, {step(key)}, name, kind);
    auto place = find_item(content, list, {step("spec"), step(key)}, name, kind);
    if (place) place->push_back(step("spec"));
    return place;
  };
  if (!selector.variable.empty()) {
    if (!selector.panel.empty() || !selector.query.empty())
      return fail(Error::Kind::bad_input,
                  "--var names a variable of the dashboard; it cannot stand beside --panel or --query");
    return item(v2 ? Location{step("variables")} : Location{step("templating"), step("list")}, "name",
                selector.variable, "variable");
  }
  if (selector.panel.empty()) {
    if (!selector.query.empty())
      return fail(Error::Kind::bad_input,
                  "--query names a query of a panel: name the panel too, with --panel");
    return Location{};
  }
  auto panel = find_panel(content, selector.panel);
  if (!panel || selector.query.empty()) return panel;
  return item(
      v2 ? below(*panel, {step("data"), step("spec"), step("queries")}) : below(*panel, {step("targets")}),
      "refId", selector.query, "query");
}

Json summary(const Dashboard& dashboard) {
  const Json& content = dashboard.content;
  const bool v2 = !dashboard.schema.empty();
  Json result{{"uid", dashboard.uid},
              {"title", dashboard.title},
              {"version", dashboard.version},
              {"schema", v2 ? dashboard.schema : "classic"},
              {"url", dashboard.url},
              {"folder", {{"uid", dashboard.folder_uid}, {"title", dashboard.folder_title}}},
              {"updated", dashboard.updated},
              {"updated_by", dashboard.updated_by},
              {"provisioned", dashboard.provisioned},
              {"tags", member(content, "tags").is_array() ? content["tags"] : Json::array()},
              {"variables", Json::array()},
              {"panels", Json::array()}};
  const Json& settings = v2 ? member(content, "timeSettings") : member(content, "time");
  result["time"] = {{"from", text_of(settings, "from")}, {"to", text_of(settings, "to")}};
  result["refresh"] = v2 ? text_of(settings, "autoRefresh") : text_of(content, "refresh");
  if (v2) {
    for (const auto& one : member(content, "variables"))
      result["variables"].push_back(variable(member(one, "spec"), text_of(one, "kind")));
  } else {
    for (const auto& one : member(member(content, "templating"), "list"))
      result["variables"].push_back(variable(one, text_of(one, "type")));
  }
  for (const auto& one : panels_of(content)) {
    Json id = one.json->is_object() && one.json->contains("id") ? (*one.json)["id"] : Json(nullptr);
    result["panels"].push_back({{"id", std::move(id)},
                                {"type", one.type},
                                {"title", one.title},
                                {"row", one.row},
                                {"queries", queries_of(one, v2)}});
  }
  return result;
}

}  // namespace tunnelctl::grafana
