#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include <sys/epoll.h>

namespace bench {

using Clock = std::chrono::steady_clock;

/// Something with a file descriptor in a Loop.
class Watched {
 public:
  virtual void ready(std::uint32_t events) = 0;

 protected:
  ~Watched() = default;
};

/// A level-triggered epoll loop for one thread. Plain epoll instead of Asio, because the measuring
/// tool shares two cores with what it measures: each microsecond it saves is one less in the figures.
class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void add(int fd, std::uint32_t events, Watched& watched);
  void change(int fd, std::uint32_t events, Watched& watched);
  /// Also forgets events of this round that `watched` has not seen yet: it may be destroyed at once.
  void remove(int fd, Watched& watched);

  /// Calls `watched.ready(EPOLLIN)` in the next round though its descriptor may be silent: TLS may
  /// hold bytes that epoll knows nothing of.
  void again(Watched& watched);

  /// Waits once, at most until `deadline`, and hands out what happened.
  void turn(Clock::time_point deadline);

 private:
  int epoll_;
  std::vector<epoll_event> events_;
  std::size_t pending_ = 0;  // events_[next_, pending_) are not handed out yet
  std::size_t next_ = 0;
  std::vector<Watched*> again_;
  std::vector<Watched*> again_now_;
};

}  // namespace bench
