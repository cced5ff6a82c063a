#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/commands/session.h"

namespace tunnelctl {

/// Parses the words after the program's name: options that every command has go to `session.globals`, over
/// what is there already, and the command to `chosen`. Returns how the program ends when there is nothing to
/// run: help and version were printed, or the words make no sense and it was said why.
std::optional<ExitStatus> parse(const std::vector<std::string>& words, Session& session, Chosen& chosen);

/// Parses and runs them: results go to `session.out`, talk and errors to `session.err`. Throws only when
/// something is broken. Several may run at once, each with a session of its own.
ExitStatus run_command_line(const std::vector<std::string>& words, Session& session);

}  // namespace tunnelctl
