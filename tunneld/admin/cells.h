#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Numbers that every worker thread writes and a scrape now and then reads. No locks and no look-ups
/// on the writing side, and no cache line that two threads write in turn: each counter has a stripe
/// per thread, summed when read.
namespace tunneld::admin {

/// Threads share stripes when there are more of them than this; only speed suffers.
inline constexpr std::size_t kStripes = 8;

/// This thread's stripe, 0 to kStripes - 1.
std::size_t stripe();

class Counter {
 public:
  void add(std::uint64_t amount = 1) {
    stripes_[stripe()].value.fetch_add(amount, std::memory_order_relaxed);
  }
  std::uint64_t value() const;

 private:
  struct alignas(64) Stripe {
    std::atomic<std::uint64_t> value{0};
  };
  std::array<Stripe, kStripes> stripes_;
};

/// A level that goes up and down, in stripes too: one thread may add what another takes away.
class Level {
 public:
  void add(std::int64_t change) {
    // Unsigned wrap-around makes the sum come out right whichever stripe a change went to.
    counter_.add(static_cast<std::uint64_t>(change));
  }
  std::int64_t value() const { return static_cast<std::int64_t>(counter_.value()); }

 private:
  Counter counter_;
};

/// Seconds in buckets. `bounds` are upper bounds, ascending, at most kMaxBounds.
class Histogram {
 public:
  static constexpr std::size_t kMaxBounds = 15;
  using Duration = std::chrono::steady_clock::duration;

  explicit Histogram(std::span<const double> bounds);
  void observe(Duration took);

  struct Reading {
    std::vector<double> bounds;
    std::vector<std::uint64_t> cumulative;  // one more than bounds: the last is +Inf
    double sum = 0;                         // seconds
  };
  Reading read() const;

 private:
  struct alignas(64) Stripe {
    std::array<std::atomic<std::uint64_t>, kMaxBounds + 1> counts{};
    std::atomic<std::uint64_t> sum_ns{0};
  };
  std::vector<double> bounds_;
  std::array<std::uint64_t, kMaxBounds> bounds_ns_{};
  std::unique_ptr<std::array<Stripe, kStripes>> stripes_;
};

/// Counters by a label whose values come from other rooms as short text. Bounded: past kMaxValues
/// everything new is counted as "other", so that no peer can grow the exposition.
class LabelledCounters {
 public:
  static constexpr std::size_t kMaxValues = 32;

  /// `known` exist from the start with 0, so that a rate() sees the first event.
  explicit LabelledCounters(std::span<const std::string_view> known = {});
  void add(std::string_view value, std::uint64_t amount = 1);

  struct Entry {
    std::string label;
    std::uint64_t value;
  };
  std::vector<Entry> read() const;

 private:
  struct Slot {
    std::string label;
    Counter counter;
  };
  Counter* find(std::string_view value, std::size_t count) const;

  std::mutex adding_;
  std::atomic<std::size_t> count_{0};  // slots below it are complete and never change their label
  std::array<std::unique_ptr<Slot>, kMaxValues + 1> slots_;
};

/// Durations since the start in logarithmic buckets (4 to the factor of two, so that a percentile is at
/// most 12.5 % off) from 16 µs to 18 min. Differences and sums of counts make sense, so that the percentiles
/// of an hour come from its parts.
class DurationSketch {
 public:
  static constexpr std::size_t kPerDouble = 4;
  static constexpr std::size_t kBuckets = 30 * kPerDouble;
  using Counts = std::array<std::uint64_t, kBuckets>;

  DurationSketch();
  void observe(std::chrono::steady_clock::duration took);
  Counts read() const;
  /// In seconds; 0 when nothing was counted. `share` is in (0, 1].
  static double percentile(const Counts& counts, double share);

 private:
  struct alignas(64) Stripe {
    std::array<std::atomic<std::uint64_t>, kBuckets> counts{};
  };
  std::unique_ptr<std::array<Stripe, kStripes>> stripes_;
};

/// Durations of the last five minutes, for percentiles, in fixed memory: a ring of 30 slices of 10 s,
/// each with logarithmic buckets (16 to the factor of two, so that a percentile is at most 4.5 % off) from 1
/// µs to 10 min.
class SlidingDurations {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kSlice{10};
  static constexpr std::size_t kSlices = 30;

  SlidingDurations();
  void observe(Clock::duration took, Clock::time_point now);

  struct Percentiles {
    std::uint64_t count = 0;
    double mean = 0, p50 = 0, p95 = 0, p99 = 0;  // seconds; 0 when there were none
  };
  /// Of the last `window`, in whole slices; at most what the ring holds.
  Percentiles read(Clock::time_point now, std::chrono::seconds window = kSlice * kSlices) const;

 private:
  static constexpr std::size_t kPerDouble = 16;
  static constexpr std::size_t kBuckets = 30 * kPerDouble;
  static std::size_t bucket_of(std::uint64_t nanoseconds);
  static double middle_of(std::size_t bucket);  // seconds

  struct Slice {
    std::atomic<std::int64_t> number{-1};  // which 10 s since the clock's epoch
    std::atomic<std::uint64_t> sum_ns{0};
    std::array<std::atomic<std::uint32_t>, kBuckets> counts{};
  };
  std::mutex turning_;
  std::unique_ptr<std::array<Slice, kSlices>> slices_;
};

}  // namespace tunneld::admin
