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
#include "tunnel/principal.h"

namespace tunneld::access {

/// Tokens that are no longer believed though genuine: by `jti`, or all of a (iss, sub) issued up to a
/// moment. Thread-safe; a check is one look-up in an immutable table that changes replace whole.
/// Kept in a file of the state directory (JSON, 0600, replaced atomically), so that a restart forgives
/// nothing. Entries of tokens that would have expired anyway (24 h, the longest lifetime) are dropped.
///
/// The file, which others may write too (whole, by rename; then reload()); times are Unix seconds:
///   {"revoked": [{"jti": "...", "revokedAt": 1800000000, "reason": "stolen laptop"},
///                {"iss": "...", "sub": "...", "issuedUntil": 1800000000}]}
/// `revokedAt` and `reason` may be left out. Anything else in it is refused.
class Revocations {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  struct Entry {
    std::string token_id{};  // either this ...
    std::string issuer{};    // ... or these three
    std::string subject{};
    WallTime issued_until{};  // whole seconds, and that second too; the epoch in add(): now
    WallTime revoked_at{};    // set by add()
    std::string reason{};     // at most 200 printable bytes of ASCII
  };

  /// Reads `file`; none yet is an empty list. Fails with bad_input naming the file and what is wrong.
  static Result<std::unique_ptr<Revocations>> open(std::filesystem::path file, WallTime now);
  ~Revocations();

  /// Joins one of the same token or (iss, sub) that is there already. What another writer put into the
  /// file meanwhile is kept and takes effect too. Writes and waits for the disk: not for a thread that
  /// serves. Fails (and changes nothing) with bad_input (the entry, or the file as another left it) or
  /// unavailable (it cannot be written, or holds 100,000 entries).
  Result<void> add(Entry entry, WallTime now);
  /// Reads the file again (SIGHUP, or another writer); on an error the old list stays.
  Result<void> reload(WallTime now);
  bool revoked(const tunnel::Principal& principal) const;
  /// Changes with every change of the list: live streams are looked at again then.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }
  std::vector<Entry> list() const;

 private:
  struct Table;
  explicit Revocations(std::filesystem::path file);
  std::shared_ptr<const Table> table() const;
  void use(std::shared_ptr<const Table> table);

  const std::filesystem::path file_;
  std::mutex changing_;       // one writer at a time; held while the disk works
  mutable std::mutex mutex_;  // of the pointer alone
  std::shared_ptr<const Table> table_;
  std::atomic<std::uint64_t> version_{0};
  std::atomic<bool> empty_{true};
};

}  // namespace tunneld::access
