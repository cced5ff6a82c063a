#pragma once

#include <iosfwd>
#include <span>
#include <string>

#include "common/result.h"
#include "tunnelctl/commands/error_pages.h"

namespace tunnelctl {

/// `tunnelctl explain <code>`
struct Explain {
  std::string code;  ///< as the user wrote it: capitals do not matter
};

/// Prints the page of the code, without change. Fails with bad_input when no page has that code; the message
/// lists those that exist.
Result<void> explain(const Explain& options, std::span<const ErrorPage> pages, std::ostream& out);

}  // namespace tunnelctl
