#include <algorithm>
#include <optional>
#include <set>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/pack/queries.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/parser.h"
#include "tunnelctl/promql/variables.h"

namespace tunnelctl::lint {
namespace {

using Names = std::set<std::string, std::less<>>;

void names_in(const Json& value, Names& names) {
  each_text(value, [&](const std::string& text) {
    if (text.find('$') == std::string::npos && text.find("[[") == std::string::npos) return;
    for (auto& use : promql::variables_used(text)) names.insert(std::move(use.name));
  });
}

/// A variable's query: a string, or {"query": …} since Grafana 7.
std::string query_of(const Json& variable) {
  const Json& query = member(variable, "query");
  return query.is_string() ? query.get<std::string>() : text_of(query, "query");
}

struct QueryFunction {
  std::string name;
  std::string argument;  // all of it
};
/// `label_values(up{job="x"}, instance)`; nullopt for anything else.
std::optional<QueryFunction> function_of(const std::string& query) {
  const auto open = query.find('(');
  const auto close = query.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
  std::string name = query.substr(0, open);
  while (!name.empty() && name.back() == ' ') name.pop_back();
  return QueryFunction{name, query.substr(open + 1, close - open - 1)};
}

/// The label of `label_values([metric,] label)`; empty for another query.
std::string label_of(const Json& variable) {
  const auto function = function_of(query_of(variable));
  if (!function || function->name != "label_values") return {};
  const auto comma = function->argument.rfind(',');
  std::string label = comma == std::string::npos ? function->argument : function->argument.substr(comma + 1);
  std::erase(label, ' ');
  return label;
}

bool is_query(const Json& variable) {
  return text_of(variable, "type") == "query";
}
bool is_prometheus(const Json& variable) {
  const Json& source = member(variable, "datasource");
  return text_of(source, "type") == "prometheus" || source.is_string();
}

class VariableLinter {
 public:
  VariableLinter(Context& context, const pack::Dashboard& dashboard)
      : context_(context),
        dashboard_(dashboard),
        list_(items(member(dashboard.json, "templating"), "list")),
        queries_(pack::queries(dashboard)) {}

  void run() {
    uses();
    if (std::any_of(queries_.begin(), queries_.end(), [](const auto& one) { return !one.expr.empty(); }))
      datasource();
    const bool prometheus = std::any_of(queries_.begin(), queries_.end(),
                                        [](const auto& one) { return one.type == "prometheus"; });
    if (prometheus) {
      chooser("job", "template-job");
      chooser("instance", "template-instance");
    }
    for (const Json& variable : list_)
      if (is_query(variable)) filled(variable);
  }

 private:
  void add(const char* check, std::string message) {
    context_.report.add(check, dashboard_.place, dashboard_.uid, std::move(message));
  }

  void uses() {
    Names used;
    for (const auto& item : dashboard_.json.items()) {
      if (item.key() != "templating") names_in(item.value(), used);
    }
    for (const Json* panel : pack::panels(dashboard_.json))
      if (const std::string repeat = text_of(*panel, "repeat"); !repeat.empty()) used.insert(repeat);
    Names made;
    for (const Json& variable : list_) made.insert(text_of(variable, "name"));
    for (const Json& variable : list_) {
      Names of_it;
      names_in(variable, of_it);
      of_it.erase(text_of(variable, "name"));
      used.merge(of_it);
    }
    for (const Json& variable : list_) {
      const std::string name = text_of(variable, "name");
      // Ad hoc filters work on every query without being named.
      if (text_of(variable, "type") == "adhoc" || used.contains(name)) continue;
      add("variable-unused", "variable $" + name + " is used nowhere: choosing a value changes nothing");
    }
    undefined(made);
  }

  /// Only where a dollar sign means a variable; texts for people may hold any.
  void undefined(const Names& made) {
    const auto check = [&](const Json& value, const std::string& object) {
      Names names;
      names_in(value, names);
      for (const auto& name : names) {
        if (made.contains(name) || promql::is_builtin_variable(name)) continue;
        context_.report.add("variable-undefined", dashboard_.place, object,
                            "$" + name + " is no variable of the dashboard, and stays in the text as it is");
      }
    };
    for (const Json& variable : list_) check(member(variable, "query"), dashboard_.uid);
    for (const Json& annotation : items(member(dashboard_.json, "annotations"), "list"))
      check(member(annotation, "expr"), dashboard_.uid);
    for (const Json* panel : pack::panels(dashboard_.json)) {
      const std::string object = dashboard_.uid + "/" + member(*panel, "id").dump();
      check(member(*panel, "title"), object);
      check(member(*panel, "datasource"), object);
      if (const std::string repeat = text_of(*panel, "repeat"); !repeat.empty() && !made.contains(repeat))
        context_.report.add("variable-undefined", dashboard_.place, object,
                            "is repeated for $" + repeat + ", which is no variable of the dashboard");
      for (const Json& target : items(*panel, "targets")) {
        const std::string place = object + "/" + text_of(target, "refId");
        for (const char* key : {"expr", "legendFormat", "datasource", "interval"})
          check(member(target, key), place);
      }
    }
  }

