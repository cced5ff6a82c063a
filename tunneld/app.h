#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"
#include "common/sd_notify.h"
#include "edge/server.h"
#include "tunnel/silent_observer.h"
#include "tunneld/admin/admin_handler.h"
#include "tunneld/admin/history.h"
#include "tunneld/admin/metrics.h"
#include "tunneld/config.h"
#include "tunneld/gate.h"
#include "tunneld/live_config.h"
#include "tunneld/memory_return.h"
#include "tunneld/records.h"
#include "tunneld/ssh/identity.h"
#include "tunneld/ssh/successions.h"
#include "tunneld/state_dir.h"
#include "tunneld/token_keys.h"
#include "tunneld/worker.h"

namespace tunneld {

/// The SSH key pair with which tunneld logs in, in the state directory.
inline constexpr const char* kIdentityFile = "ssh_identity";
/// That, and what belongs to its rotation.
ssh::KeyFiles key_files(const StateDir& state_dir);
/// "tunneld@<host>".
std::string identity_comment();

/// Where the configuration comes from, at the start and on SIGHUP.
using ConfigSource = LiveConfig::Sources;
using systemd::ServiceManager;

/// The daemon: builds every part once, in order, and takes them down in the opposite one.
///
/// Threads: the caller's runs the control loop (signals, admin door, token keys, reloads, watchdog);
/// each worker runs its own loop and carries traffic. A reload that reads files thus never delays it.
class App {
 public:
  /// Everything that can fail at start fails here, before anybody is told that we serve: keys made and
  /// read, every address bound. Nothing is left behind but files in the state directory.
  static Result<std::unique_ptr<App>> start(const ConfigSource& source, ServiceManager manager);
  ~App();

  /// "https://127.0.0.1:3001, admin http://127.0.0.1:9090", for the line that tells people.
  std::string addresses() const;

  enum class End { drained, cut_short };
  /// Serves until SIGTERM or SIGINT and the drain after it. cut_short: connections were left at its
  /// end and were reset. A second signal ends the process at once, with status 1.
  End run();

 private:
  App(std::unique_ptr<LiveConfig> config, ServiceManager manager, StateDir state_dir,
      std::string instance_id);
  const Config& config() const { return config_->values(); }
  Result<void> build();
  Result<void> build_protection();
  Result<void> build_agents();
  void build_workers(std::shared_ptr<const Policy> policy);
  Result<void> load_identities();
  Result<void> open_doors();
  /// The certificate as it is on disk now; its end is noted for the metric.
  Result<std::shared_ptr<SSL_CTX>> load_certificate();
  admin::Sources admin_sources();
  void add_config_sources(admin::Sources& sources);
  void add_protection_sources(admin::Sources& sources);
  bool close_connection(std::uint64_t id);
  admin::Health health() const;
  admin::HealthCounts counts() const;
  nlohmann::ordered_json connections() const;
  nlohmann::ordered_json agents() const;
  nlohmann::ordered_json diagnostics() const;
  edge::Options public_options(std::vector<std::string> listen) const;
  Worker::Options worker_options(std::size_t thread);
  Gate::Options gate_options(const Config& config) const;
  void on_every_gate(const std::function<void(Gate&)>& change);

  void wait_for_signal();
  /// Or tells of the drain under way: when it ends at the latest.
  std::chrono::system_clock::time_point begin_drain(std::string reason);
  boost::asio::awaitable<void> drain(std::string reason);
  [[noreturn]] void end_at_once();
  void reload();
  Result<LiveConfig::Reloaded> apply_reload();
  /// Brings the hot settings of `step` into force.
  Result<void> apply(LiveConfig::Step& step);
  void ping_watchdog();
  /// Each second.
  void tick();
  void note_history();
  void report_admin_call(const admin::AdminCall& call);

  std::unique_ptr<LiveConfig> config_;
  ServiceManager manager_;
  StateDir state_dir_;
  const std::string instance_id_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  const std::chrono::system_clock::time_point started_at_ = std::chrono::system_clock::now();

  boost::asio::io_context control_{1};
  boost::asio::signal_set signals_{control_};
  boost::asio::steady_timer watchdog_{control_};
  boost::asio::steady_timer tick_{control_};
  boost::asio::steady_timer goodbye_{control_};
  std::string acting_;      // hash of the operator whose call is under way
  bool reloading_ = false;  // the files that settings name are read again too
  MemoryReturn memory_return_;
  std::uint64_t ticks_ = 0;
  std::uint64_t revocations_seen_ = 0;
  std::atomic<bool> serving_{false};
  std::atomic<bool> draining_{false};
  std::chrono::system_clock::time_point drain_deadline_{};
  std::atomic<double> certificate_expiry_{0};  // Unix time

  std::unique_ptr<admin::Metrics> metrics_;
  tunnel::SilentObserver silent_;
  std::unique_ptr<Records> records_;

  // Shared decisions: small tables with locks of their own.
  access::RateLimits rates_;
  access::PenaltyBox penalty_;
  access::ConnectionQuotas connections_;
  tunnel::TrustedProxies proxies_;
  std::unique_ptr<access::CircuitBreakers> breakers_;
  std::unique_ptr<access::Revocations> revocations_;
  std::unique_ptr<tunnel::QueueLedger> queue_;
  admin::UserTable users_;
  admin::History history_;

  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<Admission> admission_;
  std::unique_ptr<TokenKeys> keys_;
  std::optional<ssh::Identity> identity_;
  std::vector<ssh::Succession> successions_;                  // of that key
  std::map<std::string, ssh::Identity> upstream_identities_;  // those with a file of their own
  links::LinkTable links_;
  std::unique_ptr<upstream::AgentRegistry> agents_;
  std::unique_ptr<Gate::Common> common_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<admin::AdminHandler> admin_handler_;
  std::unique_ptr<edge::Server> tls_door_;
  std::unique_ptr<edge::Server> plain_door_;
  std::unique_ptr<edge::Server> admin_door_;
  End end_ = End::drained;
};

}  // namespace tunneld
