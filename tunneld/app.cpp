#include "tunneld/app.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <unordered_set>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "tunneld/admin/process_info.h"
#include "tunneld/build.h"
#include "tunneld/certificate.h"
#include "tunneld/fetch.h"
#include "tunneld/ssh/session.h"

namespace tunneld {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

constexpr const char* kComponent = "app";
/// What resetting the last connections may take after the drain's end; the unit's TimeoutStopSec
/// leaves room for it.
constexpr std::chrono::seconds kCloseLimit{2};
/// A stream that carries nothing for so long is between two things, and can go on elsewhere.
constexpr std::chrono::milliseconds kQuietStream{1000};
constexpr std::chrono::milliseconds kLastEvents{200};  // to be written and read
constexpr std::chrono::seconds kGoodbye{5};            // for the closing handshakes of the rest
constexpr std::chrono::seconds kDebugFor{600};

constexpr const char* kOverlayFile = "config_overlay.json";
constexpr const char* kRevocationsFile = "revocations.json";
constexpr const char* kHistoryFile = "history.json";
constexpr const char* kAgentsFile = "agents.json";

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "localhost";
}

/// Each connection may need an SSH channel's share, never more than one descriptor of its own.
void raise_descriptor_limit(const Config& config) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const auto wanted = config.limits.max_connections + config.limits.fd_reserve;
  if (limit.rlim_cur < wanted)
    logging::warn(kComponent, "fewer file descriptors than limits.max_connections needs: set LimitNOFILE",
                  {{"available", limit.rlim_cur}, {"wanted", wanted}});
}

std::string list_of(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string url_of(const char* scheme, const asio::ip::tcp::endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  const bool v6 = endpoint.address().is_v6();
  return std::string(scheme) + "://" + (v6 ? "[" + address + "]" : address) + ":" +
         std::to_string(endpoint.port());
}

std::string tunnel_keys_body(const ssh::Identity& identity, const std::vector<ssh::Succession>& successions) {
  const auto& line = identity.public_line();
  const auto type = line.substr(0, line.find(' '));
  nlohmann::ordered_json body{
      {"keys", nlohmann::ordered_json::array(
                   {{{"type", type}, {"fingerprint", identity.fingerprint()}, {"publicKey", line}}})}};
  auto& list = body["successions"] = nlohmann::ordered_json::array();
  for (const auto& one : successions)
    list.push_back({{"from", one.from}, {"to", one.to}, {"signature", one.signature}});
  return body.dump();
}

/// What callers can cause as often as they like, and the operator cannot help: in the log when asked for.
bool is_noise(const AccessRecord& record) {
  return record.code == "TUNNEL_005";
}

/// At most ten lines a second and thread of requests that were slow.
bool may_tell_slow() {
  thread_local Clock::time_point second;
  thread_local int told = 0;
  const auto now = Clock::now();
  if (now - second >= std::chrono::seconds(1)) {
    second = now;
    told = 0;
  }
  return told++ < 10;
}

void write_access_log(const AccessRecord& record) {
  const double ms = std::chrono::duration<double, std::milli>(record.took).count();
  if (record.slow && may_tell_slow())
    logging::warn("access", "slow request",
                  {{"correlation_id", record.correlation_id},
                   {"service", record.service},
                   {"status", record.status},
                   {"ms", ms}});
  const auto level = is_noise(record) ? logging::Level::debug : logging::Level::info;
  if (!logging::enabled(level)) return;
  logging::log(level, "access", "request",
               {{"correlation_id", record.correlation_id},
                {"service", record.service},
                {"principal", record.principal_hash},
                {"door", record.door},
                {"method", record.method},
                {"priority", tunnel::to_string(record.priority)},
                {"status", record.status},
                {"close_code", record.close_code},
                {"code", record.code},
                {"bytes_in", record.from_caller_bytes},
                {"bytes_out", record.from_service_bytes},
                {"ms", ms},
                {"queued_ms", std::chrono::duration<double, std::milli>(record.queued).count()},
                {"peer", record.peer},
                {"trace_id", record.trace_id},
                {"why", record.why}});
}

void log_upgrade(const edge::ConnectionInfo& connection) {
  logging::info("edge", "connection upgraded",
                {{"connection_id", connection.id},
                 {"service", connection.service},
                 {"principal", connection.principal},
                 {"kind", connection.kind},
                 {"peer", connection.peer}});
}

void log_large_message(const edge::ConnectionInfo& connection, std::uint64_t bytes) {
  logging::warn("edge", "large WebSocket message",
                {{"connection_id", connection.id},
                 {"service", connection.service},
                 {"principal", connection.principal},
                 {"bytes", bytes}});
}

/// Upgraded connections at INFO, as their beginning; plain ones have a line for each request already.
void log_connection_end(const edge::ConnectionInfo& connection, std::string_view how) {
  const bool plain = connection.kind == std::string_view("http");
  const auto level = plain ? logging::Level::debug : logging::Level::info;
  if (!logging::enabled(level)) return;
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - connection.since).count();
  logging::log(level, "edge", "connection ended",
               {{"connection_id", connection.id},
                {"service", connection.service},
                {"principal", connection.principal},
                {"how", how},
                {"kind", connection.kind},
                {"close_code", connection.close_code},
                {"closed_by", connection.closed_by},
                {"peer", connection.peer},
                {"requests", connection.requests},
                {"bytes_in", connection.bytes_in},
                {"bytes_out", connection.bytes_out},
                {"ms", ms}});
}

