#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunneld/access/principal.h"

namespace tunneld::access {

/// Tokens that are no longer believed though genuine: by `jti`, or all of a (iss, sub) issued up to a
/// moment. Thread-safe; a check is one look-up in an immutable table that changes replace whole.
/// Kept in a file of the state directory (JSON, 0600, replaced atomically), so that a restart forgives
/// nothing. Entries of tokens that would have expired anyway (24 h, the longest lifetime) are dropped.
class Revocations {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  struct Entry {
    std::string token_id;  // either this ...
    std::string issuer;    // ... or these three
    std::string subject;
    WallTime issued_until{};
    WallTime revoked_at{};
    std::string reason{};  // at most 200 printable bytes
  };

  /// Reads `file`; none yet is an empty list. Fails with bad_input naming the file and what is wrong.
  static Result<std::unique_ptr<Revocations>> open(std::filesystem::path file, WallTime now);
  ~Revocations();

  /// Fails (and changes nothing) when it cannot be written, or at 100,000 entries.
  Result<void> add(Entry entry, WallTime now);
  /// Reads the file again (SIGHUP, or another writer); on an error the old list stays.
  Result<void> reload(WallTime now);
  bool revoked(const Principal& principal) const;
  /// Changes with every change of the list: live streams are looked at again then.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }
  std::vector<Entry> list() const;

 private:
  struct Table;
  explicit Revocations(std::filesystem::path file);
  const std::filesystem::path file_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Table> table_;
  std::atomic<std::uint64_t> version_{0};
  std::atomic<bool> empty_{true};
};

}  // namespace tunneld::access
