#include "tunnelctl/client/network_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

namespace tunnelctl::client {
namespace {

constexpr unsigned kGroups =
    RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;

int open_socket() {
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) return -1;
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kGroups;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

/// Takes everything that has come. True: something changed. A socket whose buffer ran over (ENOBUFS) has lost
/// the news of changes, so there were some.
bool take_all(int fd) {
  bool changed = false;
  alignas(nlmsghdr) std::array<char, 32 * 1024> buffer;
  for (;;) {
    sockaddr_nl from{};
    socklen_t length = sizeof from;
    const auto got =
        ::recvfrom(fd, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
    if (got >= 0) {
      // Other processes can send here too; only the kernel, number 0, tells of the network.
      changed = changed || from.nl_pid == 0;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != ENOBUFS) return changed;
    changed = true;
  }
}

}  // namespace

struct NetworkWatch::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& io, std::function<void()> listener_in, std::chrono::milliseconds quiet_in)
      : listener(std::move(listener_in)), quiet(quiet_in), socket(io), timer(io) {
    if (const int fd = open_socket(); fd >= 0) socket.assign(fd);
  }

  void wait() {
    socket.async_wait(socket.wait_read, [self = shared_from_this()](const boost::system::error_code& error) {
      if (error || !self->listener) return;
      if (take_all(self->socket.native_handle())) self->changed();
      self->wait();
    });
  }

  void changed() {
    if (pending) return;
    pending = true;
    timer.expires_after(quiet);
    timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (error || !self->listener) return;
      self->pending = false;
      // A copy: the listener may end the watch.
      const auto tell = self->listener;
      tell();
    });
  }

  std::function<void()> listener;
  const std::chrono::milliseconds quiet;
  asio::posix::stream_descriptor socket;
  asio::steady_timer timer;
  bool pending = false;
};

NetworkWatch::NetworkWatch(asio::io_context& io, std::function<void()> listener,
                           std::chrono::milliseconds quiet)
    : impl_(std::make_shared<Impl>(io, std::move(listener), quiet)) {
  if (works()) impl_->wait();
}

NetworkWatch::~NetworkWatch() {
  impl_->listener = nullptr;
  impl_->timer.cancel();
  boost::system::error_code ignored;
  impl_->socket.close(ignored);
}

bool NetworkWatch::works() const {
  return impl_->socket.is_open();
}

bool has_address(const asio::ip::address& address) {
  asio::io_context io;
  asio::ip::udp::socket probe(io);
  boost::system::error_code error;
  probe.open(address.is_v6() ? asio::ip::udp::v6() : asio::ip::udp::v4(), error);
  if (!error) probe.bind({address, 0}, error);
  return error != boost::system::errc::address_not_available;
}

std::optional<asio::ip::address> lost_address(int socket) {
  asio::ip::tcp::endpoint endpoint;
  auto size = static_cast<socklen_t>(endpoint.capacity());
  if (socket < 0 || ::getsockname(socket, endpoint.data(), &size) != 0) return std::nullopt;
  endpoint.resize(size);
  if (has_address(endpoint.address())) return std::nullopt;
  return endpoint.address();
}

}  // namespace tunnelctl::client