/// For values of an upstream that must be the same for its SSH sessions to stay usable.
bool same_far_sides(const Config& before, const Config& after) {
  const auto same = [](const UpstreamConfig& a, const UpstreamConfig& b) {
    return a.name == b.name && a.addresses == b.addresses && a.user == b.user &&
           a.identity_file == b.identity_file && a.known_hosts_file == b.known_hosts_file &&
           a.host_key_fingerprints == b.host_key_fingerprints && a.trust_on_first_use == b.trust_on_first_use;
  };
  return std::equal(before.upstreams.begin(), before.upstreams.end(), after.upstreams.begin(),
                    after.upstreams.end(), same);
}

}  // namespace

ssh::KeyFiles key_files(const StateDir& state_dir) {
  return {state_dir.file(kIdentityFile), state_dir.file("ssh_identity.next"),
          state_dir.file("ssh_identity.previous"), state_dir.file("ssh_successions.json")};
}

std::string identity_comment() {
  return "tunneld@" + host_name();
}

App::App(std::unique_ptr<LiveConfig> config, ServiceManager manager, StateDir state_dir,
         std::string instance_id)
    : config_(std::move(config)),
      manager_(std::move(manager)),
      state_dir_(std::move(state_dir)),
      instance_id_(std::move(instance_id)),
      rates_(config_->values().limits.rates),
      penalty_(config_->values().limits.penalty) {}

App::~App() {
  // Loops first: a coroutine must not outlive what it uses.
  if (keys_) keys_->stop();
  for (auto& worker : workers_) worker->stop();
}

Result<std::unique_ptr<App>> App::start(const ConfigSource& source, ServiceManager manager) {
  // Only the state directory is wanted of it: what the admin pages set is kept there, and they cannot
  // set where it is.
  const auto without_overlay = load_config(source.file, source.overrides);
  if (!without_overlay) return tl::unexpected(without_overlay.error());
  const auto& where = (*without_overlay)->values.state_dir;
  auto state_dir = StateDir::open(where.empty() ? StateDir::default_path() : where, StateDir::Use::exclusive);
  if (!state_dir) return tl::unexpected(state_dir.error());
  auto live = LiveConfig::open(source, state_dir->file(kOverlayFile));
  if (!live) return tl::unexpected(live.error());

  auto log_options = (*live)->values().log;
  if (log_options.instance_id.empty()) log_options.instance_id = host_name();
  if (auto log = logging::start(log_options); !log) return tl::unexpected(log.error());
  for (const auto& warning : (*live)->warnings()) logging::warn("config", "setting", {{"warning", warning}});
  std::unique_ptr<App> app(
      new App(std::move(*live), std::move(manager), std::move(*state_dir), log_options.instance_id));
  if (auto built = app->build(); !built) return tl::unexpected(built.error());
  return app;
}

