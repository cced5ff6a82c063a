#include "tunneld/memory_return.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/sanitizer.h"
#include "tunneld/admin/process_info.h"

namespace tunneld {
namespace {

using Blocks = std::vector<std::unique_ptr<char[]>>;

/// As a crowd does: many small blocks, each written to.
Blocks crowd(std::size_t bytes) {
  Blocks blocks;
  for (std::size_t made = 0; made < bytes; made += 2048) blocks.push_back(std::make_unique<char[]>(2048));
  return blocks;
}

/// All but every two hundredth, so that no arena's end is free.
void leave(Blocks& blocks) {
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (i % 200 != 0) blocks[i].reset();
}

std::uint64_t resident() {
  return admin::read_process_info().resident_bytes;
}

TEST(MemoryReturn, GivesBackWhatACrowdLeftBetweenWhatIsUsed) {
  if (sanitizer::kUsed) GTEST_SKIP() << "sanitizers bring an allocator of their own";
  MemoryReturn memory;
  auto blocks = crowd(2 * MemoryReturn::kWorthwhile);
  leave(blocks);
  const auto before = resident();
  EXPECT_TRUE(memory.look());
  EXPECT_LT(resident() + MemoryReturn::kWorthwhile, before);
  EXPECT_FALSE(memory.look());  // nothing has grown since
}

TEST(MemoryReturn, LeavesMemoryAloneThatIsUsed) {
  if (sanitizer::kUsed) GTEST_SKIP() << "sanitizers bring an allocator of their own";
  const auto blocks = crowd(2 * MemoryReturn::kWorthwhile);
  EXPECT_FALSE(MemoryReturn().look());
}

TEST(MemoryReturn, ComesAgainAfterTheNextCrowd) {
  if (sanitizer::kUsed) GTEST_SKIP() << "sanitizers bring an allocator of their own";
  MemoryReturn memory;
  for (int round = 0; round < 2; ++round) {
    auto blocks = crowd(2 * MemoryReturn::kWorthwhile);
    leave(blocks);
    EXPECT_TRUE(memory.look());
  }
}

}  // namespace
}  // namespace tunneld
