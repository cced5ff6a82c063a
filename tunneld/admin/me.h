#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tunnel/principal.h"
#include "tunneld/admin/user_table.h"

namespace tunneld::admin {

/// What a principal may do and what of it is used, at this moment.
struct MeLimits {
  unsigned requests_per_minute = 0;  // 0: no limit
  unsigned requests_remaining = 0;   // that may follow at once
  std::size_t connections = 0;       // may be open
  std::size_t connections_open = 0;
  std::size_t queue = 0;  // requests that may wait
  std::size_t queue_waiting = 0;
  std::string_view flow = "open";  // the level of the queue
};

/// One of the principal's agents that are connected.
struct MeAgent {
  std::string agent_id;
  std::vector<std::string> services;
  std::string peer;
  std::chrono::system_clock::time_point since{};
  std::size_t connections = 1;
};

/// {"requests","errors","successRate","meanMs","bytesIn","bytesOut","openConnections","firstSeen","lastSeen"}
nlohmann::ordered_json usage_json(const UserTable::Usage& usage);

/// Body of /api/tunnel/me, about the caller alone:
/// {"timestamp","principal","subject","issuer","tier","scopes","tokenExpires","usage":{...} or null,
/// "limits":{"requestsPerMinute":{"limit","remaining"} or null,"connections":{"limit","open"},
/// "queue":{"limit","waiting","level"}},"agents":[{"agentId","services","since","peer",
/// "connections"}]}
nlohmann::ordered_json me_body(const tunnel::Principal& principal,
                               const std::optional<UserTable::Usage>& usage, const MeLimits& limits,
                               const std::vector<MeAgent>& agents = {});

}  // namespace tunneld::admin
