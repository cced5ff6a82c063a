#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/result.h"

namespace tunnelctl::client {

/// What a child is started with. Nothing else of ours reaches it: other descriptors are closed, signals are
/// as by default, and of the environment it has only a PATH.
struct ChildSetup {
  std::vector<std::string> arguments;  // the first is the program's absolute path
  /// Its standard input, output and error; -1: /dev/null.
  int in = -1, out = -1, err = -1;
};

/// Starts it as the leader of a process group of its own, in the folder "/". It gets SIGKILL when this thread
/// ends. Fails with unavailable and the system's reason, also when the program cannot be executed.
Result<pid_t> start_child(const ChildSetup& setup);

/// Kills the process group of `leader` and waits until all of it that is ours to wait for is gone.
void end_group(pid_t leader);

/// Runs a short command to its end. `output`: standard output and error, at most 16 KiB of them.
struct Finished {
  int status = 0;  // 128 + number for a signal
  std::string output;
};
Result<Finished> run_child(const std::vector<std::string>& arguments);

}  // namespace tunnelctl::client
