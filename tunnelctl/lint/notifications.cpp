#include <algorithm>
#include <set>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/pack/routing.h"

namespace tunnelctl::lint {
namespace {

std::string text(const pack::Matcher& matcher) {
  return matcher.label + matcher.op + "\"" + matcher.value + "\"";
}

bool same(const pack::Matcher& a, const pack::Matcher& b) {
  return a.label == b.label && a.op == b.op && a.value == b.value;
}

/// Whatever the later matchers take, the earlier take, too.
bool covers(const std::vector<pack::Matcher>& earlier, const std::vector<pack::Matcher>& later) {
  return std::all_of(earlier.begin(), earlier.end(), [&](const pack::Matcher& one) {
    if (one.op == "=~" && (one.value == ".*" || one.value == "|.+")) return true;
    return std::any_of(later.begin(), later.end(), [&](const pack::Matcher& other) {
      if (same(one, other)) return true;
      // severity=~"warning|critical" takes all of severity="critical".
      return one.label == other.label && other.op == "=" &&
             pack::matches({one}, {{other.label, other.value}});
    });
  });
}

/// What is between `{{` and `}}` and calls a template by name; `definitions` collects `define` and `block`.
void find_templates(const std::string& text, std::set<std::string>& used,
                    std::set<std::string>& definitions) {
  for (std::size_t at = text.find("{{"); at != std::string::npos; at = text.find("{{", at + 2)) {
    std::size_t word = text.find_first_not_of("- \t\n", at + 2);
    if (word == std::string::npos) return;
    for (const std::string_view key : {"template", "define", "block"}) {
      if (text.compare(word, key.size(), key) != 0) continue;
      const auto open = text.find_first_of("\"`", word);
      if (open == std::string::npos) continue;
      const auto close = text.find(text[open], open + 1);
      if (close == std::string::npos) continue;
      const std::string name = text.substr(open + 1, close - open - 1);
      if (key != "define") used.insert(name);
      if (key != "template") definitions.insert(name);
    }
  }
}

/// Alertmanager's default templates and Grafana's.
bool is_built_in(const std::string& name) {
  for (const std::string_view prefix :
       {"__", "default.", "slack.default.", "email.default.", "pagerduty.default.", "opsgenie.default.",
        "webhook.default.", "pushover.default.", "victorops.default.", "wechat.default.", "sns.default.",
        "telegram.default.", "discord.default.", "webex.default.", "msteams.default.", "msteamsv2.default."})
    if (name.starts_with(prefix)) return true;
  return false;
}

class NotificationLinter {
 public:
  explicit NotificationLinter(Context& context) : context_(context), all_(*context.pack.alertmanager) {}

  void run() {
    std::set<std::string> receivers;
    walk(all_.root, "route", receivers, all_.root.group_interval, all_.root.repeat_interval);
    for (const auto& receiver : all_.receivers) {
      if (!receivers.contains(receiver.name))
        add("receiver-unused", receiver.place, "receiver/" + receiver.name, "no route leads to it");
      for (const auto& integration : receiver.integrations)
        if ((integration.kind == "slack" || integration.kind == "email") &&
            !integration.settings.contains("send_resolved"))
          add("receiver-resolved", integration.place, "receiver/" + receiver.name,
              integration.kind +
                  " does not say when an alert is over, as send_resolved is false by default there: "
                  "set it either way");
    }
    severities();
    templates();
    deprecated(all_.document);
  }

 private:
  void add(const char* check, const pack::Place& place, const std::string& object, std::string message) {
    context_.report.add(check, place, "alertmanager/" + object, std::move(message));
  }

  void walk(const pack::Route& route, const std::string& object, std::set<std::string>& receivers,
            std::string group_interval, std::string repeat_interval) {
    receivers.insert(route.receiver);
    if (!route.group_interval.empty()) group_interval = route.group_interval;
    if (!route.repeat_interval.empty()) repeat_interval = route.repeat_interval;
    if (!route.group_interval.empty() || !route.repeat_interval.empty())
      intervals(route, object, group_interval, repeat_interval);
    contradiction(route, object);
    for (std::size_t i = 0; i < route.routes.size(); ++i) {
      const std::string child = object + ".routes[" + std::to_string(i) + "]";
      for (std::size_t before = 0; before < i; ++before) {
        if (route.routes[before].go_on || !covers(route.routes[before].matchers, route.routes[i].matchers))
          continue;
        add("route-unreachable", route.routes[i].place, child,
            "routes[" + std::to_string(before) +
                "] before it takes all its alerts: put it first, or set \"continue: true\" there");
        break;
      }
      walk(route.routes[i], child, receivers, group_interval, repeat_interval);
    }
  }

