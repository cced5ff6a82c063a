#include "tunnelctl/prometheus/log_tail.h"

#include <algorithm>
#include <functional>

namespace tunnelctl::prometheus {

void LogTail::keep_new(std::vector<LogLine>& page) {
  std::erase_if(page, [&](const LogLine& line) {
    return !seen_.emplace(line.at, std::hash<std::string>()(line.identity())).second;
  });
}

bool LogTail::whole(Instant now) const {
  return !asked_ || now < last_ || now - last_whole_ >= options_.whole_every ||
         polls_ + 1 >= options_.whole_polls;
}

Window LogTail::window(Instant now) const {
  return {.from = whole(now) ? from_ : std::max(from_, last_ - options_.shortly), .to = now + options_.ahead};
}

void LogTail::reached(Instant now) {
  const bool all = whole(now);
  if (!asked_) asked_since_ = now;
  asked_ = true;
  last_ = now;
  ++polls_;
  // Only a poll that saw all late lines lets go of a time.
  if (!all) return;
  last_whole_ = now;
  polls_ = 0;
  if (now - asked_since_ < options_.late) return;
  from_ = std::max(from_, now - options_.late);
  seen_.erase(seen_.begin(), seen_.lower_bound({from_, 0}));
}

}  // namespace tunnelctl::prometheus
