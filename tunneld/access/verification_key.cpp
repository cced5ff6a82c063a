#include "tunneld/access/verification_key.h"

#include <array>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "common/openssl_handles.h"

namespace tunneld::access {

using namespace openssl;
namespace {

constexpr std::size_t kCoordinateBytes = 32;

tl::unexpected<Error> bad(std::string message) {
  ERR_clear_error();  // what OpenSSL queued would surface in an unrelated TLS call of this thread
  return fail(Error::Kind::bad_input, std::move(message));
}

BignumHandle number(std::string_view big_endian) {
  return BignumHandle(BN_bin2bn(as_bytes(big_endian), static_cast<int>(big_endian.size()), nullptr));
}

PkeyHandle public_key_from(const char* type, OSSL_PARAM* params) {
  const PkeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
    return nullptr;
  return PkeyHandle(key);
}

/// OpenSSL wants ECDSA signatures in DER. Zero and over-large r or s are refused by its verifier.
std::string ecdsa_to_der(std::string_view raw) {
  BignumHandle r = number(raw.substr(0, kCoordinateBytes));
  BignumHandle s = number(raw.substr(kCoordinateBytes));
  const EcdsaSignature signature(ECDSA_SIG_new());
  if (!r || !s || !signature || ECDSA_SIG_set0(signature.get(), r.get(), s.get()) != 1) return {};
  // Ownership of both numbers went to the signature.
  static_cast<void>(r.release());
  static_cast<void>(s.release());
  const int size = i2d_ECDSA_SIG(signature.get(), nullptr);
  if (size <= 0) return {};
  std::string der(static_cast<std::size_t>(size), '\0');
  auto* out = reinterpret_cast<unsigned char*>(der.data());
  i2d_ECDSA_SIG(signature.get(), &out);
  return der;
}

bool verify_public(EVP_PKEY* key, const EVP_MD* digest, std::string_view text, std::string_view signature) {
  const DigestContext context(EVP_MD_CTX_new());
  return context && EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key) == 1 &&
         EVP_DigestVerify(context.get(), as_bytes(signature), signature.size(), as_bytes(text),
                          text.size()) == 1;
}

bool verify_hmac(EVP_PKEY* key, std::string_view text, std::string_view signature) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac;
  std::size_t size = mac.size();
  const DigestContext context(EVP_MD_CTX_new());
  return context && EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
         EVP_DigestSign(context.get(), mac.data(), &size, as_bytes(text), text.size()) == 1 &&
         size == signature.size() && CRYPTO_memcmp(mac.data(), signature.data(), size) == 0;
}

}  // namespace

std::string_view name(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::rs256: return "RS256";
    case Algorithm::es256: return "ES256";
    case Algorithm::eddsa: return "EdDSA";
    case Algorithm::hs256: break;
  }
  return "HS256";
}

std::optional<Algorithm> algorithm_named(std::string_view text) {
  for (const auto algorithm : {Algorithm::rs256, Algorithm::es256, Algorithm::eddsa, Algorithm::hs256})
    if (text == name(algorithm)) return algorithm;
  return std::nullopt;
}

Result<VerificationKey> VerificationKey::rsa(std::string_view modulus, std::string_view exponent) {
  if (modulus.size() > 1025 || exponent.size() > 8) return bad("RSA modulus or exponent too large");
  const BignumHandle n = number(modulus);
  const BignumHandle e = number(exponent);
  if (!n || !e) return bad("RSA modulus or exponent unreadable");
  if (BN_num_bits(n.get()) < 2048) return bad("RSA key shorter than 2048 bits");
  if (BN_num_bits(n.get()) > 8192) return bad("RSA key longer than 8192 bits");
  if (!BN_is_odd(n.get())) return bad("RSA modulus is even");
  if (BN_num_bits(e.get()) < 17 || BN_num_bits(e.get()) > 32 || !BN_is_odd(e.get()))
    return bad("RSA exponent must be odd, 65537 or more, and below 2^32");
  const ParamBuilder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1)
    return bad("RSA key refused by OpenSSL");
  const Params params(OSSL_PARAM_BLD_to_param(builder.get()));
  PkeyHandle key = public_key_from("RSA", params.get());
  if (!key) return bad("RSA key refused by OpenSSL");
  return VerificationKey(Algorithm::rs256, std::shared_ptr<EVP_PKEY>(key.release(), EVP_PKEY_free));
}

Result<VerificationKey> VerificationKey::p256(std::string_view x, std::string_view y) {
  if (x.size() != kCoordinateBytes || y.size() != kCoordinateBytes)
    return bad("P-256 coordinates must be 32 bytes each");
  std::string point = "\x04";  // uncompressed
  point.append(x).append(y);
  std::string group = "P-256";
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0),
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()),
      OSSL_PARAM_construct_end(),
  };
  PkeyHandle key = public_key_from("EC", params);
  if (!key) return bad("point is not on P-256");
  const PkeyContext check(EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr));
  if (!check || EVP_PKEY_public_check(check.get()) != 1) return bad("point is not on P-256");
  return VerificationKey(Algorithm::es256, std::shared_ptr<EVP_PKEY>(key.release(), EVP_PKEY_free));
}

Result<VerificationKey> VerificationKey::ed25519(std::string_view x) {
  if (x.size() != 32) return bad("Ed25519 keys are 32 bytes");
  PkeyHandle key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, as_bytes(x), x.size()));
  if (!key) return bad("Ed25519 key refused by OpenSSL");
  return VerificationKey(Algorithm::eddsa, std::shared_ptr<EVP_PKEY>(key.release(), EVP_PKEY_free));
}

Result<VerificationKey> VerificationKey::shared_secret(std::string_view secret) {
  if (secret.size() < 32) return bad("a shared secret needs at least 32 bytes");
  PkeyHandle key(EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, nullptr, as_bytes(secret), secret.size()));
  if (!key) return bad("shared secret refused by OpenSSL");
  return VerificationKey(Algorithm::hs256, std::shared_ptr<EVP_PKEY>(key.release(), EVP_PKEY_free));
}

bool VerificationKey::verify(std::string_view signed_text, std::string_view signature) const {
  bool good = false;
  switch (algorithm_) {
    case Algorithm::rs256: good = verify_public(key_.get(), EVP_sha256(), signed_text, signature); break;
    case Algorithm::es256:
      good = signature.size() == 2 * kCoordinateBytes &&
             verify_public(key_.get(), EVP_sha256(), signed_text, ecdsa_to_der(signature));
      break;
    case Algorithm::eddsa: good = verify_public(key_.get(), nullptr, signed_text, signature); break;
    case Algorithm::hs256: good = verify_hmac(key_.get(), signed_text, signature); break;
  }
  if (!good) ERR_clear_error();
  return good;
}

}  // namespace tunneld::access
