#include "tunneld/access/circuit_breakers.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <list>
#include <map>
#include <mutex>

#include "tunneld/access/digest.h"

namespace tunneld::access {
namespace {

using std::chrono::milliseconds;

/// What a caller is told while a probe is out: nobody knows how long that takes.
constexpr milliseconds kProbeWait{1000};
constexpr std::size_t kLastErrors = 5;
constexpr std::size_t kMaxErrorBytes = 200;

milliseconds since(CircuitBreaker::Time from, CircuitBreaker::Time to) {
  return std::chrono::ceil<milliseconds>(to - from);
}

}  // namespace

CircuitBreaker::Admission CircuitBreaker::admit(const BreakerOptions&, Time now) {
  if (state_ == BreakerState::closed) return {};
  if (state_ == BreakerState::open) {
    if (now < next_probe_) return {.allowed = false, .probe = false, .retry_after = since(now, next_probe_)};
    state_ = BreakerState::half_open;
    successes_ = 0;
  } else if (probing_) {
    return {.allowed = false, .probe = false, .retry_after = kProbeWait};
  }
  probing_ = true;
  return {.allowed = true, .probe = true, .retry_after = {}};
}

bool CircuitBreaker::succeeded(const BreakerOptions& options, bool probe, Time) {
  if (state_ == BreakerState::closed) failures_ = 0;
  // Admitted before it opened: says nothing about now.
  if (state_ != BreakerState::half_open || !probe) return false;
  probing_ = false;
  failures_ = 0;
  if (++successes_ < options.successes) return false;
  state_ = BreakerState::closed;
  return true;
}

bool CircuitBreaker::failed(const BreakerOptions& options, bool probe, Time now) {
  if (state_ == BreakerState::closed) {
    successes_ = 0;
    if (++failures_ < options.failures) return false;
    opened_at_ = now;
    reset_ = options.reset;
  } else {
    if (state_ != BreakerState::half_open || !probe) return false;
    ++failures_;
    reset_ = std::max(options.reset, std::min(reset_ * 2, options.max_reset));
  }
  state_ = BreakerState::open;
  successes_ = 0;
  probing_ = false;
  next_probe_ = now + reset_;
  return true;
}

void CircuitBreaker::abandoned(bool probe) {
  if (probe && state_ == BreakerState::half_open) probing_ = false;
}

namespace {

/// Unambiguous whatever the parts hold.
std::string text_of(const CircuitBreakers::Key& key) {
  std::string text = std::to_string(key.principal.size()) + ',' + std::to_string(key.upstream.size()) + ',';
  text.reserve(text.size() + key.principal.size() + key.upstream.size() + key.service.size());
  return text.append(key.principal).append(key.upstream).append(key.service);
}

/// The other way round; `text` is ours.
CircuitBreakers::Key parts_of(std::string_view text) {
  std::array<std::size_t, 2> sizes{};
  for (auto& size : sizes) {
    const auto end = std::from_chars(text.data(), text.data() + text.size(), size).ptr;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  }
  return {.principal = text.substr(0, sizes[0]),
          .upstream = text.substr(sizes[0], sizes[1]),
          .service = text.substr(sizes[0] + sizes[1])};
}

std::string id_of(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const Sha256 digest = sha256(text);
  std::string id;
  for (std::size_t i = 0; i < 8; ++i) {
    id += kDigits[digest[i] >> 4U];
    id += kDigits[digest[i] & 0xfU];
  }
  return id;
}

/// At most so many bytes, and no half of a UTF-8 character at the end.
std::string cut(std::string_view text) {
  std::size_t size = std::min(text.size(), kMaxErrorBytes);
  if (size < text.size())
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0U) == 0x80U) --size;
  return std::string(text.substr(0, size));
}

}  // namespace

struct CircuitBreakers::Impl {
  struct Entry {
    CircuitBreaker breaker{};
    std::uint64_t probe = 0;  // the number of the probe that is out
    std::uint64_t refused = 0;
    std::vector<std::string> last_errors{};
    std::string id{}, principal{}, upstream{}, service{};
    std::list<const std::string*>* order = nullptr;
    std::list<const std::string*>::iterator place{};
  };
  // Ordered: no choice of subjects makes a look-up slow.
  using Entries = std::map<std::string, Entry, std::less<>>;

