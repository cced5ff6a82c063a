#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "tunnel/client_address.h"
#include "tunnel/http1.h"

namespace edge {

/// The limits of one listener and its connections. Time limits are measured on the monotonic clock.
struct Options {
  /// "host:port" or "[v6 address]:port"; port 0 lets the system choose.
  std::vector<std::string> listen{"127.0.0.1:3001"};

  /// Proxies in front of us. Theirs are the only connections that `proxy_protocol` concerns, and the only
  /// ones Server::Parts::admit is not asked about: many callers share their addresses.
  tunnel::TrustedProxies trusted_proxies{};
  /// Connections of trusted proxies begin, before TLS, with a PROXY protocol v2 header that says who the
  /// caller is; without a good one they are closed.
  bool proxy_protocol = false;

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
  /// Longer messages are reported, once a connection (Server::Parts::on_large_message).
  std::size_t warn_message_bytes = 512 * 1024;
  unsigned max_pings_per_second = 10;
  /// Text messages where they are control messages (WebSocketAccept::control_messages). They carry a
  /// token at most, and ask for little.
  std::size_t max_control_message_bytes = 16 * 1024;
  unsigned max_control_messages_per_second = 10;
  /// permessage-deflate (RFC 7692) for callers that offer it. Each message is compressed by itself.
  bool compression = false;
  int compression_level = 6;  // 1 to 6
  /// Shorter messages are sent as they are.
  std::size_t compression_threshold_bytes = 1024;
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

}  // namespace edge
