#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tunneld::access {

/// base64url without padding, as JOSE uses it (RFC 7515 section 2).
std::string base64url_encode(std::string_view bytes);

/// nullopt for any other alphabet, padding, white space, an impossible length, or set bits after the
/// last byte: each byte string has exactly one accepted spelling.
std::optional<std::string> base64url_decode(std::string_view text);

}  // namespace tunneld::access
