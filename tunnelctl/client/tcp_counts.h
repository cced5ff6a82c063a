#pragma once

#include <cstdint>
#include <optional>

namespace tunnelctl::client {

/// What the kernel counted for one TCP connection, in our direction.
struct TcpCounts {
  std::uint64_t bytes_sent = 0;  // those sent again included
  std::uint64_t bytes_sent_again = 0;
  double retransmit_ratio() const {
    return bytes_sent == 0 ? 0 : static_cast<double>(bytes_sent_again) / static_cast<double>(bytes_sent);
  }
};
/// nullopt where the kernel does not count (before Linux 4.19), or the socket is none.
std::optional<TcpCounts> tcp_counts(int socket);

}  // namespace tunnelctl::client
