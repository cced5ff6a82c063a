#include "tunneld/access/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include <openssl/crypto.h>

namespace tunneld::access {
namespace {

tl::unexpected<Error> failed(Error::Kind kind, const std::string& path, const char* step, int error) {
  return fail(kind, path + ": " + step + ": " + std::strerror(error));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

bool write_all(int fd, std::string_view content) {
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t wrote = ::write(fd, content.data() + done, content.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return true;
}

/// Gives the temporary file its name unless the name is taken.
bool rename_new(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  // Filesystems without that flag (NFS, some FUSE) have hard links, which never replace either.
  if (errno != EINVAL && errno != ENOSYS) return false;
  if (::link(from.c_str(), to.c_str()) != 0) return false;
  ::unlink(from.c_str());
  return true;
}

}  // namespace

Result<Secret> read_secret_file(const std::string& path, std::size_t max_bytes) {
  // Non-blocking: a FIFO in the file's place must not hang the start.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0)
    return failed(errno == ENOENT ? Error::Kind::not_found : Error::Kind::denied, path, "cannot open", errno);
  struct stat facts {};
  if (::fstat(file.get(), &facts) != 0) return failed(Error::Kind::denied, path, "cannot stat", errno);
  if (!S_ISREG(facts.st_mode)) return fail(Error::Kind::bad_input, path + ": is not a regular file");
  if ((facts.st_mode & 07777 & ~0640u) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(facts.st_mode & 07777));
    return fail(Error::Kind::denied,
                path + ": holds a secret but has mode " + mode + ", wider than 0640; run: chmod 600 " + path);
  }
  std::string content(max_bytes + 1, '\0');
  std::size_t size = 0;
  int error = 0;
  while (size < content.size() && error == 0) {
    const ssize_t got = ::read(file.get(), content.data() + size, content.size() - size);
    if (got == 0) break;
    if (got > 0)
      size += static_cast<std::size_t>(got);
    else if (errno != EINTR)
      error = errno;
  }
  const bool too_large = size > max_bytes;
  Secret secret(content.substr(0, size));
  OPENSSL_cleanse(content.data(), content.size());
  if (error != 0) return failed(Error::Kind::denied, path, "cannot read", error);
  if (too_large)
    return fail(Error::Kind::bad_input, path + ": is larger than " + std::to_string(max_bytes) + " bytes");
  return secret;
}

Result<void> create_secret_file(const std::string& path, const Secret& content) {
  std::string temporary = path + ".XXXXXX";
  const Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));  // mode 0600
  if (file.get() < 0) return failed(Error::Kind::denied, path, "cannot create a file beside it", errno);
  const char* step = nullptr;
  if (!write_all(file.get(), content.reveal()))
    step = "cannot write";
  else if (::fsync(file.get()) != 0)
    step = "cannot flush to disk";
  else if (!rename_new(temporary, path))
    step = "cannot put the new file in place";
  if (step != nullptr) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return failed(Error::Kind::denied, path, step, error);
  }
  const auto parent = std::filesystem::path(path).parent_path();
  const Descriptor folder(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || ::fsync(folder.get()) != 0)
    return failed(Error::Kind::denied, path, "created, but its folder cannot be flushed to disk", errno);
  return {};
}

Result<Secret> read_shared_secret(const std::string& path) {
  auto content = read_secret_file(path, 4096);
  if (!content) return content;
  std::string_view secret = content->reveal();
  if (secret.ends_with('\n')) secret.remove_suffix(1);
  if (secret.ends_with('\r')) secret.remove_suffix(1);
  if (secret.size() < 32)
    return fail(Error::Kind::bad_input,
                path + ": a shared secret needs at least 32 bytes; make one with: openssl rand -base64 48");
  return Secret(std::string(secret));
}

}  // namespace tunneld::access
