#include "tunnelctl/monitor/guide.h"

#include <algorithm>
#include <set>

#include "tunnelctl/grafana/links.h"
#include "tunnelctl/pack/queries.h"
#include "tunnelctl/pack/routing.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/parser.h"
#include "tunnelctl/promql/text.h"

namespace tunnelctl::monitor {
namespace {

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// For a table's cell or a link's text: one line, nothing that Markdown would take for its own.
std::string plain(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      result += ' ';
      continue;
    }
    if (c == '|' || c == '[' || c == ']' || c == '*' || c == '<' || c == '`') result += '\\';
    result += c;
  }
  return result;
}

/// Text as code, whatever it holds; in a table `|` needs its backslash even there.
std::string code(const std::string& text) {
  std::string body;
  for (const char c : text) {
    // One line, however the expression is laid out.
    const bool space = c == ' ' || c == '\n';
    if (space && (body.empty() || body.back() == ' ')) continue;
    if (c == '|') body += '\\';
    body += space ? ' ' : c;
  }
  const std::string fence = body.find('`') == std::string::npos ? "`" : "``";
  return fence + (fence.size() > 1 ? " " : "") + body + (fence.size() > 1 ? " " : "") + fence;
}

std::string link(const std::string& label, const std::string& url) {
  return "[" + plain(label) + "](" + url + ")";
}

std::string words(promql::Op op) {
  switch (op) {
    case promql::Op::greater: return "above";
    case promql::Op::greater_or_equal: return "at least";
    case promql::Op::less: return "below";
    case promql::Op::less_or_equal: return "at most";
    case promql::Op::equal: return "equal to";
    case promql::Op::not_equal: return "other than";
    default: return std::string(promql::spelling(op));
  }
}

/// In the unit in which the alert's own texts show the value.
std::string number(double value, const pack::Rule& rule) {
  std::string texts;
  for (const auto& [name, text] : rule.annotations) texts += text + "\n";
  if (texts.find("humanizePercentage") != std::string::npos) return promql::print_number(value * 100) + " %";
  if (texts.find("humanizeDuration") != std::string::npos) {
    if (value >= 86400 && value / 86400 == static_cast<double>(static_cast<int>(value / 86400)))
      return promql::print_number(value / 86400) + (value == 86400 ? " day" : " days");
    if (value > 0 && value < 1) return promql::print_number(value * 1000) + " ms";
    return promql::print_number(value) + " s";
  }
  return promql::print_number(value);
}

int rank(const std::string& severity) {
  if (severity == "critical") return 0;
  if (severity == "warning") return 1;
  return severity == "info" ? 2 : 3;
}

struct Alert {
  const pack::Rule* rule;
  pack::Texts labels;
  std::string severity;
};

std::vector<Alert> alerts_of(const pack::Pack& pack) {
  std::vector<Alert> result;
  for (const auto& file : pack.rule_files)
    for (const auto& group : file.groups)
      for (const auto& rule : group.rules) {
        if (rule.alert.empty()) continue;
        pack::Texts labels = group.labels;
        for (const auto& [name, value] : rule.labels) labels[name] = value;
        labels["alertname"] = rule.alert;
        result.push_back({&rule, labels, labels.contains("severity") ? labels["severity"] : ""});
      }
  std::stable_sort(result.begin(), result.end(), [](const Alert& a, const Alert& b) {
    return std::pair(rank(a.severity), a.rule->alert) < std::pair(rank(b.severity), b.rule->alert);
  });
  return result;
}

class Writer {
 public:
  explicit Writer(const GuideOptions& options) : options_(options) {}

  Result<std::string> run(const std::vector<pack::Pack>& packs) {
    const std::string title = packs.size() == 1 ? packs.front().title : "Monitoring";
    const bool named = title.find("onitoring") != std::string::npos;
    line("# " + plain(title) + (named ? " Guide" : ": monitoring guide"));
    line("");
    line("Written by `tunnelctl monitor guide` from the pack" + std::string(packs.size() == 1 ? "" : "s") +
         ": change those, not this page.");
    for (const auto& pack : packs) {
      if (packs.size() > 1) {
        line("");
        line("# " + plain(pack.title));
      }
      dashboards(pack);
      alerts(pack);
      notifications(pack);
      silencing(pack);
      logs(pack);
      variables(pack);
    }
    if (failed_) return tl::unexpected(*failed_);
    return std::move(text_);
  }

