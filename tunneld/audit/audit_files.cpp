#include "tunneld/audit/audit_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "common/file_descriptor.h"
#include "common/log.h"

namespace tunneld::audit {
namespace {

constexpr std::size_t kChunkBytes = 256 * 1024;
/// How far from the end of a file a good line is looked for. What a power cut leaves is a few unsynced
/// batches; more than this is another kind of trouble.
constexpr std::size_t kMaxDamage = 64 * 1024 * 1024;
constexpr std::string_view kDamaged = "damaged-";

Error cannot(const std::filesystem::path& path, std::string_view what, int code) {
  const auto kind =
      code == EACCES || code == EPERM || code == EROFS ? Error::Kind::denied : Error::Kind::unavailable;
  return {kind, "audit log " + path.string() + " cannot be " + std::string(what) + ": " +
                    std::generic_category().message(code)};
}
tl::unexpected<Error> failed(const std::filesystem::path& path, std::string_view what, int code) {
  return tl::unexpected(cannot(path, what, code));
}

/// A name's life on disk is its directory's.
Result<void> sync_directory(const std::filesystem::path& directory) {
  if (!sync_folder(directory)) return failed(directory, "synced", errno);
  return {};
}

Result<void> make_directory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory.parent_path(), error);  // its absence is told by mkdir below
  const bool made = ::mkdir(directory.c_str(), 0750) == 0;
  if (!made && errno != EEXIST) return failed(directory, "made", errno);
  struct stat about {};
  if (::stat(directory.c_str(), &about) != 0) return failed(directory, "looked at", errno);
  if (!S_ISDIR(about.st_mode))
    return fail(Error::Kind::bad_input, "audit.directory " + directory.string() + " is not a directory");
  // Whatever the umask, and also when somebody made it by hand: who is not of the group sees nothing.
  const bool wide = (about.st_mode & 027) != 0;
  if ((made || wide) && ::chmod(directory.c_str(), made ? 0750 : about.st_mode & 07750) != 0)
    return failed(directory, "closed to others", errno);
  return {};
}

