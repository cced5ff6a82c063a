#pragma once

#include <array>
#include <string_view>

/// The one list of metrics that tunneld exposes, with their labels. The admin pages take HELP, TYPE
/// and UNIT from it, and dashboards and rules are checked against it. A row appears when something
/// exposes it. Labels take values from small fixed sets; never a person, address or path.
namespace metric_names {

enum class Type { counter, gauge, histogram };
/// compat: for dashboards of earlier versions, while `metrics.compat` is on.
enum class Since { now, compat };

struct Metric {
  const char* name;
  Type type;
  std::array<std::string_view, 4> labels;  // empty ones are none
  std::string_view unit;                   // as in the name's suffix; empty for counts
  std::string_view help;
  Since since = Since::now;
};

inline constexpr const char* kBuildInfo = "tunnel_build_info";
inline constexpr const char* kActiveConnections = "tunnel_active_connections";
inline constexpr const char* kConnectionsTotal = "tunnel_connections_total";
inline constexpr const char* kConnectionDurationSeconds = "tunnel_connection_duration_seconds";
inline constexpr const char* kConnectionSetupSeconds = "tunnel_connection_setup_seconds";
inline constexpr const char* kWebsocketDisconnectionsTotal = "tunnel_websocket_disconnections_total";
inline constexpr const char* kHeartbeatRttSeconds = "tunnel_heartbeat_rtt_seconds";
inline constexpr const char* kHeartbeatTimeoutsTotal = "tunnel_heartbeat_timeouts_total";
inline constexpr const char* kSessionsResumedTotal = "tunnel_sessions_resumed_total";
inline constexpr const char* kSessionsSupersededTotal = "tunnel_sessions_superseded_total";
inline constexpr const char* kResumeBufferBytes = "tunnel_resume_buffer_bytes";
inline constexpr const char* kAgents = "tunnel_agents";
inline constexpr const char* kActiveUsers = "tunnel_active_users";
inline constexpr const char* kSockets = "tunnel_sockets";
inline constexpr const char* kSocketsLimit = "tunnel_sockets_limit";
inline constexpr const char* kSocketsRefusedTotal = "tunnel_sockets_refused_total";
inline constexpr const char* kRequestsRejectedTotal = "tunnel_requests_rejected_total";
inline constexpr const char* kCertificateExpiryTimestampSeconds =
    "tunnel_certificate_expiry_timestamp_seconds";
inline constexpr const char* kSshSessions = "tunnel_ssh_sessions";
inline constexpr const char* kSshChannels = "tunnel_ssh_channels";
inline constexpr const char* kSshChannelOpensTotal = "tunnel_ssh_channel_opens_total";
inline constexpr const char* kSshHandshakeSeconds = "tunnel_ssh_handshake_seconds";
inline constexpr const char* kSshErrorsTotal = "tunnel_ssh_errors_total";
inline constexpr const char* kRequestsTotal = "tunnel_requests_total";
inline constexpr const char* kRequestsInFlight = "tunnel_requests_in_flight";
inline constexpr const char* kRequestDurationSeconds = "tunnel_request_duration_seconds";
inline constexpr const char* kForwardOverheadSeconds = "tunnel_forward_overhead_seconds";
inline constexpr const char* kSlowRequestsTotal = "tunnel_slow_requests_total";
inline constexpr const char* kErrorsTotal = "tunnel_errors_total";
inline constexpr const char* kBytesReceivedTotal = "tunnel_bytes_received_total";
inline constexpr const char* kBytesSentTotal = "tunnel_bytes_sent_total";
inline constexpr const char* kQueueSize = "tunnel_queue_size";
inline constexpr const char* kQueueFillRatio = "tunnel_queue_fill_ratio";
inline constexpr const char* kQueueWaitSeconds = "tunnel_queue_wait_seconds";
inline constexpr const char* kQueueDroppedTotal = "tunnel_queue_dropped_total";
inline constexpr const char* kBackpressureEventsTotal = "tunnel_backpressure_events_total";
inline constexpr const char* kCircuitBreakers = "tunnel_circuit_breakers";
inline constexpr const char* kCircuitBreakerState = "tunnel_circuit_breaker_state";
inline constexpr const char* kCircuitBreakerTransitionsTotal = "tunnel_circuit_breaker_transitions_total";
inline constexpr const char* kAuthAttemptsTotal = "tunnel_auth_attempts_total";
inline constexpr const char* kJwksRefreshTotal = "tunnel_jwks_refresh_total";
inline constexpr const char* kFramesRejectedTotal = "tunnel_frames_rejected_total";
inline constexpr const char* kRateLimitViolationsTotal = "tunnel_rate_limit_violations_total";
inline constexpr const char* kPenalizedAddresses = "tunnel_penalized_addresses";
inline constexpr const char* kCompressionBytesTotal = "tunnel_compression_bytes_total";
inline constexpr const char* kAuditEventsTotal = "tunnel_audit_events_total";
inline constexpr const char* kAuditWriteErrorsTotal = "tunnel_audit_write_errors_total";
inline constexpr const char* kTraceSpansTotal = "tunnel_trace_spans_total";
inline constexpr const char* kLogDroppedTotal = "tunnel_log_dropped_total";
inline constexpr const char* kDrainState = "tunnel_drain_state";
inline constexpr const char* kShutdownDurationSeconds = "tunnel_shutdown_duration_seconds";
inline constexpr const char* kEventLoopLagSeconds = "tunnel_event_loop_lag_seconds";
inline constexpr const char* kConfigReloadsTotal = "tunnel_config_reloads_total";
inline constexpr const char* kProcessCpuSecondsTotal = "process_cpu_seconds_total";
inline constexpr const char* kProcessResidentMemoryBytes = "process_resident_memory_bytes";
inline constexpr const char* kProcessVirtualMemoryBytes = "process_virtual_memory_bytes";
inline constexpr const char* kProcessOpenFds = "process_open_fds";
inline constexpr const char* kProcessMaxFds = "process_max_fds";
inline constexpr const char* kProcessStartTimeSeconds = "process_start_time_seconds";

inline constexpr const char* kRequestLatencyMs = "tunnel_request_latency_ms";
inline constexpr const char* kRequestsSuccessTotal = "tunnel_requests_success_total";
inline constexpr const char* kRequestsFailedTotal = "tunnel_requests_failed_total";
inline constexpr const char* kQueueFillPercentage = "tunnel_queue_fill_percentage";
inline constexpr const char* kThroughputBytesTotal = "tunnel_throughput_bytes_total";
inline constexpr const char* kBytesTransferredTotal = "tunnel_bytes_transferred_total";
inline constexpr const char* kConnectionPoolActiveConnections = "tunnel_connection_pool_active_connections";
inline constexpr const char* kConnectionPoolIdleConnections = "tunnel_connection_pool_idle_connections";
inline constexpr const char* kConnectionPoolTotalConnections = "tunnel_connection_pool_total_connections";
inline constexpr const char* kConnectionPoolUsage = "tunnel_connection_pool_usage";
inline constexpr const char* kWebsocketActiveConnections = "tunnel_websocket_active_connections";
inline constexpr const char* kWebsocketConnectionsTotal = "tunnel_websocket_connections_total";
inline constexpr const char* kSshConnectionTimeMs = "tunnel_ssh_connection_time_ms";

/// In the order of the pages.
inline constexpr std::array kAll{
    Metric{kBuildInfo,
           Type::gauge,
           {"version", "commit", "tls", "ssh"},
           "",
           "Always 1; the labels say what is running."},
    Metric{kActiveConnections, Type::gauge, {"user_tier"}, "", "Open WebSocket sessions."},
    Metric{
        kConnectionsTotal, Type::counter, {"role", "result"}, "", "WebSocket upgrade attempts by outcome."},
    Metric{
        kConnectionDurationSeconds, Type::histogram, {"role"}, "seconds", "Lifetime of WebSocket sessions."},
    Metric{kConnectionSetupSeconds,
           Type::histogram,
           {"phase"},
           "seconds",
           "Time to set up a connection, by phase: tls, upgrade, ssh."},
    Metric{kWebsocketDisconnectionsTotal,
           Type::counter,
           {"code", "initiator"},
           "",
           "WebSocket closes by close code and who closed."},
    Metric{kHeartbeatRttSeconds, Type::histogram, {}, "seconds", "Time from a WebSocket ping to its pong."},
    Metric{kHeartbeatTimeoutsTotal, Type::counter, {}, "", "Peers declared dead for want of a pong."},
    Metric{
        kSessionsResumedTotal,
        Type::counter,
        {"result"},
        "",
        "Attempts to come back to a link: ok, expired (there is none of that id), refused (it was not shown "
        "to be the caller's)."},
    Metric{kSessionsSupersededTotal,
           Type::counter,
           {},
           "",
           "Agents' connections replaced by a newer one of the same agent."},
    Metric{kResumeBufferBytes, Type::gauge, {}, "bytes", "Sent over links and kept until acknowledged."},
    Metric{kAgents, Type::gauge, {}, "", "Agents that are connected here."},
    Metric{kActiveUsers, Type::gauge, {}, "", "Distinct principals with something open."},
    Metric{kSockets, Type::gauge, {}, "", "Accepted public TCP connections that are open."},
    Metric{kSocketsLimit, Type::gauge, {}, "", "Public TCP connections that may be open at once."},
    Metric{kSocketsRefusedTotal,
           Type::counter,
           {"reason"},
           "",
           "Public TCP connections closed before a request was read."},
    Metric{kRequestsRejectedTotal,
           Type::counter,
           {"reason"},
           "",
           "Requests refused while their head or body was read."},
    Metric{kCertificateExpiryTimestampSeconds,
           Type::gauge,
           {},
           "seconds",
           "When the public certificate expires, as Unix time."},
    Metric{kSshSessions, Type::gauge, {}, "", "Open SSH sessions to upstreams."},
    Metric{kSshChannels, Type::gauge, {}, "", "Open SSH channels."},
    Metric{kSshChannelOpensTotal, Type::counter, {"type", "result"}, "", "SSH channel opens by outcome."},
    Metric{kSshHandshakeSeconds,
           Type::histogram,
           {},
           "seconds",
           "Time for SSH key exchange and authentication."},
    Metric{kSshErrorsTotal, Type::counter, {"phase", "reason"}, "", "SSH failures."},
    Metric{kRequestsTotal,
           Type::counter,
           {"status", "user_tier", "priority"},
           "",
           "Finished requests; status is success or error."},
    Metric{kRequestsInFlight, Type::gauge, {"user_tier"}, "", "Requests being served."},
    Metric{kRequestDurationSeconds,
           Type::histogram,
           {"outcome"},
           "seconds",
           "Time from a request's head to the end of its answer."},
    Metric{kForwardOverheadSeconds,
           Type::histogram,
           {},
           "seconds",
           "Part of a request's time that was spent inside tunneld."},
    Metric{kSlowRequestsTotal, Type::counter, {}, "", "Requests that took longer than request.slow."},
    Metric{kErrorsTotal, Type::counter, {"category", "code"}, "", "Errors answered, by documented code."},
    Metric{kBytesReceivedTotal,
           Type::counter,
           {"side"},
           "",
           "Payload received from callers (client) and far sides (agent)."},
    Metric{kBytesSentTotal,
           Type::counter,
           {"side"},
           "",
           "Payload sent to callers (client) and far sides (agent)."},
    Metric{kQueueSize, Type::gauge, {"priority"}, "", "Requests waiting for a channel."},
    Metric{kQueueFillRatio, Type::gauge, {}, "ratio", "How full the fullest user's queue is, 0 to 1."},
    Metric{kQueueWaitSeconds,
           Type::histogram,
           {"priority"},
           "seconds",
           "Time that requests waited for a channel."},
    Metric{kQueueDroppedTotal,
           Type::counter,
           {"reason", "priority"},
           "",
           "Requests that were not served because of the queue: full, or left it expired, evicted, failed, "
           "abandoned."},
    Metric{kBackpressureEventsTotal,
           Type::counter,
           {"level"},
           "",
           "Changes of a user's queue to a level of fullness."},
    Metric{kCircuitBreakers,
           Type::gauge,
           {"state"},
           "",
           "Circuit breakers with a failure against them, by state."},
    Metric{kCircuitBreakerState,
           Type::gauge,
           {"service"},
           "",
           "Worst breaker of the service: 0 closed, 1 open, 2 half-open."},
    Metric{kCircuitBreakerTransitionsTotal, Type::counter, {"to"}, "", "Changes of a breaker's state."},
    Metric{kAuthAttemptsTotal, Type::counter, {"result", "reason"}, "", "Token checks by outcome."},
    Metric{kJwksRefreshTotal, Type::counter, {"result"}, "", "Fetches of the signing keys by outcome."},
    Metric{kFramesRejectedTotal,
           Type::counter,
           {"reason"},
           "",
           "WebSocket frames refused: oversize, utf8, protocol, inflate."},
    Metric{kRateLimitViolationsTotal,
           Type::counter,
           {"scope", "user_tier"},
           "",
           "Requests and connections refused for a limit."},
    Metric{kPenalizedAddresses,
           Type::gauge,
           {"state"},
           "",
           "Addresses slowed down or refused because their callers keep failing to authenticate."},
    Metric{kCompressionBytesTotal,
           Type::counter,
           {"direction", "stage"},
           "bytes",
           "WebSocket payload before and after compression."},
    Metric{kAuditEventsTotal, Type::counter, {"event"}, "", "Records of the audit log."},
    Metric{kAuditWriteErrorsTotal, Type::counter, {}, "", "Records the audit log could not write."},
    Metric{kTraceSpansTotal, Type::counter, {"result"}, "", "Spans of traces: exported, dropped, failed."},
    Metric{kLogDroppedTotal, Type::counter, {}, "", "Log records lost to a full queue or a failing output."},
    Metric{kDrainState, Type::gauge, {}, "", "0 while serving, 1 while draining."},
    Metric{kShutdownDurationSeconds, Type::histogram, {"reason"}, "seconds", "Time to drain at shutdown."},
    Metric{kEventLoopLagSeconds,
           Type::histogram,
           {"thread"},
           "seconds",
           "Delay between a timer's time and its handler."},
    Metric{kConfigReloadsTotal, Type::counter, {"result"}, "", "Configuration reloads by outcome."},
    Metric{kProcessCpuSecondsTotal, Type::counter, {}, "seconds", "User and system CPU time spent."},
    Metric{kProcessResidentMemoryBytes, Type::gauge, {}, "bytes", "Resident memory."},
    Metric{kProcessVirtualMemoryBytes, Type::gauge, {}, "bytes", "Virtual memory."},
    Metric{kProcessOpenFds, Type::gauge, {}, "", "Open file descriptors."},
    Metric{kProcessMaxFds, Type::gauge, {}, "", "Limit of open file descriptors."},
    Metric{kProcessStartTimeSeconds, Type::gauge, {}, "seconds", "When the process started, as Unix time."},
    Metric{kRequestLatencyMs,
           Type::histogram,
           {},
           "ms",
           "Old name: tunnel_request_duration_seconds, in milliseconds.",
           Since::compat},
    Metric{kRequestsSuccessTotal,
           Type::counter,
           {},
           "",
           "Old name: tunnel_requests_total with status success.",
           Since::compat},
    Metric{kRequestsFailedTotal,
           Type::counter,
           {},
           "",
           "Old name: tunnel_requests_total with status error.",
           Since::compat},
    Metric{kQueueFillPercentage,
           Type::gauge,
           {},
           "",
           "Old name: tunnel_queue_fill_ratio, 0 to 1 for all its name.",
           Since::compat},
    Metric{kThroughputBytesTotal,
           Type::counter,
           {},
           "bytes",
           "Old name: payload of callers in both directions.",
           Since::compat},
    Metric{kBytesTransferredTotal,
           Type::counter,
           {"direction"},
           "",
           "Old name: payload bytes of callers by direction, received or sent.",
           Since::compat},
    Metric{kConnectionPoolActiveConnections, Type::gauge, {}, "", "Old name: tunnel_sockets.", Since::compat},
    Metric{kConnectionPoolIdleConnections,
           Type::gauge,
           {},
           "",
           "Old name: public connections that could still be accepted.",
           Since::compat},
    Metric{kConnectionPoolTotalConnections,
           Type::gauge,
           {},
           "",
           "Old name: limit of public connections.",
           Since::compat},
    Metric{kConnectionPoolUsage,
           Type::gauge,
           {},
           "",
           "Old name: share of the limit of public connections in use, 0 to 1.",
           Since::compat},
    Metric{kWebsocketActiveConnections,
           Type::gauge,
           {},
           "",
           "Old name: tunnel_active_connections over all tiers.",
           Since::compat},
    Metric{kWebsocketConnectionsTotal,
           Type::counter,
           {},
           "",
           "Old name: tunnel_connections_total over all outcomes.",
           Since::compat},
    Metric{kSshConnectionTimeMs,
           Type::histogram,
           {},
           "ms",
           "Old name: tunnel_ssh_handshake_seconds, in milliseconds.",
           Since::compat},
};

/// The row of that name, or null.
constexpr const Metric* find(std::string_view name) {
  for (const Metric& metric : kAll) {
    if (metric.name == name) return &metric;
  }
  return nullptr;
}

/// The help text of that name; empty when the list has no such name.
constexpr std::string_view help(std::string_view name) {
  const Metric* metric = find(name);
  return metric == nullptr ? std::string_view() : metric->help;
}

}  // namespace metric_names
