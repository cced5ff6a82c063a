#pragma once

#include <string>
#include <string_view>

#include "tunnelctl/commands/session.h"

/// Comma-separated values, wherever a command writes them. Source: RFC 4180.
namespace tunnelctl {

inline constexpr std::string_view kCsvEnd = "\r\n";  // of a line

/// A field, in quotes where it needs them. On a terminal what steers it is struck out; a file gets all.
std::string csv_field(std::string_view text, const Session& session);

}  // namespace tunnelctl
