#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct AgentsList {};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text.append(text.empty() ? "" : " ").append(terminal::harmless(name));
  return text.empty() ? "-" : text;
}

Result<ExitStatus> run(const AgentsList&, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  const auto list = admin->agents();
  if (!list) return tl::unexpected(list.error());
  if (session.json()) {
    daemon::Json json = daemon::Json::array();
    for (const auto& one : *list)
      json.push_back({{"agentId", one.id},
                      {"principal", one.principal},
                      {"peer", one.peer},
                      {"user", one.user},
                      {"hostKey", one.host_key},
                      {"services", one.services},
                      {"sessions", one.sessions},
                      {"since", one.since}});
    session.out << daemon::Json{{"agents", json}}.dump(2, ' ', false, daemon::Json::error_handler_t::replace)
                << '\n';
    return ExitStatus::ok;
  }
  if (list->empty()) {
    session.say("no agent is connected; tunnelctl agent makes one, see docs/agents.md");
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : *list)
    rows.push_back({terminal::harmless(one.id), joined(one.services), terminal::harmless(one.principal),
                    terminal::harmless(one.peer), std::to_string(one.sessions),
                    terminal::harmless(one.since)});
  terminal::print_table(session.out, {"AGENT", "SERVICES", "OWNER", "FROM", "SESSIONS", "SINCE"}, rows);
  return ExitStatus::ok;
}

}  // namespace

void add_agents(CLI::App& app, Chosen& chosen) {
  add_verb(app, chosen, "agents", "Lists the agents that are connected to tunneld, and their services",
           "  tunnelctl agents\n  tunnelctl agents --output json | jq -r '.agents[].agentId'",
           std::make_shared<AgentsList>());
}

}  // namespace tunnelctl
