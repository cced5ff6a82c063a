#include "tunneld/admin/cells.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

namespace tunneld::admin {

std::size_t stripe() {
  static std::atomic<std::size_t> next{0};
  thread_local const std::size_t mine = next.fetch_add(1, std::memory_order_relaxed) % kStripes;
  return mine;
}

std::uint64_t Counter::value() const {
  std::uint64_t sum = 0;
  for (const auto& one : stripes_) sum += one.value.load(std::memory_order_relaxed);
  return sum;
}

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds.begin(), bounds.end()), stripes_(std::make_unique<std::array<Stripe, kStripes>>()) {
  if (bounds.size() > kMaxBounds) throw std::logic_error("histogram with too many bounds");
  for (std::size_t i = 0; i < bounds.size(); ++i)
    bounds_ns_[i] = static_cast<std::uint64_t>(std::llround(bounds[i] * 1e9));
}

void Histogram::observe(Duration took) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0));
  std::size_t bucket = 0;
  while (bucket < bounds_.size() && value > bounds_ns_[bucket]) ++bucket;
  auto& mine = (*stripes_)[stripe()];
  mine.counts[bucket].fetch_add(1, std::memory_order_relaxed);
  mine.sum_ns.fetch_add(value, std::memory_order_relaxed);
}

Histogram::Reading Histogram::read() const {
  Reading reading{bounds_, std::vector<std::uint64_t>(bounds_.size() + 1), 0};
  std::uint64_t sum = 0;
  for (const auto& one : *stripes_) {
    for (std::size_t i = 0; i <= bounds_.size(); ++i)
      reading.cumulative[i] += one.counts[i].load(std::memory_order_relaxed);
    sum += one.sum_ns.load(std::memory_order_relaxed);
  }
  for (std::size_t i = 1; i < reading.cumulative.size(); ++i)
    reading.cumulative[i] += reading.cumulative[i - 1];
  reading.sum = static_cast<double>(sum) / 1e9;
  return reading;
}

LabelledCounters::LabelledCounters(std::span<const std::string_view> known) {
  for (auto value : known) add(value, 0);
}

Counter* LabelledCounters::find(std::string_view value, std::size_t count) const {
  for (std::size_t i = 0; i < count; ++i)
    if (slots_[i]->label == value) return &slots_[i]->counter;
  return nullptr;
}

void LabelledCounters::add(std::string_view value, std::uint64_t amount) {
  auto* counter = find(value, count_.load(std::memory_order_acquire));
  if (counter == nullptr) {
    const std::lock_guard lock(adding_);
    auto count = count_.load(std::memory_order_relaxed);
    if (count >= kMaxValues) value = "other";
    counter = find(value, count);  // another thread may have been first
    if (counter == nullptr) {
      slots_[count] = std::make_unique<Slot>();
      slots_[count]->label = value;
      counter = &slots_[count]->counter;
      count_.store(count + 1, std::memory_order_release);
    }
  }
  if (amount != 0) counter->add(amount);
}

std::vector<LabelledCounters::Entry> LabelledCounters::read() const {
  std::vector<Entry> entries;
  const auto count = count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) entries.push_back({slots_[i]->label, slots_[i]->counter.value()});
  return entries;
}

namespace {

/// Position of the highest bit, and the next bits as the fraction of the doubling. `fraction_bits` says how
/// many buckets a doubling has.
std::size_t logarithmic(std::uint64_t nanoseconds, unsigned fraction_bits, std::size_t buckets) {
  const auto units = std::max<std::uint64_t>(nanoseconds >> 10U, 1);  // of 1.024 µs
  const auto power = static_cast<std::size_t>(std::bit_width(units) - 1);
  const auto mask = (std::uint64_t{1} << fraction_bits) - 1;
  const auto fraction = ((units << fraction_bits) >> power) & mask;
  return std::min((power << fraction_bits) + static_cast<std::size_t>(fraction), buckets - 1);
}

/// In seconds.
double middle_of_bucket(std::size_t bucket, std::size_t per_double) {
  const auto power = static_cast<double>(bucket / per_double);
  const auto steps = static_cast<double>(bucket % per_double) + 0.5;
  return std::exp2(power) * (1 + steps / static_cast<double>(per_double)) * 1024e-9;
}

std::uint64_t nanoseconds_of(std::chrono::steady_clock::duration took) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  return static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0));
}

}  // namespace

