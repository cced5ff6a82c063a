#include "loop.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <unistd.h>

namespace bench {
namespace {

void control(int epoll, int operation, int fd, std::uint32_t events, Watched* watched) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = watched;
  if (::epoll_ctl(epoll, operation, fd, &event) != 0)
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
}

}  // namespace

Loop::Loop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), events_(256) {
  if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
}

Loop::~Loop() {
  ::close(epoll_);
}

void Loop::add(int fd, std::uint32_t events, Watched& watched) {
  control(epoll_, EPOLL_CTL_ADD, fd, events, &watched);
}

void Loop::change(int fd, std::uint32_t events, Watched& watched) {
  control(epoll_, EPOLL_CTL_MOD, fd, events, &watched);
}

void Loop::remove(int fd, Watched& watched) {
  control(epoll_, EPOLL_CTL_DEL, fd, 0, nullptr);
  for (std::size_t i = next_; i < pending_; ++i)
    if (events_[i].data.ptr == &watched) events_[i].data.ptr = nullptr;
  std::erase(again_, &watched);
  std::replace(again_now_.begin(), again_now_.end(), &watched, static_cast<Watched*>(nullptr));
}

void Loop::again(Watched& watched) {
  if (std::find(again_.begin(), again_.end(), &watched) == again_.end()) again_.push_back(&watched);
}

void Loop::turn(Clock::time_point deadline) {
  // To the nanosecond: a request that is due counts as late from then on.
  timespec wait{0, 0};
  if (again_.empty()) {
    const auto left = std::clamp<Clock::duration>(deadline - Clock::now(), {}, std::chrono::seconds(60));
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    wait = {seconds.count(), std::chrono::nanoseconds(left - seconds).count()};
  }
  const int got = ::epoll_pwait2(epoll_, events_.data(), static_cast<int>(events_.size()), &wait, nullptr);
  if (got < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "epoll_pwait2");
  pending_ = got < 0 ? 0 : static_cast<std::size_t>(got);
  for (next_ = 0; next_ < pending_;) {
    const epoll_event event = events_[next_++];
    if (event.data.ptr) static_cast<Watched*>(event.data.ptr)->ready(event.events);
  }
  pending_ = next_ = 0;
  again_now_.swap(again_);
  for (std::size_t i = 0; i < again_now_.size(); ++i)
    if (Watched* watched = again_now_[i]) watched->ready(EPOLLIN);
  again_now_.clear();
}

}  // namespace bench
