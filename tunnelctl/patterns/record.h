#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "tunnelctl/patterns/levels.h"

namespace tunnelctl::patterns {

/// What a line says, without its wrapping.
struct Record {
  std::string_view text{};    // of the line or of the reader; valid until the next read
  Level level = Level::none;  // of a member; none: only the text can tell
};

/// Finds message and level of a line.
///
/// - A JSON object: the first non-empty string among message, msg, log, content, MESSAGE; behind it, after ":
/// ",
///   that of error, err or why. The level is that of level, severity, lvl, loglevel, log.level or PRIORITY.
///   Only the top level is read. An object without a message becomes "key=value key=value ..." of its
///   scalars.
/// - logfmt (the first word is key=value): the same, by the same keys; without a message the line stays.
/// - A message that is itself JSON or logfmt, as container logs have it, is read once more.
/// - Anything else, malformed JSON too: the line.
///
/// Of a text with several lines the first that is not blank counts. Linear; keeps two buffers.
class RecordReader {
 public:
  /// `cut`: the line went on. An object may then lack its end, if its message was met before.
  Record read(std::string_view line, bool cut);

 private:
  std::string outer_, inner_;
};

}  // namespace tunnelctl::patterns
