#pragma once

#include <string>

#include "common/secret_file.h"

namespace tunneld::access {

using ::create_secret_file;
using ::read_secret_file;

/// A shared secret for JwkSet::shared_secret(): the file's bytes without one line end at the end.
Result<Secret> read_shared_secret(const std::string& path);

}  // namespace tunneld::access
