#include "link/chunks.h"

#include <utility>
#include <vector>

namespace links {
namespace {

/// What a thread keeps: 4 MiB, what is under way in one stream at 400 MiB/s and 10 ms.
constexpr std::size_t kMaxSpareChunks = 64;

class Spare {
 public:
  ~Spare() { gone = true; }
  std::unique_ptr<std::byte[]> take() {
    if (chunks_.empty()) return std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
    auto chunk = std::move(chunks_.back());
    chunks_.pop_back();
    return chunk;
  }
  void put(std::unique_ptr<std::byte[]> chunk) {
    if (chunks_.size() < kMaxSpareChunks) chunks_.push_back(std::move(chunk));
  }
  /// A chunk may outlive its thread's spare ones, at exit.
  static thread_local bool gone;

 private:
  std::vector<std::unique_ptr<std::byte[]>> chunks_;
};

thread_local bool Spare::gone = false;
thread_local Spare spare;

}  // namespace

void ReturnChunk::operator()(std::byte* bytes) const {
  std::unique_ptr<std::byte[]> chunk(bytes);
  if (pooled && !Spare::gone) spare.put(std::move(chunk));
}

Chunk take_chunk() {
  return Chunk(spare.take().release());
}

Chunk make_small_chunk(std::size_t bytes) {
  return {std::make_unique_for_overwrite<std::byte[]>(bytes).release(), ReturnChunk{.pooled = false}};
}

}  // namespace links
