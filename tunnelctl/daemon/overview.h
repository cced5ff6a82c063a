#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/daemon/exposition.h"

/// What a tunneld is doing, at one time and between two.
namespace tunnelctl::daemon {

using Instant = std::chrono::steady_clock::time_point;

struct Queue {
  std::uint64_t waiting = 0;
  std::optional<std::uint64_t> bytes{};
  std::optional<double> fullest{};  // 0 to 1
  std::vector<std::pair<std::string, std::uint64_t>> by_priority{};
};

struct OpenBreakers {
  std::string worst{};              // closed, open, half_open; empty: not told
  std::vector<std::string> open{};  // ids; only with a token
  std::uint64_t count = 0;          // that are not closed
};

/// Unset is what this daemon does not tell, or not without a token.
struct Overview {
  bool with_token = false;
  bool serving = false;  // ready, and not degraded
  std::string state{};   // serving, degraded, or why it is not ready
  std::string version{};
  std::optional<double> uptime_seconds{};
  std::vector<std::pair<std::string, std::uint64_t>> connections_by_tier{};
  std::uint64_t connections = 0;
  std::optional<std::uint64_t> users{};
  std::uint64_t requests = 0, succeeded = 0, failed = 0;  // since the start
  std::uint64_t in_flight = 0;
  /// Milliseconds; over the last five minutes with a token, since the start without.
  std::optional<double> p50{}, p95{}, p99{};
  std::uint64_t bytes_in = 0, bytes_out = 0;  // from and to callers, since the start
  std::optional<Queue> queue{};
  OpenBreakers breakers{};
  std::uint64_t ssh_sessions = 0, ssh_channels = 0;
  std::optional<bool> audit_healthy{}, events_healthy{};
  std::optional<std::uint64_t> last_event{};
  std::uint64_t log_lost = 0;                           // records, since the start
  std::optional<std::uint64_t> throttled{}, blocked{};  // addresses
  std::optional<std::uint64_t> memory_bytes{}, fds{}, max_fds{};
};

/// `diagnostics` is null without a token.
Overview overview_of(const Readiness& ready, const Health& health, const Exposition& metrics,
                     const Json& diagnostics);

/// Asks for all that there is. With a token that the daemon refuses it fails; what is missing in other ways
/// stays unset.
Result<Overview> read_overview(const Admin& admin);

struct Rates {
  double seconds = 0;
  double requests_per_second = 0;
  std::optional<double> success_rate{};  // of those requests; unset when there were none
  double bytes_in_per_second = 0, bytes_out_per_second = 0;
};
/// nullopt when the daemon began anew in between, or no time has passed.
std::optional<Rates> rates_between(const Overview& before, const Overview& after,
                                   std::chrono::duration<double> apart);

struct Connected {
  std::string id{}, kind{}, service{}, peer{};
  std::string principal{};  // a hash; empty before somebody has signed in
  bool tls = false;
  double age_seconds = 0;
  std::uint64_t requests = 0, bytes_in = 0, bytes_out = 0;
  double bytes_in_per_second = 0, bytes_out_per_second = 0;
};
std::vector<Connected> connections_of(const Json& answer);
/// Fills in the rates of those that were there before, and of new ones since they came.
void add_rates(std::vector<Connected>& now, const std::vector<Connected>& before,
               std::chrono::duration<double> apart);

struct User {
  std::string principal{}, tier{};  // a hash: names stay in the daemon
  std::uint64_t requests = 0, errors = 0;
  std::optional<double> mean_ms{};
  std::uint64_t bytes_in = 0, bytes_out = 0;
  std::string last_seen{};
};
std::vector<User> users_of(const Json& answer);

}  // namespace tunnelctl::daemon
