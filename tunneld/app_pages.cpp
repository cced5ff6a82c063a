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

/// The worst state of all, and which are open.
Json breaker_summary(const std::vector<access::CircuitBreakers::Info>& breakers) {
  auto worst = access::BreakerState::closed;
  Json open = Json::array();
  for (const auto& breaker : breakers) {
    if (breaker.state == access::BreakerState::open) open.push_back(breaker.id);
    if (worst != access::BreakerState::open && breaker.state != access::BreakerState::closed)
      worst = breaker.state;
  }
  return {{"state", to_string(worst)}, {"open", std::move(open)}, {"notBlank", breakers.size()}};
}

}  // namespace

admin::Sources App::admin_sources() {
  admin::Sources sources;
  sources.metrics = [this](bool openmetrics, bool compat) { return metrics_->expose(openmetrics, compat); };
  sources.health = [this] { return health(); };
  sources.counts = [this] { return counts(); };
  sources.authenticate = [this](const tunnel::RequestHead& head) -> tunnel::Served<tunnel::Principal> {
    auto caller = authenticator_->authenticate(head);
    if (!caller) return tl::unexpected(caller.error().refusal);
    return caller->principal();
  };
  sources.connections = [this] { return connections(); };
  sources.agents = [this] { return agents(); };
  sources.forget_agent = [this](const std::string& hash, const std::string& id) -> tunnel::Served<void> {
    const auto owner = agents_->enrolled_by(hash, id);
    if (!owner) return tl::unexpected(upstream::AgentRegistry::not_enrolled(id));
    return agents_->forget(*owner, id, acting_);
  };
  sources.diagnostics = [this] { return diagnostics(); };
  sources.log_level = [] { return std::string(logging::to_string(logging::level())); };
  sources.set_log_level = [this](const std::string& level, std::optional<std::chrono::seconds> ttl) {
    const std::string from = logging::to_string(logging::level());
    logging::set_level(level_named(level), ttl);
    const std::int64_t seconds = ttl ? ttl->count() : 0;
    logging::warn("admin", "log level changed", {{"to", level}, {"ttl_s", seconds}});
    if (auto* audit = records_->audit())
      audit->write("log_level.changed", {{"from", from}, {"to", level}, {"ttl_s", seconds}, {"by", acting_}});
  };
  sources.refused = [this](tunnel::Code code) { metrics_->error_answered(code); };
  sources.compat_metrics = config().metrics_compat;
  sources.acting = [this](const tunnel::Principal& principal) {
    acting_ = tunnel::principal_hash(principal.key());
  };
  sources.called = [this](const admin::AdminCall& call) { report_admin_call(call); };
  add_config_sources(sources);
  add_protection_sources(sources);
  sources.snapshot = [this] { return metrics_->snapshot(); };
  sources.latency = [this](std::chrono::seconds window) { return metrics_->latency(window); };
  sources.history = &history_;
  sources.users = &users_;
  sources.close_connection = [this](std::uint64_t id) { return close_connection(id); };
  sources.drain = [this] { return begin_drain("admin"); };
  sources.events.after = [this](std::uint64_t after, std::size_t limit) {
    auto page = records_->events().after(after, limit);
    admin::EventSource::Page shown{{}, page.first, page.last, page.gap};
    for (auto& event : page.events)
      shown.events.push_back({event.id, std::move(event.kind), std::move(event.json)});
    return shown;
  };
  sources.events.subscribe = [this](std::function<void()> notify) {
    return records_->events().subscribe(std::move(notify));
  };
  return sources;
}

void App::add_config_sources(admin::Sources& sources) {
  const auto tell = [this](const char* event, const admin::ConfigChanges& changes) {
    Json keys = Json::array();
    for (const auto& [key, change] : changes.changes) {
      keys.push_back(key);
      const auto arrow = change.find(" -> ");
      const auto from = change.substr(0, arrow);
      const auto to = arrow == std::string::npos ? std::string() : change.substr(arrow + 4);
      logging::warn("config", "setting changed", {{"key", key}, {"from", from}, {"to", to}, {"by", acting_}});
      if (auto* audit = records_->audit())
        audit->write(event, {{"key", key}, {"from", from}, {"to", to}, {"by", acting_}});
    }
    if (!keys.empty())
      records_->events().append("config.changed", {{"keys", std::move(keys)}, {"by", acting_}});
  };
  sources.config = [this] { return config_->get(); };
  sources.put_config = [this, tell](const std::optional<std::string>& if_match, const nlohmann::json& body) {
    auto done = config_->put(if_match, body);
    if (done) tell("config.changed", *done);
    return done;
  };
  sources.reset_config = [this, tell](const std::optional<std::string>& if_match,
                                      const std::vector<std::string>& keys) {
    auto done = config_->reset(if_match, keys);
    if (done) tell("config.reset", *done);
    return done;
  };
}

