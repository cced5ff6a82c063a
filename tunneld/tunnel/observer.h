#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tunneld/access/principal.h"
#include "tunneld/tunnel/refusal.h"

namespace tunneld::tunnel {

enum class Side { client, agent };  // whose bytes: callers' or the far side's
enum class Outcome { success, error };
enum class Initiator { client, server };

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
  virtual void socket_refused(std::string_view reason) = 0;  // max_connections, fd_reserve, early_drop
  virtual void setup_finished(std::string_view phase, Duration took) = 0;       // tls, upgrade, ssh
  virtual void websocket_opened(access::Tier tier, std::string_view role) = 0;  // caller, agent
  virtual void websocket_refused(std::string_view role, Code code) = 0;
  virtual void websocket_closed(access::Tier tier, std::string_view role, std::uint16_t code,
                                Initiator initiator, Duration lived) = 0;
  virtual void frame_rejected(std::string_view reason) = 0;    // oversize, utf8, protocol, inflate
  virtual void request_rejected(std::string_view reason) = 0;  // header_count, header_size, smuggling, …
  virtual void heartbeat_rtt(Duration rtt) = 0;
  virtual void heartbeat_timed_out() = 0;

  // Access
  virtual void auth_attempt(bool accepted, std::string_view reason) = 0;
  virtual void jwks_refreshed(bool ok) = 0;

  // Requests (tunnel)
  virtual void request_started(access::Tier tier) = 0;
  virtual void request_finished(access::Tier tier, Outcome outcome, Duration took, Duration overhead) = 0;
  virtual void error_answered(Code code) = 0;
  virtual void bytes(Side side, std::size_t received, std::size_t sent) = 0;

  // Far side (ssh, upstream)
  virtual void ssh_session_opened(Duration handshake) = 0;
  virtual void ssh_session_closed() = 0;
  virtual void ssh_error(std::string_view phase, std::string_view reason) = 0;
  virtual void channel_opened() = 0;                          // and counted as result=ok
  virtual void channel_refused(std::string_view result) = 0;  // refused, timeout, error
  virtual void channel_closed() = 0;
  virtual void waiting_for_channel(int change) = 0;  // +1 queued, -1 served or gone
};

}  // namespace tunneld::tunnel
