#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tunnel/flow_level.h"
#include "tunnel/principal.h"
#include "tunnel/priority.h"
#include "tunnel/refusal.h"

namespace tunnel {

enum class Side { client, agent };  // whose bytes: callers' or the far side's
enum class Outcome { success, error };
enum class Initiator { client, server };

struct FinishedRequest {
  tunnel::Tier tier = tunnel::Tier::free;
  Priority priority = Priority::normal;
  Outcome outcome = Outcome::success;
  std::chrono::steady_clock::duration took{};
  std::chrono::steady_clock::duration overhead{};  // spent inside tunneld
  std::string_view trace_id{};  // 32 hex digits of a sampled trace, for exemplars; or empty
};

/// How a request's wait in the queue ended; each ends in exactly one of these.
enum class QueueExit {
  served,
  expired,    // its deadline passed
  evicted,    // low priority, dropped for others of the same principal
  failed,     // what it waited for cannot come
  abandoned,  // its caller left
};

/// What rooms report as it happens; `admin/` turns it into metrics. Called on hot paths from any
/// worker thread: implementations are thread-safe, never block and never throw.
/// Durations are of the monotonic clock.
class Observer {
 public:
  using Duration = std::chrono::steady_clock::duration;
  virtual ~Observer() = default;

  // Doors (edge)
  virtual void socket_opened() = 0;  // any accepted public TCP connection
  virtual void socket_closed() = 0;
  virtual void socket_refused(
      std::string_view reason) = 0;  // max_connections, fd_reserve, early_drop, address, …
  virtual void setup_finished(std::string_view phase, Duration took) = 0;       // tls, upgrade, ssh
  virtual void websocket_opened(tunnel::Tier tier, std::string_view role) = 0;  // caller, agent
  virtual void websocket_refused(std::string_view role, Code code) = 0;
  virtual void websocket_closed(tunnel::Tier tier, std::string_view role, std::uint16_t code,
                                Initiator initiator, Duration lived) = 0;
  virtual void frame_rejected(std::string_view reason) = 0;    // oversize, utf8, protocol, inflate, …
  virtual void request_rejected(std::string_view reason) = 0;  // header_count, header_size, smuggling, …
  virtual void heartbeat_rtt(Duration rtt) = 0;
  virtual void heartbeat_timed_out() = 0;
  /// Payload of messages that were compressed, or inflated: its size before and after.
  virtual void compressed(Side direction_from, std::size_t before, std::size_t after) = 0;

  // Access
  virtual void auth_attempt(bool accepted, std::string_view reason) = 0;
  virtual void jwks_refreshed(bool ok) = 0;
  virtual void rate_limited(std::string_view scope, tunnel::Tier tier) = 0;  // user, ip, global, connections

  // Requests (tunnel)
  virtual void request_started(tunnel::Tier tier) = 0;
  virtual void request_finished(const FinishedRequest& request) = 0;
  virtual void error_answered(Code code) = 0;
  virtual void bytes(Side side, std::size_t received, std::size_t sent) = 0;

  // Far side (ssh, upstream)
  virtual void ssh_session_opened(Duration handshake) = 0;
  virtual void ssh_session_closed() = 0;
  virtual void ssh_error(std::string_view phase, std::string_view reason) = 0;
  virtual void channel_opened() = 0;                          // and counted as result=ok
  virtual void channel_refused(std::string_view result) = 0;  // refused, timeout, error
  virtual void channel_closed() = 0;

  // Queue, flow control and circuit breakers (tunnel, access)
  virtual void queue_entered(Priority priority) = 0;
  virtual void queue_left(Priority priority, QueueExit how, Duration waited) = 0;
  virtual void queue_refused(Priority priority) = 0;  // full
  virtual void flow_level_changed(FlowLevel to) = 0;
  virtual void breaker_changed(std::string_view to) = 0;  // open, half_open, closed
};

}  // namespace tunnel
