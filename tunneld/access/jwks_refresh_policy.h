#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>

namespace tunneld::access {

/// When to fetch the identity provider's keys; the fetching itself is elsewhere. Time is an argument
/// and monotonic. Thread-safe: any thread may report an unknown kid.
///
/// Use: ask due() by a timer set to next_due(), and on_unknown_kid() when the verifier says
/// refetch_may_help. On Decision::fetch the asker fetches and must report succeeded() or failed();
/// until then nobody else is told to.
class JwksRefreshPolicy {
 public:
  using Clock = std::chrono::steady_clock;
  using TimePoint = Clock::time_point;

  struct Limits {
    /// Keys this old are fetched again: a withdrawn key stops working within this time.
    std::chrono::seconds cached{std::chrono::hours{1}};
    /// Keys this old are no longer believed, though the provider cannot be reached.
    std::chrono::seconds usable{std::chrono::hours{24}};
    /// After a failure: this, doubled with each further one, up to max_retry.
    std::chrono::seconds first_retry{15};
    std::chrono::seconds max_retry{300};
  };
  /// Fetches of any cause in any 60 s. Tokens with made-up kids may come at 10,000/s; the provider
  /// must not notice.
  static constexpr std::size_t kFetchesPerMinute = 5;

  enum class Decision {
    fetch,    // the asker fetches now
    waiting,  // a fetch is under way: its result will serve this asker too
    not_now,  // nothing due, or the rate is spent: answer with the keys there are
  };

  JwksRefreshPolicy() : JwksRefreshPolicy(Limits{}) {}
  explicit JwksRefreshPolicy(Limits limits) : limits_(limits) {}

  /// The first call ever is due at once.
  Decision due(TimePoint now);
  Decision on_unknown_kid(TimePoint now);

  void succeeded(TimePoint now);
  void failed(TimePoint now);

  /// When due() may first answer fetch; nullopt while a fetch is under way.
  std::optional<TimePoint> next_due() const;
  /// Whether keys were fetched and are younger than Limits::usable. If not, refuse all tokens.
  bool usable(TimePoint now) const;
  /// Whether the keys are past Limits::cached: still usable, but the provider could not be reached.
  bool stale(TimePoint now) const;

 private:
  Decision start(TimePoint now);
  TimePoint rate_free_at() const;

  const Limits limits_;
  mutable std::mutex mutex_;
  bool under_way_ = false;
  std::optional<TimePoint> last_success_;
  std::optional<TimePoint> retry_at_;  // set by a failure, cleared by a success
  unsigned failures_ = 0;
  std::array<std::optional<TimePoint>, kFetchesPerMinute> starts_;  // a ring: the oldest is overwritten
  std::size_t next_start_ = 0;
};

}  // namespace tunneld::access
