#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/result.h"

/// Where running clients say how they do, for other programs of the same user.
namespace tunnelctl::client {

/// $XDG_RUNTIME_DIR/tunnelctl; without that variable, or where it names another user's folder (as sudo may
/// leave it), /run/user/<uid>/tunnelctl, or /tmp/tunnelctl-<uid> where the system has no such folder either.
std::filesystem::path client_state_folder(const std::filesystem::path& xdg_runtime_dir);

/// When a process began, in clock ticks since the machine did: with its number it is one process and no later
/// one. nullopt when there is none (any more).
std::optional<std::uint64_t> start_of_process(pid_t pid);

/// This process's state, for as long as the object lives: "<kind>-<pid>-<start>.json", mode 0600, in a folder
/// of mode 0700. Replaced as a whole, without waiting for the disk: after a power cut nobody is there of whom
/// it could tell.
class ClientStateFile {
 public:
  /// Makes the folder and takes out of it what ended processes left. Fails with denied when it cannot be made
  /// or is open to others.
  static Result<std::unique_ptr<ClientStateFile>> create(std::filesystem::path folder, std::string_view kind);
  ~ClientStateFile();
  ClientStateFile(const ClientStateFile&) = delete;
  ClientStateFile& operator=(const ClientStateFile&) = delete;

  /// Adds "pid" to the object.
  Result<void> write(nlohmann::json state);
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit ClientStateFile(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

/// The states in that folder, the longest running first; files of processes that have ended are removed. No
/// folder: none. Fails with denied when the folder is somebody else's or open to others.
Result<std::vector<nlohmann::json>> read_client_states(const std::filesystem::path& folder);

}  // namespace tunnelctl::client