/// 0, or the error.
int write_all(Disk& disk, int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = disk.write(file, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return ENOSPC;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return 0;
}

/// A name that is free, for what is kept of `path`.
std::filesystem::path name_aside(const std::filesystem::path& path) {
  const auto name = std::string(kDamaged) + path.filename().string();
  auto aside = path.parent_path() / name;
  for (unsigned i = 2; std::filesystem::exists(std::filesystem::symlink_status(aside)); ++i)
    aside = path.parent_path() / (name + "." + std::to_string(i));
  return aside;
}

struct End {
  audit_chain::Link last;   // of the last good line
  std::size_t good = 0;     // bytes up to its end; 0: there is none
  std::size_t damaged = 0;  // lines behind it that are not
};

Result<std::string> read_at(int file, const std::filesystem::path& path, std::size_t offset,
                            std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t at = 0; at < size;) {
    const ssize_t count = ::pread(file, bytes.data() + at, size - at, static_cast<off_t>(offset + at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(path, "read", errno);
    if (count == 0)
      return fail(Error::Kind::unavailable, "audit log " + path.string() + " shrank while it was read");
    at += static_cast<std::size_t>(count);
  }
  return bytes;
}

/// The last good line within `text`, the end of a file from `offset` on.
std::optional<End> end_in(std::string_view text, std::size_t offset) {
  End end;
  std::size_t lines = text.empty() || text.back() == '\n' ? 0 : 1;
  for (auto feed = text.rfind('\n'); feed != text.npos; ++lines) {
    const auto before = feed == 0 ? text.npos : text.rfind('\n', feed - 1);
    if (before == text.npos && offset > 0) return {};  // perhaps only the end of a line
    const std::size_t start = before == text.npos ? 0 : before + 1;
    const auto line = audit_chain::parse_line(text.substr(start, feed - start));
    if (line && line->sound()) {
      end.last = {line->seq, std::string(line->hash)};
      end.good = offset + feed + 1;
      end.damaged = lines;
      return end;
    }
    feed = before;
  }
  if (offset > 0) return {};
  end.damaged = lines;
  return end;
}

Result<End> end_of(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return failed(path, "opened", errno);
  struct stat about {};
  Result<End> result =
      fail(Error::Kind::bad_input,
           "audit log " + path.string() + " has no good line within its last 64 MiB; move it away");
  if (::fstat(file, &about) != 0) {
    result = failed(path, "looked at", errno);
  } else if (!S_ISREG(about.st_mode)) {
    result = fail(Error::Kind::bad_input, "audit log " + path.string() + " is not a file");
  } else {
    const auto size = static_cast<std::size_t>(about.st_size);
    for (std::size_t window = 64 * 1024;; window *= 4) {
      const std::size_t offset = size - std::min(size, window);
      auto text = read_at(file, path, offset, size - offset);
      if (!text) {
        result = tl::unexpected(text.error());
        break;
      }
      if (auto end = end_in(*text, offset)) {
        result = *end;
        break;
      }
      if (window >= kMaxDamage) break;
    }
  }
  ::close(file);
  return result;
}

}  // namespace

ssize_t Disk::write(int file, std::string_view bytes) {
  return ::write(file, bytes.data(), bytes.size());
}
int Disk::sync(int file) {
  return ::fdatasync(file);
}
int Disk::cut(int file, std::size_t size) {
  return ::ftruncate(file, static_cast<off_t>(size));
}

AuditFiles::AuditFiles(std::filesystem::path directory, const Limits& limits, Disk& disk)
    : directory_(std::move(directory)), limits_(limits), disk_(&disk) {}

AuditFiles::AuditFiles(AuditFiles&& other) noexcept
    : directory_(std::move(other.directory_)),
      limits_(other.limits_),
      disk_(other.disk_),
      lock_(std::exchange(other.lock_, -1)),
      file_(std::exchange(other.file_, -1)),
      path_(std::move(other.path_)),
      size_(other.size_),
      mended_(other.mended_),
      aside_(std::move(other.aside_)),
      dirty_(other.dirty_),
      doubtful_(other.doubtful_),
      last_(std::move(other.last_)),
      damage_(std::move(other.damage_)) {}

AuditFiles::~AuditFiles() {
  close();
  if (lock_ >= 0) ::close(lock_);
}

void AuditFiles::close() {
  if (file_ >= 0) ::close(file_);
  file_ = -1;
}

Result<AuditFiles> AuditFiles::open(const std::filesystem::path& directory, const Limits& limits,
                                    Disk& disk) {
  if (directory.empty()) return fail(Error::Kind::bad_input, "audit.directory is empty");
  if (auto made = make_directory(directory); !made) return tl::unexpected(made.error());
  AuditFiles files(directory, limits, disk);
  if (auto locked = files.lock(); !locked) return tl::unexpected(locked.error());
  if (auto found = files.find_end(); !found) return tl::unexpected(found.error());
  files.prune();
  return files;
}

Result<void> AuditFiles::lock() {
  const auto path = directory_ / "lock";
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (lock_ < 0) return failed(path, "opened", errno);
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return {};
  if (errno == EWOULDBLOCK)
    return fail(Error::Kind::unavailable,
                "audit log " + directory_.string() +
                    " is written by another tunneld; give each its own audit.directory");
  return failed(path, "locked", errno);
}

/// Only reads: where the chain stands, and whether there is damage behind it.
Result<void> AuditFiles::find_end() {
  auto files = audit_chain::files_in(directory_);
  if (!files && files.error().kind == Error::Kind::not_found) return {};
  if (!files) return tl::unexpected(files.error());
  path_ = files->back();
  file_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file_ < 0) return failed(path_, "opened", errno);
  for (auto path = files->rbegin(); path != files->rend(); ++path) {
    const auto end = end_of(*path);
    if (!end) return tl::unexpected(end.error());
    if (path == files->rbegin()) {
      size_ = end->good;
      mended_ = end->damaged == 0 && size_ > 0;  // an empty one goes: its name may say another number
      aside_ = name_aside(path_);
      if (end->damaged > 0)
        damage_ = Damage{end->damaged, path_.filename().string() + " had a damaged end, now in " +
                                           aside_.filename().string()};
    }
    if (end->good == 0) continue;
    last_ = end->last;
    break;
  }
  return {};
}

/// Takes away what lies behind the last good line.
Result<void> AuditFiles::mend() {
  struct stat about {};
  if (::fstat(file_, &about) != 0) return failed(path_, "looked at", errno);
  if (size_ == 0 && !aside_.empty()) {
    if ((about.st_size == 0 ? ::unlink(path_.c_str()) : ::rename(path_.c_str(), aside_.c_str())) != 0)
      return failed(path_, "moved aside", errno);
    close();
    path_.clear();
    mended_ = true;
    return sync_directory(directory_);
  }
  if (!aside_.empty()) {
    const int from = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0) return failed(path_, "opened", errno);
    const auto tail = read_at(from, path_, size_, static_cast<std::size_t>(about.st_size) - size_);
    ::close(from);
    if (!tail) return tl::unexpected(tail.error());
    const int to = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (to < 0) return failed(aside_, "opened", errno);
    int code = ::fchmod(to, 0640) == 0 ? write_all(*disk_, to, *tail) : errno;
    if (code == 0 && disk_->sync(to) != 0) code = errno;
    ::close(to);
    if (code != 0) return failed(aside_, "written", code);
    if (auto kept = sync_directory(directory_); !kept) return kept;
  }
  if (disk_->cut(file_, size_) != 0) return failed(path_, "cut after its last good line", errno);
  mended_ = true;
  dirty_ = true;
  drop_empty_file();
  return {};
}

/// A file is named for its first line, and the next one to come may have another number.
void AuditFiles::drop_empty_file() {
  if (size_ > 0 || ::unlink(path_.c_str()) != 0) return;
  close();
  path_.clear();
  dirty_ = false;
}

