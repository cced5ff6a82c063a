#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

/// What a byte of a log line is. A table, because every byte of every line is asked about.
namespace tunnelctl::patterns {

enum Class : std::uint8_t {
  kDigit = 1,
  kHex = 2,     // digits too
  kLetter = 4,  // ASCII
  kWord = 8,    // letters, digits, _, and all bytes of characters beyond ASCII
  kSpace = 16,  // blanks and control characters
  kUpper = 32,
  kBase64 = 64,  // letters, digits, + / - _ = . ~: of tokens and keys
};

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> all{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned is = 0;
    if (byte >= '0' && byte <= '9') is |= kDigit | kHex | kWord | kBase64;
    if (byte >= 'a' && byte <= 'z') is |= kLetter | kWord | kBase64;
    if (byte >= 'A' && byte <= 'Z') is |= kLetter | kWord | kUpper | kBase64;
    if ((byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F')) is |= kHex;
    if (byte == '_' || byte >= 0x80) is |= kWord;
    if (byte <= ' ' || byte == 0x7F) is |= kSpace;
    if (byte != 0 && std::string_view("+/-_=.~").find(static_cast<char>(byte)) != std::string_view::npos)
      is |= kBase64;
    all[byte] = static_cast<std::uint8_t>(is);
  }
  return all;
}
inline constexpr std::array<std::uint8_t, 256> kClasses = make_classes();

constexpr unsigned class_of(char c) {
  return kClasses[static_cast<unsigned char>(c)];
}
constexpr bool is(char c, unsigned classes) {
  return (class_of(c) & classes) != 0;
}
/// The byte there, or NUL behind the end.
constexpr char byte_at(std::string_view text, std::size_t at) {
  return at < text.size() ? text[at] : '\0';
}
constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

/// Whether `text`, without regard to case, is `lowercase`.
constexpr bool same_word(std::string_view text, std::string_view lowercase) {
  if (text.size() != lowercase.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (lower(text[i]) != lowercase[i]) return false;
  return true;
}

}  // namespace tunnelctl::patterns
