#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tunnel/observer.h"
#include "tunneld/access/circuit_breakers.h"
#include "tunneld/access/penalty_box.h"
#include "tunneld/admin/cells.h"

namespace tunneld::admin {

/// The daemon's numbers: takes what rooms report, and tells it to Prometheus and to the diagnostics
/// page. Names, types and help are those of common/metric_names.h.
/// Threads: everything may be called from any thread; the Observer's calls cost a few relaxed atomic
/// additions (no locks, no look-ups by label).
class Metrics final : public tunnel::Observer {
 public:
  struct BuildInfo {
    std::string version, commit, tls, ssh;
  };
  struct Options {
    BuildInfo build;
    std::size_t threads = 1;            // workers whose loop lag is measured
    std::uint64_t max_connections = 0;  // for the compatibility names of the connection pool
    /// Asked at each scrape, because another part counts it.
    std::function<std::uint64_t()> log_lines_dropped = [] { return std::uint64_t{0}; };
    std::function<std::uint64_t()> active_users = [] { return std::uint64_t{0}; };
    /// Of the public certificate, as Unix time; 0 without one.
    std::function<double()> certificate_expiry = [] { return 0.0; };
    /// How full the fullest principal's queue is, 0 to 1.
    std::function<double()> queue_fullest = [] { return 0.0; };
    /// Breakers that are not blank, and the services of the configuration: each of those has a state to
    /// show, 0 while it has no breaker. A breaker of another service is only counted.
    std::function<std::vector<access::CircuitBreakers::Info>()> breakers = [] {
      return std::vector<access::CircuitBreakers::Info>{};
    };
    std::function<std::vector<std::string>()> services = [] { return std::vector<std::string>{}; };
    /// Sent over links and kept for a replay.
    std::function<std::uint64_t()> resume_buffer_bytes = [] { return std::uint64_t{0}; };
    std::function<std::uint64_t()> agents = [] { return std::uint64_t{0}; };
    std::function<access::PenaltyBox::Counts()> penalties = [] { return access::PenaltyBox::Counts{}; };
  };
  explicit Metrics(Options options);
  ~Metrics() override;

  // What app itself reports.
  void set_draining(bool draining);
  void shutdown_took(std::string_view reason, Duration took);
  void loop_lagged(std::size_t thread, Duration lag);
  void config_reloaded(bool ok);
  /// Requests that took longer count as slow; 5 s until this is called.
  void set_slow(std::chrono::milliseconds limit);
  /// A client came back to its link.
  enum class Resumed { ok, expired, refused };
  void session_resumed(Resumed result);
  void session_superseded();
  // What the audit log and the tracer report.
  void audit_written(std::string_view event);
  void audit_lost(std::uint64_t lines);
  void spans(std::string_view result, std::uint64_t count);  // exported, dropped, failed

  /// The exposition: Prometheus text 0.0.4, or OpenMetrics 1.0.
  std::string expose(bool openmetrics, bool compat) const;

  /// The same numbers for /api/tunnel/diagnostics and the health page.
  struct Snapshot {
    std::array<std::int64_t, 3> connections_by_tier{};  // open WebSockets: free, premium, enterprise
    std::uint64_t connections_accepted = 0;
    std::int64_t sockets = 0;
    std::int64_t in_flight = 0;
    std::uint64_t succeeded = 0, failed = 0;
    SlidingDurations::Percentiles latency;           // of the last five minutes
    std::array<std::uint64_t, 19> errors_by_code{};  // index is the code's number
    std::int64_t ssh_sessions = 0, ssh_channels = 0;
    std::int64_t waiting = 0;                           // in the queue, of all priorities
    std::array<std::int64_t, 3> waiting_by_priority{};  // high, normal, low
    std::uint64_t slow = 0, rate_limited = 0, queue_dropped = 0;
    std::uint64_t audit_lost = 0;
    std::uint64_t received_bytes = 0, sent_bytes = 0;  // callers' side
  };
  Snapshot snapshot() const;
  /// Public sockets as a share of how many there may be; 0 without a limit.
  double connections_fill() const;
  /// Of the last `window`, in steps of ten seconds; five minutes at most.
  SlidingDurations::Percentiles latency(std::chrono::seconds window) const;
  /// Of all requests since the start, for those that keep a history.
  DurationSketch::Counts durations() const;

  // tunnel::Observer
  void socket_opened() override;
  void socket_closed() override;
  void socket_refused(std::string_view reason) override;
  void setup_finished(std::string_view phase, Duration took) override;
  void websocket_opened(tunnel::Tier tier, std::string_view role) override;
  void websocket_refused(std::string_view role, tunnel::Code code) override;
  void websocket_closed(tunnel::Tier tier, std::string_view role, std::uint16_t code,
                        tunnel::Initiator initiator, Duration lived) override;
  void frame_rejected(std::string_view reason) override;
  void request_rejected(std::string_view reason) override;
  void heartbeat_rtt(Duration rtt) override;
  void heartbeat_timed_out() override;
  void compressed(tunnel::Side from, std::size_t before, std::size_t after) override;
  void auth_attempt(bool accepted, std::string_view reason) override;
  void jwks_refreshed(bool ok) override;
  void rate_limited(std::string_view scope, tunnel::Tier tier) override;
  void request_started(tunnel::Tier tier) override;
  void request_finished(const tunnel::FinishedRequest& request) override;
  void error_answered(tunnel::Code code) override;
  void bytes(tunnel::Side side, std::size_t received, std::size_t sent) override;
  void ssh_session_opened(Duration handshake) override;
  void ssh_session_closed() override;
  void ssh_error(std::string_view phase, std::string_view reason) override;
  void channel_opened() override;
  void channel_refused(std::string_view result) override;
  void channel_closed() override;
  void queue_entered(tunnel::Priority priority) override;
  void queue_left(tunnel::Priority priority, tunnel::QueueExit how, Duration waited) override;
  void queue_refused(tunnel::Priority priority) override;
  void flow_level_changed(tunnel::FlowLevel to) override;
  void breaker_changed(std::string_view to) override;

 private:
  struct Cells;
  class Exposition;
  void add_protection(Exposition& out) const;
  void add_limits_and_records(Exposition& out) const;
  void add_compatibility_names(Exposition& out) const;

  const Options options_;
  std::unique_ptr<Cells> cells_;
};

}  // namespace tunneld::admin
