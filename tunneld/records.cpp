#include "tunneld/records.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "tunneld/admin/health.h"
#include "tunneld/admin/user_table.h"
#include "tunneld/build.h"

namespace tunneld {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

namespace {

constexpr auto kTellEvery = 1s;
constexpr std::size_t kMostOverloaded = 1024;  // principals whose queues are told of at a time

/// A moment of the monotonic clock, in words of the wall clock.
std::string wall_time(Clock::time_point moment) {
  return admin::rfc3339(
      std::chrono::system_clock::now() +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(moment - Clock::now()));
}

}  // namespace

Result<std::unique_ptr<Records>> Records::open(const Config& config, const std::filesystem::path& state_dir,
                                               const std::string& instance_id, admin::Metrics& metrics) {
  std::unique_ptr<Records> made(new Records(metrics));
  auto events = events::EventLog::open(
      {.directory = state_dir / "events", .max_bytes = config.events_bytes, .instance_id = instance_id});
  if (!events) return tl::unexpected(events.error());
  made->events_ = std::move(*events);
  if (config.audit.enabled) {
    auto options = config.audit;
    if (options.directory.empty()) options.directory = state_dir / "audit";
    audit::AuditLog::Reports reports;
    reports.written = [&metrics](std::string_view event) { metrics.audit_written(event); };
    reports.lost = [&metrics](std::uint64_t lines, std::string_view why) {
      metrics.audit_lost(lines);
      logging::error("audit", "audit lines were lost", {{"lines", lines}, {"why", why}});
    };
    reports.health = [records = made.get()](bool healthy, std::string_view why) {
      records->audit_health(healthy, why);
    };
    // Counted while it lasts: lines wait in memory, and the alert must not wait for the first that is lost.
    reports.failed = [&metrics](std::string_view) { metrics.audit_lost(1); };
    auto audit = audit::AuditLog::open(options, instance_id, std::move(reports));
    if (!audit) return tl::unexpected(audit.error());
    made->audit_ = std::move(*audit);
  }
  if (!config.tracing.endpoint.empty()) {
    tracing::Tracer::Reports reports;
    reports.spans = [&metrics](std::string_view result, std::uint64_t count) {
      metrics.spans(result, count);
    };
    auto tracer = tracing::Tracer::open(config.tracing, {build::version(), instance_id}, std::move(reports));
    if (!tracer) return tl::unexpected(tracer.error());
    made->tracer_ = std::move(*tracer);
  }
  return made;
}

Records::~Records() = default;

void Records::breaker_changed(const access::CircuitBreakers::Change& change) {
  const auto& breaker = change.breaker;
  metrics_.breaker_changed(to_string(breaker.state));
  const auto hash = tunnel::principal_hash(breaker.principal);
  const std::string last = breaker.last_errors.empty() ? "" : breaker.last_errors.back();
  logging::warn("breaker", std::string("circuit ") + to_string(breaker.state),
                {{"breaker", breaker.id},
                 {"service", breaker.service},
                 {"principal", hash},
                 {"upstream", breaker.upstream},
                 {"from", to_string(change.from)},
                 {"failures", breaker.failures_in_a_row},
                 {"refused", breaker.refused},
                 {"last_error", last}});
  Json data{{"breaker", breaker.id},
            {"from", to_string(change.from)},
            {"upstream", breaker.upstream},
            {"service", breaker.service},
            {"principal", hash},
            {"failures", breaker.failures_in_a_row},
            {"refusedRequests", breaker.refused},
            {"lastErrors", breaker.last_errors}};
  const char* kind = "breaker.half_open";
  if (breaker.state == access::BreakerState::open) {
    kind = "breaker.opened";
    data["nextProbe"] = wall_time(breaker.next_probe);
  } else if (breaker.state == access::BreakerState::closed) {
    kind = "breaker.closed";
    data["openForMs"] = change.open_for.count();
    data["successes"] = breaker.successes_in_a_row;
  }
  events_->append(kind, data);
}

void Records::upstream_changed(std::size_t thread, std::string_view upstream, bool lost,
                               std::string_view why) {
  const std::string name(upstream);
  Clock::duration away{};
  {
    const std::lock_guard lock(mutex_);
    auto& threads = lost_[name];
    const bool before = !threads.by.empty();
    if (lost)
      threads.by.insert(thread);
    else
      threads.by.erase(thread);
    const bool after = !threads.by.empty();
    if (before == after) return;
    if (after) threads.since = Clock::now();
    away = Clock::now() - threads.since;
  }
  if (lost) {
    logging::warn("upstream", "upstream lost", {{"upstream", name}, {"why", why}});
    events_->append("upstream.lost", {{"upstream", name}, {"why", why}});
    return;
  }
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(away).count();
  logging::info("upstream", "upstream back", {{"upstream", name}, {"away_ms", ms}});
  events_->append("upstream.back", {{"upstream", name}, {"awayMs", ms}});
}

void Records::queue_level(const std::string& principal_key, tunnel::FlowLevel level, double fill) {
  auto principal = tunnel::principal_hash(principal_key);
  {
    const std::lock_guard lock(mutex_);
    if (level < tunnel::FlowLevel::pause) {
      // The end is told of what the beginning was told of.
      if (overloaded_.erase(principal) == 0) return;
    } else if (overloaded_.size() >= kMostOverloaded || !overloaded_.insert(principal).second) {
      return;
    }
  }
  events_->append("overload", {{"what", "queue"},
                               {"principal", std::move(principal)},
                               {"level", tunnel::to_string(level)},
                               {"fill", fill}});
}

void Records::limit_met(std::string_view scope, const tunnel::Principal& principal,
                        const std::string& address) {
  if (!audit_) return;
  std::uint64_t untold = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (now - limits_told_ < kTellEvery) {
      ++limits_untold_;
      return;
    }
    limits_told_ = now;
    untold = std::exchange(limits_untold_, 0);
  }
  audit_->write("limit.exceeded", {{"scope", scope},
                                   {"principal", tunnel::principal_hash(principal.key())},
                                   {"peer", address},
                                   {"untold_before", untold}});
}

