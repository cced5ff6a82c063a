#include "common/allocator.h"

#include <malloc.h>

void keep_freed_pages() {
#ifdef __GLIBC__
  ::mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
  // Setting the one stops the other from growing: buffers of TLS have a little more than its 128 KiB.
  ::mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
#endif
}
