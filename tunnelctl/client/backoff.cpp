#include "tunnelctl/client/backoff.h"

#include <algorithm>
#include <cmath>

namespace tunnelctl::client {
namespace {

constexpr double kLeast = 0.7, kMost = 1.3;

std::chrono::milliseconds scaled(std::chrono::milliseconds time, double by) {
  return std::chrono::milliseconds(std::llround(static_cast<double>(time.count()) * by));
}

}  // namespace

std::optional<Backoff::Turn> Backoff::next(Clock::time_point now, double random, const Advice& advice) {
  if (!outage_began_) outage_began_ = now;
  const bool enough = options_.max_attempts && attempts_ >= *options_.max_attempts;
  if (enough && now >= hold_on_until_) return std::nullopt;
  const unsigned failed = attempts_++;
  if (advice.hint) {
    const auto hint = std::clamp(*advice.hint, milliseconds(0), options_.longest_hint);
    return Turn{attempts_, scaled(hint, 1 + random / 10), false};
  }
  return Turn{attempts_, delay_after(failed, now, random, advice.factor), true};
}

std::chrono::milliseconds Backoff::delay_after(unsigned failed, Clock::time_point now, double random,
                                               unsigned factor) const {
  if (failed == 0 && factor == 1) {
    const bool at_once = first_ == First::at_once && !ever_connected_;
    return at_once ? milliseconds(0) : scaled(options_.first_spread, random);
  }
  // Beyond 2^20 every base of a millisecond and more is at the cap; the shift stays within its type.
  const auto doubled = options_.base * (std::int64_t{1} << std::min(std::max(failed, 1U) - 1, 20U));
  auto delay = std::min(options_.cap, doubled) * factor;
  // Streams wait for a link that may still be resumed; one more wait as long as the cap could outlast it.
  const bool awaited = now + options_.quick_cap <= hold_on_until_;
  const bool quick = factor == 1 && (awaited || now - *outage_began_ < options_.quick_for);
  // The factor still spreads what is cut here, and none is longer than quick_cap.
  if (quick) delay = std::min(delay, scaled(options_.quick_cap, 1 / kMost));
  return scaled(delay, kLeast + random * (kMost - kLeast));
}

std::chrono::milliseconds Backoff::hurried_delay(Clock::time_point now) const {
  if (!began_) return milliseconds(0);
  const auto since = std::chrono::duration_cast<milliseconds>(now - *began_);
  return std::max(milliseconds(0), options_.between_hurried - since);
}

void Backoff::connected(Clock::time_point now) {
  ever_connected_ = true;
  stands_since_ = now;
}

void Backoff::lost(Clock::time_point now) {
  const bool stable = stands_since_ && now - *stands_since_ >= options_.stable_after;
  if (stable) attempts_ = 0;
  // One that falls at once is the same outage going on: its tries must become rarer.
  if (stable || attempts_ <= 1) outage_began_ = now;
  stands_since_.reset();
}

}  // namespace tunnelctl::client
