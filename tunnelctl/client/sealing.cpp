#include "tunnelctl/client/sealing.h"

#include <array>
#include <memory>
#include <stdexcept>
#include <utility>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "common/openssl_handles.h"
#include "common/sha256.h"

namespace tunnelctl::client {
namespace {

using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, openssl::Release<EVP_CIPHER_CTX_free>>;
using openssl::as_bytes;

constexpr std::size_t kHalf = Sealing::kKeyBytes / 2;
constexpr std::size_t kNonce = 12;
constexpr std::size_t kTag = 16;
/// OpenSSL counts in int.
constexpr std::size_t kLongest = 1U << 30U;

unsigned char* writable(std::string& text, std::size_t at = 0) {
  return reinterpret_cast<unsigned char*>(text.data()) + at;
}

tl::unexpected<Error> failed(const char* step) {
  return fail(Error::Kind::bug, std::string("OpenSSL cannot ") + step);
}

tl::unexpected<Error> not_ours() {
  return fail(Error::Kind::bad_input, "does not open with this key: it is damaged, or somebody else's");
}

}  // namespace

Sealing::Sealing(Secret key) : key_(std::move(key)) {
  if (key_.reveal().size() != kKeyBytes) throw std::invalid_argument("Sealing: a key of another size");
}

Result<Secret> Sealing::new_key() {
  std::string key(kKeyBytes, '\0');
  if (RAND_priv_bytes(writable(key), static_cast<int>(key.size())) != 1)
    return fail(Error::Kind::unavailable, "the system gives no randomness for a key");
  return Secret(std::move(key));
}

Result<std::string> Sealing::seal(std::string_view text, std::string_view bound_to) const {
  if (text.size() > kLongest || bound_to.size() > kLongest) return failed("seal that much");
  std::string sealed(kNonce + text.size() + kTag, '\0');
  if (RAND_bytes(writable(sealed), kNonce) != 1)
    return fail(Error::Kind::unavailable, "the system gives no randomness");
  const CipherContext context(EVP_CIPHER_CTX_new());
  int size = 0;
  const auto key = key_.reveal().substr(0, kHalf);
  if (!context ||
      EVP_EncryptInit_ex2(context.get(), EVP_aes_256_gcm(), as_bytes(key), writable(sealed), nullptr) != 1 ||
      EVP_EncryptUpdate(context.get(), nullptr, &size, as_bytes(bound_to),
                        static_cast<int>(bound_to.size())) != 1 ||
      EVP_EncryptUpdate(context.get(), writable(sealed, kNonce), &size, as_bytes(text),
                        static_cast<int>(text.size())) != 1 ||
      EVP_EncryptFinal_ex(context.get(), writable(sealed, kNonce + text.size()), &size) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTag,
                          writable(sealed, kNonce + text.size())) != 1)
    return failed("encrypt");
  return sealed;
}

Result<std::string> Sealing::open(std::string_view sealed, std::string_view bound_to) const {
  if (sealed.size() < kOverhead || sealed.size() > kLongest || bound_to.size() > kLongest) return not_ours();
  std::string text(sealed.size() - kOverhead, '\0');
  std::string tag(sealed.substr(sealed.size() - kTag));
  const auto hidden = sealed.substr(kNonce, text.size());
  const CipherContext context(EVP_CIPHER_CTX_new());
  int size = 0;
  const auto key = key_.reveal().substr(0, kHalf);
  if (!context ||
      EVP_DecryptInit_ex2(context.get(), EVP_aes_256_gcm(), as_bytes(key), as_bytes(sealed), nullptr) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kTag, writable(tag)) != 1)
    return failed("decrypt");
  if (EVP_DecryptUpdate(context.get(), nullptr, &size, as_bytes(bound_to),
                        static_cast<int>(bound_to.size())) != 1 ||
      EVP_DecryptUpdate(context.get(), writable(text), &size, as_bytes(hidden),
                        static_cast<int>(hidden.size())) != 1 ||
      EVP_DecryptFinal_ex(context.get(), writable(text, text.size()), &size) != 1)
    return not_ours();
  return text;
}

std::string Sealing::name_of(std::string_view text) const {
  Sha256 mac{};
  std::size_t size = 0;
  const auto key = key_.reveal().substr(kHalf);
  if (EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, key.data(), key.size(), as_bytes(text),
                text.size(), mac.data(), mac.size(), &size) == nullptr)
    throw std::runtime_error("OpenSSL has no HMAC-SHA256");
  return to_hex(mac).substr(0, 32);
}

}  // namespace tunnelctl::client
