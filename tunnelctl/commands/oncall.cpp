#include <algorithm>
#include <map>
#include <ostream>

#include "tunnelctl/commands/alert_verbs.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/grafana/oncall.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

using grafana::OnCall;
using grafana::text_of;

struct OnCallWho {
  std::string schedule;
};

struct OnCallList {
  std::string kind = "schedules", id, state, team, name;
  std::size_t limit = 100;
};

struct AlertAck {
  std::string group;
  bool undo = false, resolve = false;
};

Result<OnCall> oncall(Session& session) {
  auto connection = session.connection();
  if (!connection) {
    session.configuration_is_wrong = true;
    return tl::unexpected(connection.error());
  }
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  return OnCall::find(*server, *connection, session.stop);
}

/// By id, else by its exact name.
Result<grafana::Schedule> schedule(OnCall& oncall, const std::string& id_or_name) {
  auto all = oncall.list("schedules", 0);
  if (!all) return tl::unexpected(all.error());
  std::string names;
  for (const auto& item : all->items) {
    auto one = grafana::schedule_of(item);
    if (one.id == id_or_name || one.name == id_or_name) return one;
    names += (names.empty() ? "" : ", ") + one.name + " (" + one.id + ")";
  }
  return fail(Error::Kind::not_found, "no schedule has the id or name \"" + id_or_name +
                                          "\"; there are: " + (names.empty() ? "none" : names));
}

Result<ExitStatus> run(const OnCallWho& options, Session& session) {
  auto api = oncall(session);
  if (!api) return tl::unexpected(api.error());
  std::vector<grafana::Schedule> schedules;
  if (options.schedule.empty()) {
    auto all = api->list("schedules", 0);
    if (!all) return tl::unexpected(all.error());
    for (const auto& item : all->items) schedules.push_back(grafana::schedule_of(item));
  } else {
    auto one = schedule(*api, options.schedule);
    if (!one) return tl::unexpected(one.error());
    schedules.push_back(std::move(*one));
  }
  // Each once, though several schedules name them.
  std::map<std::string, grafana::OnCallUser> users;
  for (const auto& one : schedules)
    for (const auto& id : one.on_call_now) {
      if (users.contains(id)) continue;
      const auto user = api->get("users", id);
      if (user)
        users[id] = grafana::oncall_user_of(*user);
      else if (user.error().kind == Error::Kind::not_found || user.error().kind == Error::Kind::denied)
        users[id] = {.id = id};  // somebody is on call, even if nobody may know more
      else
        return tl::unexpected(user.error());
    }
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : schedules) {
      Json people = Json::array();
      for (const auto& id : one.on_call_now)
        people.push_back({{"id", id}, {"username", users[id].username}, {"email", users[id].email}});
      list.push_back({{"id", one.id}, {"name", one.name}, {"on_call", std::move(people)}});
    }
    session.out << pretty({{"schedules", std::move(list)}});
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : schedules) {
    if (one.on_call_now.empty()) rows.push_back({terminal::harmless(one.name), "nobody", ""});
    for (const auto& id : one.on_call_now)
      rows.push_back({terminal::harmless(one.name),
                      terminal::harmless(users[id].username.empty() ? id : users[id].username),
                      terminal::harmless(users[id].email)});
  }
  if (!rows.empty()) terminal::print_table(session.out, {"SCHEDULE", "ON CALL", "EMAIL"}, rows);
  say_shown(session, schedules.size(), false, "schedule");
  return ExitStatus::ok;
}

/// What of each kind stands in the table; JSON has all of it.
struct Kind {
  const char* path;
  const char* noun;
  std::vector<std::string> heading;
  std::vector<const char*> members;
};

const std::map<std::string, Kind>& kinds() {
  static const std::map<std::string, Kind> all{
      {"schedules",
       {"schedules", "schedule", {"ID", "NAME", "TYPE", "TEAM"}, {"id", "name", "type", "team_id"}}},
      {"users", {"users", "user", {"ID", "NAME", "ROLE", "EMAIL"}, {"id", "username", "role", "email"}}},
      {"teams", {"teams", "team", {"ID", "NAME", "EMAIL"}, {"id", "name", "email"}}},
      {"shifts",
       {"on_call_shifts", "shift", {"ID", "NAME", "TYPE", "START"}, {"id", "name", "type", "start"}}},
      {"groups",
       {"alert_groups",
        "alert group",
        {"ID", "STATE", "CREATED", "TITLE"},
        {"id", "state", "created_at", "title"}}},
  };
  return all;
}

