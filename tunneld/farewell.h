#pragma once

#include <cstdint>
#include <string>

#include "tunnel/refusal.h"
#include "tunnel/relay.h"

namespace tunneld {

/// How a WebSocket is ended: the close code and the reason, JSON of at most 123 bytes or empty.
struct Farewell {
  std::uint16_t code = 1000;
  std::string reason;
};
/// After a relay, or what ended likewise.
Farewell farewell_after(const tunnel::RelayEnd& end);
Farewell farewell_after(tunnel::RelayEnd::How how);
/// {"code":"TUNNEL_0NN"}; `soon`: with "retryAfterMs".
std::string close_reason(tunnel::Code code, bool soon = false);

}  // namespace tunneld
