#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <openssl/ssl.h>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "common/http_client.h"
#include "common/secret.h"
#include "edge/options.h"
#include "tunnel/http_exchange.h"

namespace edge {

namespace asio = boost::asio;

/// Where a connection attempt ended, so that a person can be told the cause and the next step.
enum class ConnectStep { address, proxy, dns, tcp, tls, upgrade, done };

struct ConnectFailure {
  ConnectStep step = ConnectStep::dns;
  /// What it is, for programs: dns_failed, refused, unreachable, timed_out, proxy_refused,
  /// proxy_authentication, broken (the connection, while it was being made), tls_failed,
  /// certificate_untrusted, certificate_name, certificate_time, not_http, captive_portal (a redirect or a web
  /// page where a 101 was due), upgrade_stripped (a proxy removed Upgrade: 200, 400 or 426 without our error
  /// body), not_websocket (a 101 that breaks RFC 6455 or chose no subprotocol of ours), refused_by_server
  /// (our error body, or another status), bad_address (the URL or the token cannot be used), cancelled.
  std::string cause;
  std::string message;     // names host, address and what was seen; one line
  unsigned status = 0;     // of the HTTP answer, if there was one
  std::string error_code;  // TUNNEL_0NN of our error body
  std::optional<std::chrono::milliseconds> retry_after{};
};

/// How to reach a server; the same for every attempt.
struct ClientTarget {
  std::string url;  // wss://host[:port]/path, or ws:// to loopback (or with allow_plain)
  http::TlsFiles tls{};
  bool allow_plain = false;
  std::optional<http::Proxies>
      proxies{};  // HTTP CONNECT (http://, https:// proxies) and socks5://; unset: the environment's
  std::chrono::milliseconds timeout{20'000};  // all of it, to the 101
};

struct ClientRequest {
  Secret bearer{};
  std::vector<std::string> subprotocols{};
  std::vector<tunnel::Header> fields{};
  bool empty_message_ends = false;  // as in tunnel::WebSocketAccept
  bool control_messages = false;
};

/// What happened on the way, for `tunnelctl diagnose` and the log.
struct ConnectReport {
  std::string address;  // "192.0.2.1:443" that answered
  std::string proxy;    // empty for none; without credentials
  std::string tls_version, certificate_subject, certificate_issuer;
  std::chrono::system_clock::time_point certificate_ends{};
  std::chrono::steady_clock::duration dns{}, tcp{}, tls{}, upgrade{};
  std::optional<std::chrono::system_clock::time_point> server_date{};  // its Date field, for clock skew
  std::vector<tunnel::Header> answer_fields;
  int socket = -1;  // of the connection, for TCP_INFO; not to be closed
};

/// Opens a WebSocket as a client (RFC 6455): name look-up with the addresses tried in turn (RFC 8305
/// staggered by 250 ms), proxy, TLS 1.2 or newer with SNI and verified name, upgrade, Sec-WebSocket-Accept
/// checked. The stream masks what it sends, answers pings, pings every `options.ping_after` ± 10 % whether or
/// not bytes come, and counts the server dead after `options.dead_after` of silence. With
/// `options.compression` it offers permessage-deflate, and does without where the server does. Files of
/// `target.tls` are read each time: certificates are renewed under a running program. Threads: all on `io`'s
/// one.
asio::awaitable<tl::expected<std::unique_ptr<tunnel::WebSocketStream>, ConnectFailure>> connect_websocket(
    asio::io_context& io, const ClientTarget& target, const ClientRequest& request, const Options& options,
    ConnectReport* report = nullptr);

}  // namespace edge
