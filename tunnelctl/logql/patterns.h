#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

/// The small languages inside LogQL's strings. Errors come without a position.
namespace tunnelctl::logql {

/// `<ip> - <_> "<method> …"` of the pattern parser: gives the names. At least one, none twice, no two side by
/// side.
Result<std::vector<std::string>> pattern_captures(std::string_view pattern);

/// The same text in |> and !>, where captures have no names (`<_>`).
Result<void> check_line_pattern(std::string_view pattern);

/// Expression of the regexp parser: gives the names. At least one.
Result<std::vector<std::string>> regexp_captures(std::string_view pattern);

/// A Go template, as far as its braces go.
Result<void> check_template(std::string_view text);

}  // namespace tunnelctl::logql
