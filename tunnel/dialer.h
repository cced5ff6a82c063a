#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tunnel/byte_stream.h"
#include "tunnel/principal.h"
#include "tunnel/priority.h"
#include "tunnel/refusal.h"

namespace tunnel {

/// A service as configured: what callers name, and where it lives behind its upstream.
struct Service {
  std::string name;         // ^[a-z0-9][a-z0-9-]{0,62}$
  std::string upstream;     // the upstream that reaches it
  std::string target_host;  // as the far side resolves it
  std::uint16_t target_port = 0;
  /// Who may use it: "*" (any verified principal), "sub:<subject>", "tier:<tier>", "scope:<scope>".
  std::vector<std::string> allow;
};

/// What an open went through besides its result. Filled in whether it succeeds or not.
struct OpenReport {
  std::chrono::steady_clock::duration queued{};  // stood in the queue
  bool reused = false;                           // the stream is one that another request gave back
};

/// One stream that somebody wants.
struct OpenRequest {
  const tunnel::Principal& principal;
  const Service& service;
  std::chrono::steady_clock::time_point deadline;
  Priority priority = Priority::normal;
  /// Held for the request while it waits: its head, and its body if that is at hand.
  std::size_t held_bytes = 0;
  /// Of the principal's queue, by its tier.
  std::size_t queue_capacity = 100;
  /// A stream offered under the same key serves as well as a new one; empty: only a new one does.
  std::string_view reuse_key{};
  OpenReport* report = nullptr;
};

/// Those who compete for the same channels: a principal on an upstream. Principal::key(), NUL, upstream.
inline std::string channel_group(const tunnel::Principal& principal, std::string_view upstream) {
  return principal.key().append(1, '\0').append(upstream);
}

/// Opens streams to services. One per thread; implemented by `upstream/`.
class Dialer {
 public:
  virtual ~Dialer() = default;
  /// One SSH channel to the service for the principal, opening an SSH session as needed. Where none can be
  /// had at once the request waits: in its principal's queue, whose turns are by priority. What the
  /// request refers to outlives the call.
  /// Refuses with unreachable, timed_out, ssh_error, host_key_mismatch, queue_full or unavailable.
  /// Cancelling gives the place in the queue to the next at once.
  /// The stream must be closed or destroyed on this thread before the Dialer is.
  virtual asio::awaitable<Served<std::unique_ptr<ByteStream>>> open(const OpenRequest& request) = 0;

  enum class Offer {
    unwanted,      // nobody of the group waits
    taken,         // by the request whose turn it was
    place_wanted,  // the one whose turn it is needs a new channel: closing this one makes room for it
  };
  /// Offers a stream that its user has done with to those of `group` who wait. Moved from when taken.
  virtual Offer offer(std::string_view group, std::string_view reuse_key,
                      std::unique_ptr<ByteStream>& stream) {
    static_cast<void>(group), static_cast<void>(reuse_key), static_cast<void>(stream);
    return Offer::unwanted;
  }
  /// Called when a request of `group` begins to wait, to close one stream of that group which is kept but
  /// not in use. Returns false if there is none. One listener; null ends it.
  virtual void on_place_wanted(std::function<bool(std::string_view group)> close_one) {
    static_cast<void>(close_one);
  }
};

}  // namespace tunnel