Result<void> App::build() {
  raise_descriptor_limit(config());
  if (auto ready = ssh::initialise(config().ssh); !ready) return ready;
  if (auto loaded = load_identities(); !loaded) return loaded;

  const std::size_t threads =
      config().threads != 0 ? config().threads : std::max(1U, std::thread::hardware_concurrency());
  admin::Metrics::Options options;
  options.build = {build::version(), build::commit(), build::tls_library(), build::ssh_library()};
  options.threads = threads;
  options.max_connections = config().limits.max_connections;
  options.log_lines_dropped = [] { return logging::dropped(); };
  options.active_users = [this] {
    std::unordered_set<std::string> everybody;
    for (const auto& worker : workers_) worker->users().add_to(everybody);
    return static_cast<std::uint64_t>(everybody.size());
  };
  options.certificate_expiry = [this] { return certificate_expiry_.load(); };
  // Asked by the admin door, on the control thread, like the configuration itself.
  options.queue_fullest = [this] { return queue_->fullest(); };
  options.breakers = [this] { return breakers_->list(Clock::now()); };
  options.services = [this] {
    std::vector<std::string> names;
    for (const auto& service : services_of(config())) names.push_back(service.name);
    return names;
  };
  options.penalties = [this] { return penalty_.counts(Clock::now()); };
  options.resume_buffer_bytes = [this] {
    std::uint64_t bytes = 0;
    for (const auto& worker : workers_) bytes += worker->gate().resume_buffer_bytes();
    return bytes;
  };
  options.agents = [this] { return std::uint64_t{agents_->count()}; };
  metrics_ = std::make_unique<admin::Metrics>(std::move(options));
  metrics_->set_slow(config().request.slow);
  auto records = Records::open(config(), state_dir_.path(), instance_id_, *metrics_);
  if (!records) return tl::unexpected(records.error());
  records_ = std::move(*records);
  if (auto built = build_protection(); !built) return built;
  if (auto built = build_agents(); !built) return built;

  auto policy = Policy::make(services_of(config()), config().allowed_origins, config().auth.issuer);
  if (!policy) return tl::unexpected(policy.error());
  build_workers(*policy);
  config_->on_change([this](LiveConfig::Step& step) { return apply(step); });
  if (auto old = history_.load(state_dir_.file(kHistoryFile), std::chrono::system_clock::now()); !old)
    logging::warn(kComponent, "the history begins anew", {{"why", old.error().message}});
  return open_doors();
}

Result<void> App::build_protection() {
  auto proxies = tunnel::TrustedProxies::parse(config().trusted_proxies);
  if (!proxies) return fail(proxies.error().kind, "trusted_proxies: " + proxies.error().message);
  proxies_ = std::move(*proxies);
  breakers_ = std::make_unique<access::CircuitBreakers>(
      config().breaker,
      [this](const access::CircuitBreakers::Change& change) { records_->breaker_changed(change); });
  auto revocations =
      access::Revocations::open(state_dir_.file(kRevocationsFile), std::chrono::system_clock::now());
  if (!revocations) return tl::unexpected(revocations.error());
  revocations_ = std::move(*revocations);
  revocations_seen_ = revocations_->version();
  queue_ = std::make_unique<tunnel::QueueLedger>(
      config().queue, *metrics_, [this](const std::string& principal, tunnel::FlowLevel level, double fill) {
        records_->queue_level(principal, level, fill);
        on_every_gate(
            [principal, level, fill](Gate& gate) { gate.streams().tell_flow(principal, level, fill); });
      });

  authenticator_ =
      std::make_unique<Authenticator>(*metrics_, *revocations_, [this] { keys_->unknown_key(); });
  TokenKeys::Fetch fetch;
  if (!config().auth.jwks_url.empty()) {
    auto made = make_fetch();
    if (!made) return tl::unexpected(made.error());
    fetch = std::move(*made);
  }
  auto keys = TokenKeys::open(config().auth, state_dir_.path(), control_, *authenticator_, *metrics_, fetch);
  if (!keys) return tl::unexpected(keys.error());
  keys_ = std::move(*keys);
  admission_ = std::make_unique<Admission>(Admission::Parts{
      .authenticator = *authenticator_,
      .rates = rates_,
      .penalty = penalty_,
      .proxies = proxies_,
      .observer = *metrics_,
      .audit = records_->audit(),
      .on_limit = [this](const char* scope, const tunnel::Principal& principal, const std::string& address) {
        records_->limit_met(scope, principal, address);
      }});
  return {};
}

