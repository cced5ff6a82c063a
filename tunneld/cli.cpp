#include "tunneld/cli.h"

#include <cstdlib>
#include <functional>
#include <ostream>
#include <string>

#include <CLI/CLI.hpp>

#include "tunneld/commands.h"

namespace tunneld {
namespace {

constexpr const char* kFooter =
    "Exit status:\n"
    "  0   done; for serve: drained\n"
    "  1   failed, or ended at once by a second signal\n"
    "  2   the command line makes no sense\n"
    "  69  unavailable: an address or the state directory is in use, a disk is full\n"
    "  75  took too long; later may work\n"
    "  77  a file or address that this user may not use\n"
    "  78  the configuration is wrong; the message names file, line and key";

/// One line each, with the program's name, so that it can be told apart in a journal.
ExitStatus report(const Error& error, std::ostream& err) {
  std::string_view rest = error.message;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    err << "tunneld: " << rest.substr(0, end) << '\n';
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return exit_status(error.kind);
}

ExitStatus finish(const Result<void>& result, std::ostream& out, std::ostream& err) {
  if (!result) return report(result.error(), err);
  // A full disk or a closed pipe must not look like an answer.
  if (!out.flush()) {
    err << "tunneld: the output could not be written\n";
    return ExitStatus::failure;
  }
  return ExitStatus::ok;
}

void add_config_flags(CLI::App& command, ConfigSource& source) {
  command.add_option_function<std::string>(
      "-c,--config", [&source](const std::string& file) { source.file = file; },
      "Configuration file (YAML). Default: $TUNNELD_CONFIG, else embedded defaults.");
  command
      .add_option("--set", source.overrides,
                  "One setting, key=value; wins over the file and the environment. Not for secrets.")
      ->allow_extra_args(false)
      ->take_all();
}

void add_token_flags(CLI::App& command, TokenCreate& options) {
  command.add_option("--subject", options.subject, "Who the token speaks for.")->required();
  command.add_option("--tier", options.tier, "free, premium or enterprise.")->capture_default_str();
  command.add_option("--scope", options.scopes, "A scope, e.g. tunnel:admin; may be repeated.")
      ->allow_extra_args(false)
      ->take_all();
  command.add_option("--expires", options.expires, "Lifetime, 1s to 24h.")->capture_default_str();
  command.add_option("--audience", options.audience, "aud; default auth.audience.");
}

}  // namespace

ExitStatus run(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app{"Carries HTTP and TCP streams to services behind SSH.", "tunneld"};
  app.footer(kFooter);
  bool version = false;
  bool dependencies = false;
  app.add_flag("--version", version, "Print the version.");
  app.add_flag("--deps", dependencies, "With --version: the libraries and their versions too.")
      ->needs("--version");

  ConfigSource source;
  if (const char* file = std::getenv("TUNNELD_CONFIG"); file != nullptr && *file != '\0') source.file = file;
  std::function<ExitStatus()> command;

  auto* serve_command = app.add_subcommand("serve", "Runs the daemon in the foreground.");
  add_config_flags(*serve_command, source);
  serve_command->callback([&] {
    command = [&] {
      auto end = serve(source);
      return end ? ExitStatus::ok : report(end.error(), err);
    };
  });

  auto* check_command = app.add_subcommand("check-config", "Says whether the configuration is good.");
  add_config_flags(*check_command, source);
  check_command->callback(
      [&] { command = [&] { return finish(check_config(source, out, err), out, err); }; });

  auto* reference_command = app.add_subcommand("config-reference", "Prints every setting as Markdown.");
  reference_command->callback([&] { command = [&] { return finish(config_reference(out), out, err); }; });

  TokenCreate token_options;
  auto* token_command = app.add_subcommand("token", "Tokens of the local issuer.");
  token_command->require_subcommand(1);
  auto* create_command = token_command->add_subcommand("create", "Prints a new token.");
  add_config_flags(*create_command, source);
  add_token_flags(*create_command, token_options);
  create_command->callback(
      [&] { command = [&] { return finish(create_token(source, token_options, out), out, err); }; });

  auto* key_command =
      app.add_subcommand("ssh-key", "Prints the line that upstreams put into authorized_keys.");
  add_config_flags(*key_command, source);
  bool next_key = false, rotate_key = false;
  auto* next_flag =
      key_command->add_flag("--next", next_key, "The key that is to follow; made when missing.");
  key_command
      ->add_flag("--rotate", rotate_key, "Puts the next key in the place of tunneld's, for its next start.")
      ->excludes(next_flag);
  key_command->callback([&] {
    command = [&] {
      const auto which = rotate_key ? SshKey::rotate : next_key ? SshKey::next : SshKey::current;
      return finish(print_ssh_key(source, which, out, err), out, err);
    };
  });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help arrives here too, as status 0.
    return app.exit(error, out, err) == 0 ? finish({}, out, err) : ExitStatus::usage;
  }
  if (version) {
    print_version(dependencies, out);
    if (dependencies) out << "CLI11 " << CLI11_VERSION << '\n';
    return finish({}, out, err);
  }
  if (!command) {
    err << app.help();
    return ExitStatus::usage;
  }
  return command();
}

}  // namespace tunneld
