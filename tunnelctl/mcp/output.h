#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "common/file_descriptor.h"

namespace tunnelctl::mcp {

/// Writes messages to a descriptor, waiting as long as its reader takes them; but not past an end.
class Output {
 public:
  /// `file` stays the caller's and blocking.
  explicit Output(int file);

  /// One line. False when nobody reads it any more: then, and when the end came, what follows is dropped.
  /// From one thread at a time.
  bool write(std::string_view message);
  /// From now on all writes together wait that long at most, the one under way too. The earliest end counts.
  /// From any thread, at any time.
  void end_in(std::chrono::milliseconds time);

 private:
  using Clock = std::chrono::steady_clock;
  enum class Room { some, none, gone };
  bool write_all_of(std::string_view text);
  Room wait_for_room() const;

  static constexpr Clock::rep kNever = Clock::duration::max().count();

  int file_;
  FileDescriptor woken_;
  std::atomic<Clock::rep> end_{kNever};  // since the clock's beginning
  bool dropping_ = false;                // a message may be there in part only
  bool read_ = true;                     // by somebody
};

}  // namespace tunnelctl::mcp
