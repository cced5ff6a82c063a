#pragma once

#include <string>
#include <string_view>

namespace tunneld::access {

/// Why a caller was not believed. For metrics, log and audit only: callers get caller_text().
/// The set is closed, so it is safe as a metric label.
enum class Reason {
  missing,        // no token anywhere
  query,          // a token in the query string, where proxies and logs would keep it
  conflict,       // several tokens, or two places that differ
  size,           // longer than 8 KiB
  malformed,      // not three base64url parts of strict JSON objects
  header,         // crit, b64, encryption, nesting or a foreign type
  alg,            // not allowed, or not the algorithm of the key
  kid,            // not 1 to 128 of [A-Za-z0-9._-], or absent where several keys exist
  kid_unknown,    // well formed but not among our keys: see Rejection::refetch_may_help
  signature,      // does not verify
  claims,         // a required claim is absent, or one has the wrong type, range or characters
  issuer,         // not ours
  audience,       // not ours
  not_yet_valid,  // nbf or iat in the future
  lifetime,       // issued for longer than allowed
  revoked,        // genuine, but taken back
  expired,        // genuine in every other respect, but over
};

/// The metric label, e.g. "kid_unknown". Never fails.
constexpr std::string_view label(Reason reason) {
  switch (reason) {
    case Reason::missing: return "missing";
    case Reason::query: return "query";
    case Reason::conflict: return "conflict";
    case Reason::size: return "size";
    case Reason::malformed: return "malformed";
    case Reason::header: return "header";
    case Reason::alg: return "alg";
    case Reason::kid: return "kid";
    case Reason::kid_unknown: return "kid_unknown";
    case Reason::signature: return "signature";
    case Reason::claims: return "claims";
    case Reason::issuer: return "issuer";
    case Reason::audience: return "audience";
    case Reason::not_yet_valid: return "not_yet_valid";
    case Reason::lifetime: return "lifetime";
    case Reason::revoked: return "revoked";
    case Reason::expired: break;
  }
  return "expired";
}

struct Rejection {
  Reason reason = Reason::malformed;
  /// The signing key is one we do not hold; a fresh key set may have it (jwks_refresh_policy.h).
  bool refetch_may_help = false;
  /// What the token said of itself, for the audit log: unverified, cut to 128 bytes, anything but
  /// printable ASCII replaced by '?'. Never the subject: anybody can claim one.
  std::string claimed_kid{};
  std::string claimed_alg{};
  std::string claimed_issuer{};

  /// Expired tokens are told apart (TUNNEL_003) only because their signature and every other claim
  /// was right; all else is TUNNEL_002.
  bool expired() const { return reason == Reason::expired; }
};

/// The only text a caller may see: one for every kind of invalid, so that forging teaches nothing.
constexpr std::string_view caller_text(const Rejection& rejection) {
  return rejection.reason == Reason::expired ? "The access token has expired."
                                             : "The access token is missing or invalid.";
}

}  // namespace tunneld::access
