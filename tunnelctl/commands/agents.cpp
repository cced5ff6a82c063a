#include <ostream>

#include "common/http_access.h"
#include "common/http_client.h"
#include "common/strict_json.h"
#include "tunnelctl/client/agent_state.h"
#include "tunnelctl/client/agent_world.h"
#include "tunnelctl/client/server.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

constexpr std::size_t kMaxAnswer = 64 * 1024;

struct AgentsList {};
struct AgentsForget {
  std::string id;
  std::string owner;
  std::string server;
};

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
                      {"connections", one.connections},
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
                    terminal::harmless(one.peer), std::to_string(one.connections),
                    std::to_string(one.sessions), terminal::harmless(one.since)});
  terminal::print_table(session.out,
                        {"AGENT", "SERVICES", "OWNER", "FROM", "CONNECTIONS", "SESSIONS", "SINCE"}, rows);
  return ExitStatus::ok;
}

/// Of the token's own principal, where agents and callers connect to.
Result<void> forget_own(const AgentsForget& options, Session& session) {
  auto server = session.server(options.server);
  if (!server) return tl::unexpected(server.error());
  const auto token = client::read_token(*server);
  if (!token) return tl::unexpected(token.error());
  const auto http = http::Client::make(client::http_options(*server));
  if (!http) return tl::unexpected(http.error());
  http::Request request;
  request.method = "DELETE";
  request.url = client::http_url(server->url) + "/api/tunnel/agents/" + options.id;
  request.headers.push_back({"Authorization", "Bearer " + std::string(token->reveal())});
  const auto answer = http->send(request, session.stop);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 204) return {};
  const auto json = parse_strict_json(answer->body, kMaxAnswer);
  const auto said = json ? daemon::Json(*json).value(daemon::Json::json_pointer("/error/message"), "") : "";
  const auto text = http::shown(request) + ": " + std::to_string(answer->status) +
                    (said.empty() ? "; is this a tunneld?" : ": " + http::one_line(said));
  switch (answer->status) {
    case 401:
    case 403: return fail(Error::Kind::denied, text + "; the token must be one of the agent's owner");
    case 404: return fail(Error::Kind::not_found, text);
    default: return fail(Error::Kind::unavailable, text);
  }
}

Result<void> forget_as_operator(const AgentsForget& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  return admin->forget_agent(options.owner, options.id);
}

Result<ExitStatus> run(const AgentsForget& options, Session& session) {
  if (!client::is_agent_id(options.id))
    return refuse(session, ExitStatus::usage,
                  "an agent's name has 1 to 63 small letters, digits and hyphens, as in laptop or room-4");
  const auto done =
      options.owner.empty() ? forget_own(options, session) : forget_as_operator(options, session);
  if (!done && done.error().kind == Error::Kind::not_found)
    return fail(Error::Kind::bad_input, done.error().message + "; is that its name, and its owner?");
  if (!done) return tl::unexpected(done.error());
  if (session.json())
    session.out << daemon::Json{{"agentId", options.id}, {"forgotten", true}}.dump(2) << '\n';
  else
    session.out << options.id << " forgotten: its next connection may show another host key\n";
  return ExitStatus::ok;
}

}  // namespace

void add_agents(CLI::App& app, Chosen& chosen) {
  CLI::App& group =
      *app.add_subcommand("agents", "Agents that are connected to tunneld; without a command: lists them");
  const auto list = std::make_shared<AgentsList>();
  add_verb(group, chosen, "list", "Lists the agents that are connected to tunneld, and their services",
           "  tunnelctl agents list\n  tunnelctl agents list --output json | jq -r '.agents[].agentId'",
           list);
  auto forget = std::make_shared<AgentsForget>();
  auto& forgetting =
      add_verb(group, chosen, "forget",
               "Makes tunneld forget an agent's host key, so that a machine set up anew may use the name",
               "  tunnelctl agents forget laptop --server wss://tunnel.example.org   # one's own\n"
               "  tunnelctl agents forget laptop --owner 0123456789abcdef   # an operator, of any owner",
               forget);
  forgetting.add_option("id", forget->id, "the agent's name")->required();
  forgetting
      .add_option("--owner", forget->owner,
                  "whose agent, as tunnelctl agents and the log show it; over the admin listener")
      ->type_name("HASH");
  forgetting
      .add_option("--server", forget->server,
                  "tunneld's address, for one's own (TUNNEL_SERVER, or the context's server_url)")
      ->type_name("URL");
  // Parents come last.
  group.callback([&group, &chosen, list] {
    if (group.get_subcommands().empty())
      chosen.run = [list](Session& session) { return run(*list, session); };
  });
}

}  // namespace tunnelctl
