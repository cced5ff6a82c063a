#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json_fwd.hpp>

#include "common/result.h"
#include "tunnel/principal.h"

namespace tunneld::upstream {

/// The host keys that agents showed first, by principal and agent id, in a file. An entry is never
/// overwritten: an agent that is to get another key is forgotten first (`tunnelctl agents forget`).
///     {"version": 1, "enrolments": [{"issuer", "subject", "agentId", "fingerprint", "since"}]}
/// `since` in seconds since 1970. When they are many, newer ones are lines of a second file beside it, with
/// ".additions" behind its name, until these are many too: a thousand agents that come for the first time
/// write a thousand lines, and not a thousand times the whole. Threads: one at a time.
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
  /// Takes one out that is enrolled: on disk first. Fails with unavailable; it stays enrolled then.
  Result<void> remove(const tunnel::Principal& principal, const std::string& agent_id);
  /// Issuer and subject of the one with that hash who has enrolled an agent of that id.
  std::optional<tunnel::Principal> owner(std::string_view principal_hash, const std::string& agent_id) const;

 private:
  struct Entry {
    std::string fingerprint;
    std::int64_t since = 0;
  };
  using Name = std::pair<std::pair<std::string, std::string>, std::string>;  // issuer, subject; agent id

  using Entries = std::map<Name, Entry>;
  static tl::expected<Entries::value_type, std::string> parse_entry(const nlohmann::json& value);

  explicit AgentEnrolments(std::filesystem::path file) : file_(std::move(file)) {}
  static nlohmann::json json_of(const Name& name, const Entry& entry);
  std::filesystem::path additions_file() const { return file_.string() + ".additions"; }
  Result<void> read_additions();
  bool may_append() const;
  Result<void> append(const Entries::value_type& enrolment);
  /// All of them, into the one file.
  Result<void> write_whole();
  std::string text() const;

  std::filesystem::path file_;
  Entries entries_;
  std::size_t added_ = 0;  // lines of the second file
  /// Those lines are no base for more: the last one may be torn.
  bool additions_are_old_ = false;
};

}  // namespace tunneld::upstream
