#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "tunneld/tunnel/http1.h"

namespace tunneld::edge {

/// The limits of one listener and its connections. Time limits are measured on the monotonic clock.
struct Options {
  /// "host:port" or "[v6 address]:port"; port 0 lets the system choose.
  std::vector<std::string> listen{"127.0.0.1:3001"};

  tunnel::HeadLimits head{};
  /// From accept to the end of the TLS handshake.
  std::chrono::milliseconds handshake_timeout{10'000};
  /// From a request's first byte (a connection's first request: from the handshake) to its head's end,
  /// however slowly it dribbles.
  std::chrono::milliseconds header_timeout{10'000};
  /// The longest gap in a request body while the handler waits for it.
  std::chrono::milliseconds body_timeout{30'000};
  /// How long a kept-alive connection may wait for its next request; above common proxies' 60 s.
  std::chrono::milliseconds keep_alive_idle{75'000};
  /// How long a caller may take none of what we send.
  std::chrono::milliseconds write_stall{30'000};
  /// The closing handshake of a WebSocket, and the last words of an HTTP connection.
  std::chrono::milliseconds close_timeout{5'000};
  /// An unread request body up to this size is read and dropped to keep the connection; more closes it.
  std::size_t max_drained_body_bytes = 64 * 1024;

  /// A WebSocket peer silent this long is pinged (R6.1) ...
  std::chrono::milliseconds ping_after{30'000};
  /// ... and dead after this long (R6.2).
  std::chrono::milliseconds dead_after{45'000};
  /// Largest WebSocket frame and message; judged from the frame header (R6.6).
  std::size_t max_message_bytes = 1024 * 1024;
  std::size_t max_fragments = 1024;
  unsigned max_pings_per_second = 10;
  /// While a frame is incomplete, this much of it must come in this much waiting; else its sender is
  /// stalling on purpose (1 KiB/s by default).
  std::chrono::milliseconds frame_window{30'000};
  std::size_t min_frame_progress_bytes = 30 * 1024;

  std::size_t max_connections = 10'000;
  /// Connections whose caller has not authenticated yet: the most there may be, and from how many on
  /// new ones are dropped at random (as OpenSSH's MaxStartups), once the crowd has lasted a moment: a
  /// burst of honest callers is over soon and is made to wait in the backlog meanwhile.
  std::size_t max_unauthenticated = 256;
  std::size_t early_drop_from = 128;
  std::chrono::milliseconds crowd_patience{2000};
  /// File descriptors kept back for upstreams, logs and state.
  std::size_t fd_reserve = 64;
};

}  // namespace tunneld::edge
