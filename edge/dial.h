#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/result.h"

namespace edge {

namespace asio = boost::asio;

/// The addresses of a name, or of an address written out, in the order to try them: RFC 6724's, the families
/// by turns (RFC 8305). Fails with not_found or unavailable (no name server answers), timed_out, cancelled.
/// Asked in a thread of its own that nobody waits for: a name server that is silent holds up nothing.
asio::awaitable<Result<std::vector<asio::ip::tcp::endpoint>>> look_up(
    std::string host, std::uint16_t port, std::chrono::steady_clock::time_point deadline);

struct Unreached {
  const char* cause = "unreachable";  // refused, unreachable, timed_out, cancelled
  std::string message;                // what each address said
};

/// The first connection that is made. Each address is tried 250 ms after the one before it, or when that has
/// failed (RFC 8305 5).
asio::awaitable<tl::expected<asio::ip::tcp::socket, Unreached>> connect_any(
    asio::io_context& io, std::vector<asio::ip::tcp::endpoint> endpoints,
    std::chrono::steady_clock::time_point deadline);

}  // namespace edge
