#include "tunneld/access/penalty_box.h"

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "tunneld/access/recent_table.h"
#include "tunneld/access/token_bucket.h"

namespace tunneld::access {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::min();
/// Failures remembered one by one for each address; beyond, those within a part of the window are one.
constexpr unsigned kRuns = 32;

std::int64_t nanoseconds_of(std::chrono::seconds time) {
  return std::chrono::nanoseconds(time).count();
}

/// What is known of one address.
struct Record {
  struct Failures {
    std::int64_t last;
    unsigned count;
  };
  std::vector<Failures> failures{};  // oldest first, at most kRuns + 1
  std::int64_t blocked_until = kNever;
  std::int64_t throttle_full_at = kNever;  // the bucket of the few requests it has left

  unsigned failures_within(std::int64_t window, std::int64_t now) const {
    unsigned total = 0;
    for (const auto& some : failures)
      if (some.last + window > now) total += some.count;
    return total;
  }
};

/// After a block, throttled for a window: then it is as good as new.
std::int64_t on_probation_until(const Record& record, std::int64_t window) {
  return record.blocked_until == kNever ? kNever : record.blocked_until + window;
}

PenaltyBox::Standing standing_of(const Record& record, const PenaltyBox::Options& options, std::int64_t now) {
  const std::int64_t window = nanoseconds_of(options.window);
  if (now < record.blocked_until) return PenaltyBox::Standing::blocked;
  if (now < on_probation_until(record, window) ||
      record.failures_within(window, now) >= options.throttle_after)
    return PenaltyBox::Standing::throttled;
  return PenaltyBox::Standing::free;
}

void remember_failure(Record& record, const PenaltyBox::Options& options, std::int64_t now) {
  const std::int64_t window = nanoseconds_of(options.window);
  std::erase_if(record.failures, [&](const auto& some) { return some.last + window <= now; });
  const std::int64_t together = options.block_after <= kRuns ? 0 : window / kRuns;
  if (together > 0 && !record.failures.empty() && record.failures.back().last / together == now / together) {
    record.failures.back().last = now;
    ++record.failures.back().count;
  } else {
    // Thresholds that were lowered meanwhile leave more than are needed; the newest ones suffice.
    if (record.failures.size() > kRuns) record.failures.erase(record.failures.begin());
    record.failures.push_back({now, 1});
  }
}

}  // namespace

struct PenaltyBox::Impl {
  explicit Impl(const Options& given) : options(given), records(given.max_entries) {}

  Options current() const {
    const std::shared_lock lock(mutex);
    return options;
  }

  mutable std::shared_mutex mutex;
  Options options;
  SharedTable<tunnel::Address, Record> records;
  /// While nobody fails, nobody waits for a lock here.
  std::atomic<std::size_t> entries{0};
};

PenaltyBox::PenaltyBox(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
PenaltyBox::~PenaltyBox() = default;

void PenaltyBox::configure(const Options& options) {
  const std::unique_lock lock(impl_->mutex);
  impl_->options = options;
}

PenaltyBox::Verdict PenaltyBox::check(const tunnel::Address& address, Time time) {
  if (impl_->entries.load(std::memory_order_acquire) == 0) return {};
  const Options options = impl_->current();
  if (!options.enabled) return {};
  const std::int64_t now = access::nanoseconds_of(time);
  const std::uint64_t hash = address.hash();
  const auto refused = [&](Standing standing, std::int64_t wait) {
    return Verdict{standing, false,
                   std::max(std::chrono::seconds(1), rounded_up<std::chrono::seconds>(wait))};
  };
  return impl_->records.with(hash, [&](auto& records) -> Verdict {
    Record* record = records.find(address, hash);
    if (record == nullptr) return {};
    const Standing standing = standing_of(*record, options, now);
    if (standing == Standing::free) return {};
    if (standing == Standing::blocked) return refused(standing, record->blocked_until - now);
    // A small burst: ten at once would not be slow.
    const TokenBucket rate(options.throttled_per_minute, 1);
    if (!rate.limits()) return refused(standing, nanoseconds_of(options.window));
    const std::int64_t used = rate.used(record->throttle_full_at, now);
    if (!rate.has_one(used)) return refused(standing, rate.until_one(used));
    record->throttle_full_at = now + used + rate.interval();
    return {standing, true, {}};
  });
}

std::optional<PenaltyBox::Standing> PenaltyBox::failed(const tunnel::Address& address, Time time) {
  const Options options = impl_->current();
  if (!options.enabled) return std::nullopt;
  const std::int64_t now = access::nanoseconds_of(time);
  const std::uint64_t hash = address.hash();
  return impl_->records.with(hash, [&](auto& records) -> std::optional<Standing> {
    Record* record = records.touch(address, hash);
    if (record == nullptr) {
      const auto size = records.size();
      record = &records.add(address, hash, Record{}, [&](const Record& other) {
        return standing_of(other, options, now) == Standing::free &&
               other.failures_within(nanoseconds_of(options.window), now) == 0;
      });
      impl_->entries.fetch_add(records.size() - size, std::memory_order_release);
    }
    const Standing before = standing_of(*record, options, now);
    // The block runs from the failure that brought it: else a shared address might never come out.
    if (before == Standing::blocked) return std::nullopt;
    remember_failure(*record, options, now);
    const auto recent = record->failures_within(nanoseconds_of(options.window), now);
    if (recent >= options.block_after) {
      *record = Record{};
      record->blocked_until = now + nanoseconds_of(options.block_for);
    }
    const Standing after = standing_of(*record, options, now);
    return after == before ? std::nullopt : std::optional(after);
  });
}

bool PenaltyBox::pardon(const tunnel::Address& address) {
  const std::uint64_t hash = address.hash();
  return impl_->records.with(hash, [&](auto& records) {
    const bool erased = records.erase(address, hash);
    if (erased) impl_->entries.fetch_sub(1, std::memory_order_release);
    return erased;
  });
}

PenaltyBox::Counts PenaltyBox::counts(Time time) const {
  const Options options = impl_->current();
  const std::int64_t now = access::nanoseconds_of(time);
  Counts counts;
  impl_->records.with_each([&](const auto& records) {
    counts.entries += records.size();
    records.for_each([&](const tunnel::Address&, const Record& record) {
      const Standing standing = standing_of(record, options, now);
      if (standing == Standing::throttled) ++counts.throttled;
      if (standing == Standing::blocked) ++counts.blocked;
    });
  });
  return counts;
}

}  // namespace tunneld::access
