#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>
#include <tl/expected.hpp>

namespace edge {

/// PROXY protocol v2: what a proxy says of a connection, in binary, before the first byte of its caller.
/// Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, 2.2.

/// Up to where the header says how long it is.
inline constexpr std::size_t kProxyPrologueBytes = 16;
/// The most a sender may rely on (ibid. 2.2): any address, and type-length-values of moderate size.
inline constexpr std::size_t kMaxProxyHeaderBytes = 536;

struct ProxyHeader {
  std::size_t bytes = 0;  // the whole header: what follows is the caller's
  /// The caller. None when the proxy speaks for itself (LOCAL, e.g. its health checks) or names something
  /// else than a TCP connection over IP: the socket's peer stands then. IPv4-mapped addresses are IPv4.
  std::optional<boost::asio::ip::tcp::endpoint> source;
};

/// How long the whole header is, from its first kProxyPrologueBytes. Fails, in words for the log, when
/// they begin no header of version 2, or one that is too long or whose addresses do not fit into it.
tl::expected<std::size_t, std::string_view> proxy_header_size(std::span<const std::byte> prologue);

/// Reads a whole header; `header` is exactly as long as proxy_header_size() says. Fails as that does.
/// Type-length-values are passed over: nothing here depends on them.
tl::expected<ProxyHeader, std::string_view> parse_proxy_header(std::span<const std::byte> header);

}  // namespace edge
