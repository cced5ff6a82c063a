#include "tunnelctl/patterns/tokens.h"

#include <algorithm>
#include <cstring>

#include "tunnelctl/patterns/characters.h"
#include "tunnelctl/patterns/levels.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::size_t kLongestHeader = 8;

std::uint64_t mixed(std::uint64_t value) {
  value ^= value >> 32U;
  value *= 0xD6E8FEB86659FD93U;
  return value ^ (value >> 29U);
}

bool is_mask(std::string_view word) {
  return word.size() > 2 && word.front() == '<' && word.back() == '>';
}

/// "[main]", "(12)", "<6>", and masks.
bool bracketed(std::string_view word) {
  if (word.size() < 2) return false;
  const char last = word.back() == ':' ? word[word.size() - 2] : word.back();
  return (word.front() == '[' && last == ']') || (word.front() == '(' && last == ')') ||
         (word.front() == '<' && last == '>');
}

bool without_letters(std::string_view word) {
  bool mask = false;
  for (const char c : word) {
    if (c == '<') mask = true;
    if (!mask && is(c, kWord)) return false;
    if (c == '>') mask = false;
  }
  return true;
}

std::string_view bare(std::string_view word) {
  while (!word.empty() && !is(word.front(), kWord)) word.remove_prefix(1);
  while (!word.empty() && !is(word.back(), kWord)) word.remove_suffix(1);
  return word;
}

bool is_level(std::string_view word) {
  return level_named(bare(word)) != Level::none;
}

bool says_nothing(std::string_view word) {
  return bracketed(word) || without_letters(word) || is_level(word);
}

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t state = 0x9E3779B97F4A7C15U ^ text.size();
  const char* data = text.data();
  std::size_t left = text.size();
  for (; left >= 8; left -= 8, data += 8) {
    std::uint64_t piece;
    std::memcpy(&piece, data, 8);
    state = (state ^ piece) * 0x9FB21C651E98DF25U;
    state ^= state >> 35U;
  }
  std::uint64_t piece = 0;
  if (left > 0) std::memcpy(&piece, data, left);
  return mixed(state ^ piece * 0xC2B2AE3D27D4EB4FU);
}

void split(std::string_view masked, std::size_t most, std::vector<Token>& tokens) {
  tokens.clear();
  for (std::size_t at = 0; at < masked.size();) {
    const auto end = std::min(masked.find(' ', at), masked.size());
    if (tokens.size() == most) {
      tokens.back() = {.hash = hash_of(kMore), .text = kMore};
      return;
    }
    const auto word = masked.substr(at, end - at);
    tokens.push_back({.hash = hash_of(word), .text = word});
    at = end + 1;
  }
}

std::size_t header_length(const std::vector<Token>& tokens) {
  const std::size_t most = std::min(tokens.size(), kLongestHeader);
  std::size_t length = 0;
  const bool timed = most > 0 && tokens[0].text.find("<time>") != kNone;
  while (length < most && says_nothing(tokens[length].text)) ++length;
  if (timed) {
    // Host and program of syslog, class of log4j, file of klog: what comes before "name:", "file.go:12]" or a
    // dash within three more words.
    for (std::size_t ahead = length; ahead < std::min(most, length + 3); ++ahead) {
      const auto word = tokens[ahead].text;
      const bool ends = word.back() == ':' || (word.back() == ']' && word.find('[') == kNone) ||
                        (ahead > length && without_letters(word) && !is_mask(word));
      if (ends) {
        length = ahead + 1;
        break;
      }
    }
    while (length < most && (tokens[length].text.back() == ':' || without_letters(tokens[length].text)))
      ++length;
  }
  return length;
}

bool changes(std::string_view word) {
  if (is_mask(word) && word.find('>') == word.size() - 1) return true;
  // "consumer-shop-<uuid>" names one of many things; "/orders/<uuid>" is one route for all.
  if (word.find('/') == kNone)
    for (const std::string_view mask : {"<uuid>", "<hex>", "<id>", "<ip>"})
      if (word.find(mask) != kNone) return true;
  bool mask = false;
  for (const char c : word) {
    if (c == '<') mask = true;
    if (!mask && is(c, kDigit)) return true;
    if (c == '>') mask = false;
  }
  return false;
}

bool is_code(std::string_view word) {
  while (!word.empty() && (word.back() == ',' || word.back() == '"')) word.remove_suffix(1);
  if (word.size() < 3) return false;
  for (std::size_t i = word.size() - 3; i < word.size(); ++i)
    if (!is(word[i], kDigit)) return false;
  const char before = word.size() == 3 ? '=' : word[word.size() - 4];
  return before == '=' || before == ':' || before == '"';
}

std::size_t level_in_header(const std::vector<Token>& tokens, std::size_t header) {
  for (std::size_t i = 0; i < header; ++i)
    if (is_level(tokens[i].text)) return i;
  return kNone;
}

bool Slot::covers(std::string_view word) const {
  if (!open) return word == text;
  const auto hole = text.find(kWildcard);
  const auto before = std::string_view(text).substr(0, hole);
  const auto behind = std::string_view(text).substr(hole + kWildcard.size());
  return word.size() >= before.size() + behind.size() && word.substr(0, before.size()) == before &&
         word.substr(word.size() - behind.size()) == behind;
}

void Slot::widen(std::string_view word) {
  constexpr std::string_view kMarks = "=:/([{\"'`,;)]}@#|\\";
  const std::string_view mine = text;
  const auto hole = open ? mine.find(kWildcard) : mine.size();
  const auto left = mine.substr(0, hole);
  const auto right = open ? mine.substr(hole + kWildcard.size()) : mine;
  std::size_t begin = 0, kept_left = 0;
  while (begin < left.size() && begin < word.size() && left[begin] == word[begin]) {
    ++begin;
    if (kMarks.find(left[begin - 1]) != kNone) kept_left = begin;
  }
  const std::size_t room = std::min(open ? right.size() : mine.size() - kept_left, word.size() - kept_left);
  std::size_t end = 0, kept_right = 0;
  while (end < room && right[right.size() - 1 - end] == word[word.size() - 1 - end]) {
    ++end;
    if (kMarks.find(word[word.size() - end]) != kNone) kept_right = end;
  }
  std::string wider(left.substr(0, kept_left));
  wider += kWildcard;
  wider += right.substr(right.size() - kept_right);
  text = std::move(wider);
  open = true;
  hash = hash_of(text);
}

}  // namespace tunnelctl::patterns
