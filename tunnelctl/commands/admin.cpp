#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/administration.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct AdminUsers {};

struct AdminTeams {
  std::string part;
  std::size_t limit = 100;
};

struct AdminServiceAccounts : AdminTeams {};

struct AdminRoles {
  std::string uid;
  bool assignments = false, delegatable = false;
  std::vector<std::int64_t> users, teams;
};

struct AdminPermissions {
  std::string resource, id;
};

std::string cell(const Json& item, const char* name) {
  const Json& value = grafana::member(item, name);
  if (value.is_null()) return "";
  return terminal::harmless(value.is_string() ? value.get<std::string>() : value.dump());
}

ExitStatus show(const grafana::Listed& found, const char* plural, const char* noun,
                const std::vector<std::string>& heading, const std::vector<const char*>& members,
                Session& session) {
  if (session.json()) {
    session.out << pretty({{plural, found.items}, {"more", found.more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& item : found.items) {
      std::vector<std::string> row;
      for (const char* name : members) row.push_back(cell(item, name));
      rows.push_back(std::move(row));
    }
    if (!rows.empty()) terminal::print_table(session.out, heading, rows);
  }
  say_shown(session, found.items.size(), found.more, noun);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AdminUsers&, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto found = grafana::org_users(*server);
  if (!found) return tl::unexpected(found.error());
  return show(*found, "users", "user", {"ID", "LOGIN", "ROLE", "LAST SEEN", "EMAIL"},
              {"userId", "login", "role", "lastSeenAt", "email"}, session);
}

Result<ExitStatus> run(const AdminTeams& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto found = grafana::teams(*server, options.part, options.limit);
  if (!found) return tl::unexpected(found.error());
  return show(*found, "teams", "team", {"ID", "UID", "MEMBERS", "EMAIL", "NAME"},
              {"id", "uid", "memberCount", "email", "name"}, session);
}

Result<ExitStatus> run(const AdminServiceAccounts& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto found = grafana::service_accounts(*server, options.part, options.limit);
  if (!found) return tl::unexpected(found.error());
  return show(*found, "service_accounts", "service account", {"ID", "ROLE", "TOKENS", "NAME"},
              {"id", "role", "tokens", "name"}, session);
}

Result<ExitStatus> run(const AdminRoles& options, Session& session) {
  const auto questions =
      (options.uid.empty() ? 0 : 1) + (options.users.empty() ? 0 : 1) + (options.teams.empty() ? 0 : 1);
  if (questions > 1) return fail(Error::Kind::bad_input, "say one of UID, --user and --team");
  if (options.assignments && options.uid.empty())
    return fail(Error::Kind::bad_input, "--assignments: of which role? name its uid");
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto answer =
      !options.uid.empty()     ? grafana::role(*server, options.uid, options.assignments)
      : !options.users.empty() ? grafana::roles_of(*server, grafana::Holders::users, options.users)
      : !options.teams.empty() ? grafana::roles_of(*server, grafana::Holders::teams, options.teams)
                               : grafana::roles(*server, options.delegatable);
  if (!answer) return tl::unexpected(answer.error());
  session.out << pretty(*answer);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AdminPermissions& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto answer = options.id.empty()
                          ? grafana::resource_description(*server, options.resource)
                          : grafana::resource_permissions(*server, options.resource, options.id);
  if (!answer) return tl::unexpected(answer.error());
  session.out << pretty(*answer);
  return ExitStatus::ok;
}

}  // namespace

void add_grafana_admin(CLI::App& app, Chosen& chosen) {
  CLI::App& group =
      *app.add_subcommand("admin", "Grafana's users, teams, roles and permissions: who may do what");
  group.require_subcommand(1);
  add_verb(group, chosen, "users", "Lists the users of the organisation",
           "  tunnelctl admin users\n"
           "  tunnelctl admin users --output json | jq -r '.users[] | select(.role == \"Admin\").login'",
           std::make_shared<AdminUsers>());
  {
    auto options = std::make_shared<AdminTeams>();
    auto& verb = add_verb(group, chosen, "teams", "Lists teams",
                          "  tunnelctl admin teams\n"
                          "  tunnelctl admin teams --name platform --output json",
                          options);
    verb.add_option("--name", options->part, "only those with this in their name")->type_name("TEXT");
    add_limit(verb, options->limit);
  }
  {
    auto options = std::make_shared<AdminServiceAccounts>();
    auto& verb = add_verb(group, chosen, "service-accounts", "Lists service accounts",
                          "  tunnelctl admin service-accounts\n"
                          "  tunnelctl admin service-accounts --name tunnelctl --output json",
                          options);
    verb.add_option("--name", options->part, "only those with this in their name")->type_name("TEXT");
    add_limit(verb, options->limit);
  }
  {
    auto options = std::make_shared<AdminRoles>();
    auto& verb = add_verb(group, chosen, "roles", "Prints roles, where Grafana has them (Enterprise, Cloud)",
                          "  tunnelctl admin roles --delegatable\n"
                          "  tunnelctl admin roles fixed:dashboards:writer --assignments\n"
                          "  tunnelctl admin roles --user 3 --user 4",
                          options);
    verb.add_option("uid", options->uid, "this role; default: all")->type_name("UID");
    verb.add_flag("--assignments", options->assignments, "who has it");
    verb.add_flag("--delegatable", options->delegatable, "only those that the caller may give to others");
    verb.add_option("--user", options->users, "those of this user; several: of each")
        ->allow_extra_args(false)
        ->type_name("NUMBER");
    verb.add_option("--team", options->teams, "those of this team; several: of each")
        ->allow_extra_args(false)
        ->type_name("NUMBER");
  }
  {
    auto options = std::make_shared<AdminPermissions>();
    auto& verb = add_verb(group, chosen, "permissions",
                          "Prints who may do what with one thing, or what can be permitted with its kind",
                          "  tunnelctl admin permissions folders tunnel-monitoring\n"
                          "  tunnelctl admin permissions dashboards",
                          options);
    verb.add_option("resource", options->resource, "its kind: folders, dashboards, datasources, teams, ...")
        ->required()
        ->type_name("KIND");
    verb.add_option("id", options->id, "its uid; default: what can be permitted at all")->type_name("UID");
  }
}

}  // namespace tunnelctl
