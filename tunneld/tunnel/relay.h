#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "tunneld/tunnel/byte_stream.h"
#include "tunneld/tunnel/deadline_watch.h"
#include "tunneld/tunnel/observer.h"

namespace tunneld::tunnel {

struct RelayOptions {
  /// No payload in either direction for that long ends the relay. Heartbeats are not payload: a
  /// forgotten stream with a living peer ends too.
  std::chrono::milliseconds idle_limit{std::chrono::minutes(5)};
  /// When the caller's token expires: the relay ends then, whatever moves.
  std::optional<std::chrono::steady_clock::time_point> until{};
};

/// How a relay ended, for the log and the choice of a close code.
struct RelayEnd {
  enum class How {
    finished,        // both directions reached their end
    caller_failed,   // the caller's stream broke: 1006 or 1001 towards nobody
    service_failed,  // the service's channel broke: close code 1011
    idle,            // 4408
    expired,         // 4401
    cancelled,       // the relay itself was cancelled (draining)
  };
  How how = How::finished;
  std::string why;  // the failing stream's message; empty when finished
  std::uint64_t from_caller_bytes = 0;
  std::uint64_t from_service_bytes = 0;
};

/// Copies both ways until both directions have ended, keeping half-close: the end of one is passed on
/// and the other goes on. When a stream breaks, the other one is closed at once unless `caller` must
/// still say why: the service's channel is always closed on return, the caller's stream only when it
/// failed itself, so that the caller of relay() can end it with a close code.
/// Bytes reach `observer` as they pass.
asio::awaitable<RelayEnd> relay(ByteStream& caller, ByteStream& service, DeadlineWatch& watch,
                                Observer& observer, RelayOptions options);

}  // namespace tunneld::tunnel
