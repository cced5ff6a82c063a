#pragma once

#include <map>
#include <string>

#include "tests/support/scripted_api.h"

/// A tunneld's admin pages, as a test wants them.
namespace support {

inline constexpr const char* kDiagnostics = R"({
  "timestamp":"2026-01-02T03:04:05.678Z",
  "service":{"version":"1.2.3","uptime":90061,"startTime":"2026-01-01T02:03:04.000Z","state":"serving"},
  "connections":{"active":4,"total":9,"byTier":{"free":3,"premium":1,"enterprise":0}},
  "requests":{"total":1000,"successful":990,"failed":10,"successRate":0.99,"inFlight":2,
              "averageLatency":9,"p50Latency":5.25,"p95Latency":80,"p99Latency":120},
  "errors":{"network":10},
  "ssh":{"sessions":2,"channels":7,"waiting":0},
  "queue":{"waiting":3,"bytes":2048,"fullest":0.4,"byPriority":{"high":1,"normal":2,"low":0}},
  "circuitBreaker":{"state":"open","open":["0123456789abcdef"]},
  "audit":{"healthy":true},"events":{"healthy":true,"last":57},
  "penalty":{"throttled":1,"blocked":2},"users":3,
  "resources":{"memoryUsage":41943040,"cpuUsage":1.5,"fds":40,"maxFds":1024,"connections":4}})";

inline constexpr const char* kMetrics = R"(# TYPE tunnel_requests_total counter
tunnel_requests_total{status="success",user_tier="free",priority="normal"} 900
tunnel_requests_total{status="error",user_tier="free",priority="normal"} 100
tunnel_active_connections{user_tier="free"} 3
tunnel_active_connections{user_tier="premium"} 1
tunnel_requests_in_flight{user_tier="free"} 2
tunnel_request_duration_seconds_bucket{outcome="success",le="0.1"} 50
tunnel_request_duration_seconds_bucket{outcome="success",le="+Inf"} 50
tunnel_bytes_received_total{side="client"} 5000
tunnel_bytes_received_total{side="agent"} 1
tunnel_bytes_sent_total{side="client"} 70000
tunnel_queue_size{priority="normal"} 0
tunnel_circuit_breaker_state{service="web"} 0
tunnel_circuit_breaker_state{service="db"} 1
tunnel_circuit_breaker_state{service="old"} 2
tunnel_ssh_sessions 2
tunnel_ssh_channels 7
tunnel_log_dropped_total 0
process_resident_memory_bytes 41943040
process_open_fds 40
)";

inline constexpr const char* kConnections =
    R"({"timestamp":"2026-01-02T03:04:05.678Z","total":2,"connections":[
  {"id":17,"kind":"http1","service":"","peer":"127.0.0.1:5000","tls":true,"thread":0,"ageSeconds":12.5,
   "requests":3,"bytesIn":1000,"bytesOut":20000},
  {"id":18,"kind":"websocket","service":"db","principal":"9a8b7c6d5e4f","peer":"10.0.0.9:4242","tls":false,"thread":1,"ageSeconds":3700,
   "requests":1,"bytesIn":0,"bytesOut":0}]})";

inline constexpr const char* kBreakers = R"({"timestamp":"2026-01-02T03:04:05.678Z","breakers":[
  {"id":"0123456789abcdef","state":"open","upstream":"far","service":"db","principal":"9a8b7c6d5e4f","failures":5,
   "successes":0,"refused":12,"openedAt":"2026-01-02T03:03:05.000Z","nextProbe":"2026-01-02T03:04:35.000Z",
   "lastErrors":["TUNNEL_001: connection refused","TUNNEL_009: timed out"]},
  {"id":"1111111111111111","state":"closed","upstream":"far","service":"web","principal":"9a8b","failures":2,
   "successes":0,"refused":0,"openedAt":null,"nextProbe":null,"lastErrors":[]}]})";

inline constexpr const char* kUsers = R"({"users":[
  {"principal":"9a8b7c6d5e4f","tier":"premium","requests":500,"errors":5,"meanMs":7.5,"bytesIn":1048576,
   "bytesOut":2048,"lastSeen":"2026-01-02T03:04:05.000Z"}]})";

using Pages = std::map<std::string, ScriptedApi::Answer>;

inline ScriptedApi::Answer always(unsigned status, std::string body) {
  return [=](const ScriptedApi::Asked&) { return ScriptedApi::Says{status, body}; };
}

/// A daemon that serves, with guarded pages behind the token "t0ken".
inline Pages daemon_pages() {
  const auto guarded = [](const char* body) -> ScriptedApi::Answer {
    return [body](const ScriptedApi::Asked& asked) -> ScriptedApi::Says {
      if (asked.head.find("Authorization: Bearer t0ken\r\n") == std::string::npos)
        return {401, R"({"error":{"code":"TUNNEL_002","message":"a token is needed"}})"};
      return {200, body};
    };
  };
  return {{"/readyz", always(200, R"({"status":"ready"})")},
          {"/api/tunnel/health", always(200, R"({"status":"healthy","uptime":90061,"version":"1.2.3",
                                                 "connections":4,"requestsInFlight":2})")},
          {"/metrics", always(200, kMetrics)},
          {"/api/tunnel/diagnostics", guarded(kDiagnostics)},
          {"/api/tunnel/connections", guarded(kConnections)},
          {"/api/tunnel/circuit-breakers", guarded(kBreakers)},
          {"/api/tunnel/metrics/users", guarded(kUsers)}};
}

}  // namespace support
