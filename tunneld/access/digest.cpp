#include "tunneld/access/digest.h"

#include <stdexcept>

#include "common/openssl_handles.h"

namespace tunneld::access {

using namespace openssl;

Sha256 sha256(std::string_view bytes) {
  // Fetched once and kept for the life of the process; OpenSSL frees it at exit.
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
  thread_local const DigestContext context(EVP_MD_CTX_new());
  Sha256 digest;
  if (algorithm == nullptr || !context || EVP_DigestInit_ex2(context.get(), algorithm, nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1)
    throw std::runtime_error("OpenSSL offers no SHA-256");
  return digest;
}

}  // namespace tunneld::access
