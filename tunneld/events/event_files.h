#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "common/result.h"

namespace tunneld::events {

/// The two files of an event log. One thread opens, writes and syncs; any thread may read.
class EventFiles {
 public:
  EventFiles(std::filesystem::path directory, std::size_t max_bytes)
      : directory_(std::move(directory)), half_(max_bytes / 2) {}
  ~EventFiles();
  EventFiles(const EventFiles&) = delete;
  EventFiles& operator=(const EventFiles&) = delete;

  /// Makes the directory and finds `first` and `last`. Fails as EventLog::open does.
  Result<void> open();
  /// Appends a line (with its line feed) whole or not at all. Blocks.
  Result<void> write(std::uint64_t id, std::string_view line);
  Result<void> sync();

  std::uint64_t first() const;  // oldest number on disk; 0: none
  std::uint64_t last() const;   // newest

  /// Calls `found` with the lines (without line feed) whose number is above `after`, oldest first, until it
  /// returns false. What cannot be read is passed over.
  void read(std::uint64_t after,
            const std::function<bool(std::uint64_t id, std::string_view line)>& found) const;

 private:
  Result<void> begin();
  Result<void> turn_over();

  const std::filesystem::path directory_;
  const std::size_t half_;
  int file_ = -1;
  std::size_t size_ = 0;
  bool torn_ = false;         // a piece of a line that failed is still there
  mutable std::mutex mutex_;  // the names, and the numbers
  std::uint64_t first_old_ = 0;
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
};

/// The number that an event's line begins with; 0: it is none.
std::uint64_t id_of(std::string_view line);

}  // namespace tunneld::events
