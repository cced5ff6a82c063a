#include <array>
#include <cstdint>
#include <cstdio>

#include "tunnelctl/promql/text.h"

namespace tunnelctl::promql {

std::size_t character_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
  };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  if (at >= text.size()) return 0;
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!follows(1) || !follows(2)) return 0;
    if (first == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
    if (first == 0xED && byte(1) > 0x9F) return 0;  // a surrogate
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!follows(1) || !follows(2) || !follows(3)) return 0;
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto length = character_length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

namespace {

std::string printf_text(const char* format, unsigned value) {
  std::array<char, 32> buffer;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  std::snprintf(buffer.data(), buffer.size(), format, value);
#pragma GCC diagnostic pop
  return buffer.data();
}

/// One character or broken byte, escaped for text between `quote_mark`s.
std::string escaped(std::string_view text, std::size_t at, std::size_t length, char quote_mark) {
  const char c = text[at];
  if (length == 0) return printf_text("\\x%02x", static_cast<unsigned char>(c));
  if (length > 1) return std::string(text.substr(at, length));
  if (c == quote_mark || c == '\\') return std::string("\\") + c;
  switch (c) {
    case '\a': return "\\a";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    case '\v': return "\\v";
    default: break;
  }
  const auto byte = static_cast<unsigned char>(c);
  if (byte < 0x20 || byte == 0x7F) return printf_text("\\x%02x", byte);
  return {c};
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0U | (code >> 6U));
    put(0x80U | (code & 0x3FU));
  } else if (code < 0x10000) {
    put(0xE0U | (code >> 12U));
    put(0x80U | ((code >> 6U) & 0x3FU));
    put(0x80U | (code & 0x3FU));
  } else {
    put(0xF0U | (code >> 18U));
    put(0x80U | ((code >> 12U) & 0x3FU));
    put(0x80U | ((code >> 6U) & 0x3FU));
    put(0x80U | (code & 0x3FU));
  }
}

unsigned digit_value(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return 16;
}

struct Escape {
  std::size_t digits;  // 0 for a single letter
  unsigned base;
  std::size_t prefix;  // characters before the digits, after the backslash
};

Escape numeric_escape(char c) {
  if (c >= '0' && c <= '7') return {3, 8, 0};
  if (c == 'x') return {2, 16, 1};
  if (c == 'u') return {4, 16, 1};
  if (c == 'U') return {8, 16, 1};
  return {0, 0, 1};
}

constexpr std::string_view kLetters = "abfnrtv\\";
constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\";

}  // namespace

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const auto length = character_length(text, at);
    out += escaped(text, at, length, '"');
    at += length == 0 ? 1 : length;
  }
  return out + "\"";
}

std::string quote_character(std::string_view text, std::size_t at, bool with_code) {
  const auto length = character_length(text, at);
  if (length == 0) return with_code ? "U+FFFD '\xEF\xBF\xBD'" : "'\xEF\xBF\xBD'";
  std::string out;
  if (with_code) {
    unsigned code = static_cast<unsigned char>(text[at]);
    if (length > 1) code &= 0xFFU >> (length + 1);
    for (std::size_t i = 1; i < length; ++i)
      code = (code << 6U) | (static_cast<unsigned char>(text[at + i]) & 0x3FU);
    out = printf_text("U+%04X ", code);
  }
  // Go's %#U shows the character itself, its %q escapes it.
  return out + "'" + (with_code ? std::string(text.substr(at, length)) : escaped(text, at, length, '\'')) +
         "'";
}

Result<std::size_t> scan_string(std::string_view text, std::size_t at) {
  const char mark = text[at++];
  const auto no = [](std::string message) { return fail(Error::Kind::bad_input, std::move(message)); };
  while (at < text.size()) {
    const char c = text[at];
    if (c == mark) return at + 1;
    const auto length = character_length(text, at);
    if (length == 0) return no("invalid UTF-8 rune");
    if (mark != '`' && c == '\n') break;
    at += length;
    if (mark == '`' || c != '\\') continue;

    if (at == text.size()) return no("escape sequence not terminated");
    const char letter = text[at];
    const auto escape = numeric_escape(letter);
    if (escape.digits == 0) {
      if (kLetters.find(letter) == std::string_view::npos && letter != mark) {
        return no("unknown escape sequence " + quote_character(text, at, true));
      }
      ++at;
      continue;
    }
    at += escape.prefix;
    std::uint32_t code = 0;
    for (std::size_t i = 0; i < escape.digits; ++i, ++at) {
      if (at == text.size()) return no("escape sequence not terminated");
      const auto digit = digit_value(text[at]);
      if (digit >= escape.base) {
        return no("illegal character " + quote_character(text, at, true) + " in escape sequence");
      }
      code = code * escape.base + digit;
    }
    const std::uint32_t most = escape.digits <= 3 ? 255 : 0x10FFFF;
    if (code > most || (code >= 0xD800 && code < 0xE000)) {
      return no("escape sequence is an invalid Unicode code point");
    }
  }
  return no(mark == '`' ? "unterminated raw string" : "unterminated quoted string");
}

std::string unquote(std::string_view literal) {
  const char mark = literal.front();
  const auto text = literal.substr(1, literal.size() - 2);
  if (mark == '`') return std::string(text);
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '\\') {
      out += text[at++];
      continue;
    }
    const char letter = text[++at];
    const auto escape = numeric_escape(letter);
    at += escape.prefix;
    if (escape.digits == 0) {
      const auto known = kLetters.find(letter);
      out += known == std::string_view::npos ? letter : kMeanings[known];
      continue;
    }
    std::uint32_t code = 0;
    for (std::size_t i = 0; i < escape.digits; ++i) code = code * escape.base + digit_value(text[at++]);
    // \x and octal are bytes, \u and \U characters.
    if (escape.digits <= 3) {
      out += static_cast<char>(static_cast<unsigned char>(code));
    } else {
      append_utf8(out, code);
    }
  }
  return out;
}

}  // namespace tunnelctl::promql
