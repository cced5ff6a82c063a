#include "tunnelctl/commands/mcp_tools.h"
#include "tunnelctl/commands/packs.h"

namespace tunnelctl {
namespace {

using Kind = ToolArgument::Kind;

/// Shipped packs only: the commands also take folders, also of the name of a shipped one, and an assistant
/// shall not choose among files.
Result<void> shipped_packs(const Json& arguments, CommandLine& line) {
  for (const auto& pack : arguments.value("packs", Json(PackOptions{}.packs))) {
    const auto folder = pack::find_shipped(pack.get_ref<const std::string&>());
    if (!folder) return fail(Error::Kind::bad_input, "packs: " + folder.error().message);
    line.positional.push_back(folder->string());
  }
  return {};
}

const ToolArgument kPacks{
    .name = "packs", .help = "names of shipped packs; default: tunnel", .kind = Kind::texts, .to = nullptr};

}  // namespace

std::vector<CommandTool> tunnel_tools() {
  return {
      {.name = "tunnel_status",
       .description = "Whether tunneld serves, and how well: connections, rates, errors, breakers.",
       .command = "status",
       .answers_with = {ExitStatus::failure}},
      {.name = "tunnel_events",
       .description = "What happened to tunneld, newest last: breakers, reloads, drains, lost links.",
       .command = "events",
       .arguments = {{.name = "after",
                      .help = "only behind the event of this id",
                      .kind = Kind::integer,
                      .to = "--after",
                      .least = 0},
                     {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = "20"}},
       .narrow = "after, limit",
       .lines = "events",
       .sample = R"({"after": 12, "limit": 5})"},
      {.name = "tunnel_breakers",
       .description = "Circuit breakers of tunneld that have failures, with the reasons.",
       .command = "breakers list",
       .arguments =
           {{.name = "errors", .help = "the last errors of each, too", .kind = Kind::flag, .to = "--errors"}},
       .sample = R"({"errors": "true"})"},
      {.name = "tunnel_diagnose",
       .description = "Tests each part of the way to tunneld and names what is wrong; takes up to a minute.",
       .command = "diagnose",
       .arguments = {{.name = "service", .help = "also open this one", .to = "--service"}},
       .answers_with = {ExitStatus::failure},
       .sample = R"({"service": "ssh"})"},
      {.name = "explain_error_code",
       .description = "What an error code of tunneld means and what to do about it.",
       .command = "explain",
       .arguments = {{.name = "code", .help = "e.g. TUNNEL_015", .required = true}},
       .sample = R"({"code": "TUNNEL_015"})"},
      {.name = "monitor_plan",
       .description = "What setting up monitoring would change in Grafana; changes nothing.",
       .command = "monitor plan",
       .arguments = {kPacks},
       .narrow = "packs",
       .answers_with = {ExitStatus::changes},
       .compose = shipped_packs,
       .sample = R"({"packs": ["tunnel"]})"},
      {.name = "monitor_verify",
       .description =
           "Runs every query of the monitoring and looks at every rule, for whether there is data.",
       .command = "monitor verify",
       .arguments = {kPacks,
                     {.name = "from", .help = "default: now-1h", .to = "--from"},
                     {.name = "to", .to = "--to"}},
       .narrow = "packs",
       .answers_with = {ExitStatus::failure},
       .compose = shipped_packs,
       .sample = R"({"packs": ["tunnel"], "from": "now-2h", "to": "now"})"},
  };
}

}  // namespace tunnelctl
