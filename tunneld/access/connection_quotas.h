#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tunnel/principal.h"

namespace tunneld::access {

/// How many connections (WebSockets and upgraded requests) each principal holds, over all threads. A
/// place is reserved before the 101 and given back by its owner's end, whichever way that comes.
/// Thread-safe; holds an entry only for principals that hold a place. Outlives every Place.
class ConnectionQuotas {
 public:
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept;
    Place& operator=(Place&& other) noexcept;
    ~Place();
    explicit operator bool() const { return quotas_ != nullptr; }

   private:
    friend class ConnectionQuotas;
    Place(ConnectionQuotas* quotas, std::string key) : quotas_(quotas), key_(std::move(key)) {}
    ConnectionQuotas* quotas_ = nullptr;
    std::string key_;
  };

  ConnectionQuotas();
  ~ConnectionQuotas();
  /// An empty Place when `key` holds `limit` already.
  Place reserve(std::string_view key, std::size_t limit);
  std::size_t held(std::string_view key) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::access
