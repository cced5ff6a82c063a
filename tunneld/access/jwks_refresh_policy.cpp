#include "tunneld/access/jwks_refresh_policy.h"

#include <algorithm>

namespace tunneld::access {

using Decision = JwksRefreshPolicy::Decision;

Decision JwksRefreshPolicy::due(TimePoint now) {
  const std::lock_guard lock(mutex_);
  if (under_way_) return Decision::waiting;
  if (retry_at_ ? now < *retry_at_ : last_success_ && now < *last_success_ + limits_.cached)
    return Decision::not_now;
  return start(now);
}

Decision JwksRefreshPolicy::on_unknown_kid(TimePoint now) {
  const std::lock_guard lock(mutex_);
  if (under_way_) return Decision::waiting;
  // While the provider fails, its retry pause holds for strangers' tokens as well.
  if (retry_at_ && now < *retry_at_) return Decision::not_now;
  return start(now);
}

Decision JwksRefreshPolicy::start(TimePoint now) {
  if (now < rate_free_at()) return Decision::not_now;
  starts_[next_start_] = now;
  next_start_ = (next_start_ + 1) % starts_.size();
  under_way_ = true;
  return Decision::fetch;
}

JwksRefreshPolicy::TimePoint JwksRefreshPolicy::rate_free_at() const {
  const auto& oldest = starts_[next_start_];
  return oldest ? *oldest + std::chrono::seconds{60} : TimePoint::min();
}

void JwksRefreshPolicy::succeeded(TimePoint now) {
  const std::lock_guard lock(mutex_);
  under_way_ = false;
  last_success_ = now;
  retry_at_.reset();
  failures_ = 0;
}

void JwksRefreshPolicy::failed(TimePoint now) {
  const std::lock_guard lock(mutex_);
  under_way_ = false;
  // Ten doublings are past any sensible max_retry; the bound keeps the shift defined.
  const auto pause = limits_.first_retry * (1 << std::min(failures_, 10u));
  retry_at_ = now + std::min<std::chrono::seconds>(pause, limits_.max_retry);
  ++failures_;
}

std::optional<JwksRefreshPolicy::TimePoint> JwksRefreshPolicy::next_due() const {
  const std::lock_guard lock(mutex_);
  if (under_way_) return std::nullopt;
  TimePoint wanted = TimePoint::min();
  if (retry_at_)
    wanted = *retry_at_;
  else if (last_success_)
    wanted = *last_success_ + limits_.cached;
  return std::max(wanted, rate_free_at());
}

bool JwksRefreshPolicy::usable(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  return last_success_ && now < *last_success_ + limits_.usable;
}

bool JwksRefreshPolicy::stale(TimePoint now) const {
  const std::lock_guard lock(mutex_);
  return last_success_ && now >= *last_success_ + limits_.cached;
}

}  // namespace tunneld::access
