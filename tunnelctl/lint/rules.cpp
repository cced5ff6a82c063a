#include <algorithm>
#include <cctype>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/lint/shape.h"
#include "tunnelctl/pack/queries.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::lint {
namespace {

bool is_camel_case(const std::string& name) {
  return !name.empty() && std::isupper(static_cast<unsigned char>(name.front())) != 0 &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; });
}

const promql::Call* find_call(const promql::Node& node, std::initializer_list<std::string_view> names) {
  if (const auto* call = node.get_if<promql::Call>())
    if (std::find(names.begin(), names.end(), call->name()) != names.end()) return call;
  for (const promql::Node* child : promql::children(node))
    if (const auto* found = find_call(*child, names)) return found;
  return nullptr;
}

void find_picks(const promql::Node& node, std::string& found) {
  const auto* aggregate = node.get_if<promql::Aggregate>();
  if (aggregate != nullptr && (aggregate->op == "topk" || aggregate->op == "bottomk" ||
                               aggregate->op == "limitk" || aggregate->op == "limit_ratio"))
    found = aggregate->op;
  // What an aggregation without labels makes of the picked ones is one series again.
  if (aggregate != nullptr && aggregate->grouping == promql::Aggregate::Grouping::none && found.empty() &&
      aggregate->op != "topk")
    return;
  for (const promql::Node* child : promql::children(node)) find_picks(*child, found);
}

class RuleLinter {
 public:
  RuleLinter(Context& context, const pack::RuleGroup& group, const pack::Rule& rule)
      : context_(context), rule_(rule), labels_(alert_labels(group, rule)) {}

  void run(std::map<std::string, std::string>& expressions) {
    const auto parsed = promql::parse(rule_.expr);
    if (!parsed) return;  // the loader's matter
    lint_query(context_, *parsed, {rule_.place, object()});
    if (rule_.alert.empty()) {
      if (std::count(rule_.record.begin(), rule_.record.end(), ':') < 2)
        add("rule-name",
            "recorded series are called level:metric:operation, so that nobody takes them for scraped");
      return;
    }
    if (!is_camel_case(rule_.alert))
      add("rule-name", "an alert's name is one CamelCase word, as it stands in routes, links and file names");
    const auto [other, fresh] = expressions.emplace(promql::print(*parsed->root), rule_.alert);
    if (!fresh) add("rule-duplicate", "has the same expression as " + other->second);
    labels();
    texts(*parsed);
    condition(*parsed);
    holding(*parsed);
    links();
    lint_templates(context_, rule_, *parsed);
  }

 private:
  std::string object() const { return "rule/" + rule_.name(); }
  void add(const char* check, std::string message) {
    context_.report.add(check, rule_.place, object(), std::move(message));
  }
  std::string annotation(const char* key) const {
    const auto found = rule_.annotations.find(key);
    return found == rule_.annotations.end() ? std::string() : found->second;
  }

  void labels() {
    for (const auto& label : context_.options.labels)
      if (const auto found = labels_.find(label); found == labels_.end() || found->second.empty())
        add("alert-labels", "has no label " + label);
    const auto severity = labels_.find("severity");
    const auto& known = context_.options.severities;
    if (severity != labels_.end() && severity->second.find("{{") == std::string::npos &&
        std::find(known.begin(), known.end(), severity->second) == known.end()) {
      std::string list;
      for (const auto& one : known) list += (list.empty() ? "" : ", ") + one;
      add("alert-severity", "severity \"" + severity->second + "\": allowed are " + list);
    }
  }

