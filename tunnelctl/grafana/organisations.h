#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"

namespace tunnelctl::grafana {

struct Organisation {
  std::int64_t id = 0;
  std::string name{}, role{};  // role: empty where the server does not say
  bool current = false;        // the one that calls go to
};

/// Those the caller belongs to. A service account belongs to one only.
Result<std::vector<Organisation>> organisations(Server& server);

}  // namespace tunnelctl::grafana
