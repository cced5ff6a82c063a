#pragma once

#include <sys/resource.h>

namespace bench {

/// As many open files as this process may have.
inline void allow_many_open_files() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace bench
