#pragma once

#include <cstddef>
#include <string_view>

#include <nlohmann/json.hpp>

/// JSON of servers and log lines, which may hold whatever they like, but not exhaust our stack: reading and
/// destroying a value takes none, copying, comparing and writing it take some for each level.
inline constexpr std::size_t kMostJsonLevels = 512;

/// Whether the brackets of the text nest deeper than kMostJsonLevels, be it JSON or not. One look at each
/// byte.
bool nests_too_deeply(std::string_view json);

/// Discarded when the text is no JSON or nests too deeply.
template <class Json = nlohmann::json>
Json parse_json(std::string_view text) {
  return nests_too_deeply(text) ? Json(nlohmann::json::value_t::discarded)
                                : Json::parse(text, nullptr, false);
}
