#pragma once

#include <span>
#include <string_view>

namespace tunnelctl {

/// What docs/errors/<code>.md says, as Markdown.
struct ErrorPage {
  std::string_view code;  ///< e.g. "TUNNEL_015"
  std::string_view text;
};

/// The pages this program was built with, by code. CMake writes the definition from docs/errors/, so that the
/// explanation is at hand where there is no network and always fits the version.
std::span<const ErrorPage> error_pages();

}  // namespace tunnelctl
