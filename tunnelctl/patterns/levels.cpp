#include "tunnelctl/patterns/levels.h"

#include <array>
#include <cstddef>

#include "tunnelctl/patterns/characters.h"

namespace tunnelctl::patterns {

namespace {

struct Name {
  std::string_view word;
  Level level;
};
constexpr std::array<Name, 35> kNames = {{
    {"error", Level::error},  {"err", Level::error},        {"eror", Level::error},
    {"fatal", Level::error},  {"ftl", Level::error},        {"critical", Level::error},
    {"crit", Level::error},   {"panic", Level::error},      {"dpanic", Level::error},
    {"alert", Level::error},  {"emerg", Level::error},      {"emergency", Level::error},
    {"severe", Level::error}, {"failure", Level::error},    {"warn", Level::warn},
    {"warning", Level::warn}, {"wrn", Level::warn},         {"info", Level::info},
    {"inf", Level::info},     {"information", Level::info}, {"notice", Level::info},
    {"log", Level::info},     {"debug", Level::debug},      {"dbug", Level::debug},
    {"dbg", Level::debug},    {"fine", Level::debug},       {"verbose", Level::debug},
    {"trace", Level::trace},  {"trce", Level::trace},       {"finer", Level::trace},
    {"finest", Level::trace}, {"30", Level::info},          {"40", Level::warn},
    {"50", Level::error},     {"60", Level::error},
}};

/// Only these are levels when they stand in the middle of prose: "alert:" and "log:" are about other things.
constexpr bool says_so_in_prose(std::string_view word) {
  return !same_word(word, "alert") && !same_word(word, "log") && !same_word(word, "failure") &&
         !same_word(word, "fine") && !same_word(word, "verbose") && !same_word(word, "inf") &&
         !same_word(word, "notice");
}

bool in_capitals(std::string_view word) {
  for (const char c : word)
    if (!is(c, kUpper)) return false;
  return true;
}

}  // namespace

std::string_view to_string(Level level) {
  constexpr std::array<std::string_view, 6> kWords = {"", "trace", "debug", "info", "warn", "error"};
  return kWords[static_cast<std::size_t>(level)];
}

Level level_named(std::string_view word) {
  if (word.size() < 2 || word.size() > 11) return Level::none;
  for (const auto& name : kNames)
    if (same_word(word, name.word)) return name.level;
  if (word == "10") return Level::trace;
  if (word == "20") return Level::debug;
  return Level::none;
}

Level level_of_priority(std::string_view word) {
  if (word.size() != 1) return level_named(word);
  if (word[0] < '0' || word[0] > '7') return Level::none;
  constexpr std::array<Level, 8> kSyslog = {Level::error, Level::error, Level::error, Level::error,
                                            Level::warn,  Level::info,  Level::info,  Level::debug};
  return kSyslog[static_cast<std::size_t>(word[0] - '0')];
}

Level level_in_text(std::string_view masked) {
  constexpr std::size_t kFirstWords = 16, kFirstBytes = 256;
  if (masked.size() > 6 && masked.substr(1, 6) == "<time>") {
    switch (masked[0]) {
      case 'I': return Level::info;
      case 'W': return Level::warn;
      case 'E':
      case 'F': return Level::error;
      default: break;
    }
  }
  masked = masked.substr(0, kFirstBytes);
  std::size_t words = 0;
  for (std::size_t at = 0; at < masked.size() && words < kFirstWords;) {
    if (!is(masked[at], kLetter)) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < masked.size() && is(masked[end], kWord)) ++end;
    const auto word = masked.substr(at, end - at);
    const char before = at == 0 ? ' ' : masked[at - 1], behind = byte_at(masked, end);
    ++words;
    at = end;
    if (word.size() < 3 || before == '-' || before == '.' || before == '/' || behind == '-' ||
        behind == '/' || behind == '.')
      continue;
    const bool bracketed = (before == '[' && behind == ']') || (before == '<' && behind == '>') ||
                           (before == '(' && behind == ')') || (before == '|' && behind == '|');
    // "level=warn", also where the line as a whole is no logfmt.
    const bool assigned =
        before == '=' && at >= word.size() + 6 && same_word(masked.substr(at - word.size() - 6, 5), "level");
    const bool told = bracketed || assigned ||
                      (says_so_in_prose(word) && (behind == ':' || (in_capitals(word) && behind != '=')));
    if (!told) continue;
    if (const Level level = level_named(word); level != Level::none) return level;
  }
  return Level::none;
}

}  // namespace tunnelctl::patterns
