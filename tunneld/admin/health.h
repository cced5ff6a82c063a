#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace tunneld::admin {

/// What the health pages tell. An open breaker, one lost upstream or a busy hour never makes a
/// process unhealthy: restarting it would only spread the damage.
struct Health {
  /// Why no new work is accepted ("starting", "draining"); nullopt while serving.
  std::optional<std::string> not_ready;
  /// Reachable in part: e.g. the token keys could not be fetched for long.
  bool degraded = false;
  std::chrono::system_clock::time_point started_at{};
  std::chrono::seconds uptime{};
  std::string version;
};

/// Numbers for callers whose token has the scope tunnel:metrics.
struct HealthCounts {
  std::int64_t active_connections = 0;
  std::int64_t requests_in_flight = 0;
};

/// Body of /api/tunnel/health as JSON; its status is 503 while `not_ready`, else 200.
std::string health_body(const Health& health, const std::optional<HealthCounts>& counts);

/// "2026-02-03T04:05:06.789Z", as in every JSON answer.
std::string rfc3339(std::chrono::system_clock::time_point when);

}  // namespace tunneld::admin
