#include "acceptor.h"

#include <cerrno>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

Acceptor::Acceptor(Loop& loop, std::uint16_t port, std::function<void(int)> take, Reach reach)
    : loop_(loop), fd_(listen_tcp(port, reach)), take_(std::move(take)) {
  loop_.add(fd_, EPOLLIN, *this);
}

Acceptor::~Acceptor() {
  loop_.remove(fd_, *this);
  ::close(fd_);
}

std::uint16_t Acceptor::port() const {
  return local_port(fd_);
}

void Acceptor::ready(std::uint32_t) {
  for (;;) {
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;  // EAGAIN, or a connection that is gone already
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    take_(fd);
  }
}

}  // namespace bench
