#include <algorithm>
#include <cctype>
#include <functional>

#include "tunnelctl/monitor/compile.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::monitor {
namespace {

constexpr std::int64_t kDefaultInterval = 60;
/// How far back Grafana's query may look: instant queries look at the end of it, but a range is demanded.
constexpr int kLookBackSeconds = 600;

Json relative(int from) {
  return {{"from", from}, {"to", 0}};
}

/// The fields that Grafana adds by itself are written out, so that what comes back equals what was sent.
Json query_node(const std::string& ref, const std::string& datasource_uid, Json model, int from) {
  model["refId"] = ref;
  model["intervalMs"] = 1000;
  model["maxDataPoints"] = 43200;
  return {{"refId", ref},
          {"queryType", ""},
          {"relativeTimeRange", relative(from)},
          {"datasourceUid", datasource_uid},
          {"model", std::move(model)}};
}

Json expression_node(const std::string& ref, const std::string& type, const std::string& of, Json more) {
  Json model = std::move(more);
  model["type"] = type;
  model["expression"] = of;
  model["datasource"] = {{"type", "__expr__"}, {"uid", "__expr__"}};
  return query_node(ref, "__expr__", std::move(model), 0);
}

Json prometheus_node(const std::string& expr, const std::string& datasource_uid) {
  return query_node("A", datasource_uid,
                    {{"expr", expr},
                     {"instant", true},
                     {"range", false},
                     {"editorMode", "code"},
                     {"datasource", {{"type", "prometheus"}, {"uid", datasource_uid}}}},
                    kLookBackSeconds);
}

/// Grafana's names of the comparisons.
const char* evaluator(promql::Op op) {
  switch (op) {
    case promql::Op::greater: return "gt";
    case promql::Op::greater_or_equal: return "gte";
    case promql::Op::less: return "lt";
    case promql::Op::less_or_equal: return "lte";
    case promql::Op::equal: return "eq";
    case promql::Op::not_equal: return "ne";
    default: return nullptr;
  }
}

/// `$value` of Prometheus' templates is the number; Grafana's is a sentence about all queries.
std::string grafana_template(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    constexpr std::string_view kValue = "$value";
    if (text.compare(at, kValue.size(), kValue) == 0) {
      const std::size_t next = at + kValue.size();
      const bool longer = next < text.size() &&
                          (std::isalnum(static_cast<unsigned char>(text[next])) != 0 || text[next] == '_');
      if (!longer) {
        result += "$values.B.Value";
        at = next;
        continue;
      }
    }
    result += text[at++];
  }
  return result;
}

const pack::Rule* recorded(const pack::Pack& pack, const std::string& name) {
  for (const auto& file : pack.rule_files)
    for (const auto& group : file.groups)
      for (const auto& rule : group.rules)
        if (rule.record == name) return &rule;
  return nullptr;
}

struct Replacement {
  promql::Span span;
  std::string text;
};

void find_recorded(const pack::Pack& pack, const promql::Node& node, int depth,
                   std::vector<Replacement>& found, std::vector<std::string>& notes) {
  const auto name_of = [](const promql::Node& at) {
    if (const auto* selector = at.get_if<promql::Selector>()) return selector->metric();
    if (const auto* matrix = at.get_if<promql::Matrix>()) return matrix->selector.metric();
    return std::string();
  };
  if (const std::string name = name_of(node); !name.empty()) {
    const pack::Rule* rule = recorded(pack, name);
    if (rule == nullptr) return;
    const auto* selector = node.get_if<promql::Selector>();
    const bool plain = selector != nullptr && selector->matchers.empty() && rule->labels.empty() &&
                       selector->modifiers.offset.count() == 0 && !selector->modifiers.at_ms &&
                       selector->modifiers.at_edge == promql::Modifiers::Edge::none;
    if (!plain || depth > 8) {
      notes.push_back("uses the recorded series " + name +
                      " with labels, a range or an offset: Prometheus must have the pack's recording rules");
      return;
    }
    found.push_back({node.span, "(" + without_recorded(pack, rule->expr, notes) + ")"});
    return;
  }
  for (const promql::Node* child : promql::children(node))
    find_recorded(pack, *child, depth + 1, found, notes);
}

std::int64_t seconds_up(std::chrono::milliseconds value) {
  return (value.count() + 999) / 1000;
}

}  // namespace

std::int64_t interval_seconds(const pack::RuleGroup& group) {
  return group.interval ? std::max<std::int64_t>(1, group.interval->count() / 1000) : kDefaultInterval;
}

std::string rule_uid(const pack::Pack& pack, const pack::Rule& rule) {
  return uid_of(pack.name + "-" + rule.name());
}

std::string without_recorded(const pack::Pack& pack, const std::string& expr,
                             std::vector<std::string>& notes) {
  const auto parsed = promql::parse(expr);
  if (!parsed) return expr;
  std::vector<Replacement> found;
  find_recorded(pack, *parsed->root, 0, found, notes);
  std::string result = expr;
  // From the back, so that the places in front stay right.
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.span.begin > b.span.begin; });
  for (const auto& one : found) result.replace(one.span.begin, one.span.end - one.span.begin, one.text);
  return result;
}

