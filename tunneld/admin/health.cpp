#include "tunneld/admin/health.h"

#include <array>
#include <cstdio>
#include <ctime>

#include <nlohmann/json.hpp>

namespace tunneld::admin {

std::string rfc3339(std::chrono::system_clock::time_point when) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(when.time_since_epoch());
  const auto whole = std::chrono::floor<std::chrono::seconds>(ms);
  const std::time_t seconds = whole.count();
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 32> date{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &utc);
  std::array<char, 8> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%03dZ", static_cast<int>((ms - whole).count() % 1000));
  return std::string(date.data()) + fraction.data();
}

std::string health_body(const Health& health, const std::optional<HealthCounts>& counts) {
  nlohmann::ordered_json body;
  if (health.not_ready) {
    body["status"] = "unhealthy";
    body["timestamp"] = rfc3339(std::chrono::system_clock::now());
    body["reason"] = *health.not_ready;
    return body.dump();
  }
  body["status"] = health.degraded ? "degraded" : "healthy";
  body["timestamp"] = rfc3339(std::chrono::system_clock::now());
  body["uptime"] = health.uptime.count();
  body["version"] = health.version;
  if (counts) {
    body["connections"] = counts->active_connections;
    body["requestsInFlight"] = counts->requests_in_flight;
  }
  return body.dump();
}

}  // namespace tunneld::admin
