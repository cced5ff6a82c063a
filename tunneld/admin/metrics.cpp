#include "tunneld/admin/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "common/metric_names.h"
#include "tunneld/admin/exemplars.h"
#include "tunneld/admin/openmetrics.h"
#include "tunneld/admin/process_info.h"

namespace tunneld::admin {

namespace names = metric_names;

using access::BreakerState;
using tunnel::Code;
using tunnel::FlowLevel;
using tunnel::Initiator;
using tunnel::Outcome;
using tunnel::Priority;
using tunnel::QueueExit;
using tunnel::Side;
using tunnel::Tier;

namespace {

constexpr std::array kDefaultBounds{.001, .005, .01, .05, .1, .5, 1., 5., 10., 60.};
constexpr std::array kRequestBounds{.005, .01, .025, .05, .1, .2, .5, 1., 2., 5., 10., 30., 60., 300.};
constexpr std::array kOldLatencyBounds{.01, .05, .1, .2, .5, 1., 5., 30.};  // shown in ms
constexpr std::chrono::milliseconds kSlow{5'000};

constexpr std::array<std::string_view, 2> kRoles{"caller", "agent"};
constexpr std::array<std::string_view, 3> kPhases{"tls", "upgrade", "ssh"};
constexpr std::array<std::uint16_t, 16> kCloseCodes{1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009,
                                                    1011, 1012, 1013, 4401, 4403, 4408, 4409, 4429};
constexpr std::array<const char*, 3> kResumed{"ok", "expired", "refused"};
constexpr std::array<const char*, 2> kInitiators{"client", "server"};
constexpr std::array<const char*, 2> kOutcomes{"success", "error"};
constexpr std::array<const char*, 2> kSides{"client", "agent"};
constexpr std::array<std::string_view, 5> kLimitScopes{"user", "ip", "global", "connections", "other"};
/// Ends of a wait without service, then the refusal before it.
constexpr std::array<const char*, 6> kQueueReasons{"served", "expired",   "evicted",
                                                   "failed", "abandoned", "full"};
constexpr std::size_t kQueueFull = 5;
constexpr std::array<std::string_view, 3> kBreakerStates{"closed", "open", "half_open"};
constexpr std::size_t kCodes = 19;  // codes start at 1

template <std::size_t N>
std::size_t index_in(const std::array<std::string_view, N>& values, std::string_view value) {
  const auto found = std::find(values.begin(), values.end(), value);
  return found == values.end() ? 0 : static_cast<std::size_t>(found - values.begin());
}

std::size_t index_of(Tier tier) {
  return static_cast<std::size_t>(tier);
}
std::size_t index_of(FlowLevel level) {
  return static_cast<std::size_t>(level);
}
std::size_t index_of(QueueExit how) {
  return static_cast<std::size_t>(how);
}
std::size_t index_of(BreakerState state) {
  return static_cast<std::size_t>(state);
}
std::size_t index_of(Side side) {
  return static_cast<std::size_t>(side);
}
std::size_t index_of(Outcome outcome) {
  return static_cast<std::size_t>(outcome);
}
std::size_t index_of(Code code) {
  return std::min(static_cast<std::size_t>(code), kCodes - 1);
}

/// For the gauge, where it says which one an operator must hear of: open before half-open before closed.
int severity(BreakerState state) {
  return state == BreakerState::open ? 2 : state == BreakerState::half_open ? 1 : 0;
}

template <std::size_t N>
struct Histograms {
  explicit Histograms(std::span<const double> bounds) {
    for (std::size_t i = 0; i < N; ++i) all.emplace_back(bounds);
  }
  Histogram& operator[](std::size_t i) { return all[i]; }
  const Histogram& operator[](std::size_t i) const { return all[i]; }
  std::deque<Histogram> all;
};

}  // namespace

/// One member a metric; arrays are indexed by the enumerators of their labels.
struct Metrics::Cells {
  explicit Cells(std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) loop_lag.emplace_back(kDefaultBounds);
  }

