#pragma once

#include <sstream>
#include <stop_token>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/groups.h"

/// A command line, run to its end inside the test.
namespace support {

struct Ended {
  tunnelctl::ExitStatus status;
  std::string out, err;
};

inline Ended call(std::vector<std::string> arguments, tunnelctl::Environment environment = {},
                  std::stop_token stop = {}) {
  std::ostringstream out, err;
  // Nothing of whoever runs the test.
  environment.emplace_back("XDG_CONFIG_HOME", "/nonexistent");
  environment.emplace_back("XDG_RUNTIME_DIR", "/nonexistent");
  tunnelctl::Session session(out, err, std::move(environment), std::move(stop));
  CLI::App app;
  tunnelctl::Chosen chosen;
  tunnelctl::build(app, session.globals, chosen);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    app.exit(error, out, err);
    return {tunnelctl::ExitStatus::usage, out.str(), err.str()};
  }
  const auto result = chosen.run(session);
  if (!result) err << result.error().message << '\n';
  return {result ? *result : tunnelctl::exit_status(result.error().kind), out.str(), err.str()};
}

}  // namespace support
