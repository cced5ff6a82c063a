#include "common/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "common/file_descriptor.h"

namespace atomic_file {
namespace {

tl::unexpected<Error> failed(const std::filesystem::path& path, const char* step, int error) {
  return fail(Error::Kind::unavailable,
              path.string() + ": " + step + ": " + std::generic_category().message(error));
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

Result<void> write(const std::filesystem::path& path, std::string_view content, mode_t mode,
                   IfThere if_there) {
  std::string temporary = path.string() + ".XXXXXX";
  const FileDescriptor file(::mkostemp(temporary.data(), O_CLOEXEC));  // mode 0600
  if (file.get() < 0) return failed(path, "cannot create a file beside it", errno);
  const char* step = nullptr;
  if (!write_all(file.get(), content))
    step = "cannot write";
  else if (::fchmod(file.get(), mode) != 0)
    step = "cannot set its mode";
  else if (::fsync(file.get()) != 0)
    step = "cannot flush to disk";
  else if (if_there == IfThere::replace ? ::rename(temporary.c_str(), path.c_str()) != 0
                                        : !rename_new(temporary, path.string()))
    step = "cannot put the new file in place";
  if (step != nullptr) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return failed(path, step, error);
  }
  if (!sync_folder(path.parent_path()))
    return failed(path, "written, but its folder cannot be flushed to disk", errno);
  return {};
}

}  // namespace atomic_file
