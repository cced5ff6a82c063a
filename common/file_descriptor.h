#pragma once

#include <unistd.h>

#include <filesystem>
#include <string_view>

/// Owns a descriptor and closes it; negative is none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// Writes all of it, however often that takes; false, with errno, when the system takes no more.
bool write_all(int file, std::string_view content);
/// A file's name lives as long on disk as its folder does: to be called after making, renaming or removing
/// one. An empty path is the current folder. False, with errno.
bool sync_folder(const std::filesystem::path& folder);
