#include "tunnelctl/patterns/secret_shapes.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "tunnelctl/patterns/characters.h"
#include "tunnelctl/patterns/secret_values.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;

/// How a token goes on behind its prefix.
enum class Rest { word, word_or_dash, capitals, dotted };
struct Prefix {
  std::string_view begins;
  std::size_t least;  // characters behind it
  Rest rest;
};
constexpr std::array<Prefix, 54> kPrefixes = {{
    {"glsa_", 16, Rest::word},
    {"glc_", 16, Rest::dotted},
    {"ghp_", 16, Rest::word},
    {"gho_", 16, Rest::word},
    {"ghu_", 16, Rest::word},
    {"ghs_", 16, Rest::word},
    {"ghr_", 16, Rest::word},
    {"github_pat_", 16, Rest::word},
    {"glpat-", 16, Rest::word_or_dash},
    {"gldt-", 16, Rest::word_or_dash},
    {"glrt-", 16, Rest::word_or_dash},
    {"glptt-", 16, Rest::word_or_dash},
    {"glcbt-", 16, Rest::word_or_dash},
    {"glsoat-", 16, Rest::word_or_dash},
    {"gloas-", 16, Rest::word_or_dash},
    {"glft-", 16, Rest::word_or_dash},
    {"glimt-", 16, Rest::word_or_dash},
    {"glagent-", 16, Rest::word_or_dash},
    {"xoxb-", 8, Rest::word_or_dash},
    {"xoxa-", 8, Rest::word_or_dash},
    {"xoxp-", 8, Rest::word_or_dash},
    {"xoxo-", 8, Rest::word_or_dash},
    {"xoxr-", 8, Rest::word_or_dash},
    {"xoxs-", 8, Rest::word_or_dash},
    {"xoxe.", 8, Rest::dotted},
    {"xoxe-", 8, Rest::word_or_dash},
    {"xoxc-", 8, Rest::word_or_dash},
    {"xoxd-", 8, Rest::dotted},
    {"xwfp-", 8, Rest::word_or_dash},
    {"xapp-", 8, Rest::word_or_dash},
    {"AKIA", 16, Rest::capitals},
    {"ASIA", 16, Rest::capitals},
    {"AIza", 30, Rest::word_or_dash},
    {"ya29.", 16, Rest::dotted},
    {"sk_live_", 10, Rest::word},
    {"sk_test_", 10, Rest::word},
    {"rk_live_", 10, Rest::word},
    {"rk_test_", 10, Rest::word},
    {"whsec_", 16, Rest::word},
    {"sk-", 20, Rest::word_or_dash},
    {"SG.", 30, Rest::dotted},
    {"npm_", 20, Rest::word},
    {"pypi-", 30, Rest::word_or_dash},
    {"hvs.", 16, Rest::dotted},
    {"hvb.", 16, Rest::dotted},
    {"dop_v1_", 20, Rest::word},
    {"dckr_pat_", 16, Rest::word_or_dash},
    {"hf_", 24, Rest::word},
    {"shpat_", 16, Rest::word},
    {"lin_api_", 16, Rest::word},
    {"PMAK-", 20, Rest::word_or_dash},
    {"AGE-SECRET-KEY-", 20, Rest::capitals},
    {"u+", 18, Rest::word_or_dash},        // PagerDuty
    {"LS0tLS1CRUdJTi", 16, Rest::dotted},  // "-----BEGIN " in base64
}};

bool ascii_word(char c) {
  return is(c, kLetter | kDigit) || c == '_';
}

bool goes_on(char c, Rest rest) {
  switch (rest) {
    case Rest::word: return ascii_word(c);
    case Rest::word_or_dash: return ascii_word(c) || c == '-';
    case Rest::capitals: return is(c, kUpper | kDigit);
    case Rest::dotted: break;
  }
  return is(c, kBase64);
}

/// The base64url part of a JWT.
std::size_t part_end(std::string_view text, std::size_t at) {
  while (at < text.size() && (ascii_word(text[at]) || text[at] == '-')) ++at;
  return at;
}

