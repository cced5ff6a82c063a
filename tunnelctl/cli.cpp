#include "tunnelctl/cli.h"

#include <ostream>

#include <CLI/CLI.hpp>

#include "common/config_file.h"
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

ExitStatus run(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
               std::stop_token stop) {
  Session session(out, err, config::process_environment(), std::move(stop));
  CLI::App app{"Operates tunneld and watches over it.", "tunnelctl"};
  Chosen chosen;
  build(app, session.globals, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version arrive here too, as status 0.
    const int status = app.exit(error, out, err);
    return status == 0 ? finish(ExitStatus::ok, session) : ExitStatus::usage;
  }
  return finish(chosen.run(session), session);
}

}  // namespace tunnelctl
