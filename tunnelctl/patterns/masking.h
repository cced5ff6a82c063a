#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tunnelctl::patterns {

/// A line with what differs from line to line replaced by its kind, in one pass: <num> (with unit), <ip>
/// (with port), <time>, <uuid>, <hex> (8 digits and more, or 0x), <mac>, <email>, <id> (16 characters and
/// more with four digits among them), "<*>" for what stands in quotes, ?<*> for the query of a URL, `at
/// <frame>` for a line of a Java stack trace. Numbers are masked where they stand for themselves ("worker-7",
/// not "eth0").
///
/// Kept as they are: the request of an access log ("GET /users/<num> HTTP/1.1") and three-digit codes behind
/// one or behind `status` and `code`; quoted names of members; the message of a klog line.
///
/// Blanks and control characters become single blanks, colour codes go, bytes that are no UTF-8 become
/// U+FFFD: `out` (replaced) is one line of valid UTF-8, at most three times as long as `line` and a few
/// bytes, or `max_bytes` and one word. Linear time; nothing is allocated once `out` has grown.
void mask(std::string_view line, std::size_t max_bytes, std::string& out);

}  // namespace tunnelctl::patterns
