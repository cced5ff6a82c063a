#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

struct evp_pkey_st;

namespace tunneld::access {

/// The signature algorithms we know (RFC 7518, RFC 8037).
enum class Algorithm { rs256, es256, eddsa, hs256 };

/// As in a token's `alg`: "RS256", "ES256", "EdDSA", "HS256".
std::string_view name(Algorithm algorithm);
/// Exact spelling only; nullopt for everything else, "none" included.
std::optional<Algorithm> algorithm_named(std::string_view text);

/// A key that can check signatures of exactly one algorithm, fixed by what the key is. Byte strings
/// are big-endian as in a JWK, already base64url-decoded. Copies share the key; any thread may
/// verify. Factories fail with bad_input saying what is wrong with the key.
class VerificationKey {
 public:
  /// 2048 to 8192 bits (above that one forged token would buy milliseconds of CPU), odd, and an
  /// odd exponent from 65537 to 2^32 (FIPS 186-5 section 5.1).
  static Result<VerificationKey> rsa(std::string_view modulus, std::string_view exponent);
  /// Both coordinates exactly 32 bytes, on the curve.
  static Result<VerificationKey> p256(std::string_view x, std::string_view y);
  /// Exactly 32 bytes.
  static Result<VerificationKey> ed25519(std::string_view x);
  /// At least 32 bytes.
  static Result<VerificationKey> shared_secret(std::string_view secret);

  Algorithm algorithm() const { return algorithm_; }
  /// `signature` is in JOSE form: ES256 is r and s of 32 bytes each, not DER.
  bool verify(std::string_view signed_text, std::string_view signature) const;

 private:
  VerificationKey(Algorithm algorithm, std::shared_ptr<evp_pkey_st> key)
      : algorithm_(algorithm), key_(std::move(key)) {}

  Algorithm algorithm_;
  std::shared_ptr<evp_pkey_st> key_;  // HS256: an HMAC key holding the secret, wiped when freed
};

}  // namespace tunneld::access
