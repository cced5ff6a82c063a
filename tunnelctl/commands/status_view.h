#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/daemon/overview.h"
#include "tunnelctl/terminal/table.h"

/// What `status` and `top` show of a tunneld.
namespace tunnelctl {

/// One screen. `rates`: over the last interval.
std::vector<std::string> status_lines(const std::string& url, const daemon::Overview& now,
                                      const std::optional<daemon::Rates>& rates, bool coloured);
/// The same for programs; what is not known is left out.
daemon::Json status_json(const std::string& url, const daemon::Overview& now,
                         const std::optional<daemon::Rates>& rates);

/// Green is well, red needs somebody.
terminal::Colour colour_of_state(const std::string& state);
/// "p50 12 ms  p95 80 ms  p99 -".
std::string latency_text(const daemon::Overview& now);
/// "0 waiting", "12 waiting (high 2, normal 10, low 0), fullest 40 %, 1.5 MiB".
std::string queue_text(const daemon::Overview& now);
/// "all closed", "2 not closed: 0a1b..., ...".
std::string breakers_text(const daemon::Overview& now);
/// "free 3, premium 1".
std::string counts_text(const std::vector<std::pair<std::string, std::uint64_t>>& counts);
/// What a token would add, when there is none.
extern const char* const kWithoutToken;

}  // namespace tunnelctl
