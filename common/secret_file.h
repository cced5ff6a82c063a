#pragma once

#include <cstddef>
#include <string>

#include "common/result.h"
#include "common/secret.h"

/// The content of a file that holds a secret. Refuses what is not a regular file, is larger than
/// `max_bytes`, or is open to more than its owner (read, write) and group (read): mode 0640 at most.
/// Symbolic links are followed (secret volumes use them); it is the target that counts.
/// not_found if it is absent, denied for permissions, bad_input otherwise; messages name path and remedy.
Result<Secret> read_secret_file(const std::string& path, std::size_t max_bytes);

/// Creates `path` with mode 0600 and `content`, whole or not at all even across a power cut: a temporary
/// file beside it, fsync, rename, fsync of the folder. Never replaces a file: fails with denied if one is
/// there.
Result<void> create_secret_file(const std::string& path, const Secret& content);