 private:
  void line(const std::string& text) { text_ += text + "\n"; }
  void heading(const std::string& text) {
    line("");
    line(text);
    line("");
  }
  std::string url(Result<std::string> made) {
    if (made) return *made;
    if (!failed_) failed_ = made.error();
    return {};
  }

  grafana::LinkOptions range_of(const pack::Dashboard& dashboard) const {
    grafana::LinkOptions result{.org = options_.org};
    const auto chosen = options_.ranges.find(dashboard.uid);
    const Json time = dashboard.json.value("time", Json::object());
    result.from = chosen != options_.ranges.end() ? chosen->second : text_of(time, "from");
    result.to = chosen != options_.ranges.end() ? "now" : text_of(time, "to");
    if (result.from.empty()) result.from = "now-1h";
    if (result.to.empty()) result.to = "now";
    return result;
  }
  std::string panel_url(const pack::Dashboard& dashboard, std::int64_t id) {
    return url(grafana::panel_link(options_.grafana_url, dashboard.uid, id, range_of(dashboard)));
  }

  void dashboards(const pack::Pack& pack) {
    heading("## Dashboards");
    line("In the folder " +
         link(pack.folder_title, url(grafana::folder_link(options_.grafana_url, pack.folder_uid))) + ".");
    for (const auto& dashboard : pack.dashboards) {
      const auto range = range_of(dashboard);
      heading("### " + plain(dashboard.title));
      if (const auto about = text_of(dashboard.json, "description"); !about.empty()) {
        line(plain(about));
        line("");
      }
      line(link("Open it", url(grafana::dashboard_link(options_.grafana_url, dashboard.uid, range))) + " (" +
           plain(range.from) + " to " + plain(range.to) + "). Its panels:");
      line("");
      for (const Json* panel : pack::panels(dashboard.json)) {
        if (!panel->is_object() || text_of(*panel, "type") == "row" || !panel->contains("id")) continue;
        if (!(*panel)["id"].is_number_integer()) continue;
        const std::int64_t id = (*panel)["id"];
        const std::string title = text_of(*panel, "title");
        line("- " + link(title.empty() ? "panel " + std::to_string(id) : title, panel_url(dashboard, id)));
      }
    }
  }

  std::string panel_cell(const pack::Pack& pack, const pack::Rule& rule) {
    const auto uid = rule.annotations.find("dashboard_uid"), panel = rule.annotations.find("panel_id");
    if (uid == rule.annotations.end()) return "";
    for (const auto& dashboard : pack.dashboards) {
      if (dashboard.uid != uid->second) continue;
      if (panel == rule.annotations.end())
        return link(dashboard.title,
                    url(grafana::dashboard_link(options_.grafana_url, dashboard.uid, range_of(dashboard))));
      for (const Json* one : pack::panels(dashboard.json))
        if (one->is_object() && one->contains("id") && (*one)["id"].dump() == panel->second)
          return link(text_of(*one, "title"), panel_url(dashboard, (*one)["id"]));
    }
    return "";
  }

  std::string runbook_cell(const pack::Pack& pack, const pack::Rule& rule) {
    const auto found = rule.annotations.find("runbook_url");
    if (found == rule.annotations.end()) return "";
    CompileOptions options;
    options.grafana_url = options_.grafana_url;
    options.runbook_url = options_.runbook_url;
    return link("what to do", runbook_link(pack, found->second, options));
  }

