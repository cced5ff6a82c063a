#pragma once

#include <iosfwd>

#include "tunneld/exit_status.h"

namespace tunneld {

/// Parses the command line and runs what it asks for: results go to `out`, talk and errors to `err`.
/// Never exits, so that tests can call it; throws only when something is broken.
ExitStatus run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace tunneld
