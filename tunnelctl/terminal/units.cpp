#include "tunnelctl/terminal/units.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace tunnelctl::terminal {
namespace {

/// Without zeros at the end behind the point.
std::string with_digits(double value, int digits) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  std::string result(text.data());
  if (result.find('.') == std::string::npos) return result;
  while (result.ends_with('0')) result.pop_back();
  if (result.ends_with('.')) result.pop_back();
  return result;
}

/// Three digits.
std::string short_number(double value) {
  return with_digits(value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

std::string two_units(std::int64_t large, const char* large_unit, std::int64_t small,
                      const char* small_unit) {
  std::string result = std::to_string(large) + large_unit;
  if (small > 0) result += " " + std::to_string(small) + small_unit;
  return result;
}

}  // namespace

std::string bytes(double value) {
  constexpr std::array<const char*, 6> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  // What would be shown as 1024 belongs to the next unit.
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return (unit == 0 ? std::to_string(std::llround(value)) : short_number(value)) + " " + kUnits.at(unit);
}

std::string duration(double seconds) {
  const std::int64_t all = seconds > 0 ? static_cast<std::int64_t>(std::fmin(seconds, 1e15)) : 0;
  if (all < 60) return std::to_string(all) + "s";
  if (all < 3'600) return two_units(all / 60, "m", all % 60, "s");
  if (all < 86'400) return two_units(all / 3'600, "h", all % 3'600 / 60, "m");
  return two_units(all / 86'400, "d", all % 86'400 / 3'600, "h");
}

std::string number(double value) {
  constexpr std::array<const char*, 4> kUnits{"", "k", "M", "G"};
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return short_number(value) + kUnits.at(unit);
}

std::string percent(double ratio) {
  if (!(ratio > 0)) return "0 %";
  if (ratio >= 1) return "100 %";
  // 99.999 % are not all.
  return with_digits(std::floor(ratio * 10'000) / 100, 2) + " %";
}

}  // namespace tunnelctl::terminal
