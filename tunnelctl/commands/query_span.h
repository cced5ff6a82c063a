#pragma once

#include <string>

#include "tunnelctl/commands/session.h"
#include "tunnelctl/prometheus/server.h"

namespace tunnelctl {

/// The time that a query is about, as it was said.
struct QuerySpan {
  std::string from = "now-1h", to = "now";
  std::string step{};
};

/// --from and --to
void add_query_span(CLI::App& verb, QuerySpan& span);
/// --step
void add_query_step(CLI::App& verb, QuerySpan& span);

/// Without a step about 240 points of a usual one. Fails with bad_input, naming the option, also when that
/// makes more points of a series than `server` ("Prometheus", "Loki") gives: 11,000.
Result<prometheus::Range> range_of(const QuerySpan& span, const char* server);

}  // namespace tunnelctl
