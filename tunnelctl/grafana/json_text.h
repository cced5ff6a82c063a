#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "common/result.h"

namespace tunnelctl::grafana {

/// JSON with the place of what is wrong in it: "board.json:3:14: is not valid JSON: ...". bad_input.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& name);

}  // namespace tunnelctl::grafana
