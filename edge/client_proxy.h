#pragma once

#include <optional>
#include <string>

#include "common/http_client.h"
#include "common/http_url.h"
#include "common/secret.h"
#include "edge/transport.h"

namespace edge {

/// A proxy that connects to servers for us.
struct Proxy {
  enum class Kind { http, socks5 };
  Kind kind = Kind::http;
  std::string host;  // without brackets
  std::uint16_t port = 1080;
  bool authenticates = false;
  std::string user{};
  Secret password{};

  /// "http://proxy.example:3128": never with user and password.
  std::string shown() const;
};

/// "http://[user:password@]host[:port]", or socks5 and socks5h; without scheme it is http, and without port
/// 1080, as for libcurl. User and password are percent-decoded. Fails with bad_input, not quoting the URL.
Result<Proxy> parse_proxy(std::string_view url);

/// The proxy that leads to `target`, if any: none to loopback, nor to what `none_for` lists.
Result<std::optional<Proxy>> choose_proxy(const http::Proxies& proxies, const http::Url& target);

struct ProxyRefusal {
  const char* cause = "proxy_refused";  // or proxy_authentication, timed_out, cancelled
  std::string message;
  unsigned status = 0;  // of an HTTP proxy's answer
};

/// Has the proxy at the other end of `transport` connect to `target`, whose name it resolves: HTTP CONNECT
/// (RFC 9110 9.3.6) or SOCKS5 (RFC 1928, passwords RFC 1929). Takes no byte of what follows.
asio::awaitable<tl::expected<void, ProxyRefusal>> pass_proxy(Transport& transport, const Proxy& proxy,
                                                             const http::Url& target,
                                                             Transport::Clock::time_point deadline);

}  // namespace edge
