#include <algorithm>
#include <initializer_list>
#include <set>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/promql/variables.h"

namespace tunnelctl::lint {
namespace {

bool is_one_of(std::string_view type, std::initializer_list<std::string_view> types) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

/// Panels that ask a data source. Lists of alerts, dashboards and news, texts and rows do not.
bool asks(std::string_view type) {
  return is_one_of(type, {"stat", "gauge", "bargauge", "timeseries", "table", "piechart", "barchart",
                          "heatmap", "histogram", "state-timeline", "status-history", "logs", "trend",
                          "xychart", "graph", "singlestat"});
}
bool shows_numbers(std::string_view type) {
  return is_one_of(type, {"stat", "gauge", "bargauge", "timeseries", "table", "piechart", "barchart", "graph",
                          "singlestat", "trend"});
}

/// What takes the place of panel types that went away with Angular in Grafana 12.
std::string_view replacement(std::string_view type) {
  if (type == "graph") return "timeseries";
  if (type == "singlestat" || type == "grafana-singlestat-panel") return "stat";
  if (type == "table-old") return "table";
  if (type == "heatmap-new") return "heatmap";
  if (type == "grafana-piechart-panel") return "piechart";
  if (type == "grafana-worldmap-panel") return "geomap";
  if (type == "natel-discrete-panel") return "state-timeline";
  if (type == "vonage-status-panel" || type == "michaeldmoore-multistat-panel") return "stat";
  return {};
}

class PanelLinter {
 public:
  PanelLinter(Context& context, const pack::Dashboard& dashboard, const Json& panel)
      : context_(context),
        dashboard_(dashboard),
        panel_(panel),
        type_(text_of(panel, "type")),
        defaults_(member(member(panel, "fieldConfig"), "defaults")) {
    const Json& id = member(panel, "id");
    object_ = dashboard.uid + "/" + (id.is_number_integer() ? id.dump() : "?");
  }

  void run() {
    // Its content is in Grafana's library, not here.
    if (member(panel_, "libraryPanel").is_object()) return;
    if (const auto instead = replacement(type_); !instead.empty())
      add("panel-type-graph",
          "type \"" + type_ + "\" is gone in Grafana 12: use \"" + std::string(instead) + "\"");
    if (!asks(type_)) return;
    if (items(panel_, "targets").empty()) add("panel-no-targets", "has no targets");
    titles();
    units();
    datasource();
    targets();
    reduce();
    gauge();
    thresholds(member(defaults_, "thresholds"));
    each_override("thresholds", [&](const Json& value) { thresholds(value); });
  }

 private:
  void add(const char* check, std::string message) {
    context_.report.add(check, dashboard_.place, object_, std::move(message));
  }

  template <class Visit>
  void each_override(std::string_view id, const Visit& visit) const {
    for (const Json& one : items(member(panel_, "fieldConfig"), "overrides"))
      for (const Json& property : items(one, "properties"))
        if (text_of(property, "id") == id) visit(member(property, "value"));
  }
  bool overrides(std::string_view id) const {
    bool found = false;
    each_override(id, [&](const Json& value) { found = found || !value.is_null(); });
    return found;
  }

  void titles() {
    const bool title = !text_of(panel_, "title").empty(),
               description = !text_of(panel_, "description").empty();
    if (title && description) return;
    add("panel-title-description",
        std::string("has no ") + (title ? "" : "title") + (title || description ? "" : " and no ") +
            (description ? "" : "description: say what is good, and what to do else"));
  }

  void units() {
    if (!shows_numbers(type_)) return;
    const auto check = [&](const std::string& unit) {
      if (!is_unit(unit) && unit.find('$') == std::string::npos)
        add("panel-units", "Grafana has no unit \"" + unit + "\" and would write it behind the number");
    };
    each_override("unit", [&](const Json& unit) {
      if (unit.is_string()) check(unit);
    });
    if (const std::string unit = text_of(defaults_, "unit"); !unit.empty()) return check(unit);
    // Texts stand in the place of numbers, or a field that is no number is shown. (dashboard-linter also lets
    // an empty list of mappings pass, by mistake.)
    const bool mapped = !items(defaults_, "mappings").empty() || overrides("mappings");
    const bool fields = !text_of(member(member(panel_, "options"), "reduceOptions"), "fields").empty();
    if (!mapped && !fields && !overrides("unit"))
      add("panel-units", "has no unit; \"none\" or \"short\" says that there is none");
  }

