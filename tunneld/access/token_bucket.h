#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace tunneld::access {

/// The arithmetic of token buckets with continuous refill, as GCRA (ATM Forum TM 4.1, "virtual
/// scheduling"): the whole state of a bucket is the moment at which it will be full again, so nothing is
/// lost to rounding however often it is asked. Pure; times are nanoseconds of one monotonic clock.
///
/// 24 tokens refill in a day at least, 10⁹ in a second at most; no sum comes near 2⁶³.
class TokenBucket {
 public:
  /// Holds ten seconds' worth of the rate, at least `least_burst`. 0 a minute: no limit.
  constexpr explicit TokenBucket(unsigned per_minute, unsigned least_burst = 10)
      : per_minute_(per_minute),
        burst_(std::max(least_burst, per_minute / 6 + (per_minute % 6 == 0 ? 0 : 1))),
        // Rounded up: never more than the rate.
        interval_(per_minute == 0 ? 0 : (kMinute + per_minute - 1) / per_minute) {}

  constexpr bool limits() const { return per_minute_ != 0; }
  constexpr unsigned per_minute() const { return per_minute_; }
  constexpr unsigned burst() const { return burst_; }
  /// Time in which one token comes back, and all of them.
  constexpr std::int64_t interval() const { return interval_; }
  constexpr std::int64_t span() const { return interval_ * burst_; }

  /// What is missing at `now`, as the time until the bucket is full.
  constexpr std::int64_t used(std::int64_t full_at, std::int64_t now) const {
    return full_at <= now ? 0 : std::min(full_at - now, span());
  }
  /// `used` of a bucket of this rate, as the same part of `other`'s burst.
  constexpr std::int64_t carried_to(const TokenBucket& other, std::int64_t used) const {
    if (!limits()) return 0;
    return static_cast<std::int64_t>(static_cast<double>(used) / static_cast<double>(span()) *
                                     static_cast<double>(other.span()));
  }
  constexpr bool has_one(std::int64_t used) const { return used + interval_ <= span(); }
  constexpr unsigned whole_tokens(std::int64_t used) const {
    return static_cast<unsigned>((span() - used) / interval_);
  }
  /// Until has_one(); 0 when it has.
  constexpr std::int64_t until_one(std::int64_t used) const {
    return std::max<std::int64_t>(0, used + interval_ - span());
  }

 private:
  static constexpr std::int64_t kMinute = 60'000'000'000;
  unsigned per_minute_;
  unsigned burst_;
  std::int64_t interval_;
};

/// A monotonic moment as the nanoseconds above.
constexpr std::int64_t nanoseconds_of(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// Whole units that are not over before `nanoseconds` are.
template <class Duration>
constexpr Duration rounded_up(std::int64_t nanoseconds) {
  return std::chrono::ceil<Duration>(std::chrono::nanoseconds(nanoseconds));
}

}  // namespace tunneld::access
