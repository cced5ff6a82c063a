#include "link/replay_ring.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace links {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// All from `offset` on, slice by slice.
std::string rest(const ReplayRing& ring, std::uint64_t offset) {
  std::string all;
  while (offset < ring.end()) {
    const auto slice = ring.slice(offset);
    all.append(reinterpret_cast<const char*>(slice.bytes.data()), slice.bytes.size());
    offset += slice.bytes.size();
  }
  return all;
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 251);
  return text;
}

TEST(ReplayRing, GivesBackWhatWasAppendedFromAnyOffset) {
  ReplayRing ring;
  const auto text = pattern(3 * kChunkBytes + 17);
  for (std::size_t at = 0; at < text.size(); at += 1000)
    ring.append(bytes_of(std::string_view(text).substr(at, 1000)));
  for (const std::size_t offset :
       {std::size_t{0}, std::size_t{1}, kChunkBytes - 1, kChunkBytes, kChunkBytes + 1, text.size()})
    EXPECT_TRUE(rest(ring, offset) == text.substr(offset)) << offset;
}

TEST(ReplayRing, FreesWhatIsAcknowledgedAndHoldsNothingWhenAllIs) {
  ReplayRing ring;
  const auto text = pattern(4 * kChunkBytes);
  ring.append(bytes_of(text));
  EXPECT_EQ(ring.chunks(), 4U);
  ring.acknowledge(kChunkBytes - 1);
  EXPECT_EQ(ring.chunks(), 4U);
  ring.acknowledge(2 * kChunkBytes);
  EXPECT_EQ(ring.chunks(), 2U);
  EXPECT_TRUE(rest(ring, ring.begin()) == text.substr(2 * kChunkBytes));
  ring.acknowledge(ring.end());
  EXPECT_EQ(ring.chunks(), 0U);
  EXPECT_EQ(ring.size(), 0U);
  ring.append(bytes_of("more"));
  EXPECT_EQ(rest(ring, ring.begin()), "more");
  EXPECT_EQ(ring.chunks(), 1U);
  ring.clear();
  ring.append(bytes_of("within a chunk"));
  ring.acknowledge(ring.begin() + 7);
  EXPECT_EQ(rest(ring, ring.begin()), "a chunk");
}

TEST(ReplayRing, ASliceOutlivesItsAcknowledgement) {
  ReplayRing ring;
  ring.append(bytes_of("held"));
  const auto slice = ring.slice(0);
  ring.clear();
  ring.append(bytes_of("over"));
  ReplayRing other;
  other.append(bytes_of("other"));
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(slice.bytes.data()), slice.bytes.size()), "held");
}

}  // namespace
}  // namespace links
