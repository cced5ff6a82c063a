#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/secret.h"
#include "tunnel/principal.h"

struct evp_pkey_st;

namespace tunneld::access {

/// What a token made here shall say.
struct TokenRequest {
  std::string subject;        // 1 to 255 bytes of printable ASCII
  std::string tier = "free";  // free, premium or enterprise
  std::vector<std::string> scopes;
  std::chrono::seconds lifetime{std::chrono::hours{1}};  // 1 s to 24 h
};

/// The daemon's own token issuer: one Ed25519 key, kept as PKCS#8 PEM. Copies share the key; any
/// thread may sign. Errors of files name the path and the remedy; no message holds key material.
class LocalIssuer {
 public:
  /// A new key, in memory only.
  static Result<LocalIssuer> generate();
  /// Refuses files wider than mode 0640 (denied), encrypted keys and keys of other kinds (bad_input).
  static Result<LocalIssuer> load(const std::string& path);
  /// load(), or generate() and save() where there is no file yet. Of two processes that start at once
  /// both end up with the same key.
  static Result<LocalIssuer> load_or_create(const std::string& path);

  /// Writes the key with mode 0600, whole or not at all. Never replaces a file.
  Result<void> save(const std::string& path) const;

  /// A compact JWS {iss, sub, aud, iat, nbf, exp, jti, tier, scope} that begins now.
  /// `tier_claim` and `scope_claim` as in Options, so that our own verifier finds them.
  /// Fails with bad_input naming the field that is out of bounds.
  struct Names {
    std::string issuer = "tunneld";
    std::string audience = "tunneld";
    std::string tier_claim = "tier";
    std::string scope_claim = "scope";
  };
  Result<Secret> sign(const TokenRequest& request, const Names& names,
                      std::chrono::system_clock::time_point now) const;

  /// The verification key as a JWK Set, for JwkSet::parse and for other verifiers.
  std::string jwks() const;
  /// The key's RFC 7638 thumbprint: the same key has the same name everywhere.
  const std::string& kid() const { return kid_; }

 private:
  LocalIssuer(std::shared_ptr<evp_pkey_st> key, std::string x, std::string kid)
      : key_(std::move(key)), x_(std::move(x)), kid_(std::move(kid)) {}
  static Result<LocalIssuer> from_key(std::shared_ptr<evp_pkey_st> key);

  std::shared_ptr<evp_pkey_st> key_;
  std::string x_;  // the public key, base64url
  std::string kid_;
};

}  // namespace tunneld::access