  void texts(const promql::Ast& ast) {
    for (const char* key : {"summary", "description", "runbook_url"})
      if (annotation(key).empty()) add("alert-annotations", std::string("has no annotation ") + key);
    const std::string all = annotation("summary") + " " + annotation("description");
    const bool value = all.find("$value") != std::string::npos || all.find(".Value") != std::string::npos;
    const bool labels = all.find("$labels") != std::string::npos || all.find(".Labels") != std::string::npos;
    if (!value && !labels)
      return add("alert-description-value", "says the same whatever happened: {{ $labels.… }}, {{ $value }}");
    // Of a limit that is crossed people ask how far; a state or an absence says it all.
    const auto split = promql::split_comparison(ast);
    const bool limit = split && split->number != 0 && split->op != promql::Op::equal &&
                       split->op != promql::Op::not_equal &&
                       find_call(*ast.root, {"absent", "absent_over_time"}) == nullptr;
    if (limit && !value) add("alert-description-value", "does not say the value: {{ $value | humanize }}");
  }

  void condition(const promql::Ast& ast) {
    if (!has_condition(*ast.root))
      add("alert-comparison", "has no condition, or one that always holds: it fires whenever there is data");
    std::string picked;
    find_picks(*ast.root, picked);
    if (!picked.empty())
      add("fragile-topk",
          picked + " may pick other series each time, and each change ends an alert and begins one");
    if (const auto* call = find_call(*ast.root, {"absent"});
        call != nullptr &&
        rule_.hold < std::chrono::duration_cast<std::chrono::milliseconds>(std::max<std::chrono::nanoseconds>(
                         2 * context_.scrape_interval, std::chrono::milliseconds(1))))
      add("alert-absent-for",
          "absent() holds for a moment whenever Prometheus starts: give it a `for` of two scrapes or more");
    // A state that passes by itself, waited for longer than it lasts.
    const auto split = promql::split_comparison(ast);
    if (!split || split->op != promql::Op::equal || rule_.hold.count() == 0) return;
    for (const auto& selector : promql::facts(*ast.root).selectors) {
      const auto state = context_.options.states.find(selector.metric);
      if (state == context_.options.states.end() || selector.range || rule_.hold < state->second) continue;
      add("alert-for-too-long", selector.metric + " leaves a state after " +
                                    pack::duration_text(state->second) +
                                    ", so that `for: " + pack::duration_text(rule_.hold) +
                                    "` never passes: ask max_over_time(…) or for more than one state");
    }
  }

  void holding(const promql::Ast& ast) {
    if (rule_.hold.count() > 0 || rule_.keep_firing.count() > 0) return;
    const auto found = promql::facts(*ast.root).selectors;
    // A range smooths by itself, and a clock does not flap.
    const bool instant = std::any_of(found.begin(), found.end(), [](const auto& one) { return !one.range; });
    if (instant && find_call(*ast.root, {"time", "absent"}) == nullptr)
      add("alert-for-missing",
          "one bad sample fires it: `for`, or keep_firing_for, or a function over a range");
  }

  void links() {
    const std::string uid = annotation("dashboard_uid"), panel = annotation("panel_id");
    if (uid.empty())
      return add("alert-dashboard-link", "names no dashboard: annotations dashboard_uid and panel_id");
    const auto& all = context_.pack.dashboards;
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.uid == uid; });
    if (found == all.end())
      return add("alert-dashboard-link", "dashboard_uid " + uid + " is no dashboard of the pack");
    if (panel.empty()) return;
    const auto panels = pack::panels(found->json);
    if (std::none_of(panels.begin(), panels.end(),
                     [&](const Json* one) { return member(*one, "id").dump() == panel; }))
      add("alert-dashboard-link", "dashboard " + uid + " has no panel " + panel);
  }

  Context& context_;
  const pack::Rule& rule_;
  const pack::Texts labels_;
};

}  // namespace

pack::Texts alert_labels(const pack::RuleGroup& group, const pack::Rule& rule) {
  pack::Texts result = group.labels;
  for (const auto& [name, value] : rule.labels) result[name] = value;
  result["alertname"] = rule.alert;
  return result;
}

void lint_rules(Context& context) {
  std::map<std::string, std::string> expressions;
  each_rule(context.pack, [&](const pack::RuleGroup& group, const pack::Rule& rule) {
    RuleLinter(context, group, rule).run(expressions);
  });
}

}  // namespace tunnelctl::lint
