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

class Disk;

/// What happened, one JSON line each, numbered and chained by SHA-256 so that a missing or changed line
/// shows (common/audit_chain.h has the format; `tunnelctl audit verify` checks it).
///
/// Writers never wait: lines go through a bounded queue (65,536 lines or 32 MiB) to a thread of our own,
/// which writes and syncs in batches. While the disk takes nothing (full, read-only) lines wait in that
/// queue, and the write is tried again every second. A line that finds the queue full is lost and counted,
/// and the first line after says how many are missing (`audit.gap`); the numbers show it too. Every such time
/// leaves an `audit.gap`, with 0 lines when the queue was enough.
class AuditLog {
 public:
  using Field = logging::Field;
  /// Called from the log's thread; they must neither block nor throw.
  struct Reports {
    /// A line was handed to the file system.
    std::function<void(std::string_view event)> written = [](std::string_view) {};
    /// `lines` were lost, in words why. Called at most once a second.
    std::function<void(std::uint64_t lines, std::string_view why)> lost = [](std::uint64_t,
                                                                             std::string_view) {};
    /// A write or sync failed, in words why: once a second while it lasts, whether or not lines were lost.
    std::function<void(std::string_view why)> failed = [](std::string_view) {};
    /// What `healthy` returns has changed; `why` as far as it is false now.
    std::function<void(bool healthy, std::string_view why)> health = [](bool, std::string_view) {};
  };

  /// Finds the last line's number and hash and goes on from there; a torn last line (power cut) is moved
  /// aside and said in the first new line. A full disk is no failure. Fails with bad_input, denied or
  /// unavailable (another process writes there), naming the file. Not enabled: writes nothing and is healthy.
  static Result<std::unique_ptr<AuditLog>> open(const Options& options, std::string_view instance_id,
                                                Reports reports);
  /// For tests: on a disk that fails as they wish, trying again after `retry`.
  static Result<std::unique_ptr<AuditLog>> open(const Options& options, std::string_view instance_id,
                                                Reports reports, std::shared_ptr<Disk> disk,
                                                std::chrono::milliseconds retry);
  /// Writes and syncs what is queued. Before logging::stop, which gets the last hash.
  ~AuditLog();

  /// Any thread; costs about a microsecond. `event` is a fixed word such as "auth.failed", at most 64 bytes;
  /// fields as in logging. With `requests` off, `request`, `stream.opened` and `stream.closed` are left out.
  void write(std::string_view event, logging::Fields fields);
  /// False while lines cannot be written or are being lost; with OnError::refuse nothing new is served then.
  bool healthy() const;
  /// Whether something new may be served: healthy, or told to go on all the same.
  bool may_serve() const;
  /// on_error, requests, flush, files, max_file_bytes and retention; not the directory. Any thread.
  void configure(const Options& options);

 private:
  AuditLog();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::audit
