#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>

namespace tunnelctl::client {

namespace asio = boost::asio;

/// Tells when an address, a route or a link of this machine changed: the moment to try a lost connection
/// again. rtnetlink(7), groups RTMGRP_LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_ROUTE and IPV6_ROUTE, in this
/// network namespace. Changes that come together (a Wi-Fi that associates makes dozens) are told once,
/// `quiet` after the first of them.
///
/// Threads: the context's one. The listener is called from the event loop, never from within a call of ours,
/// and not after the watch has gone away.
class NetworkWatch {
 public:
  NetworkWatch(asio::io_context& io, std::function<void()> listener,
               std::chrono::milliseconds quiet = std::chrono::milliseconds(100));
  ~NetworkWatch();
  NetworkWatch(const NetworkWatch&) = delete;
  NetworkWatch& operator=(const NetworkWatch&) = delete;

  /// False where the kernel gives no such socket (a sandbox): nothing is ever told then, and the backoff's
  /// quick tries have to do.
  bool works() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// Whether this machine still has that address: connections from one that is gone are dead, though nobody
/// tells them.
bool has_address(const asio::ip::address& address);
/// The address from which this socket speaks, if this machine no longer has it.
std::optional<asio::ip::address> lost_address(int socket);

}  // namespace tunnelctl::client
