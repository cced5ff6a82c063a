#include "tunnelctl/monitor/time_range.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>

namespace tunnelctl::monitor {
namespace {

using namespace std::chrono;

constexpr Time kFirst = sys_days(year(1970) / 1 / 1);
constexpr Time kLast = sys_days(year(2200) / 1 / 1);
constexpr std::int64_t kMostUnits = 1'000'000'000;

/// The number at the beginning, which is taken away. Digits only.
std::optional<std::int64_t> take_number(std::string_view& text, std::size_t digits = 0) {
  std::int64_t value = 0;
  const std::size_t most = digits == 0 ? text.size() : std::min(digits, text.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + most, value);
  const auto length = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || value < 0 || text.starts_with('-')) return std::nullopt;
  if (digits != 0 && length != digits) return std::nullopt;
  text.remove_prefix(length);
  return value;
}

bool take(std::string_view& text, std::string_view what) {
  if (!text.starts_with(what)) return false;
  text.remove_prefix(what.size());
  return true;
}

std::optional<milliseconds> fixed_unit(char unit) {
  switch (unit) {
    case 's': return seconds(1);
    case 'm': return minutes(1);
    case 'h': return hours(1);
    case 'd': return days(1);
    case 'w': return weeks(1);
    default: return std::nullopt;
  }
}

Time add_months(Time time, std::int64_t count) {
  const auto day = floor<days>(time);
  const auto rest = time - day;
  year_month_day date =
      year_month_day(day) + months(static_cast<int>(std::clamp<std::int64_t>(count, -24'000, 24'000)));
  // The 31st of a month without one is its last day.
  if (!date.ok()) date = date.year() / date.month() / last;
  return sys_days(date) + rest;
}

std::optional<Time> rounded(Time time, char unit, bool up) {
  const auto day = floor<days>(time);
  const year_month_day date(day);
  Time start;
  Time next;
  switch (unit) {
    case 's':
    case 'm':
    case 'h':
    case 'd': {
      const milliseconds step = *fixed_unit(unit);
      const auto since = time.time_since_epoch();
      auto whole = since / step;
      if (since < whole * step) --whole;
      start = Time(whole * step);
      next = start + step;
      break;
    }
    case 'w': {  // weeks begin on Monday
      start = day - days((weekday(day).iso_encoding() - 1));
      next = start + weeks(1);
      break;
    }
    case 'M':
      start = sys_days(date.year() / date.month() / 1);
      next = add_months(start, 1);
      break;
    case 'y':
      start = sys_days(date.year() / 1 / 1);
      next = add_months(start, 12);
      break;
    default: return std::nullopt;
  }
  return up ? next - milliseconds(1) : start;
}

std::optional<Time> relative(std::string_view text, Time now, bool up) {
  Time time = now;
  while (!text.empty()) {
    const char sign = text.front();
    text.remove_prefix(1);
    if (sign == '/') {
      if (text.empty()) return std::nullopt;
      const auto edge = rounded(time, text.front(), up);
      if (!edge) return std::nullopt;
      time = *edge;
      text.remove_prefix(1);
      continue;
    }
    if (sign != '-' && sign != '+') return std::nullopt;
    auto count = take_number(text).value_or(-1);
    if (count < 0 || count > kMostUnits || text.empty()) return std::nullopt;
    if (sign == '-') count = -count;
    const char unit = text.front();
    text.remove_prefix(1);
    if (const auto fixed = fixed_unit(unit))
      time += count * *fixed;
    else if (unit == 'M' || unit == 'y')
      time = add_months(time, count * (unit == 'y' ? 12 : 1));
    else
      return std::nullopt;
    // Checked at each step, so that no sum of them overflows.
    if (time < kFirst || time > kLast) return std::nullopt;
  }
  return time;
}

/// ISO 8601, as far as people type it.
std::optional<Time> date(std::string_view text) {
  const auto y = take_number(text, 4);
  if (!y || !take(text, "-")) return std::nullopt;
  const auto month_of = take_number(text, 2);
  if (!month_of || !take(text, "-")) return std::nullopt;
  const auto day_of = take_number(text, 2);
  if (!day_of) return std::nullopt;
  const year_month_day ymd(year(static_cast<int>(*y)), month(static_cast<unsigned>(*month_of)),
                           day(static_cast<unsigned>(*day_of)));
  if (!ymd.ok()) return std::nullopt;
  Time time = sys_days(ymd);
  if (text.empty()) return time;
  if (!take(text, "T") && !take(text, " ")) return std::nullopt;
  const auto hour = take_number(text, 2);
  if (!hour || *hour > 23 || !take(text, ":")) return std::nullopt;
  const auto minute = take_number(text, 2);
  if (!minute || *minute > 59) return std::nullopt;
  time += hours(*hour) + minutes(*minute);
  if (take(text, ":")) {
    const auto second = take_number(text, 2);
    if (!second || *second > 59) return std::nullopt;
    time += seconds(*second);
    if (take(text, ".")) {
      const std::size_t before = text.size();
      auto fraction = take_number(text).value_or(-1);
      std::size_t digits = before - text.size();
      if (fraction < 0) return std::nullopt;
      for (; digits < 3; ++digits) fraction *= 10;
      for (; digits > 3; --digits) fraction /= 10;
      time += milliseconds(fraction);
    }
  }
  if (text.empty() || text == "Z") return time;
  const bool behind = text.front() == '-';
  if (!behind && text.front() != '+') return std::nullopt;
  text.remove_prefix(1);
  const auto zone_hours = take_number(text, 2);
  if (!zone_hours || !take(text, ":")) return std::nullopt;
  const auto zone_minutes = take_number(text, 2);
  if (!zone_minutes || !text.empty() || *zone_hours > 23 || *zone_minutes > 59) return std::nullopt;
  const auto zone = hours(*zone_hours) + minutes(*zone_minutes);
  return behind ? time + zone : time - zone;
}

Result<Time> read(std::string_view text, const char* option, Time now, bool up) {
  std::optional<Time> time;
  std::string_view rest = text;
  if (take(rest, "now")) {
    time = relative(rest, now, up);
  } else if (auto number = take_number(rest); number && rest.empty()) {
    // Not a year: Grafana's addresses hold milliseconds.
    if (*number <= kLast.time_since_epoch().count()) time = Time(milliseconds(*number));
  } else {
    time = date(text);
  }
  if (!time || *time < kFirst || *time > kLast)
    return fail(Error::Kind::bad_input,
                std::string(option) + ": \"" + std::string(text.substr(0, 60)) +
                    "\" is no time; write now-1h, now-1d/d, 2026-01-31T10:00:00Z or milliseconds since 1970");
  return *time;
}

}  // namespace

Result<TimeRange> time_range(std::string_view from, std::string_view to, Time now) {
  const auto start = read(from, "--from", now, false);
  if (!start) return tl::unexpected(start.error());
  const auto end = read(to, "--to", now, true);
  if (!end) return tl::unexpected(end.error());
  if (*end <= *start)
    return fail(Error::Kind::bad_input, "--to " + std::string(to.substr(0, 60)) + " is not after --from " +
                                            std::string(from.substr(0, 60)));
  return TimeRange{*start, *end};
}

}  // namespace tunnelctl::monitor
