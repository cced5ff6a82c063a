#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "common/http_client.h"
#include "common/result.h"
#include "common/secret.h"
#include "edge/websocket_client.h"

namespace tunnelctl::client {

/// Which tunneld, and as whom; the same for every attempt. Session::server() fills it in: --server, then
/// TUNNEL_SERVER, then the context's `server_url`.
struct ServerSettings {
  /// "wss://host[:port][/prefix]" (ws:// to loopback, or with allow_plain), without a slash at its end: as
  /// server_url() returns it.
  std::string url;
  /// One of these two. The file is read for every attempt: tokens are renewed under a running program.
  Secret token{};
  std::filesystem::path token_file{};
  /// How the person calls the file, for messages.
  std::string token_setting = "--token-file";
  http::TlsFiles tls{};
  bool allow_plain = false;                   // ws:// to elsewhere than loopback
  std::optional<http::Proxies> proxies{};     // unset: the environment's
  std::chrono::milliseconds timeout{20'000};  // of one attempt, to the 101
};

/// A server's address as people write it: wss://, https:// or nothing in front; ws:// and http:// as plain
/// text. "localhost:3001" without a scheme is TLS like any other. Fails with bad_input and the reason.
Result<std::string> server_url(std::string_view text);

/// The token for the next attempt: read anew if it is in a file. bad_input names file and setting, or says
/// that there is none and how one is given.
Result<Secret> read_token(const ServerSettings& server);

/// Where an attempt goes; `path` begins with a slash ("/ws").
edge::ClientTarget target(const ServerSettings& server, std::string_view path);

/// A server's address for HTTP: wss is https to all that is no WebSocket.
std::string http_url(std::string_view server_url);
/// How plain requests reach it, with all of `timeout` for one.
http::ClientOptions http_options(const ServerSettings& server);

}  // namespace tunnelctl::client
