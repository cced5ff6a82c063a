#pragma once

#include <chrono>
#include <set>
#include <utility>
#include <vector>

#include "tunnelctl/prometheus/loki.h"

namespace tunnelctl::prometheus {

/// Follows a log by asking for its newest lines again and again: which time to ask for, and which of the
/// lines that come are new. Lines reach Loki late and out of order, so every ten seconds or ten polls a
/// window overlaps the ones before by `late`; those between begin shortly before the last one. While Loki
/// cannot be asked, and until `late` after that, the window's beginning stays where it was. So no line is
/// lost that reaches Loki within `late` of its time or of Loki's return, and none comes twice. Keeps some 60
/// bytes for each line of a window. Not for several threads at once.
class LogTail {
 public:
  struct Options {
    std::chrono::nanoseconds late = std::chrono::seconds(30);
    /// How far clocks may be ahead; Loki refuses lines beyond (creation_grace_period).
    std::chrono::nanoseconds ahead = std::chrono::minutes(10);
    /// By how much the windows between overlap.
    std::chrono::nanoseconds shortly = std::chrono::seconds(2);
    std::chrono::nanoseconds whole_every = std::chrono::seconds(10);
    unsigned whole_polls = 10;
  };

  LogTail(Instant now, Options options) : options_(options), from_(now - options.late) {}

  /// What to ask for, oldest first and all of it.
  Window window(Instant now) const;
  /// Leaves what was not there before, and remembers it.
  void keep_new(std::vector<LogLine>& page);
  /// The window of `now` was read to its end.
  void reached(Instant now);
  /// Loki could not be asked.
  void lost() { asked_ = false; }

 private:
  /// Whether the poll of that moment is one of all that may have come late.
  bool whole(Instant now) const;

  Options options_;
  Instant from_{};         // of whole windows
  Instant asked_since_{};  // since when every poll worked
  Instant last_{}, last_whole_{};
  unsigned polls_ = 0;  // since then
  bool asked_ = false;
  std::set<std::pair<Instant, std::size_t>> seen_{};
};

}  // namespace tunnelctl::prometheus
