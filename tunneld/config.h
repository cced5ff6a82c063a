#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/config_file.h"
#include "common/log.h"
#include "common/result.h"
#include "edge/tls_context.h"
#include "tunnel/dialer.h"
#include "tunnel/queue_ledger.h"
#include "tunneld/access/circuit_breakers.h"
#include "tunneld/access/options.h"
#include "tunneld/access/penalty_box.h"
#include "tunneld/access/rate_limits.h"
#include "tunneld/audit/audit_log.h"
#include "tunneld/ssh/host_keys.h"
#include "tunneld/ssh/options.h"
#include "tunneld/tracing/options.h"

namespace tunneld {

/// A far side to dial and the services behind it.
struct UpstreamConfig {
  struct ServiceConfig {
    std::string name;
    std::string target;  // "host:port" as the far side resolves it
    std::vector<std::string> allow;
  };
  std::string name;
  std::vector<std::string> addresses;  // "host:port"; tried in this order
  std::string user;
  std::filesystem::path identity_file;  // empty: tunneld's own
  std::filesystem::path known_hosts_file;
  std::vector<std::string> host_key_fingerprints;
  bool trust_on_first_use = false;
  std::vector<ServiceConfig> services;
};

/// Every setting of the daemon with its default. Each section is handed to its room alone.
struct Config {
  /// Loopback, so that a first start without any configuration exposes nothing.
  std::vector<std::string> listen{"127.0.0.1:3001"};
  std::vector<std::string> plaintext_listen;
  bool plaintext_trusted_network = false;
  std::string admin_listen = "127.0.0.1:9090";
  std::filesystem::path state_dir;  // empty: StateDir::default_path()
  unsigned threads = 0;             // 0: one per core
  std::vector<std::string> allowed_origins;
  std::chrono::seconds drain_timeout{30};

  edge::TlsOptions tls;  // empty file names: self-made in the state directory
  access::Options auth;

  struct Limits {
    /// Public sockets, handshakes included. 16,000 idle TLS connections stay under 2 GiB.
    std::size_t max_connections = 16'000;
    /// Callers that have shown no token yet: what a flood of strangers can hold.
    std::size_t max_unauthenticated = 256;
    /// Kept free for SSH sessions, files and the admin listener.
    std::size_t fd_reserve = 64;
    /// Requests and handshakes a minute; connections and queue places by tier are in `tiers`.
    access::RateLimits::Options rates;
    access::PenaltyBox::Options penalty;
    std::size_t header_line_bytes = 8 * 1024;
    std::size_t header_bytes = 32 * 1024;
    std::size_t header_fields = 100;
    std::chrono::milliseconds header_timeout{10'000};
    std::chrono::milliseconds body_timeout{30'000};   // longest gap within a request's body
    std::chrono::milliseconds write_stall{30'000};    // the caller takes nothing
    std::chrono::milliseconds keep_alive{75'000};     // between two requests of a connection
    std::chrono::milliseconds idle_timeout{300'000};  // of a stream; pings do not count
  } limits;

  struct Request {
    std::chrono::milliseconds timeout{30'000};        // to the first byte, and between two
    std::chrono::milliseconds max_duration{600'000};  // a streamed answer as a whole
    std::chrono::milliseconds slow{5'000};            // longer ones are counted and logged
  } request;

  /// By tier: what one principal may hold at a time.
  struct Tier {
    unsigned connections = 3;
    unsigned queue = 100;
    unsigned forwards = 5;  // services that one of its agents may announce
  };
  std::array<Tier, 3> tiers{Tier{3, 100, 5}, Tier{10, 200, 20}, Tier{50, 500, 100}};
  tunnel::QueueLedger::Options queue;
  /// How long requests wait for an upstream that refuses connections, for it may be restarting.
  std::chrono::milliseconds upstream_wait{2'000};
  access::CircuitBreakers::Options breaker;
  audit::Options audit;
  std::size_t events_bytes = 16 * 1024 * 1024;
  tracing::Options tracing;

  /// Proxies in front of us whose word on the caller's address is taken.
  std::vector<std::string> trusted_proxies;
  bool proxy_protocol = false;

  struct WebSocket {
    std::chrono::milliseconds ping_interval{30'000};
    std::chrono::milliseconds dead_after{45'000};
    std::size_t max_frame = 1024 * 1024;
    std::size_t warn_frame = 512 * 1024;
    bool compression = false;
    unsigned compression_level = 6;
    std::size_t compression_threshold = 1024;
  } ws;

  /// Links: one WebSocket for many streams (/ws), or for an agent's SSH transport.
  struct Link {
    std::chrono::milliseconds resume_window{60'000};  // 0: a link ends with its WebSocket
    std::size_t max_buffer = 32 * 1024 * 1024;        // sent and not acknowledged
    std::size_t max_streams = 1024;                   // open at a time
  } link;

  ssh::Options ssh;
  /// SSH sessions one principal may have open to one upstream on one thread.
  unsigned ssh_max_sessions = 8;
  std::vector<UpstreamConfig> upstreams;

  logging::Options log;
  bool metrics_compat = true;
};

/// Adds every key to `schema`, which then points into `config`.
void bind(config::Schema& schema, Config& config);

/// What the kinds of values cannot say alone: settings that only make sense together. Fills in what
/// local mode leaves open. Fails with bad_input; one line for each problem, naming the keys.
Result<void> check(Config& config);

/// A configuration and the schema that filled it. Neither moves, because the one points into the other.
struct Configuration {
  Config values;
  config::Schema schema{"TUNNELD"};
  std::vector<std::string> warnings;

  Configuration() { bind(schema, values); }
  Configuration(const Configuration&) = delete;
  Configuration& operator=(const Configuration&) = delete;
};

/// File (none: defaults), environment, overrides "key=value"; checked.
Result<std::unique_ptr<Configuration>> load_config(const std::optional<std::filesystem::path>& file,
                                                   const std::vector<std::string>& overrides);

/// "host:port", "[v6]:port" or ":port" in its parts; nullopt when it is none of them.
struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};
std::optional<HostPort> parse_host_port(std::string_view text);
/// 127.0.0.0/8, ::1 or the name localhost.
bool is_loopback(const std::string& host);

/// The services of all upstreams, as the doors look them up.
std::vector<tunnel::Service> services_of(const Config& config);

}  // namespace tunneld
