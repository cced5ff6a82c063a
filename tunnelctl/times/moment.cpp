#include "tunnelctl/times/moment.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>

#include "tunnelctl/times/text_walk.h"

namespace tunnelctl::times {
namespace {

using namespace std::chrono;

constexpr Time kFirst = sys_days(year(1970) / 1 / 1);
constexpr Time kLast = sys_days(year(2200) / 1 / 1);
constexpr const char* kWould =
    "write now-1h, 15m (ago), now-1d/d, 2026-01-31T10:00:00Z, 2026-01-31 10:00 (UTC) or seconds since 1970";
constexpr const char* kUnits = "the units are ms s m h d w M y";

/// "ms" before "m".
std::optional<milliseconds> take_fixed_unit(Walk& walk) {
  static constexpr std::array<std::pair<std::string_view, milliseconds>, 6> kFixed = {{
      {"ms", milliseconds(1)},
      {"s", seconds(1)},
      {"m", minutes(1)},
      {"h", hours(1)},
      {"d", days(1)},
      {"w", weeks(1)},
  }};
  for (const auto& [name, length] : kFixed)
    if (walk.take(name)) return length;
  return std::nullopt;
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

std::optional<Time> rounded(Time time, char unit, Edge edge) {
  const auto day = floor<days>(time);
  const year_month_day date(day);
  Time start;
  Time next;
  switch (unit) {
    case 's':
      start = floor<seconds>(time);
      next = start + seconds(1);
      break;
    case 'm':
      start = floor<minutes>(time);
      next = start + minutes(1);
      break;
    case 'h':
      start = floor<hours>(time);
      next = start + hours(1);
      break;
    case 'd':
      start = day;
      next = start + days(1);
      break;
    case 'w':  // weeks begin on Monday
      start = day - days(weekday(day).iso_encoding() - 1);
      next = start + weeks(1);
      break;
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
  if (edge == Edge::start) return start;
  return edge == Edge::end ? next - milliseconds(1) : next;
}

/// "90m", with the sign already taken.
bool step(Walk& walk, Time& time, bool back) {
  const auto number = walk.number("a number");
  if (!number) return false;
  constexpr std::int64_t kMost = 1'000'000'000'000;  // no product overflows
  if (*number > kMost) return walk.stop("that is too far away");
  const std::int64_t count = back ? -*number : *number;
  if (const auto fixed = take_fixed_unit(walk)) {
    if (*number > (kLast - kFirst) / *fixed) return walk.stop("that is too far away");
    time += count * *fixed;
  } else if (walk.take("M")) {
    time = add_months(time, count);
  } else if (walk.take("y")) {
    time = add_months(time, std::clamp<std::int64_t>(count, -2'000, 2'000) * 12);
  } else {
    return walk.stop(kUnits);
  }
  // Checked at each step, so that no sum of them overflows.
  return (time >= kFirst && time <= kLast) || walk.stop("that is outside the years 1970 to 2200");
}

/// What follows "now".
bool relative(Walk& walk, Time& time, Edge edge) {
  while (!walk.at_end()) {
    if (walk.take("/")) {
      const auto edge_of = walk.at_end() ? std::nullopt : rounded(time, walk.rest().front(), edge);
      if (!edge_of) return walk.stop("rounding is to s m h d w M or y");
      walk.skip(1);
      time = *edge_of;
      continue;
    }
    const bool back = walk.take("-");
    if (!back && !walk.take("+")) return walk.stop("-1h, +1h, /d or the end would do here");
    if (!step(walk, time, back)) return false;
  }
  return true;
}

/// "15m", "1h30m": that long ago.
bool ago(Walk& walk, Time& time) {
  do {
    if (!step(walk, time, true)) return false;
  } while (!walk.at_end());
  return true;
}

/// "123", "123.5": since 1970, in the unit that its length says.
bool epoch(Walk& walk, Time& time) {
  const std::size_t digits = walk.digits_ahead();
  if (digits > 20) return walk.stop("a number of more than 20 digits is no time");
  // 20 digits do not fit in; nanoseconds of that length lie beyond the year 2200 in any case.
  const auto number = digits > 18 && walk.rest().front() > '7' ? std::nullopt : walk.number("a number");
  if (digits == 20 || !number) return walk.stop("that is outside the years 1970 to 2200");
  if (digits <= 11) {
    time = Time(seconds(*number));
    if (walk.take(".")) {
      const auto fraction = walk.fraction();
      if (!fraction) return false;
      time += milliseconds(*fraction);
    }
  } else if (digits <= 14) {
    time = Time(milliseconds(*number));
  } else {
    time = Time(milliseconds(digits <= 17 ? *number / 1000 : *number / 1'000'000));
  }
  return walk.at_end() || walk.stop("a number ends here");
}

bool zone(Walk& walk, Time& time) {
  if (walk.at_end() || walk.take("Z") || walk.take("z")) return true;
  const bool behind = walk.take("-");
  if (!behind && !walk.take("+")) return walk.stop("Z, +02:00 or the end would do here");
  const auto of_hours = walk.digits(2, 23, "the offset's two digits of hours");
  if (!of_hours || !walk.expect(":")) return false;
  const auto of_minutes = walk.digits(2, 59, "the offset's two digits of minutes");
  if (!of_minutes) return false;
  const auto offset = hours(*of_hours) + minutes(*of_minutes);
  time += behind ? offset : -offset;
  return true;
}

/// RFC 3339, or as much of it as people type.
bool date(Walk& walk, Time& time) {
  const auto y = walk.digits(4, 9999, "a year of four digits");
  if (!y || !walk.expect("-")) return false;
  const auto m = walk.digits(2, 12, "two digits of a month");
  if (!m || !walk.expect("-")) return false;
  const auto d = walk.digits(2, 31, "two digits of a day");
  if (!d) return false;
  const year_month_day ymd(year(static_cast<int>(*y)), month(static_cast<unsigned>(*m)),
                           day(static_cast<unsigned>(*d)));
  if (!ymd.ok()) return walk.stop("that month has no such day");
  time = sys_days(ymd);
  if (walk.at_end()) return true;
  if (!walk.take("T") && !walk.take("t") && !walk.take(" "))
    return walk.stop("T, a space or the end would do here");
  const auto hour = walk.digits(2, 23, "two digits of hours");
  if (!hour || !walk.expect(":")) return false;
  const auto minute = walk.digits(2, 59, "two digits of minutes");
  if (!minute) return false;
  time += hours(*hour) + minutes(*minute);
  if (walk.take(":")) {
    const auto second = walk.digits(2, 60, "two digits of seconds");  // 60: a leap second
    if (!second) return false;
    time += seconds(*second);
    if (walk.take(".")) {
      const auto fraction = walk.fraction();
      if (!fraction) return false;
      time += milliseconds(*fraction);
    }
  }
  return zone(walk, time) && (walk.at_end() || walk.stop("the time ends here"));
}

bool read(Walk& walk, Time now, Edge edge, Time& time) {
  time = now;
  if (walk.at_end()) return walk.stop("there is nothing");
  if (walk.take("now")) return relative(walk, time, edge);
  if (walk.take("-")) return ago(walk, time);
  const std::size_t digits = walk.digits_ahead();
  if (digits == 0) return walk.stop("no time begins so");
  const char next = digits < walk.rest().size() ? walk.rest()[digits] : '\0';
  if (next == '-') return date(walk, time);
  if (next == '\0' || next == '.') return epoch(walk, time);
  return ago(walk, time);
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

}  // namespace

Result<Time> moment(std::string_view text, Time now, Edge edge) {
  Walk walk(trimmed(text));
  Time time{};
  if (!read(walk, now, edge, time)) return fail(Error::Kind::bad_input, walk.error("time", kWould));
  if (time < kFirst || time > kLast) {
    walk.stop("that is outside the years 1970 to 2200");
    return fail(Error::Kind::bad_input, walk.error("time", kWould));
  }
  return time;
}

Result<Range> range(std::string_view from, std::string_view to, Time now, std::string_view from_name,
                    std::string_view to_name, Edge to_edge) {
  const auto start = moment(from, now, Edge::start);
  if (!start) return fail(start.error().kind, std::string(from_name) + ": " + start.error().message);
  const auto end = moment(to, now, to_edge);
  if (!end) return fail(end.error().kind, std::string(to_name) + ": " + end.error().message);
  if (*end <= *start)
    return fail(Error::Kind::bad_input, std::string(to_name) + " " + quoted(to) + " (" + times::text(*end) +
                                            ") is not after " + std::string(from_name) + " " + quoted(from) +
                                            " (" + times::text(*start) + ")");
  return Range{.from = *start, .to = *end};
}

Result<milliseconds> duration(std::string_view text) {
  constexpr const char* kWouldDo = "write 500ms, 90s, 5m, 1h30m, 2d or 1w; a bare number is seconds";
  constexpr milliseconds kMost = days(36'500);
  Walk walk(trimmed(text));
  const auto refuse = [&] { return fail(Error::Kind::bad_input, walk.error("duration", kWouldDo)); };
  milliseconds total{0};
  if (walk.at_end()) walk.stop("there is nothing");
  while (!walk.at_end()) {
    const auto number = walk.number("a number");
    if (!number) return refuse();
    const bool first = total.count() == 0;
    milliseconds unit = seconds(1);
    std::int64_t thousandths = 0;
    if (first && walk.take(".")) {
      const auto fraction = walk.fraction();
      if (!fraction) return refuse();
      thousandths = *fraction;
    }
    if (const auto named = take_fixed_unit(walk)) {
      unit = *named;
    } else if (!first || !walk.at_end()) {
      walk.stop(walk.rest().starts_with('M') || walk.rest().starts_with('y')
                    ? "months and years have no length of their own"
                    : "the units are ms s m h d w");
      return refuse();
    }
    if (*number > kMost / unit || total > kMost) {
      walk.stop("that is more than 100 years");
      return refuse();
    }
    total += *number * unit + milliseconds(thousandths * unit.count() / 1000);
  }
  if (walk.stopped()) return refuse();
  if (total.count() == 0) {
    walk.stop("it must be longer than nothing");
    return refuse();
  }
  return total;
}

std::string text(Time time) {
  const auto day = floor<days>(time);
  const year_month_day date(day);
  const hh_mm_ss<milliseconds> clock(time - day);
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()),
                static_cast<int>(clock.subseconds().count()));
  return buffer.data();
}

std::string duration_text(milliseconds duration) {
  if (duration.count() == 0) return "0s";
  std::string text = duration.count() < 0 ? "-" : "";
  // Unsigned, since the smallest number has no positive one.
  auto left = duration.count() < 0 ? 0 - static_cast<std::uint64_t>(duration.count())
                                   : static_cast<std::uint64_t>(duration.count());
  static constexpr std::array<std::pair<std::uint64_t, const char*>, 5> kParts = {
      {{86'400'000, "d"}, {3'600'000, "h"}, {60'000, "m"}, {1'000, "s"}, {1, "ms"}}};
  for (const auto& [length, unit] : kParts) {
    if (left >= length) text += std::to_string(left / length) + unit;
    left %= length;
  }
  return text;
}

}  // namespace tunnelctl::times