  Level sockets;
  LabelledCounters sockets_refused{std::array<std::string_view, 5>{
      "max_connections", "fd_reserve", "early_drop", "address", "proxy_protocol"}};
  std::array<Level, 3> websockets;
  std::array<std::array<Counter, kCodes>, 2> upgrades;  // by role and code; 0 is "ok"
  Histograms<2> lifetime{kDefaultBounds};
  Histograms<3> setup{kDefaultBounds};
  std::array<std::array<Counter, 2>, kCloseCodes.size() + 1> closes;  // the last is "other"
  LabelledCounters frames_rejected{
      std::array<std::string_view, 5>{"oversize", "utf8", "protocol", "inflate", "control_flood"}};
  LabelledCounters requests_rejected{};
  Histogram heartbeat_rtt{kDefaultBounds};
  Counter heartbeat_timeouts;
  std::array<Counter, kResumed.size()> resumed;
  Counter superseded;

  LabelledCounters auth_accepted{};
  LabelledCounters auth_refused{};
  std::array<Counter, 2> jwks;  // error, ok

  std::array<Level, 3> in_flight;
  std::array<std::array<std::array<Counter, 3>, 3>, 2> requests;  // by outcome, tier and priority
  Histograms<2> request_duration{kRequestBounds};
  std::array<Exemplars, 2> exemplars{Exemplars(kRequestBounds), Exemplars(kRequestBounds)};  // by outcome
  Histogram overhead{kDefaultBounds};
  Counter slow;
  std::atomic<std::chrono::steady_clock::rep> slow_limit{Duration(kSlow).count()};
  SlidingDurations recent;
  DurationSketch all_durations;
  std::array<Counter, kCodes> errors;
  std::array<Counter, 2> received;
  std::array<Counter, 2> sent;

  Level ssh_sessions;
  Histogram ssh_handshake{kDefaultBounds};
  LabelledCounters ssh_errors{};  // "phase reason"
  Level channels;
  Counter channels_opened;
  LabelledCounters channels_refused{std::array<std::string_view, 3>{"refused", "timeout", "error"}};

  std::array<Level, 3> waiting;  // by priority
  Histograms<3> queue_wait{kDefaultBounds};
  std::array<std::array<Counter, 3>, kQueueReasons.size()> queue_ended;  // by reason and priority
  std::array<Counter, tunnel::kFlowLevels.size()> flow_levels;
  std::array<Counter, 3> breaker_changes;                           // by the state that was entered
  std::array<std::array<Counter, 3>, kLimitScopes.size()> limited;  // by scope and tier
  std::array<std::array<Counter, 2>, 2> compressed;                 // by side; before and after

  LabelledCounters audit_events{};
  Counter audit_lost;
  LabelledCounters spans{std::array<std::string_view, 3>{"exported", "dropped", "failed"}};

  std::deque<Histogram> loop_lag;
  std::atomic<bool> draining{false};
  LabelledCounters shutdown_reasons{};
  Histogram shutdown{kDefaultBounds};
  std::array<Counter, 2> reloads;  // error, ok

