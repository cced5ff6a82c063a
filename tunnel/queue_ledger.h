#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tunnel/flow_level.h"
#include "tunnel/observer.h"
#include "tunnel/priority.h"
#include "tunnel/refusal.h"

namespace tunnel {

/// Who waits for a channel, over all threads and upstreams: bounds each principal's queue, knows its
/// level, and counts. Which of those that wait is served next is FairQueue's matter, per thread.
/// Thread-safe; touched per queued request, never per byte, and not at all by requests that need not wait.
class QueueLedger {
 public:
  struct Options {
    /// Heads and bodies of all that wait; one principal may hold a quarter of it.
    std::size_t total_bytes = 64 * 1024 * 1024;
  };
  /// Called, without a lock held, when the level of a principal's queue changes.
  using OnLevel = std::function<void(const std::string& principal_key, FlowLevel, double fill)>;

  using Now = std::function<std::chrono::steady_clock::time_point()>;

  QueueLedger(
      const Options& options, Observer& observer, OnLevel on_level,
      Now now = [] { return std::chrono::steady_clock::now(); });
  ~QueueLedger();
  void configure(const Options& options);

  struct Entry {
    std::string_view principal;  // Principal::key()
    std::size_t capacity = 100;  // of this principal's queue, by its tier
    Priority priority = Priority::normal;
    std::size_t bytes = 0;  // held while it waits
    /// Ends the wait of this one with queue_full. Called from any thread, at most once, never after
    /// leave() has returned, and with the ledger's lock held: it must only pass the word on (post).
    std::function<void()> evict;
  };
  /// One that waits. Leaving without saying how counts as abandoned.
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept;
    Place& operator=(Place&& other) noexcept;
    ~Place();
    /// The wait is over. False if it was over already: evicted meanwhile, or left before.
    bool leave(QueueExit how);

   private:
    friend class QueueLedger;
    struct Data;
    std::shared_ptr<Data> data_;
  };

  /// Refuses with queue_full (and Retry-After) when the principal's queue or its share of memory is full,
  /// or at drop_low for low priority. At drop_low another one evicts the newest that is low.
  Served<Place> enter(Entry entry);

  FlowLevel level(std::string_view principal) const;
  /// Of the fullest queue, 0 to 1.
  double fullest() const;
  struct Counts {
    std::size_t waiting = 0, bytes = 0, principals = 0;
  };
  Counts counts() const;
  std::size_t waiting(std::string_view principal) const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tunnel
