#pragma once

#include <cstddef>
#include <memory>

namespace links {

/// Blocks of 64 KiB for what is under way, shared by all links of a thread: a stream gives them back and
/// takes them again all the time, and the allocator would give the pages back to the system each time.
inline constexpr std::size_t kChunkBytes = 64 * 1024;

struct ReturnChunk {
  bool pooled = true;
  void operator()(std::byte* bytes) const;
};
using Chunk = std::unique_ptr<std::byte[], ReturnChunk>;

Chunk take_chunk();
/// Of fewer bytes, which nobody keeps.
Chunk make_small_chunk(std::size_t bytes);

}  // namespace links
