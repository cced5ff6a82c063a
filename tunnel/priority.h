#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace tunnel {

/// How urgent a request is to its own principal; never weighed against another principal's.
enum class Priority { high, normal, low };

inline constexpr std::array kPriorities{Priority::high, Priority::normal, Priority::low};
/// Turns of each while all wait: low never starves.
inline constexpr std::array<unsigned, 3> kPriorityWeights{8, 4, 1};

constexpr std::size_t index_of(Priority priority) {
  return static_cast<std::size_t>(priority);
}
constexpr const char* to_string(Priority priority) {
  constexpr std::array kNames{"high", "normal", "low"};
  return kNames[index_of(priority)];
}
/// As X-Tunnel-Priority has it: exactly one of the names.
constexpr std::optional<Priority> priority_named(std::string_view text) {
  for (const auto priority : kPriorities)
    if (text == to_string(priority)) return priority;
  return std::nullopt;
}

}  // namespace tunnel
