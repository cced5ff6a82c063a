#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/result.h"

namespace tunneld::ssh {

/// Which host key a far side must show. Exactly one source is set; a mismatch is always fatal.
struct HostKeyPolicy {
  /// "SHA256:…" fingerprints, any of which is right.
  std::vector<std::string> fingerprints;
  /// An OpenSSH known_hosts file, plain or hashed names.
  std::filesystem::path known_hosts;
  /// Trust and record (in known_hosts, 0600, atomically) a host that is not in the file yet. Never
  /// overwrites an entry.
  bool trust_on_first_use = false;
};

/// Checks the shape of a configured fingerprint: "SHA256:" and 43 base64 characters.
Result<void> check_fingerprint(const std::string& text);

/// Is `key_blob`, shown by host:port, the right one? denied: no, and the message says what was shown
/// and what to do; bad_input: the known_hosts file cannot be read.
Result<void> verify_host_key(const HostKeyPolicy& policy, const std::string& host, std::uint16_t port,
                             const std::string& key_blob);

}  // namespace tunneld::ssh