  // Compatibility names whose buckets differ.
  Histogram old_latency{kOldLatencyBounds};
  Histogram old_ssh_time{kOldLatencyBounds};
};

Metrics::Metrics(Options options)
    : options_(std::move(options)), cells_(std::make_unique<Cells>(options_.threads)) {}
Metrics::~Metrics() = default;

void Metrics::set_draining(bool draining) {
  cells_->draining.store(draining, std::memory_order_relaxed);
}
void Metrics::shutdown_took(std::string_view reason, Duration took) {
  cells_->shutdown_reasons.add(reason);
  cells_->shutdown.observe(took);
}
void Metrics::loop_lagged(std::size_t thread, Duration lag) {
  if (thread < cells_->loop_lag.size()) cells_->loop_lag[thread].observe(lag);
}
void Metrics::config_reloaded(bool ok) {
  cells_->reloads[ok ? 1 : 0].add();
}

void Metrics::set_slow(std::chrono::milliseconds limit) {
  cells_->slow_limit.store(Duration(limit).count(), std::memory_order_relaxed);
}
void Metrics::session_resumed(Resumed result) {
  cells_->resumed[static_cast<std::size_t>(result)].add();
}
void Metrics::session_superseded() {
  cells_->superseded.add();
}
void Metrics::audit_written(std::string_view event) {
  cells_->audit_events.add(event);
}
void Metrics::audit_lost(std::uint64_t lines) {
  cells_->audit_lost.add(lines);
}
void Metrics::spans(std::string_view result, std::uint64_t count) {
  cells_->spans.add(result, count);
}

void Metrics::socket_opened() {
  cells_->sockets.add(1);
}
void Metrics::socket_closed() {
  cells_->sockets.add(-1);
}
void Metrics::socket_refused(std::string_view reason) {
  cells_->sockets_refused.add(reason);
}
void Metrics::setup_finished(std::string_view phase, Duration took) {
  cells_->setup[index_in(kPhases, phase)].observe(took);
}
void Metrics::websocket_opened(Tier tier, std::string_view role) {
  cells_->websockets[index_of(tier)].add(1);
  cells_->upgrades[index_in(kRoles, role)][0].add();
}
void Metrics::websocket_refused(std::string_view role, Code code) {
  cells_->upgrades[index_in(kRoles, role)][index_of(code)].add();
}
void Metrics::websocket_closed(Tier tier, std::string_view role, std::uint16_t code, Initiator initiator,
                               Duration lived) {
  cells_->websockets[index_of(tier)].add(-1);
  const auto place =
      static_cast<std::size_t>(std::find(kCloseCodes.begin(), kCloseCodes.end(), code) - kCloseCodes.begin());
  cells_->closes[place][static_cast<std::size_t>(initiator)].add();
  cells_->lifetime[index_in(kRoles, role)].observe(lived);
}
void Metrics::frame_rejected(std::string_view reason) {
  cells_->frames_rejected.add(reason);
}
void Metrics::request_rejected(std::string_view reason) {
  cells_->requests_rejected.add(reason);
}
void Metrics::heartbeat_rtt(Duration rtt) {
  cells_->heartbeat_rtt.observe(rtt);
}
void Metrics::heartbeat_timed_out() {
  cells_->heartbeat_timeouts.add();
}

void Metrics::compressed(Side from, std::size_t before, std::size_t after) {
  auto& cells = cells_->compressed[index_of(from)];
  cells[0].add(before);
  cells[1].add(after);
}

void Metrics::auth_attempt(bool accepted, std::string_view reason) {
  (accepted ? cells_->auth_accepted : cells_->auth_refused).add(reason);
}
void Metrics::jwks_refreshed(bool ok) {
  cells_->jwks[ok ? 1 : 0].add();
}

void Metrics::rate_limited(std::string_view scope, Tier tier) {
  auto place = index_in(kLimitScopes, scope);
  if (kLimitScopes[place] != scope) place = kLimitScopes.size() - 1;
  cells_->limited[place][index_of(tier)].add();
}

void Metrics::request_started(Tier tier) {
  cells_->in_flight[index_of(tier)].add(1);
}
void Metrics::request_finished(const tunnel::FinishedRequest& request) {
  auto& cells = *cells_;
  const auto outcome = index_of(request.outcome);
  cells.in_flight[index_of(request.tier)].add(-1);
  cells.requests[outcome][index_of(request.tier)][index_of(request.priority)].add();
  cells.request_duration[outcome].observe(request.took);
  if (!request.trace_id.empty())
    cells.exemplars[outcome].observe(request.took, request.trace_id, std::chrono::system_clock::now());
  cells.overhead.observe(request.overhead);
  cells.old_latency.observe(request.took);
  if (request.took.count() > cells.slow_limit.load(std::memory_order_relaxed)) cells.slow.add();
  cells.recent.observe(request.took, std::chrono::steady_clock::now());
  cells.all_durations.observe(request.took);
}
void Metrics::error_answered(Code code) {
  cells_->errors[index_of(code)].add();
}
void Metrics::bytes(Side side, std::size_t received, std::size_t sent) {
  cells_->received[index_of(side)].add(received);
  cells_->sent[index_of(side)].add(sent);
}

void Metrics::ssh_session_opened(Duration handshake) {
  cells_->ssh_sessions.add(1);
  cells_->ssh_handshake.observe(handshake);
  cells_->old_ssh_time.observe(handshake);
}
void Metrics::ssh_session_closed() {
  cells_->ssh_sessions.add(-1);
}
void Metrics::ssh_error(std::string_view phase, std::string_view reason) {
  std::string both(phase);
  (both += ' ') += reason;
  cells_->ssh_errors.add(both);
}
void Metrics::channel_opened() {
  cells_->channels.add(1);
  cells_->channels_opened.add();
}
void Metrics::channel_refused(std::string_view result) {
  cells_->channels_refused.add(result);
}
void Metrics::channel_closed() {
  cells_->channels.add(-1);
}

void Metrics::queue_entered(Priority priority) {
  cells_->waiting[index_of(priority)].add(1);
}
void Metrics::queue_left(Priority priority, QueueExit how, Duration waited) {
  cells_->waiting[index_of(priority)].add(-1);
  cells_->queue_wait[index_of(priority)].observe(waited);
  cells_->queue_ended[index_of(how)][index_of(priority)].add();
}
void Metrics::queue_refused(Priority priority) {
  cells_->queue_ended[kQueueFull][index_of(priority)].add();
}
void Metrics::flow_level_changed(FlowLevel to) {
  cells_->flow_levels[index_of(to)].add();
}
void Metrics::breaker_changed(std::string_view to) {
  cells_->breaker_changes[index_in(kBreakerStates, to)].add();
}

SlidingDurations::Percentiles Metrics::latency(std::chrono::seconds window) const {
  return cells_->recent.read(std::chrono::steady_clock::now(), window);
}
DurationSketch::Counts Metrics::durations() const {
  return cells_->all_durations.read();
}

double Metrics::connections_fill() const {
  const auto most = static_cast<double>(options_.max_connections);
  return most > 0 ? static_cast<double>(cells_->sockets.value()) / most : 0;
}

Metrics::Snapshot Metrics::snapshot() const {
  const auto& cells = *cells_;
  Snapshot shot;
  for (std::size_t tier = 0; tier < 3; ++tier) {
    shot.connections_by_tier[tier] = cells.websockets[tier].value();
    shot.in_flight += cells.in_flight[tier].value();
    for (std::size_t priority = 0; priority < 3; ++priority) {
      shot.succeeded += cells.requests[index_of(Outcome::success)][tier][priority].value();
      shot.failed += cells.requests[index_of(Outcome::error)][tier][priority].value();
    }
  }
  for (const auto& role : cells.upgrades) shot.connections_accepted += role[0].value();
  shot.sockets = cells.sockets.value();
  shot.latency = cells.recent.read(std::chrono::steady_clock::now());
  for (std::size_t code = 0; code < kCodes; ++code) shot.errors_by_code[code] = cells.errors[code].value();
  shot.ssh_sessions = cells.ssh_sessions.value();
  shot.ssh_channels = cells.channels.value();
  for (std::size_t priority = 0; priority < 3; ++priority) {
    shot.waiting_by_priority[priority] = cells.waiting[priority].value();
    shot.waiting += shot.waiting_by_priority[priority];
    for (std::size_t reason = 1; reason < kQueueReasons.size(); ++reason)
      shot.queue_dropped += cells.queue_ended[reason][priority].value();
  }
  shot.slow = cells.slow.value();
  for (const auto& scope : cells.limited)
    for (const auto& tier : scope) shot.rate_limited += tier.value();
  shot.audit_lost = cells.audit_lost.value();
  shot.received_bytes = cells.received[index_of(Side::client)].value();
  shot.sent_bytes = cells.sent[index_of(Side::client)].value();
  return shot;
}

/// Turns cells into the library's families, in the order of the catalogue.
class Metrics::Exposition {
 public:
  using Labels = std::vector<prometheus::ClientMetric::Label>;

