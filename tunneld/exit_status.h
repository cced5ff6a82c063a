#pragma once

#include "common/result.h"

namespace tunneld {

/// How tunneld ends, for scripts and service managers. Numbers from 64 on are those of sysexits.h.
enum class ExitStatus : int {
  ok = 0,            // done; for serve: drained, nothing was cut
  failure = 1,       // a second signal, or a bug
  usage = 2,         // the command line makes no sense
  unavailable = 69,  // an address or the state directory is in use, or a file system is full
  gave_up = 75,      // took too long; later may work
  denied = 77,       // a file or address that this user may not use
  config = 78,       // the configuration is wrong; the message names file, line and key
};

/// The one table from what went wrong to how the program ends. A missing file is one that the
/// configuration names.
constexpr ExitStatus exit_status(Error::Kind kind) {
  switch (kind) {
    case Error::Kind::bad_input:
    case Error::Kind::not_found: return ExitStatus::config;
    case Error::Kind::denied: return ExitStatus::denied;
    case Error::Kind::unavailable: return ExitStatus::unavailable;
    case Error::Kind::timed_out: return ExitStatus::gave_up;
    case Error::Kind::cancelled:
    case Error::Kind::bug: break;
  }
  return ExitStatus::failure;
}

}  // namespace tunneld
