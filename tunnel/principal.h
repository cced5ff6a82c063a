#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace tunnel {

enum class Tier { free, premium, enterprise };

constexpr const char* to_string(Tier tier) {
  switch (tier) {
    case Tier::premium: return "premium";
    case Tier::enterprise: return "enterprise";
    case Tier::free: break;
  }
  return "free";
}

/// Who a verified token speaks for. Identity is (issuer, subject), never the subject alone.
struct Principal {
  std::string issuer;
  std::string subject;
  Tier tier = Tier::free;
  std::vector<std::string> scopes;
  std::string token_id;                               // `jti`, empty when absent
  std::chrono::system_clock::time_point issued_at{};  // `iat`; the epoch when absent
  std::chrono::system_clock::time_point expires_at{};

  /// Stable key for pools and tables: issuer, NUL, subject.
  std::string key() const { return issuer + '\0' + subject; }
  bool has_scope(const std::string& scope) const {
    for (const auto& held : scopes)
      if (held == scope) return true;
    return false;
  }
};

/// What stands for a principal wherever people read: the first 64 bits of the SHA-256 of its key, as 16
/// hex digits.
std::string principal_hash(std::string_view key);

}  // namespace tunnel
