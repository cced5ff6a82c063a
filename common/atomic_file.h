#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string_view>

#include "common/result.h"

namespace atomic_file {

enum class IfThere { replace, refuse };

/// Puts a file of `content` and `mode` (whatever the umask) at `path`, whole or not at all even across a
/// power cut: a temporary file beside it, fsync, rename, fsync of the folder. A symbolic link at `path` is
/// itself replaced. With IfThere::refuse a file that is there already is left alone and the call fails,
/// also when two processes try at once.
/// Fails with unavailable, naming path, step and the system's reason; nothing has changed then, except
/// where the message says "written, but". Any thread; blocks for as long as the disk takes.
Result<void> write(const std::filesystem::path& path, std::string_view content, mode_t mode,
                   IfThere if_there = IfThere::replace);

}  // namespace atomic_file
