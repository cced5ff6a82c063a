#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace tunnel {

/// Whom limits by address hold responsible: an IPv4 address, or the /64 of an IPv6 one. An IPv4-mapped
/// IPv6 address is the IPv4 address.
class Address {
 public:
  /// Nullopt when it is no address: "192.0.2.1", "2001:db8::1", no brackets, no port, no zone.
  static std::optional<Address> parse(std::string_view text);
  friend bool operator==(const Address&, const Address&) = default;
  std::size_t hash() const;
  /// "192.0.2.1" or "2001:db8::/64".
  std::string text() const;

 private:
  std::uint64_t bits_ = 0;
  bool v6_ = false;
};

/// Networks whose members may say who the caller behind them is.
class TrustedProxies {
 public:
  /// Entries "10.0.0.0/8", "2001:db8::/32" or single addresses. Fails with bad_input naming the entry.
  static Result<TrustedProxies> parse(const std::vector<std::string>& networks);
  bool contains(std::string_view address) const;
  bool empty() const { return networks_.empty(); }

 private:
  struct Network {
    std::array<std::uint8_t, 16> bits{};  // IPv4 as ::ffff:a.b.c.d
    unsigned length = 0;
  };
  std::vector<Network> networks_;
};

/// The caller's address: the socket's peer, unless that is a trusted proxy; then the rightmost hop of
/// X-Forwarded-For (all of its lines, in order) that is no trusted proxy. Entries left of it are whatever
/// the caller wrote and are not believed. With nothing usable there, the peer.
std::string client_address(std::string_view peer, std::span<const std::string_view> forwarded_for,
                           const TrustedProxies& trusted);

}  // namespace tunnel

template <>
struct std::hash<tunnel::Address> {
  std::size_t operator()(const tunnel::Address& address) const { return address.hash(); }
};
