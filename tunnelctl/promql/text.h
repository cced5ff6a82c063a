#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

/// The small pieces of text that PromQL and LogQL share: quoted strings, numbers, durations, positions.
namespace tunnelctl::promql {

/// A piece of the query: bytes [begin, end).
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// "line:column" of a byte offset, both from 1, columns in bytes, as promtool counts them.
std::string position(std::string_view text, std::size_t offset);

/// A bad_input error whose message reads "2:14: parse error: …", as Prometheus words it.
Error parse_error(std::string_view text, std::size_t offset, std::string_view what);

/// `text` in double quotes, with Go's escapes; what Prometheus prints for strings and in messages.
std::string quote(std::string_view text);

/// As quote(), for the part of a message that names one character: `'%'`, `U+0041 'A'` if `with_code`.
std::string quote_character(std::string_view text, std::size_t at, bool with_code = false);

/// The value of a literal with its quotes (", ' or `); escapes as in Go. `literal` must have been scanned by
/// scan_string, so every escape is sound.
std::string unquote(std::string_view literal);

/// Scans a quoted literal that begins at `at`; gives its end, or why it is none (the message without
/// position).
Result<std::size_t> scan_string(std::string_view text, std::size_t at);

/// A number as Go's strconv reads it: decimal, 0x, a leading 0 for octal, underscores between digits, Inf,
/// NaN. nullopt if it is none, or too large for a double.
std::optional<double> parse_number(std::string_view text);

/// `1h30m`, units y w d h m s ms in that order, each at most once. Fails with Prometheus' words.
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);

/// The shortest spelling with those units; a part below a millisecond makes it plain seconds ("0.0005").
std::string print_duration(std::chrono::nanoseconds duration);

/// Shortest decimal text without exponent, as Prometheus prints numbers; "+Inf", "-Inf", "NaN".
std::string print_number(double value);

bool is_label_name(std::string_view text);   // [a-zA-Z_][a-zA-Z0-9_]*
bool is_metric_name(std::string_view text);  // the same with colons
bool is_utf8(std::string_view text);

/// Length of the UTF-8 character at `at`; 0 if the bytes there are not one.
std::size_t character_length(std::string_view text, std::size_t at);

inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
inline bool is_alpha(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
inline bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
std::string lower(std::string_view text);

}  // namespace tunnelctl::promql
