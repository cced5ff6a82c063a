#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "common/result.h"
#include "tunnel/flow_level.h"
#include "tunnel/principal.h"
#include "tunneld/access/circuit_breakers.h"
#include "tunneld/admin/metrics.h"
#include "tunneld/audit/audit_log.h"
#include "tunneld/config.h"
#include "tunneld/events/event_log.h"
#include "tunneld/tracing/tracer.h"
#include "tunneld/upstream/agent_registry.h"

namespace tunneld {

/// What the daemon writes down of itself: audit log, events and traces, and what of other rooms' doings
/// belongs into which of them. Threads: any, except configure() and tick(), which are the control thread's.
class Records {
 public:
  static Result<std::unique_ptr<Records>> open(const Config& config, const std::filesystem::path& state_dir,
                                               const std::string& instance_id, admin::Metrics& metrics);
  ~Records();

  audit::AuditLog* audit() { return audit_.get(); }  // null when it is turned off
  events::EventLog& events() { return *events_; }
  const events::EventLog& events() const { return *events_; }
  tracing::Tracer* tracer() { return tracer_.get(); }  // null when it is turned off
  /// The audit log is broken, and audit.on_error says that nothing is served without it.
  std::atomic<bool>& unaudited() { return unaudited_; }
  bool audit_healthy() const { return !audit_ || audit_->healthy(); }

  void breaker_changed(const access::CircuitBreakers::Change& change);
  /// As one thread sees it; told once for all threads.
  void upstream_changed(std::size_t thread, std::string_view upstream, bool lost, std::string_view why);
  void queue_level(const std::string& principal_key, tunnel::FlowLevel level, double fill);
  void limit_met(std::string_view scope, const tunnel::Principal& principal, const std::string& address);

  void agent_changed(const upstream::AgentInfo& agent, bool connected, std::string_view why);
  /// Its owner or an operator (`by`: a principal's hash) has made tunneld forget its host key.
  void agent_forgotten(const std::string& agent_id, const std::string& principal_hash,
                       const std::string& fingerprint, std::string_view by);
  void agent_superseded(const std::string& agent_id, const std::string& principal_hash);

  void configure(const Config& config);
  /// Each second: notices whether the audit log can be written, and how near connections are to their limit.
  void tick();

 private:
  explicit Records(admin::Metrics& metrics) : metrics_(metrics) {}
  void audit_health(bool healthy, std::string_view why);

  admin::Metrics& metrics_;
  std::unique_ptr<events::EventLog> events_;
  std::unique_ptr<audit::AuditLog> audit_;
  std::unique_ptr<tracing::Tracer> tracer_;
  tunnel::FlowLevel connections_level_ = tunnel::FlowLevel::open;
  std::atomic<bool> unaudited_{false};

  std::mutex mutex_;
  struct Lost {
    std::set<std::size_t> by;  // threads
    std::chrono::steady_clock::time_point since{};
  };
  std::map<std::string, Lost> lost_;  // by upstream
  std::set<std::string> overloaded_;  // principals' hashes
  // At most one line a second of what callers can cause as often as they like.
  std::chrono::steady_clock::time_point limits_told_{};
  std::uint64_t limits_untold_ = 0;
};

}  // namespace tunneld
