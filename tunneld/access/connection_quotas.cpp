#include "tunneld/access/connection_quotas.h"

#include <functional>
#include <map>
#include <mutex>

namespace tunneld::access {

struct ConnectionQuotas::Impl {
  mutable std::mutex mutex;
  // Ordered: no choice of subjects makes a look-up slow.
  std::map<std::string, std::size_t, std::less<>> held;
};

ConnectionQuotas::Place::Place(Place&& other) noexcept
    : quotas_(std::exchange(other.quotas_, nullptr)), key_(std::move(other.key_)) {}

ConnectionQuotas::Place& ConnectionQuotas::Place::operator=(Place&& other) noexcept {
  Place taken(std::move(other));
  std::swap(quotas_, taken.quotas_);
  std::swap(key_, taken.key_);
  return *this;
}

ConnectionQuotas::Place::~Place() {
  if (quotas_ == nullptr) return;
  const std::lock_guard lock(quotas_->impl_->mutex);
  const auto found = quotas_->impl_->held.find(key_);
  if (--found->second == 0) quotas_->impl_->held.erase(found);
}

ConnectionQuotas::ConnectionQuotas() : impl_(std::make_unique<Impl>()) {}
ConnectionQuotas::~ConnectionQuotas() = default;

ConnectionQuotas::Place ConnectionQuotas::reserve(std::string_view key, std::size_t limit) {
  std::string owned(key);  // before the count: running out of memory must not leave a place taken
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->held.find(key);
  if (limit == 0 || (found != impl_->held.end() && found->second >= limit)) return {};
  if (found == impl_->held.end())
    impl_->held.emplace(owned, 1);
  else
    ++found->second;
  return {this, std::move(owned)};
}

std::size_t ConnectionQuotas::held(std::string_view key) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->held.find(key);
  return found == impl_->held.end() ? 0 : found->second;
}

}  // namespace tunneld::access
