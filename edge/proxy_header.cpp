#include "edge/proxy_header.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace edge {

namespace {

namespace ip = boost::asio::ip;

constexpr std::string_view kSignature{"\r\n\r\n\0\r\nQUIT\n", 12};
constexpr unsigned kLocal = 0;
constexpr unsigned kProxy = 1;
constexpr unsigned kTcpOverIpv4 = 0x11;
constexpr unsigned kTcpOverIpv6 = 0x21;

unsigned at(std::span<const std::byte> bytes, std::size_t i) {
  return std::to_integer<unsigned>(bytes[i]);
}

/// What the addresses of that family take; nullopt for a family or transport that does not exist.
std::optional<std::size_t> address_bytes(unsigned family_and_transport) {
  const unsigned family = family_and_transport >> 4U;
  const unsigned transport = family_and_transport & 0x0FU;
  constexpr std::array<std::size_t, 4> kSizes{0, 12, 36, 216};  // UNSPEC, INET, INET6, UNIX
  if (family >= kSizes.size() || transport > 2) return std::nullopt;
  return kSizes[family];
}

ip::port_type port_at(std::span<const std::byte> bytes, std::size_t i) {
  return static_cast<ip::port_type>(at(bytes, i) << 8U | at(bytes, i + 1));
}

template <class Bytes>
Bytes copy_at(std::span<const std::byte> bytes, std::size_t i) {
  Bytes copied;
  std::memcpy(copied.data(), bytes.data() + i, copied.size());
  return copied;
}

}  // namespace

tl::expected<std::size_t, std::string_view> proxy_header_size(std::span<const std::byte> prologue) {
  if (prologue.size() < kProxyPrologueBytes) return tl::unexpected<std::string_view>("too short");
  if (std::memcmp(prologue.data(), kSignature.data(), kSignature.size()) != 0)
    return tl::unexpected<std::string_view>("no PROXY v2 signature");
  const unsigned version = at(prologue, 12) >> 4U;
  const unsigned command = at(prologue, 12) & 0x0FU;
  if (version != 2) return tl::unexpected<std::string_view>("unknown version");
  if (command > kProxy) return tl::unexpected<std::string_view>("unknown command");
  const std::size_t rest = at(prologue, 14) << 8U | at(prologue, 15);
  if (kProxyPrologueBytes + rest > kMaxProxyHeaderBytes) return tl::unexpected<std::string_view>("too long");
  // With LOCAL the family is to be ignored, whatever it is.
  if (command == kProxy) {
    const auto addresses = address_bytes(at(prologue, 13));
    if (!addresses) return tl::unexpected<std::string_view>("unknown address family");
    if (rest < *addresses) return tl::unexpected<std::string_view>("too short for its addresses");
  }
  return kProxyPrologueBytes + rest;
}

tl::expected<ProxyHeader, std::string_view> parse_proxy_header(std::span<const std::byte> header) {
  const auto size = proxy_header_size(header);
  if (!size) return tl::unexpected(size.error());
  if (header.size() != *size) return tl::unexpected<std::string_view>("not as long as it says");
  ProxyHeader parsed{*size, std::nullopt};
  if ((at(header, 12) & 0x0FU) == kLocal) return parsed;
  // Source address, destination address, source port, destination port.
  if (at(header, 13) == kTcpOverIpv4) {
    const auto address = copy_at<ip::address_v4::bytes_type>(header, 16);
    parsed.source.emplace(ip::address_v4(address), port_at(header, 24));
  } else if (at(header, 13) == kTcpOverIpv6) {
    const ip::address_v6 address(copy_at<ip::address_v6::bytes_type>(header, 16));
    const auto port = port_at(header, 48);
    if (address.is_v4_mapped())
      parsed.source.emplace(ip::make_address_v4(ip::v4_mapped, address), port);
    else
      parsed.source.emplace(address, port);
  }
  return parsed;
}

}  // namespace edge