  void contradiction(const pack::Route& route, const std::string& object) {
    for (std::size_t i = 0; i < route.matchers.size(); ++i)
      for (std::size_t j = i + 1; j < route.matchers.size(); ++j) {
        const auto &a = route.matchers[i], &b = route.matchers[j];
        const bool opposite =
            a.value == b.value && a.op != b.op && a.op.ends_with('~') == b.op.ends_with('~');
        const bool excluded = (a.op == "=" && !pack::matches({b}, {{a.label, a.value}})) ||
                              (b.op == "=" && !pack::matches({a}, {{b.label, b.value}}));
        if (a.label == b.label && (opposite || excluded))
          add("route-unreachable", route.place, object, "no alert has both " + text(a) + " and " + text(b));
      }
  }

  void intervals(const pack::Route& route, const std::string& object, const std::string& group_text,
                 const std::string& repeat_text) {
    // Alertmanager's defaults.
    const auto group = pack::duration(group_text.empty() ? "5m" : group_text);
    const auto repeat = pack::duration(repeat_text.empty() ? "4h" : repeat_text);
    if (!group || !repeat || group->count() <= 0) return;
    if (repeat->count() % group->count() != 0 || *repeat < *group)
      add("route-repeat", route.place, object,
          "repeat_interval " + pack::duration_text(*repeat) + " is no multiple of group_interval " +
              pack::duration_text(*group) + ", at which Alertmanager looks: it repeats later than it says");
  }

  static bool chooses_severity(const pack::Route& route) {
    const auto chooses = [](const pack::Route& one) {
      return std::any_of(one.matchers.begin(), one.matchers.end(),
                         [](const auto& matcher) { return matcher.label == "severity"; });
    };
    return chooses(route) || std::any_of(route.routes.begin(), route.routes.end(),
                                         [](const pack::Route& child) { return chooses_severity(child); });
  }

  /// A test of the routes with each of the pack's alerts.
  void severities() {
    if (!chooses_severity(all_.root)) return;
    std::set<std::string> told;
    each_rule(context_.pack, [&](const pack::RuleGroup& group, const pack::Rule& rule) {
      if (rule.alert.empty()) return;
      const auto labels = alert_labels(group, rule);
      const auto severity = labels.find("severity");
      if (severity == labels.end() || severity->second.find("{{") != std::string::npos) return;
      for (const auto& taken : pack::routes_for(all_, labels))
        for (const pack::Route* route : taken.path)
          for (const auto& matcher : route->matchers)
            if (matcher.label == "severity") return;
      if (!told.insert(severity->second).second) return;
      add("route-severity", all_.root.place, "severity/" + severity->second,
          rule.alert + " (severity " + severity->second + ") falls through to " +
              pack::routes_for(all_, labels).front().receiver + ", as no route asks for its severity");
    });
  }

  void templates() {
    std::set<std::string> used, defined;
    std::map<std::string, pack::Place> users;
    for (const auto& receiver : all_.receivers)
      for (const auto& integration : receiver.integrations)
        each_text(integration.settings, [&](const std::string& text) {
          std::set<std::string> here, ignored;
          find_templates(text, here, ignored);
          for (const auto& name : here)
            users.emplace("receiver/" + receiver.name + "\n" + name, integration.place);
          used.merge(here);
        });
    std::map<std::string, std::string> files;
    for (const auto& file : all_.templates) {
      std::set<std::string> here;
      std::set<std::string> uses;
      find_templates(file.text, uses, here);
      for (const auto& name : here) files.emplace(name, file.path.string());
      for (const auto& name : uses)
        users.emplace("template/" + file.name + "\n" + name, pack::Place{file.path.string()});
      defined.merge(here);
      used.merge(uses);
    }
    for (const auto& [user, place] : users) {
      const auto line = user.find('\n');
      const std::string name = user.substr(line + 1);
      if (!is_built_in(name) && !files.contains(name))
        add("template-undefined", place, user.substr(0, line),
            "uses the template \"" + name +
                "\", which no file of `templates` defines: Alertmanager loads this and fails "
                "when it should notify");
    }
    for (const auto& [name, file] : files)
      if (!used.contains(name) && !is_built_in(name))
        add("template-unused", {file}, "template/" + name, "is defined and never used");
  }

