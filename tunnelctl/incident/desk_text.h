#pragma once

#include <string>
#include <string_view>

#include "tunnelctl/incident/incident.h"

/// Words of others in the desk's own sentences.
namespace tunnelctl::incident {

/// One redacted line, for titles and labels: no control characters, at most about `longest` bytes.
std::string plain(std::string_view text, std::size_t longest = 200);
/// Redacted foreign text as a code span of Markdown.
std::string code(std::string_view text, std::size_t characters = 200);
/// 16 hexadecimal digits.
std::string short_hash(std::string_view text);

}  // namespace tunnelctl::incident
