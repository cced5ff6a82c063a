#include "common/config_values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "common/utf8.h"

namespace config {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t size;
};
constexpr std::array kDurations{Unit{"d", 86'400'000'000'000}, Unit{"h", 3'600'000'000'000},
                                Unit{"m", 60'000'000'000}, Unit{"s", 1'000'000'000}, Unit{"ms", 1'000'000}};
constexpr std::array kSizes{Unit{"GiB", 1 << 30}, Unit{"MiB", 1 << 20}, Unit{"KiB", 1 << 10}};
constexpr std::string_view kDurationExamples = "write a whole number with ms, s, m, h or d, such as 30s";

/// What is allowed, as "; allowed: ..." or nothing when the range says nothing.
template <class Write>
std::string allowed(Range range, Write write) {
  const bool low = range.min != Range{}.min;
  const bool high = range.max != Range{}.max;
  if (low && high) return "; allowed: " + write(range.min) + " to " + write(range.max);
  if (low) return "; allowed: " + write(range.min) + " or more";
  if (high) return "; allowed: " + write(range.max) + " or less";
  return "";
}

template <class Write>
Parsed<std::int64_t> in_range(std::int64_t value, std::string_view text, Range range, Write write) {
  if (value < range.min || value > range.max) {
    return tl::unexpected(quote(text) + " is out of range" + allowed(range, write));
  }
  return value;
}

enum class Digits { none, leading_zero, overflow, good };

/// Reads the digits at the start of `text` and moves past them.
std::pair<Digits, std::int64_t> take_digits(std::string_view& text) {
  std::int64_t value = 0;
  if (text.empty() || text[0] < '0' || text[0] > '9') return {Digits::none, 0};
  const bool zero = text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9';
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (error == std::errc::result_out_of_range) return {Digits::overflow, 0};
  return {zero ? Digits::leading_zero : Digits::good, value};
}

template <std::size_t N>
std::string write_in(std::int64_t value, const std::array<Unit, N>& units, std::string_view rest) {
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.size == 0) {
      return std::to_string(value / unit.size).append(unit.name);
    }
  }
  return std::to_string(value).append(rest);
}

std::string write_nanoseconds(std::int64_t value) {
  return write_duration(std::chrono::nanoseconds(value));
}

}  // namespace

Parsed<std::int64_t> parse_integer(std::string_view text, Range range) {
  auto write = [](std::int64_t value) { return std::to_string(value); };
  if (text.empty()) return tl::unexpected("is empty; expected a whole number" + allowed(range, write));
  std::string_view rest = text;
  const bool negative = rest[0] == '-';
  if (negative) rest.remove_prefix(1);
  const auto [digits, value] = take_digits(rest);
  if (digits == Digits::overflow && rest.empty()) {
    return tl::unexpected(quote(text) + " is out of range" + allowed(range, write));
  }
  if (digits == Digits::leading_zero && rest.empty()) {
    return tl::unexpected(quote(text) + " has a leading zero" + allowed(range, write));
  }
  if (digits != Digits::good || !rest.empty()) {
    return tl::unexpected(quote(text) + " is not a whole number" + allowed(range, write));
  }
  return in_range(negative ? -value : value, text, range, write);
}

Parsed<std::chrono::nanoseconds> parse_duration(std::string_view text, Range range,
                                                std::chrono::nanoseconds unit) {
  const auto limits = [&] { return allowed(range, write_nanoseconds); };
  if (text.empty()) return tl::unexpected("is empty; " + std::string(kDurationExamples) + limits());
  std::string_view rest = text;
  const auto [digits, count] = take_digits(rest);
  if ((digits == Digits::good || digits == Digits::leading_zero) && rest.empty()) {
    return tl::unexpected(quote(text) + " has no unit; " + std::string(kDurationExamples) + limits());
  }
  const auto* found = std::find_if(kDurations.begin(), kDurations.end(),
                                   [&](const Unit& candidate) { return candidate.name == rest; });
  if (digits == Digits::none || digits == Digits::leading_zero || found == kDurations.end()) {
    return tl::unexpected(quote(text) + " is not a duration; " + std::string(kDurationExamples) + limits());
  }
  std::int64_t value = 0;
  if (digits == Digits::overflow || __builtin_mul_overflow(count, found->size, &value)) {
    return tl::unexpected(quote(text) + " is out of range" + limits());
  }
  if (unit.count() > 1 && value % unit.count() != 0) {
    return tl::unexpected(quote(text) + " is finer than this setting; use whole steps of " +
                          write_duration(unit) + limits());
  }
  auto checked = in_range(value, text, range, write_nanoseconds);
  if (!checked) return tl::unexpected(checked.error());
  return std::chrono::nanoseconds(*checked);
}

Parsed<std::int64_t> parse_bytes(std::string_view text, Range range) {
  constexpr std::string_view kHint = "write a number of bytes, or one with KiB, MiB or GiB, such as 64KiB";
  const std::string limits = allowed(range, write_bytes);
  if (text.empty()) return tl::unexpected("is empty; " + std::string(kHint) + limits);
  std::string_view rest = text;
  const auto [digits, count] = take_digits(rest);
  const auto* found = std::find_if(kSizes.begin(), kSizes.end(),
                                   [&](const Unit& candidate) { return candidate.name == rest; });
  if (digits == Digits::none || digits == Digits::leading_zero || (!rest.empty() && found == kSizes.end())) {
    return tl::unexpected(quote(text) + " is not a size; " + std::string(kHint) + limits);
  }
  std::int64_t value = 0;
  if (digits == Digits::overflow ||
      __builtin_mul_overflow(count, rest.empty() ? std::int64_t{1} : found->size, &value)) {
    return tl::unexpected(quote(text) + " is out of range" + limits);
  }
  return in_range(value, text, range, write_bytes);
}

Parsed<bool> parse_bool(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return tl::unexpected((text.empty() ? "is empty" : quote(text) + " is not a switch") +
                        "; allowed: true or false");
}

std::string write_duration(std::chrono::nanoseconds value) {
  if (value.count() == 0) return "0s";
  return write_in(value.count(), kDurations, "ns");
}

std::string write_bytes(std::int64_t value) {
  return write_in(value, kSizes, "");
}

std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 64;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  std::size_t at = 0;
  while (at < text.size() && at < kShown) {
    const std::size_t length = utf8::character_at(text, at);
    const auto byte = static_cast<unsigned char>(text[at]);
    if (length == 0 || byte < 0x20 || byte == 0x7F) {
      out.append("\\x").append({kHex[byte >> 4U], kHex[byte & 15U]});
      ++at;
      continue;
    }
    if (byte == '"' || byte == '\\') out.push_back('\\');
    out.append(text.substr(at, length));
    at += length;
  }
  return out + (at < text.size() ? "...\"" : "\"");
}

namespace {

/// Optimal string alignment distance; both words are short (see `nearest`).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, std::span<const std::string> candidates) {
  constexpr std::size_t kLongest = 96;  // hostile words must not cost a large table each
  if (word.empty() || word.size() > kLongest) return "";
  const std::size_t near = std::max<std::size_t>(1, word.size() / 4);
  std::string best;
  std::size_t best_distance = near + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLongest) continue;
    const std::size_t edits = distance(word, candidate);
    if (edits < best_distance) {
      best = candidate;
      best_distance = edits;
    }
  }
  return best;
}

}  // namespace config
