#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

/// Members of what a server answered: never there for sure, never surely of their type.
namespace tunnelctl::grafana {

using Json = nlohmann::json;

/// null where it is not there.
inline const Json& member(const Json& object, const char* key) {
  static const Json none = nullptr;
  if (!object.is_object()) return none;
  const auto found = object.find(key);
  return found == object.end() ? none : *found;
}

/// "" where it is no text.
inline std::string text_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

inline std::int64_t number_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_number_integer() ? value.get<std::int64_t>() : 0;
}

inline bool flag_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

}  // namespace tunnelctl::grafana
