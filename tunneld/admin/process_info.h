#pragma once

#include <cstdint>

namespace tunneld::admin {

/// This process as /proc shows it; 0 for what cannot be read.
struct ProcessInfo {
  double cpu_seconds = 0;
  double start_time_seconds = 0;  // Unix time
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  std::uint64_t open_fds = 0;
  std::uint64_t max_fds = 0;
};

/// Source: proc(5), /proc/self/stat and /proc/self/fd; /proc/stat for the time of boot.
ProcessInfo read_process_info();

}  // namespace tunneld::admin
