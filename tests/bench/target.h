#pragma once

#include <cstdint>

#include "endpoint.h"

namespace bench {

/// Ports of the services behind the tunnels.
struct TargetPorts {
  /// Reads an 8-byte count (big endian), drops so many bytes, answers with the count.
  std::uint16_t sink = 0;
  /// Reads an 8-byte count, sends so many bytes; again and again.
  std::uint16_t source = 0;
  std::uint16_t echo = 0;
  /// HTTP/1.1 keep-alive, 1 KiB of body for every GET.
  std::uint16_t http = 0;
  Reach reach = Reach::loopback;
};

/// Serves until SIGTERM or SIGINT; prints the ports in use as one JSON line first. 0 = any port.
void serve_target(TargetPorts ports);

}  // namespace bench
