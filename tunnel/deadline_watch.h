#pragma once

#include <chrono>
#include <memory>

#include <boost/asio/any_io_executor.hpp>

namespace tunnel {

namespace asio = boost::asio;

/// Deadlines that move often and rarely pass, without a timer operation for each move: one timer per
/// thread serves all entries. Moving a deadline is a store; the timer fires at the earliest deadline
/// it knew, looks at all entries, and is set again. Entries are found late by at most 5 ms.
///
/// Not thread-safe: one per io_context and thread. Entries must be gone before the watch is; a timer
/// left armed by the last entry ends silently.
class DeadlineWatch {
 public:
  using Clock = std::chrono::steady_clock;

  /// Something with a deadline. Leaves the watch when destroyed.
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    virtual ~Entry() { leave(); }

    /// Starts watching, or moves the deadline of an entry that is already watched.
    void watch_until(DeadlineWatch& watch, Clock::time_point deadline);
    /// Stops watching. Idempotent.
    void leave() noexcept;
    Clock::time_point deadline() const { return deadline_; }

   private:
    friend class DeadlineWatch;
    /// The deadline has passed; the entry has left the watch. May watch again, or be destroyed within.
    virtual void expired() = 0;

    Clock::time_point deadline_{};
    std::shared_ptr<struct DeadlineList> list_;
    Entry* previous_ = nullptr;
    Entry* next_ = nullptr;
    friend struct DeadlineList;
  };

  explicit DeadlineWatch(const asio::any_io_executor& executor);
  ~DeadlineWatch();
  DeadlineWatch(const DeadlineWatch&) = delete;
  DeadlineWatch& operator=(const DeadlineWatch&) = delete;

 private:
  std::shared_ptr<DeadlineList> list_;
};

}  // namespace tunnel
