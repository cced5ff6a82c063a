#include "tunneld/events/event_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace tunneld::events {
namespace {

constexpr const char* kCurrent = "events.jsonl";
constexpr const char* kOld = "events.old.jsonl";
constexpr std::size_t kPiece = 64 * 1024;  // longer than any line

tl::unexpected<Error> failed(const std::filesystem::path& path, std::string_view what, int code) {
  const auto kind =
      code == EACCES || code == EPERM || code == EROFS ? Error::Kind::denied : Error::Kind::unavailable;
  return fail(kind, "event log " + path.string() + " cannot be " + std::string(what) + ": " +
                        std::generic_category().message(code));
}

class File {
 public:
  explicit File(const std::filesystem::path& path)
      : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {
    struct stat about {};
    if (file_ >= 0 && ::fstat(file_, &about) == 0 && S_ISREG(about.st_mode))
      size_ = static_cast<std::size_t>(about.st_size);
  }
  ~File() {
    if (file_ >= 0) ::close(file_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::size_t size() const { return size_; }

  /// At most `into.size()` bytes; short at the end of the file and when it cannot be read.
  std::string_view read(std::size_t offset, std::span<char> into) const {
    std::size_t got = 0;
    while (got < into.size() && offset + got < size_) {
      const auto want = std::min(into.size() - got, size_ - offset - got);
      const ssize_t count = ::pread(file_, into.data() + got, want, static_cast<off_t>(offset + got));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      got += static_cast<std::size_t>(count);
    }
    return {into.data(), got};
  }

  /// Calls `line` with each whole line from `offset` on and the offset of its end, until it returns false.
  void lines(std::size_t offset, const std::function<bool(std::string_view, std::size_t)>& line) const {
    std::vector<char> buffer(kPiece);
    for (;;) {
      auto text = read(offset, buffer);
      const std::size_t start = offset;
      for (auto end = text.find('\n'); end != text.npos; end = text.find('\n')) {
        offset += end + 1;
        if (!line(text.substr(0, end), offset)) return;
        text.remove_prefix(end + 1);
      }
      if (offset > start) continue;
      if (text.size() < buffer.size()) return;
      offset += text.size();  // no line of ours is so long
    }
  }

  /// An offset at or before the first line with a number above `after`. Numbers grow within a file.
  std::size_t seek(std::uint64_t after) const {
    std::size_t low = 0;
    std::size_t high = size_;
    std::vector<char> buffer(kPiece);
    while (high - low > 2 * kPiece) {
      const std::size_t middle = low + (high - low) / 2;
      auto text = read(middle, buffer);
      std::uint64_t id = 0;
      std::size_t at = middle;
      // The rest of a line first, then those that say a number.
      for (auto end = text.find('\n'); id == 0 && end != text.npos; end = text.find('\n')) {
        text.remove_prefix(end + 1);
        at += end + 1;
        id = id_of(text);
      }
      if (id == 0 || id > after) {
        high = middle;
      } else {
        low = at;
      }
    }
    return low;
  }

 private:
  int file_;
  std::size_t size_ = 0;
};

}  // namespace

std::uint64_t id_of(std::string_view line) {
  constexpr std::string_view kStart = "{\"id\":";
  constexpr std::string_view kBehind = ",\"kind\":\"";
  if (!line.starts_with(kStart)) return 0;
  line.remove_prefix(kStart.size());
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), id);
  if (error != std::errc{}) return 0;
  return line.substr(static_cast<std::size_t>(end - line.data())).starts_with(kBehind) ? id : 0;
}

EventFiles::~EventFiles() {
  if (file_ >= 0) ::close(file_);
}