void App::add_protection_sources(admin::Sources& sources) {
  sources.breakers = [this] { return breakers_->list(Clock::now()); };
  sources.reset_breaker = [this](std::string_view id) {
    const bool found = breakers_->reset(id, Clock::now());
    if (auto* audit = records_->audit(); found && audit != nullptr)
      audit->write("breaker.reset", {{"breaker", id}, {"by", acting_}});
    return found;
  };
  sources.pardon = [this](const std::string& text) {
    const auto address = tunnel::Address::parse(text);
    const bool found = address && penalty_.pardon(*address);
    if (auto* audit = records_->audit(); found && audit != nullptr)
      audit->write("penalty", {{"peer", text}, {"standing", "forgiven"}, {"by", acting_}});
    return found;
  };
  sources.revocations = [this] { return revocations_->list(); };
  sources.revoke = [this](access::Revocations::Entry entry) {
    const auto token_id = entry.token_id;
    tunnel::Principal whose;
    whose.issuer = entry.issuer;
    whose.subject = entry.subject;
    const auto principal = entry.subject.empty() ? std::string() : tunnel::principal_hash(whose.key());
    auto added = revocations_->add(std::move(entry), std::chrono::system_clock::now());
    if (!added) return added;
    // Streams are looked at now rather than with the next tick.
    revocations_seen_ = revocations_->version();
    on_every_gate([](Gate& gate) { gate.streams().check_revocations(); });
    logging::warn("access", "tokens revoked", {{"token_id", token_id}});
    if (auto* audit = records_->audit())
      audit->write("token.revoked", {{"token_id", token_id}, {"principal", principal}, {"by", acting_}});
    return added;
  };
}

void App::report_admin_call(const admin::AdminCall& call) {
  auto* audit = records_->audit();
  if (audit == nullptr || (!call.notable && !config().audit.requests)) return;
  const std::string principal =
      call.principal == nullptr ? std::string() : tunnel::principal_hash(call.principal->key());
  const std::string code(call.refused ? tunnel::facts(*call.refused).name : "");
  const bool denied = call.status == 401 || call.status == 403;
  audit->write(denied ? "admin.denied" : "admin.call", {{"method", call.method},
                                                        {"page", call.page},
                                                        {"status", call.status},
                                                        {"code", code},
                                                        {"principal", principal},
                                                        {"peer", call.peer},
                                                        {"correlation_id", call.correlation_id}});
}

bool App::close_connection(std::uint64_t id) {
  constexpr std::uint16_t kPolicy = 1008;
  for (auto* door : {tls_door_.get(), plain_door_.get()}) {
    if (door == nullptr || !door->close_connection(id, kPolicy, R"({"code":"TUNNEL_011"})")) continue;
    if (auto* audit = records_->audit())
      audit->write("connection.closed_by_admin", {{"connection_id", id}, {"by", acting_}});
    return true;
  }
  return false;
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
                      {"principal", connection.principal},
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

Json App::agents() const {
  Json list = Json::array();
  for (const auto& agent : agents_->agents())
    list.push_back({{"agentId", agent.agent_id},
                    {"principal", agent.principal_hash},
                    {"peer", agent.peer},
                    {"user", agent.user},
                    {"hostKey", agent.host_key_fingerprint},
                    {"bootId", agent.boot_id},
                    {"services", agent.services},
                    {"connections", agent.connections},
                    {"sessions", agent.sessions},
                    {"since", admin::rfc3339(agent.since)}});
  const auto total = list.size();
  return {{"timestamp", admin::rfc3339(std::chrono::system_clock::now())},
          {"total", total},
          {"agents", std::move(list)}};
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
  body["ssh"] = {{"sessions", shot.ssh_sessions}, {"channels", shot.ssh_channels}};
  const auto waiting = queue_->counts();
  body["queue"] = {{"waiting", waiting.waiting},
                   {"bytes", waiting.bytes},
                   {"fullest", queue_->fullest()},
                   {"byPriority",
                    {{"high", shot.waiting_by_priority[0]},
                     {"normal", shot.waiting_by_priority[1]},
                     {"low", shot.waiting_by_priority[2]}}}};
  body["circuitBreaker"] = breaker_summary(breakers_->list(Clock::now()));
  body["limits"] = {{"refused", shot.rate_limited}, {"queueDropped", shot.queue_dropped}};
  body["audit"] = {{"healthy", records_->audit_healthy()}, {"lost", shot.audit_lost}};
  body["events"] = {{"healthy", records_->events().healthy()}, {"last", records_->events().after(0, 1).last}};
  const auto penalties = penalty_.counts(Clock::now());
  body["penalty"] = {{"throttled", penalties.throttled}, {"blocked", penalties.blocked}};
  body["users"] = users_.size();
  body["slowRequests"] = shot.slow;
  body["resources"] = {{"memoryUsage", process.resident_bytes},
                       {"cpuUsage", process.cpu_seconds},
                       {"fds", process.open_fds},
                       {"maxFds", process.max_fds},
                       {"connections", shot.sockets}};
  return body;
}

}  // namespace tunneld