Result<ExitStatus> run(const OnCallList& options, Session& session) {
  const auto& kind = kinds().at(options.kind);
  if (!options.state.empty() && options.kind != "groups")
    return fail(Error::Kind::bad_input, "--state: only groups have one; say --kind groups");
  auto api = oncall(session);
  if (!api) return tl::unexpected(api.error());
  if (!options.id.empty()) {
    const auto one = api->get(kind.path, options.id);
    if (!one) return tl::unexpected(one.error());
    session.out << pretty(*one);
    return ExitStatus::ok;
  }
  const auto found = api->list(kind.path, options.limit,
                               {{"state", options.state},
                                {"team_id", options.team},
                                {options.kind == "users" ? "username" : "name", options.name}});
  if (!found) return tl::unexpected(found.error());
  if (session.json()) {
    session.out << pretty({{options.kind, found->items}, {"more", found->more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& item : found->items) {
      std::vector<std::string> row;
      for (const char* name : kind.members) row.push_back(terminal::harmless(text_of(item, name)));
      rows.push_back(std::move(row));
    }
    if (!rows.empty()) terminal::print_table(session.out, kind.heading, rows);
  }
  say_shown(session, found->items.size(), found->more, kind.noun);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AlertAck& options, Session& session) {
  auto api = oncall(session);
  if (!api) {
    if (api.error().kind != Error::Kind::not_found) return tl::unexpected(api.error());
    return fail(Error::Kind::not_found,
                api.error().message +
                    ", so nothing there can be acknowledged; to stop the notifications say: tunnelctl alert "
                    "silence create --rule UID --for 2h");
  }
  using grafana::GroupStep;
  const auto step = options.resolve ? (options.undo ? GroupStep::unresolve : GroupStep::resolve)
                                    : (options.undo ? GroupStep::unacknowledge : GroupStep::acknowledge);
  if (auto done = api->step(options.group, step); !done) return tl::unexpected(done.error());
  const auto json = api->get("alert_groups", options.group);
  if (!json) return tl::unexpected(json.error());
  const auto group = grafana::alert_group_of(*json);
  if (session.json()) session.out << pretty(*json);
  session.say("alert group " + group.id + " \"" + terminal::harmless(group.title) + "\" is now " +
              terminal::harmless(group.state));
  return ExitStatus::ok;
}

}  // namespace

void add_alert_ack(CLI::App& alert, Chosen& chosen) {
  auto options = std::make_shared<AlertAck>();
  auto& verb = add_verb(alert, chosen, "ack",
                        "Acknowledges a group of alerts, where Grafana has OnCall: somebody works on it",
                        "  tunnelctl alert ack I68T24C13IFW1\n"
                        "  tunnelctl alert ack I68T24C13IFW1 --resolve",
                        options);
  verb.add_option("group", options->group, "its id, as tunnelctl oncall list --kind groups shows it")
      ->required()
      ->type_name("ID");
  verb.add_flag("--resolve", options->resolve, "resolve it instead");
  verb.add_flag("--undo", options->undo, "take that back");
}

void add_oncall(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("oncall", "Who is on call, where Grafana has OnCall (IRM)");
  group.require_subcommand(1);
  {
    auto options = std::make_shared<OnCallWho>();
    add_verb(
        group, chosen, "who", "Shows who is on call now",
        "  tunnelctl oncall who\n"
        "  tunnelctl oncall who \"Platform primary\" --output json | jq -r '.schedules[].on_call[].email'",
        options)
        .add_option("schedule", options->schedule, "of this schedule; default: of each")
        ->type_name("ID|NAME");
  }
  {
    auto options = std::make_shared<OnCallList>();
    auto& verb = add_verb(group, chosen, "list", "Lists schedules, users, teams, shifts or groups of alerts",
                          "  tunnelctl oncall list --kind groups --state new\n"
                          "  tunnelctl oncall list --kind users --name ann --output json",
                          options);
    verb.add_option("--kind", options->kind, "schedules, users, teams, shifts or groups")
        ->check(CLI::IsMember({"schedules", "users", "teams", "shifts", "groups"}))
        ->type_name("KIND")
        ->capture_default_str();
    verb.add_option("--id", options->id, "all of this one, as JSON")->type_name("ID");
    verb.add_option("--state", options->state, "only groups in this state")
        ->check(CLI::IsMember({"new", "acknowledged", "resolved", "silenced"}))
        ->type_name("STATE");
    verb.add_option("--team", options->team, "only those of this team")->type_name("ID");
    verb.add_option("--name", options->name, "only those of this name")->type_name("NAME");
    add_limit(verb, options->limit);
  }
}

}  // namespace tunnelctl
