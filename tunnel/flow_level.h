#pragma once

#include <array>
#include <chrono>
#include <cstddef>

namespace tunnel {

/// How full a principal's queue is, as told to its callers.
enum class FlowLevel { open, slow_down, throttle, pause, drop_low };

inline constexpr std::array kFlowLevels{FlowLevel::open, FlowLevel::slow_down, FlowLevel::throttle,
                                        FlowLevel::pause, FlowLevel::drop_low};

constexpr const char* to_string(FlowLevel level) {
  constexpr std::array kNames{"open", "slow_down", "throttle", "pause", "drop_low"};
  return kNames[static_cast<std::size_t>(level)];
}

/// The level for `fill` (0 to 1), coming from `before`: rises at 60, 80, 90 and 95 %, and falls only five
/// points below the threshold it rose at, so that a queue at the edge does not flutter.
FlowLevel next_level(FlowLevel before, double fill);

/// How long a caller that follows the level waits before its next request.
std::chrono::milliseconds recommended_delay(FlowLevel level);

}  // namespace tunnel
