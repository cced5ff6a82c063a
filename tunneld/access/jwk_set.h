#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunneld/access/verification_key.h"

namespace tunneld::access {

/// 1 to 128 of [A-Za-z0-9._-]: a name to look up in a map, never a path, URL or query.
bool valid_kid(std::string_view kid);

/// The keys tokens are checked against: public keys from a JWK Set (RFC 7517), or one shared secret.
/// Immutable once made; share it between threads as shared_ptr<const JwkSet>.
class JwkSet {
 public:
  static constexpr std::size_t kMaxBytes = 256 * 1024;
  static constexpr std::size_t kMaxKeys = 256;

  /// Takes RSA (2048 bits or more, RS256), EC P-256 (ES256) and OKP Ed25519 (EdDSA) keys. The
  /// algorithm follows from kty and crv; where the key also says `alg`, it must agree. Keys for
  /// other uses (`use` other than sig, `key_ops` without verify) or that cannot be used are left out and
  /// listed in skipped(). A key without `kid` serves only if it is the only usable one.
  /// Fails with bad_input if the document is broken or too large, two usable keys share a kid, or
  /// none is usable.
  static Result<JwkSet> parse(std::string_view document);

  /// A set of one HS256 key. The only way to get one: a JWK Set never yields it.
  static Result<JwkSet> shared_secret(std::string_view secret);

  /// Exact match, nullptr if there is none.
  const VerificationKey* find(std::string_view kid) const;
  /// The key for a token without `kid`: there must be exactly one in the set (OpenID Connect Core
  /// section 10.1), else nullptr.
  const VerificationKey* only() const;
  /// Some key of that algorithm, to spend the same work on tokens whose kid is unknown.
  const VerificationKey* any(Algorithm algorithm) const;

  bool is_shared_secret() const { return shared_secret_; }
  std::size_t size() const { return keys_.size() + (unnamed_ ? 1 : 0); }
  /// One line per key left out: its place or kid and why. Bounded by kMaxKeys; holds no key material.
  const std::vector<std::string>& skipped() const { return skipped_; }

 private:
  std::map<std::string, VerificationKey, std::less<>> keys_;
  std::optional<VerificationKey> unnamed_;
  bool shared_secret_ = false;
  std::vector<std::string> skipped_;
};

}  // namespace tunneld::access
