#include "tunnelctl/pack/queries.h"

#include <algorithm>

namespace tunnelctl::pack {
namespace {

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

struct Source {
  std::string uid, type;
};
Source source_of(const Json& target, const Json& panel) {
  for (const Json* holder : {&target, &panel}) {
    const auto found = holder->find("datasource");
    if (found != holder->end() && found->is_object() && !text_of(*found, "uid").empty())
      return {text_of(*found, "uid"), text_of(*found, "type")};
  }
  return {};
}

promql::Variable value_of(const Json& variable) {
  promql::Variable result;
  result.multi = variable.value("multi", false) || variable.value("includeAll", false);
  result.all_value = text_of(variable, "allValue");
  const auto current = variable.find("current");
  if (current != variable.end() && current->is_object() && current->contains("value")) {
    const Json& value = (*current)["value"];
    if (value.is_string() && !value.get<std::string>().empty()) result.values.push_back(value);
    if (value.is_array())
      for (const Json& one : value)
        if (one.is_string()) result.values.push_back(one);
  }
  if (!result.values.empty()) return result;
  const std::string type = text_of(variable, "type");
  if (type == "textbox" || type == "constant" || type == "interval" || type == "custom") {
    const std::string query = text_of(variable, "query");
    result.values.push_back(type == "textbox" || type == "constant" ? query
                                                                    : query.substr(0, query.find(',')));
  } else {
    result.values.emplace_back("$__all");
  }
  return result;
}

}  // namespace

std::vector<const Json*> panels(const Json& dashboard) {
  std::vector<const Json*> result;
  const auto list = dashboard.find("panels");
  if (list == dashboard.end() || !list->is_array()) return result;
  for (const Json& panel : *list) {
    result.push_back(&panel);
    if (!panel.is_object()) continue;
    const auto inner = panel.find("panels");
    if (inner != panel.end() && inner->is_array())
      for (const Json& nested : *inner) result.push_back(&nested);
  }
  return result;
}

std::vector<Query> queries(const Dashboard& dashboard) {
  std::vector<Query> result;
  for (const Json* panel : panels(dashboard.json)) {
    if (!panel->is_object() || !panel->contains("targets") || !(*panel)["targets"].is_array()) continue;
    for (const Json& target : (*panel)["targets"]) {
      if (!target.is_object() || text_of(target, "expr").empty()) continue;
      const Source source = source_of(target, *panel);
      Query query{.dashboard = dashboard.uid,
                  .panel_title = text_of(*panel, "title"),
                  .ref = text_of(target, "refId"),
                  .datasource = source.uid,
                  .type = source.type,
                  .expr = text_of(target, "expr")};
      if (panel->contains("id") && (*panel)["id"].is_number_integer()) query.panel = (*panel)["id"];
      // Loki says it in words, Prometheus by flags.
      query.instant =
          text_of(target, "queryType") == "instant" || target.value("instant", Json(false)) == Json(true);
      result.push_back(std::move(query));
    }
  }
  return result;
}

promql::Variables variables(const Dashboard& dashboard) {
  promql::Variables result;
  const auto builtin = [&](const char* name, const char* value) {
    promql::Variable variable;
    variable.values.emplace_back(value);
    result[name] = std::move(variable);
  };
  builtin("__rate_interval", "1m");
  builtin("__interval", "15s");
  builtin("__interval_ms", "15000");
  builtin("__range", "3600s");
  builtin("__range_s", "3600");
  builtin("__range_ms", "3600000");
  builtin("__auto", "1m");  // Loki's own
  builtin("__dashboard", dashboard.uid.c_str());
  const auto templating = dashboard.json.find("templating");
  if (templating == dashboard.json.end() || !templating->is_object() || !templating->contains("list"))
    return result;
  for (const Json& variable : (*templating)["list"])
    if (variable.is_object()) result[text_of(variable, "name")] = value_of(variable);
  return result;
}

std::optional<std::string> variable_name(std::string_view text) {
  const auto uses = promql::variables_used(text);
  if (uses.size() != 1 || uses.front().span.begin != 0 || uses.front().span.end != text.size())
    return std::nullopt;
  return uses.front().name;
}

const Exception* covering(const std::vector<Exception>& exceptions, std::string_view id,
                          std::string_view check) {
  for (const auto& one : exceptions) {
    if (one.check != check) continue;
    const bool whole = one.object == id;
    const bool part =
        id.size() > one.object.size() && id.starts_with(one.object) && id[one.object.size()] == '/';
    if (whole || part) return &one;
  }
  return nullptr;
}

}  // namespace tunnelctl::pack
