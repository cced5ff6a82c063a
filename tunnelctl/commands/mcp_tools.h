#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/commands/exit_status.h"
#include "tunnelctl/mcp/tool.h"

/// The tools of `tunnelctl mcp`: each is one of our command lines, told as an assistant tells it. Names and
/// arguments are those of Grafana's MCP server where it has the tool, so that prompts for one serve for both.
namespace tunnelctl {

using Json = nlohmann::json;

/// One argument of a tool, and where its value stands on the command line.
struct ToolArgument {
  enum class Kind {
    text,
    integer,
    number,
    flag,
    texts,
    object,
    objects,
    labels,     // {KEY: VALUE}, or [{key, label}] as incidents have them, or texts
    selectors,  // texts, or [{filters: [{name, type, value}]}] as Grafana's MCP server has them
  };
  const char* name = "";
  const char* help = "";  // empty where the name says it
  Kind kind = Kind::text;
  /// "--limit": the value of that option, for each item of a list; of an object "NAME=VALUE" each. A flag is
  /// that word. "" is the next positional word; nullptr: `compose` sees to it.
  const char* to = "";
  bool required = false;
  std::vector<const char*> words{};    // the only values
  std::optional<int> least{}, most{};  // the same number: the only value
  const char* fallback = nullptr;      // said to the command when the assistant says nothing
  /// Grafana's MCP server has it, and calls that were written for that shall pass; here it does nothing.
  /// Where it is no word and no number that changes nothing anyway, the answer says that it was not used.
  bool unused = false;
};

/// What is run.
struct CommandLine {
  std::vector<std::string> words{};       // the command and its options
  std::vector<std::string> positional{};  // what stands behind "--"
  std::string input{};                    // what the file "-" holds

  /// All behind "tunnelctl".
  std::vector<std::string> all() const;
};

struct CommandTool {
  const char* name = "";
  const char* description = "";
  const char* command = "";  // "datasource list"
  std::vector<ToolArgument> arguments{};
  mcp::Effect effect = mcp::Effect::reads;
  std::vector<const char*> always{};  // more words, e.g. "--yes"
  const char* narrow = "";            // how to get less
  /// Exit statuses other than 0 with which it has answered, e.g. what is degraded.
  std::vector<ExitStatus> answers_with{};
  /// The name of a list that the lines of output become, when each is a JSON value of its own.
  const char* lines = nullptr;
  /// Changes the command line that the rows make; gets the arguments. Fails with bad_input.
  Result<void> (*compose)(const Json& arguments, CommandLine& line) = nullptr;
  /// Makes another answer of the command's.
  Json (*shape)(const Json& arguments, const Json& answer) = nullptr;
  /// Arguments for which the test parses the command line against the real commands.
  const char* sample = "{}";
};

/// The pages that Grafana's MCP server counts: only the first is there, and `limit` makes it longer.
inline ToolArgument first_page() {
  return {.name = "page", .kind = ToolArgument::Kind::integer, .least = 1, .most = 1, .unused = true};
}
inline ToolArgument from_the_first() {
  return {.name = "offset", .kind = ToolArgument::Kind::integer, .least = 0, .most = 0, .unused = true};
}

/// Every tool, in the order of the list.
std::vector<CommandTool> command_tools();
std::vector<CommandTool> datasource_tools();
std::vector<CommandTool> metric_tools();
std::vector<CommandTool> log_tools();
std::vector<CommandTool> dashboard_tools();
std::vector<CommandTool> alert_tools();
std::vector<CommandTool> incident_tools();
std::vector<CommandTool> tunnel_tools();

/// The JSON schema of its arguments.
Json schema_of(const CommandTool& tool);

/// The command line for arguments that fit the schema; `compose` does not see those that are unused. No value
/// can become an option: each stands behind "=" in the word of its own option, or behind "--". An empty text
/// is as good as not given. Fails with bad_input.
Result<CommandLine> command_line_of(const CommandTool& tool, const Json& arguments);

/// Whether it may stand in a selector without quotes.
bool is_label_name(std::string_view name);
/// As PromQL and LogQL quote it.
std::string quoted(const std::string& text);

/// What the run of a command means for the assistant.
mcp::Outcome outcome_of(const CommandTool& tool, const Json& arguments, ExitStatus status, std::string out,
                        const std::string& err);

}  // namespace tunnelctl