  /// One lock each, so that threads on different shards do not wait for one another.
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    BreakerOptions options;
    std::size_t capacity = 1;
    Entries entries;
    // Used last stands last.
    std::list<const std::string*> closed, others;
  };
  static constexpr std::size_t kShards = 16;

  Impl(const Options& options, std::function<void(const Change&)> changed)
      : on_change(std::move(changed)), shards(options.max_entries < 64 * kShards ? 1 : kShards) {
    configure(options);
  }

  void configure(const Options& options) {
    for (Shard& shard : shards) {
      const std::lock_guard lock(shard.mutex);
      shard.options = options;
      shard.capacity = std::max<std::size_t>(1, options.max_entries / shards.size());
    }
  }

  Shard& shard_of(const std::string& text) { return shards[std::hash<std::string>{}(text) % shards.size()]; }

  void tell(const std::optional<Change>& change) const {
    if (change && on_change) on_change(*change);
  }

  static Info info_of(const Entry& entry) {
    return {.id = entry.id,
            .principal = entry.principal,
            .upstream = entry.upstream,
            .service = entry.service,
            .state = entry.breaker.state(),
            .failures_in_a_row = entry.breaker.failures_in_a_row(),
            .successes_in_a_row = entry.breaker.successes_in_a_row(),
            .opened_at = entry.breaker.opened_at(),
            .next_probe = entry.breaker.next_probe(),
            .refused = entry.refused,
            .last_errors = entry.last_errors};
  }

  // Below: the shard's lock is held.

  void forget(Shard& shard, Entries::iterator at) {
    at->second.order->erase(at->second.place);
    shard.entries.erase(at);
    entries.fetch_sub(1, std::memory_order_release);
  }

  static void used(Shard& shard, Entries::iterator at) {
    Entry& entry = at->second;
    auto& order = entry.breaker.state() == BreakerState::closed ? shard.closed : shard.others;
    order.splice(order.end(), *entry.order, entry.place);
    entry.order = &order;
  }

  Entries::iterator add(Shard& shard, const std::string& text) {
    while (shard.entries.size() >= shard.capacity) {
      const auto& order = shard.closed.empty() ? shard.others : shard.closed;
      forget(shard, shard.entries.find(*order.front()));
    }
    const auto at = shard.entries.emplace(text, Entry{}).first;
    Entry& entry = at->second;
    entry.id = id_of(text);
    const Key parts = parts_of(text);
    entry.principal = parts.principal;
    entry.upstream = parts.upstream;
    entry.service = parts.service;
    entry.order = &shard.closed;
    entry.place = shard.closed.insert(shard.closed.end(), &at->first);
    entries.fetch_add(1, std::memory_order_release);
    return at;
  }

  /// After something happened to it: what to tell, and whether it is still worth its place.
  std::optional<Change> settle(Shard& shard, Entries::iterator at, BreakerState before, Time now) {
    std::optional<Change> change;
    const Entry& entry = at->second;
    const BreakerState state = entry.breaker.state();
    if (state != before) {
      change = Change{before, info_of(entry), {}};
      if (state == BreakerState::closed) change->open_for = since(entry.breaker.opened_at(), now);
    }
    if (entry.breaker.blank())
      forget(shard, at);
    else
      used(shard, at);
    return change;
  }

  const std::function<void(const Change&)> on_change;
  std::vector<Shard> shards;
  /// In all shards. While it is 0 nothing failed, and nothing needs a look.
  std::atomic<std::size_t> entries{0};
  std::atomic<std::uint64_t> probes{0};
};

CircuitBreakers::CircuitBreakers(const Options& options, std::function<void(const Change&)> on_change)
    : impl_(std::make_unique<Impl>(options, std::move(on_change))) {}
CircuitBreakers::~CircuitBreakers() = default;

void CircuitBreakers::configure(const Options& options) {
  impl_->configure(options);
}

std::variant<CircuitBreakers::Permit, CircuitBreakers::Open> CircuitBreakers::admit(const Key& key,
                                                                                    Time now) {
  Permit permit(this, text_of(key));
  if (impl_->entries.load(std::memory_order_acquire) == 0) return permit;
  std::optional<Change> change;
  std::optional<Open> refusal;
  auto& shard = impl_->shard_of(permit.key_);
  {
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.entries.find(permit.key_);
    if (found == shard.entries.end()) return permit;
    auto& entry = found->second;
    const BreakerState before = entry.breaker.state();
    const auto admission = entry.breaker.admit(shard.options, now);
    if (admission.probe) permit.probe_ = entry.probe = ++impl_->probes;
    if (!admission.allowed) {
      ++entry.refused;
      permit.breakers_ = nullptr;
      refusal = Open{admission.retry_after};
    }
    change = impl_->settle(shard, found, before, now);
  }
  impl_->tell(change);
  if (refusal) return *refusal;
  return permit;
}

