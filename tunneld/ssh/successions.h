#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/result.h"
#include "tunneld/ssh/identity.h"

namespace tunneld::ssh {

/// That one of tunneld's keys has taken the place of an older one, in the older one's words.
struct Succession {
  std::string from, to;   // "ssh-ed25519 AAAA...", without a comment
  std::string signature;  // base64, by `from`, of tunnel::key_succession_message()
};

/// Those of `file`, the oldest first; none when there is no such file. Fails with bad_input naming it.
///     {"version": 1, "successions": [{"from", "to", "signature"}]}
Result<std::vector<Succession>> read_successions(const std::filesystem::path& file);

/// Where tunneld's key is kept, the one that is to follow it, the one before, and what was signed.
struct KeyFiles {
  std::filesystem::path identity, next, previous, successions;
};

/// The key that is to follow, made when there is none yet.
Result<Identity> next_identity(const KeyFiles& files, const std::string& comment);

/// Puts the next key in the place of tunneld's, signed by the one that goes, which is kept as `previous`.
/// Whatever it is cut short by, tunneld has a key that agents accept: what is signed comes first, and a key
/// is replaced in one step. Fails with bad_input (a key cannot be read, or is none that signs) or
/// unavailable.
Result<Succession> take_next_identity(const KeyFiles& files, const std::string& comment);

}  // namespace tunneld::ssh
