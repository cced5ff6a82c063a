// What the admin pages show of the daemon.
#include <array>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "tunneld/admin/process_info.h"
#include "tunneld/app.h"
#include "tunneld/build.h"

namespace tunneld {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

namespace {

logging::Level level_named(const std::string& name) {
  using logging::Level;
  for (const auto level : {Level::error, Level::warn, Level::info, Level::debug, Level::trace})
    if (name == logging::to_string(level)) return level;
  return Level::info;  // the page checked the name
}

double in_ms(double seconds) {
  return seconds * 1000;
}

Json errors_by_category(const std::array<std::uint64_t, 19>& by_code) {
  Json errors;
  for (const auto* category : {"network", "authentication", "configuration", "server", "protocol", "unknown"})
    errors[category] = 0;
  for (std::size_t code = 1; code < by_code.size(); ++code) {
    auto& count = errors[std::string(tunnel::facts(static_cast<tunnel::Code>(code)).category)];
    count = count.get<std::uint64_t>() + by_code[code];
  }
  return errors;
}

}  // namespace

admin::Sources App::admin_sources() {
  admin::Sources sources;
  sources.metrics = [this](bool openmetrics, bool compat) { return metrics_->expose(openmetrics, compat); };
  sources.health = [this] { return health(); };
  sources.counts = [this] { return counts(); };
  sources.authenticate = [this](const tunnel::RequestHead& head) -> tunnel::Served<access::Principal> {
    auto caller = authenticator_->authenticate(head);
    if (!caller) return tl::unexpected(caller.error());
    return caller->principal();
  };
  sources.connections = [this] { return connections(); };
  sources.diagnostics = [this] { return diagnostics(); };
  sources.log_level = [] { return std::string(logging::to_string(logging::level())); };
  sources.set_log_level = [](const std::string& level, std::optional<std::chrono::seconds> ttl) {
    logging::set_level(level_named(level), ttl);
    logging::warn("admin", "log level changed",
                  {{"to", level}, {"ttl_s", ttl ? ttl->count() : std::int64_t{0}}});
  };
  sources.refused = [this](tunnel::Code code) { metrics_->error_answered(code); };
  sources.compat_metrics = configuration_->values.metrics_compat;
  return sources;
}

Json App::connections() const {
  Json list = Json::array();
  const auto now = Clock::now();
  for (const auto* door : {tls_door_.get(), plain_door_.get()}) {
    if (door == nullptr) continue;
    for (const auto& connection : door->connections())
      list.push_back({{"id", connection.id},
                      {"kind", connection.kind},
                      {"service", connection.service},
                      {"peer", connection.peer},
                      {"tls", door == tls_door_.get()},
                      {"thread", connection.thread},
                      {"ageSeconds", std::chrono::duration<double>(now - connection.since).count()},
                      {"requests", connection.requests},
                      {"bytesIn", connection.bytes_in},
                      {"bytesOut", connection.bytes_out}});
  }
  const auto total = list.size();
  return {{"timestamp", admin::rfc3339(std::chrono::system_clock::now())},
          {"total", total},
          {"connections", std::move(list)}};
}

Json App::diagnostics() const {
  const auto shot = metrics_->snapshot();
  const auto process = admin::read_process_info();
  const auto about = health();
  const auto& tiers = shot.connections_by_tier;
  const auto requests = shot.succeeded + shot.failed;
  Json body;
  body["timestamp"] = admin::rfc3339(std::chrono::system_clock::now());
  body["service"] = {{"version", about.version},
                     {"uptime", about.uptime.count()},
                     {"startTime", admin::rfc3339(about.started_at)},
                     {"state", about.not_ready.value_or("serving")}};
  body["connections"] = {{"active", tiers[0] + tiers[1] + tiers[2]},
                         {"total", shot.connections_accepted},
                         {"byTier", {{"free", tiers[0]}, {"premium", tiers[1]}, {"enterprise", tiers[2]}}}};
  // Latencies in milliseconds over the last five minutes; counts since the start.
  body["requests"] = {
      {"total", requests},
      {"successful", shot.succeeded},
      {"failed", shot.failed},
      {"successRate",
       requests == 0 ? 1.0 : static_cast<double>(shot.succeeded) / static_cast<double>(requests)},
      {"inFlight", shot.in_flight},
      {"averageLatency", in_ms(shot.latency.mean)},
      {"p50Latency", in_ms(shot.latency.p50)},
      {"p95Latency", in_ms(shot.latency.p95)},
      {"p99Latency", in_ms(shot.latency.p99)}};
  body["errors"] = errors_by_category(shot.errors_by_code);
  body["ssh"] = {{"sessions", shot.ssh_sessions}, {"channels", shot.ssh_channels}, {"waiting", shot.waiting}};
  body["resources"] = {{"memoryUsage", process.resident_bytes},
                       {"cpuUsage", process.cpu_seconds},
                       {"fds", process.open_fds},
                       {"maxFds", process.max_fds},
                       {"connections", shot.sockets}};
  return body;
}

}  // namespace tunneld
