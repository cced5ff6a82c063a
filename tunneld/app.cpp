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

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
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

std::string tunnel_keys_body(const ssh::Identity& identity) {
  const auto& line = identity.public_line();
  const auto type = line.substr(0, line.find(' '));
  return nlohmann::ordered_json{
      {"keys", nlohmann::ordered_json::array(
                   {{{"type", type}, {"fingerprint", identity.fingerprint()}, {"publicKey", line}}})}}
      .dump();
}

void write_access_log(const AccessRecord& record) {
  if (!logging::enabled(logging::Level::info)) return;
  const double ms = std::chrono::duration<double, std::milli>(record.took).count();
  logging::info("access", "request",
                {{"correlation_id", record.correlation_id},
                 {"service", record.service},
                 {"principal", record.principal_hash},
                 {"door", record.door},
                 {"method", record.method},
                 {"status", record.status},
                 {"close_code", record.close_code},
                 {"code", record.code},
                 {"bytes_in", record.from_caller_bytes},
                 {"bytes_out", record.from_service_bytes},
                 {"ms", ms},
                 {"peer", record.peer},
                 {"why", record.why}});
}

void log_connection_end(const edge::ConnectionInfo& connection, std::string_view how) {
  if (!logging::enabled(logging::Level::debug)) return;
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - connection.since).count();
  logging::debug("edge", "connection ended",
                 {{"connection_id", connection.id},
                  {"service", connection.service},
                  {"how", how},
                  {"kind", connection.kind},
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

std::string identity_comment() {
  return "tunneld@" + host_name();
}

App::App(std::unique_ptr<Configuration> configuration, ConfigSource source, ServiceManager manager,
         StateDir state_dir)
    : configuration_(std::move(configuration)),
      source_(std::move(source)),
      manager_(std::move(manager)),
      state_dir_(std::move(state_dir)) {}

App::~App() {
  // Loops first: a coroutine must not outlive what it uses.
  if (keys_) keys_->stop();
  for (auto& worker : workers_) worker->stop();
}

Result<std::unique_ptr<App>> App::start(std::unique_ptr<Configuration> configuration, ConfigSource source,
                                        ServiceManager manager) {
  auto& config = configuration->values;
  if (config.log.instance_id.empty()) config.log.instance_id = host_name();
  if (auto log = logging::start(config.log); !log) return tl::unexpected(log.error());
  for (const auto& warning : configuration->warnings)
    logging::warn("config", "setting", {{"warning", warning}});

  const auto path = config.state_dir.empty() ? StateDir::default_path() : config.state_dir;
  auto state_dir = StateDir::open(path, StateDir::Use::exclusive);
  if (!state_dir) return tl::unexpected(state_dir.error());
  std::unique_ptr<App> app(
      new App(std::move(configuration), std::move(source), std::move(manager), std::move(*state_dir)));
  if (auto built = app->build(); !built) return tl::unexpected(built.error());
  return app;
}

Result<void> App::build() {
  const auto& config = configuration_->values;
  raise_descriptor_limit(config);
  if (auto ready = ssh::initialise(config.ssh); !ready) return ready;
  if (auto loaded = load_identities(); !loaded) return loaded;

  const std::size_t threads =
      config.threads != 0 ? config.threads : std::max(1U, std::thread::hardware_concurrency());
  admin::Metrics::Options options;
  options.build = {build::version(), build::commit(), build::tls_library(), build::ssh_library()};
  options.threads = threads;
  options.max_connections = config.limits.max_connections;
  options.log_lines_dropped = [] { return logging::dropped(); };
  options.active_users = [this] {
    std::unordered_set<std::string> everybody;
    for (const auto& worker : workers_) worker->users().add_to(everybody);
    return static_cast<std::uint64_t>(everybody.size());
  };
  options.certificate_expiry = [this] { return certificate_expiry_.load(); };
  metrics_ = std::make_unique<admin::Metrics>(std::move(options));
  authenticator_ = std::make_unique<Authenticator>(*metrics_, [this] { keys_->unknown_key(); });
  TokenKeys::Fetch fetch;
  if (!config.auth.jwks_url.empty()) {
    auto made = make_fetch();
    if (!made) return tl::unexpected(made.error());
    fetch = std::move(*made);
  }
  auto keys = TokenKeys::open(config.auth, state_dir_.path(), control_, *authenticator_, *metrics_, fetch);
  if (!keys) return tl::unexpected(keys.error());
  keys_ = std::move(*keys);

  auto policy = Policy::make(services_of(config), config.allowed_origins, config.auth.issuer);
  if (!policy) return tl::unexpected(policy.error());
  common_ = std::unique_ptr<Gate::Common>(new Gate::Common{.authenticator = *authenticator_,
                                                           .observer = *metrics_,
                                                           .health = [this] { return health(); },
                                                           .counts = [this] { return counts(); },
                                                           .log = write_access_log,
                                                           .tunnel_keys = tunnel_keys_body(*identity_),
                                                           .draining = draining_});
  upstream::SshDialer::Identities identities;
  for (const auto& one : config.upstreams) {
    const auto own = upstream_identities_.find(one.name);
    identities[one.name] = own == upstream_identities_.end() ? &*identity_ : &own->second;
  }
  for (std::size_t i = 0; i < threads; ++i)
    workers_.push_back(
        std::make_unique<Worker>(i, *common_, *metrics_, worker_options(), identities, *policy));
  return open_doors();
}

Result<void> App::load_identities() {
  auto own = ssh::Identity::load_or_create(state_dir_.file(kIdentityFile), identity_comment());
  if (!own) return tl::unexpected(own.error());
  identity_ = std::move(*own);
  for (const auto& one : configuration_->values.upstreams) {
    if (one.identity_file.empty()) continue;
    auto loaded = ssh::Identity::load(one.identity_file);
    if (!loaded)
      return fail(loaded.error().kind, "upstreams." + one.name + ".identity_file: " + loaded.error().message);
    upstream_identities_.emplace(one.name, std::move(*loaded));
  }
  return {};
}

Worker::Options App::worker_options() const {
  const auto& config = configuration_->values;
  Worker::Options options;
  options.upstream.ssh = config.ssh;
  options.upstream.max_sessions = config.ssh_max_sessions;
  for (const auto& one : config.upstreams) {
    upstream::DialledUpstream dialled;
    dialled.endpoint = {one.name, one.addresses, one.user};
    dialled.host_keys = {one.host_key_fingerprints, one.known_hosts_file, one.trust_on_first_use};
    // Trust on first use without a file of one's own: tunneld's, in the state directory.
    if (one.trust_on_first_use && one.known_hosts_file.empty())
      dialled.host_keys.known_hosts = state_dir_.file("known_hosts");
    dialled.identity_file = one.identity_file.string();
    options.upstream.upstreams.push_back(std::move(dialled));
  }
  options.forward.request_timeout = config.request.timeout;
  options.forward.max_duration = config.request.max_duration;
  options.forward.idle_limit = config.limits.idle_timeout;
  options.gate.open_timeout = config.request.timeout;
  options.gate.idle_limit = config.limits.idle_timeout;
  return options;
}

edge::Options App::public_options(std::vector<std::string> listen) const {
  const auto& config = configuration_->values;
  edge::Options options;
  options.listen = std::move(listen);
  options.head = {config.limits.header_line_bytes, config.limits.header_bytes, config.limits.header_fields};
  options.handshake_timeout = config.limits.header_timeout;
  options.header_timeout = config.limits.header_timeout;
  options.body_timeout = config.limits.body_timeout;
  options.keep_alive_idle = config.limits.keep_alive;
  options.write_stall = config.limits.write_stall;
  options.ping_after = config.ws.ping_interval;
  options.dead_after = config.ws.dead_after;
  options.max_message_bytes = config.ws.max_frame;
  options.max_connections = config.limits.max_connections;
  options.max_unauthenticated = config.limits.max_unauthenticated;
  options.early_drop_from = config.limits.max_unauthenticated / 2;
  options.fd_reserve = config.limits.fd_reserve;
  return options;
}

Result<void> App::open_doors() {
  const auto& config = configuration_->values;
  edge::Server::Parts parts;
  for (auto& worker : workers_) parts.threads.push_back(&worker->io());
  parts.handler = [this](std::size_t thread) -> tunnel::HttpHandler& { return workers_[thread]->gate(); };
  parts.observer = metrics_.get();
  parts.on_ended = log_connection_end;
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
  auto files = tls_files(configuration_->values.tls, state_dir_.path());
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
  wait_for_signal();
  for (auto& worker : workers_) worker->start();
  serving_ = true;
  const auto where = addresses();
  logging::info(kComponent, "serving",
                {{"addresses", where},
                 {"state_dir", state_dir_.path().string()},
                 {"threads", workers_.size()},
                 {"version", build::version()}});
  std::fprintf(stderr, "tunneld %s serving %s; state in %s\n", build::version().c_str(), where.c_str(),
               state_dir_.path().c_str());
  manager_.ready("serving " + where);
  ping_watchdog();
  control_.run();
  return end_;
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
    if (signal == SIGHUP)
      reload();
    else if (draining_)
      end_at_once();
    else
      begin_drain(signal);
    wait_for_signal();
  });
}

