#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "common/result.h"

/// The one grammar of times that every command takes.
namespace tunnelctl::times {

using Time = std::chrono::sys_time<std::chrono::milliseconds>;

struct Range {
  Time from{};
  Time to{};
};

/// Which end of a range a rounded moment is: "now/d" is the day's beginning, its last millisecond, or the
/// first moment behind it, for those who take an end that is no more part of the range.
enum class Edge { start, end, behind };

/// "now", "now-90m", "now-1d/d" (rounded in UTC), "15m" or "-15m" (ago), RFC 3339 with any offset
/// ("2026-01-31T10:00:00Z"), "2026-01-31", "2026-01-31 10:00[:00]" (UTC), and numbers since 1970: up to 11
/// digits are seconds (a fraction may follow), 12 to 14 milliseconds, 15 to 17 microseconds, 18 to 20
/// nanoseconds. Units: ms s m h d w M y. Fails with bad_input, saying what was understood up to where and
/// what would do; a year outside 1970 to 2200 is refused too.
Result<Time> moment(std::string_view text, Time now, Edge edge = Edge::start);

/// Fails with bad_input as moment() does, and when the end is not after the start. The message names
/// `from_name` or `to_name`, e.g. "--from". `to_edge`: end or behind.
Result<Range> range(std::string_view from, std::string_view to, Time now,
                    std::string_view from_name = "--from", std::string_view to_name = "--to",
                    Edge to_edge = Edge::end);

/// "500ms", "90s", "5m", "1h30m", "2d", "1w"; positive. A bare number is seconds. Fails with bad_input.
Result<std::chrono::milliseconds> duration(std::string_view text);

/// RFC 3339 in UTC with milliseconds: "2026-01-31T10:00:00.000Z".
std::string text(Time time);

/// "90s" as people write it: "1m30s"; "0s".
std::string duration_text(std::chrono::milliseconds duration);

}  // namespace tunnelctl::times