Result<void> App::build_agents() {
  upstream::AgentRegistry::Options options;
  options.enrolments = state_dir_.file(kAgentsFile);
  options.on_agent = [this](const upstream::AgentInfo& agent, bool connected, std::string_view why) {
    records_->agent_changed(agent, connected, why);
    // Half-open, they would swallow requests for minutes.
    if (connected) links_.end_earlier(agent.principal_key, {agent.agent_id, agent.boot_id});
  };
  // As long as its links may come back: until then it is away, and not unknown.
  options.remembered = config().link.resume_window;
  options.on_superseded = [this] { metrics_->session_superseded(); };
  options.on_forgotten = [this](const std::string& agent_id, const std::string& principal_hash,
                                const std::string& fingerprint, std::string_view by) {
    records_->agent_forgotten(agent_id, principal_hash, fingerprint, by);
  };
  auto agents = upstream::AgentRegistry::make(std::move(options));
  if (!agents) return tl::unexpected(agents.error());
  agents_ = std::move(*agents);
  return {};
}

void App::build_workers(std::shared_ptr<const Policy> policy) {
  common_ = std::unique_ptr<Gate::Common>(new Gate::Common{
      .admission = *admission_,
      .authenticator = *authenticator_,
      .connections = connections_,
      .breakers = *breakers_,
      .revocations = *revocations_,
      .queue = *queue_,
      .users = users_,
      .observer = *metrics_,
      .audit = records_->audit(),
      .tracer = records_->tracer(),
      .record_span = [this](tracing::Span span) { records_->tracer()->record(std::move(span)); },
      .health = [this] { return health(); },
      .counts = [this] { return counts(); },
      .log = write_access_log,
      .tunnel_keys = tunnel_keys_body(*identity_, successions_),
      .draining = draining_,
      .unaudited = records_->unaudited(),
      .links = links_,
      .agents = agents_.get(),
      .gate_on = [this](asio::io_context& home) -> Gate* {
        for (const auto& worker : workers_)
          if (&worker->io() == &home) return &worker->gate();
        return nullptr;
      },
      .instance_id = instance_id_,
      .resumed = [this](admin::Metrics::Resumed result) { metrics_->session_resumed(result); },
      .superseded =
          [this](const std::string& agent_id, const std::string& principal_hash) {
            records_->agent_superseded(agent_id, principal_hash);
          }});
  upstream::SshDialer::Identities identities;
  identities[upstream::SshDialer::kAgents] = &*identity_;
  for (const auto& one : config().upstreams) {
    const auto own = upstream_identities_.find(one.name);
    identities[one.name] = own == upstream_identities_.end() ? &*identity_ : &own->second;
  }
  const std::size_t threads =
      config().threads != 0 ? config().threads : std::max(1U, std::thread::hardware_concurrency());
  for (std::size_t i = 0; i < threads; ++i)
    workers_.push_back(std::make_unique<Worker>(i, *common_, *metrics_, *queue_, worker_options(i),
                                                identities, agents_.get(), policy));
}

Result<void> App::load_identities() {
  auto own = ssh::Identity::load_or_create(state_dir_.file(kIdentityFile), identity_comment());
  if (!own) return tl::unexpected(own.error());
  identity_ = std::move(*own);
  auto successions = ssh::read_successions(key_files(state_dir_).successions);
  if (!successions) return tl::unexpected(successions.error());
  successions_ = std::move(*successions);
  for (const auto& one : config().upstreams) {
    if (one.identity_file.empty()) continue;
    auto loaded = ssh::Identity::load(one.identity_file);
    if (!loaded)
      return fail(loaded.error().kind, "upstreams." + one.name + ".identity_file: " + loaded.error().message);
    upstream_identities_.emplace(one.name, std::move(*loaded));
  }
  return {};
}

Gate::Options App::gate_options(const Config& config) const {
  Gate::Options options;
  options.open_timeout = config.request.timeout;
  options.idle_limit = config.limits.idle_timeout;
  options.slow = config.request.slow;
  options.tiers = config.tiers;
  options.audit_requests = config.audit.requests;
  options.link = config.link;
  options.heartbeat = config.ws.ping_interval;
  options.dead_after = config.ws.dead_after;
  return options;
}

