#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"
#include "edge/websocket_client.h"
#include "tunnelctl/client/backoff.h"

namespace tunnelctl::client {

/// What the client does after a connection ended or an attempt failed.
enum class Then {
  stop,          // for good; Verdict::error says how the program ends
  reconnect,     // the next try, after the spread of a first one or the server's hint
  back_off,      // the next try, after the backoff's wait
  refresh_once,  // the same with a newer token, once; without one: stop
};

struct Verdict {
  Then then = Then::back_off;
  Advice advice{};
  /// Nobody is served yet and a person waits: this will not mend itself in a minute (a wrong address, no
  /// tunneld there, an untrusted certificate), so the first connection is not tried again for it.
  bool stops_first = false;
  /// What it was, in a word for logs and programs: "restart", "certificate_untrusted", "TUNNEL_003".
  std::string reason{};
  /// As a person is told: cause and next step in one line. `denied`, `unavailable` or `bad_input`.
  Error error{};
};

/// The WebSocket ended with that close code; `reason` is its text, by which the server may give
/// {"code":"TUNNEL_0NN","retryAfterMs":N} (anything else there is ignored). 1006: it broke without a Close.
Verdict after_close(std::uint16_t code, std::string_view reason = {});

/// The connection was not made. 401: TUNNEL_003 (expired) is refreshed once, any other 401 and 403 stop.
Verdict after_failure(const edge::ConnectFailure& failure);

/// TUNNEL_019: that many attempts in a row came to nothing, the last of them to that. `timed_out`.
Error gave_up(unsigned attempts, const Verdict& last);

/// One attempt, for the log: every one is told in one line.
struct Attempt {
  std::chrono::system_clock::time_point at{};
  unsigned number = 1;
  std::chrono::milliseconds delay{};  // waited before it
  std::string endpoint{};             // "wss://host:port/ws", and the address that answered
  std::string cause{};    // why there is an attempt: "first", "resume", "restart", "network changed"
  std::string outcome{};  // "connected", "resumed", or what went wrong
};

/// "2026-01-01T00:00:00.123Z INFO  tunnel: attempt n=3 delay_ms=4100 endpoint=wss://h/ws cause=broken
/// outcome=refused", as the daemon's log has it: what came from the network is made harmless.
std::string to_line(const Attempt& attempt);

/// RFC 3339, UTC, milliseconds.
std::string timestamp(std::chrono::system_clock::time_point time);

}  // namespace tunnelctl::client
