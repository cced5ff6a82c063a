#include "tunnelctl/promql/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>

namespace tunnelctl::promql {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string position(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  const auto before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto line_break = before.rfind('\n');
  const auto column = line_break == std::string_view::npos ? offset + 1 : offset - line_break;
  return std::to_string(line) + ":" + std::to_string(column);
}

Error parse_error(std::string_view text, std::size_t offset, std::string_view what) {
  return {Error::Kind::bad_input, position(text, offset) + ": parse error: " + std::string(what)};
}

bool is_label_name(std::string_view text) {
  return !text.empty() && is_alpha(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_alpha(c) || is_digit(c); });
}

bool is_metric_name(std::string_view text) {
  return !text.empty() && (is_alpha(text[0]) || text[0] == ':') &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_alpha(c) || is_digit(c) || c == ':'; });
}

std::optional<double> parse_number(std::string_view text) {
  const std::string low = lower(text);
  if (low == "inf") return std::numeric_limits<double>::infinity();
  if (low == "nan") return std::numeric_limits<double>::quiet_NaN();
  const bool hex = low.starts_with("0x");
  // An underscore stands between digits; the prefix 0x counts as one.
  std::string digits;
  char last = hex ? '0' : '!';
  if (hex) digits = "0x";
  for (const char c : std::string_view(low).substr(digits.size())) {
    if (is_digit(c) || (hex && c >= 'a' && c <= 'f')) {
      last = '0';
    } else if (c == '_') {
      if (last != '0') return std::nullopt;
      last = '_';
      continue;
    } else {
      if (last == '_') return std::nullopt;
      last = '!';
    }
    digits += c;
  }
  if (last == '_') return std::nullopt;

  // Whole numbers first: 017 is octal and 0x10 sixteen; what does not fit is read as a float.
  std::string_view whole = digits;
  int base = 10;
  if (hex) {
    whole.remove_prefix(2);
    base = 16;
  } else if (whole.size() > 1 && whole[0] == '0') {
    base = 8;
  }
  std::int64_t integer = 0;
  const auto [end, problem] = std::from_chars(whole.data(), whole.data() + whole.size(), integer, base);
  if (problem == std::errc() && end == whole.data() + whole.size()) return static_cast<double>(integer);
  // A hexadecimal float needs an exponent with p, which PromQL's lexer does not know.
  if (hex) return std::nullopt;

  double value = 0;
  const auto [stop, wrong] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (stop != digits.data() + digits.size() || wrong == std::errc::invalid_argument) return std::nullopt;
  if (wrong == std::errc::result_out_of_range) {
    // Too small becomes zero, too large is an error.
    value = std::strtod(digits.c_str(), nullptr);
    if (std::isinf(value)) return std::nullopt;
  }
  return value;
}

namespace {

struct Unit {
  std::string_view name;
  std::int64_t milliseconds;
};
constexpr std::array<Unit, 7> kUnits = {{{"y", 31'536'000'000},
                                         {"w", 604'800'000},
                                         {"d", 86'400'000},
                                         {"h", 3'600'000},
                                         {"m", 60'000},
                                         {"s", 1000},
                                         {"ms", 1}}};

}  // namespace

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  if (text == "0") return std::chrono::nanoseconds{0};
  if (text.empty()) return fail(Error::Kind::bad_input, "empty duration string");
  const auto invalid = [&] {
    return fail(Error::Kind::bad_input, "not a valid duration string: " + quote(text));
  };
  std::int64_t milliseconds = 0;
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 1'000'000;
  std::size_t next_unit = 0;  // units only get smaller
  for (std::size_t at = 0; at < text.size();) {
    if (!is_digit(text[at])) return invalid();
    std::int64_t number = 0;
    const auto [end, problem] = std::from_chars(text.data() + at, text.data() + text.size(), number);
    if (problem != std::errc()) return fail(Error::Kind::bad_input, "duration out of range");
    at = static_cast<std::size_t>(end - text.data());
    const auto unit_begin = at;
    while (at < text.size() && !is_digit(text[at])) ++at;
    const auto name = text.substr(unit_begin, at - unit_begin);
    const auto* unit =
        std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return u.name == name; });
    if (unit == kUnits.end()) {
      if (name.empty()) return invalid();
      return fail(Error::Kind::bad_input, "unknown unit " + quote(name) + " in duration " + quote(text));
    }
    const auto index = static_cast<std::size_t>(unit - kUnits.begin());
    if (index < next_unit) return invalid();
    next_unit = index + 1;
    if (number > kMost / unit->milliseconds || number * unit->milliseconds > kMost - milliseconds) {
      return fail(Error::Kind::bad_input, "duration out of range");
    }
    milliseconds += number * unit->milliseconds;
  }
  return std::chrono::milliseconds{milliseconds};
}

std::string print_duration(std::chrono::nanoseconds duration) {
  using std::chrono::milliseconds;
  if (duration.count() < 0) {
    if (duration == std::chrono::nanoseconds::min()) duration += std::chrono::nanoseconds{1};
    return "-" + print_duration(-duration);
  }
  const auto whole = std::chrono::duration_cast<milliseconds>(duration);
  if (duration != whole) {
    auto rest = std::to_string(1'000'000'000 + duration.count() % 1'000'000'000).substr(1);
    while (rest.back() == '0') rest.pop_back();
    return std::to_string(duration.count() / 1'000'000'000) + "." + rest;
  }
  std::int64_t left = whole.count();
  if (left == 0) return "0s";
  std::string out;
  for (const Unit& unit : kUnits) {
    // Years and weeks only where nothing is left over: 90d reads better than 12w6d.
    const bool exact = unit.name == "y" || unit.name == "w";
    if (exact && left % unit.milliseconds != 0) continue;
    if (left < unit.milliseconds) continue;
    out += std::to_string(left / unit.milliseconds);
    out += unit.name;
    left %= unit.milliseconds;
  }
  return out;
}

std::string print_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 800>
      buffer;  // the smallest double has 325 digits before and after the point together, and more
  const auto [end, problem] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  (void)problem;  // the buffer is large enough for every double
  return {buffer.data(), end};
}

}  // namespace tunnelctl::promql
