#include "tunnelctl/daemon/overview.h"

#include <algorithm>
#include <map>

#include "common/metric_names.h"
#include "tunnelctl/daemon/json_members.h"

namespace tunnelctl::daemon {
namespace {

namespace names = metric_names;

std::uint64_t whole(std::optional<double> value) {
  return value && *value > 0 && *value < 1.8e19 ? static_cast<std::uint64_t>(*value) : 0;
}

std::optional<std::uint64_t> count_if_any(const Json& json, const char* key) {
  if (!number_of(json, key)) return std::nullopt;
  return count_of(json, key);
}

std::optional<double> in_ms(std::optional<double> seconds) {
  if (!seconds) return std::nullopt;
  return *seconds * 1000;
}

/// Each member that is a number, in its order.
std::vector<std::pair<std::string, std::uint64_t>> counts_of(const Json& json, const char* key) {
  std::vector<std::pair<std::string, std::uint64_t>> result;
  const auto* found = member(json, key);
  if (found == nullptr || !found->is_object()) return result;
  for (const auto& [name, value] : found->items())
    if (value.is_number()) result.emplace_back(name, count_of(*found, name.c_str()));
  return result;
}

std::vector<std::pair<std::string, std::uint64_t>> by_label(const Exposition& metrics, const char* name,
                                                            const char* label) {
  std::vector<std::pair<std::string, std::uint64_t>> result;
  for (auto& value : metrics.values(name, label)) {
    const auto count = whole(metrics.sum(name, {{label, value}}));
    result.emplace_back(std::move(value), count);
  }
  return result;
}

void add_metrics(Overview& to, const Exposition& metrics) {
  to.connections_by_tier = by_label(metrics, names::kActiveConnections, "user_tier");
  to.connections = whole(metrics.sum(names::kActiveConnections));
  to.succeeded = whole(metrics.sum(names::kRequestsTotal, {{"status", "success"}}));
  to.requests = whole(metrics.sum(names::kRequestsTotal));
  to.failed = to.requests - std::min(to.requests, to.succeeded);
  to.in_flight = whole(metrics.sum(names::kRequestsInFlight));
  to.p50 = in_ms(metrics.quantile(names::kRequestDurationSeconds, 0.50));
  to.p95 = in_ms(metrics.quantile(names::kRequestDurationSeconds, 0.95));
  to.p99 = in_ms(metrics.quantile(names::kRequestDurationSeconds, 0.99));
  to.bytes_in = whole(metrics.sum(names::kBytesReceivedTotal, {{"side", "client"}}));
  to.bytes_out = whole(metrics.sum(names::kBytesSentTotal, {{"side", "client"}}));
  if (metrics.sum(names::kQueueSize))
    to.queue = Queue{.waiting = whole(metrics.sum(names::kQueueSize)),
                     .fullest = metrics.sum(names::kQueueFillRatio),
                     .by_priority = by_label(metrics, names::kQueueSize, "priority")};
  // 0 closed, 1 open, 2 half-open; one of each service.
  for (const auto& [service, state] : by_label(metrics, names::kCircuitBreakerState, "service")) {
    if (to.breakers.worst.empty() || (state != 0 && to.breakers.worst != "open"))
      to.breakers.worst = state == 0 ? "closed" : state == 1 ? "open" : "half_open";
    if (state != 0) ++to.breakers.count;
  }
  to.ssh_sessions = whole(metrics.sum(names::kSshSessions));
  to.ssh_channels = whole(metrics.sum(names::kSshChannels));
  to.log_lost = whole(metrics.sum(names::kLogDroppedTotal));
  const auto if_any = [&](const char* name) -> std::optional<std::uint64_t> {
    const auto value = metrics.sum(name);
    return value ? std::optional(whole(value)) : std::nullopt;
  };
  to.users = if_any(names::kActiveUsers);
  to.memory_bytes = if_any(names::kProcessResidentMemoryBytes);
  to.fds = if_any(names::kProcessOpenFds);
  to.max_fds = if_any(names::kProcessMaxFds);
}

void add_requests(Overview& to, const Json& diagnostics) {
  const auto* requests = member(diagnostics, "requests");
  if (requests == nullptr) return;
  to.requests = count_of(*requests, "total");
  to.succeeded = count_of(*requests, "successful");
  to.failed = count_of(*requests, "failed");
  to.in_flight = count_of(*requests, "inFlight");
  to.p50 = number_of(*requests, "p50Latency");
  to.p95 = number_of(*requests, "p95Latency");
  to.p99 = number_of(*requests, "p99Latency");
}

void add_queue_and_breakers(Overview& to, const Json& diagnostics) {
  if (const auto* queue = member(diagnostics, "queue"))
    to.queue = Queue{.waiting = count_of(*queue, "waiting"),
                     .bytes = count_if_any(*queue, "bytes"),
                     .fullest = number_of(*queue, "fullest"),
                     .by_priority = counts_of(*queue, "byPriority")};
  const auto* breaker = member(diagnostics, "circuitBreaker");
  if (breaker == nullptr) return;
  to.breakers = {.worst = text_of(*breaker, "state")};
  if (const auto* open = member(*breaker, "open"); open != nullptr && open->is_array())
    for (const Json& id : *open)
      if (id.is_string()) to.breakers.open.push_back(id.get<std::string>());
  to.breakers.count = to.breakers.open.size();
}

void add_diagnostics(Overview& to, const Json& diagnostics) {
  if (const auto* connections = member(diagnostics, "connections")) {
    to.connections = count_of(*connections, "active");
    to.connections_by_tier = counts_of(*connections, "byTier");
  }
  add_requests(to, diagnostics);
  add_queue_and_breakers(to, diagnostics);
  if (const auto* ssh = member(diagnostics, "ssh")) {
    to.ssh_sessions = count_of(*ssh, "sessions");
    to.ssh_channels = count_of(*ssh, "channels");
  }
  if (const auto* audit = member(diagnostics, "audit")) to.audit_healthy = flag_of(*audit, "healthy");
  if (const auto* events = member(diagnostics, "events")) {
    to.events_healthy = flag_of(*events, "healthy");
    to.last_event = count_if_any(*events, "last");
  }
  if (const auto* penalty = member(diagnostics, "penalty")) {
    to.throttled = count_if_any(*penalty, "throttled");
    to.blocked = count_if_any(*penalty, "blocked");
  }
  if (const auto users = count_if_any(diagnostics, "users")) to.users = users;
  if (const auto* resources = member(diagnostics, "resources")) {
    to.memory_bytes = count_if_any(*resources, "memoryUsage");
    to.fds = count_if_any(*resources, "fds");
    to.max_fds = count_if_any(*resources, "maxFds");
  }
}

/// How much a counter has grown in a second; a smaller one belongs to another connection of that id.
double growth(std::uint64_t before, std::uint64_t now, double seconds) {
  return now < before || seconds <= 0 ? 0 : static_cast<double>(now - before) / seconds;
}

}  // namespace

Overview overview_of(const Readiness& ready, const Health& health, const Exposition& metrics,
                     const Json& diagnostics) {
  Overview result;
  result.version = health.version;
  if (health.uptime_seconds) result.uptime_seconds = static_cast<double>(*health.uptime_seconds);
  add_metrics(result, metrics);
  if (const auto* service = member(diagnostics, "service")) {
    result.with_token = true;
    result.version = text_of(*service, "version");
    result.uptime_seconds = number_of(*service, "uptime");
    add_diagnostics(result, diagnostics);
  }
  const bool degraded = health.status == "degraded" || result.audit_healthy == false;
  if (!ready.ready)
    result.state = ready.reason.empty() ? "not ready" : ready.reason;
  else
    result.state = degraded ? "degraded" : "serving";
  result.serving = ready.ready && !degraded;
  return result;
}

Result<Overview> read_overview(const Admin& admin) {
  const auto ready = admin.readiness();
  if (!ready) return tl::unexpected(ready.error());
  const auto health = admin.health();
  if (!health) return tl::unexpected(health.error());
  const auto metrics = admin.metrics();
  if (!metrics) return tl::unexpected(metrics.error());
  Json diagnostics;
  if (admin.has_token()) {
    auto told = admin.diagnostics();
    if (!told) return tl::unexpected(told.error());
    diagnostics = std::move(*told);
  }
  return overview_of(*ready, *health, Exposition::parse(*metrics), diagnostics);
}

std::optional<Rates> rates_between(const Overview& before, const Overview& after,
                                   std::chrono::duration<double> apart) {
  const double seconds = apart.count();
  if (seconds <= 0 || after.requests < before.requests || after.succeeded < before.succeeded ||
      after.bytes_in < before.bytes_in || after.bytes_out < before.bytes_out)
    return std::nullopt;
  Rates result{.seconds = seconds,
               .requests_per_second = growth(before.requests, after.requests, seconds),
               .bytes_in_per_second = growth(before.bytes_in, after.bytes_in, seconds),
               .bytes_out_per_second = growth(before.bytes_out, after.bytes_out, seconds)};
  if (after.requests > before.requests)
    result.success_rate = std::min(1.0, static_cast<double>(after.succeeded - before.succeeded) /
                                            static_cast<double>(after.requests - before.requests));
  return result;
}

std::vector<Connected> connections_of(const Json& answer) {
  std::vector<Connected> result;
  const auto* list = member(answer, "connections");
  if (list == nullptr || !list->is_array()) return result;
  for (const Json& one : *list) {
    if (!one.is_object()) continue;
    // The daemon numbers them.
    const auto* id = member(one, "id");
    result.push_back({.id = id == nullptr     ? ""
                            : id->is_string() ? id->get<std::string>()
                                              : id->dump(),
                      .kind = text_of(one, "kind"),
                      .service = text_of(one, "service"),
                      .peer = text_of(one, "peer"),
                      .principal = text_of(one, "principal"),
                      .tls = flag_of(one, "tls").value_or(false),
                      .age_seconds = number_of(one, "ageSeconds").value_or(0),
                      .requests = count_of(one, "requests"),
                      .bytes_in = count_of(one, "bytesIn"),
                      .bytes_out = count_of(one, "bytesOut")});
  }
  return result;
}

void add_rates(std::vector<Connected>& now, const std::vector<Connected>& before,
               std::chrono::duration<double> apart) {
  std::map<std::string, const Connected*> old;
  for (const auto& one : before) old[one.id] = &one;
  for (auto& one : now) {
    const auto found = old.find(one.id);
    const bool known = found != old.end() && found->second->age_seconds <= one.age_seconds;
    const double seconds = known ? apart.count() : one.age_seconds;
    one.bytes_in_per_second = growth(known ? found->second->bytes_in : 0, one.bytes_in, seconds);
    one.bytes_out_per_second = growth(known ? found->second->bytes_out : 0, one.bytes_out, seconds);
  }
}

std::vector<User> users_of(const Json& answer) {
  std::vector<User> result;
  const auto* list = member(answer, "users");
  if (list == nullptr || !list->is_array()) return result;
  for (const Json& one : *list) {
    if (!one.is_object()) continue;
    result.push_back({.principal = text_of(one, "principal"),
                      .tier = text_of(one, "tier"),
                      .requests = count_of(one, "requests"),
                      .errors = count_of(one, "errors"),
                      .mean_ms = number_of(one, "meanMs"),
                      .bytes_in = count_of(one, "bytesIn"),
                      .bytes_out = count_of(one, "bytesOut"),
                      .last_seen = text_of(one, "lastSeen")});
  }
  return result;
}

}  // namespace tunnelctl::daemon
