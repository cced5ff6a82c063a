#include "tunnelctl/monitor/normalise.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>

namespace tunnelctl::monitor {
namespace {

void erase(Json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys) object.erase(key);
}

void erase_if_equal(Json& object, const char* key, const Json& value) {
  if (const auto found = object.find(key); found != object.end() && *found == value) object.erase(key);
}

void drop_nulls(Json& value) {
  if (value.is_object()) {
    for (auto item = value.begin(); item != value.end();) {
      if (item->is_null()) {
        item = value.erase(item);
      } else {
        drop_nulls(*item);
        ++item;
      }
    }
  } else if (value.is_array()) {
    for (Json& item : value) drop_nulls(item);
  }
}

/// 60 and 60.0 are one number to everybody but a comparison of JSON trees.
void whole_numbers(Json& value) {
  if (value.is_number_float()) {
    const double number = value.get<double>();
    constexpr double kExact = 9007199254740992.0;
    if (number == static_cast<double>(static_cast<std::int64_t>(std::clamp(number, -kExact, kExact))))
      value = static_cast<std::int64_t>(number);
  } else if (value.is_structured()) {
    for (Json& item : value) whole_numbers(item);
  }
}

void one_duration(Json& object, const char* key, bool drop_zero) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return;
  const auto parsed = pack::duration(found->get<std::string>());
  if (parsed) *found = pack::duration_text(*parsed);
  if (drop_zero && (found->get<std::string>().empty() || *found == "0s")) object.erase(key);
}

std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  return first == std::string::npos ? std::string()
                                    : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

void sorted(Json& object, const char* key) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_array()) std::sort(found->begin(), found->end());
}

void empty_is_nothing(Json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (const auto found = object.find(key); found != object.end() && (found->empty() || *found == ""))
      object.erase(key);
}

void normalise_dashboard(Json& dashboard);

void normalise_panel(Json& panel) {
  if (!panel.is_object()) return;
  // What the editor adds when somebody saves without a change.
  erase_if_equal(panel, "transparent", false);
  erase(panel, {"pluginVersion"});
  empty_is_nothing(panel, {"links", "description", "transformations"});
  if (const auto targets = panel.find("targets"); targets != panel.end() && targets->is_array())
    for (Json& target : *targets)
      if (target.is_object()) erase_if_equal(target, "hide", false);
  if (const auto field = panel.find("fieldConfig"); field != panel.end() && field->is_object())
    empty_is_nothing(*field, {"overrides"});
  if (const auto inner = panel.find("panels"); inner != panel.end() && inner->is_array()) {
    for (Json& nested : *inner) normalise_panel(nested);
    if (inner->empty()) panel.erase("panels");
  }
}

void normalise_dashboard(Json& dashboard) {
  erase(dashboard, {"id", "version", "iteration", "gnetId"});
  erase_if_equal(dashboard, "editable", true);
  erase_if_equal(dashboard, "fiscalYearStartMonth", 0);
  erase_if_equal(dashboard, "graphTooltip", 0);
  erase_if_equal(dashboard, "liveNow", false);
  erase_if_equal(dashboard, "preload", false);
  empty_is_nothing(dashboard, {"links", "weekStart", "timepicker", "description"});
  sorted(dashboard, "tags");
  if (const auto panels = dashboard.find("panels"); panels != dashboard.end() && panels->is_array())
    for (Json& panel : *panels) normalise_panel(panel);
  if (const auto templating = dashboard.find("templating");
      templating != dashboard.end() && templating->is_object() && templating->contains("list")) {
    for (Json& variable : (*templating)["list"]) {
      if (!variable.is_object()) continue;
      const std::string type = variable.value("type", "");
      // Filled by whoever looked last.
      if (type == "query" || type == "datasource") erase(variable, {"options"});
      if (type == "query") erase(variable, {"current"});
      if (const auto current = variable.find("current"); current != variable.end() && current->is_object())
        erase(*current, {"selected"});
      erase_if_equal(variable, "skipUrlSync", false);
      erase_if_equal(variable, "hide", 0);
      empty_is_nothing(variable, {"options", "description"});
    }
  }
}

