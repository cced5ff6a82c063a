#include "tunnel/fair_queue.h"

#include <algorithm>

namespace tunnel {
namespace {

/// Virtual time of one turn: the inverse of the weight, in whole numbers.
constexpr std::uint64_t step(Priority priority) {
  return kPriorityWeights[index_of(Priority::high)] / kPriorityWeights[index_of(priority)];
}
static_assert(step(Priority::high) == 1 && step(Priority::normal) == 2 && step(Priority::low) == 8,
              "the weights divide the highest one");

}  // namespace

void PriorityTurns::joins(Priority priority) {
  auto& due = due_[index_of(priority)];
  due = std::max(due, now_ + step(priority));
}

Priority PriorityTurns::next(const Waiting& waiting) const {
  auto best = Priority::low;
  auto earliest = UINT64_MAX;
  for (const auto priority : kPriorities) {
    if (!waiting[index_of(priority)] || due_[index_of(priority)] >= earliest) continue;
    best = priority;
    earliest = due_[index_of(priority)];
  }
  return best;
}

void PriorityTurns::took(Priority priority) {
  auto& due = due_[index_of(priority)];
  now_ = due;
  due += step(priority);
}

}  // namespace tunnel
