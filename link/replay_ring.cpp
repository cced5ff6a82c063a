#include "link/replay_ring.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace links {
namespace {

/// What a thread keeps for the next link, so that a stream does not give pages back and take them again all
/// the time: 4 MiB, what is under way in one at 400 MiB/s and 10 ms.
constexpr std::size_t kMaxSpareChunks = 64;

class Spare {
 public:
  ~Spare() { gone = true; }
  std::unique_ptr<std::byte[]> take() {
    if (chunks_.empty()) return std::make_unique_for_overwrite<std::byte[]>(ReplayRing::kChunkBytes);
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

std::shared_ptr<std::byte[]> make_chunk() {
  return {spare.take().release(), [](std::byte* bytes) {
            std::unique_ptr<std::byte[]> chunk(bytes);
            if (!Spare::gone) spare.put(std::move(chunk));
          }};
}

std::uint64_t chunk_of(std::uint64_t offset) {
  return offset / ReplayRing::kChunkBytes;
}

}  // namespace

void ReplayRing::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto index = static_cast<std::size_t>(chunk_of(end_) - chunk_of(begin_));
    if (index == chunks_.size()) chunks_.push_back(make_chunk());
    const auto at = static_cast<std::size_t>(end_ % kChunkBytes);
    const auto part = std::min(bytes.size(), kChunkBytes - at);
    std::memcpy(chunks_[index].get() + at, bytes.data(), part);
    end_ += part;
    bytes = bytes.subspan(part);
  }
}

ReplayRing::Slice ReplayRing::slice(std::uint64_t offset) const {
  if (offset == end_) return {};
  const auto& chunk = chunks_[static_cast<std::size_t>(chunk_of(offset) - chunk_of(begin_))];
  const auto at = static_cast<std::size_t>(offset % kChunkBytes);
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(end_ - offset, kChunkBytes - at));
  return {{chunk.get() + at, size}, chunk};
}

void ReplayRing::acknowledge(std::uint64_t offset) {
  auto passed = chunk_of(offset) - chunk_of(begin_);
  begin_ = offset;
  if (begin_ == end_) {
    chunks_.clear();
    return;
  }
  for (; passed > 0; --passed) chunks_.pop_front();
}

}  // namespace links
