#pragma once

#include <cstddef>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "common/result.h"

/// JSON from strangers. Beyond RFC 8259 it refuses what two readers may understand differently:
/// a name twice in one object, integers outside 64 bits, a byte order mark, nesting deeper than
/// `max_depth`. Text must be valid UTF-8. Fails with bad_input, without quoting the text.
Result<nlohmann::json> parse_strict_json(std::string_view text, std::size_t max_bytes,
                                         std::size_t max_depth = 32);