DurationSketch::DurationSketch() : stripes_(std::make_unique<std::array<Stripe, kStripes>>()) {}

void DurationSketch::observe(std::chrono::steady_clock::duration took) {
  const auto bucket = logarithmic(nanoseconds_of(took), 2, kBuckets);
  (*stripes_)[stripe()].counts[bucket].fetch_add(1, std::memory_order_relaxed);
}

DurationSketch::Counts DurationSketch::read() const {
  Counts counts{};
  for (const auto& one : *stripes_)
    for (std::size_t i = 0; i < kBuckets; ++i) counts[i] += one.counts[i].load(std::memory_order_relaxed);
  return counts;
}

double DurationSketch::percentile(const Counts& counts, double share) {
  std::uint64_t all = 0;
  for (const auto count : counts) all += count;
  if (all == 0) return 0;
  const auto wanted = std::max(1.0, std::ceil(share * static_cast<double>(all)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts[i];
    if (static_cast<double>(seen) >= wanted) return middle_of_bucket(i, kPerDouble);
  }
  return middle_of_bucket(kBuckets - 1, kPerDouble);
}

SlidingDurations::SlidingDurations() : slices_(std::make_unique<std::array<Slice, kSlices>>()) {}

std::size_t SlidingDurations::bucket_of(std::uint64_t nanoseconds) {
  return logarithmic(nanoseconds, 4, kBuckets);
}

double SlidingDurations::middle_of(std::size_t bucket) {
  return middle_of_bucket(bucket, kPerDouble);
}

void SlidingDurations::observe(Clock::duration took, Clock::time_point now) {
  const std::int64_t number = now.time_since_epoch() / kSlice;
  auto& slice = (*slices_)[static_cast<std::size_t>(number) % kSlices];
  if (slice.number.load(std::memory_order_acquire) != number) {
    const std::lock_guard lock(turning_);
    // A thread whose `now` is a slice behind must not turn the ring back.
    if (slice.number.load(std::memory_order_relaxed) < number) {
      for (auto& count : slice.counts) count.store(0, std::memory_order_relaxed);
      slice.sum_ns.store(0, std::memory_order_relaxed);
      slice.number.store(number, std::memory_order_release);
    }
  }
  const auto ns = nanoseconds_of(took);
  slice.counts[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
  slice.sum_ns.fetch_add(ns, std::memory_order_relaxed);
}

SlidingDurations::Percentiles SlidingDurations::read(Clock::time_point now,
                                                     std::chrono::seconds window) const {
  const auto slices = std::clamp<std::int64_t>(window / kSlice, 1, static_cast<std::int64_t>(kSlices));
  const std::int64_t number = now.time_since_epoch() / kSlice;
  std::array<std::uint64_t, kBuckets> counts{};
  Percentiles result;
  double sum = 0;
  for (const auto& slice : *slices_) {
    const auto of = slice.number.load(std::memory_order_acquire);
    if (of < 0 || of <= number - slices || of > number) continue;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      const auto count = slice.counts[i].load(std::memory_order_relaxed);
      counts[i] += count;
      result.count += count;
    }
    sum += static_cast<double>(slice.sum_ns.load(std::memory_order_relaxed)) / 1e9;
  }
  if (result.count == 0) return result;
  result.mean = sum / static_cast<double>(result.count);
  const auto at = [&](double share) {
    const auto wanted = std::max(1.0, std::ceil(share * static_cast<double>(result.count)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += counts[i];
      if (static_cast<double>(seen) >= wanted) return middle_of(i);
    }
    return middle_of(kBuckets - 1);
  };
  result.p50 = at(0.50);
  result.p95 = at(0.95);
  result.p99 = at(0.99);
  return result;
}

}  // namespace tunneld::admin