  static bool is_special(const std::string& uid) {
    return uid.starts_with("-- ") || uid == "grafana" || uid == "__expr__" || uid == "-100";
  }
  /// The fixed data source of a panel or target; empty if it is a variable, none, or Grafana itself.
  static std::string fixed(const Json& holder) {
    const Json& source = member(holder, "datasource");
    const std::string uid = source.is_string() ? source.get<std::string>() : text_of(source, "uid");
    if (uid.empty() || is_special(uid) || !promql::variables_used(uid).empty()) return {};
    return uid;
  }
  void datasource() {
    std::string uid = fixed(panel_);
    for (const Json& target : items(panel_, "targets"))
      if (uid.empty()) uid = fixed(target);
    if (!uid.empty())
      add("panel-datasource", "is tied to data source \"" + uid +
                                  "\", which other servers do not have: use "
                                  "{\"type\": …, \"uid\": \"${datasource}\"}");
  }

  void targets() {
    std::set<std::string> refs;
    for (const Json& target : items(panel_, "targets")) {
      const std::string ref = text_of(target, "refId");
      if (!refs.insert(ref).second)
        add("panel-refid", "has two queries with refId \"" + ref + "\": Grafana shows one of them");
      if (target.is_object() && target.contains("datasourceUid") && !member(target, "datasource").is_object())
        context_.report.add("target-datasource-uid-field", dashboard_.place, object_ + "/" + ref,
                            "datasourceUid is not read, the query goes to the default data source: write "
                            "\"datasource\": {\"type\": …, \"uid\": …}");
    }
  }

  void reduce() {
    const auto ranged = [](const Json& target) {
      return member(target, "instant") != Json(true) && text_of(target, "queryType") != "instant" &&
             member(target, "hide") != Json(true) && !text_of(target, "expr").empty();
    };
    const auto& targets = items(panel_, "targets");
    if (std::none_of(targets.begin(), targets.end(), ranged)) return;
    if (is_one_of(type_, {"stat", "gauge", "bargauge", "piechart"})) {
      const Json& options = member(member(panel_, "options"), "reduceOptions");
      if (items(options, "calcs").empty() && member(options, "values") != Json(true))
        add("panel-reduce",
            "shows one value of a range of them: set \"instant\": true, or options.reduceOptions.calcs");
    }
    if (type_ == "table") {
      const auto& steps = items(panel_, "transformations");
      const bool reduced = std::any_of(steps.begin(), steps.end(), [](const Json& step) {
        return is_one_of(text_of(step, "id"), {"reduce", "groupBy", "timeSeriesTable"});
      });
      const bool logs = std::any_of(targets.begin(), targets.end(), [](const Json& target) {
        return text_of(member(target, "datasource"), "type") == "loki";
      });
      if (!reduced && !logs)
        add("panel-reduce",
            "lists every step of the time range: set \"instant\": true and \"format\": \"table\", or reduce "
            "it");
    }
  }

  void gauge() {
    if (type_ != "gauge" && type_ != "bargauge") return;
    const bool low = number_of(defaults_, "min").has_value() || overrides("min");
    const bool high = number_of(defaults_, "max").has_value() || overrides("max");
    if (!low || !high)
      add("panel-gauge-range", std::string("has no ") +
                                   (low    ? "max"
                                    : high ? "min"
                                           : "min and max") +
                                   ": the scale is whatever the data happen to be");
  }

  void thresholds(const Json& value) {
    const auto& steps = items(value, "steps");
    if (steps.empty()) return;
    if (!member(steps.front(), "value").is_null())
      add("panel-thresholds",
          "the first threshold's value must be null, the colour of everything below the next");
    for (std::size_t i = 2; i < steps.size(); ++i) {
      const auto before = number_of(steps[i - 1], "value"), here = number_of(steps[i], "value");
      if (before && here && *here <= *before)
        return add("panel-thresholds", "the thresholds do not rise: " + member(steps[i], "value").dump() +
                                           " comes after " + member(steps[i - 1], "value").dump());
    }
  }

  Context& context_;
  const pack::Dashboard& dashboard_;
  const Json& panel_;
  const std::string type_;
  const Json& defaults_;
  std::string object_;
};

}  // namespace

void lint_panel(Context& context, const pack::Dashboard& dashboard, const Json& panel) {
  PanelLinter(context, dashboard, panel).run();
}

}  // namespace tunnelctl::lint
