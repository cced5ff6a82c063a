#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "common/log.h"
#include "common/result.h"

namespace tunneld::audit {

enum class OnError { go_on, refuse };

struct Options {
  bool enabled = true;
  std::filesystem::path directory;  // empty: "audit" in the state directory
  OnError on_error = OnError::go_on;
  bool requests = true;  // a line for every request and stream, beside decisions and changes
  std::size_t max_file_bytes = 100 * 1024 * 1024;
  unsigned files = 10;  // kept beside the one being written
  std::chrono::hours retention{90 * 24};
  std::chrono::milliseconds flush{500};  // lines reach the disk (fsync) at most this late
};

/// What happened, one JSON line each, numbered and chained by SHA-256 so that a missing or changed line
/// shows (common/audit_chain.h has the format; `tunnelctl audit verify` checks it).
///
/// Writers never wait: lines go through a bounded queue to a thread of our own, which writes and syncs in
/// batches. A line that cannot be kept (disk full, queue full) is counted, and the first line after says
/// how many are missing (`audit.gap`); the numbers show it too.
class AuditLog {
 public:
  using Field = logging::Field;
  struct Reports {
    std::function<void(std::string_view event)> written = [](std::string_view) {};
    /// `lines` were lost, in words why. Called at most once a second.
    std::function<void(std::uint64_t lines, std::string_view why)> lost = [](std::uint64_t, std::string_view) {};
  };

  /// Finds the last line's number and hash and goes on from there; a torn last line (power cut) is moved
  /// aside and said in the first new line. Fails with bad_input or denied naming the file.
  static Result<std::unique_ptr<AuditLog>> open(const Options& options, std::string_view instance_id,
                                                Reports reports);
  /// Writes and syncs what is queued.
  ~AuditLog();

  /// Any thread. `event` is a fixed word such as "auth.failed"; fields as in logging.
  void write(std::string_view event, logging::Fields fields);
  /// False while lines are being lost; with OnError::refuse nothing new is served then.
  bool healthy() const;
  /// on_error, requests, flush, files, max_file_bytes and retention; not the directory.
  void configure(const Options& options);

 private:
  AuditLog();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::audit
