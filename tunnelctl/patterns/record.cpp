#include "tunnelctl/patterns/record.h"

#include <algorithm>
#include <optional>

#include "tunnelctl/patterns/characters.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::size_t kMaxMembers = 256;  // more are not looked at

/// The members that count, as they are written: strings still with their escapes.
struct Found {
  std::string_view message{}, error{};
  int rank = 0;  // of the key the message came from; 0: none yet
  Level level = Level::none;

  bool any() const { return !message.empty() || !error.empty(); }

  void member(std::string_view key, std::string_view value, bool text) {
    if (value.empty()) return;
    switch (key.size()) {
      case 3:
        if (same_word(key, "msg")) return take(4, value, text);
        if (same_word(key, "log")) return take(3, value, text);
        if (same_word(key, "lvl")) return level_is(level_named(value));
        if (same_word(key, "err") || same_word(key, "why")) return failure(value, text);
        return;
      case 5:
        if (same_word(key, "level")) return level_is(level_named(value));
        if (same_word(key, "error")) return failure(value, text);
        return;
      case 7:
        if (same_word(key, "message")) return take(5, value, text);
        if (same_word(key, "content")) return take(2, value, text);
        return;
      case 8:
        if (same_word(key, "severity")) return level_is(level_named(value));
        if (same_word(key, "priority")) return level_is(level_of_priority(value));
        if (same_word(key, "loglevel")) return level_is(level_named(value));
        return;
      case 9:
        if (same_word(key, "log.level")) level_is(level_named(value));
        return;
      default: return;
    }
  }

 private:
  void take(int from, std::string_view value, bool text) {
    if (!text || from <= rank) return;
    message = value;
    rank = from;
  }
  void failure(std::string_view value, bool text) {
    if (text && error.empty()) error = value;
  }
  void level_is(Level told) {
    if (level == Level::none) level = told;
  }
};

std::size_t skip_blanks(std::string_view text, std::size_t at) {
  while (at < text.size() && is(text[at], kSpace)) ++at;
  return at;
}

/// Where the quote that ends the string opened at `at` is.
std::size_t string_end(std::string_view text, std::size_t at) {
  for (++at;;) {
    at = text.find_first_of("\"\\", at);
    if (at == kNone || text[at] == '"') return at;
    at += 2;
  }
}

/// Behind the object or array that opens at `at`. Brackets are counted, not matched: what is inside is not
/// used.
std::size_t behind_nested(std::string_view text, std::size_t at) {
  std::size_t depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = string_end(text, at);
      if (at == kNone) return kNone;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (--depth == 0) return at + 1;
    }
    ++at;
  }
  return kNone;
}

/// Calls `member(key, value, is_text)` for each top-level member; false when it is no JSON object, or ends
/// early.
template <class Member>
bool read_object(std::string_view text, Member member) {
  std::size_t at = skip_blanks(text, 0);
  if (byte_at(text, at) != '{') return false;
  at = skip_blanks(text, at + 1);
  if (byte_at(text, at) == '}') return skip_blanks(text, at + 1) == text.size();
  for (std::size_t count = 0; count < kMaxMembers; ++count) {
    if (byte_at(text, at) != '"') return false;
    std::size_t end = string_end(text, at);
    if (end == kNone) return false;
    const auto key = text.substr(at + 1, end - at - 1);
    at = skip_blanks(text, end + 1);
    if (byte_at(text, at) != ':') return false;
    at = skip_blanks(text, at + 1);
    const char first = byte_at(text, at);
    if (first == '"') {
      end = string_end(text, at);
      if (end == kNone) return false;
      member(key, text.substr(at + 1, end - at - 1), true);
      at = end + 1;
    } else if (first == '{' || first == '[') {
      at = behind_nested(text, at);
      if (at == kNone) return false;
    } else {
      end = at;
      while (end < text.size() &&
             (is(text[end], kDigit | kLetter) || text[end] == '.' || text[end] == '-' || text[end] == '+'))
        ++end;
      if (end == at || end == text.size()) return false;
      member(key, text.substr(at, end - at), false);
      at = end;
    }
    at = skip_blanks(text, at);
    if (byte_at(text, at) == '}') return skip_blanks(text, at + 1) == text.size();
    if (byte_at(text, at) != ',') return false;
    at = skip_blanks(text, at + 1);
  }
  return true;
}

std::optional<unsigned> four_digits(std::string_view text, std::size_t at) {
  unsigned value = 0;
  if (at + 4 > text.size()) return std::nullopt;
  for (std::size_t i = at; i < at + 4; ++i) {
    const char c = lower(text[i]);
    if (!is(c, kHex)) return std::nullopt;
    value = value * 16 + static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return value;
}

void append_character(std::string& out, unsigned code) {
  const auto byte = [&out](unsigned value) { out += static_cast<char>(static_cast<unsigned char>(value)); };
  if (code >= 0xD800 && code < 0xE000) code = 0xFFFD;
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xC0U | code >> 6U);
    byte(0x80U | (code & 0x3FU));
  } else if (code < 0x10000) {
    byte(0xE0U | code >> 12U);
    byte(0x80U | (code >> 6U & 0x3FU));
    byte(0x80U | (code & 0x3FU));
  } else {
    byte(0xF0U | code >> 18U);
    byte(0x80U | (code >> 12U & 0x3FU));
    byte(0x80U | (code >> 6U & 0x3FU));
    byte(0x80U | (code & 0x3FU));
  }
}

