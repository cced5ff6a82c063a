#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/file_descriptor.h"
#include "common/result.h"
#include "tunnelctl/client/kept_request.h"
#include "tunnelctl/client/sealing.h"

namespace tunnelctl::client {

/// Requests on disk, from the end of one run to the beginning of the next: each a file of its own, encrypted,
/// put there whole (temporary file, fsync, rename) and removed only when it has been answered or is too old.
/// A kill or a power cut at any moment loses none that was there.
///
/// <folder>/key          made once, 0600; without it nothing can be read again
/// <folder>/<id>.kept    "tunnel-kept-file 1 <id>\n", then Sealing's text of it, bound to that line and the
///                       server. The same request, kept twice, has the same id and so the same file
/// <folder>/quarantine/  what could not be read: for a person to look at, never loaded again
/// <folder>/lock         held (flock) while one of these lives
///
/// Threads: one. Blocks for as long as the disk takes.
class KeptRequests {
 public:
  struct Options {
    std::filesystem::path folder{};  // made with mode 0700 if it is not there
    std::string server{};            // the requests of one are never sent to another
    std::size_t max_requests = 50;
    std::size_t max_bytes = 4 * 1024 * 1024;  // of the files
    std::chrono::milliseconds ttl = std::chrono::minutes(5);
    /// More than that many in quarantine push the oldest out.
    std::size_t max_quarantined = 50;
    /// For tests.
    std::function<std::chrono::system_clock::time_point()> now = std::chrono::system_clock::now;
    std::function<Result<void>(const std::filesystem::path&, std::string_view)> write{};
  };
  using Tell = std::function<void(std::string_view line)>;
  struct Failure {
    bool in_use = false;  // by another run
    std::string message;  // with the remedy
  };
  /// `tell` gets a line for a person for each file that is put aside and each request that is too old.
  static tl::expected<std::unique_ptr<KeptRequests>, Failure> open(Options options, Tell tell);

  struct Entry {
    std::string id{};
    KeptRequest request{};
  };
  /// What earlier runs left, oldest first. Drops those that are too old, and puts aside what cannot be read.
  /// Called once.
  std::vector<Entry> restore();

  /// Puts it on disk; it is there when this returns. unavailable: there are too many already, or too large
  /// ones, or the disk does not take it.
  Result<void> keep(const KeptRequest& request);
  /// For messages: "PUT web, request 4f0c".
  static std::string name_of(const KeptRequest& request);

  std::chrono::system_clock::time_point kept_until(const KeptRequest& request) const;
  std::chrono::system_clock::duration time_left(const KeptRequest& request) const;
  /// Kept for longer than the ttl, or from a future that this clock cannot explain.
  bool too_old(const KeptRequest& request) const;
  /// It has been answered: it goes from the disk.
  void answered(const std::string& id);
  /// It was too old before it could be sent: it goes, and that is told.
  void drop(const Entry& entry);

  /// On disk now.
  std::size_t size() const { return files_.size(); }
  std::size_t bytes() const;
  /// Bytes that still fit.
  std::size_t room() const { return options_.max_bytes - std::min(options_.max_bytes, bytes()); }

 private:
  struct File {
    std::filesystem::path path{};
    std::size_t bytes = 0;
  };
  KeptRequests(Options options, Tell tell, int lock, Secret key);

  std::vector<std::filesystem::path> look() const;
  Result<Entry> read(const std::filesystem::path& path, std::size_t& bytes) const;
  std::string id_of(const KeptRequest& request) const;
  void put_aside(const std::filesystem::path& path, const std::string& why);
  void remove(const std::filesystem::path& path);

  const Options options_;
  const Tell tell_;
  const FileDescriptor lock_;
  const Sealing sealing_;
  std::map<std::string, File> files_;  // by id
};

/// $XDG_STATE_HOME/tunnelctl/connect/<server>, else ~/.local/state/...; or `state_dir`/<server>. not_found,
/// saying what to set, when none of them is there. <server> is `server` in letters that every file system
/// has, and unique.
Result<std::filesystem::path> kept_folder(const std::filesystem::path& state_dir,
                                          const std::filesystem::path& xdg_state_home,
                                          const std::filesystem::path& home, std::string_view server);

}  // namespace tunnelctl::client
