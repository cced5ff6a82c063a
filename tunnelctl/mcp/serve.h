#pragma once

#include <chrono>
#include <iosfwd>
#include <stop_token>
#include <vector>

#include "tunnelctl/mcp/server.h"

namespace tunnelctl::mcp {

/// The longest message that is read; longer ones are refused, without being kept.
inline constexpr std::size_t kLongestMessage = 4 * 1024 * 1024;
/// After the input's end, for what was asked before it: `printf ... | tunnelctl mcp` gets its answers.
inline constexpr std::chrono::seconds kPatience{5};

/// Serves one client: a message on each line of `input`, a message on each line of `out` and nothing else
/// there. Ends with the input, with a requested stop (calls are stopped, too), and when `out` takes no more:
/// then false.
bool serve(ServerOptions options, std::vector<Tool> tools, int input, std::ostream& out,
           const std::stop_token& stop);

}  // namespace tunnelctl::mcp
