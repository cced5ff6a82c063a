#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

/// Reading answers that may lack anything: an older daemon, or a newer one. Not for other rooms.
namespace tunnelctl::daemon {

/// The member, or null when `json` is no object or has none of that name.
inline const nlohmann::ordered_json* member(const nlohmann::ordered_json& json, const char* key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

inline std::string text_of(const nlohmann::ordered_json& json, const char* key) {
  const auto* found = member(json, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

inline std::optional<double> number_of(const nlohmann::ordered_json& json, const char* key) {
  const auto* found = member(json, key);
  if (found == nullptr || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

inline std::uint64_t count_of(const nlohmann::ordered_json& json, const char* key) {
  const auto* found = member(json, key);
  if (found == nullptr || !found->is_number()) return 0;
  if (found->is_number_unsigned()) return found->get<std::uint64_t>();
  const double value = found->get<double>();
  return value > 0 && value < 1.8e19 ? static_cast<std::uint64_t>(value) : 0;
}

inline std::optional<bool> flag_of(const nlohmann::ordered_json& json, const char* key) {
  const auto* found = member(json, key);
  if (found == nullptr || !found->is_boolean()) return std::nullopt;
  return found->get<bool>();
}

}  // namespace tunnelctl::daemon