Texts annotations(const pack::Pack& pack, const pack::Rule& rule, const CompileOptions& options) {
  Texts result = rule.annotations;
  if (const auto link = result.find("runbook_url"); link != result.end())
    link->second = runbook_link(pack, link->second, options);
  const auto uid = result.find("dashboard_uid");
  if (uid != result.end() && !options.grafana_url.empty()) {
    const std::string dashboard = options.grafana_url + "/d/" + uid->second;
    result["dashboard_url"] = dashboard;
    if (const auto panel = result.find("panel_id"); panel != result.end())
      result["panel_url"] = dashboard + "?viewPanel=" + panel->second;
  }
  return result;
}

Json grafana_rule(const pack::Pack& pack, const pack::RuleGroup& group, const pack::Rule& rule,
                  const CompileOptions& options, std::vector<std::string>& notes) {
  std::string datasource;
  for (const auto& [variable, found] : options.datasources)
    if (found.type == "prometheus" && datasource.empty()) datasource = found.uid;
  // The pack's first Prometheus variable is the one its rules are meant for.
  for (const auto& wanted : pack.datasources) {
    if (wanted.type != "prometheus") continue;
    if (const auto found = options.datasources.find(wanted.variable); found != options.datasources.end())
      datasource = found->second.uid;
    break;
  }

  const auto interval = interval_seconds(group);
  const auto rounded = [&](std::chrono::milliseconds value, const char* what) {
    const auto wanted = seconds_up(value);
    const auto result = (wanted + interval - 1) / interval * interval;
    if (result != wanted)
      notes.push_back(rule.name() + ": " + what + " " + pack::duration_text(value) + " becomes " +
                      std::to_string(result) + "s, a multiple of the group's interval of " +
                      std::to_string(interval) + "s");
    return pack::duration_text(std::chrono::seconds(result));
  };

  Texts labels = group.labels;
  for (const auto& [name, value] : rule.labels) labels[name] = value;
  labels[std::string(kPackLabel)] = pack.name;

  std::vector<std::string> expression_notes;
  const std::string expr =
      options.record_in_grafana ? rule.expr : without_recorded(pack, rule.expr, expression_notes);
  for (const auto& note : expression_notes) notes.push_back(rule.name() + ": " + note);

  Json result{{"uid", rule_uid(pack, rule)},
              {"title", rule.name()},
              {"labels", labels},
              {"annotations", Json::object()},
              {"isPaused", false}};
  if (!rule.record.empty()) {
    result["data"] = Json::array({prometheus_node(expr, datasource)});
    result["record"] = {{"metric", rule.record}, {"from", "A"}, {"target_datasource_uid", datasource}};
    // Grafana demands these and makes nothing of them for a rule that records.
    result["condition"] = "A";
    result["noDataState"] = "OK";
    result["execErrState"] = "Error";
    result["for"] = "0s";
    result["keep_firing_for"] = "0s";
    return result;
  }

  // The comparison goes to Grafana, so that the value is there when all is well, too; what is no comparison
  // with a number stays as it is, and any answer at all is the alert.
  const auto parsed = promql::parse(expr);
  const auto split = parsed ? promql::split_comparison(*parsed) : std::nullopt;
  const char* comparison = split ? evaluator(split->op) : nullptr;
  result["data"] = Json::array(
      {prometheus_node(comparison != nullptr ? split->inner : expr, datasource),
       expression_node("B", "reduce", "A", {{"reducer", "last"}, {"settings", {{"mode", "dropNN"}}}})});
  if (comparison != nullptr) {
    const Json conditions =
        Json::array({{{"type", "query"},
                      {"evaluator", {{"type", comparison}, {"params", Json::array({split->number})}}}}});
    result["data"].push_back(expression_node("C", "threshold", "B", {{"conditions", conditions}}));
  } else {
    result["data"].push_back(expression_node("C", "math", "is_null($B) == 0", Json::object()));
  }
  result["condition"] = "C";
  // As in Prometheus: a series that is not there raises nothing; absence has alerts of its own.
  result["noDataState"] = "OK";
  result["execErrState"] = "Error";
  result["for"] = rounded(rule.hold, "for");
  result["keep_firing_for"] = rounded(rule.keep_firing, "keep_firing_for");
  Texts texts = annotations(pack, rule, options);
  for (auto& [name, value] : texts) value = grafana_template(value);
  const auto uid = texts.find("dashboard_uid");
  const auto panel = texts.find("panel_id");
  if (uid != texts.end() && panel != texts.end()) {
    texts["__dashboardUid__"] = uid->second;
    texts["__panelId__"] = panel->second;
  }
  texts.erase("dashboard_uid");
  texts.erase("panel_id");
  result["annotations"] = texts;
  return result;
}

}  // namespace tunnelctl::monitor
