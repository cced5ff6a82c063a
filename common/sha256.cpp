#include "common/sha256.h"

#include <stdexcept>

#include "common/openssl_handles.h"

Sha256 sha256(std::string_view bytes) {
  // Fetched once and kept for the life of the process; OpenSSL frees it at exit.
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
  thread_local const openssl::DigestContext context(EVP_MD_CTX_new());
  Sha256 digest;
  if (algorithm == nullptr || !context || EVP_DigestInit_ex2(context.get(), algorithm, nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1)
    throw std::runtime_error("OpenSSL offers no SHA-256");
  return digest;
}

std::string to_hex(const Sha256& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * digest.size());
  for (const unsigned char byte : digest) {
    text.push_back(kDigits[byte >> 4U]);
    text.push_back(kDigits[byte & 15U]);
  }
  return text;
}