CircuitBreakers::Permit::Permit(Permit&& other) noexcept
    : breakers_(std::exchange(other.breakers_, nullptr)), key_(std::move(other.key_)), probe_(other.probe_) {}

CircuitBreakers::Permit& CircuitBreakers::Permit::operator=(Permit&& other) noexcept {
  Permit taken(std::move(other));
  std::swap(breakers_, taken.breakers_);
  std::swap(key_, taken.key_);
  std::swap(probe_, taken.probe_);
  return *this;
}

CircuitBreakers::Permit::~Permit() {
  if (breakers_ == nullptr || probe_ == 0) return;
  auto& shard = breakers_->impl_->shard_of(key_);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.entries.find(key_);
  if (found != shard.entries.end()) found->second.breaker.abandoned(found->second.probe == probe_);
}

void CircuitBreakers::Permit::succeeded(Time now) {
  auto* const breakers = std::exchange(breakers_, nullptr);
  if (breakers == nullptr || breakers->impl_->entries.load(std::memory_order_acquire) == 0) return;
  auto& shard = breakers->impl_->shard_of(key_);
  std::optional<Change> change;
  {
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.entries.find(key_);
    if (found == shard.entries.end()) return;
    auto& entry = found->second;
    if (probe_ != 0 && entry.probe != probe_) return;  // of a breaker that was reset or forgotten
    const BreakerState before = entry.breaker.state();
    entry.breaker.succeeded(shard.options, probe_ != 0, now);
    change = breakers->impl_->settle(shard, found, before, now);
  }
  breakers->impl_->tell(change);
}

void CircuitBreakers::Permit::failed(Time now, std::string_view error) {
  auto* const breakers = std::exchange(breakers_, nullptr);
  if (breakers == nullptr) return;
  auto& shard = breakers->impl_->shard_of(key_);
  std::optional<Change> change;
  {
    const std::lock_guard lock(shard.mutex);
    auto at = shard.entries.find(key_);
    if (at == shard.entries.end()) {
      // A probe whose breaker was reset or forgotten: its failure belongs to that one.
      if (probe_ != 0) return;
      at = breakers->impl_->add(shard, key_);
    }
    auto& entry = at->second;
    if (probe_ != 0 && entry.probe != probe_) return;
    const BreakerState before = entry.breaker.state();
    if (entry.last_errors.size() == kLastErrors) entry.last_errors.erase(entry.last_errors.begin());
    entry.last_errors.push_back(cut(error));
    entry.breaker.failed(shard.options, probe_ != 0, now);
    change = breakers->impl_->settle(shard, at, before, now);
  }
  breakers->impl_->tell(change);
}

std::vector<CircuitBreakers::Info> CircuitBreakers::list(Time) const {
  std::vector<Info> all;
  for (const auto& shard : impl_->shards) {
    const std::lock_guard lock(shard.mutex);
    for (const auto& [text, entry] : shard.entries) all.push_back(Impl::info_of(entry));
  }
  return all;
}

bool CircuitBreakers::reset(std::string_view id, Time now) {
  for (auto& shard : impl_->shards) {
    std::optional<Change> change;
    {
      const std::lock_guard lock(shard.mutex);
      const auto found = std::find_if(shard.entries.begin(), shard.entries.end(),
                                      [&](const auto& entry) { return entry.second.id == id; });
      if (found == shard.entries.end()) continue;
      const auto& breaker = found->second.breaker;
      if (breaker.state() != BreakerState::closed) {
        change = Change{breaker.state(), Impl::info_of(found->second), since(breaker.opened_at(), now)};
        change->breaker.state = BreakerState::closed;
        change->breaker.failures_in_a_row = change->breaker.successes_in_a_row = 0;
      }
      impl_->forget(shard, found);
    }
    impl_->tell(change);
    return true;
  }
  return false;
}

}  // namespace tunneld::access
