#pragma once

#include <chrono>
#include <optional>

namespace tunnelctl::client {

/// What the last failure says about the next try.
struct Advice {
  /// Retry-After, or retryAfterMs of a close reason: waited for, and up to a tenth more.
  std::optional<std::chrono::milliseconds> hint{};
  /// 2 after a close for bad manners (1008); such a wait is not cut to quick_cap.
  unsigned factor = 1;
};

/// When to try the next connection; decides only, waits for nothing (that is Pace).
///
/// The wait after the n-th failed try is min(cap, base * 2^(n-1)) * U(0.7, 1.3): the factor comes last, so
/// that clients at the cap do not beat in step. The first try after a loss comes after U(0, first_spread): a
/// server that restarts is not met by all its clients in one instant.
///
/// Time and randomness are arguments: a `random` is evenly spread over [0, 1).
/// Threads: one.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;
  using milliseconds = std::chrono::milliseconds;

  struct Options {
    milliseconds base{2'000};
    milliseconds cap{60'000};
    milliseconds first_spread{1'000};
    /// Tries are counted from the start again after a connection that stood for that long.
    milliseconds stable_after{30'000};
    /// A network that is back is not always announced (rtnetlink knows nothing of the router's uplink): that
    /// far into an outage no wait is longer than quick_cap.
    milliseconds quick_for{120'000};
    milliseconds quick_cap{4'000};
    /// Of a server's hint, so that a mistake there does not keep us away for a day.
    milliseconds longest_hint{600'000};
    /// Between the beginnings of tries that changes of the network ask for.
    milliseconds between_hurried{1'000};
    /// Tries that fail in a row before it gives up; nullopt: never.
    std::optional<unsigned> max_attempts = 10;
  };

  struct Turn {
    unsigned attempt = 1;  // from 1; the number in the log
    milliseconds delay{};  // before it
    /// A change of the network may cut the wait short. Not where the server asked for it.
    bool may_hurry = true;
  };

  /// Whether the very first try waits for U(0, first_spread) too: unattended programs that start with the
  /// machine do, a person who waits does not.
  enum class First { at_once, spread };

  Backoff(Options options, First first) : options_(options), first_(first) {}

  /// The next try; nullopt: give up. Call once before each.
  std::optional<Turn> next(Clock::time_point now, double random, const Advice& advice = {});
  /// The try that next() granted begins: after its wait, or hurried.
  void begin(Clock::time_point now) { began_ = now; }
  /// The try that next() granted will not be made: it does not count.
  void withdraw() { attempts_ -= attempts_ > 0 ? 1 : 0; }
  /// How long the wait may still be once the network has changed: zero, or the rest of between_hurried.
  milliseconds hurried_delay(Clock::time_point now) const;

  void connected(Clock::time_point now);
  void lost(Clock::time_point now);

  /// Does not give up before then, however many tries have failed, and waits no longer than quick_cap: as
  /// long as a link may be resumed, giving up or coming late would throw its streams away.
  void hold_on_until(Clock::time_point time) { hold_on_until_ = time; }

  /// Of the tries since the last stable connection, the number of the newest; 0 before the first.
  unsigned attempts() const { return attempts_; }

 private:
  milliseconds delay_after(unsigned failed, Clock::time_point now, double random, unsigned factor) const;

  Options options_;
  First first_;
  unsigned attempts_ = 0;
  bool ever_connected_ = false;
  std::optional<Clock::time_point> stands_since_{};
  std::optional<Clock::time_point> outage_began_{};
  std::optional<Clock::time_point> began_{};
  Clock::time_point hold_on_until_ = Clock::time_point::min();
};

}  // namespace tunnelctl::client
