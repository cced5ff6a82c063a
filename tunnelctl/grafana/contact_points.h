#pragma once

#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"

namespace tunnelctl::grafana {

/// One way of notifying. Several of one name are one contact point.
struct Integration {
  std::string uid{}, type{}, provenance{};
  std::vector<std::string> settings{};  // their names; the values may be secret
  Json json{};                          // as the server says it, known secrets replaced by "[REDACTED]"
};

struct ContactPoint {
  std::string name{};
  std::vector<Integration> integrations{};
};

/// By name.
Result<std::vector<ContactPoint>> list_contact_points(Server& server);

struct Delivery {
  std::string uid{}, name{}, type{};
  bool delivered = false;
  std::string error{};
};

/// Sends a test notification by each of its integrations, to the people behind them.
Result<std::vector<Delivery>> test_contact_point(Server& server, const ContactPoint& point);

}  // namespace tunnelctl::grafana