void Records::agent_changed(const upstream::AgentInfo& agent, bool connected, std::string_view why) {
  const char* kind = connected ? "agent.connected" : "agent.lost";
  logging::log(connected ? logging::Level::info : logging::Level::warn, "agent",
               connected ? "agent connected" : "agent lost",
               {{"agent", agent.agent_id},
                {"principal", agent.principal_hash},
                {"peer", agent.peer},
                {"services", agent.services.size()},
                {"why", why}});
  Json data{{"agent", agent.agent_id}, {"principal", agent.principal_hash}, {"peer", agent.peer}};
  if (connected)
    data["services"] = agent.services;
  else
    data["why"] = why;
  events_->append(kind, data);
  if (audit_)
    audit_->write(kind, {{"agent", agent.agent_id},
                         {"principal", agent.principal_hash},
                         {"peer", agent.peer},
                         {"host_key", agent.host_key_fingerprint},
                         {"why", why}});
}

void Records::agent_forgotten(const std::string& agent_id, const std::string& principal_hash,
                              const std::string& fingerprint, std::string_view by) {
  logging::warn("agent", "an agent's host key was forgotten",
                {{"agent", agent_id}, {"principal", principal_hash}, {"host_key", fingerprint}, {"by", by}});
  if (audit_)
    audit_->write(
        "agent.forgotten",
        {{"agent", agent_id}, {"principal", principal_hash}, {"host_key", fingerprint}, {"by", by}});
}

void Records::agent_superseded(const std::string& agent_id, const std::string& principal_hash) {
  logging::warn("agent", "an agent's connection was replaced by a newer one",
                {{"agent", agent_id}, {"principal", principal_hash}});
  events_->append("agent.superseded", {{"agent", agent_id}, {"principal", principal_hash}});
}

void Records::configure(const Config& config) {
  if (audit_) audit_->configure(config.audit);
  if (tracer_) tracer_->set_sample_percent(config.tracing.sample_percent);
  tick();
}

void Records::audit_health(bool healthy, std::string_view why) {
  Json data = Json::object();
  if (!healthy) data["why"] = why;
  events_->append(healthy ? "audit.recovered" : "audit.failing", data);
  if (healthy)
    logging::info("audit", "audit lines are written again");
  else
    logging::error("audit", "audit lines cannot be written", {{"why", why}});
}

void Records::tick() {
  unaudited_ = audit_ && !audit_->may_serve();
  const double fill = metrics_.connections_fill();
  const auto level = tunnel::next_level(connections_level_, fill);
  const bool before = connections_level_ >= tunnel::FlowLevel::pause;
  connections_level_ = level;
  if (before == (level >= tunnel::FlowLevel::pause)) return;
  if (!before) logging::warn("app", "public connections come near limits.max_connections", {{"fill", fill}});
  events_->append("overload", {{"what", "connections"}, {"level", tunnel::to_string(level)}, {"fill", fill}});
}

}  // namespace tunneld
