#pragma once

#include <cstdint>
#include <string_view>

namespace tunnelctl::patterns {

/// From harmless to grave, so that the graver of two is the larger.
enum class Level : std::uint8_t { none, trace, debug, info, warn, error };

/// "error" and so on; "" for none.
std::string_view to_string(Level level);

/// What a member named level says: the words of syslog, log4j, logrus, zap, Python ("WARNING", "crit",
/// "eror"), in any case, or the numbers of bunyan and pino (10 to 60). none: no level is known by that name.
Level level_named(std::string_view word);
/// What a member named PRIORITY says: a word, or the numbers of syslog (0 emergency to 7 debug).
Level level_of_priority(std::string_view word);

/// The level a line of text tells among its first words: one in capitals (ERROR), in brackets ([error],
/// <err>), or before a colon (error:), or the letter of klog (E<time>). Takes masked text, in which the
/// contents of quotes are gone.
Level level_in_text(std::string_view masked);

}  // namespace tunnelctl::patterns
