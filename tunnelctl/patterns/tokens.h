#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Masked lines as words, and templates of them.
namespace tunnelctl::patterns {

/// What a place of a template that differs from line to line shows.
inline constexpr std::string_view kWildcard = "<*>";
/// Stands for the words behind the last one that is looked at.
inline constexpr std::string_view kMore = "<...>";

/// 64 bits of a text; the same in every run, so that results are.
std::uint64_t hash_of(std::string_view text);

struct Token {
  std::uint64_t hash = 0;
  std::string_view text{};  // into the masked line
};

/// A masked line's words, at most `most`; kMore takes the place of further ones. Replaces `tokens`.
void split(std::string_view masked, std::size_t most, std::vector<Token>& tokens);

/// How many words at the beginning say when, where and how grave, not what: times, masks, levels, [brackets],
/// marks without letters, host and program of syslog. Lines are told apart by the words behind.
std::size_t header_length(const std::vector<Token>& tokens);
/// Whether the word is nothing but a mask, or has digits beside its masks: nothing to tell statements apart
/// by.
bool changes(std::string_view word);
/// Whether it ends in a three-digit code, which a mask would have replaced if it were no status.
bool is_code(std::string_view word);
/// That word of them that is a level, npos: none.
std::size_t level_in_header(const std::vector<Token>& tokens, std::size_t header);

/// One word of a template: with a wildcard in it, "user=<*>", or without.
struct Slot {
  std::uint64_t hash = 0;
  std::string text{};
  bool open = false;  // has a wildcard

  /// Whether the word is one this slot stands for.
  bool covers(std::string_view word) const;
  /// Makes it cover the word: what is the same in both up to a mark (= / : " ...) stays, from both ends.
  void widen(std::string_view word);
};

}  // namespace tunnelctl::patterns
