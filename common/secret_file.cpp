#include "common/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <openssl/crypto.h>

#include "common/atomic_file.h"
#include "common/file_descriptor.h"

namespace {

tl::unexpected<Error> failed(Error::Kind kind, const std::string& path, const char* step, int error) {
  return fail(kind, path + ": " + step + ": " + std::strerror(error));
}

}  // namespace

Result<Secret> read_secret_file(const std::string& path, std::size_t max_bytes) {
  // Non-blocking: a FIFO in the file's place must not hang the start.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
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
  const auto written = atomic_file::write(path, content.reveal(), 0600, atomic_file::IfThere::refuse);
  if (!written) return fail(Error::Kind::denied, written.error().message);
  return {};
}
