#pragma once

#include <cstdint>

namespace tunneld {

/// Gives memory back to the system after a crowd has left. The allocator does so by itself only at the end of
/// its arenas; pages between two that are in use it keeps, and that is where a crowd leaves most of them:
/// 5,000 streams left 250 MiB behind.
///
/// Threads: one; others may allocate meanwhile, and wait while their arena is gone through.
class MemoryReturn {
 public:
  /// Call it now and then, such as once a minute: it returns pages when more has come free since the
  /// last time than `kWorthwhile` and a third of what is used. True when it did.
  bool look();

  static constexpr std::uint64_t kWorthwhile = 32 * 1024 * 1024;

 private:
  std::uint64_t kept_ = 0;  // resident and not used after the last time
};

}  // namespace tunneld
