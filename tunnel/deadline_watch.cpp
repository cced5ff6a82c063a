#include "tunnel/deadline_watch.h"

#include <algorithm>

#include <boost/asio/steady_timer.hpp>

namespace tunnel {

/// The entries of one thread and their timer. Shared with the timer's handler, which may run after
/// the watch is gone.
struct DeadlineList : std::enable_shared_from_this<DeadlineList> {
  using Clock = DeadlineWatch::Clock;
  using Entry = DeadlineWatch::Entry;
  /// Bounds how often a crowd of entries with scattered deadlines is looked through.
  static constexpr std::chrono::milliseconds kGrain{5};

  explicit DeadlineList(const asio::any_io_executor& executor) : timer(executor) {}

  void insert(Entry& entry) {
    entry.previous_ = nullptr;
    entry.next_ = first;
    if (first != nullptr) first->previous_ = &entry;
    first = &entry;
  }

  void remove(Entry& entry) noexcept {
    if (cursor == &entry) cursor = entry.next_;
    if (entry.previous_ != nullptr)
      entry.previous_->next_ = entry.next_;
    else
      first = entry.next_;
    if (entry.next_ != nullptr) entry.next_->previous_ = entry.previous_;
  }

  void arm(Clock::time_point at) {
    if (at >= armed_for) return;
    armed_for = at;
    timer.expires_at(at);
    timer.async_wait([weak = weak_from_this()](boost::system::error_code failed) {
      if (const auto list = weak.lock(); list && !failed) list->fired();
    });
  }

  void fired() {
    armed_for = Clock::time_point::max();
    const auto now = Clock::now();
    auto earliest = Clock::time_point::max();
    // An expired entry may leave, or make others leave: remove() keeps the cursor valid.
    for (cursor = first; cursor != nullptr;) {
      auto& entry = *cursor;
      cursor = entry.next_;
      if (entry.deadline_ > now) {
        earliest = std::min(earliest, entry.deadline_);
        continue;
      }
      entry.leave();
      entry.expired();
    }
    if (first != nullptr && earliest != Clock::time_point::max()) arm(std::max(earliest, now + kGrain));
  }

  asio::steady_timer timer;
  Clock::time_point armed_for = Clock::time_point::max();
  Entry* first = nullptr;
  Entry* cursor = nullptr;
};

void DeadlineWatch::Entry::watch_until(DeadlineWatch& watch, Clock::time_point deadline) {
  deadline_ = deadline;
  if (!list_) {
    list_ = watch.list_;
    list_->insert(*this);
  }
  list_->arm(deadline);
}

void DeadlineWatch::Entry::leave() noexcept {
  if (!list_) return;
  list_->remove(*this);
  list_.reset();
}

DeadlineWatch::DeadlineWatch(const asio::any_io_executor& executor)
    : list_(std::make_shared<DeadlineList>(executor)) {}

DeadlineWatch::~DeadlineWatch() {
  list_->timer.cancel();
}

}  // namespace tunnel
