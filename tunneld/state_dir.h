#pragma once

#include <filesystem>
#include <string>

#include "common/result.h"

namespace tunneld {

/// The directory of what must survive a restart: SSH identity, token issuer key, certificate, known
/// hosts. Mode 0700. Held by an advisory lock on its file `lock`, so that two daemons never share it;
/// the kernel drops the lock when the process ends, however it ends.
class StateDir {
 public:
  enum class Use { shared, exclusive };  // commands beside a running daemon, the daemon itself

  /// Where it is when the configuration does not say: $XDG_STATE_HOME/tunneld, else
  /// ~/.local/state/tunneld; /var/lib/tunneld as root or where systemd says so ($STATE_DIRECTORY).
  static std::filesystem::path default_path();

  /// Makes the directory when missing. Fails with `denied` (not ours to write, others may write it),
  /// `unavailable` (another tunneld holds it) or `bad_input` (not a directory), naming path and remedy.
  static Result<StateDir> open(const std::filesystem::path& path, Use use);

  ~StateDir();
  StateDir(StateDir&& other) noexcept;
  StateDir& operator=(StateDir&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file(const std::string& name) const { return path_ / name; }

 private:
  StateDir(std::filesystem::path path, int lock) : path_(std::move(path)), lock_(lock) {}

  std::filesystem::path path_;
  int lock_ = -1;
};

}  // namespace tunneld
