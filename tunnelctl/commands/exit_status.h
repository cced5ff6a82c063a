#pragma once

#include "common/result.h"

namespace tunnelctl {

/// How tunnelctl ends, for scripts. The numbers from 64 on are sysexits.h's, which systemd and mail systems
/// also give these meanings.
enum class ExitStatus : int {
  ok = 0,             ///< done; for a query: the answer was printed; for a plan: there is nothing to do
  failure = 1,        ///< it was tried and did not work; the line on stderr says why
  changes = 2,        ///< `monitor plan`: something would change
  usage = 64,         ///< the command line makes no sense; nothing was tried
  bad_input = 65,     ///< a file or an argument is wrong; nothing was changed
  unavailable = 69,   ///< the other side cannot be reached or says it cannot serve
  conflict = 73,      ///< the thing belongs to somebody else, or was changed meanwhile; nothing was changed
  gave_up = 75,       ///< tried until the time was over; trying again later may work
  denied = 77,        ///< not signed in, or not allowed to
  config = 78,        ///< the configuration is wrong; the line on stderr names file, line and key
  interrupted = 130,  ///< stopped by Ctrl-C or SIGTERM; what was begun was put back
};

/// The one table from what went wrong to how the program ends.
constexpr ExitStatus exit_status(Error::Kind kind) {
  switch (kind) {
    case Error::Kind::bad_input: return ExitStatus::bad_input;
    case Error::Kind::unavailable: return ExitStatus::unavailable;
    case Error::Kind::timed_out: return ExitStatus::gave_up;
    case Error::Kind::denied: return ExitStatus::denied;
    case Error::Kind::cancelled: return ExitStatus::interrupted;
    case Error::Kind::not_found:
    case Error::Kind::bug: return ExitStatus::failure;
  }
  return ExitStatus::failure;
}

}  // namespace tunnelctl
