#include "tunnelctl/cli.h"

#include <functional>
#include <ostream>
#include <string>

#include <CLI/CLI.hpp>

#include "build_info.h"
#include "common/result.h"
#include "tunnelctl/commands/error_pages.h"
#include "tunnelctl/commands/explain.h"

namespace tunnelctl {
namespace {

constexpr const char* kFooter =
    "Exit status:\n"
    "  0   done\n"
    "  1   failed; the line on stderr says why\n"
    "  2   the command line makes no sense\n"
    "  69  the other side is unavailable\n"
    "  75  gave up waiting; later may work\n"
    "  77  not signed in, or not allowed\n"
    "  78  the configuration is wrong";

ExitStatus finish(const Result<void>& result, std::ostream& out, std::ostream& err) {
  if (!result) {
    err << "tunnelctl: " << result.error().message << '\n';
    return exit_status(result.error().kind);
  }
  // A full disk or a closed pipe must not look like an answer.
  if (!out.flush()) {
    err << "tunnelctl: the output could not be written\n";
    return ExitStatus::failure;
  }
  return ExitStatus::ok;
}

}  // namespace

ExitStatus run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app{"Operates tunneld and watches over it.", "tunnelctl"};
  app.set_version_flag("--version", std::string("tunnelctl ") + TUNNEL_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);

  std::function<Result<void>()> command;

  Explain explain_options;
  auto* explain_command =
      app.add_subcommand("explain", "Says what an error code means and what to do about it");
  explain_command->add_option("code", explain_options.code, "the code, e.g. TUNNEL_015")->required();
  explain_command->callback([&] { command = [&] { return explain(explain_options, error_pages(), out); }; });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version arrive here too, as status 0.
    const int status = app.exit(error, out, err);
    return status == 0 ? finish({}, out, err) : ExitStatus::usage;
  }
  return finish(command(), out, err);
}

}  // namespace tunnelctl
