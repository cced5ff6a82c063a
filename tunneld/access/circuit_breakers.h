#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tunneld::access {

enum class BreakerState { closed, open, half_open };  // 0, 1, 2 in metrics
constexpr const char* to_string(BreakerState state) {
  return state == BreakerState::closed ? "closed" : state == BreakerState::open ? "open" : "half_open";
}

struct BreakerOptions {
  unsigned failures = 5;                         // in a row; opens
  unsigned successes = 2;                        // in a row, half-open; closes
  std::chrono::milliseconds reset{60'000};       // open before the first probe
  std::chrono::milliseconds max_reset{600'000};  // doubles up to this with each failed probe
};

/// One breaker, pure: no clock, no lock. Half-open lets one probe through at a time.
class CircuitBreaker {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Admission {
    bool allowed = true;
    bool probe = false;
    std::chrono::milliseconds retry_after{};  // when not allowed
  };
  Admission admit(const BreakerOptions& options, Time now);
  // The outcome of what was admitted. `probe` as admitted. Returns true when the state changed.
  bool succeeded(const BreakerOptions& options, bool probe, Time now);
  bool failed(const BreakerOptions& options, bool probe, Time now);
  /// Neither: the caller left, or it never came to the service. Frees the probe.
  void abandoned(bool probe);

  BreakerState state() const { return state_; }
  unsigned failures_in_a_row() const { return failures_; }
  unsigned successes_in_a_row() const { return successes_; }
  Time opened_at() const { return opened_at_; }
  Time next_probe() const { return next_probe_; }
  /// Closed with nothing held against it: need not be remembered.
  bool blank() const { return state_ == BreakerState::closed && failures_ == 0; }

 private:
  BreakerState state_ = BreakerState::closed;
  unsigned failures_ = 0;
  unsigned successes_ = 0;
  bool probing_ = false;
  std::chrono::milliseconds reset_{0};
  Time opened_at_{};
  Time next_probe_{};
};

/// A breaker for each (principal, upstream, service) that has failed lately: one user's trouble with a
/// service is never another's. Thread-safe. While nothing fails there is no entry and no lock is taken.
/// Bounded: `max_entries`, the one unused for longest goes first (a closed one before an open one), and
/// without a Change: it was forgotten, not mended.
class CircuitBreakers {
 public:
  using Time = CircuitBreaker::Time;
  struct Options : BreakerOptions {
    std::size_t max_entries = 65'536;
  };
  struct Key {
    std::string_view principal;  // tunnel::Principal::key()
    std::string_view upstream;
    std::string_view service;
  };
  struct Info {
    std::string id;  // 16 hex digits: stands for the key in the API and in events
    std::string principal;
    std::string upstream;
    std::string service;
    BreakerState state = BreakerState::closed;
    unsigned failures_in_a_row = 0;
    unsigned successes_in_a_row = 0;  // of probes: while it is half-open, and those that closed it
    Time opened_at{};                 // the first opening since it was closed
    Time next_probe{};
    std::uint64_t refused = 0;             // requests turned away since it opened
    std::vector<std::string> last_errors;  // the last five, "TUNNEL_001: why", oldest first; 200 bytes each
  };
  struct Change {
    BreakerState from;
    Info breaker;                          // as it is after it
    std::chrono::milliseconds open_for{};  // when it closes: since its first opening
  };

  /// What was admitted must say how it ended; one that goes away silently counts as neither. Only the
  /// first word counts. Must not outlive the CircuitBreakers.
  class Permit {
   public:
    Permit() = default;
    Permit(Permit&& other) noexcept;
    Permit& operator=(Permit&& other) noexcept;
    ~Permit();
    void succeeded(Time now);
    /// `error` "TUNNEL_001: connection refused", for the event.
    void failed(Time now, std::string_view error);

   private:
    friend class CircuitBreakers;
    Permit(CircuitBreakers* breakers, std::string key) : breakers_(breakers), key_(std::move(key)) {}
    CircuitBreakers* breakers_ = nullptr;
    std::string key_;
    std::uint64_t probe_ = 0;  // which probe this is; 0: none
  };
  struct Open {
    std::chrono::milliseconds retry_after;
  };

  /// `on_change` is called without a lock held, on the thread that caused it.
  CircuitBreakers(const Options& options, std::function<void(const Change&)> on_change);
  ~CircuitBreakers();
  void configure(const Options& options);

  std::variant<Permit, Open> admit(const Key& key, Time now);
  /// Those that are not blank.
  std::vector<Info> list(Time now) const;
  /// By the operator: closes it, and probes under way no longer count. False when there is none of that id.
  bool reset(std::string_view id, Time now);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::access