void App::begin_drain(int signal) {
  draining_ = true;  // /readyz answers 503 from here on
  metrics_->set_draining(true);
  const std::string reason = signal == SIGTERM ? "sigterm" : "sigint";
  manager_.stopping("draining");
  const auto limit = configuration_->values.drain_timeout;
  manager_.extend_timeout(limit + kCloseLimit * 2);
  logging::info(kComponent, "draining",
                {{"reason", reason},
                 {"connections", counts().active_connections},
                 {"requests", counts().requests_in_flight},
                 {"limit_s", limit.count()}});
  asio::co_spawn(control_, drain(reason), [this](std::exception_ptr failure) {
    if (failure) end_ = End::cut_short;
    signals_.cancel();
    watchdog_.cancel();
    control_.stop();
  });
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
  const auto deadline = began + configuration_->values.drain_timeout;
  keys_->stop();
  if (tls_door_) tls_door_->stop_accepting();
  if (plain_door_) plain_door_->stop_accepting();
  // Side by side: streams of both are told at once.
  const auto [tls_done, plain_done] =
      co_await (drain_door(tls_door_.get(), deadline) && drain_door(plain_door_.get(), deadline));
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
  auto cold = apply_reload();
  metrics_->config_reloaded(cold.has_value());
  if (!cold) {
    logging::error("config", "reload failed; everything stays as it was", {{"error", cold.error().message}});
    std::fprintf(stderr, "tunneld: reload failed, the old configuration stays: %s\n",
                 cold.error().message.c_str());
  } else if (!cold->empty()) {
    logging::warn("config", "reloaded; some settings need a restart", {{"settings", list_of(*cold)}});
  } else {
    logging::info("config", "reloaded");
  }
  manager_.ready("serving " + addresses());
}

