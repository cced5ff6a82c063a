#include "tunnel/queue_ledger.h"

#include <algorithm>
#include <array>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace tunnel {

namespace {

using Clock = std::chrono::steady_clock;

/// One principal's part of the memory is 1/kShare.
constexpr std::size_t kShare = 4;
constexpr std::chrono::seconds kShortestRetry{1};
constexpr std::chrono::seconds kLongestRetry{60};

struct QueueEntry;

/// What one principal has in the queue. Gone with the last of it.
struct PrincipalQueue {
  std::size_t waiting = 0;
  std::size_t bytes = 0;
  std::size_t capacity = 1;
  FlowLevel level = FlowLevel::open;
  /// Moving mean of how long those served lately had waited.
  Clock::duration mean_wait{};
  /// Those of low priority, newest last.
  std::list<QueueEntry*> low;
};
using PrincipalQueues = std::map<std::string, PrincipalQueue, std::less<>>;

struct QueueEntry {
  PrincipalQueues::iterator queue{};
  Priority priority = Priority::normal;
  std::size_t bytes = 0;
  Clock::time_point entered{};
  std::function<void()> evict{};
  std::list<QueueEntry*>::iterator in_low{};
  bool over = false;
};

}  // namespace

struct QueueLedger::Place::Data : QueueEntry {
  std::shared_ptr<Impl> impl;
};

struct QueueLedger::Impl {
  Impl(const Options& options_in, Observer& observer_in, OnLevel on_level_in, Now now_in)
      : options(options_in),
        observer(observer_in),
        on_level(std::move(on_level_in)),
        now(std::move(now_in)) {}

  struct LevelChange {
    std::string principal;
    FlowLevel level;
    double fill;
  };
  /// At most one a call; told once the lock is free.
  using Changed = std::optional<LevelChange>;

  void tell(const Changed& changed) const {
    if (!changed) return;
    observer.flow_level_changed(changed->level);
    if (on_level) on_level(changed->principal, changed->level, changed->fill);
  }

  // --- With the lock held -----------------------------------------------------------------------

  std::size_t share() const { return options.total_bytes / kShare; }

  double fill(const PrincipalQueue& queue) const {
    const auto by_count = static_cast<double>(queue.waiting) / static_cast<double>(queue.capacity);
    const auto by_bytes =
        static_cast<double>(queue.bytes) / static_cast<double>(std::max<std::size_t>(1, share()));
    return std::min(1.0, std::max(by_count, by_bytes));
  }

  /// Whether one more of `bytes` fits, once `freed_places` and `freed_bytes` are given up.
  bool fits(const PrincipalQueue& queue, std::size_t bytes, std::size_t freed_places,
            std::size_t freed_bytes) const {
    return queue.waiting - freed_places < queue.capacity && queue.bytes - freed_bytes + bytes <= share() &&
           total_bytes - freed_bytes + bytes <= options.total_bytes;
  }

  /// How many of the newest low ones must go for one of `bytes` to come in; nothing if that cannot help.
  std::optional<std::size_t> evictions_for(const PrincipalQueue& queue, Priority priority,
                                           std::size_t bytes) const {
    const bool drops_low = queue.level == FlowLevel::drop_low;
    if (priority == Priority::low) {
      if (drops_low || !fits(queue, bytes, 0, 0)) return std::nullopt;
      return 0;
    }
    std::size_t places = 0;
    std::size_t freed = 0;
    auto at = queue.low.rbegin();
    while ((drops_low && places == 0) || !fits(queue, bytes, places, freed)) {
      if (at == queue.low.rend()) break;
      ++places;
      freed += (*at)->bytes;
      ++at;
    }
    if (!fits(queue, bytes, places, freed)) return std::nullopt;
    return places;
  }

  void evict_newest_low(PrincipalQueue& queue) {
    auto& victim = *queue.low.back();
    strike(victim, QueueExit::evicted);
    if (victim.evict) victim.evict();
  }

  /// Takes an entry off the books. The queue stays.
  void strike(QueueEntry& entry, QueueExit how) {
    auto& queue = entry.queue->second;
    const auto waited = now() - entry.entered;
    entry.over = true;
    --queue.waiting;
    queue.bytes -= entry.bytes;
    --total_waiting;
    total_bytes -= entry.bytes;
    if (entry.priority == Priority::low) queue.low.erase(entry.in_low);
    if (how == QueueExit::served) {
      const bool first = queue.mean_wait == Clock::duration::zero();
      queue.mean_wait = first ? waited : queue.mean_wait + (waited - queue.mean_wait) / 8;
    }
    observer.queue_left(entry.priority, how, waited);
  }

