#include <utility>

#include "tunnelctl/commands/mcp_tools.h"

namespace tunnelctl {
namespace {

using Kind = ToolArgument::Kind;
using mcp::Effect;

ToolArgument limit(const char* fallback) {
  return {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = fallback};
}

Result<void> state_of_group(const Json& arguments, CommandLine& line) {
  const auto state = arguments["state"].get<std::string>();
  if (state.ends_with("resolved")) line.words.emplace_back("--resolve");
  if (state.starts_with("un")) line.words.emplace_back("--undo");
  return {};
}

Result<void> attached(const Json& arguments, CommandLine& line) {
  const auto text = [&](const char* name) { return arguments.value(name, std::string()); };
  const auto url = text("attachUrl");
  const auto caption = text("attachCaption");
  if (url.empty() && !caption.empty())
    return fail(Error::Kind::bad_input, "attachCaption goes with attachUrl");
  if (url.empty()) return {};
  line.words.push_back("--attach=" + url);
  line.words.push_back("--attach-caption=" + caption);
  return {};
}

/// "-" is standard input for these commands.
Result<void> is_text(const Json& arguments, CommandLine&) {
  if (arguments["body"] != "-") return {};
  return fail(Error::Kind::bad_input, "body must say something");
}

std::vector<CommandTool> incidents() {
  const ToolArgument id{.name = "incidentId", .required = true};
  const ToolArgument severity{.name = "severity",
                              .to = "--severity",
                              .words = {"critical", "error", "warning", "info", "major", "minor", "pending"}};
  ToolArgument severity_of_new = severity;
  severity_of_new.required = true;
  const ToolArgument labels{
      .name = "labels", .help = "{key: value} or [{key, label}]", .kind = Kind::labels, .to = "--label"};
  return {
      {.name = "list_incidents",
       .description = "Lists incidents, newest first.",
       .command = "incident list",
       .arguments = {{.name = "status", .to = "--status", .words = {"active", "resolved"}},
                     {.name = "drill", .help = "only drills", .kind = Kind::flag, .to = "--drill"},
                     labels,
                     limit("10")},
       .narrow = "status, labels, limit",
       .sample = R"({"status": "active", "drill": true, "labels": {"a": "b"}, "limit": 5})"},
      {.name = "get_incident",
       .description = "An incident with its timeline.",
       .command = "incident show",
       .arguments = {{.name = "id", .required = true}},
       .sample = R"({"id": "inc-7"})"},
      {.name = "export_incident",
       .description = "An incident as Markdown: the beginning of a post-mortem.",
       .command = "incident timeline",
       .arguments = {id},
       .sample = R"({"incidentId": "inc-7"})"},
      {.name = "get_incident_context",
       .description = "What metrics, logs, alerts and events say about an incident; adds nothing to it.",
       .command = "incident enrich",
       .arguments = {id},
       .always = {"--dry-run"},
       .sample = R"({"incidentId": "inc-7"})"},
      {.name = "create_incident",
       .description = "Opens an incident, unless one of its key is open already.",
       .command = "incident create",
       .arguments = {{.name = "title", .to = "--title", .required = true},
                     severity_of_new,
                     labels,
                     {.name = "roomPrefix", .to = "--room-prefix"},
                     {.name = "isDrill", .kind = Kind::flag, .to = "--drill"},
                     {.name = "attachUrl", .to = nullptr},
                     {.name = "attachCaption", .to = nullptr},
                     {.name = "dedupKey", .help = "default: made of the title", .to = "--dedup-key"},
                     {.name = "status", .words = {"active"}, .unused = true}},
       .effect = Effect::adds,
       .compose = attached,
       .sample =
           R"({"title": "-t", "severity": "critical", "labels": {"a": "b"}, "roomPrefix": "r", "isDrill": true,
                     "attachUrl": "https://a", "attachCaption": "c", "dedupKey": "k"})"},
      {.name = "update_incident",
       .description = "Changes an incident's title, severity or status.",
       .command = "incident update",
       .arguments = {id,
                     {.name = "title", .to = "--title"},
                     severity,
                     {.name = "status", .to = "--status", .words = {"active", "resolved"}}},
       .effect = Effect::replaces,
       .sample = R"({"incidentId": "inc-7", "title": "t", "severity": "info", "status": "resolved"})"},
      {.name = "add_activity_to_incident",
       .description = "Adds a note to an incident's timeline.",
       .command = "incident note",
       .arguments = {id,
                     {.name = "body", .help = "Markdown", .required = true},
                     {.name = "eventTime", .help = "default: now", .to = "--at"}},
       .effect = Effect::adds,
       .compose = is_text,
       .sample = R"({"incidentId": "inc-7", "body": "--b", "eventTime": "now-5m"})"},
      {.name = "enrich_incident",
       .description = "Finds out what get_incident_context shows, and adds it to the timeline.",
       .command = "incident enrich",
       .arguments = {id},
       .effect = Effect::adds,
       .sample = R"({"incidentId": "inc-7"})"},
  };
}

std::vector<CommandTool> annotation_tools() {
  return {
      {.name = "get_annotations",
       .description = "Lists annotations: deploys, alerts, notes; newest first.",
       .command = "annotation list",
       .arguments = {{.name = "from", .help = "default: now-1d", .to = "--from"},
                     {.name = "to", .to = "--to"},
                     {.name = "dashboardUid", .to = "--dashboard"},
                     {.name = "panelId", .kind = Kind::integer, .to = "--panel", .least = 1},
                     {.name = "tags", .kind = Kind::texts, .to = "--tag"},
                     {.name = "matchAny", .help = "one tag is enough", .kind = Kind::flag, .to = "--any"},
                     {.name = "type", .to = "--type", .words = {"alert", "annotation"}},
                     limit("50")},
       .narrow = "a shorter range, tags, limit",
       .sample = R"({"from": 1767225600000, "to": "now", "dashboardUid": "u", "panelId": 4, "tags": ["a"],
                     "matchAny": true, "type": "alert", "limit": 5})"},
      {.name = "create_annotation",
       .description = "Marks a moment, or a time from its start to its end.",
       .command = "annotation create",
       .arguments = {{.name = "text", .required = true},
                     {.name = "time", .help = "default: now", .to = "--at"},
                     {.name = "timeEnd", .to = "--end"},
                     {.name = "tags", .kind = Kind::texts, .to = "--tag"},
                     {.name = "dashboardUid", .to = "--dashboard"},
                     {.name = "panelId", .kind = Kind::integer, .to = "--panel", .least = 1}},
       .effect = Effect::adds,
       .sample =
           R"({"text": "--t", "time": 1767225600000, "timeEnd": "now", "tags": ["a"], "dashboardUid": "u", "panelId": 4})"},
      {.name = "update_annotation",
       .description = "Changes what is named of an annotation and keeps the rest.",
       .command = "annotation update",
       .arguments = {{.name = "id", .required = true},
                     {.name = "text", .to = "--text"},
                     {.name = "tags", .help = "instead of all it has", .kind = Kind::texts, .to = "--tag"},
                     {.name = "time", .to = "--at"},
                     {.name = "timeEnd", .to = "--end"}},
       .effect = Effect::replaces,
       .sample = R"({"id": 42, "text": "t", "tags": ["a", "b"], "time": "now-1h", "timeEnd": "now"})"},
  };
}