/// First everything that can fail, then the changes: half a reload would be a third configuration.
Result<std::vector<std::string>> App::apply_reload() {
  auto fresh = load_config(source_.file, source_.overrides);
  if (!fresh) return tl::unexpected(fresh.error());
  auto& next = (*fresh)->values;
  auto& now = configuration_->values;
  std::shared_ptr<SSL_CTX> tls;
  if (tls_door_) {
    auto loaded = load_certificate();
    if (!loaded) return tl::unexpected(loaded.error());
    tls = std::move(*loaded);
  }
  const auto changes = config::diff(configuration_->schema, (*fresh)->schema);
  auto cold = changes.cold;
  const bool services_fit = same_far_sides(now, next);
  if (services_fit) std::erase(cold, "upstreams");
  auto policy = Policy::make(services_of(services_fit ? next : now), next.allowed_origins, now.auth.issuer);
  if (!policy) return tl::unexpected(policy.error());
  if (auto keys = keys_->reload(); !keys) return tl::unexpected(keys.error());

  if (tls_door_) tls_door_->use_certificate(std::move(tls));
  for (auto& worker : workers_) worker->set_policy(*policy);
  if (services_fit) now.upstreams = next.upstreams;
  now.allowed_origins = next.allowed_origins;
  now.drain_timeout = next.drain_timeout;
  if (now.log.level != next.log.level) logging::set_level(next.log.level);
  now.log.level = next.log.level;
  return cold;
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
