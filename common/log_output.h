#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace logging {

/// Where lines go: a file, stdout or stderr. Used by one thread, but for what says otherwise.
/// An output that fails (full disk, broken pipe) loses the lines of that moment, counts them, and
/// says so on stderr once when it starts and once when it works again; each later write tries
/// anew, so recovery needs nothing.
class Output {
 public:
  /// `name`: "stdout", "stderr" or a path. Check `open` before use.
  explicit Output(std::string name) : name_(std::move(name)) {}
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  Result<void> open();
  /// Opens the name again; on failure says so on stderr and keeps the old file.
  void reopen();
  bool is_terminal() const;

  /// Whole lines, each with its end; `records` is how many.
  void write(std::string_view lines, std::uint64_t records);

  /// Any thread. From then on, waiting for a reader ends at this time.
  void give_up_at(std::chrono::steady_clock::time_point time) {
    give_up_.store(time.time_since_epoch().count(), std::memory_order_relaxed);
  }
  /// Any thread. Records lost to failures of the output.
  std::uint64_t lost() const { return lost_.load(std::memory_order_relaxed); }

 private:
  bool standard() const { return name_ == "stdout" || name_ == "stderr"; }
  Result<int> open_file() const;
  int write_all(std::string_view bytes, std::size_t& written);
  int wait_until_writable() const;
  void say(const std::string& text) const;

  std::string name_;
  int file_ = -1;
  bool regular_ = false;  // never waits, so needs no poll
  bool failing_ = false;
  bool torn_ = false;  // the last line was cut by a failure and needs its end
  std::uint64_t lost_when_it_began_ = 0;
  std::atomic<std::uint64_t> lost_{0};
  std::atomic<std::chrono::steady_clock::rep> give_up_{
      std::chrono::steady_clock::time_point::max().time_since_epoch().count()};
};

}  // namespace logging
