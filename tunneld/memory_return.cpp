#include "tunneld/memory_return.h"

#include <malloc.h>

#include <algorithm>

#include "tunneld/admin/process_info.h"

namespace tunneld {

namespace {

struct Use {
  std::uint64_t used = 0;  // by somebody who has not freed it
  std::uint64_t idle = 0;  // resident beyond that: free pages, but code and stacks too
};
Use use_of_memory() {
  const auto heap = ::mallinfo2();
  const std::uint64_t used = heap.uordblks + heap.hblkhd;
  const auto resident = admin::read_process_info().resident_bytes;
  return {used, resident > used ? resident - used : 0};
}

}  // namespace

bool MemoryReturn::look() {
  const auto use = use_of_memory();
  if (use.idle < kept_ + std::max(kWorthwhile, use.used / 3)) return false;
  ::malloc_trim(0);
  kept_ = use_of_memory().idle;
  return true;
}

}  // namespace tunneld
