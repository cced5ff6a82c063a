#include "tunnel/control_messages.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>

#include <nlohmann/json.hpp>

#include "common/strict_json.h"

namespace tunnel {

namespace {

using Json = nlohmann::ordered_json;
using SystemTime = std::chrono::system_clock::time_point;

/// A control message is an object of texts; more depth than this means something else.
constexpr std::size_t kMaxDepth = 8;

std::string rfc3339(SystemTime when) {
  const auto seconds = std::chrono::system_clock::to_time_t(when);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

/// Texts may name what the configuration names; a broken character in one must not break the message.
std::string dump(const Json& message) {
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The field when it is a string, else null.
const std::string* text_of(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

}  // namespace

Served<AuthRefresh> parse_control_message(std::string_view text) {
  const auto json = parse_strict_json(text, kMaxControlMessageBytes, kMaxDepth);
  if (!json || !json->is_object())
    return refuse(Code::bad_request, "a control message is one JSON object with a \"type\"");
  const auto* type = text_of(*json, "type");
  if (type == nullptr) return refuse(Code::bad_request, "a control message needs a \"type\"");
  if (*type != "auth.refresh") return refuse(Code::bad_request, "unknown type of control message");
  const auto* token = text_of(*json, "token");
  if (token == nullptr || token->empty()) return refuse(Code::bad_request, "auth.refresh needs a \"token\"");
  return AuthRefresh{*token};
}

std::string flow_message(FlowLevel level, double fill, std::chrono::milliseconds recommended_delay) {
  // Two digits say enough.
  const double rounded = std::isnan(fill) ? 0.0 : std::round(std::clamp(fill, 0.0, 1.0) * 100) / 100;
  return dump({{"type", "flow"},
               {"level", to_string(level)},
               {"fill", rounded},
               {"recommendedDelayMs", recommended_delay.count()}});
}

std::string auth_expiring_message(SystemTime expires_at) {
  return dump({{"type", "auth.expiring"}, {"expiresAt", rfc3339(expires_at)}});
}

std::string auth_ok_message(SystemTime expires_at) {
  return dump({{"type", "auth.ok"}, {"expiresAt", rfc3339(expires_at)}});
}

std::string maintenance_message(SystemTime deadline, std::string_view reason) {
  return dump({{"type", "maintenance"}, {"deadline", rfc3339(deadline)}, {"reason", std::string(reason)}});
}

std::string error_message(Code code, std::string_view message) {
  return dump({{"type", "error"}, {"code", facts(code).name}, {"message", std::string(message)}});
}

}  // namespace tunnel
