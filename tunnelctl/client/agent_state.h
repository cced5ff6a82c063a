#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

/// What an agent knows beyond its run: the folder it keeps, and SSH keys.
namespace tunnelctl::client {

/// ^[a-z0-9-]{1,63}$
bool is_agent_id(std::string_view text);

/// $XDG_STATE_HOME/tunnelctl/agents/<id>, else ~/.local/state/tunnelctl/agents/<id>. Either may be empty;
/// not_found, saying what to set, when neither is an absolute path.
Result<std::filesystem::path> agent_folder(const std::filesystem::path& xdg_state_home,
                                           const std::filesystem::path& home, std::string_view id);

/// Makes it, and the folders above it, for this user alone (0700). Fails with denied when one is there that
/// is somebody else's or open to others: keys lie in it.
Result<void> make_private_folder(const std::filesystem::path& folder);

/// An SSH public key as a line, "ssh-ed25519 AAAA...", without comment. bad_input when it is none.
Result<std::string> parse_public_key(std::string_view line);
/// "SHA256:...", as ssh-keygen -l prints it, of such a line.
std::string key_fingerprint(std::string_view public_key);

/// Nullopt for anything but whole, padded base64.
std::optional<std::string> decoded_base64(std::string_view text);

}  // namespace tunnelctl::client
