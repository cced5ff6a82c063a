#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace tunnelctl {

class Session;

/// Gives the lines of a file, or of standard input ("-"), to `take`, without their ends ("\n", "\r\n") and
/// each cut to `longest` bytes. Memory grows with neither the file nor its longest line. Fails with cancelled
/// soon after a stop, also while nobody writes; with bad_input when the file cannot be read or is compressed.
Result<void> read_log(const std::string& path, std::size_t longest, const Session& session,
                      const std::function<void(std::string_view)>& take);

}  // namespace tunnelctl
