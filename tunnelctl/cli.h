#pragma once

#include <iosfwd>
#include <stop_token>

#include "tunnelctl/commands/exit_status.h"

namespace tunnelctl {

/// Parses the command line and runs what it asks for: results go to `out`, talk and errors to `err`. A
/// requested stop ends it soon, after what was begun has been put back. Never exits, so that tests can call
/// it; throws only when something is broken.
ExitStatus run(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
               std::stop_token stop = {});

}  // namespace tunnelctl