void App::on_every_gate(const std::function<void(Gate&)>& change) {
  for (auto& worker : workers_) worker->with_gate(change);
}

Worker::Options App::worker_options(std::size_t thread) {
  Worker::Options options;
  options.upstream.ssh = config().ssh;
  options.upstream.max_sessions = config().ssh_max_sessions;
  options.upstream.upstream_wait = config().upstream_wait;
  options.upstream.on_upstream = [this, thread](std::string_view upstream, bool lost, std::string_view why) {
    records_->upstream_changed(thread, upstream, lost, why);
  };
  for (const auto& one : config().upstreams) {
    upstream::DialledUpstream dialled;
    dialled.endpoint = {one.name, one.addresses, one.user};
    dialled.host_keys = {one.host_key_fingerprints, one.known_hosts_file, one.trust_on_first_use};
    // Trust on first use without a file of one's own: tunneld's, in the state directory.
    if (one.trust_on_first_use && one.known_hosts_file.empty())
      dialled.host_keys.known_hosts = state_dir_.file("known_hosts");
    dialled.identity_file = one.identity_file.string();
    options.upstream.upstreams.push_back(std::move(dialled));
  }
  options.forward.request_timeout = config().request.timeout;
  options.forward.max_duration = config().request.max_duration;
  options.forward.idle_limit = config().limits.idle_timeout;
  options.gate = gate_options(config());
  return options;
}

edge::Options App::public_options(std::vector<std::string> listen) const {
  const auto& config = this->config();
  edge::Options options;
  options.listen = std::move(listen);
  options.trusted_proxies = proxies_;
  options.proxy_protocol = config.proxy_protocol;
  options.head = {config.limits.header_line_bytes, config.limits.header_bytes, config.limits.header_fields};
  options.handshake_timeout = config.limits.header_timeout;
  options.header_timeout = config.limits.header_timeout;
  options.body_timeout = config.limits.body_timeout;
  options.keep_alive_idle = config.limits.keep_alive;
  options.write_stall = config.limits.write_stall;
  options.ping_after = config.ws.ping_interval;
  options.dead_after = config.ws.dead_after;
  options.max_message_bytes = config.ws.max_frame;
  options.warn_message_bytes = config.ws.warn_frame;
  options.compression = config.ws.compression;
  options.compression_level = static_cast<int>(config.ws.compression_level);
  options.compression_threshold_bytes = config.ws.compression_threshold;
  options.max_connections = config.limits.max_connections;
  options.max_unauthenticated = config.limits.max_unauthenticated;
  options.early_drop_from = config.limits.max_unauthenticated / 2;
  options.fd_reserve = config.limits.fd_reserve;
  return options;
}

Result<void> App::open_doors() {
  const auto& config = this->config();
  edge::Server::Parts parts;
  for (auto& worker : workers_) parts.threads.push_back(&worker->io());
  parts.handler = [this](std::size_t thread) -> tunnel::HttpHandler& { return workers_[thread]->gate(); };
  parts.observer = metrics_.get();
  parts.on_ended = log_connection_end;
  parts.on_upgraded = log_upgrade;
  parts.on_large_message = log_large_message;
  parts.admit = [this](const std::string& peer) {
    const auto address = tunnel::Address::parse(peer);
    if (!address || rates_.take_handshake(*address, Clock::now()).allowed) return true;
    metrics_->rate_limited("ip", tunnel::Tier::free);
    return false;
  };
  parts.on_authenticated = [this](const std::string& peer) {
    if (const auto address = tunnel::Address::parse(peer)) rates_.give_back_handshake(*address, Clock::now());
  };
  if (!config.plaintext_listen.empty()) {
    plain_door_ = std::make_unique<edge::Server>(public_options(config.plaintext_listen), parts);
    if (auto bound = plain_door_->start(); !bound) return bound;
  }
  if (!config.listen.empty()) {
    auto tls = load_certificate();
    if (!tls) return tl::unexpected(tls.error());
    parts.tls = std::move(*tls);
    tls_door_ = std::make_unique<edge::Server>(public_options(config.listen), parts);
    if (auto bound = tls_door_->start(); !bound) return bound;
  }

  admin_handler_ = std::make_unique<admin::AdminHandler>(admin_sources());
  edge::Options options;
  options.listen = {config.admin_listen};
  options.max_connections = 64;
  // Scrapers and probes do not authenticate.
  options.max_unauthenticated = options.early_drop_from = 64;
  options.fd_reserve = 0;  // it is what the reserve is for
  edge::Server::Parts admin_parts;
  admin_parts.threads = {&control_};
  admin_parts.handler = [this](std::size_t) -> tunnel::HttpHandler& { return *admin_handler_; };
  admin_parts.observer = &silent_;
  admin_parts.on_ended = [](const edge::ConnectionInfo&, std::string_view) {};
  admin_door_ = std::make_unique<edge::Server>(options, admin_parts);
  return admin_door_->start();
}

