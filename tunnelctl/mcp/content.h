#pragma once

#include <cstddef>
#include <string_view>

#include "tunnelctl/mcp/tool.h"

namespace tunnelctl::mcp {

/// Whether the assistant's program knows `structuredContent`, and what may be in it.
enum class Structured { unknown, objects, anything };

/// The result of `tools/call`: text content, and the same as structuredContent where it is JSON.
///
/// What is larger than `most_bytes` is cut and said to be, with `narrow` as the way to ask for less. JSON
/// loses the last items of its longest list and so stays JSON; what has no such list is cut as text. That it
/// was cut, and the notes, are the members `_truncated` and `_warnings` of an object that is also
/// structuredContent (beyond `most_bytes`, if need be); of all else they are texts behind it, and a list of
/// which anything is to be said is no structuredContent.
Json call_result(const Outcome& outcome, std::size_t most_bytes, std::string_view narrow,
                 Structured structured);

}  // namespace tunnelctl::mcp