  /// "pager (pagerduty, slack), chat (slack)"
  std::string receivers(const pack::Alertmanager& all, const pack::Texts& labels) const {
    std::string result;
    std::set<std::string> told;
    for (const auto& taken : pack::routes_for(all, labels)) {
      if (!told.insert(taken.receiver).second) continue;
      result += (result.empty() ? "" : ", ") + plain(taken.receiver);
      std::string kinds;
      for (const auto& receiver : all.receivers)
        if (receiver.name == taken.receiver)
          for (const auto& integration : receiver.integrations)
            kinds += (kinds.empty() ? "" : ", ") + integration.kind;
      result += " (" + (kinds.empty() ? "tells nobody" : kinds) + ")";
    }
    return result;
  }

  void alerts(const pack::Pack& pack) {
    const auto all = alerts_of(pack);
    if (all.empty()) return;
    heading("## Alerts");
    line(pack.alertmanager ? "| Alert | Severity | Fires when | Held for | Panel | Runbook | Told |"
                           : "| Alert | Severity | Fires when | Held for | Panel | Runbook |");
    line(pack.alertmanager ? "| --- | --- | --- | --- | --- | --- | --- |"
                           : "| --- | --- | --- | --- | --- | --- |");
    for (const auto& alert : all) {
      const auto& rule = *alert.rule;
      // What it is about; the condition alone says "above 5 %".
      const auto held = rule.hold.count() > 0 ? pack::duration_text(rule.hold) : std::string("at once");
      std::string row = "| " + plain(rule.alert) + " | " + plain(alert.severity) + " | " +
                        condition_in_words(rule) + " | " + held + " | " + panel_cell(pack, rule) + " | " +
                        runbook_cell(pack, rule) + " |";
      if (pack.alertmanager) row += " " + receivers(*pack.alertmanager, alert.labels) + " |";
      line(row);
    }
    line("");
    line("What each one asks Prometheus:");
    for (const auto& alert : all) {
      line("");
      const auto summary = alert.rule->annotations.find("summary");
      line("**" + plain(alert.rule->alert) + "**" +
           (summary == alert.rule->annotations.end() ? "" : ": " + code(summary->second)));
      line("");
      line("```promql");
      line(alert.rule->expr);
      line("```");
    }
  }

  void route(const pack::Pack& pack, const pack::Route& one, const std::string& inherited, int depth) {
    const std::string receiver = one.receiver.empty() ? inherited : one.receiver;
    std::string condition;
    for (const auto& matcher : one.matchers)
      condition +=
          (condition.empty() ? "" : " and ") + code(matcher.label + matcher.op + "\"" + matcher.value + "\"");
    std::string times;
    for (const auto& [what, value] : {std::pair{"waits ", one.group_wait},
                                      {"then every ", one.group_interval},
                                      {"again after ", one.repeat_interval}})
      if (!value.empty()) times += (times.empty() ? "; " : ", ") + std::string(what) + value;
    line(std::string(static_cast<std::size_t>(depth) * 2, ' ') + "- " +
         (condition.empty() ? "everything" : condition) + " goes to **" + plain(receiver) + "**" + times +
         (one.go_on ? "; and on to the next" : ""));
    for (const auto& child : one.routes) route(pack, child, receiver, depth + 1);
  }

  void notifications(const pack::Pack& pack) {
    if (!pack.alertmanager) return;
    heading("## Who is told");
    line("The deepest line that fits decides:");
    line("");
    route(pack, pack.alertmanager->root, "", 0);
    line("");
    for (const auto& receiver : pack.alertmanager->receivers) {
      std::string kinds;
      for (const auto& integration : receiver.integrations)
        kinds += (kinds.empty() ? "" : ", ") + integration.kind + target_of(integration);
      line("- **" + plain(receiver.name) + "**: " + (kinds.empty() ? "nobody" : kinds));
    }
    if (pack.alertmanager->inhibits) {
      line("");
      line("Alertmanager leaves out what follows from another alert (`inhibit_rules` of " +
           code(pack.alertmanager->path.filename().string()) + "); Grafana's own alerting does not.");
    }
  }
  /// Where it goes, as far as that is no secret.
  static std::string target_of(const pack::Integration& integration) {
    for (const char* key : {"channel", "to"})
      if (const auto value = text_of(integration.settings, key); !value.empty()) return " " + code(value);
    return "";
  }

