#include "tunneld/admin/me.h"

#include <string>

#include <nlohmann/json.hpp>

#include "tunneld/admin/health.h"

namespace tunneld::admin {

using Json = nlohmann::ordered_json;

Json usage_json(const UserTable::Usage& usage) {
  const double total_ms = std::chrono::duration<double, std::milli>(usage.total_time).count();
  const auto requests = static_cast<double>(usage.requests);
  return {{"requests", usage.requests},
          {"errors", usage.errors},
          {"successRate", usage.requests == 0 ? 1.0 : 1 - static_cast<double>(usage.errors) / requests},
          {"meanMs", usage.requests == 0 ? 0.0 : total_ms / requests},
          {"bytesIn", usage.bytes_in},
          {"bytesOut", usage.bytes_out},
          {"openConnections", usage.open_connections},
          {"firstSeen", rfc3339(usage.first_seen)},
          {"lastSeen", rfc3339(usage.last_seen)}};
}

Json me_body(const tunnel::Principal& principal, const std::optional<UserTable::Usage>& usage,
             const MeLimits& limits, const std::vector<MeAgent>& agents) {
  Json body;
  body["timestamp"] = rfc3339(std::chrono::system_clock::now());
  body["principal"] = tunnel::principal_hash(principal.key());
  body["subject"] = principal.subject;
  body["issuer"] = principal.issuer;
  body["tier"] = to_string(principal.tier);
  body["scopes"] = principal.scopes;
  body["tokenExpires"] = rfc3339(principal.expires_at);
  body["usage"] = usage ? usage_json(*usage) : Json(nullptr);
  Json rate = nullptr;
  if (limits.requests_per_minute != 0)
    rate = {{"limit", limits.requests_per_minute}, {"remaining", limits.requests_remaining}};
  body["limits"] = {
      {"requestsPerMinute", std::move(rate)},
      {"connections", {{"limit", limits.connections}, {"open", limits.connections_open}}},
      {"queue",
       {{"limit", limits.queue}, {"waiting", limits.queue_waiting}, {"level", std::string(limits.flow)}}}};
  auto& own = body["agents"] = Json::array();
  for (const auto& agent : agents)
    own.push_back({{"agentId", agent.agent_id},
                   {"services", agent.services},
                   {"since", rfc3339(agent.since)},
                   {"peer", agent.peer},
                   {"connections", agent.connections}});
  return body;
}

}  // namespace tunneld::admin