  void counter(const char* name, double value, Labels labels = {}) {
    at(name, prometheus::MetricType::Counter, std::move(labels)).counter.value = value;
  }
  void counter(const char* name, const Counter& cell, Labels labels = {}) {
    counter(name, static_cast<double>(cell.value()), std::move(labels));
  }
  void gauge(const char* name, double value, Labels labels = {}) {
    at(name, prometheus::MetricType::Gauge, std::move(labels)).gauge.value = value;
  }
  void gauge(const char* name, const Level& cell, Labels labels = {}) {
    gauge(name, static_cast<double>(cell.value()), std::move(labels));
  }
  /// `scale` is what one second is in the metric's unit.
  void histogram(const char* name, const Histogram& cell, Labels labels = {}, double scale = 1) {
    const auto reading = cell.read();
    auto& to = at(name, prometheus::MetricType::Histogram, std::move(labels)).histogram;
    for (std::size_t i = 0; i < reading.bounds.size(); ++i)
      to.bucket.push_back({reading.cumulative[i], reading.bounds[i] * scale});
    to.bucket.push_back({reading.cumulative.back(), std::numeric_limits<double>::infinity()});
    to.sample_count = reading.cumulative.back();
    to.sample_sum = reading.sum * scale;
  }
  void counters(const char* name, const LabelledCounters& cell, const char* label, const Labels& more = {}) {
    for (auto& entry : cell.read()) {
      auto labels = more;
      labels.push_back({label, std::move(entry.label)});
      counter(name, static_cast<double>(entry.value), std::move(labels));
    }
  }
  const std::vector<prometheus::MetricFamily>& families() const { return families_; }

