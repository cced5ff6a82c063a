#include <algorithm>
#include <charconv>

#include "tunnelctl/export/parts.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/parser.h"
#include "tunnelctl/promql/text.h"
#include "tunnelctl/render/yaml.h"

namespace tunnelctl::exporting {
namespace {

/// Prometheus' spelling of Grafana's comparisons.
std::string spelling(const std::string& evaluator) {
  if (evaluator == "gt") return ">";
  if (evaluator == "gte") return ">=";
  if (evaluator == "lt") return "<";
  if (evaluator == "lte") return "<=";
  if (evaluator == "eq") return "==";
  return evaluator == "ne" ? "!=" : "";
}

struct Condition {
  std::string expr;   // with its comparison
  std::string value;  // the refId whose value `$value` is
};

/// `inner > 5`, so that compile takes it apart into the same two again.
std::string compared(const std::string& inner, const std::string& op, double number) {
  const std::string plain = inner + " " + op + " " + promql::print_number(number);
  const auto parsed = promql::parse(plain);
  const auto split = parsed ? promql::split_comparison(*parsed) : std::nullopt;
  if (split && split->inner == inner) return plain;
  return "(" + inner + ") " + op + " " + promql::print_number(number);
}

class RuleExporter {
 public:
  RuleExporter(Export& work, const Json& rule) : work_(work), rule_(rule), title_(text_of(rule, "title")) {}

  /// The entry of the rule file; null with a note for what Prometheus' rules cannot say.
  Json run() {
    if (rule_.value("isPaused", false)) return refuse("is paused");
    if (const Json& record = member(rule_, "record"); record.is_object()) return recorded(record);
    const auto found = condition(text_of(rule_, "condition"));
    if (!found) return refuse(why_);
    if (const auto parsed = promql::parse(found->expr); !parsed) return refuse(parsed.error().message);
    Json result{{"alert", title_}, {"expr", found->expr}};
    duration(result, "for");
    duration(result, "keep_firing_for");
    if (Json labels = labels_of(); !labels.empty()) result["labels"] = std::move(labels);
    if (Json texts = annotations_of(found->value); !texts.empty()) result["annotations"] = std::move(texts);
    differences();
    return result;
  }

 private:
  Json refuse(const std::string& why) {
    work_.note("rule " + title_ + " was left out: it " + why);
    return nullptr;
  }
  void note(const std::string& text) { work_.note("rule " + title_ + ": " + text); }

  const Json* node(const std::string& ref) const {
    for (const Json& one : rule_.value("data", Json::array()))
      if (text_of(one, "refId") == ref)
        return &*std::find(member(rule_, "data").begin(), member(rule_, "data").end(), one);
    return nullptr;
  }

  /// A query that Prometheus answers.
  std::optional<std::string> query(const std::string& ref) {
    const Json* found = node(ref);
    if (found == nullptr) {
      why_ = "names " + ref + ", which it does not have";
      return std::nullopt;
    }
    const Json& model = member(*found, "model");
    const std::string uid = text_of(*found, "datasourceUid");
    std::string type = text_of(member(model, "datasource"), "type");
    for (const Json& one : work_.seen.datasources)
      if (text_of(one, "uid") == uid) type = text_of(one, "type");
    const std::string expr = text_of(model, "expr");
    if (type != "prometheus" || expr.empty()) {
      why_ = "asks a data source that is no Prometheus (" + (type.empty() ? uid : type) + ")";
      return std::nullopt;
    }
    if (member(member(*found, "relativeTimeRange"), "to").is_number() &&
        found->at("relativeTimeRange")["to"] != 0) {
      why_ = "looks at a time in the past, which Prometheus says by `offset`";
      return std::nullopt;
    }
    instant_ = member(model, "instant") == Json(true) && member(model, "range") != Json(true);
    const std::string variable = variable_for(work_, uid, type);
    if (variable != "datasource") note("asks data source " + uid + "; all rules of a pack ask the first one");
    return expr;
  }

