#include <algorithm>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/lint/shape.h"
#include "tunnelctl/pack/routing.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::lint {
namespace {

/// An alert of the pack: labels the rule gives, and those its expression leaves.
struct Alert {
  std::string name;
  pack::Texts fixed;
  Labels left;
  bool may_have(const std::string& label) const { return fixed.contains(label) || left.may_have(label); }
};

std::vector<Alert> alerts_of(const pack::Pack& pack) {
  std::vector<Alert> result;
  each_rule(pack, [&](const pack::RuleGroup& group, const pack::Rule& rule) {
    if (rule.alert.empty()) return;
    Alert alert{rule.alert, alert_labels(group, rule), {}};
    if (const auto parsed = promql::parse(rule.expr)) alert.left = labels_of(*parsed->root);
    result.push_back(std::move(alert));
  });
  return result;
}

/// Matchers of one side of an inhibit rule, whichever way they are written.
std::vector<pack::Matcher> matchers_of(const Json& rule, const std::string& side) {
  std::vector<pack::Matcher> result;
  const auto from_map = [&](const char* suffix, const char* op) {
    const Json& map = member(rule, (side + suffix).c_str());
    if (!map.is_object()) return;
    for (const auto& item : map.items())
      if (item.value().is_string()) result.push_back({item.key(), op, item.value()});
  };
  from_map("_match", "=");
  from_map("_match_re", "=~");
  for (const Json& item : items(rule, (side + "_matchers").c_str())) {
    if (!item.is_string()) continue;
    const std::string text = item;
    const auto at = text.find_first_of("=!");
    if (at == std::string::npos) continue;
    std::size_t end = at + 1;
    if (end < text.size() && (text[end] == '~' || text[end] == '=')) ++end;
    const auto trim = [](std::string part) {
      const auto first = part.find_first_not_of(" \"");
      if (first == std::string::npos) return std::string();
      return part.substr(first, part.find_last_not_of(" \"") - first + 1);
    };
    result.push_back({trim(text.substr(0, at)), text.substr(at, end - at), trim(text.substr(end))});
  }
  return result;
}

/// Whether some alert of the rule could be taken: labels that the expression leaves may have any value.
bool could_match(const std::vector<pack::Matcher>& matchers, const Alert& alert) {
  return std::all_of(matchers.begin(), matchers.end(), [&](const pack::Matcher& matcher) {
    const auto fixed = alert.fixed.find(matcher.label);
    const bool is_fixed = fixed != alert.fixed.end() && fixed->second.find("{{") == std::string::npos;
    if (is_fixed || !alert.may_have(matcher.label)) return pack::matches({matcher}, alert.fixed);
    return true;
  });
}

std::vector<const Alert*> taken(const std::vector<Alert>& alerts,
                                const std::vector<pack::Matcher>& matchers) {
  std::vector<const Alert*> result;
  for (const auto& alert : alerts)
    if (could_match(matchers, alert)) result.push_back(&alert);
  return result;
}

bool any_has(const std::vector<const Alert*>& alerts, const std::string& label) {
  return std::any_of(alerts.begin(), alerts.end(), [&](const Alert* one) { return one->may_have(label); });
}

/// Matchers that only alerts with the label pass.
bool demands(const std::vector<pack::Matcher>& matchers, const std::string& label) {
  return std::any_of(matchers.begin(), matchers.end(), [&](const pack::Matcher& matcher) {
    return matcher.label == label && !pack::matches({matcher}, {});
  });
}

}  // namespace

void lint_inhibition(Context& context) {
  const auto& all = *context.pack.alertmanager;
  const auto alerts = alerts_of(context.pack);
  if (alerts.empty()) return;
  std::size_t index = 0;
  for (const Json& rule : items(all.document, "inhibit_rules")) {
    const std::string object = "alertmanager/inhibit_rules[" + std::to_string(index++) + "]";
    const auto add = [&](const char* check, std::string message) {
      context.report.add(check, {all.path.string()}, object, std::move(message));
    };
    const auto source = matchers_of(rule, "source"), target = matchers_of(rule, "target");
    const auto sources = taken(alerts, source), targets = taken(alerts, target);
    if (sources.empty()) add("inhibit-unmatched", "no alert of the pack can be its source");
    if (targets.empty()) add("inhibit-unmatched", "no alert of the pack can be its target");
    for (const Alert* one : sources) {
      // The same rule's alerts of two instances: Alertmanager spares those that are both, so nothing happens.
      if (std::find(targets.begin(), targets.end(), one) == targets.end()) continue;
      add("inhibit-self",
          one->name + " may be source and target: choose matchers that no alert passes on both sides");
      break;
    }
    const auto& equal = items(rule, "equal");
    if (equal.empty())
      add("inhibit-equal", "has no `equal`: one source silences every target, wherever it comes from");
    for (const Json& label : equal) {
      if (!label.is_string() || sources.empty() || targets.empty()) continue;
      const std::string name = label;
      if (any_has(sources, name) || any_has(targets, name) || demands(source, name) || demands(target, name))
        continue;
      add("inhibit-equal", "no alert has the label " + name +
                               ", and what is missing on both sides is equal: it does "
                               "not limit what is silenced");
    }
  }
}

}  // namespace tunnelctl::lint
