#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tunnel/http_exchange.h"
#include "tunnel/principal.h"
#include "tunnel/refusal.h"
#include "tunneld/access/circuit_breakers.h"
#include "tunneld/access/revocations.h"
#include "tunneld/admin/answer.h"
#include "tunneld/admin/event_streams.h"
#include "tunneld/admin/fault.h"
#include "tunneld/admin/health.h"
#include "tunneld/admin/history.h"
#include "tunneld/admin/metrics.h"
#include "tunneld/admin/user_table.h"

namespace tunneld::admin {

/// What a change of the configuration came to.
struct ConfigChanges {
  std::vector<std::pair<std::string, std::string>> changes;  // key, "100 -> 150"
  std::string etag;                                          // of the values as they are now, without quotes
};

/// One call of a page that needs the scope, as the audit log keeps it.
struct AdminCall {
  std::string_view method;  // as the caller wrote it; a token of RFC 9110
  std::string_view page;    // the pattern, "/api/tunnel/connections/{id}"
  unsigned status = 200;
  std::optional<tunnel::Code> refused{};
  const tunnel::Principal* principal = nullptr;  // null when the token was not accepted
  std::string_view peer;
  std::string_view correlation_id;
  /// Denied (no token, or not the scope), or anything but GET and HEAD: an audit log that leaves reads out
  /// still has these.
  bool notable = false;
};

/// Where the admin pages get their facts. All are called on the admin listener's thread, may be
/// called at any time between its start and its end, and do not block (small files are read and written).
struct Sources {
  /// Exposition text; `openmetrics` chooses the format, `compat` adds the older names.
  std::function<std::string(bool openmetrics, bool compat)> metrics;
  std::function<Health()> health;
  std::function<HealthCounts()> counts;
  /// The caller's token judged; scopes are checked here.
  std::function<tunnel::Served<tunnel::Principal>(const tunnel::RequestHead&)> authenticate;
  std::function<nlohmann::ordered_json()> connections;
  std::function<nlohmann::ordered_json()> agents;
  /// Of the principal with that hash.
  std::function<tunnel::Served<void>(const std::string& principal_hash, const std::string& agent_id)>
      forget_agent;
  std::function<nlohmann::ordered_json()> diagnostics;
  /// One of ERROR WARN INFO DEBUG TRACE.
  std::function<std::string()> log_level;
  /// Takes one of the same; with `ttl` the configured level returns after it.
  std::function<void(const std::string& level, std::optional<std::chrono::seconds> ttl)> set_log_level;
  /// A refusal was answered, for the error metric.
  std::function<void(tunnel::Code)> refused;
  bool compat_metrics = true;  // metrics.compat

  /// Every call of a page that needs the scope, once it is answered.
  std::function<void(const AdminCall&)> called = [](const AdminCall&) {};
  /// Who it is that changes something with the very next of these calls.
  std::function<void(const tunnel::Principal&)> acting = [](const tunnel::Principal&) {};

  // Configuration. `if_match` is the field's value as it came; none came: nullopt.
  /// {"etag","values":{key: {"value","from","hot"}}}
  std::function<nlohmann::ordered_json()> config;
  std::function<Done<ConfigChanges>(const std::optional<std::string>& if_match, const nlohmann::json& body)>
      put_config;
  /// Gives up what was set by put_config: of these keys, or of all when there are none.
  std::function<Done<ConfigChanges>(const std::optional<std::string>& if_match,
                                    const std::vector<std::string>& keys)>
      reset_config;

  // Numbers
  std::function<Metrics::Snapshot()> snapshot;
  /// Of the last `window`.
  std::function<SlidingDurations::Percentiles(std::chrono::seconds window)> latency;
  const History* history = nullptr;
  const UserTable* users = nullptr;

  // Protection
  std::function<std::vector<access::CircuitBreakers::Info>()> breakers;
  std::function<bool(std::string_view id)> reset_breaker;  // false: there is none
  /// `address` is one of IPv4 or IPv6; false: it is not in the penalty box.
  std::function<bool(const std::string& address)> pardon;
  std::function<std::vector<access::Revocations::Entry>()> revocations;
  std::function<Result<void>(access::Revocations::Entry)> revoke;

