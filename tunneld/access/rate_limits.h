#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "tunnel/client_address.h"
#include "tunnel/principal.h"

namespace tunneld::access {

/// What a limiter decided, with what X-RateLimit-* and Retry-After say.
struct RateDecision {
  bool allowed = true;
  unsigned limit = 0;                       // requests per minute; 0: not limited, and nothing is said
  unsigned remaining = 0;                   // whole requests that may follow at once
  std::chrono::milliseconds until_full{};   // when the whole burst is there again
  std::chrono::milliseconds retry_after{};  // when refused: when the next would be allowed
};

/// Token buckets with continuous refill: per principal by tier, per address, and one for all. A bucket
/// holds ten seconds' worth of its rate, at least ten (REQUIREMENTS L). Deciding and taking is one step,
/// so that any number of threads together get exactly what one would.
///
/// Pure: time is an argument (monotonic), nothing blocks but a shard's mutex. Thread-safe.
/// Memory is bounded: the tables hold `max_principals` and `max_addresses` buckets; a full table drops
/// buckets that are full again (they say nothing), and if there are none the one unused for longest.
class RateLimits {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Options {
    std::array<unsigned, 3> per_minute{100, 500, 5000};  // by tier; 0: no limit
    unsigned address_per_minute = 1000;                  // requests that show no valid token; 0: no limit
    unsigned handshakes_per_minute = 20;                 // connections of strangers; burst 10; 0: no limit
    unsigned global_per_minute = 600'000;
    std::size_t max_principals = 65'536;
    std::size_t max_addresses = 131'072;
  };
  explicit RateLimits(const Options& options);
  ~RateLimits();

  /// New rates; tables keep their size. Buckets keep the part of their burst that was used.
  void configure(const Options& options);

  /// One request of a principal; `key` is tunnel::Principal::key().
  RateDecision take(std::string_view key, tunnel::Tier tier, Time now);
  /// One request from an address that has not shown a valid token (yet).
  RateDecision take(const tunnel::Address& address, Time now);
  /// The token was good after all: the principal's own bucket pays instead.
  void give_back(const tunnel::Address& address, Time now);
  /// One connection of a stranger, at accept; given back when its first token is accepted.
  RateDecision take_handshake(const tunnel::Address& address, Time now);
  void give_back_handshake(const tunnel::Address& address, Time now);
  /// One request of anybody.
  RateDecision take_global(Time now);

  struct Sizes {
    std::size_t principals = 0, addresses = 0, handshakes = 0;
  };
  Sizes sizes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::access
