#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tunneld/access/principal.h"
#include "tunneld/tunnel/byte_stream.h"
#include "tunneld/tunnel/refusal.h"

namespace tunneld::tunnel {

/// A service as configured: what callers name, and where it lives behind its upstream.
struct Service {
  std::string name;         // ^[a-z0-9][a-z0-9-]{0,62}$
  std::string upstream;     // the upstream that reaches it
  std::string target_host;  // as the far side resolves it
  std::uint16_t target_port = 0;
  /// Who may use it: "*" (any verified principal), "sub:<subject>", "tier:<tier>", "scope:<scope>".
  std::vector<std::string> allow;
};

/// Opens streams to services. One per thread; implemented by `upstream/`.
class Dialer {
 public:
  virtual ~Dialer() = default;
  /// One SSH channel to `service` for `principal`, opening or waiting for an SSH session as needed.
  /// Refuses with unreachable, timed_out, ssh_error, host_key_mismatch, queue_full or unavailable.
  /// The stream must be closed or destroyed on this thread before the Dialer is.
  virtual asio::awaitable<Served<std::unique_ptr<ByteStream>>> open(
      const access::Principal& principal, const Service& service,
      std::chrono::steady_clock::time_point deadline) = 0;
};

}  // namespace tunneld::tunnel
