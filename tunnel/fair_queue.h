#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "tunnel/priority.h"

/// Whose turn it is. Pure and single-threaded; nothing here knows time.
namespace tunnel {

/// Turns between the priorities of one principal: while all three wait, any 13 turns in a row are
/// 8 high, 4 normal and 1 low, the low one within 13 of its coming; while some wait, in the same
/// proportion. (For one round of 13 after one joins or leaves, a turn more or less.)
///
/// Self-clocked fair queueing (Golestani, INFOCOM 1994) with items of equal size: each priority is due at a
/// virtual time that moves on by 1/weight with each of its turns, and the earliest is next. One that comes
/// again after a pause is neither owed nor owing for it, and cannot gain by coming and going.
class PriorityTurns {
 public:
  using Waiting = std::array<bool, kPriorities.size()>;

  /// The first of `priority` begins to wait.
  void joins(Priority priority);
  /// Of those who wait, at least one.
  Priority next(const Waiting& waiting) const;
  /// It had its turn.
  void took(Priority priority);

 private:
  std::array<std::uint64_t, kPriorities.size()> due_{};
  std::uint64_t now_ = 0;  // virtual: the due time of the turn taken last
};

/// What waits for one principal: turns between priorities as PriorityTurns, first come first served inside
/// one. Everything is O(1).
template <class T>
class PriorityQueue {
 public:
  /// Where an item stands; valid until it is taken or removed.
  struct Place {
    Priority priority = Priority::normal;
    typename std::list<T>::iterator at{};
  };

  Place push(Priority priority, T item) {
    auto& line = lines_[index_of(priority)];
    if (line.empty()) turns_.joins(priority);
    ++size_;
    return {priority, line.insert(line.end(), std::move(item))};
  }

  /// The item whose turn it is; null when nothing waits.
  T* next() { return empty() ? nullptr : &lines_[index_of(turn())].front(); }

  /// Takes it out: its turn is used. Not on an empty queue.
  T take() {
    const auto priority = turn();
    auto& line = lines_[index_of(priority)];
    T item = std::move(line.front());
    line.pop_front();
    --size_;
    turns_.took(priority);
    return item;
  }

  /// Takes out one that waits no longer: no turn is used.
  void remove(Place place) {
    lines_[index_of(place.priority)].erase(place.at);
    --size_;
  }

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::size_t size(Priority priority) const { return lines_[index_of(priority)].size(); }

  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& line : lines_)
      for (const auto& item : line) visit(item);
  }

 private:
  Priority turn() const {
    PriorityTurns::Waiting waiting{};
    for (const auto priority : kPriorities) waiting[index_of(priority)] = !lines_[index_of(priority)].empty();
    return turns_.next(waiting);
  }

  std::array<std::list<T>, kPriorities.size()> lines_;
  PriorityTurns turns_;
  std::size_t size_ = 0;
};

/// What waits for all principals: they take turns, and inside each it is as PriorityQueue says. Deficit
/// round robin with equal quanta and every item costing one quantum, so that each turn serves one item and
/// no deficit remains: a principal's first item waits for one item of each of the others, however many
/// they have. Everything is O(1).
template <class T>
class FairQueue {
  struct Flow;

 public:
  /// Where an item stands; valid until it is taken or removed.
  struct Place {
    Flow* flow = nullptr;
    typename PriorityQueue<T>::Place in_flow{};
  };

  Place push(std::string_view principal, Priority priority, T item) {
    const auto [found, fresh] = flows_.try_emplace(std::string(principal));
    auto& flow = found->second;
    if (fresh) {
      flow.name = &found->first;
      flow.turn = ring_.insert(ring_.end(), &flow);
    }
    ++size_;
    return {&flow, flow.items.push(priority, std::move(item))};
  }

  /// The item whose turn it is; null when nothing waits.
  T* next() { return empty() ? nullptr : ring_.front()->items.next(); }

  /// Takes it out: its principal's turn is used. Not on an empty queue.
  T take() {
    auto& flow = *ring_.front();
    T item = flow.items.take();
    --size_;
    ring_.splice(ring_.end(), ring_, flow.turn);
    forget_if_empty(flow);
    return item;
  }

  /// Takes out one that waits no longer: no turn is used.
  void remove(Place place) {
    place.flow->items.remove(place.in_flow);
    --size_;
    forget_if_empty(*place.flow);
  }

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::size_t principals() const { return ring_.size(); }

 private:
  struct Flow {
    PriorityQueue<T> items;
    typename std::list<Flow*>::iterator turn{};
    const std::string* name = nullptr;  // in flows_
  };

  void forget_if_empty(Flow& flow) {
    if (!flow.items.empty()) return;
    ring_.erase(flow.turn);
    flows_.erase(flows_.find(*flow.name));
  }

  std::unordered_map<std::string, Flow> flows_;  // those with items
  std::list<Flow*> ring_;                        // whose turn it is, in front
  std::size_t size_ = 0;
};

}  // namespace tunnel
