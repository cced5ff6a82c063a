#include "tunnelctl/commands/mcp_tools.h"

namespace tunnelctl {
namespace {

using Kind = ToolArgument::Kind;
using mcp::Effect;

/// What a rule is made of, by the names of Grafana's API.
std::vector<ToolArgument> rule_members(bool all_needed) {
  const auto needed = [&](const char* name, const char* help, Kind kind = Kind::text) {
    return ToolArgument{.name = name, .help = help, .kind = kind, .to = nullptr, .required = all_needed};
  };
  const auto optional = [](const char* name, const char* help, Kind kind = Kind::text) {
    return ToolArgument{.name = name, .help = help, .kind = kind, .to = nullptr};
  };
  return {needed("title", ""),
          needed("folderUID", ""),
          needed("ruleGroup", ""),
          needed("condition", "refId in data"),
          needed("data", "queries and expressions, as in Grafana's API", Kind::objects),
          optional("for", "e.g. 5m"),
          {.name = "noDataState", .to = nullptr, .words = {"NoData", "OK", "Alerting", "KeepLast"}},
          {.name = "execErrState", .to = nullptr, .words = {"Error", "OK", "Alerting", "KeepLast"}},
          optional("labels", "", Kind::object),
          optional("annotations", "", Kind::object),
          optional("isPaused", "", Kind::flag)};
}

std::vector<ToolArgument> with_uid(ToolArgument uid, std::vector<ToolArgument> others) {
  others.insert(others.begin(), std::move(uid));
  return others;
}

/// A number that Grafana takes from the credentials, whatever is said.
std::vector<ToolArgument> with_unused(const char* name, std::vector<ToolArgument> others) {
  others.push_back({.name = name, .kind = Kind::integer, .unused = true});
  return others;
}

std::string rule_text(const Json& arguments) {
  return arguments.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<void> rule_as_input(const Json& arguments, CommandLine& line) {
  Json rule = arguments;
  // Grafana has no default for these.
  if (!rule.contains("noDataState")) rule["noDataState"] = "NoData";
  if (!rule.contains("execErrState")) rule["execErrState"] = "Error";
  if (!rule.contains("for")) rule["for"] = "0s";
  line.positional = {"-"};
  line.input = rule_text(rule);
  return {};
}

Result<void> change_as_input(const Json& arguments, CommandLine& line) {
  Json change = arguments;
  change.erase("uid");
  if (change.empty()) return fail(Error::Kind::bad_input, "nothing to change was named");
  line.positional = {arguments["uid"].get<std::string>(), "-"};
  line.input = rule_text(change);
  return {};
}

const ToolArgument kMatchers{
    .name = "matchers", .help = "NAME=VALUE, !=, =~ or !~", .kind = Kind::texts, .to = "--matcher"};
const ToolArgument kRuleUid{.name = "uid", .required = true};

}  // namespace

std::vector<CommandTool> alert_tools() {
  const std::vector<ToolArgument> filter{
      {.name = "folderUid", .to = "--folder"},
      {.name = "ruleGroup", .to = "--group"},
      {.name = "state", .to = "--state", .words = {"firing", "pending", "inactive", "recovering"}},
      {.name = "health", .to = "--health", .words = {"ok", "nodata", "error"}},
      {.name = "labels", .help = "with all of them, by name", .kind = Kind::object, .to = "--label"}};
  auto listing = filter;
  listing.push_back({.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "100"});
  return {
      {.name = "list_alert_rules",
       .description = "Lists alert rules with state and health.",
       .command = "alert list",
       .arguments = listing,
       .narrow = "state, folderUid, labels, limit",
       .sample =
           R"({"folderUid": "f", "ruleGroup": "g", "state": "firing", "health": "ok", "labels": {"a": "b"}})"},
      {.name = "get_alert_rule_by_uid",
       .description = "An alert rule's JSON.",
       .command = "alert get",
       .arguments = {kRuleUid},
       .sample = R"({"uid": "u"})"},
      {.name = "get_alert_state",
       .description = "What alert rules do now, with their alerts, values and last errors.",
       .command = "alert state",
       .arguments = with_uid({.name = "uid", .help = "only this rule"}, filter),
       .narrow = "uid, state, folderUid",
       .sample = R"({"uid": "u", "state": "firing"})"},
      {.name = "create_alert_rule",
       .description = "Makes an alert rule, after checking that it can work.",
       .command = "alert create",
       .arguments = with_unused("orgID", with_uid({.name = "uid", .to = nullptr}, rule_members(true))),
       .effect = Effect::adds,
       .compose = rule_as_input,
       .sample = R"({"title": "t", "folderUID": "f", "ruleGroup": "g", "condition": "A", "data": [{}]})"},
      {.name = "update_alert_rule",
       .description = "Changes what is named of an alert rule and keeps the rest.",
       .command = "alert update",
       .arguments = with_unused(
           "orgID", with_uid({.name = "uid", .to = nullptr, .required = true}, rule_members(false))),
       .effect = Effect::replaces,
       .compose = change_as_input,
       .sample = R"({"uid": "u", "for": "10m"})"},
      {.name = "delete_alert_rule",
       .description = "Deletes an alert rule.",
       .command = "alert delete",
       .arguments = {kRuleUid},
       .effect = Effect::replaces,
       .always = {"--yes"},
       .sample = R"({"uid": "u"})"},
      {.name = "list_contact_points",
       .description = "Lists contact points: who is told of alerts.",
       .command = "contact-point list",
       .arguments =
           {{.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "100"}},
       .narrow = "limit",
       .sample = R"({"limit": 5})"},
      {.name = "list_alert_silences",
       .description = "Lists silences.",
       .command = "alert silence list",
       .arguments = {{.name = "state",
                      .help = "default: active and pending",
                      .to = "--state",
                      .words = {"active", "pending", "expired", "all"}},
                     kMatchers,
                     {.name = "ruleUid", .to = "--rule"},
                     {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "50"}},
       .narrow = "state, matchers, limit",
       .sample = R"({"state": "all", "matchers": ["a=b"], "ruleUid": "u", "limit": 5})"},
      {.name = "get_alert_silence",
       .description = "A silence and the alerts that it silences.",
       .command = "alert silence show",
       .arguments = {{.name = "silenceId", .required = true}},
       .sample = R"({"silenceId": "s"})"},
      {.name = "create_alert_silence",
       .description = "Silences alerts for a while: those that fit all matchers, or those of a rule.",
       .command = "alert silence create",
       .arguments = {kMatchers,
                     {.name = "ruleUid", .to = "--rule"},
                     {.name = "for", .help = "how long, e.g. 2h; or until", .to = "--for"},
                     {.name = "until", .to = "--until"},
                     {.name = "startsAt", .to = "--start"},
                     {.name = "comment", .help = "why", .to = "--comment", .required = true},
                     {.name = "createdBy", .to = "--by"}},
       .effect = Effect::adds,
       .sample =
           R"({"matchers": ["alertname=~A.*"], "for": "2h", "startsAt": "now", "comment": "c", "createdBy": "b"})"},
      {.name = "expire_alert_silence",
       .description = "Ends a silence now.",
       .command = "alert silence expire",
       .arguments = {{.name = "silenceId", .required = true}},
       .effect = Effect::replaces,
       .sample = R"({"silenceId": "s"})"},
      {.name = "get_alert_history",
       .description = "How alerts changed their state, newest first.",
       .command = "alert history",
       .arguments = {{.name = "uid", .help = "of this rule", .to = "--rule"},
                     {.name = "from", .to = "--from"},
                     {.name = "to", .to = "--to"},
                     {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "50"}},
       .narrow = "uid, a shorter range, limit",
       .sample = R"({"uid": "u", "from": "now-6h", "to": "now", "limit": 5})"},
  };
}

}  // namespace tunnelctl
