#include "tunnel/flow_level.h"

namespace tunnel {
namespace {

/// Where a level begins, and where it ends on the way down. Written out, for 0.60 - 0.05 is not 0.55 in
/// binary.
struct Band {
  FlowLevel level;
  double rises_at;
  double falls_at;
};
constexpr Band kBands[] = {
    {FlowLevel::slow_down, 0.60, 0.55},
    {FlowLevel::throttle, 0.80, 0.75},
    {FlowLevel::pause, 0.90, 0.85},
    {FlowLevel::drop_low, 0.95, 0.90},
};

}  // namespace

FlowLevel next_level(FlowLevel before, double fill) {
  FlowLevel level = FlowLevel::open;
  for (const auto& band : kBands) {
    const bool kept = before >= band.level && fill > band.falls_at;
    if (fill >= band.rises_at || kept) level = band.level;
  }
  return level;
}

std::chrono::milliseconds recommended_delay(FlowLevel level) {
  using std::chrono::milliseconds;
  switch (level) {
    case FlowLevel::open: break;
    case FlowLevel::slow_down: return milliseconds(100);
    case FlowLevel::throttle: return milliseconds(500);
    case FlowLevel::pause: return milliseconds(2'000);
    case FlowLevel::drop_low: return milliseconds(5'000);
  }
  return milliseconds(0);
}

}  // namespace tunnel
