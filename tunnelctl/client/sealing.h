#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/result.h"
#include "common/secret.h"

namespace tunnelctl::client {

/// Encrypts what lies on disk between two runs: AES-256-GCM (NIST SP 800-38D) with a random nonce for each
/// text. With random nonces one key is good for 2^32 texts (8.3 there), far more than a person's requests.
/// Any thread.
class Sealing {
 public:
  static constexpr std::size_t kKeyBytes = 64;       // half of it encrypts, the other half names
  static constexpr std::size_t kOverhead = 12 + 16;  // nonce and tag

  /// `key` has kKeyBytes.
  explicit Sealing(Secret key);
  /// A new key, of the system's randomness. unavailable if that gives none.
  static Result<Secret> new_key();

  /// `text`, encrypted; opens only with the same `bound_to`, which is not part of it.
  Result<std::string> seal(std::string_view text, std::string_view bound_to) const;
  /// bad_input when it was sealed with another key or for something else, or has changed since.
  Result<std::string> open(std::string_view sealed, std::string_view bound_to) const;

  /// The same 32 hexadecimal digits for the same text, from which nobody without the key can guess it
  /// (HMAC-SHA256, cut to 128 bits).
  std::string name_of(std::string_view text) const;

 private:
  Secret key_;
};

}  // namespace tunnelctl::client
