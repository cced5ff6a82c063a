#include "tunnelctl/cli.h"

#include <utility>

#include "common/config_file.h"
#include "tunnelctl/commands/command_line.h"

namespace tunnelctl {

ExitStatus run(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
               std::stop_token stop) {
  Session session(out, err, config::process_environment(), std::move(stop));
  return run_command_line({argv + 1, argv + argc}, session);
}

}  // namespace tunnelctl
