#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

namespace tunnel {

/// A read buffer that is small while a stream is quiet and grows while reads fill it: thousands of
/// idle streams cost 4 KiB each, a bulk transfer gets 64 KiB a read.
/// Contents are not kept when it changes size: resize happens in space(), before the next read.
class AdaptiveBuffer {
 public:
  static constexpr std::size_t kSmallest = 4 * 1024;
  /// Two of the largest SSH packets that libssh2 makes (32,700 bytes): with 64 KiB every third packet
  /// would carry the 136 bytes left over.
  static constexpr std::size_t kLargest = 2 * 32'700;

  /// `spare` bytes lie before and after what space() returns, for a frame around the data.
  explicit AdaptiveBuffer(std::size_t spare = 0, std::size_t largest = kLargest)
      : spare_(spare), largest_(largest) {}

  /// Where to read to. Invalidates what an earlier call returned.
  std::span<std::byte> space() {
    if (!bytes_ || wanted_ != size_) {
      bytes_ = std::make_unique_for_overwrite<std::byte[]>(wanted_ + 2 * spare_);
      size_ = wanted_;
    }
    return {bytes_.get() + spare_, size_};
  }

  /// Tells how many bytes the last read stored.
  void note(std::size_t stored) {
    // Frame headers take a little of each full read.
    if (stored + size_ / 16 >= size_) {
      wanted_ = std::min(size_ * 2, largest_);
      small_reads_ = 0;
    } else if (stored >= size_ / 4) {
      small_reads_ = 0;
    } else if (size_ > kSmallest && ++small_reads_ == kSmallReadsToShrink) {
      wanted_ = std::max(size_ / 2, kSmallest);
      small_reads_ = 0;
    }
  }

 private:
  /// A transfer has short reads now and then; giving memory back at once would thrash.
  static constexpr unsigned kSmallReadsToShrink = 16;

  std::size_t spare_;
  std::size_t largest_;
  std::size_t size_ = 0;
  std::size_t wanted_ = kSmallest;
  unsigned small_reads_ = 0;
  std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace tunnel
