#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>

#include "link/chunks.h"

namespace links {

/// The bytes of one direction that the peer has not acknowledged, by their offset in the stream, in chunks of
/// 64 KiB that are shared by all links of a thread. When all is acknowledged it holds nothing.
/// Threads: one.
class ReplayRing {
 public:
  /// Bytes in one piece; they stay as they are for as long as `hold` lives, acknowledged or not.
  struct Slice {
    std::span<const std::byte> bytes;
    std::shared_ptr<const std::byte[]> hold;
  };

  std::uint64_t begin() const { return begin_; }
  std::uint64_t end() const { return end_; }
  std::size_t size() const { return static_cast<std::size_t>(end_ - begin_); }
  std::size_t chunks() const { return chunks_.size(); }

  void append(std::span<const std::byte> bytes);
  /// From `offset` (begin() to end()) as far as bytes lie in one piece.
  Slice slice(std::uint64_t offset) const;
  /// Frees what lies before `offset` (begin() to end()).
  void acknowledge(std::uint64_t offset);
  void clear() { acknowledge(end_); }

 private:
  std::uint64_t begin_ = 0;
  std::uint64_t end_ = 0;
  /// The first holds the offset begin_; boundaries are multiples of kChunkBytes.
  std::deque<std::shared_ptr<std::byte[]>> chunks_;
};

}  // namespace links
