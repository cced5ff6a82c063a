#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bench {

/// Where a stream goes. Written `tcp:HOST:PORT`, `ws://HOST:PORT/path`, `wss://…`, `http://…` or
/// `https://…`; HOST is an IPv4 literal or `localhost` (everything measured here is on loopback).
struct Endpoint {
  enum class Kind { tcp, websocket, http };
  Kind kind = Kind::tcp;
  bool tls = false;
  std::string host;
  std::uint16_t port = 0;
  std::string path = "/";
};

/// Throws std::invalid_argument naming the text.
Endpoint parse_endpoint(std::string_view text);

/// What a client shows and whom it trusts.
struct Credentials {
  std::string token;    ///< bearer token; empty: no Authorization header
  std::string ca_file;  ///< PEM; empty: the system's store
  bool resume = true;   ///< TLS session resumption, as browsers and tunnel clients do
};

/// Connected, non-blocking, TCP_NODELAY. The connect may still be under way. Throws on failure.
int dial_tcp(const Endpoint& to);

/// Who may come: `everywhere` is for a network namespace with a path of its own (bench_delay).
enum class Reach { loopback, everywhere };
/// Listens on 127.0.0.1, or on every address; 0 lets the kernel choose.
int listen_tcp(std::uint16_t port, Reach reach = Reach::loopback);
std::uint16_t local_port(int fd);

}  // namespace bench