Result<std::shared_ptr<SSL_CTX>> App::load_certificate() {
  auto files = tls_files(config().tls, state_dir_.path());
  if (!files) return tl::unexpected(files.error());
  auto context = edge::load_tls(*files);
  if (!context) return context;
  if (const auto left = certificate_time_left(files->certificate_file)) {
    const auto end = std::chrono::system_clock::now() + *left;
    certificate_expiry_ = std::chrono::duration<double>(end.time_since_epoch()).count();
  }
  return context;
}

std::string App::addresses() const {
  std::vector<std::string> urls;
  if (tls_door_)
    for (const auto& endpoint : tls_door_->local_endpoints()) urls.push_back(url_of("https", endpoint));
  if (plain_door_)
    for (const auto& endpoint : plain_door_->local_endpoints()) urls.push_back(url_of("http", endpoint));
  for (const auto& endpoint : admin_door_->local_endpoints())
    urls.push_back("admin " + url_of("http", endpoint));
  return list_of(urls);
}

App::End App::run() {
  signals_.add(SIGTERM);
  signals_.add(SIGINT);
  signals_.add(SIGHUP);
  signals_.add(SIGUSR1);
  wait_for_signal();
  for (auto& worker : workers_) worker->start();
  serving_ = true;
  const auto where = addresses();
  logging::info(kComponent, "serving",
                {{"addresses", where},
                 {"state_dir", state_dir_.path().string()},
                 {"threads", workers_.size()},
                 {"version", build::version()}});
  if (auto* audit = records_->audit()) audit->write("started", {{"version", build::version()}});
  records_->events().append("started", {{"version", build::version()}});
  std::fprintf(stderr, "tunneld %s serving %s; state in %s\n", build::version().c_str(), where.c_str(),
               state_dir_.path().c_str());
  manager_.ready("serving " + where);
  ping_watchdog();
  tick();
  control_.run();
  return end_;
}

void App::tick() {
  records_->tick();
  // Also what another way of revoking than the admin page brings, such as a reload.
  if (const auto version = revocations_->version(); version != revocations_seen_) {
    revocations_seen_ = version;
    on_every_gate([](Gate& gate) { gate.streams().check_revocations(); });
  }
  on_every_gate([](Gate& gate) { gate.measure_links(); });
  if (ticks_ % 60 == 0) memory_return_.look();
  if (ticks_++ % static_cast<std::uint64_t>(admin::History::kEvery.count()) == 0) note_history();
  tick_.expires_after(std::chrono::seconds(1));
  tick_.async_wait([this](boost::system::error_code error) {
    if (!error) tick();
  });
}

void App::note_history() {
  const auto shot = metrics_->snapshot();
  admin::History::Totals totals;
  totals.requests = shot.succeeded + shot.failed;
  totals.errors = shot.failed;
  totals.bytes_in = shot.received_bytes;
  totals.bytes_out = shot.sent_bytes;
  totals.durations = metrics_->durations();
  totals.connections = static_cast<std::uint64_t>(std::max<std::int64_t>(shot.sockets, 0));
  totals.queue = static_cast<std::uint64_t>(std::max<std::int64_t>(shot.waiting, 0));
  totals.in_flight = static_cast<std::uint64_t>(std::max<std::int64_t>(shot.in_flight, 0));
  history_.add(totals, std::chrono::system_clock::now());
  constexpr std::uint64_t kSaveEvery = 300;
  if (ticks_ % kSaveEvery > static_cast<std::uint64_t>(admin::History::kEvery.count())) return;
  if (auto saved = history_.save(state_dir_.file(kHistoryFile)); !saved)
    logging::warn(kComponent, "the history was not saved", {{"why", saved.error().message}});
}

