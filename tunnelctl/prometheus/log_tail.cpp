#include "tunnelctl/prometheus/log_tail.h"

#include <algorithm>
#include <functional>

namespace tunnelctl::prometheus {

void LogTail::keep_new(std::vector<LogLine>& page) {
  std::erase_if(page, [&](const LogLine& line) {
    return !seen_.emplace(line.at, std::hash<std::string>()(line.identity())).second;
  });
}

void LogTail::reached(Instant now) {
  if (!asked_) asked_since_ = now;
  asked_ = true;
  if (now - asked_since_ < options_.late) return;
  from_ = std::max(from_, now - options_.late);
  seen_.erase(seen_.begin(), seen_.lower_bound({from_, 0}));
}

}  // namespace tunnelctl::prometheus