/// Appends a string of JSON or logfmt without its escapes; unknown ones stay as they are.
void append_plain(std::string& out, std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto escape = std::min(text.find('\\', at), text.size());
    out.append(text.substr(at, escape - at));
    at = escape;
    if (at >= text.size()) return;
    const char kind = byte_at(text, ++at);
    switch (kind) {
      case '"':
      case '\\':
      case '/': out += kind; break;
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case 'r': out += '\r'; break;
      case 'b':
      case 'f': out += ' '; break;
      case 'u': {
        auto code = four_digits(text, at + 1);
        if (!code) {
          out += "\\u";
          break;
        }
        at += 4;
        if (*code >= 0xD800 && *code < 0xDC00 && text.substr(at + 1, 2) == "\\u") {
          if (const auto low = four_digits(text, at + 3); low && *low >= 0xDC00 && *low < 0xE000) {
            code = 0x10000 + ((*code - 0xD800) << 10U) + (*low - 0xDC00);
            at += 6;
          }
        }
        append_character(out, *code);
        break;
      }
      default:
        out += '\\';
        if (at < text.size()) out += kind;
    }
  }
}

bool is_key(char c) {
  return (is(c, kWord) && static_cast<unsigned char>(c) < 0x80) || c == '.' || c == '-' || c == '/';
}

/// Where the key that begins at `at` ends, if a `=` follows; else kNone.
std::size_t key_end(std::string_view text, std::size_t at) {
  if (!is(byte_at(text, at), kLetter) && byte_at(text, at) != '_') return kNone;
  while (at < text.size() && is_key(text[at])) ++at;
  return byte_at(text, at) == '=' ? at : kNone;
}

/// False when the line is no logfmt: its first word is no pair, or a quoted value does not end.
bool read_logfmt(std::string_view text, Found& found) {
  std::size_t at = skip_blanks(text, 0);
  if (key_end(text, at) == kNone) return false;
  while (at < text.size()) {
    const auto equals = key_end(text, at);
    if (equals == kNone) {  // a bare word
      while (at < text.size() && !is(text[at], kSpace)) ++at;
      at = skip_blanks(text, at);
      continue;
    }
    const auto key = text.substr(at, equals - at);
    at = equals + 1;
    std::size_t end = at;
    if (byte_at(text, at) == '"') {
      end = string_end(text, at);
      if (end == kNone) return false;
      found.member(key, text.substr(at + 1, end - at - 1), true);
      ++end;
    } else {
      while (end < text.size() && !is(text[end], kSpace)) ++end;
      found.member(key, text.substr(at, end - at), true);
    }
    at = skip_blanks(text, end);
  }
  return true;
}

/// "key=value key=value", values that hold blanks in quotes.
void append_pair(std::string& out, std::string_view key, std::string_view value, bool text) {
  if (!out.empty()) out += ' ';
  out.append(key);
  out += '=';
  const bool quotes = text && (value.empty() || value.find_first_of(" \\") != kNone);
  if (quotes) out += '"';
  out.append(value);
  if (quotes) out += '"';
}

std::string_view first_line(std::string_view text) {
  for (;;) {
    const auto end = text.find('\n');
    if (end == kNone) return text;
    const auto line = text.substr(0, end);
    if (skip_blanks(line, 0) < line.size()) return line;
    text.remove_prefix(end + 1);
  }
}

Record read_once(std::string_view line, bool cut, std::string& buffer) {
  const std::size_t begin = skip_blanks(line, 0);
  if (begin == line.size()) return {};
  Found found;
  if (line[begin] == '{') {
    const bool whole = read_object(line, [&found](std::string_view key, std::string_view value, bool text) {
      found.member(key, value, text);
    });
    if (!whole && !(cut && found.any())) return {.text = first_line(line)};
    if (!found.any()) {
      buffer.clear();
      const auto pair = [&buffer](std::string_view key, std::string_view value, bool text) {
        append_pair(buffer, key, value, text);
      };
      if (!read_object(line, pair) || buffer.empty()) return {.text = first_line(line), .level = found.level};
      return {.text = buffer, .level = found.level};
    }
  } else if (!read_logfmt(line, found) || !found.any()) {
    return {.text = first_line(line), .level = found.level};
  }
  if (found.error.empty() && found.message.find('\\') == kNone)
    return {.text = first_line(found.message), .level = found.level};
  buffer.clear();
  append_plain(buffer, found.message);
  buffer.resize(first_line(buffer).data() - buffer.data() + first_line(buffer).size());
  if (!found.error.empty()) {
    while (!buffer.empty() && (buffer.back() == '\r' || buffer.back() == ' ')) buffer.pop_back();
    if (!buffer.empty()) buffer += ": ";
    append_plain(buffer, found.error);
  }
  return {.text = first_line(buffer), .level = found.level};
}

}  // namespace

Record RecordReader::read(std::string_view line, bool cut) {
  const Record outer = read_once(line, cut, outer_);
  if (outer.text.data() == line.data() || outer.text.size() < 3) return outer;
  const std::size_t begin = skip_blanks(outer.text, 0);
  if (byte_at(outer.text, begin) != '{' && key_end(outer.text, begin) == kNone) return outer;
  Record inner = read_once(outer.text, cut, inner_);
  if (inner.level == Level::none) inner.level = outer.level;
  return inner;
}

}  // namespace tunnelctl::patterns