  /// Looks at the level anew, and forgets a queue that is empty.
  Changed settle(PrincipalQueues::iterator at) {
    auto& queue = at->second;
    const auto filled = fill(queue);
    const auto level = next_level(queue.level, filled);
    Changed changed;
    if (level != queue.level) changed = LevelChange{at->first, level, filled};
    queue.level = level;
    if (queue.waiting == 0) queues.erase(at);
    return changed;
  }

  /// As long as those served lately had waited: a place is likely free by then.
  static std::chrono::seconds retry_after(const PrincipalQueue& queue) {
    const auto wait = std::chrono::ceil<std::chrono::seconds>(queue.mean_wait);
    return std::clamp(wait, kShortestRetry, kLongestRetry);
  }

  Options options;
  Observer& observer;
  const OnLevel on_level;
  const Now now;
  mutable std::mutex mutex;
  PrincipalQueues queues;  // those in which somebody waits
  std::size_t total_waiting = 0;
  std::size_t total_bytes = 0;
};

QueueLedger::QueueLedger(const Options& options, Observer& observer, OnLevel on_level, Now now)
    : impl_(std::make_shared<Impl>(options, observer, std::move(on_level), std::move(now))) {}

QueueLedger::~QueueLedger() = default;

void QueueLedger::configure(const Options& options) {
  const std::lock_guard lock(impl_->mutex);
  impl_->options = options;
}

Served<QueueLedger::Place> QueueLedger::enter(Entry entry) {
  Impl& impl = *impl_;
  auto data = std::make_shared<Place::Data>();
  data->impl = impl_;
  data->priority = entry.priority;
  data->bytes = entry.bytes;
  data->evict = std::move(entry.evict);

  std::optional<Refusal> refused;
  Impl::Changed changed;
  {
    const std::lock_guard lock(impl.mutex);
    auto at = impl.queues.find(entry.principal);
    if (at == impl.queues.end()) at = impl.queues.try_emplace(std::string(entry.principal)).first;
    auto& queue = at->second;
    queue.capacity = std::max<std::size_t>(1, entry.capacity);
    const auto evictions = impl.evictions_for(queue, entry.priority, entry.bytes);
    if (!evictions) {
      impl.observer.queue_refused(entry.priority);
      refused = Refusal{Code::queue_full, "the queue is full", Impl::retry_after(queue)};
      if (queue.level == FlowLevel::drop_low && entry.priority == Priority::low)
        refused->message = "the queue is nearly full and takes no low priority";
    } else {
      for (std::size_t count = 0; count < *evictions; ++count) impl.evict_newest_low(queue);
      data->queue = at;
      data->entered = impl.now();
      ++queue.waiting;
      queue.bytes += entry.bytes;
      ++impl.total_waiting;
      impl.total_bytes += entry.bytes;
      if (entry.priority == Priority::low) data->in_low = queue.low.insert(queue.low.end(), data.get());
      impl.observer.queue_entered(entry.priority);
    }
    changed = impl.settle(at);
  }
  impl.tell(changed);
  if (refused) return tl::unexpected<Refusal>(std::move(*refused));
  Place place;
  place.data_ = std::move(data);
  return place;
}

FlowLevel QueueLedger::level(std::string_view principal) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->queues.find(principal);
  return found == impl_->queues.end() ? FlowLevel::open : found->second.level;
}

double QueueLedger::fullest() const {
  const std::lock_guard lock(impl_->mutex);
  double fullest = 0;
  for (const auto& [principal, queue] : impl_->queues) fullest = std::max(fullest, impl_->fill(queue));
  return fullest;
}

QueueLedger::Counts QueueLedger::counts() const {
  const std::lock_guard lock(impl_->mutex);
  return {impl_->total_waiting, impl_->total_bytes, impl_->queues.size()};
}

std::size_t QueueLedger::waiting(std::string_view principal) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->queues.find(principal);
  return found == impl_->queues.end() ? 0 : found->second.waiting;
}

QueueLedger::Place::Place(Place&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}

QueueLedger::Place& QueueLedger::Place::operator=(Place&& other) noexcept {
  if (this != &other) {
    leave(QueueExit::abandoned);
    data_ = std::exchange(other.data_, nullptr);
  }
  return *this;
}

QueueLedger::Place::~Place() {
  leave(QueueExit::abandoned);
}

bool QueueLedger::Place::leave(QueueExit how) {
  const auto data = std::exchange(data_, nullptr);
  if (!data) return false;
  Impl& impl = *data->impl;
  Impl::Changed changed;
  {
    const std::lock_guard lock(impl.mutex);
    if (data->over) return false;
    impl.strike(*data, how);
    changed = impl.settle(data->queue);
  }
  impl.tell(changed);
  return true;
}

}  // namespace tunnel
