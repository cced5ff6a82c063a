#pragma once

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "tunneld/access/base64url.h"

/// Signs whatever it is asked to, with OpenSSL directly, so that the verifier is tested against an
/// independent maker and against tokens no honest library makes.
namespace tunneld::access::forge {

using nlohmann::json;
using Pkey = std::shared_ptr<EVP_PKEY>;

inline Pkey rsa_key(unsigned bits) {
  Pkey key(EVP_RSA_gen(bits), EVP_PKEY_free);
  if (!key) throw std::runtime_error("cannot make an RSA key");
  return key;
}
inline Pkey ec_key(const char* curve) {
  Pkey key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve), EVP_PKEY_free);
  if (!key) throw std::runtime_error("cannot make an EC key");
  return key;
}
inline Pkey ed_key(const char* type = "ED25519") {
  Pkey key(EVP_PKEY_Q_keygen(nullptr, nullptr, type), EVP_PKEY_free);
  if (!key) throw std::runtime_error("cannot make an Edwards key");
  return key;
}

inline std::string bignum_text(const Pkey& key, const char* param) {
  BIGNUM* number = nullptr;
  if (EVP_PKEY_get_bn_param(key.get(), param, &number) != 1) throw std::runtime_error("no such number");
  std::string bytes(static_cast<std::size_t>(BN_num_bytes(number)), '\0');
  BN_bn2bin(number, reinterpret_cast<unsigned char*>(bytes.data()));
  BN_free(number);
  return bytes;
}
inline std::string padded(std::string bytes, std::size_t size) {
  return std::string(size - bytes.size(), '\0') + bytes;
}

inline json jwk(const Pkey& key, const std::string& kid) {
  json made{{"use", "sig"}};
  if (!kid.empty()) made["kid"] = kid;
  if (EVP_PKEY_is_a(key.get(), "RSA")) {
    made["kty"] = "RSA";
    made["n"] = base64url_encode(bignum_text(key, OSSL_PKEY_PARAM_RSA_N));
    made["e"] = base64url_encode(bignum_text(key, OSSL_PKEY_PARAM_RSA_E));
  } else if (EVP_PKEY_is_a(key.get(), "EC")) {
    const auto size = static_cast<std::size_t>((EVP_PKEY_get_bits(key.get()) + 7) / 8);
    made["kty"] = "EC";
    made["crv"] = "P-" + std::to_string(EVP_PKEY_get_bits(key.get()));
    made["x"] = base64url_encode(padded(bignum_text(key, OSSL_PKEY_PARAM_EC_PUB_X), size));
    made["y"] = base64url_encode(padded(bignum_text(key, OSSL_PKEY_PARAM_EC_PUB_Y), size));
  } else {
    std::string raw(64, '\0');
    std::size_t size = raw.size();
    EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(raw.data()), &size);
    raw.resize(size);
    made["kty"] = "OKP";
    made["crv"] = EVP_PKEY_is_a(key.get(), "ED25519") ? "Ed25519" : "Ed448";
    made["x"] = base64url_encode(raw);
  }
  return made;
}

/// What OpenSSL makes of it: DER for ECDSA.
inline std::string plain_signature(const Pkey& key, std::string_view text, const EVP_MD* digest,
                                   bool pss = false) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  EVP_PKEY_CTX* options = nullptr;
  std::size_t size = 0;
  if (EVP_DigestSignInit(context.get(), &options, digest, nullptr, key.get()) != 1 ||
      (pss && EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) != 1) ||
      EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) != 1)
    throw std::runtime_error("cannot sign");
  std::string signature(size, '\0');
  EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes,
                 text.size());
  signature.resize(size);
  return signature;
}

inline std::string raw_ecdsa(const std::string& der, int coordinate = 32) {
  const auto* in = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* parsed = d2i_ECDSA_SIG(nullptr, &in, static_cast<long>(der.size()));
  std::string raw(2 * static_cast<std::size_t>(coordinate), '\0');
  auto* out = reinterpret_cast<unsigned char*>(raw.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(parsed), out, coordinate);
  BN_bn2binpad(ECDSA_SIG_get0_s(parsed), out + coordinate, coordinate);
  ECDSA_SIG_free(parsed);
  return raw;
}

inline std::string hmac(std::string_view secret, std::string_view text) {
  const Pkey key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, nullptr,
                                   reinterpret_cast<const unsigned char*>(secret.data()), secret.size()),
      EVP_PKEY_free);
  return plain_signature(key, text, EVP_sha256());
}

/// The right JOSE signature for the kind of key: RS256, ES256 or EdDSA.
inline std::string signature(const Pkey& key, std::string_view text) {
  if (EVP_PKEY_is_a(key.get(), "RSA")) return plain_signature(key, text, EVP_sha256());
  if (EVP_PKEY_is_a(key.get(), "EC")) return raw_ecdsa(plain_signature(key, text, EVP_sha256()));
  return plain_signature(key, text, nullptr);
}

inline std::string unsigned_text(std::string_view header, std::string_view payload) {
  return base64url_encode(header) + "." + base64url_encode(payload);
}
inline std::string with_signature(std::string text, std::string_view bytes) {
  return text + "." + base64url_encode(bytes);
}
/// Header and payload as texts, so that they need not be JSON.
inline std::string token_of_texts(const Pkey& key, std::string_view header, std::string_view payload) {
  const std::string text = unsigned_text(header, payload);
  return with_signature(text, signature(key, text));
}
inline std::string token(const Pkey& key, const json& header, const json& payload) {
  return token_of_texts(key, header.dump(), payload.dump());
}

}  // namespace tunneld::access::forge