  /// The query under an expression: directly, or by a reduction that keeps its value.
  std::optional<std::string> reduced(const std::string& ref) {
    const Json* found = node(ref);
    const Json& model = found != nullptr ? member(*found, "model") : member(Json(), "");
    if (found == nullptr || text_of(model, "type") != "reduce") return query(ref);
    auto inner = query(text_of(model, "expression"));
    if (!inner) return inner;
    const std::string reducer = text_of(model, "reducer");
    if (reducer == "count" || (!instant_ && reducer != "last")) {
      why_ = "reduces a range by " + reducer + ", which Prometheus says by a function over time";
      return std::nullopt;
    }
    if (!instant_) note("its range query became an instant one");
    return inner;
  }

  std::optional<Condition> condition(const std::string& ref) {
    const Json* found = node(ref);
    if (found == nullptr) {
      why_ = "has no condition";
      return std::nullopt;
    }
    const Json& model = member(*found, "model");
    const std::string type = text_of(model, "type");
    if (type == "threshold") return threshold(model);
    if (type == "math") return math(text_of(model, "expression"));
    if (text_of(*found, "datasourceUid") == "__expr__") {
      why_ = "decides by an expression of type " + type;
      return std::nullopt;
    }
    // A query alone fires for anything but 0.
    auto expr = query(ref);
    if (!expr) return std::nullopt;
    return Condition{compared(*expr, "!=", 0), ref};
  }

  std::optional<Condition> threshold(const Json& model) {
    const Json& conditions = member(model, "conditions");
    const Json one = conditions.is_array() && !conditions.empty() ? conditions.front() : Json::object();
    const std::string op = spelling(text_of(member(one, "evaluator"), "type"));
    const Json params = member(one, "evaluator").value("params", Json::array());
    if (op.empty() || params.empty() || !params.front().is_number()) {
      why_ = "compares by " + text_of(member(one, "evaluator"), "type");
      return std::nullopt;
    }
    if (one.contains("unloadEvaluator")) {
      why_ = "has a recovery threshold";
      return std::nullopt;
    }
    const std::string of = text_of(model, "expression");
    auto expr = reduced(of);
    if (!expr) return std::nullopt;
    return Condition{compared(*expr, op, params.front().get<double>()), of};
  }

  /// `$B > 5`, and what compile writes for an expression that is its own condition.
  std::optional<Condition> math(std::string text) {
    std::erase(text, ' ');
    why_ = "decides by the math expression " + text;
    const bool any = text.starts_with("is_null(") && text.ends_with(")==0");
    std::string of = any ? text.substr(8, text.size() - 12) : text.substr(0, text.find_first_of("<>=!"));
    std::string rest = any ? "" : text.substr(std::min(of.size(), text.size()));
    std::erase(of, '$');
    std::erase(of, '{');
    std::erase(of, '}');
    if (node(of) == nullptr) return std::nullopt;
    if (any) {
      auto expr = reduced(of);
      if (!expr) return std::nullopt;
      return Condition{*expr, of};
    }
    std::string op;
    while (!rest.empty() && std::string_view("<>=!").find(rest.front()) != std::string_view::npos) {
      op += rest.front();
      rest.erase(0, 1);
    }
    const auto number = promql::parse_number(rest.starts_with('-') ? rest.substr(1) : rest);
    if (!number || op.empty()) return std::nullopt;
    auto expr = reduced(of);
    if (!expr) return std::nullopt;
    return Condition{compared(*expr, op, rest.starts_with('-') ? -*number : *number), of};
  }

  Json recorded(const Json& record) {
    auto expr = query(text_of(record, "from"));
    if (!expr) return refuse(why_);
    Json result{{"record", text_of(record, "metric")}, {"expr", *expr}};
    if (Json labels = labels_of(); !labels.empty()) result["labels"] = std::move(labels);
    return result;
  }

  void duration(Json& result, const char* key) const {
    const auto value = pack::duration(text_of(rule_, key));
    if (value && value->count() > 0) result[key] = pack::duration_text(*value);
  }

  Json labels_of() const {
    Json labels = rule_.value("labels", Json::object());
    if (!labels.is_object()) return Json::object();
    labels.erase(std::string(monitor::kPackLabel));
    return labels;
  }

