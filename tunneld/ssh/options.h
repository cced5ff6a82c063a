#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tunneld::ssh {

/// How every SSH session of this daemon behaves.
struct Options {
  /// One address's TCP connect. Past it the next address is tried.
  std::chrono::milliseconds connect_timeout{5000};
  /// From the banner to the end of authentication.
  std::chrono::milliseconds handshake_timeout{20000};
  /// Pause between keepalive@openssh.com requests; a missing answer counts after keepalive_reply.
  std::chrono::milliseconds keepalive{60000};
  std::chrono::milliseconds keepalive_reply{15000};
  /// Unanswered keepalives in a row after which the session is dead.
  unsigned keepalive_misses = 2;
  /// Channels on one session; libssh2's cost per packet is linear in them.
  unsigned max_channels = 10;
  /// Receive window of a new channel: what one stalled reader can make us hold at first.
  std::uint32_t initial_window = 256 * 1024;
  /// The window doubles up to this while its reader keeps up. Beyond 4 MiB sshd's CPU use explodes.
  std::uint32_t max_window = 2 * 1024 * 1024;
  /// All windows of a session together, shared out among its channels: what sshd queues for a session
  /// beyond a few MiB costs it twice the CPU per byte.
  std::uint32_t session_window = 4 * 1024 * 1024;
  /// Writers of a session wait above the high mark of unsent bytes and go on below the low one.
  std::size_t output_high_bytes = 256 * 1024;
  std::size_t output_low_bytes = 64 * 1024;
  /// The whole-packet AES-GCM of libssh2_engine.h; false goes back to the library's own.
  bool whole_packet_gcm = true;
  /// Opens of one session side by side; false makes each wait for the one before.
  bool concurrent_opens = true;
};

/// One far side to dial.
struct Endpoint {
  std::string name;                    // the upstream's name, for messages
  std::vector<std::string> addresses;  // "host:port" or "[v6]:port", tried in this order
  std::string user;
};

}  // namespace tunneld::ssh
