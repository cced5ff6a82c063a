#pragma once

#include <string>
#include <string_view>

namespace tunnel {

/// What the older of two SSH keys of tunneld signs (Ed25519, RFC 8032) to say that the newer one takes its
/// place. Both as "ssh-ed25519 AAAA...", without a comment. It can be no part of SSH's own signatures, which
/// begin with a length (RFC 4252, section 7).
inline std::string key_succession_message(std::string_view from, std::string_view to) {
  std::string text = "tunneld SSH key succession v1\n";
  return text.append(from).append("\n").append(to).append("\n");
}

}  // namespace tunnel
