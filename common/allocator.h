#pragma once

/// To be called before there are threads. The allocator then keeps some MiB of freed pages at the end of each
/// arena rather than giving them back at once: what a bulk transfer frees it takes again within a
/// millisecond, and fresh pages cost more than what is done with them (a fifth of tunneld's CPU time in a
/// download).
void keep_freed_pages();
