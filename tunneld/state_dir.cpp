#include "tunneld/state_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace tunneld {
namespace {

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string{} : std::string(value);
}

std::string because(int error) {
  return std::string(": ") + std::strerror(error);
}

}  // namespace

std::filesystem::path StateDir::default_path() {
  // systemd's StateDirectory=; with several the first is ours.
  if (auto given = from_environment("STATE_DIRECTORY"); !given.empty())
    return given.substr(0, given.find(':'));
  if (auto home = from_environment("XDG_STATE_HOME"); !home.empty() && home[0] == '/')
    return std::filesystem::path(home) / "tunneld";
  if (::geteuid() == 0) return "/var/lib/tunneld";
  if (auto home = from_environment("HOME"); !home.empty() && home[0] == '/')
    return std::filesystem::path(home) / ".local/state/tunneld";
  return "/var/lib/tunneld";
}

Result<StateDir> StateDir::open(const std::filesystem::path& path, Use use) {
  const std::string remedy = "; set state_dir to a directory that this user may write";
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);  // its absence is told by mkdir below
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(errno == ENOSPC ? Error::Kind::unavailable : Error::Kind::denied,
                "state directory " + path.string() + " cannot be made" + because(errno) + remedy);

  struct stat about {};
  if (::stat(path.c_str(), &about) != 0)
    return fail(Error::Kind::denied,
                "state directory " + path.string() + " cannot be looked at" + because(errno) + remedy);
  if (!S_ISDIR(about.st_mode))
    return fail(Error::Kind::bad_input, "state_dir " + path.string() + " is not a directory");
  if (about.st_uid != ::geteuid())
    return fail(Error::Kind::denied, "state directory " + path.string() +
                                         " belongs to another user; it holds private keys" + remedy);
  // Somebody made it wider by hand (mkdir with the usual umask): narrow it, as ssh does for ~/.ssh.
  if ((about.st_mode & 077) != 0 && ::chmod(path.c_str(), 0700) != 0)
    return fail(Error::Kind::denied, "state directory " + path.string() +
                                         " is open to others and cannot be narrowed" + because(errno));

  const auto lock_path = (path / "lock").string();
  const int lock = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0)
    return fail(errno == ENOSPC ? Error::Kind::unavailable : Error::Kind::denied,
                lock_path + " cannot be opened" + because(errno) + remedy);
  if (use == Use::exclusive && ::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    ::close(lock);
    if (why == EWOULDBLOCK)
      return fail(Error::Kind::unavailable, "state directory " + path.string() +
                                                " is in use by another tunneld; give each its own state_dir");
    return fail(Error::Kind::unavailable, lock_path + " cannot be locked" + because(why));
  }
  return StateDir(path, lock);
}

StateDir::~StateDir() {
  if (lock_ >= 0) ::close(lock_);
}

StateDir::StateDir(StateDir&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

StateDir& StateDir::operator=(StateDir&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(lock_, other.lock_);
  return *this;
}

}  // namespace tunneld
