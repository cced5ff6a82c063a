#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "tunnel/client_address.h"

namespace tunneld::access {

/// Slows and then blocks addresses that keep failing to authenticate. Only failures without a valid token
/// count, because honest callers may share the address: whoever shows a token that was verified already
/// passes even from a blocked one (the gate sees to it).
///
/// Pure: time is an argument (monotonic). Thread-safe. Bounded: `max_entries`, the least recently failed
/// goes first. Failures fade: each counts for `window`.
class PenaltyBox {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Options {
    bool enabled = true;
    unsigned throttle_after = 5;  // failures within the window: from there `throttled_per_minute`
    unsigned block_after = 10;    // from there nothing, for `block_for`
    std::chrono::seconds window{300};
    unsigned throttled_per_minute = 10;
    std::chrono::seconds block_for{3600};
    std::size_t max_entries = 65'536;
  };
  enum class Standing { free, throttled, blocked };
  struct Verdict {
    Standing standing = Standing::free;
    bool allowed = true;
    std::chrono::seconds retry_after{};  // when not allowed; at least 1
  };

  explicit PenaltyBox(const Options& options);
  ~PenaltyBox();
  void configure(const Options& options);

  /// Before a request without a verified token is looked at. Takes one of the few that a throttled address
  /// has left.
  Verdict check(const tunnel::Address& address, Time now);
  /// A token that was wrong, or missing where one is needed. Returns the standing when this changed it.
  /// A block that has ended leaves the address throttled for one more window.
  std::optional<Standing> failed(const tunnel::Address& address, Time now);
  /// The operator's pardon; false when the address is not in the box.
  bool pardon(const tunnel::Address& address);

  struct Counts {
    std::size_t throttled = 0, blocked = 0, entries = 0;
  };
  Counts counts(Time now) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::access
