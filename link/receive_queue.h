#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "link/chunks.h"

namespace links {

/// Bytes that have arrived and that nobody has read: in blocks, so that a long queue is neither copied while
/// it grows nor kept while it drains.
class ReceiveQueue {
 public:
  ReceiveQueue() = default;
  ReceiveQueue(const ReceiveQueue&) = delete;
  ReceiveQueue& operator=(const ReceiveQueue&) = delete;
  ~ReceiveQueue() { clear(); }

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      if (!last_ || last_->end == last_->capacity) add_block(bytes.size());
      const auto size = std::min(bytes.size(), last_->capacity - last_->end);
      std::memcpy(last_->bytes.get() + last_->end, bytes.data(), size);
      last_->end += size;
      size_ += size;
      bytes = bytes.subspan(size);
    }
  }

  /// Moves the oldest bytes out; returns how many.
  std::size_t take(std::span<std::byte> into) {
    std::size_t taken = 0;
    while (taken < into.size() && size_ > 0) {
      const auto size = std::min(into.size() - taken, first_->end - first_->begin);
      std::memcpy(into.data() + taken, first_->bytes.get() + first_->begin, size);
      first_->begin += size;
      taken += size;
      size_ -= size;
      if (first_->begin == first_->end) drop_first();
    }
    return taken;
  }

  void clear() {
    while (first_) drop_first();
    size_ = 0;
  }

 private:
  static constexpr std::size_t kSmallest = 4 * 1024;
  struct Block {
    Chunk bytes;
    std::size_t capacity;
    std::size_t begin = 0;
    std::size_t end = 0;
    std::unique_ptr<Block> next = nullptr;
  };

  void add_block(std::size_t wanted) {
    const auto capacity = std::clamp(std::max(wanted, size_), kSmallest, kChunkBytes);
    auto bytes = capacity == kChunkBytes ? take_chunk() : make_small_chunk(capacity);
    auto block = std::make_unique<Block>(Block{std::move(bytes), capacity});
    auto& place = last_ ? last_->next : first_;
    place = std::move(block);
    last_ = place.get();
  }
  void drop_first() {
    first_ = std::move(first_->next);
    if (!first_) last_ = nullptr;
  }

  std::unique_ptr<Block> first_;
  Block* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace links
