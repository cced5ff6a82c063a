#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/result.h"
#include "tunneld/admin/cells.h"

namespace tunneld::admin {

/// What the daemon did over the last seven days, in fixed memory (about 400 KiB): every ten seconds for
/// an hour, every hour for a week, every day for a week. Days and hours are those of UTC.
///
/// Pure: time is an argument. One thread. Percentiles of an hour are those of its requests, not an average
/// of percentiles, because each period keeps how its requests' durations were spread.
class History {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  static constexpr std::chrono::seconds kEvery{10};
  static constexpr std::size_t kRaw = 360, kHours = 168, kDays = 7;

  /// The daemon's counters as they stand, since its start.
  struct Totals {
    std::uint64_t requests = 0, errors = 0, bytes_in = 0, bytes_out = 0;
    DurationSketch::Counts durations{};
    // Levels at this moment.
    std::uint64_t connections = 0, queue = 0, in_flight = 0;
  };
  /// A stretch of time. Counters are what was added in it, levels the highest that was seen.
  struct Period {
    WallTime begin{};
    std::chrono::seconds length{};  // covered; less than an hour or a day when that was not seen whole
    std::uint64_t requests = 0, errors = 0, bytes_in = 0, bytes_out = 0;
    std::uint64_t connections = 0, queue = 0, in_flight = 0;
    std::array<std::uint32_t, DurationSketch::kBuckets> durations{};
    /// In seconds; 0 without requests.
    double percentile(double share) const;
  };

  History();
  /// Called every `kEvery`. The first call after a start only takes the counters' state. A wall clock that
  /// was set back does not go over old periods again: until it has caught up, the newest one goes on.
  void add(const Totals& totals, WallTime now);

  enum class Aggregation { raw, hourly, daily };
  /// The finished periods that ended after now - window, oldest first, then the one that is going on.
  std::vector<Period> periods(std::chrono::seconds window, Aggregation aggregation, WallTime now) const;
  /// All raw periods of the last `window` (at most an hour) as one.
  Period sum(std::chrono::seconds window, WallTime now) const;

  /// {"window","aggregation","periods":[{"time","seconds","requests","errors","bytesIn","bytesOut",
  /// "connections","queue","inFlight","p50Ms","p95Ms"}]}
  nlohmann::ordered_json json(std::string_view window_name, std::chrono::seconds window,
                              Aggregation aggregation, WallTime now) const;

  /// Writes hours and days (the raw hour is not worth it) to `file`, replacing it whole; mode 0600.
  Result<void> save(const std::filesystem::path& file) const;
  /// What `save` wrote. None yet is an empty history. Anything else that cannot be understood is an error
  /// naming the file, and the history stays empty: it is no reason not to start.
  Result<void> load(const std::filesystem::path& file, WallTime now);

 private:
  void add_to(std::vector<Period>& ring, std::size_t most, std::chrono::seconds unit, const Period& part);

  std::optional<Totals> before_;
  WallTime before_at_{};
  std::vector<Period> raw_, hours_, days_;  // oldest first; the last of hours and days is going on
};

}  // namespace tunneld::admin
