#include "tunnelctl/monitor/objects.h"

#include <openssl/evp.h>

#include <array>

namespace tunnelctl::monitor {

std::string_view name(Kind kind) {
  switch (kind) {
    case Kind::folder: return "folder";
    case Kind::template_group: return "notification template";
    case Kind::mute_timing: return "mute timing";
    case Kind::contact_point: return "contact point";
    case Kind::routes: return "notification routes";
    case Kind::rule_group: return "rule group";
    case Kind::dashboard: return "dashboard";
  }
  return "";
}

std::string pack_tag(std::string_view pack) {
  return "tunnelctl:" + std::string(pack);
}
std::string own_prefix(std::string_view pack) {
  return "tctl-" + std::string(pack) + "--";
}

std::string uid_of(std::string_view text) {
  constexpr std::size_t kLongest = 40;
  constexpr std::size_t kHash = 8;
  std::string result;
  bool changed = text.size() > kLongest;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    result += plain ? c : '-';
    changed = changed || !plain;
  }
  if (!changed) return result;
  // What was cut or replaced must not make two names one.
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr);
  result = result.substr(0, kLongest - kHash - 1) + "-";
  constexpr const char* kHex = "0123456789abcdef";
  for (std::size_t i = 0; i < kHash / 2; ++i) {
    result += kHex[digest[i] >> 4U];
    result += kHex[digest[i] & 15U];
  }
  return result;
}

}  // namespace tunnelctl::monitor
