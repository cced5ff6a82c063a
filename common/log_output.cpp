#include "common/log_output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>

namespace logging {
namespace {

std::string reason(int code) {
  return std::generic_category().message(code);
}

}  // namespace

Output::~Output() {
  if (file_ >= 0 && !standard()) ::close(file_);
}

Result<int> Output::open_file() const {
  // O_NONBLOCK matters only to FIFOs and devices: opening and writing them must not hang.
  const int file =
      ::open(name_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
  if (file < 0) {
    const auto kind =
        errno == EACCES || errno == EPERM || errno == EROFS ? Error::Kind::denied : Error::Kind::bad_input;
    return fail(kind, "log file " + name_ + ": cannot be opened: " + reason(errno) +
                          "; create its folder and make it writable, or choose another log output");
  }
  return file;
}

Result<void> Output::open() {
  if (name_ == "stdout") {
    file_ = STDOUT_FILENO;
  } else if (name_ == "stderr") {
    file_ = STDERR_FILENO;
  } else {
    auto opened = open_file();
    if (!opened) return tl::unexpected(opened.error());
    file_ = *opened;
  }
  struct stat status {};
  regular_ = ::fstat(file_, &status) == 0 && S_ISREG(status.st_mode);
  return {};
}

void Output::reopen() {
  if (standard()) return;
  const int old = file_;
  if (auto opened = open(); !opened) {
    say(opened.error().message + "; still writing to the file opened before");
    return;
  }
  ::close(old);
  torn_ = false;
}

bool Output::is_terminal() const {
  return ::isatty(file_) == 1;
}

/// 0, or the error. Standard output may be a blocking pipe shared with others, which we must not
/// make non-blocking; instead, wait until it takes bytes and give it no more than it surely takes.
int Output::wait_until_writable() const {
  using namespace std::chrono;
  constexpr milliseconds kStep{50};  // how late a `give_up_at` from another thread may be seen
  for (;;) {
    pollfd waiting{file_, POLLOUT, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(kStep.count()));
    if (ready > 0) return 0;  // errors are told by the write that follows
    if (ready < 0 && errno != EINTR) return errno;
    if (steady_clock::now().time_since_epoch().count() >= give_up_.load(std::memory_order_relaxed)) {
      return ETIMEDOUT;
    }
  }
}

int Output::write_all(std::string_view bytes, std::size_t& written) {
  while (written < bytes.size()) {
    std::size_t part = bytes.size() - written;
    if (!regular_) {
      if (const int error = wait_until_writable(); error != 0) return error;
      part = std::min<std::size_t>(part, PIPE_BUF);
    }
    const ssize_t count = ::write(file_, bytes.data() + written, part);
    if (count > 0) {
      written += static_cast<std::size_t>(count);
    } else if (count == 0) {
      return EIO;
    } else if (errno != EINTR && errno != EAGAIN) {
      return errno;
    }
  }
  return 0;
}

void Output::write(std::string_view lines, std::uint64_t records) {
  std::size_t written = 0;
  int error = 0;
  if (torn_) {
    error = write_all("\n", written);
    torn_ = error != 0;
    written = 0;
  }
  if (error == 0) error = write_all(lines, written);
  if (error == 0) {
    if (failing_) {
      say("log " + name_ + ": writing works again; " + std::to_string(lost() - lost_when_it_began_) +
          " records were lost");
    }
    failing_ = false;
    return;
  }
  const auto done = lines.substr(0, written);
  torn_ = torn_ || (written > 0 && !done.ends_with('\n'));
  const auto whole = static_cast<std::uint64_t>(std::count(done.begin(), done.end(), '\n'));
  if (!failing_) {
    failing_ = true;
    lost_when_it_began_ = lost();
    say("log " + name_ + ": cannot be written: " + reason(error) +
        "; records are lost until it can (this is said once)");
  }
  lost_.fetch_add(records - std::min(whole, records), std::memory_order_relaxed);
}

void Output::say(const std::string& text) const {
  if (name_ == "stderr") return;  // it is what fails
  const std::string line = text + "\n";
  // Nothing is left to tell when stderr fails too.
  [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace logging
