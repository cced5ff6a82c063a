#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace tunnel {

/// The documented error codes, printed TUNNEL_0NN. Each has a page in docs/errors/.
enum class Code : std::uint8_t {
  unreachable = 1,    // connection refused or unreachable
  token_invalid = 2,  // missing or invalid
  token_expired = 3,  // genuine but expired
  unavailable = 4,    // unavailable or draining
  rate_limited = 5,
  queue_full = 6,
  timed_out = 7,
  ssh_error = 8,
  websocket_error = 9,  // also: the service broke HTTP
  bad_request = 10,     // bad configuration or message
  forbidden = 11,       // scope or Origin
  too_many_connections = 12,
  outcome_unknown = 13,  // sent, not answered, not repeated
  circuit_open = 14,
  host_key_mismatch = 15,
  too_large = 16,
  service_denied = 17,  // service denied or unknown: one answer for both
  no_agent = 18,
};

/// The fixed facts of a code. Texts are plain sentences without secrets or addresses.
struct CodeFacts {
  Code code;
  std::string_view name;          // "TUNNEL_001"
  std::string_view category;      // network authentication configuration server protocol
  unsigned http_status;           // e.g. 503
  std::uint16_t close_code;       // WebSocket close code when refused after the 101
  std::string_view user_message;  // for the person using the service
  std::string_view suggestion;    // one concrete next step
};

/// Never fails: every enumerator has a row.
const CodeFacts& facts(Code code);

/// A request or stream that is not served: which code, and why in words for the operator.
/// `message` may name services and upstreams, never tokens, keys or other principals.
struct Refusal {
  Code code;
  std::string message;
  std::optional<std::chrono::seconds> retry_after{};
  /// Overrides facts(code).http_status, e.g. 426 or 431 for TUNNEL_010.
  std::optional<unsigned> http_status{};
};

template <class T>
using Served = tl::expected<T, Refusal>;

inline tl::unexpected<Refusal> refuse(Code code, std::string message) {
  return tl::unexpected<Refusal>(Refusal{code, std::move(message)});
}

/// The one error body of the HTTP API (docs/api), as JSON text.
/// `now` is RFC 3339; `request_id` and `correlation_id` may be equal.
std::string error_body(const Refusal& refusal, std::string_view now, std::string_view request_id,
                       std::string_view correlation_id);

}  // namespace tunnel