void App::ping_watchdog() {
  const auto interval = manager_.watchdog();
  if (!interval) return;
  // A loop that hangs must not be covered up by this one being well.
  const auto oldest = Clock::now() - *interval;
  if (std::all_of(workers_.begin(), workers_.end(),
                  [oldest](const auto& worker) { return worker->last_turn() > oldest; }))
    manager_.ping_watchdog();
  watchdog_.expires_after(*interval / 3);
  watchdog_.async_wait([this](boost::system::error_code error) {
    if (!error) ping_watchdog();
  });
}

void App::wait_for_signal() {
  signals_.async_wait([this](boost::system::error_code error, int signal) {
    if (error) return;
    if (signal == SIGHUP) {
      reload();
    } else if (signal == SIGUSR1) {
      logging::set_level(logging::Level::debug, kDebugFor);
      logging::warn(kComponent, "log level DEBUG by SIGUSR1", {{"ttl_s", kDebugFor.count()}});
    } else if (draining_) {
      end_at_once();
    } else {
      begin_drain(signal == SIGTERM ? "sigterm" : "sigint");
    }
    wait_for_signal();
  });
}

std::chrono::system_clock::time_point App::begin_drain(std::string reason) {
  if (draining_.exchange(true)) return drain_deadline_;  // /readyz answers 503 from here on
  metrics_->set_draining(true);
  manager_.stopping("draining");
  const auto limit = config().drain_timeout;
  drain_deadline_ = std::chrono::system_clock::now() + limit;
  manager_.extend_timeout(limit + kCloseLimit * 2);
  const auto now = counts();
  logging::info(kComponent, "draining",
                {{"reason", reason},
                 {"connections", now.active_connections},
                 {"requests", now.requests_in_flight},
                 {"limit_s", limit.count()}});
  if (auto* audit = records_->audit()) audit->write("drain", {{"reason", reason}});
  records_->events().append("draining", {{"reason", reason}, {"deadline", admin::rfc3339(drain_deadline_)}});
  asio::co_spawn(control_, drain(reason), [this](std::exception_ptr failure) {
    if (failure) end_ = End::cut_short;
    signals_.cancel();
    watchdog_.cancel();
    tick_.cancel();
    control_.stop();
  });
  return drain_deadline_;
}

namespace {

asio::awaitable<bool> drain_door(edge::Server* door, Clock::time_point deadline) {
  if (door == nullptr) co_return true;
  co_return co_await door->drain(deadline);
}

}  // namespace

asio::awaitable<void> App::drain(std::string reason) {
  using namespace asio::experimental::awaitable_operators;
  const auto began = Clock::now();
  const auto deadline = began + config().drain_timeout;
  keys_->stop();
  if (tls_door_) tls_door_->stop_accepting();
  if (plain_door_) plain_door_->stop_accepting();
  const auto ends_at = drain_deadline_;
  on_every_gate([ends_at, reason](Gate& gate) { gate.streams().drain(ends_at, reason, kQuietStream); });
  // Streams that do not pause get their close code while there is still time to shake hands on it.
  goodbye_.expires_at(std::max(began + (deadline - began) / 2, deadline - kGoodbye));
  goodbye_.async_wait([this](boost::system::error_code error) {
    if (!error) on_every_gate([](Gate& gate) { gate.streams().end_all("the drain's time is over"); });
  });
  const auto [tls_done, plain_done] =
      co_await (drain_door(tls_door_.get(), deadline) && drain_door(plain_door_.get(), deadline));
  goodbye_.cancel();
  const bool done = tls_done && plain_done;
  std::size_t left = 0;
  for (auto* door : {tls_door_.get(), plain_door_.get()}) {
    if (door == nullptr) continue;
    left += door->connection_count();
    if (!done) door->close_all();
  }
  if (!done)
    for (auto* door : {tls_door_.get(), plain_door_.get()})
      if (door != nullptr) (void)co_await door->drain(Clock::now() + kCloseLimit);
  const auto took = Clock::now() - began;
  metrics_->shutdown_took(reason, took);
  end_ = done ? End::drained : End::cut_short;
  logging::info(kComponent, "stopped",
                {{"reason", reason},
                 {"ms", std::chrono::duration<double, std::milli>(took).count()},
                 {"forced", !done},
                 {"connections_reset", left}});
  if (auto saved = history_.save(state_dir_.file(kHistoryFile)); !saved)
    logging::warn(kComponent, "the history was not saved", {{"why", saved.error().message}});
  if (auto* audit = records_->audit()) audit->write("stopped", {{"reason", reason}, {"forced", !done}});
  records_->events().append("stopped", {{"reason", reason}, {"forced", !done}});
  // Readers of events learn of it before their streams end.
  asio::steady_timer told(control_, kLastEvents);
  co_await told.async_wait(asio::as_tuple(asio::use_awaitable));
  admin_handler_->end_streams();
  admin_door_->close_all();
  (void)co_await admin_door_->drain(Clock::now() + kCloseLimit);
}

