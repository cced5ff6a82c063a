#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

/// How single configuration values are written and read. Pure; the errors are the half sentence
/// that follows "file:line: key: ".
namespace config {

template <class T>
using Parsed = tl::expected<T, std::string>;

/// Inclusive bounds. Written `{1, 100}` for integers and bytes, `{1s, 10min}` for durations
/// (kept as nanoseconds); the default allows all that the type holds.
struct Range {
  std::int64_t min = std::numeric_limits<std::int64_t>::min();
  std::int64_t max = std::numeric_limits<std::int64_t>::max();

  constexpr Range() = default;
  constexpr Range(std::int64_t low, std::int64_t high) : min(low), max(high) {}
  constexpr Range(std::chrono::nanoseconds low, std::chrono::nanoseconds high)
      : min(low.count()), max(high.count()) {}
};

/// Decimal digits with an optional minus; no sign "+", leading zero, exponent, fraction or space.
Parsed<std::int64_t> parse_integer(std::string_view text, Range range);
/// "500ms" "30s" "5m" "1h" "1d", or "0s"; a bare number is refused because its unit is a guess.
/// `unit` is the field's resolution: "500ms" is an error for a field of whole seconds.
Parsed<std::chrono::nanoseconds> parse_duration(std::string_view text, Range range,
                                                std::chrono::nanoseconds unit);
/// A number of bytes, or one with KiB, MiB, GiB. KB and MB are refused: they mean two things.
Parsed<std::int64_t> parse_bytes(std::string_view text, Range range);
/// `true` or `false`, nothing else.
Parsed<bool> parse_bool(std::string_view text);

/// The shortest exact way to write the value, readable by the parser above.
std::string write_duration(std::chrono::nanoseconds value);
std::string write_bytes(std::int64_t value);

/// The value in double quotes, safe to print: control bytes and broken UTF-8 as \xNN, long text cut.
std::string quote(std::string_view text);

/// The candidate fewest edits away (insert, delete, replace, swap of neighbours), or "" when none
/// is near enough to be a typo.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace config
