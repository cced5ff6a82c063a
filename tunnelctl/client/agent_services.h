#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace tunnelctl::client {

/// A service as its agent announces it.
struct AgentService {
  std::string name;    // ^[a-z0-9][a-z0-9-]{0,62}$
  std::string target;  // "127.0.0.1:11434", "[::1]:80": as the agent's sshd permits it
};
/// "ollama=127.0.0.1:11434". Fails with bad_input, quoting the text and showing how it is written.
Result<AgentService> parse_agent_service(std::string_view text);
/// At least one and at most a hundred, none of a name twice.
Result<std::vector<AgentService>> parse_agent_services(const std::vector<std::string>& texts);

}  // namespace tunnelctl::client
