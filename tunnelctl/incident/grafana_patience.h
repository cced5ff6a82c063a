#pragma once

#include <chrono>
#include <functional>
#include <stop_token>

#include "tunnelctl/grafana/server.h"

namespace tunnelctl::incident {

/// Does `work` with a Grafana that may be away: whatever its calls are at when `patience` is over (repeated
/// attempts too) ends then, with unavailable. An incident must not wait for a dashboard.
Result<void> ask_grafana(const grafana::Connection& connection, std::chrono::milliseconds patience,
                         const std::stop_token& stop,
                         const std::function<Result<void>(grafana::Server& server)>& work);

}  // namespace tunnelctl::incident
