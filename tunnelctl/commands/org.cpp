#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/organisations.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct OrgList {};

Result<ExitStatus> run(const OrgList&, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto list = grafana::organisations(*server);
  if (!list) return tl::unexpected(list.error());
  if (session.json()) {
    Json json = Json::array();
    for (const auto& one : *list)
      json.push_back({{"id", one.id}, {"name", one.name}, {"role", one.role}, {"current", one.current}});
    session.out << pretty({{"orgs", std::move(json)}});
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : *list)
    rows.push_back({std::to_string(one.id), terminal::harmless(one.name), one.role.empty() ? "-" : one.role,
                    one.current ? "current" : ""});
  terminal::print_table(session.out, {"ORG", "NAME", "ROLE", ""}, rows);
  return ExitStatus::ok;
}

}  // namespace

void add_org(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("org", "Organisations");
  group.require_subcommand(1);
  add_verb(group, chosen, "list", "Lists the organisations these credentials belong to",
           "  tunnelctl org list\n"
           "  tunnelctl org list --output json | jq '.orgs[] | select(.current)'",
           std::make_shared<OrgList>());
}

}  // namespace tunnelctl
