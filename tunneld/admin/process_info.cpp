#include "tunneld/admin/process_info.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace tunneld::admin {
namespace {

/// Time of boot in Unix seconds; it never changes, and /proc/stat is long on big machines.
double boot_time() {
  static const double seconds = [] {
    std::ifstream stat("/proc/stat");
    std::string line;
    while (std::getline(stat, line))
      if (line.starts_with("btime ")) return std::stod(line.substr(6));
    return 0.0;
  }();
  return seconds;
}

}  // namespace

ProcessInfo read_process_info() {
  ProcessInfo info;
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  // The second field is the program's name in brackets, which may hold spaces and brackets itself.
  if (const auto name_end = text.rfind(')'); name_end != std::string::npos) {
    std::istringstream rest(text.substr(name_end + 1));
    std::string skipped;
    std::uint64_t user = 0, system = 0, started = 0, pages = 0;
    for (int field = 3; field <= 13; ++field) rest >> skipped;
    rest >> user >> system;
    for (int field = 16; field <= 21; ++field) rest >> skipped;
    rest >> started >> info.virtual_bytes >> pages;
    const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
    info.cpu_seconds = static_cast<double>(user + system) / ticks;
    info.start_time_seconds = boot_time() + static_cast<double>(started) / ticks;
    info.resident_bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end; !error && entry != end;
       entry.increment(error))
    ++info.open_fds;
  if (info.open_fds > 0) --info.open_fds;  // the one that lists them
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) info.max_fds = limit.rlim_cur;
  return info;
}

}  // namespace tunneld::admin
