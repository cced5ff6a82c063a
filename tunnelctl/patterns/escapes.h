#pragma once

#include <string>
#include <string_view>

namespace tunnelctl::patterns {

/// Whether without_escapes() may change the text. Cheap, as nearly no line has any.
bool has_escapes(std::string_view text);

/// The text as one who reads it sees it, so that what stands in it can be recognised:
///
///     ESC[36mtoken=ESC[0mx  \u001b[36mtoken=x      ->  token=x    colour codes go
///     password\u003dx  {\x22password\x22:\x22x\x22}  ->  password=x  {\"password\":\"x\"}
///     https:\/\/host  a\u000ab                        ->  https://host  a\nb
///
/// A JSON object stays one; backslashes of a nested one may become fewer. What comes out has no escapes of
/// these kinds, whatever went in. Linear time; at most a few times as long as `text`.
std::string without_escapes(std::string_view text);

}  // namespace tunnelctl::patterns
