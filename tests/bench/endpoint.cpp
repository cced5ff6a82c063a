#include "endpoint.h"

#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <system_error>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {
namespace {

[[noreturn]] void failed(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

sockaddr_in address_of(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  const std::string literal = host == "localhost" ? "127.0.0.1" : host;
  if (::inet_pton(AF_INET, literal.c_str(), &address.sin_addr) != 1)
    throw std::invalid_argument("not an IPv4 address: " + host);
  return address;
}

const sockaddr* as_sockaddr(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

Endpoint parse_endpoint(std::string_view text) {
  const auto bad = [text] {
    return std::invalid_argument("not an endpoint (tcp:HOST:PORT, ws://HOST:PORT/path, …): " +
                                 std::string(text));
  };
  Endpoint endpoint;
  const struct {
    std::string_view prefix;
    Endpoint::Kind kind;
    bool tls;
  } schemes[] = {{"tcp:", Endpoint::Kind::tcp, false},
                 {"ws://", Endpoint::Kind::websocket, false},
                 {"wss://", Endpoint::Kind::websocket, true},
                 {"http://", Endpoint::Kind::http, false},
                 {"https://", Endpoint::Kind::http, true}};
  std::string_view rest;
  for (const auto& scheme : schemes) {
    if (!text.starts_with(scheme.prefix)) continue;
    endpoint.kind = scheme.kind;
    endpoint.tls = scheme.tls;
    rest = text.substr(scheme.prefix.size());
  }
  const auto slash = rest.find('/');
  const auto authority = rest.substr(0, slash);
  if (slash != std::string_view::npos) endpoint.path = rest.substr(slash);
  const auto colon = authority.rfind(':');
  if (colon == std::string_view::npos || colon == 0) throw bad();
  endpoint.host = authority.substr(0, colon);
  const auto port = authority.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
  if (error != std::errc{} || end != port.data() + port.size() || endpoint.port == 0) throw bad();
  return endpoint;
}

int dial_tcp(const Endpoint& to) {
  const sockaddr_in address = address_of(to.host, to.port);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) failed("socket");
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd, as_sockaddr(address), sizeof address) != 0 && errno != EINPROGRESS) {
    const int error = errno;
    ::close(fd);
    errno = error;
    failed("connect");
  }
  return fd;
}

int listen_tcp(std::uint16_t port, Reach reach) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) failed("socket");
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address = address_of(reach == Reach::loopback ? "127.0.0.1" : "0.0.0.0", port);
  if (::bind(fd, as_sockaddr(address), sizeof address) != 0) failed("bind");
  if (::listen(fd, 4096) != 0) failed("listen");
  return fd;
}

std::uint16_t local_port(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) failed("getsockname");
  return ntohs(address.sin_port);
}

}  // namespace bench
