#include "link/replay_ring.h"

#include <algorithm>
#include <cstring>

namespace links {
namespace {

std::uint64_t chunk_of(std::uint64_t offset) {
  return offset / kChunkBytes;
}

}  // namespace

void ReplayRing::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto index = static_cast<std::size_t>(chunk_of(end_) - chunk_of(begin_));
    if (index == chunks_.size()) chunks_.emplace_back(take_chunk());
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