 private:
  prometheus::ClientMetric& at(const char* name, prometheus::MetricType type, Labels labels) {
    if (families_.empty() || families_.back().name != name) {
      prometheus::MetricFamily family;
      family.name = name;
      family.help = metric_names::help(name);
      family.type = type;
      families_.push_back(std::move(family));
    }
    auto& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }

  std::vector<prometheus::MetricFamily> families_;
};

std::string Metrics::expose(bool openmetrics, bool compat) const {
  const auto& cells = *cells_;
  Exposition out;
  const auto tier_label = [](std::size_t tier) {
    return prometheus::ClientMetric::Label{"user_tier", to_string(static_cast<Tier>(tier))};
  };

  out.gauge(names::kBuildInfo, 1,
            {{"version", options_.build.version},
             {"commit", options_.build.commit},
             {"tls", options_.build.tls},
             {"ssh", options_.build.ssh}});
  for (std::size_t tier = 0; tier < 3; ++tier)
    out.gauge(names::kActiveConnections, cells.websockets[tier], {tier_label(tier)});
  for (std::size_t role = 0; role < kRoles.size(); ++role)
    for (std::size_t code = 0; code < kCodes; ++code) {
      const std::string result = code == 0 ? "ok" : std::string(tunnel::facts(static_cast<Code>(code)).name);
      if (role > 0 && cells.upgrades[role][code].value() == 0) continue;  // agents: only what happened
      out.counter(names::kConnectionsTotal, cells.upgrades[role][code],
                  {{"role", std::string(kRoles[role])}, {"result", result}});
    }
  for (std::size_t role = 0; role < kRoles.size(); ++role)
    out.histogram(names::kConnectionDurationSeconds, cells.lifetime[role],
                  {{"role", std::string(kRoles[role])}});
  for (std::size_t phase = 0; phase < kPhases.size(); ++phase)
    out.histogram(names::kConnectionSetupSeconds, cells.setup[phase],
                  {{"phase", std::string(kPhases[phase])}});
  for (std::size_t code = 0; code <= kCloseCodes.size(); ++code)
    for (std::size_t by = 0; by < kInitiators.size(); ++by)
      out.counter(names::kWebsocketDisconnectionsTotal, cells.closes[code][by],
                  {{"code", code < kCloseCodes.size() ? std::to_string(kCloseCodes[code]) : "other"},
                   {"initiator", kInitiators[by]}});
  out.histogram(names::kHeartbeatRttSeconds, cells.heartbeat_rtt);
  out.counter(names::kHeartbeatTimeoutsTotal, cells.heartbeat_timeouts);
  for (std::size_t result = 0; result < kResumed.size(); ++result)
    out.counter(names::kSessionsResumedTotal, cells.resumed[result], {{"result", kResumed[result]}});
  out.counter(names::kSessionsSupersededTotal, cells.superseded);
  out.gauge(names::kResumeBufferBytes, static_cast<double>(options_.resume_buffer_bytes()));
  out.gauge(names::kAgents, static_cast<double>(options_.agents()));
  out.gauge(names::kActiveUsers, static_cast<double>(options_.active_users()));

  out.gauge(names::kSockets, cells.sockets);
  out.gauge(names::kSocketsLimit, static_cast<double>(options_.max_connections));
  out.counters(names::kSocketsRefusedTotal, cells.sockets_refused, "reason");
  out.counters(names::kRequestsRejectedTotal, cells.requests_rejected, "reason");

  if (const auto expiry = options_.certificate_expiry(); expiry > 0)
    out.gauge(names::kCertificateExpiryTimestampSeconds, expiry);
  out.gauge(names::kSshSessions, cells.ssh_sessions);
  out.gauge(names::kSshChannels, cells.channels);
  out.counter(names::kSshChannelOpensTotal, cells.channels_opened,
              {{"type", "direct-tcpip"}, {"result", "ok"}});
  out.counters(names::kSshChannelOpensTotal, cells.channels_refused, "result", {{"type", "direct-tcpip"}});
  out.histogram(names::kSshHandshakeSeconds, cells.ssh_handshake);
  for (const auto& entry : cells.ssh_errors.read()) {
    const auto space = entry.label.find(' ');
    out.counter(names::kSshErrorsTotal, static_cast<double>(entry.value),
                {{"phase", entry.label.substr(0, space)},
                 {"reason", space == std::string::npos ? "other" : entry.label.substr(space + 1)}});
  }

  for (std::size_t outcome = 0; outcome < kOutcomes.size(); ++outcome)
    for (std::size_t tier = 0; tier < 3; ++tier)
      for (const auto priority : tunnel::kPriorities)
        out.counter(names::kRequestsTotal, cells.requests[outcome][tier][index_of(priority)],
                    {{"status", kOutcomes[outcome]}, tier_label(tier), {"priority", to_string(priority)}});
  for (std::size_t tier = 0; tier < 3; ++tier)
    out.gauge(names::kRequestsInFlight, cells.in_flight[tier], {tier_label(tier)});
  for (std::size_t outcome = 0; outcome < kOutcomes.size(); ++outcome)
    out.histogram(names::kRequestDurationSeconds, cells.request_duration[outcome],
                  {{"outcome", kOutcomes[outcome]}});
  out.histogram(names::kForwardOverheadSeconds, cells.overhead);
  out.counter(names::kSlowRequestsTotal, cells.slow);
  for (std::size_t code = 1; code < kCodes; ++code) {
    const auto& facts = tunnel::facts(static_cast<Code>(code));
    out.counter(names::kErrorsTotal, cells.errors[code],
                {{"category", std::string(facts.category)}, {"code", std::string(facts.name)}});
  }
  for (std::size_t side = 0; side < kSides.size(); ++side)
    out.counter(names::kBytesReceivedTotal, cells.received[side], {{"side", kSides[side]}});
  for (std::size_t side = 0; side < kSides.size(); ++side)
    out.counter(names::kBytesSentTotal, cells.sent[side], {{"side", kSides[side]}});
  add_protection(out);

  out.counters(names::kAuthAttemptsTotal, cells.auth_accepted, "reason", {{"result", "accepted"}});
  out.counters(names::kAuthAttemptsTotal, cells.auth_refused, "reason", {{"result", "refused"}});
  out.counter(names::kJwksRefreshTotal, cells.jwks[1], {{"result", "ok"}});
  out.counter(names::kJwksRefreshTotal, cells.jwks[0], {{"result", "error"}});
  out.counters(names::kFramesRejectedTotal, cells.frames_rejected, "reason");
  add_limits_and_records(out);
  out.counter(names::kLogDroppedTotal, static_cast<double>(options_.log_lines_dropped()));
  out.gauge(names::kDrainState, cells.draining.load(std::memory_order_relaxed) ? 1 : 0);
  for (const auto& entry : cells.shutdown_reasons.read())
    out.histogram(names::kShutdownDurationSeconds, cells.shutdown, {{"reason", entry.label}});
  for (std::size_t thread = 0; thread < cells.loop_lag.size(); ++thread)
    out.histogram(names::kEventLoopLagSeconds, cells.loop_lag[thread], {{"thread", std::to_string(thread)}});
  out.counter(names::kConfigReloadsTotal, cells.reloads[1], {{"result", "ok"}});
  out.counter(names::kConfigReloadsTotal, cells.reloads[0], {{"result", "error"}});

  const auto process = read_process_info();
  out.counter(names::kProcessCpuSecondsTotal, process.cpu_seconds);
  out.gauge(names::kProcessResidentMemoryBytes, static_cast<double>(process.resident_bytes));
  out.gauge(names::kProcessVirtualMemoryBytes, static_cast<double>(process.virtual_bytes));
  out.gauge(names::kProcessOpenFds, static_cast<double>(process.open_fds));
  out.gauge(names::kProcessMaxFds, static_cast<double>(process.max_fds));
  out.gauge(names::kProcessStartTimeSeconds, process.start_time_seconds);

  if (compat) add_compatibility_names(out);
  if (openmetrics) {
    std::vector<BucketExemplars> exemplars;
    for (std::size_t outcome = 0; outcome < kOutcomes.size(); ++outcome)
      exemplars.push_back(
          {names::kRequestDurationSeconds, "outcome", kOutcomes[outcome], cells.exemplars[outcome].read()});
    return to_openmetrics(out.families(), exemplars);
  }
  return prometheus::TextSerializer().Serialize(out.families());
}

/// Queue, flow control and circuit breakers.
void Metrics::add_protection(Exposition& out) const {
  const auto& cells = *cells_;
  const auto priority_label = [](Priority priority) {
    return prometheus::ClientMetric::Label{"priority", to_string(priority)};
  };
  for (const auto priority : tunnel::kPriorities)
    out.gauge(names::kQueueSize, cells.waiting[index_of(priority)], {priority_label(priority)});
  out.gauge(names::kQueueFillRatio, options_.queue_fullest());
  for (const auto priority : tunnel::kPriorities)
    out.histogram(names::kQueueWaitSeconds, cells.queue_wait[index_of(priority)], {priority_label(priority)});
  for (std::size_t reason = index_of(QueueExit::expired); reason < kQueueReasons.size(); ++reason)
    for (const auto priority : tunnel::kPriorities)
      out.counter(names::kQueueDroppedTotal, cells.queue_ended[reason][index_of(priority)],
                  {{"reason", kQueueReasons[reason]}, priority_label(priority)});
  for (const auto level : tunnel::kFlowLevels)
    out.counter(names::kBackpressureEventsTotal, cells.flow_levels[index_of(level)],
                {{"level", to_string(level)}});

  std::array<double, 3> by_state{};
  std::map<std::string, BreakerState, std::less<>> worst;
  for (auto& service : options_.services()) worst.emplace(std::move(service), BreakerState::closed);
  for (const auto& breaker : options_.breakers()) {
    ++by_state[index_of(breaker.state)];
    const auto of = worst.find(breaker.service);
    if (of != worst.end() && severity(breaker.state) > severity(of->second)) of->second = breaker.state;
  }
  for (std::size_t state = 0; state < by_state.size(); ++state)
    out.gauge(names::kCircuitBreakers, by_state[state], {{"state", std::string(kBreakerStates[state])}});
  for (const auto& [service, state] : worst)
    out.gauge(names::kCircuitBreakerState, static_cast<double>(index_of(state)), {{"service", service}});
  for (std::size_t state = 0; state < kBreakerStates.size(); ++state)
    out.counter(names::kCircuitBreakerTransitionsTotal, cells.breaker_changes[state],
                {{"to", std::string(kBreakerStates[state])}});
}

void Metrics::add_limits_and_records(Exposition& out) const {
  const auto& cells = *cells_;
  for (std::size_t scope = 0; scope < kLimitScopes.size(); ++scope)
    for (std::size_t tier = 0; tier < 3; ++tier)
      out.counter(
          names::kRateLimitViolationsTotal, cells.limited[scope][tier],
          {{"scope", std::string(kLimitScopes[scope])}, {"user_tier", to_string(static_cast<Tier>(tier))}});
  const auto penalties = options_.penalties();
  out.gauge(names::kPenalizedAddresses, static_cast<double>(penalties.throttled), {{"state", "throttled"}});
  out.gauge(names::kPenalizedAddresses, static_cast<double>(penalties.blocked), {{"state", "blocked"}});
  constexpr std::array<const char*, 2> kDirections{"received", "sent"};
  constexpr std::array<const char*, 2> kStages{"before", "after"};
  for (std::size_t side = 0; side < kDirections.size(); ++side)
    for (std::size_t stage = 0; stage < kStages.size(); ++stage)
      out.counter(names::kCompressionBytesTotal, cells.compressed[side][stage],
                  {{"direction", kDirections[side]}, {"stage", kStages[stage]}});
  out.counters(names::kAuditEventsTotal, cells.audit_events, "event");
  out.counter(names::kAuditWriteErrorsTotal, cells.audit_lost);
  out.counters(names::kTraceSpansTotal, cells.spans, "result");
}

/// Names that dashboards of earlier versions ask for. Some break the naming rules that promtool
/// checks (milliseconds, no base unit), which is why /metrics leaves them out: docs/decisions/0005.
void Metrics::add_compatibility_names(Exposition& out) const {
  const auto& cells = *cells_;
  const auto shot = snapshot();
  const auto sum = [](const auto& counters) {
    std::uint64_t all = 0;
    for (const auto& one : counters) all += one.value();
    return static_cast<double>(all);
  };
  constexpr double kMilliseconds = 1000;
  out.histogram(names::kRequestLatencyMs, cells.old_latency, {}, kMilliseconds);
  out.counter(names::kRequestsSuccessTotal, static_cast<double>(shot.succeeded));
  out.counter(names::kRequestsFailedTotal, static_cast<double>(shot.failed));
  out.gauge(names::kQueueFillPercentage, options_.queue_fullest());
  out.counter(names::kThroughputBytesTotal, static_cast<double>(shot.received_bytes + shot.sent_bytes));
  out.counter(names::kBytesTransferredTotal, static_cast<double>(shot.received_bytes),
              {{"direction", "received"}});
  out.counter(names::kBytesTransferredTotal, static_cast<double>(shot.sent_bytes), {{"direction", "sent"}});
  // The pool of that time is today's limit of public connections: total places, taken and free.
  const auto total = static_cast<double>(options_.max_connections);
  const auto active = static_cast<double>(shot.sockets);
  out.gauge(names::kConnectionPoolActiveConnections, active);
  out.gauge(names::kConnectionPoolIdleConnections, std::max(total - active, 0.0));
  out.gauge(names::kConnectionPoolTotalConnections, total);
  out.gauge(names::kConnectionPoolUsage, total > 0 ? active / total : 0);
  double open = 0;
  for (const auto tier : shot.connections_by_tier) open += static_cast<double>(tier);
  out.gauge(names::kWebsocketActiveConnections, open);
  double upgrades = 0;
  for (const auto& role : cells.upgrades) upgrades += sum(role);
  out.counter(names::kWebsocketConnectionsTotal, upgrades);
  out.histogram(names::kSshConnectionTimeMs, cells.old_ssh_time, {}, kMilliseconds);
}

}  // namespace tunneld::admin