Result<void> EventFiles::open() {
  if (directory_.empty()) return fail(Error::Kind::bad_input, "the directory of the event log is not given");
  std::error_code error;
  std::filesystem::create_directories(directory_.parent_path(), error);
  if (::mkdir(directory_.c_str(), 0750) == 0) {
    ::chmod(directory_.c_str(), 0750);  // whatever the umask
  } else if (errno != EEXIST) {
    return failed(directory_, "made", errno);
  }
  struct stat about {};
  if (::stat(directory_.c_str(), &about) != 0) return failed(directory_, "looked at", errno);
  if (!S_ISDIR(about.st_mode))
    return fail(Error::Kind::bad_input, "event log " + directory_.string() + " is not a directory");

  std::size_t good = 0;
  for (const auto& [name, first] : {std::pair{kOld, &first_old_}, std::pair{kCurrent, &first_}}) {
    good = 0;
    File(directory_ / name).lines(0, [&, first = first](std::string_view line, std::size_t end) {
      good = end;
      const auto id = id_of(line);
      if (id > 0 && *first == 0) *first = id;
      last_ = std::max(last_, id);
      return true;
    });
  }
  auto begun = begin();
  if (!begun) return begun.error().kind == Error::Kind::unavailable ? Result<void>() : begun;
  // Behind the last line feed lies what a power cut left of a line.
  if (good < size_) torn_ = true;
  size_ = good;
  return {};
}

Result<void> EventFiles::begin() {
  const auto path = directory_ / kCurrent;
  file_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
  if (file_ < 0) return failed(path, "opened", errno);
  struct stat about {};
  if (::fchmod(file_, 0640) != 0 || ::fstat(file_, &about) != 0) return failed(path, "looked at", errno);
  if (!S_ISREG(about.st_mode))
    return fail(Error::Kind::bad_input, "event log " + path.string() + " is not a file");
  size_ = static_cast<std::size_t>(about.st_size);
  return {};
}

Result<void> EventFiles::turn_over() {
  if (auto synced = sync(); !synced) return synced;
  const std::lock_guard lock(mutex_);
  const auto path = directory_ / kCurrent;
  if (::rename(path.c_str(), (directory_ / kOld).c_str()) != 0) return failed(path, "renamed", errno);
  ::close(std::exchange(file_, -1));
  first_old_ = std::exchange(first_, 0);
  size_ = 0;
  return {};
}

Result<void> EventFiles::write(std::uint64_t id, std::string_view line) {
  if (file_ >= 0 && size_ > 0 && size_ + line.size() > half_) {
    if (auto turned = turn_over(); !turned) return turned;
  }
  if (file_ < 0) {
    if (auto begun = begin(); !begun) return begun;
  }
  const auto path = directory_ / kCurrent;
  if (torn_ && ::ftruncate(file_, static_cast<off_t>(size_)) != 0) return failed(path, "cut", errno);
  torn_ = false;
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t count = ::write(file_, line.data() + at, line.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int code = count < 0 ? errno : ENOSPC;
      torn_ = at > 0 && ::ftruncate(file_, static_cast<off_t>(size_)) != 0;
      return failed(path, "written", code);
    }
    at += static_cast<std::size_t>(count);
  }
  size_ += line.size();
  const std::lock_guard lock(mutex_);
  if (first_ == 0) first_ = id;
  last_ = id;
  return {};
}

Result<void> EventFiles::sync() {
  if (file_ >= 0 && ::fdatasync(file_) != 0) return failed(directory_ / kCurrent, "synced", errno);
  return {};
}

std::uint64_t EventFiles::first() const {
  const std::lock_guard lock(mutex_);
  return first_old_ > 0 ? first_old_ : first_;
}

std::uint64_t EventFiles::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

void EventFiles::read(std::uint64_t after,
                      const std::function<bool(std::uint64_t id, std::string_view line)>& found) const {
  // Both at one time, or the turn-over between would hide a file.
  std::unique_lock lock(mutex_);
  const File old(directory_ / kOld);
  const File current(directory_ / kCurrent);
  lock.unlock();
  bool more = true;
  for (const File* file : {&old, &current}) {
    if (!more) return;
    file->lines(file->seek(after), [&](std::string_view line, std::size_t) {
      const auto id = id_of(line);
      if (id > after) {
        after = id;
        more = found(id, line);
      }
      return more;
    });
  }
}

}  // namespace tunneld::events
