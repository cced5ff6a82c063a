#pragma once

#include <cstdint>
#include <functional>

#include "endpoint.h"
#include "loop.h"

namespace bench {

/// Listens on 127.0.0.1 (or everywhere) and hands out accepted, non-blocking, TCP_NODELAY connections.
class Acceptor final : public Watched {
 public:
  /// `port` 0 lets the kernel choose. The taker owns the descriptor.
  Acceptor(Loop& loop, std::uint16_t port, std::function<void(int fd)> take, Reach reach = Reach::loopback);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;
  std::uint16_t port() const;

 private:
  void ready(std::uint32_t events) override;

  Loop& loop_;
  int fd_;
  std::function<void(int)> take_;
};

}  // namespace bench
