#include "tunneld/access/rate_limits.h"

#include <atomic>
#include <cstring>
#include <limits>

#include "common/keyed_hash.h"
#include "tunneld/access/digest.h"
#include "tunneld/access/recent_table.h"
#include "tunneld/access/token_bucket.h"

namespace tunneld::access {
namespace {

using std::chrono::milliseconds;

struct Bucket {
  std::int64_t full_at = std::numeric_limits<std::int64_t>::min();
  unsigned per_minute = 0;  // the rate it was last used at
};

/// A principal's key as 128 bits of its SHA-256: callers may choose their subject, and must not be able
/// to choose one that shares another's bucket.
using PrincipalDigest = std::array<std::uint64_t, 2>;

PrincipalDigest digest_of(std::string_view key) {
  const Sha256 digest = sha256(key);
  PrincipalDigest prefix;
  std::memcpy(prefix.data(), digest.data(), sizeof prefix);
  return prefix;
}

RateDecision describe(const TokenBucket& rate, std::int64_t used, bool allowed) {
  return {.allowed = allowed,
          .limit = rate.per_minute(),
          .remaining = rate.whole_tokens(used),
          .until_full = rounded_up<milliseconds>(used),
          .retry_after = rounded_up<milliseconds>(allowed ? 0 : rate.until_one(used))};
}

RateDecision take_from(Bucket& bucket, const TokenBucket& rate, std::int64_t now) {
  std::int64_t used;
  if (bucket.per_minute == rate.per_minute()) {
    used = rate.used(bucket.full_at, now);
  } else {
    const TokenBucket before(bucket.per_minute);
    used = before.carried_to(rate, before.used(bucket.full_at, now));
    bucket = {now + used, rate.per_minute()};
  }
  // A refusal changes nothing, so that it costs the caller nothing either.
  if (!rate.has_one(used)) return describe(rate, used, false);
  used += rate.interval();
  bucket.full_at = now + used;
  return describe(rate, used, true);
}

template <class Key>
class Buckets {
 public:
  explicit Buckets(std::size_t capacity) : table_(capacity) {}

  RateDecision take(const Key& key, std::uint64_t hash, unsigned per_minute, std::int64_t now) {
    const TokenBucket rate(per_minute);
    if (!rate.limits()) return {};
    return table_.with(hash, [&](auto& table) {
      Bucket* bucket = table.touch(key, hash);
      if (bucket == nullptr)
        bucket = &table.add(key, hash, Bucket{.full_at = now, .per_minute = per_minute},
                            [now](const Bucket& other) { return other.full_at <= now; });
      return take_from(*bucket, rate, now);
    });
  }

  void give_back(const Key& key, std::uint64_t hash, std::int64_t now) {
    table_.with(hash, [&](auto& table) {
      Bucket* bucket = table.find(key, hash);
      // One that filled up meanwhile, or was dropped for it, has forgotten what was taken.
      if (bucket != nullptr && bucket->full_at > now)
        bucket->full_at -= TokenBucket(bucket->per_minute).interval();
    });
  }

  std::size_t size() const {
    std::size_t total = 0;
    table_.with_each([&](const auto& table) { total += table.size(); });
    return total;
  }

 private:
  SharedTable<Key, Bucket> table_;
};

}  // namespace

struct RateLimits::Impl {
  explicit Impl(const Options& options)
      : principals(options.max_principals),
        addresses(options.max_addresses),
        handshakes(options.max_addresses) {
    configure(options);
  }

  void configure(const Options& options) {
    for (std::size_t tier = 0; tier < per_minute.size(); ++tier) per_minute[tier] = options.per_minute[tier];
    address_per_minute = options.address_per_minute;
    handshakes_per_minute = options.handshakes_per_minute;
    global_per_minute = options.global_per_minute;
  }

  std::array<std::atomic<unsigned>, 3> per_minute{};
  std::atomic<unsigned> address_per_minute{};
  std::atomic<unsigned> handshakes_per_minute{};
  std::atomic<unsigned> global_per_minute{};

  Buckets<PrincipalDigest> principals;
  Buckets<tunnel::Address> addresses;
  Buckets<tunnel::Address> handshakes;
  /// Every request of every thread comes here: on a cache line of its own.
  alignas(64) std::atomic<std::int64_t> global_full_at{std::numeric_limits<std::int64_t>::min()};
};

RateLimits::RateLimits(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
RateLimits::~RateLimits() = default;

void RateLimits::configure(const Options& options) {
  impl_->configure(options);
}

RateDecision RateLimits::take(std::string_view key, tunnel::Tier tier, Time now) {
  const unsigned per_minute = impl_->per_minute[static_cast<std::size_t>(tier)];
  if (per_minute == 0) return {};
  const PrincipalDigest digest = digest_of(key);
  return impl_->principals.take(digest, keyed_hash(digest[0], digest[1]), per_minute, nanoseconds_of(now));
}

RateDecision RateLimits::take(const tunnel::Address& address, Time now) {
  return impl_->addresses.take(address, address.hash(), impl_->address_per_minute, nanoseconds_of(now));
}

void RateLimits::give_back(const tunnel::Address& address, Time now) {
  impl_->addresses.give_back(address, address.hash(), nanoseconds_of(now));
}

RateDecision RateLimits::take_handshake(const tunnel::Address& address, Time now) {
  return impl_->handshakes.take(address, address.hash(), impl_->handshakes_per_minute, nanoseconds_of(now));
}

void RateLimits::give_back_handshake(const tunnel::Address& address, Time now) {
  impl_->handshakes.give_back(address, address.hash(), nanoseconds_of(now));
}

RateDecision RateLimits::take_global(Time now) {
  const TokenBucket rate(impl_->global_per_minute);
  if (!rate.limits()) return {};
  const std::int64_t at = nanoseconds_of(now);
  // The bucket's whole state is one number. It does not say at which rate it was used: after a change of
  // rate what was used counts as the same time, which is the same part of ten seconds' worth.
  std::int64_t full_at = impl_->global_full_at.load(std::memory_order_relaxed);
  for (;;) {
    const std::int64_t used = rate.used(full_at, at);
    if (!rate.has_one(used)) return describe(rate, used, false);
    if (impl_->global_full_at.compare_exchange_weak(full_at, at + used + rate.interval(),
                                                    std::memory_order_relaxed))
      return describe(rate, used + rate.interval(), true);
  }
}

RateLimits::Sizes RateLimits::sizes() const {
  return {.principals = impl_->principals.size(),
          .addresses = impl_->addresses.size(),
          .handshakes = impl_->handshakes.size()};
}

}  // namespace tunneld::access