  void datasource() {
    for (const char* type : {"prometheus", "loki"}) {
      const bool asked =
          std::any_of(queries_.begin(), queries_.end(), [&](const auto& one) { return one.type == type; });
      const bool made = std::any_of(list_.begin(), list_.end(), [&](const Json& variable) {
        return text_of(variable, "type") == "datasource" && query_of(variable) == type;
      });
      if (asked && !made)
        add("template-datasource",
            std::string("has queries for ") + type +
                " and no variable of type \"datasource\" for it: it only works where it was "
                "made");
    }
  }

  /// dashboard-linter wants it called $job; what counts is that one exists.
  void chooser(const char* label, const char* check) {
    const auto found = std::find_if(list_.begin(), list_.end(),
                                    [&](const Json& one) { return is_query(one) && label_of(one) == label; });
    if (found == list_.end())
      return add(check,
                 std::string("has no variable for the label ") + label + ": label_values(…, " + label + ")");
    const std::string name = "variable $" + text_of(*found, "name");
    if (member(*found, "multi") != Json(true))
      add(check, name + " does not let choose several (\"multi\": true)");
    if (member(*found, "includeAll") == Json(true) && text_of(*found, "allValue").empty())
      add(check, name +
                     " has no allValue: with many of them, \"All\" is a pattern that may be too long; \".+\" "
                     "is not");
  }

  void filled(const Json& variable) {
    const std::string name = text_of(variable, "name");
    if (const auto refresh = number_of(variable, "refresh").value_or(0); refresh != 2)
      add("template-on-time-change-reload",
          "variable $" + name + " keeps the values of when the dashboard was opened: \"refresh\": 2");
    if (!is_prometheus(variable)) return;
    const auto function = function_of(query_of(variable));
    const auto wrong = [&](const std::string& why) {
      add("template-label-promql", "variable $" + name + ": " + query_of(variable) + ": " + why);
    };
    if (!function) return wrong("is none of label_values(…), label_names(…), metrics(…), query_result(…)");
    std::string selector = function->argument;
    if (function->name == "label_values") {
      const auto comma = selector.rfind(',');
      if (comma == std::string::npos) return;  // the label alone
      selector.resize(comma);
    } else if (function->name != "query_result") {
      if (function->name != "label_names" && function->name != "metrics")
        wrong("there is no function " + function->name);
      return;  // arguments are patterns
    }
    const auto expanded = promql::expand(selector, pack::variables(dashboard_));
    const auto parsed = promql::parse(expanded.text);
    if (!parsed) return wrong(parsed.error().message);
    for (const auto& fact : promql::facts(*parsed->root).selectors) context_.metrics_used.insert(fact.metric);
    if (context_.contract)
      for (const auto& finding : promql::check_contract(*parsed, *context_.contract))
        add(finding.check.c_str(), "variable $" + name + ": " + finding.message);
    const std::string label = function->name == "label_values" ? label_of(variable) : "";
    const auto* selected = parsed->root->get_if<promql::Selector>();
    const auto* metric =
        context_.contract && selected != nullptr ? context_.contract->find(selected->metric()) : nullptr;
    if (metric != nullptr && !metric->any_label && !label.empty() && !metric->labels.contains(label) &&
        !context_.contract->is_target_label(label))
      add("unknown-label",
          "variable $" + name + " stays empty: " + selected->metric() + " has no label " + label);
  }

  Context& context_;
  const pack::Dashboard& dashboard_;
  const std::vector<Json>& list_;
  const std::vector<pack::Query> queries_;
};

}  // namespace

void lint_variables(Context& context, const pack::Dashboard& dashboard) {
  VariableLinter(context, dashboard).run();
}

}  // namespace tunnelctl::lint
