#pragma once

#include <cstddef>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "common/secret.h"
#include "edge/websocket_client.h"

/// What an agent's control connections and sessions share of their talk with tunneld.
namespace tunnelctl::client {

inline constexpr std::size_t kLargestAgentMessage = 16 * 1024;

/// How an agent asks for a WebSocket.
edge::ClientRequest agent_request(const Secret& token);
/// A text member, or empty.
std::string agent_text(const nlohmann::json& object, const char* name);
/// What came from elsewhere, in one short line that a terminal may show.
std::string agent_word(const std::string& text);

}  // namespace tunnelctl::client