  void silencing(const pack::Pack& pack) {
    const auto all = alerts_of(pack);
    if (all.empty()) return;
    heading("## Silencing");
    line("For planned work, always with an end and a reason, and no wider than the work:");
    line("");
    line("- in Grafana: " +
         link("new silence", grafana::silence_link(options_.grafana_url, silence_labels(all.front()))) +
         " (filled in for " + plain(all.front().rule->alert) + "; add `instance` for one machine)");
    line("- in Alertmanager: `amtool silence add --duration=1h --comment='why' alertname=" +
         all.front().rule->alert + " instance=HOST:PORT`");
    line("");
    line("| Alert | Silence |");
    line("| --- | --- |");
    for (const auto& alert : all)
      line("| " + plain(alert.rule->alert) + " | " +
           link("silence it", grafana::silence_link(options_.grafana_url, silence_labels(alert))) + " |");
  }
  static std::vector<std::pair<std::string, std::string>> silence_labels(const Alert& alert) {
    std::vector<std::pair<std::string, std::string>> result{{"alertname", alert.rule->alert}};
    if (const auto service = alert.labels.find("service"); service != alert.labels.end())
      result.emplace_back("service", service->second);
    return result;
  }

  /// A way from the dashboards to single queries.
  void logs(const pack::Pack& pack) {
    bool begun = false;
    for (const auto& dashboard : pack.dashboards) {
      for (const auto& query : pack::queries(dashboard)) {
        if (query.type != "loki") continue;
        const auto variable = pack::variable_name(query.datasource);
        const auto source = options_.datasources.find(variable.value_or(""));
        if (source == options_.datasources.end()) continue;
        const auto expanded = promql::expand(query.expr, pack::variables(dashboard));
        if (!expanded.undefined.empty()) continue;
        if (!begun) heading("## Logs");
        begun = true;
        line("- " +
             link(query.panel_title + " in Explore",
                  url(grafana::explore_link(options_.grafana_url, options_.grafana_version,
                                            {source->second.uid, source->second.type, {{"A", expanded.text}}},
                                            range_of(dashboard)))));
      }
    }
  }

  void variables(const pack::Pack& pack) {
    if (pack.dashboards.empty()) return;
    const auto& dashboard = pack.dashboards.front();
    std::vector<std::string> names;
    if (dashboard.json.contains("templating") && dashboard.json["templating"].is_object() &&
        dashboard.json["templating"].contains("list"))
      for (const Json& variable : dashboard.json["templating"]["list"])
        if (text_of(variable, "type") == "query") names.push_back(text_of(variable, "name"));
    if (names.empty()) return;
    heading("## Links of your own");
    line(
        "`from` and `to` are `now-1h` and the like, or epoch milliseconds. Each variable is a parameter "
        "`var-NAME`, "
        "once for each value:");
    line("");
    auto options = range_of(dashboard);
    for (const auto& name : names) options.vars.emplace_back(name, "VALUE");
    line("```");
    line(url(grafana::dashboard_link(options_.grafana_url, dashboard.uid, options)));
    line("```");
    line("");
    line("`tunnelctl link dashboard|panel|explore` writes them for you.");
  }

  const GuideOptions& options_;
  std::string text_;
  std::optional<Error> failed_;
};

}  // namespace

std::string condition_in_words(const pack::Rule& rule) {
  const auto parsed = promql::parse(rule.expr);
  if (!parsed) return code(rule.expr);
  const auto split = promql::split_comparison(*parsed);
  if (!split) return code(promql::print(*parsed->root));
  if (split->inner.starts_with("absent(")) return "there is no such series: " + code(split->inner);
  return code(split->inner) + " is " + words(split->op) + " " + number(split->number, rule);
}

Result<std::string> guide(const std::vector<pack::Pack>& packs, const GuideOptions& options) {
  return Writer(options).run(packs);
}

}  // namespace tunnelctl::monitor
