#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "common/result.h"
#include "tunnel/principal.h"

namespace tunneld::upstream {

/// The host keys that agents showed first, by principal and agent id, in a file. An entry is never
/// overwritten: an agent that is to get another key is taken out of the file by hand while tunneld is down.
///     {"version": 1, "enrolments": [{"issuer", "subject", "agentId", "fingerprint", "since"}]}
/// `since` in seconds since 1970. Threads: one at a time.
class AgentEnrolments {
 public:
  /// No file: empty. Fails with bad_input naming the file.
  static Result<AgentEnrolments> read(std::filesystem::path file);

  /// "SHA256:…", or null when that agent is not enrolled.
  const std::string* fingerprint(const tunnel::Principal& principal, const std::string& agent_id) const;
  /// How many the principal has.
  std::size_t count(const tunnel::Principal& principal) const;
  std::size_t count() const { return entries_.size(); }
  /// Enrols one that is not yet: on disk first. Fails with unavailable; nothing is enrolled then.
  Result<void> add(const tunnel::Principal& principal, const std::string& agent_id,
                   const std::string& fingerprint, std::chrono::system_clock::time_point since);

 private:
  struct Entry {
    std::string fingerprint;
    std::int64_t since = 0;
  };
  using Name = std::pair<std::pair<std::string, std::string>, std::string>;  // issuer, subject; agent id

  explicit AgentEnrolments(std::filesystem::path file) : file_(std::move(file)) {}
  std::string text() const;

  std::filesystem::path file_;
  std::map<Name, Entry> entries_;
};

}  // namespace tunneld::upstream
