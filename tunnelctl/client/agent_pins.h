#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

/// Which tunneld an agent trusts: the SSH keys that a server showed first, and those that follow them.
namespace tunnelctl::client {

/// What a tunneld says of its SSH keys.
struct TunnelKeys {
  std::vector<std::string> keys;  // "ssh-ed25519 AAAA...", sorted, without comments; one to eight
  /// That a key has taken the place of an older one, signed by the older one. The oldest first, at most 64.
  struct Succession {
    std::string from, to;   // as above
    std::string signature;  // its bytes
  };
  std::vector<Succession> successions{};
};

/// A /.well-known/tunnel-keys answer, {"keys":[{"publicKey":"ssh-ed25519 AAAA... name"}],
/// "successions":[{"from","to","signature"}]}; other members are ignored.
Result<TunnelKeys> parse_tunnel_keys(std::string_view body);

/// "SHA256:" and 43 characters of base64, as ssh-keygen -l prints it.
bool is_fingerprint(std::string_view text);

/// What has come of the keys that a server shows.
struct Pinned {
  enum class How {
    known,     // they are those it showed before, or fewer
    first,     // nothing was known of it
    followed,  // a key that an older one has signed for; both are known now
    named,     // those of `named` have taken the place of what was known
  };
  How how = How::known;
  std::string now, before;  // fingerprints; empty where nothing changed
};

/// Keeps the keys that a server showed first in `folder`/known_servers, lines of "<origin> <key>". Later ones
/// must be among them, or follow from them by `successions`: denied, with TUNNEL_015 and what to do, when one
/// is not. Where fingerprints are `named` these count in place of what was seen first. bad_input when the
/// file is damaged. `origin` is "https://host:port".
Result<Pinned> pin_tunnel_keys(const std::filesystem::path& folder, std::string_view origin,
                               const TunnelKeys& shown, const std::vector<std::string>& named = {});

}  // namespace tunnelctl::client
