#include "tunnelctl/commands/command_line.h"

#include <ostream>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/groups.h"

namespace tunnelctl {
namespace {

ExitStatus finish(const Result<ExitStatus>& result, Session& session) {
  session.progress("");
  if (!result) {
    session.err << "tunnelctl: " << result.error().message << '\n';
    const bool wrong_configuration =
        session.configuration_is_wrong && result.error().kind == Error::Kind::bad_input;
    return wrong_configuration ? ExitStatus::config : exit_status(result.error().kind);
  }
  // A full disk or a closed pipe must not look like an answer.
  if (!session.out.flush()) {
    session.err << "tunnelctl: the output could not be written\n";
    return ExitStatus::failure;
  }
  return *result;
}

}  // namespace

std::optional<ExitStatus> parse(const std::vector<std::string>& words, Session& session, Chosen& chosen) {
  CLI::App app{"Operates tunneld and watches over it.", "tunnelctl"};
  build(app, session.globals, chosen);
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    // Help and version arrive here too, as status 0.
    const int status = app.exit(error, session.out, session.err);
    return status == 0 ? ExitStatus::ok : ExitStatus::usage;
  }
  return std::nullopt;
}

ExitStatus run_command_line(const std::vector<std::string>& words, Session& session) {
  Chosen chosen;
  if (const auto ended = parse(words, session, chosen))
    return *ended == ExitStatus::ok ? finish(ExitStatus::ok, session) : *ended;
  return finish(chosen.run(session), session);
}

}  // namespace tunnelctl
