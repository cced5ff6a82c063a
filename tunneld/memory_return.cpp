#include "tunneld/memory_return.h"

#include <malloc.h>

#include "tunneld/admin/process_info.h"

namespace tunneld {

bool MemoryReturn::look() {
  // Free to the allocator, whether the system has the pages back already or not.
  const auto heap = ::mallinfo2();
  if (heap.fordblks < kWorthwhile || heap.fordblks < heap.uordblks / 3) return false;
  // Only growth brings pages that were not looked at last time.
  if (admin::read_process_info().resident_bytes < resident_after_ + kWorthwhile / 2) return false;
  ::malloc_trim(0);
  resident_after_ = admin::read_process_info().resident_bytes;
  return true;
}

}  // namespace tunneld