std::vector<CommandTool> oncall_tools() {
  const ToolArgument name{.name = "name", .to = "--name"};
  const ToolArgument team{.name = "teamId", .to = "--team"};
  return {
      {.name = "get_current_oncall_users",
       .description = "Who is on call now.",
       .command = "oncall who",
       .arguments = {{.name = "scheduleId", .help = "or its name; default: each"}},
       .sample = R"({"scheduleId": "S1"})"},
      {.name = "list_oncall_schedules",
       .description = "Lists on-call schedules.",
       .command = "oncall list",
       .arguments =
           {{.name = "scheduleId", .help = "all of this one", .to = "--id"}, team, limit("50"), first_page()},
       .always = {"--kind=schedules"},
       .sample = R"({"scheduleId": "S1"})"},
      {.name = "list_oncall_users",
       .description = "Lists on-call users.",
       .command = "oncall list",
       .arguments = {{.name = "userId", .help = "all of this one", .to = "--id"},
                     {.name = "username", .to = "--name"},
                     limit("50"),
                     first_page()},
       .always = {"--kind=users"},
       .sample = R"({"username": "ann"})"},
      {.name = "list_oncall_teams",
       .description = "Lists on-call teams.",
       .command = "oncall list",
       .arguments = {limit("50"), first_page()},
       .always = {"--kind=teams"}},
      {.name = "list_alert_groups",
       .description = "Lists OnCall's groups of alerts.",
       .command = "oncall list",
       .arguments = {{.name = "state",
                      .to = "--state",
                      .words = {"new", "acknowledged", "resolved", "silenced"}},
                     team,
                     name,
                     limit("50"),
                     first_page()},
       .always = {"--kind=groups"},
       .narrow = "state, limit",
       .sample = R"({"state": "new", "teamId": "T1", "name": "n", "limit": 5})"},
      {.name = "get_alert_group",
       .description = "All of one of OnCall's groups of alerts.",
       .command = "oncall list",
       .arguments = {{.name = "alertGroupId", .to = "--id", .required = true}},
       .always = {"--kind=groups"},
       .sample = R"({"alertGroupId": "I1"})"},
      {.name = "update_alert_group",
       .description = "Acknowledges or resolves one of OnCall's groups of alerts, or takes that back.",
       .command = "alert ack",
       .arguments = {{.name = "alertGroupId", .required = true},
                     {.name = "state",
                      .to = nullptr,
                      .required = true,
                      .words = {"acknowledged", "unacknowledged", "resolved", "unresolved"}}},
       .effect = Effect::replaces,
       .compose = state_of_group,
       .sample = R"({"alertGroupId": "I1", "state": "unresolved"})"},
  };
}

}  // namespace

std::vector<CommandTool> incident_tools() {
  std::vector<CommandTool> all;
  for (auto* some : {&incidents, &annotation_tools, &oncall_tools})
    for (auto& tool : (*some)()) all.push_back(std::move(tool));
  return all;
}

}  // namespace tunnelctl
