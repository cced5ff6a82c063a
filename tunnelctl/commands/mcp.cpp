#include <unistd.h>

#include <algorithm>
#include <memory>
#include <sstream>

#include "build_info.h"
#include "tunnelctl/commands/command_line.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/mcp_tools.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/mcp/serve.h"

namespace tunnelctl {
namespace {

struct Mcp {
  bool allow_writes = false;
  double deadline_seconds = 55;
};

constexpr const char* kInstructions =
    "Grafana, Prometheus, Loki and tunneld as tunnelctl operates them. Find data sources with "
    "list_datasources and name them by uid. Times: now-1h, RFC 3339, or numbers since 1970 (11 digits: "
    "seconds, 13: milliseconds). Ask for little: short ranges, small limits; what is cut is said to be.";

/// One call: our own command line, with what this server was started with as its options.
mcp::Outcome run_tool(const CommandTool& tool, const Json& arguments, const Globals& globals,
                      const Environment& environment, std::stop_token stop) {
  auto line = command_line_of(tool, arguments);
  if (!line) return {.text = std::string(tool.name) + ": " + line.error().message, .failed = true};
  std::ostringstream out, err;
  std::istringstream in(line->input);
  Session session(out, err, environment, std::move(stop));
  session.in = &in;
  session.globals = globals;
  session.globals.output = "json";
  session.globals.quiet = true;
  session.globals.colour = "never";
  const auto status = run_command_line(line->all(), session);
  return outcome_of(tool, arguments, status, out.str(), err.str());
}

Result<ExitStatus> run(const Mcp& options, Session& session) {
  const auto all = std::make_shared<const std::vector<CommandTool>>(command_tools());
  const auto served = [&](const CommandTool& tool) {
    return options.allow_writes || tool.effect == mcp::Effect::reads;
  };
  std::vector<mcp::Tool> tools;
  for (const auto& tool : *all)
    if (served(tool))
      tools.push_back({.name = tool.name,
                       .description = tool.description,
                       .schema = schema_of(tool),
                       .effect = tool.effect,
                       .narrow = tool.narrow,
                       .call = [all, &tool, globals = session.globals, environment = session.environment()](
                                   const Json& arguments, std::stop_token stop) {
                         return run_tool(tool, arguments, globals, environment, std::move(stop));
                       }});
  mcp::ServerOptions server{
      .name = "tunnelctl",
      .version = TUNNEL_VERSION,
      .instructions = kInstructions,
      .why_not = [all](std::string_view name) -> std::string {
        const bool known =
            std::any_of(all->begin(), all->end(), [&](const auto& one) { return name == one.name; });
        return known ? "it changes something, and this server only reads; its operator can "
                       "start it with --allow-writes"
                     : "";
      }};
  server.calls.deadline =
      std::chrono::milliseconds(static_cast<std::int64_t>(options.deadline_seconds * 1000));
  session.say("tunnelctl mcp: serves " + std::to_string(tools.size()) +
              " tools on standard input and output, " +
              (options.allow_writes ? "also those that write" : "only those that read"));
  if (::isatty(STDIN_FILENO) != 0)
    session.say("this is for an assistant's program, not for a person: it wants JSON-RPC; Ctrl-D ends it");
  // The client wants its end, whether by the end of input or by a signal: both are in order.
  if (!mcp::serve(std::move(server), std::move(tools), STDIN_FILENO, STDOUT_FILENO, session.stop))
    return fail(Error::Kind::unavailable, "the client takes no more answers");
  return ExitStatus::ok;
}

}  // namespace

void add_mcp(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Mcp>();
  auto& verb = add_verb(app, chosen, "mcp",
                        "Serves these commands to an assistant, over MCP on standard input and output",
                        "  tunnelctl mcp --context prod\n"
                        "  tunnelctl mcp --context staging --allow-writes",
                        options);
  verb.add_flag("--allow-writes", options->allow_writes, "also tools that change something");
  verb.add_option("--deadline", options->deadline_seconds, "how long one call may take")
      ->type_name("SECONDS")
      ->check(CLI::Range(1.0, 600.0))
      ->capture_default_str();
}

}  // namespace tunnelctl
