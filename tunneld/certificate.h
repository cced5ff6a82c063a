#pragma once

#include <chrono>
#include <filesystem>

#include "common/result.h"
#include "edge/tls_context.h"

namespace tunneld {

/// Time left until the first certificate of a PEM file expires; negative when it has. Fails with
/// bad_input naming the file.
Result<std::chrono::seconds> certificate_time_left(const std::filesystem::path& file);

/// The options with file names filled in: the configured ones, else a self-made pair in `state_dir`,
/// which is made when it is missing or has less than 30 days left.
Result<edge::TlsOptions> tls_files(edge::TlsOptions configured, const std::filesystem::path& state_dir);

}  // namespace tunneld
