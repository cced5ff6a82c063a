#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "tunnel/byte_stream.h"
#include "tunnel/deadline_watch.h"
#include "tunnel/observer.h"

namespace tunnel {

class RelayControl;

struct RelayOptions {
  /// No payload in either direction for that long ends the relay. Heartbeats are not payload: a
  /// forgotten stream with a living peer ends too.
  std::chrono::milliseconds idle_limit{std::chrono::minutes(5)};
  /// When the caller's token expires: the relay ends then, whatever moves.
  std::optional<std::chrono::steady_clock::time_point> until{};
  /// Lets others end the relay or move its limits while it runs; may be null.
  RelayControl* control = nullptr;
};

/// How a relay ended, for the log and the choice of a close code.
struct RelayEnd {
  enum class How {
    finished,         // both directions reached their end
    caller_failed,    // the caller's stream broke: 1006 or 1001 towards nobody
    service_failed,   // the service's channel broke: close code 1011
    idle,             // 4408
    expired,          // 4401
    cancelled,        // the relay itself was cancelled
    revoked,          // the token was revoked: 4401
    draining,         // 1012
    closed_by_admin,  // an operator ended it
  };
  How how = How::finished;
  std::string why;  // the failing stream's message; empty when finished
  std::uint64_t from_caller_bytes = 0;
  std::uint64_t from_service_bytes = 0;
};

/// A running relay's handle for whoever decides about it from outside: revocation, refreshed tokens, an
/// operator, a drain. What was asked before the relay begins holds from its beginning; what is asked after
/// its end does nothing. May go away before the relay.
/// Threads: the relay's.
class RelayControl {
 public:
  using Clock = std::chrono::steady_clock;
  RelayControl() = default;
  ~RelayControl();
  RelayControl(const RelayControl&) = delete;
  RelayControl& operator=(const RelayControl&) = delete;

  /// Ends the relay now. The first reason holds.
  void stop(RelayEnd::How how, std::string why);
  /// Replaces RelayOptions::until; a time that has passed ends the relay as expired.
  void set_until(std::optional<Clock::time_point> until);
  /// Ends the relay as soon as no payload has moved for that long, counted from the last that did.
  void stop_when_quiet(std::chrono::milliseconds quiet, RelayEnd::How how, std::string why);

 private:
  friend class Relay;
  struct Stop {
    RelayEnd::How how;
    std::string why;
  };
  struct Quiet {
    std::chrono::milliseconds limit;
    Stop then;
  };

  class Relay* relay_ = nullptr;  // while it runs
  std::optional<Stop> stop_;
  std::optional<std::optional<Clock::time_point>> until_;
  std::optional<Quiet> quiet_;
};

/// Copies both ways until both directions have ended, keeping half-close: the end of one is passed on
/// and the other goes on. When a stream breaks, the other one is closed at once unless `caller` must
/// still say why: the service's channel is always closed on return, the caller's stream only when it
/// failed itself, so that the caller of relay() can end it with a close code.
/// Bytes reach `observer` as they pass.
asio::awaitable<RelayEnd> relay(ByteStream& caller, ByteStream& service, DeadlineWatch& watch,
                                Observer& observer, RelayOptions options);

}  // namespace tunnel
