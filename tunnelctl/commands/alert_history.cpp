#include "tunnelctl/grafana/alert_history.h"

#include <ostream>

#include "tunnelctl/commands/alert_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/alert_rules.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct AlertHistory {
  std::string rule, from = "now-24h", to = "now";
  std::size_t limit = 100;
};

std::string pairs(const Json& json) {
  std::string result;
  for (const auto& [name, value] : json.items()) {
    if (name == "alertname" || name == "grafana_folder" || name.starts_with("__")) continue;
    result += (result.empty() ? "" : ", ") + name + "=" +
              (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return terminal::harmless(result);
}

terminal::Colour colour(const std::string& state) {
  if (state.starts_with("Alerting") || state.find("Error") != std::string::npos) return terminal::Colour::red;
  if (state.starts_with("Pending") || state.find("NoData") != std::string::npos)
    return terminal::Colour::yellow;
  return state.starts_with("Normal") ? terminal::Colour::green : terminal::Colour::none;
}

Json described(const grafana::StateChange& change) {
  Json json{{"time", times::text(change.time)}, {"rule_uid", change.rule_uid}, {"rule", change.rule},
            {"previous", change.previous},      {"current", change.current},   {"labels", change.labels},
            {"values", change.values}};
  if (!change.error.empty()) json["error"] = change.error;
  return json;
}

Result<ExitStatus> run(const AlertHistory& options, Session& session) {
  const auto range = times::range(options.from, options.to, now());
  if (!range) return tl::unexpected(range.error());
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto history =
      grafana::alert_history(*server, {.rule_uid = options.rule, .range = *range, .limit = options.limit});
  if (!history) return tl::unexpected(history.error());
  // A rule that does not exist has no history either; only the rule itself tells them apart.
  if (history->changes.empty() && !options.rule.empty())
    if (const auto rule = grafana::read_rule(*server, options.rule);
        !rule && rule.error().kind == Error::Kind::not_found)
      return tl::unexpected(rule.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : history->changes) list.push_back(described(one));
    session.out << pretty({{"changes", std::move(list)},
                           {"more", history->more},
                           {"source", history->source},
                           {"from", times::text(range->from)},
                           {"to", times::text(range->to)}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : history->changes) {
      auto about = pairs(one.labels);
      if (const auto values = pairs(one.values); !values.empty()) about += " (" + values + ")";
      if (!one.error.empty()) about += " " + terminal::harmless(one.error);
      rows.push_back({to_the_second(one.time), terminal::harmless(one.rule), terminal::harmless(one.previous),
                      terminal::harmless(one.current),
                      terminal::paint(about, colour(one.current), session.coloured())});
    }
    if (!rows.empty()) terminal::print_table(session.out, {"TIME", "RULE", "FROM", "TO", "ALERT"}, rows);
  }
  say_shown(session, history->changes.size(), history->more, "change");
  return ExitStatus::ok;
}

}  // namespace

void add_alert_history(CLI::App& alert, Chosen& chosen) {
  auto options = std::make_shared<AlertHistory>();
  auto& verb =
      add_verb(alert, chosen, "history", "Shows how alerts changed their state, the newest first",
               "  tunnelctl alert history --from now-6h\n"
               "  tunnelctl alert history --rule tunnel-high-error-rate --from 2026-01-30 --limit 20\n"
               "  tunnelctl alert history --from now-7d --output json | jq '.changes[].rule'",
               options);
  verb.add_option("--rule", options->rule, "of this rule; default: of all")->type_name("UID");
  verb.add_option("--from", options->from, "from when")->type_name("TIME")->capture_default_str();
  verb.add_option("--to", options->to, "until when")->type_name("TIME")->capture_default_str();
  add_limit(verb, options->limit);
}

}  // namespace tunnelctl