/// At least two parts, a header that begins as {" does, and all parts that follow (an encrypted one has
/// five).
std::size_t jwt_at(std::string_view text, std::size_t at, std::size_t& hopeless) {
  if (at < hopeless || text.substr(at, 3) != "eyJ") return 0;
  std::size_t end = part_end(text, at);
  if (byte_at(text, end) != '.') {
    hopeless = end;
    return 0;
  }
  if (end - at < 8) return 0;
  std::size_t parts = 0;
  while (parts < 4 && byte_at(text, end) == '.') {
    const std::size_t next = part_end(text, end + 1);
    if (next == end + 1 && parts == 0) return 0;
    end = next;
    ++parts;
  }
  return end - at;
}

/// "123456789:AAF..." of a Telegram bot.
std::size_t telegram_at(std::string_view text, std::size_t at) {
  std::size_t colon = at;
  while (colon < at + 11 && is(byte_at(text, colon), kDigit)) ++colon;
  if (colon < at + 8 || text.substr(colon, 3) != ":AA") return 0;
  const std::size_t end = part_end(text, colon + 1);
  return end - colon >= 33 ? end - at : 0;
}

bool prose(std::string_view word) {
  return std::all_of(word.begin() + 1, word.end(), [](char c) { return is(c, kLetter) && !is(c, kUpper); }) &&
         is(word.front(), kLetter);
}

/// token68 of RFC 9110: = only at the end.
std::size_t credential_end(std::string_view text, std::size_t at) {
  while (at < text.size() && is(text[at], kBase64) && text[at] != '=') ++at;
  std::size_t end = at;
  while (end < text.size() && text[end] == '=') ++end;
  // "[": a value that was redacted, so that this is a name and not a credential.
  return end != at && (is(byte_at(text, end), kWord) || byte_at(text, end) == '[') ? at : end;
}

std::optional<unsigned> sextet(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<unsigned>(c - 'A');
  if (c >= 'a' && c <= 'z') return static_cast<unsigned>(c - 'a') + 26;
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0') + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return std::nullopt;
}

/// More than any key is.
constexpr std::size_t kMostOfKey = 16 * 1024;

bool of_key(char c) {
  return is(c, kLetter | kDigit) || c == '+' || c == '/' || c == '=';
}

/// Behind "-----BEGIN RSA PRIVATE KEY-----" or "-----END ...", 0: there is none.
std::size_t key_border_at(std::string_view text, std::size_t at, std::string_view begins) {
  if (text.substr(at, begins.size()) != begins) return 0;
  const std::string_view title = text.substr(at + begins.size(), 48);
  const auto dashes = title.find("-----");
  if (dashes == kNone || title.substr(0, dashes).find("PRIVATE KEY") == kNone) return 0;
  return at + begins.size() + dashes + 5;
}

/// Behind blanks and ends of lines, written as \n too.
std::size_t behind_space(std::string_view text, std::size_t at) {
  for (;;) {
    std::size_t here = at;
    while (byte_at(text, here) == '\\') ++here;
    if (here != at && (byte_at(text, here) == 'n' || byte_at(text, here) == 'r'))
      at = here + 1;
    else if (at < text.size() && is(text[at], kSpace))
      ++at;
    else
      return at;
  }
}

/// A key whose end is not there goes as far as what follows can be of one.
std::size_t key_body_end(std::string_view text, std::size_t at) {
  for (;;) {
    const std::size_t begin = behind_space(text, at);
    std::size_t end = begin;
    const auto header = text.substr(begin, 9);
    if (header == "Proc-Type" || header == "DEK-Info:") {
      at = std::min(text.find_first_of("\n\\", begin), text.size());
      continue;
    }
    while (end < text.size() && of_key(text[end])) ++end;
    const auto word = text.substr(begin, end - begin);
    if (word.empty()) return at;
    const char behind = byte_at(text, end);
    const bool over =
        behind == '\0' || is(behind, kSpace) || behind == '\\' || behind == '"' || behind == '\'';
    if (word.size() < 16 && (!over || prose(word))) return at;
    at = end;
    if (!over) return at;
  }
}

}  // namespace

