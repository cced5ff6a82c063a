#pragma once

#include <cstdint>
#include <string>

#include "tunnelctl/client/local_streams.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// How a copy ended.
struct CopyEnd {
  bool clean = true;  // both directions came to their ends
  /// Of the first that broke, and whether that was the service's stream or the local one.
  Error error{};
  bool service_broke = false;
  std::uint64_t to_service_bytes = 0;
  std::uint64_t from_service_bytes = 0;
};

enum class Until {
  both_ended,    // half-close is kept: the end of one direction is passed on and the other goes on
  service_ended  // the service's end is the end, whatever may still come from this side
};

/// Copies both ways with buffers that grow to 128 KiB under load. Closes both streams at its end, at once
/// when one of them breaks: when it was the service's, the local one is reset.
asio::awaitable<CopyEnd> copy_both_ways(LocalStream& local, tunnel::ByteStream& service, Until until);

}  // namespace tunnelctl::client