  // Steering
  std::function<bool(std::uint64_t id)> close_connection;  // false: there is none
  /// Begins the drain, or tells of the one under way: when it ends at the latest.
  std::function<std::chrono::system_clock::time_point()> drain;

  EventSource events;
};

/// The pages of the admin listener (docs/operations.md lists them, docs/api has their shapes).
/// Open: metrics, liveness, readiness and the health summary. All others need a bearer token of scope
/// tunnel:admin, exactly.
/// Every answer has Cache-Control: no-store and X-Correlation-ID; every refusal the one error body, with
/// "details" where a body or a query had several faults.
class AdminHandler final : public tunnel::HttpHandler {
 public:
  explicit AdminHandler(Sources sources);
  ~AdminHandler() override;
  tunnel::asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override;

  /// The drain has come: event streams end, and no new ones begin. On the listener's thread.
  void end_streams();

 private:
  struct Call;
  /// Which pages there are. What reads is a GET or HEAD, what changes is the rest.
  struct Page {
    std::string_view path;  // "{...}" stands for one part, which the page gets as `id`
    bool needs_scope;
    std::string_view methods;  // as the field Allow has them
    Answer (AdminHandler::*read)(Call&);
    Answer (AdminHandler::*change)(Call&, const nlohmann::json& body);
  };
  /// One request on its way through.
  struct Call {
    explicit Call(tunnel::HttpExchange& of) : exchange(of) {}
    bool reads() const { return exchange.request().method == "GET" || exchange.request().method == "HEAD"; }

    tunnel::HttpExchange& exchange;
    const Page* page = nullptr;
    std::string id{};                              // the variable part of the path
    std::optional<tunnel::Principal> principal{};  // of an accepted token
    std::optional<tunnel::Code> refused{};
    std::optional<std::uint64_t> streams_after{};  // the answer is a stream of the events after this one
  };
  static const Page* find(std::string_view path, std::string& id);
  tunnel::asio::awaitable<Answer> answer(Call& call);
  void report(const Call& call, unsigned status) const;
  std::optional<tunnel::Refusal> check_scope(Call& call) const;
  Answer refusal(Call& call, const tunnel::Refusal& why, const std::vector<std::string>& details = {}) const;
  /// TUNNEL_010 with all of it.
  Answer bad_request(Call& call, std::vector<std::string> problems) const;
  Answer not_found(Call& call, std::string what) const;

  // The pages, in admin_pages.cpp
  Answer metrics_page(Call& call);
  Answer health_page(Call& call);
  Answer diagnostics_page(Call& call);
  Answer config_page(Call& call);
  Answer log_level_page(Call& call);
  Answer numbers_page(Call& call);
  Answer history_page(Call& call);
  Answer users_page(Call& call);
  Answer user_page(Call& call);
  Answer breakers_page(Call& call);
  Answer connections_page(Call& call);
  Answer agents_page(Call& call);
  Answer events_page(Call& call);
  Answer revocations_page(Call& call);
  Answer put_config(Call& call, const nlohmann::json& body);
  Answer reset_config(Call& call, const nlohmann::json& body);
  Answer changed_config(Call& call, const Done<ConfigChanges>& done) const;
  Answer put_log_level(Call& call, const nlohmann::json& body);
  Answer reset_breaker(Call& call, const nlohmann::json& body);
  Answer close_connection(Call& call, const nlohmann::json& body);
  Answer drain(Call& call, const nlohmann::json& body);
  Answer revoke(Call& call, const nlohmann::json& body);
  Answer pardon(Call& call, const nlohmann::json& body);
  Answer forget_agent(Call& call, const nlohmann::json& body);

  Sources sources_;
  EventStreams streams_;
};

/// The highest weight that Accept gives to the type itself, 0 to 1; 0 when it does not name it.
/// Source: RFC 9110 §12.5.1
double accept_weight(const tunnel::RequestHead& head, std::string_view type);

/// True when the Accept field prefers OpenMetrics, as Prometheus asks for it.
/// Source: RFC 9110 §12.5.1; an absent or broken field means the plain text format.
bool wants_openmetrics(const tunnel::RequestHead& head);

}  // namespace tunneld::admin