std::size_t token_at(std::string_view text, std::size_t at, std::size_t& hopeless) {
  const char first = byte_at(text, at);
  if (first == 'e') return jwt_at(text, at, hopeless);
  if (is(first, kDigit)) return telegram_at(text, at);
  for (const auto& prefix : kPrefixes) {
    if (prefix.begins.front() != first || text.substr(at, prefix.begins.size()) != prefix.begins) continue;
    if (prefix.begins == "sk-" && at < hopeless) return 0;
    // A certificate and a public key, in base64.
    const auto what = text.substr(at + prefix.begins.size(), 8);
    if (prefix.begins.front() == 'L' && (what == "BDRVJUSU" || what == "BQVUJMSU")) return 0;
    std::size_t end = at + prefix.begins.size();
    while (end < text.size() && goes_on(text[end], prefix.rest)) ++end;
    if (end - at - prefix.begins.size() < prefix.least) return 0;
    if (prefix.rest == Rest::capitals && is(byte_at(text, end), kWord)) return 0;
    // "sk-learn-something-or-other": nobody's key is without a digit.
    const auto key = text.substr(at, end - at);
    if ((prefix.begins == "sk-" || prefix.begins == "u+") &&
        std::none_of(key.begin(), key.end(), [](char c) { return is(c, kDigit); })) {
      if (prefix.begins == "sk-") hopeless = end;
      return 0;
    }
    return end - at;
  }
  return 0;
}

std::size_t private_key_at(std::string_view text, std::size_t at) {
  const std::size_t body = key_border_at(text, at, "-----BEGIN ");
  if (body == 0) return 0;
  const auto near = text.substr(0, std::min(text.size(), body + kMostOfKey));
  // The next border tells whether the end is there.
  const auto next = near.find("-----", body);
  if (next != kNone)
    if (const std::size_t end = key_border_at(text, next, "-----END "); end != 0) return end - at;
  return key_body_end(near, body) - at;
}

std::size_t bearer_at(std::string_view text, std::size_t at) {
  const std::size_t end = credential_end(text, at);
  if (end - at < 8 || byte_at(text, end) == '=' || mark_at(text, end) != 0) return 0;
  std::string_view word = text.substr(at, end - at);
  while (!word.empty() && (word.back() == '.' || word.back() == '-' || word.back() == '='))
    word.remove_suffix(1);
  return word.size() < 8 || (word.size() < 24 && prose(word)) ? 0 : end - at;
}

std::size_t basic_at(std::string_view text, std::size_t at) {
  std::size_t end = at;
  std::uint32_t bits = 0;
  unsigned count = 0;
  bool colon = false, printable = true;
  for (; end < text.size(); ++end) {
    const auto six = sextet(text[end]);
    if (!six) break;
    bits = bits << 6U | *six;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    const unsigned byte = bits >> count & 0xFFU;
    colon = colon || byte == ':';
    printable = printable && byte >= 0x20;
  }
  const std::size_t length = end - at;
  while (end < text.size() && end < at + length + 2 && text[end] == '=') ++end;
  return length >= 4 && colon && printable && mark_at(text, end) == 0 ? end - at : 0;
}

std::size_t key_line_at(std::string_view text, std::size_t at, std::size_t least) {
  std::size_t end = at;
  bool digit = false, small = false, capital = false;
  for (; end < text.size(); ++end) {
    const char c = text[end];
    if (!of_key(c)) break;
    digit = digit || is(c, kDigit);
    capital = capital || is(c, kUpper);
    small = small || (is(c, kLetter) && !is(c, kUpper));
  }
  const std::size_t length = end - at;
  if (length < least) return 0;
  std::size_t behind = end;
  if (byte_at(text, behind) == '"' || byte_at(text, behind) == '\'') ++behind;
  const char next = byte_at(text, behind), letter = byte_at(text, behind + 1);
  const bool over = behind >= text.size() || next == '\n' || next == '\r' ||
                    (behind == end && next == '\\' && (letter == 'n' || letter == 'r'));
  if (!over) return 0;
  if (length >= 60) return digit && small && capital ? length : 0;
  return length % 4 == 0 && (digit || capital || text[end - 1] == '=') ? length : 0;
}

}  // namespace tunnelctl::patterns
