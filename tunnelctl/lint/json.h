#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/pack/pack.h"

/// Reading JSON that people wrote: whatever has another type than expected counts as absent.
namespace tunnelctl::lint {

using pack::Json;

/// The member, or null.
inline const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

inline std::string text_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// The items of a list member; none if it is no list.
inline const std::vector<Json>& items(const Json& object, const char* key) {
  static const std::vector<Json> kNone;
  const Json& value = member(object, key);
  return value.is_array() ? value.get_ref<const Json::array_t&>() : kNone;
}

inline std::optional<double> number_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

/// Calls visit(text) for every string below, keys left out.
template <class Visit>
void each_text(const Json& value, const Visit& visit) {
  if (value.is_string()) {
    visit(value.get_ref<const std::string&>());
  } else if (value.is_structured()) {
    for (const Json& item : value) each_text(item, visit);
  }
}

}  // namespace tunnelctl::lint
