#pragma once

#include <chrono>
#include <stop_token>
#include <vector>

#include "tunnelctl/mcp/server.h"

namespace tunnelctl::mcp {

/// The longest message that is read; longer ones are refused, without being kept.
inline constexpr std::size_t kLongestMessage = 4 * 1024 * 1024;
/// After the input's end, for what was asked before it: `printf ... | tunnelctl mcp` gets its answers.
inline constexpr std::chrono::seconds kPatience{5};
/// After a stop, for the client to read what was answered: a client that reads needs none of it.
inline constexpr std::chrono::milliseconds kLastWords{200};

/// Serves one client: a message on each line of the descriptor `input`, a message on each line of `output`
/// and nothing else there. Ends with the input, with a requested stop (calls are stopped, too; an answer that
/// nobody takes is given up), and when nobody reads `output`: then false. SIGPIPE must be ignored.
bool serve(ServerOptions options, std::vector<Tool> tools, int input, int output,
           const std::stop_token& stop);

}  // namespace tunnelctl::mcp
