#include "tunnelctl/mcp/lines.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace tunnelctl::mcp {

Lines::Lines(int file, std::size_t longest, std::stop_token stop)
    : file_(file),
      longest_(longest),
      stop_(std::move(stop)),
      woken_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      on_stop_(stop_, [this] { wake(); }) {}

void Lines::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(woken_.get(), &one, sizeof one);
}

Lines::Read Lines::more() {
  for (;;) {
    std::array<pollfd, 2> waits{pollfd{.fd = file_, .events = POLLIN, .revents = 0},
                                pollfd{.fd = woken_.get(), .events = POLLIN, .revents = 0}};
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return Read::end;
    if (stop_.stop_requested()) return Read::stopped;
    if (waits[0].revents == 0) continue;
    std::array<char, 64 * 1024> buffer;
    const auto count = ::read(file_, buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return Read::end;
    pending_.append(buffer.data(), static_cast<std::size_t>(count));
    return Read::some;
  }
}

Lines::Got Lines::next(std::string& line) {
  for (;;) {
    if (stop_.stop_requested()) return Got::stopped;
    const auto end = pending_.find('\n', searched_);
    if (end != std::string::npos || (ended_ && !pending_.empty())) {
      const auto length = std::min(end, pending_.size());
      const bool too_long = std::exchange(skipping_, false) || length > longest_;
      line.assign(pending_, 0, too_long ? 0 : length);
      pending_.erase(0, length + 1);
      searched_ = 0;
      if (too_long) return Got::too_long;
      if (line.ends_with('\r')) line.pop_back();
      return Got::line;
    }
    if (ended_) return std::exchange(skipping_, false) ? Got::too_long : Got::end;
    if (skipping_ || pending_.size() > longest_) {
      skipping_ = true;
      pending_.clear();
    }
    searched_ = pending_.size();
    const auto read = more();
    if (read == Read::stopped) return Got::stopped;
    ended_ = read == Read::end;
  }
}

}  // namespace tunnelctl::mcp