void normalise_rule(Json& rule) {
  erase(rule, {"id", "orgID", "folderUID", "ruleGroup", "updated", "provenance",
               "missing_series_evals_to_resolve"});
  if (rule.contains("record")) {
    // Of a rule that records, Grafana keeps or clears these as it likes.
    erase(rule, {"condition", "noDataState", "execErrState", "for", "keep_firing_for"});
  }
  one_duration(rule, "for", true);
  one_duration(rule, "keep_firing_for", true);
  erase_if_equal(rule, "isPaused", false);
  empty_is_nothing(rule, {"labels", "annotations"});
  if (const auto data = rule.find("data"); data != rule.end() && data->is_array()) {
    for (Json& node : *data) {
      if (!node.is_object()) continue;
      empty_is_nothing(node, {"queryType"});
      if (const auto range = node.find("relativeTimeRange");
          range != node.end() && *range == Json({{"from", 0}, {"to", 0}}))
        node.erase(range);
    }
  }
}

void normalise_route(Json& route) {
  if (!route.is_object()) return;
  erase(route, {"provenance"});
  empty_is_nothing(route, {"routes", "group_by", "object_matchers", "mute_time_intervals",
                           "active_time_intervals", "group_wait", "group_interval", "repeat_interval"});
  for (const char* key : {"group_wait", "group_interval", "repeat_interval"}) one_duration(route, key, false);
  erase_if_equal(route, "continue", false);
  sorted(route, "object_matchers");
  if (const auto routes = route.find("routes"); routes != route.end() && routes->is_array())
    for (Json& child : *routes) normalise_route(child);
}

/// What tells the items of a list apart, if all have it and no two the same.
std::optional<std::string> identity(const Json& a, const Json& b) {
  for (const char* key : {"uid", "id", "refId", "name", "title"}) {
    const auto fits = [&](const Json& list) {
      std::set<std::string> seen;
      return std::all_of(list.begin(), list.end(), [&](const Json& item) {
        return item.is_object() && item.contains(key) && item[key].is_primitive() &&
               seen.insert(item[key].dump()).second;
      });
    };
    if (fits(a) && fits(b) && !(a.empty() && b.empty())) return key;
  }
  return std::nullopt;
}

void compare(const std::string& path, const Json& before, const Json& after, std::vector<Difference>& out) {
  if (before == after) return;
  if (before.is_object() && after.is_object()) {
    std::set<std::string> keys;
    for (const auto& item : before.items()) keys.insert(item.key());
    for (const auto& item : after.items()) keys.insert(item.key());
    for (const auto& key : keys)
      compare(path + "/" + key, before.contains(key) ? before[key] : Json(),
              after.contains(key) ? after[key] : Json(), out);
    return;
  }
  if (before.is_array() && after.is_array()) {
    if (const auto key = identity(before, after)) {
      const auto find = [&](const Json& list, const Json& value) {
        const auto found =
            std::find_if(list.begin(), list.end(), [&](const Json& item) { return item[*key] == value; });
        return found == list.end() ? Json() : *found;
      };
      const auto at = [&](const Json& item) {
        return path + "[" + (item[*key].is_string() ? item[*key].get<std::string>() : item[*key].dump()) +
               "]";
      };
      const auto seen = out.size();
      for (const Json& item : before) compare(at(item), item, find(after, item[*key]), out);
      for (const Json& item : after)
        if (find(before, item[*key]).is_null()) out.push_back({at(item), nullptr, item});
      if (out.size() == seen) out.push_back({path, "(order)", "(another order)"});
      return;
    }
    if (before.size() == after.size()) {
      for (std::size_t i = 0; i < before.size(); ++i)
        compare(path + "[" + std::to_string(i) + "]", before[i], after[i], out);
      return;
    }
  }
  out.push_back({path, before, after});
}

}  // namespace

Json normalise(Kind kind, Json content) {
  drop_nulls(content);
  whole_numbers(content);
  switch (kind) {
    case Kind::dashboard: normalise_dashboard(content); break;
    case Kind::routes: normalise_route(content); break;
    case Kind::rule_group:
      if (const auto rules = content.find("rules"); rules != content.end() && rules->is_array())
        for (Json& rule : *rules) normalise_rule(rule);
      break;
    case Kind::template_group:
      // Grafana cuts white space off both ends.
      if (const auto text = content.find("template"); text != content.end() && text->is_string())
        *text = trimmed(text->get<std::string>());
      break;
    case Kind::contact_point: erase_if_equal(content, "disableResolveMessage", false); break;
    default: break;
  }
  return content;
}

std::vector<Difference> differences(const Json& before, const Json& after) {
  std::vector<Difference> result;
  compare("", before, after, result);
  return result;
}

}  // namespace tunnelctl::monitor
