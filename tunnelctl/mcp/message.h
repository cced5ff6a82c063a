#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/mcp/tool.h"

/// JSON-RPC 2.0 as the Model Context Protocol uses it. Sources: jsonrpc.org/specification and the folders
/// schema/ and docs/specification/ of github.com/modelcontextprotocol/modelcontextprotocol.
namespace tunnelctl::mcp {

/// Revisions that begin with an `initialize` handshake, oldest first.
inline constexpr std::array<std::string_view, 4> kHandshakeVersions{"2024-11-05", "2025-03-26", "2025-06-18",
                                                                    "2025-11-25"};
/// The revision without one: every request names it in its `_meta`.
inline constexpr std::string_view kStatelessVersion = "2026-07-28";

/// Keys of `_meta` in that revision.
inline constexpr const char* kMetaVersion = "io.modelcontextprotocol/protocolVersion";
inline constexpr const char* kMetaCapabilities = "io.modelcontextprotocol/clientCapabilities";
inline constexpr const char* kMetaServer = "io.modelcontextprotocol/serverInfo";

enum class ErrorCode : int {
  parse = -32700,
  invalid_request = -32600,
  method_not_found = -32601,
  invalid_params = -32602,
  internal = -32603,
  unsupported_version = -32022,
};

/// What one message says.
struct Message {
  enum class Kind {
    request,       // must be answered once, unless it is cancelled
    notification,  // must not be answered
    passed_over,   // a response, though we ask nothing, or a notification that makes no sense
    invalid,       // `problem` is the answer
  };
  Kind kind = Kind::invalid;
  Json id{};  // of a request: a text or an integer
  std::string method{};
  Json params = Json::object();
  Json problem{};
};

/// One message, or the messages of an array.
struct Incoming {
  bool batch = false;
  std::vector<Message> messages{};
};

/// Deeper JSON is refused: nothing that a tool takes comes near, and what is printed again recurses.
inline constexpr std::size_t kDeepest = 64;

/// More messages in one array are refused: each costs much more memory than its text.
inline constexpr std::size_t kLargestBatch = 100;

/// Reads one line. What is no JSON (or, to be strict, holds a name twice), and an array that is empty or too
/// long, is one invalid message.
Incoming read_message(std::string_view line);

Json answer(const Json& id, Json result);
Json error_answer(const Json& id, ErrorCode code, std::string_view message, Json data = nullptr);

}  // namespace tunnelctl::mcp