  Json annotations_of(const std::string& ref) {
    Json texts = rule_.value("annotations", Json::object());
    if (!texts.is_object()) return Json::object();
    const std::string uid = text_of(texts, "__dashboardUid__"), panel = text_of(texts, "__panelId__");
    for (const char* key : {"__dashboardUid__", "__panelId__", "__alertId__", "__orgId__"}) texts.erase(key);
    if (!uid.empty()) {
      // Made by compile of the place and the server's address.
      const std::string page = "/d/" + uid;
      if (text_of(texts, "dashboard_url").ends_with(page)) texts.erase("dashboard_url");
      if (text_of(texts, "panel_url").ends_with(page + "?viewPanel=" + panel)) texts.erase("panel_url");
      if (work_.dashboards.contains(panel.empty() ? uid : uid + "/" + panel)) {
        texts["dashboard_uid"] = uid;
        if (!panel.empty()) texts["panel_id"] = panel;
      } else {
        note("its panel " + uid + "/" + panel + " is not exported, so that it points to none");
      }
    }
    for (auto& item : texts.items()) {
      if (!item.value().is_string()) continue;
      item.value() = prometheus_template(item.value(), ref);
      if (item.key() == "runbook_url") item.value() = runbook_link(work_, item.value());
    }
    if (const std::string link = text_of(texts, "runbook_url");
        !link.empty() && link.find("://") == std::string::npos && !link.starts_with("runbooks/") &&
        !link.starts_with('/')) {
      note("runbook_url " + link + " is no whole address, and was left out");
      texts.erase("runbook_url");
    }
    return texts;
  }

  std::string prometheus_template(std::string text, const std::string& ref) {
    const std::string grafana_s = "$values." + ref + ".Value";
    for (std::size_t at = 0; (at = text.find(grafana_s, at)) != std::string::npos;)
      text.replace(at, grafana_s.size(), "$value");
    if (text.find("$values") != std::string::npos)
      note("a text uses $values, which Prometheus does not have: " + text);
    return text;
  }

  void differences() {
    if (const auto state = text_of(rule_, "noDataState"); !state.empty() && state != "OK")
      note("noDataState " + state + " is not kept: an alert on absent() says it in Prometheus");
    if (const auto state = text_of(rule_, "execErrState"); !state.empty() && state != "Error")
      note("execErrState " + state + " is not kept");
    if (member(rule_, "notification_settings").is_object())
      note("its own notification settings are not kept: make a route for its labels");
  }

  Export& work_;
  const Json& rule_;
  const std::string title_;
  std::string why_ = "cannot be said in a Prometheus rule";
  bool instant_ = false;
};

}  // namespace

void export_rules(Export& work) {
  std::set<std::string> files, groups, alerts;
  for (const Json& group : work.seen.rule_groups) {
    Json rules = Json::array();
    for (const Json& rule : group.value("rules", Json::array())) {
      Json entry = RuleExporter(work, rule).run();
      if (entry.is_null()) continue;
      if (entry.contains("alert") && !alerts.insert(entry["alert"]).second) {
        work.note("rule " + entry["alert"].get<std::string>() +
                  " was left out: another of the pack has this name");
        continue;
      }
      rules.push_back(std::move(entry));
    }
    if (rules.empty()) continue;
    std::string name = text_of(group, "title");
    // In two folders, groups may have one name.
    if (!groups.insert(name).second) {
      name += "-" + text_of(group, "folderUid");
      groups.insert(name);
    }
    std::string file = file_name(name);
    for (int i = 2; !files.insert(file).second; ++i) file = file_name(name) + "-" + std::to_string(i);
    const Json& interval = member(group, "interval");
    Json entry{{"name", name}, {"rules", std::move(rules)}};
    if (interval.is_number_integer())
      entry["interval"] = pack::duration_text(std::chrono::seconds(interval.get<int>()));
    work.file("rules/" + file + ".rules.yaml",
              render::yaml(Json{{"groups", Json::array({std::move(entry)})}}));
  }
  // Rules want a data source, too, where no dashboard has named one.
  if (!files.empty() && std::none_of(work.sources.begin(), work.sources.end(),
                                     [](const Source& one) { return one.type == "prometheus"; }))
    work.sources.push_back({"datasource", "prometheus", ""});
}

}  // namespace tunnelctl::exporting
