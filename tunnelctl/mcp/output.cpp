#include "tunnelctl/mcp/output.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

namespace tunnelctl::mcp {

Output::Output(int file) : file_(file), woken_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Output::end_in(std::chrono::milliseconds time) {
  const auto end = (Clock::now() + time).time_since_epoch().count();
  auto known = end_.load();
  while (end < known && !end_.compare_exchange_weak(known, end)) {
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(woken_.get(), &one, sizeof one);
}

/// The descriptor is not made non-blocking, because other programs may have it, too.
Output::Room Output::wait_for_room() const {
  constexpr std::chrono::milliseconds kLook{20};  // an earlier end may be set meanwhile
  for (;;) {
    const auto end = end_.load();
    const bool ends = end != kNever;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(Clock::time_point(Clock::duration(end)) - Clock::now());
    const auto wait = std::clamp(left, std::chrono::milliseconds(0), kLook);
    std::array<pollfd, 2> waits{pollfd{.fd = file_, .events = POLLOUT, .revents = 0},
                                pollfd{.fd = woken_.get(), .events = POLLIN, .revents = 0}};
    const auto ready =
        ::poll(waits.data(), ends ? 1 : waits.size(), ends ? static_cast<int>(wait.count()) : -1);
    if (ready < 0 && errno != EINTR) return Room::gone;
    if (ready > 0 && waits[0].revents != 0) return Room::some;
    if (ends && left.count() <= 0) return Room::none;
  }
}

bool Output::write_all_of(std::string_view text) {
  while (!text.empty()) {
    const auto room = wait_for_room();
    read_ = read_ && room != Room::gone;
    if (room != Room::some) return false;
    // A pipe that can be written to at all takes that much without waiting.
    const auto written = ::write(file_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (written < 0) {
      read_ = false;
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

bool Output::write(std::string_view message) {
  if (!dropping_) dropping_ = !write_all_of(message) || !write_all_of("\n");
  return read_;
}

}  // namespace tunnelctl::mcp
