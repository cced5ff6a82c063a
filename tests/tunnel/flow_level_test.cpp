#include "tunnel/flow_level.h"

#include <gtest/gtest.h>

namespace tunnel {
namespace {

TEST(FlowLevel, RisesAtItsThresholdAndFallsFivePointsBelow) {
  struct Step {
    double fill;
    FlowLevel level;
  };
  const Step story[] = {
      {0.00, FlowLevel::open},      {0.59, FlowLevel::open},     {0.60, FlowLevel::slow_down},
      {0.56, FlowLevel::slow_down},                           // not down yet
      {0.55, FlowLevel::open},      {0.59, FlowLevel::open},  // nor up before the threshold
      {0.80, FlowLevel::throttle},  {0.76, FlowLevel::throttle}, {0.75, FlowLevel::slow_down},
      {0.90, FlowLevel::pause},     {0.86, FlowLevel::pause},    {0.85, FlowLevel::throttle},
      {0.94, FlowLevel::pause},     {0.95, FlowLevel::drop_low}, {0.91, FlowLevel::drop_low},
      {0.90, FlowLevel::pause},  // falls from the one, and stands at the other
      {1.00, FlowLevel::drop_low},  {0.00, FlowLevel::open},     {1.00, FlowLevel::drop_low},
      {0.80, FlowLevel::throttle},
  };
  auto level = FlowLevel::open;
  for (const auto& step : story) {
    const auto before = level;
    level = next_level(level, step.fill);
    EXPECT_STREQ(to_string(level), to_string(step.level))
        << "at " << step.fill << ", coming from " << to_string(before);
  }
}

TEST(FlowLevel, IsExactForEveryCountOfAQueue) {
  for (int capacity = 10; capacity <= 1000; ++capacity) {
    const auto at = [capacity](int percent) {  // the first count that is at least so much
      return (capacity * percent + 99) / 100;
    };
    for (const auto& [level, percent] : {std::pair{FlowLevel::slow_down, 60}, {FlowLevel::drop_low, 95}}) {
      const int first = at(percent);
      EXPECT_GE(next_level(FlowLevel::open, static_cast<double>(first) / capacity), level) << capacity;
      EXPECT_LT(next_level(FlowLevel::open, static_cast<double>(first - 1) / capacity), level) << capacity;
    }
  }
}

TEST(FlowLevel, AsksForLongerPausesTheFullerItIs) {
  EXPECT_EQ(recommended_delay(FlowLevel::open).count(), 0);
  for (std::size_t at = 1; at < kFlowLevels.size(); ++at)
    EXPECT_GT(recommended_delay(kFlowLevels[at]), recommended_delay(kFlowLevels[at - 1]));
}

}  // namespace
}  // namespace tunnel
