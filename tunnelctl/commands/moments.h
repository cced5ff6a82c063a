#pragma once

#include <chrono>
#include <string>

#include "tunnelctl/times/moment.h"

/// Times in the tables and lines of commands.
namespace tunnelctl {

inline times::Time now() {
  return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

/// RFC 3339 in UTC, to the second: "2026-01-31T10:00:00Z".
inline std::string to_the_second(times::Time time) {
  auto result = times::text(time);
  const auto point = result.find('.');
  return point == std::string::npos ? result : result.erase(point, result.size() - point - 1);
}

}  // namespace tunnelctl
