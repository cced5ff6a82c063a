#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/audit_chain.h"
#include "common/result.h"

namespace tunneld::audit {

/// The calls that fail when a disk does, so that tests can let them. Like the system's: -1 and errno.
class Disk {
 public:
  virtual ~Disk() = default;
  virtual ssize_t write(int file, std::string_view bytes);
  virtual int sync(int file);  // fdatasync
  virtual int cut(int file, std::size_t size);
};

/// The directory of an audit log: where the chain stands, the file being written, its rotation, and the
/// deletion of old ones. One thread; blocks for as long as the disk takes.
class AuditFiles {
 public:
  struct Limits {
    std::size_t max_file_bytes;
    unsigned files;
    std::chrono::hours retention;
  };
  /// Something behind the last good line: a torn line after a power cut, as a rule.
  struct Damage {
    std::uint64_t lines = 0;  // at least so many
    std::string why;
  };
  struct Item {
    std::string_view event;
    std::string_view body;   // as audit_chain::append_body makes it
    std::uint64_t lost = 0;  // missing before it; then an audit.gap
  };
  struct Progress {
    std::size_t written = 0;
    std::optional<Error> error;
  };

  /// Makes the directory (0750) when missing, locks it against a second writer and finds the last good line.
  /// Writes no line yet, so that a full disk is no reason to fail. Fails with bad_input (not a directory;
  /// damaged beyond telling), denied or unavailable (locked), naming the file.
  static Result<AuditFiles> open(const std::filesystem::path& directory, const Limits& limits, Disk& disk);
  ~AuditFiles();
  AuditFiles(AuditFiles&& other) noexcept;
  AuditFiles& operator=(AuditFiles&&) = delete;

  /// Set after open, and after a failure that may have cost lines: to be told in an audit.gap with that
  /// number, which is then the next line written.
  const std::optional<Damage>& damage() const { return damage_; }
  /// Hands items to the file system in their order. Those after the first `written` ones are not in the log
  /// at all when there is an error, and may be given again.
  Progress write(std::span<const Item> items);
  /// Everything written is on the disk when it returns. After a failure nobody knows what is, so the next
  /// line begins another file, and `damage` says why.
  Result<void> sync();
  void configure(const Limits& limits) { limits_ = limits; }
  /// Deletes closed files by number and age.
  void prune();
  /// Notes the last line's number and hash in the program's log, which may be kept on another machine.
  void note_anchor() const;

  const audit_chain::Link& last() const { return last_; }

 private:
  AuditFiles(std::filesystem::path directory, const Limits& limits, Disk& disk);
  Result<void> lock();
  Result<void> find_end();
  Result<void> mend();
  Result<void> probe();
  Result<void> begin_file(std::uint64_t first_seq);
  Result<void> close_full_file();
  void leave_file(std::string why);
  void drop_empty_file();
  void close();

  std::filesystem::path directory_;
  Limits limits_;
  Disk* disk_;
  int lock_ = -1;
  int file_ = -1;
  std::filesystem::path path_;   // the file being written; empty: the next line begins one
  std::size_t size_ = 0;         // of its good lines
  bool mended_ = true;           // false: what lies behind size_ is still there
  std::filesystem::path aside_;  // where that goes; empty: nowhere, it is a piece of lines that come again
  bool dirty_ = false;
  bool doubtful_ = false;  // a sync failed: try the disk before it gets another file
  audit_chain::Link last_;
  std::optional<Damage> damage_;
};

}  // namespace tunneld::audit
