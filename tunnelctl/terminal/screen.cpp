#include "tunnelctl/terminal/screen.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>

namespace tunnelctl::terminal {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l";
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";

termios before{};
std::atomic<bool> entered = false;
std::atomic<bool> raw = false;

void put(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // a terminal that is gone
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

/// A file descriptor that a stop makes readable.
class Wakeup {
 public:
  explicit Wakeup(const std::stop_token& stop) : on_stop_(stop, Wake{event_.fd}) {}
  int fd() const { return event_.fd; }

 private:
  struct Event {
    int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    Event() = default;
    ~Event() {
      if (fd >= 0) ::close(fd);
    }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
  };
  struct Wake {
    int fd;
    void operator()() const noexcept {
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
    }
  };
  Event event_;  // closed after the callback has gone
  std::stop_callback<Wake> on_stop_;
};

/// Whether `input` (-1: none) became readable before the time was over or a stop came.
bool readable(int input, std::chrono::milliseconds within, const std::stop_token& stop) {
  using Clock = std::chrono::steady_clock;
  const Wakeup wakeup(stop);
  const auto until = Clock::now() + within;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd watched[] = {{wakeup.fd(), POLLIN, 0}, {input, POLLIN, 0}};
    const int ready = ::poll(watched, 2, static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000)));
    if (stop.stop_requested()) return false;
    if (ready > 0 && watched[1].revents != 0) return true;
    if (Clock::now() >= until) return false;
  }
}

}  // namespace

Screen::Screen() {
  keys_ = ::tcgetattr(STDIN_FILENO, &before) == 0;
  if (keys_) {
    termios changed = before;
    changed.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    changed.c_cc[VSUSP] = _POSIX_VDISABLE;  // stopped, the alternate screen would stay
    changed.c_cc[VMIN] = 0;
    changed.c_cc[VTIME] = 0;
    raw = true;  // first: better put back twice than not
    ::tcsetattr(STDIN_FILENO, TCSANOW, &changed);
  }
  entered = true;
  put(kEnter);
}

Screen::~Screen() {
  restore_screen();
}

void restore_screen() noexcept {
  if (entered.exchange(false)) put(kLeave);
  if (raw.exchange(false)) ::tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

Screen::Size Screen::size() const {
  winsize told{};
  Size result;
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &told) == 0 && told.ws_row > 0 && told.ws_col > 0)
    result = {told.ws_row, told.ws_col};
  return result;
}

void Screen::draw(const std::vector<std::string>& lines) const {
  const Size fits = size();
  std::string text = "\x1b[H";
  for (std::size_t i = 0; i < lines.size() && i < fits.rows; ++i) {
    if (i > 0) text += "\r\n";
    text += cut(lines[i], fits.columns) + "\x1b[K";
  }
  put(text + "\x1b[J");
}

std::optional<char> Screen::key(std::chrono::milliseconds within, const std::stop_token& stop) const {
  if (!readable(keys_ ? STDIN_FILENO : -1, within, stop)) return std::nullopt;
  char key = 0;
  if (::read(STDIN_FILENO, &key, 1) == 1) return key;
  // Ctrl-C throws typed keys away before its signal is here: that is no key, and no end.
  pollfd input{STDIN_FILENO, POLLIN, 0};
  ::poll(&input, 1, 0);
  if ((input.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0) return '\0';
  // The terminal is gone; as if the person had left, too.
  return 'q';
}

bool pause(std::chrono::milliseconds time, const std::stop_token& stop) {
  readable(-1, time, stop);
  return !stop.stop_requested();
}

std::string cut(std::string_view text, std::size_t columns) {
  std::string result;
  std::size_t used = 0;
  bool coloured = false;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with("\x1b[")) {
      const std::size_t end = text.find('m', at);
      if (end == std::string_view::npos) break;
      result += text.substr(at, end + 1 - at);
      coloured = true;
      at = end + 1;
      continue;
    }
    // A character of UTF-8 with all of its bytes.
    std::size_t next = at + 1;
    while (next < text.size() && (static_cast<unsigned char>(text[next]) & 0xC0U) == 0x80U) ++next;
    if (used == columns) {
      if (coloured) result += "\x1b[0m";
      return result;
    }
    ++used;
    result += text.substr(at, next - at);
    at = next;
  }
  return result;
}

}  // namespace tunnelctl::terminal