/// Whether the disk keeps what it is given: else a broken one would get a new file with each try, and those
/// would push out the old ones.
Result<void> AuditFiles::probe() {
  const auto path = directory_ / "probe";
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (file < 0) return failed(path, "made", errno);
  int code = write_all(*disk_, file, std::string(4096, 'x'));
  if (code == 0 && disk_->sync(file) != 0) code = errno;
  ::close(file);
  ::unlink(path.c_str());
  if (code != 0) return failed(path, "written and synced", code);
  doubtful_ = false;
  return {};
}

Result<void> AuditFiles::begin_file(std::uint64_t first_seq) {
  path_ = directory_ / audit_chain::file_name(first_seq);
  size_ = 0;
  file_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
  Result<void> result;
  if (file_ < 0) {
    result = failed(path_, "made", errno);
  } else if (::fchmod(file_, 0640) != 0) {
    result = failed(path_, "closed to others", errno);
  } else {
    result = sync_directory(directory_);
  }
  if (!result) {
    if (file_ >= 0) ::unlink(path_.c_str());
    close();
    path_.clear();
  }
  return result;
}

Result<void> AuditFiles::close_full_file() {
  if (auto synced = sync(); !synced) return synced;
  close();
  path_.clear();
  size_ = 0;
  note_anchor();
  prune();
  return {};
}

AuditFiles::Progress AuditFiles::write(std::span<const Item> items) {
  std::size_t done = 0;
  std::string chunk;
  while (done < items.size()) {
    if (!mended_) {
      if (auto mended = mend(); !mended) return {done, mended.error()};
    }
    if (size_ >= limits_.max_file_bytes) {
      if (auto closed = close_full_file(); !closed) return {done, closed.error()};
    }
    if (doubtful_) {
      if (auto good = probe(); !good) return {done, good.error()};
    }
    if (file_ < 0) {
      if (auto begun = begin_file(last_.seq + items[done].lost + 1); !begun) return {done, begun.error()};
    }
    chunk.clear();
    audit_chain::Link last = last_;
    std::size_t next = done;
    while (next < items.size() && chunk.size() < kChunkBytes &&
           size_ + chunk.size() < limits_.max_file_bytes) {
      audit_chain::append_line(chunk, items[next].body, last, items[next].lost);
      ++next;
    }
    if (const int code = write_all(*disk_, file_, chunk); code != 0) {
      // The part that fitted goes again, now or before the next try.
      mended_ = disk_->cut(file_, size_) == 0;
      aside_.clear();
      auto error = cannot(path_, "written", code);
      if (mended_) drop_empty_file();
      return {done, std::move(error)};
    }
    last_ = std::move(last);
    size_ += chunk.size();
    dirty_ = true;
    damage_.reset();
    done = next;
  }
  return {done, {}};
}

Result<void> AuditFiles::sync() {
  if (file_ < 0 || !dirty_) return {};
  struct stat about {};
  if (disk_->sync(file_) != 0) {
    // The kernel may have dropped the pages, and would call a second sync good (fsync(2), EIO).
    auto error = cannot(path_, "synced", errno);
    leave_file(error.message);
    return tl::unexpected(std::move(error));
  }
  dirty_ = false;
  if (::fstat(file_, &about) != 0 || about.st_nlink > 0) return {};
  leave_file("audit log " + path_.string() + " was deleted while it was written");
  return fail(Error::Kind::unavailable, damage_->why);
}

void AuditFiles::leave_file(std::string why) {
  close();
  path_.clear();
  size_ = 0;
  dirty_ = false;
  mended_ = true;
  doubtful_ = true;
  damage_ = Damage{0, std::move(why)};
}

void AuditFiles::prune() {
  auto closed = audit_chain::files_in(directory_);
  if (!closed) return;
  std::erase(*closed, path_);
  std::vector<std::filesystem::path> damaged;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory_, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename().string().starts_with(kDamaged)) damaged.push_back(entry->path());
  }
  std::sort(damaged.begin(), damaged.end());
  const auto oldest = std::filesystem::file_time_type::clock::now() - limits_.retention;
  for (auto* kind : {&*closed, &damaged}) {
    for (std::size_t i = 0; i < kind->size(); ++i) {
      const auto& path = (*kind)[i];
      const auto written = std::filesystem::last_write_time(path, error);
      const bool old = !error && written < oldest;
      if (kind->size() - i <= limits_.files && !old) break;  // those after it are younger
      if (::unlink(path.c_str()) == 0) {
        logging::info("audit", "old file deleted", {{"file", path.string()}});
      } else {
        logging::warn("audit", "old file cannot be deleted",
                      {{"file", path.string()}, {"error", std::generic_category().message(errno)}});
      }
    }
  }
}

void AuditFiles::note_anchor() const {
  if (last_.seq == 0) return;
  logging::info("audit", "anchor", {{"seq", last_.seq}, {"hash", last_.hash}});
}

}  // namespace tunneld::audit
