#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "tunnel/flow_level.h"
#include "tunnel/refusal.h"

namespace tunnel {

/// The JSON messages beside the bytes of a caller's stream (docs/api/websocket.md): one object with a "type".
/// Times are RFC 3339 in UTC, to the second.

inline constexpr std::size_t kMaxControlMessageBytes = 16 * 1024;

/// {"type":"auth.refresh","token":"..."}: a newer token of the same principal.
struct AuthRefresh {
  std::string token;
};

/// What a caller sent. Strict JSON, fields we do not know are ignored. Fails with bad_request for text that
/// is no such object, a type we do not know and a token that is missing, empty or not a string; the
/// refusal's message quotes nothing of the text and is fit for error_message().
Served<AuthRefresh> parse_control_message(std::string_view text);

/// {"type":"flow","level":"throttle","fill":0.8,"recommendedDelayMs":500}; `fill` from 0 to 1.
std::string flow_message(FlowLevel level, double fill, std::chrono::milliseconds recommended_delay);
/// {"type":"auth.expiring","expiresAt":"2026-01-01T00:00:00Z"}
std::string auth_expiring_message(std::chrono::system_clock::time_point expires_at);
/// {"type":"auth.ok","expiresAt":"..."}: the token was taken and holds until then.
std::string auth_ok_message(std::chrono::system_clock::time_point expires_at);
/// {"type":"maintenance","deadline":"...","reason":"..."}: the stream ends then at the latest.
std::string maintenance_message(std::chrono::system_clock::time_point deadline, std::string_view reason);
/// {"type":"error","code":"TUNNEL_010","message":"..."}
std::string error_message(Code code, std::string_view message);

}  // namespace tunnel
