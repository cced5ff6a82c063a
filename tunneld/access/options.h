#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "common/result.h"

namespace tunneld::access {

/// Where verification keys come from. Exactly one source: a key made for one algorithm family can
/// never meet a token of another.
enum class AuthMode {
  local,          // this daemon's own issuer (Ed25519 key in the state directory)
  jwks,           // an identity provider's keys, from a file or an https URL
  shared_secret,  // HS256 with a secret both sides hold; switches JWKS off
};

struct Options {
  AuthMode mode = AuthMode::local;

  /// `iss`, compared byte for byte. Required except in local mode, where empty means "tunneld".
  std::string issuer;
  /// `aud` must be or contain this. Required except in local mode, where empty means "tunneld".
  std::string audience;

  /// mode jwks: exactly one of these two. The URL must be https; it is fetched without redirects.
  std::string jwks_file;
  std::string jwks_url;
  /// mode shared_secret: file holding at least 32 bytes (RFC 7518 section 3.2: a key of the hash's
  /// size or larger), mode 0640 or narrower.
  std::string shared_secret_file;

  /// Claim with the tier's name ("free", "premium", "enterprise"); anything else there means free.
  /// A flat claim name: "https://example.com/tier" is one key, not a path.
  std::string tier_claim = "tier";
  /// Claim with the scopes: one string with spaces between (RFC 8693) or an array of strings.
  std::string scope_claim = "scope";

  /// Allowed difference between the issuer's wall clock and ours, for exp, nbf and iat.
  std::chrono::seconds leeway{30};
  /// Longest accepted distance from iat (else nbf, else now) to exp. A day bounds what a stolen
  /// token is worth where nothing revokes it.
  std::chrono::seconds max_lifetime{std::chrono::hours{24}};

  /// Verified tokens remembered. About 1 KiB each: 10 MiB when full; the least recently used goes.
  std::size_t cache_entries = 10'000;
  /// How long a verified token is believed without verifying again; never past its exp. Bounds how
  /// long a withdrawn key keeps working. At most 60 s.
  std::chrono::seconds cache_ttl{60};
};

/// The options with local mode's defaults filled in, or bad_input naming the key and the remedy.
Result<Options> validated(Options options);

}  // namespace tunneld::access