  void deprecated(const Json& value) {
    if (value.is_object() && (value.contains("match") || value.contains("match_re")))
      add("route-match", {all_.path.string()}, "route",
          "match and match_re are deprecated since 0.22: matchers: ['severity=\"critical\"']");
    if (!value.is_structured()) return;
    for (const Json& item : value) deprecated(item);
  }

  Context& context_;
  const pack::Alertmanager& all_;
};

void find_old_api(Context& context, const std::string& text, const std::string& file,
                  const std::string& object) {
  int line = 1;
  for (std::size_t at = 0; at < text.size(); ++line) {
    const auto end = std::min(text.find('\n', at), text.size());
    const std::string_view here = std::string_view(text).substr(at, end - at);
    // Prometheus has an /api/v1/alerts of its own.
    const bool theirs =
        here.find("lertmanager") != std::string_view::npos || here.find(":9093") != std::string_view::npos;
    if (theirs && (here.find("/api/v1/alerts") != std::string_view::npos ||
                   here.find("/api/v1/silences") != std::string_view::npos ||
                   here.find("/api/v1/status") != std::string_view::npos))
      context.report.add("alertmanager-v1-api", {file, line}, object,
                         "Alertmanager answers 410 to its API v1 since 0.27: use /api/v2/");
    at = end + 1;
  }
}

}  // namespace

void lint_notifications(Context& context) {
  if (!context.pack.alertmanager) return;
  NotificationLinter(context).run();
  lint_inhibition(context);
  find_old_api(context, context.pack.alertmanager->text, context.pack.alertmanager->path.string(),
               "alertmanager/file");
}

void lint_runbooks(Context& context) {
  const auto& pack = context.pack;
  const auto name_of = [&](const std::string& link) -> std::optional<std::string> {
    if (pack.runbook_prefix.empty() || !link.starts_with(pack.runbook_prefix)) return std::nullopt;
    const std::string page = link.substr(pack.runbook_prefix.size());
    return page.substr(0, page.find(".md"));
  };
  std::set<std::string> known, linked;
  for (const auto& runbook : pack.runbooks) known.insert(runbook.name);
  each_rule(pack, [&](const pack::RuleGroup&, const pack::Rule& rule) {
    const auto link = rule.annotations.find("runbook_url");
    if (link == rule.annotations.end()) return;
    const auto name = name_of(link->second);
    if (name && !known.contains(*name))
      context.report.add("runbook-missing", rule.place, "rule/" + rule.name(),
                         "runbook_url " + link->second + ": there is no such runbook");
    if (name) linked.insert(*name);
  });
  for (const auto& dashboard : pack.dashboards)
    each_text(dashboard.json, [&](const std::string& text) {
      if (const auto name = name_of(text)) linked.insert(*name);
    });
  for (const auto& runbook : pack.runbooks) {
    if (!linked.contains(runbook.name))
      context.report.add(
          "runbook-orphan", {runbook.path.string()}, "runbook/" + runbook.name,
          "nothing leads to it: it is the runbook of an alert that is gone, or has another name");
    find_old_api(context, runbook.text, runbook.path.string(), "runbook/" + runbook.name);
  }
}

void lint_contract(Context& context) {
  for (const auto& metric : context.pack.contract) {
    const auto is_used = [&](const std::string& name) { return context.metrics_used.contains(name); };
    const bool histogram =
        metric.type == "histogram" && (is_used(metric.name + "_bucket") || is_used(metric.name + "_sum") ||
                                       is_used(metric.name + "_count"));
    if (is_used(metric.name) || histogram) continue;
    context.report.add("metric-unused", {}, "contract/" + metric.name,
                       "is exposed, and no panel or rule looks at it");
  }
}

}  // namespace tunnelctl::lint
