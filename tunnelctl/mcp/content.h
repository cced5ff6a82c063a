#pragma once

#include <cstddef>
#include <string_view>

#include "tunnelctl/mcp/tool.h"

namespace tunnelctl::mcp {

/// Whether the assistant's program knows `structuredContent`, and what may be in it.
enum class Structured { unknown, objects, anything };

/// The result of `tools/call`: text content, the same as structuredContent where it is JSON, then the notes.
///
/// What is larger than `most_bytes` is cut and said to be, with `narrow` as the way to ask for less. JSON
/// loses the last items of its longest list and so stays JSON; what has no such list is cut as text.
Json call_result(const Outcome& outcome, std::size_t most_bytes, std::string_view narrow,
                 Structured structured);

}  // namespace tunnelctl::mcp
