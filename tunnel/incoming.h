#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "tunnel/http1.h"

namespace tunnel {

/// Bytes read from a service and not yet used: a head, and what of the body came with it. Starts at
/// 4 KiB; doubles to 64 KiB while body reads fill it, and to the head limit while a head is incomplete.
class Incoming {
 public:
  explicit Incoming(std::size_t max_head_bytes) : max_head_(max_head_bytes) {}

  std::span<const std::byte> bytes() const { return {data_.get() + begin_, end_ - begin_}; }

  /// Uses up the first `size` bytes. They stay where they are until the next space_for_…().
  std::span<const std::byte> take(std::size_t size) {
    const std::span<const std::byte> taken{data_.get() + begin_, size};
    begin_ += size;
    return taken;
  }

  /// Room behind what is there; empty when a head this long is too long.
  std::span<std::byte> space_for_head() {
    const auto held = end_ - begin_;
    if (held >= max_head_) return {};
    if (end_ == size_)
      grow(held < size_ / 2 ? size_ : std::min(std::max(size_ * 2, kSmallest), max_head_ + kSmallest));
    return {data_.get() + end_, size_ - end_};
  }

  /// Room for more of a body; everything held was used, or is a part of a chunk's frame.
  std::span<std::byte> space_for_body() {
    const auto wanted = filled_ ? std::min(size_ * 2, kLargest) : size_;
    if (begin_ == end_ && wanted <= size_)
      begin_ = end_ = 0;
    else
      grow(std::max(wanted, kSmallest));
    return {data_.get() + end_, size_ - end_};
  }

  void stored(std::size_t size) {
    end_ += size;
    filled_ = end_ == size_;
  }

  struct Decoded {
    std::span<const std::byte> data;  // as take()
    bool done = false;
  };
  /// Runs all bytes through `decoder` and moves the payload of however many chunks together, so that it
  /// leaves in one write. What follows the body's end stays.
  tl::expected<Decoded, Malformed> decode(ChunkDecoder& decoder) {
    const auto start = begin_;
    auto written = begin_;
    for (;;) {
      const auto step = decoder.decode(bytes());
      if (!step) return tl::unexpected<Malformed>(step.error());
      begin_ += step->consumed;
      if (!step->data.empty()) {
        const auto at = data_.get() + written;
        if (at != step->data.data()) std::memmove(at, step->data.data(), step->data.size());
        written += step->data.size();
      }
      if (step->done || step->consumed == 0 || begin_ == end_) {
        return Decoded{{data_.get() + start, written - start}, step->done};
      }
    }
  }

 private:
  static constexpr std::size_t kSmallest = 4 * 1024;
  static constexpr std::size_t kLargest = 64 * 1024;

  /// Moves what is held to the start of a buffer of `size` bytes, which may be the same one.
  void grow(std::size_t size) {
    const auto held = end_ - begin_;
    if (size != size_) {
      auto larger = std::make_unique_for_overwrite<std::byte[]>(size);
      if (held > 0) std::memcpy(larger.get(), data_.get() + begin_, held);
      data_ = std::move(larger);
      size_ = size;
    } else if (held > 0) {
      std::memmove(data_.get(), data_.get() + begin_, held);
    }
    begin_ = 0;
    end_ = held;
  }

  std::size_t max_head_;
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool filled_ = false;
};

}  // namespace tunnel
