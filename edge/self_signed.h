#pragma once

#include <filesystem>

#include "common/result.h"

namespace edge {

/// Makes a certificate for this machine's own use: EC P-256, subject alternative names localhost,
/// 127.0.0.1 and ::1, valid for 397 days from an hour ago (browsers refuse longer ones). The key is
/// written with mode 0600, the certificate with 0644, each by rename, key first, so that no reader
/// sees half a file. Existing files are replaced.
Result<void> write_self_signed(const std::filesystem::path& certificate_file,
                               const std::filesystem::path& key_file);

}  // namespace edge
