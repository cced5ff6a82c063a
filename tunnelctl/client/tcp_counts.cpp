#include "tunnelctl/client/tcp_counts.h"

#include <array>
#include <cstddef>
#include <cstring>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace tunnelctl::client {
namespace {

/// Where the kernel's tcp_info (linux/tcp.h, whose layout is fixed) has tcpi_bytes_sent and
/// tcpi_bytes_retrans: the C library's, which excludes that header, ends before them.
constexpr std::size_t kBytesSentAt = 200;
constexpr std::size_t kBytesSentAgainAt = 208;

std::uint64_t number_at(const std::array<std::byte, 512>& info, std::size_t at) {
  std::uint64_t number = 0;
  std::memcpy(&number, info.data() + at, sizeof number);
  return number;
}

}  // namespace

std::optional<TcpCounts> tcp_counts(int socket) {
  std::array<std::byte, 512> info{};
  socklen_t size = info.size();
  if (socket < 0 || ::getsockopt(socket, IPPROTO_TCP, TCP_INFO, info.data(), &size) != 0) return std::nullopt;
  if (size < kBytesSentAgainAt + sizeof(std::uint64_t)) return std::nullopt;
  return TcpCounts{number_at(info, kBytesSentAt), number_at(info, kBytesSentAgainAt)};
}

}  // namespace tunnelctl::client
