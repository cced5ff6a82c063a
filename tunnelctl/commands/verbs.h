#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/result.h"
#include "tunnelctl/commands/session.h"

/// What the commands that work on single objects share.
namespace tunnelctl {

using Json = nlohmann::json;

/// Adds a command whose `run(const Options&, Session&)` stands beside its Options. `examples`: one line each.
template <class Options>
CLI::App& add_verb(CLI::App& group, Chosen& chosen, const char* name, const char* help, const char* examples,
                   std::shared_ptr<Options> options) {
  CLI::App* verb = group.add_subcommand(name, help);
  verb->footer(std::string("Examples:\n") + examples);
  verb->callback(
      [options, &chosen] { chosen.run = [options](Session& session) { return run(*options, session); }; });
  return *verb;
}

/// Says why nothing was done, and how the program ends for it.
ExitStatus refuse(Session& session, ExitStatus status, std::string_view why);

/// nullopt when `yes`, or when a person at a terminal agrees to "<what> [y/N]"; else how the program ends.
std::optional<ExitStatus> unless_confirmed(Session& session, bool yes, const std::string& what);

/// How an input is called in messages.
std::string name_of_input(const std::string& path);

/// Of a file, or of `session.in` for "-". Errors: "board.json:3:14: is not valid JSON: ...".
Result<Json> read_json(const std::string& path, Session& session);
/// Whole or not at all: written beside it and renamed.
Result<void> write_file(const std::filesystem::path& path, std::string_view text);

/// Indented, with a line's end.
std::string pretty(const Json& json);

/// Fails with not_found when a list is empty because the folder that it was asked for does not exist: the
/// server says nothing then.
Result<void> folder_exists(grafana::Server& server, const std::string& uid);

/// "shown 100 dashboards, more exist (--limit 0 shows all)", or "2 dashboards".
void say_shown(const Session& session, std::size_t shown, bool more, const char* noun);

/// --limit, the same everywhere.
void add_limit(CLI::App& verb, std::size_t& limit);

}  // namespace tunnelctl