void App::end_at_once() {
  logging::warn(kComponent, "stopped at once by a second signal", {{"forced", true}});
  logging::stop();
  // Nothing is worth waiting for: no destructor, no goodbye.
  std::_Exit(EXIT_FAILURE);
}

void App::reload() {
  if (draining_) return;
  manager_.reloading();
  logging::reopen();
  auto done = apply_reload();
  metrics_->config_reloaded(done.has_value());
  if (!done) {
    logging::error("config", "reload failed; everything stays as it was", {{"error", done.error().message}});
    std::fprintf(stderr, "tunneld: reload failed, the old configuration stays: %s\n",
                 done.error().message.c_str());
  } else {
    for (const auto& warning : done->warnings) logging::warn("config", "setting", {{"warning", warning}});
    for (const auto& key : done->hot)
      if (auto* audit = records_->audit()) audit->write("config.changed", {{"key", key}, {"by", "sighup"}});
    if (!done->cold.empty())
      logging::warn("config", "reloaded; some settings need a restart", {{"settings", list_of(done->cold)}});
    else
      logging::info("config", "reloaded", {{"changed", list_of(done->hot)}});
  }
  manager_.ready("serving " + addresses());
}

/// First everything that can fail, then the changes: half a reload would be a third configuration.
Result<LiveConfig::Reloaded> App::apply_reload() {
  std::shared_ptr<SSL_CTX> tls;
  if (tls_door_) {
    auto loaded = load_certificate();
    if (!loaded) return tl::unexpected(loaded.error());
    tls = std::move(*loaded);
  }
  if (auto listed = revocations_->reload(std::chrono::system_clock::now()); !listed)
    return tl::unexpected(listed.error());
  reloading_ = true;
  auto done = config_->reload();
  reloading_ = false;
  if (!done) return done;
  if (tls_door_) tls_door_->use_certificate(std::move(tls));
  return done;
}

Result<void> App::apply(LiveConfig::Step& step) {
  auto& next = step.next;
  if (same_far_sides(step.now, step.wanted)) {
    next.upstreams = step.wanted.upstreams;
    std::erase(step.cold, "upstreams");
  }
  auto policy = Policy::make(services_of(next), next.allowed_origins, next.auth.issuer);
  if (!policy) return tl::unexpected(policy.error());
  if (reloading_)
    if (auto keys = keys_->reload(); !keys) return keys;

  rates_.configure(next.limits.rates);
  penalty_.configure(next.limits.penalty);
  breakers_->configure(next.breaker);
  queue_->configure(next.queue);
  records_->configure(next);
  metrics_->set_slow(next.request.slow);
  if (step.now.log.level != next.log.level) logging::set_level(next.log.level);
  on_every_gate([policy = *policy, options = gate_options(next)](Gate& gate) {
    gate.set_policy(policy);
    gate.set_options(options);
  });
  return {};
}

admin::Health App::health() const {
  admin::Health health;
  if (draining_)
    health.not_ready = "draining";
  else if (!serving_)
    health.not_ready = "starting";
  health.degraded = keys_->stale();
  health.started_at = started_at_;
  health.uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_);
  health.version = build::version();
  return health;
}

admin::HealthCounts App::counts() const {
  const auto shot = metrics_->snapshot();
  return {shot.sockets, shot.in_flight};
}

}  // namespace tunneld
