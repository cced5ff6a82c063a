#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "link/link_table.h"
#include "tunnel/http_exchange.h"
#include "tunnel/http_forward.h"
#include "tunnel/observer.h"
#include "tunnel/queue_ledger.h"
#include "tunneld/access/circuit_breakers.h"
#include "tunneld/access/connection_quotas.h"
#include "tunneld/active_users.h"
#include "tunneld/admin/answer.h"
#include "tunneld/admin/health.h"
#include "tunneld/admin/metrics.h"
#include "tunneld/admin/user_table.h"
#include "tunneld/admission.h"
#include "tunneld/audit/audit_log.h"
#include "tunneld/config.h"
#include "tunneld/farewell.h"
#include "tunneld/live_streams.h"
#include "tunneld/tracing/tracer.h"
#include "tunneld/upstream/agent_registry.h"

namespace tunneld {

class TunnelSession;
struct StreamOpening;

/// One request or stream that ended, for the access log. Never holds a path, query, token or body.
struct AccessRecord {
  std::string_view method;
  std::string_view service;      // empty when none was named
  std::string_view door;         // http, upgrade, websocket, link (a stream of one), links, agent, page
  unsigned status = 0;           // 101 for a stream; 499 when the caller left before an answer
  std::uint16_t close_code = 0;  // of a WebSocket
  std::uint64_t from_caller_bytes = 0;
  std::uint64_t from_service_bytes = 0;
  std::chrono::steady_clock::duration took{};
  std::chrono::steady_clock::duration queued{};
  tunnel::Priority priority = tunnel::Priority::normal;
  std::string_view peer;
  std::string_view correlation_id;
  std::string_view trace_id;        // of a sampled trace; empty otherwise
  std::string_view principal_hash;  // empty while unknown
  std::string_view code;            // TUNNEL_0NN of a refusal
  std::string_view why;             // in words, for the operator
  bool slow = false;                // longer than request.slow
};

/// The public door of one thread: finds out which page or service a request means and takes it through
/// admission (address, token, rates, service, connection place, breaker, channel, relay). What it does not
/// know is 404, the admin pages included.
///   ANY /t/<service>/...          forwarded as HTTP; upgrades pass
///   GET /ws/<service>             one WebSocket, one stream; the channel opens before the 101, so that
///                                 a refusal is an HTTP status
///   GET /ws, /tunnel              a link: many streams over one WebSocket that may break (docs/api/links.md)
///   GET /agent                    an agent's control connection
///   GET /agent/session/<ticket>   a link for an SSH transport that an agent was asked for
///   GET /api/tunnel/me            what the token's principal may do and has done
///   DELETE /api/tunnel/agents/<id>  forgets the host key of the principal's own agent
///   GET /api/tunnel/health        without a token; counts with the scope tunnel:metrics
///   GET /.well-known/tunnel-keys  tunneld's SSH public keys
/// Threads: all on its own, set_policy() and set_options() too.
class Gate final : public tunnel::HttpHandler {
 public:
  /// The same for the gates of all threads; outlives them. Functions may be called from any thread.
  struct Common {
    const Admission& admission;
    const Authenticator& authenticator;
    access::ConnectionQuotas& connections;
    access::CircuitBreakers& breakers;
    const access::Revocations& revocations;
    const tunnel::QueueLedger& queue;
    admin::UserTable& users;
    tunnel::Observer& observer;
    audit::AuditLog* audit;         // null: none is kept
    const tracing::Tracer* tracer;  // null: off
    std::function<void(tracing::Span)> record_span;
    std::function<admin::Health()> health;
    std::function<admin::HealthCounts()> counts;
    std::function<void(const AccessRecord&)> log;
    std::string tunnel_keys;  // JSON body of /.well-known/tunnel-keys
    std::atomic<bool>& draining;
    /// The audit log is broken and nothing may be served without it.
    std::atomic<bool>& unaudited;
    links::LinkTable& links;
    upstream::AgentRegistry* agents;  // null: none are taken
    /// The gate of that thread; null: this one.
    std::function<Gate*(tunnel::asio::io_context& home)> gate_on{};
    std::string instance_id{};
    std::function<void(admin::Metrics::Resumed)> resumed = [](admin::Metrics::Resumed) {};
    /// An agent's connection was replaced by a newer one of the same agent.
    std::function<void(const std::string& agent_id, const std::string& principal_hash)> superseded =
        [](const std::string&, const std::string&) {};
  };
  struct Options {
    std::chrono::milliseconds open_timeout{30'000};  // for a stream's channel
    std::chrono::milliseconds idle_limit{300'000};
    std::chrono::milliseconds slow{5'000};
    std::array<Config::Tier, 3> tiers{};
    bool audit_requests = true;
    Config::Link link{};
    std::chrono::milliseconds heartbeat{30'000};  // told to callers; edge keeps it
    std::chrono::milliseconds dead_after{45'000};
  };

  /// All outlive it, and it outlives what runs on `io`.
  Gate(const Common& common, tunnel::asio::io_context& io, tunnel::Dialer& dialer,
       tunnel::HttpForward& forward, tunnel::DeadlineWatch& watch, ActiveUsers& users,
       std::shared_ptr<const Policy> policy, Options options);
  ~Gate() override;

  tunnel::asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override;
  /// Requests from here on are judged by it.
  void set_policy(std::shared_ptr<const Policy> policy) { policy_ = std::move(policy); }
  void set_options(const Options& options) { options_ = options; }
  LiveStreams& streams() { return streams_; }
  tunnel::DeadlineWatch& watch() { return watch_; }
  /// Those that live on this thread.
  std::unordered_set<links::Link*>& links() { return links_; }
  /// Kept by the links of this thread for a replay, as of the last look. Any thread.
  std::uint64_t resume_buffer_bytes() const { return resume_buffer_bytes_.load(std::memory_order_relaxed); }
  /// Looks at the links.
  void measure_links();
  /// Ends the links at once; nobody is told why.
  void close_links();

 private:
  struct Visit;
  class Listed;
  using Breakers = access::CircuitBreakers;
  const Config::Tier& tier_of(const tunnel::Principal& principal) const {
    return options_.tiers[static_cast<std::size_t>(principal.tier)];
  }
  tunnel::asio::awaitable<void> serve_http(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> serve_websocket(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> serve_page(tunnel::HttpExchange& exchange, Visit& visit,
                                           admin::Answer answer);
  tunnel::asio::awaitable<void> serve_health(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> serve_me(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> forget_agent(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> refuse(tunnel::HttpExchange& exchange, Visit& visit, tunnel::Refusal why);
  tunnel::asio::awaitable<tunnel::RelayEnd> relay_stream(tunnel::WebSocketStream& caller,
                                                         tunnel::ByteStream& service, Visit& visit,
                                                         bool control_messages);

  // WebSockets
  /// Refuses, and counts that for the door.
  tunnel::asio::awaitable<void> turn_away(tunnel::HttpExchange& exchange, Visit& visit, tunnel::Refusal why);
  std::optional<tunnel::Refusal> check_draining() const;
  /// Method, upgrade, Origin and admit(); false: answered.
  tunnel::asio::awaitable<bool> let_in(tunnel::HttpExchange& exchange, Visit& visit);
  static tunnel::WebSocketAccept acceptance(const tunnel::HttpExchange& exchange, const Visit& visit,
                                            std::string subprotocol);
  /// Breaker, trace and dialer, for the service that was found. When the visit is abandoned the refusal says
  /// nothing.
  tunnel::asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open_channel(
      Visit& visit, std::optional<tracing::SpanContext> parent, tunnel::ForwardTimes& times);
  void note_opened(const Visit& visit) const;
  void note_end(Visit& visit, const tunnel::RelayEnd& end) const;

  // Links and agents (gate_links.cpp)
  using Take = std::function<void(std::unique_ptr<tunnel::WebSocketStream>)>;
  /// let_in(), and the subprotocol; false: answered.
  tunnel::asio::awaitable<bool> let_in_for(tunnel::HttpExchange& exchange, Visit& visit,
                                           const char* subprotocol);
  /// What became of an upgrade, into the visit; whether it came about.
  static bool note_upgrade(Visit& visit, const Error* failure);
  /// The WebSocket goes on where `home` runs.
  static tunnel::asio::awaitable<void> carry_on(tunnel::asio::io_context& home,
                                                tunnel::HttpExchange& exchange, Visit& visit,
                                                const char* subprotocol, Take take);
  tunnel::asio::awaitable<void> serve_link(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> serve_agent(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> serve_agent_session(tunnel::HttpExchange& exchange, Visit& visit);
  /// A client comes back to a link, of whichever thread.
  tunnel::asio::awaitable<void> resume_link(tunnel::HttpExchange& exchange, Visit& visit,
                                            const char* subprotocol);
  tunnel::asio::awaitable<void> begin_link(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> begin_agent_session(tunnel::HttpExchange& exchange, Visit& visit,
                                                    upstream::AgentRegistry::Claim claim);
  /// A link's whole life, with what it holds.
  tunnel::asio::awaitable<void> run_link(std::shared_ptr<TunnelSession> session,
                                         access::ConnectionQuotas::Place place);
  /// One stream of a link, from its opening line to its end.
  tunnel::asio::awaitable<void> serve_stream(TunnelSession& session, tunnel::ByteStream& stream,
                                             tunnel::Served<StreamOpening> opening);
  tunnel::asio::awaitable<void> carry_stream(TunnelSession& session, tunnel::ByteStream& stream,
                                             const tunnel::Served<StreamOpening>& opening, Visit& visit);
  std::optional<tunnel::Refusal> admit_stream(const TunnelSession& session, Visit& visit) const;
  tunnel::asio::awaitable<void> refuse_stream(tunnel::ByteStream& stream, Visit& visit, tunnel::Refusal why);

  /// Address, token, rates: fills in what the visit then knows of its caller.
  std::optional<tunnel::Refusal> admit(tunnel::HttpExchange& exchange, Visit& visit) const;
  std::optional<tunnel::Refusal> check_audit() const;
  /// The service that the caller may use, into the visit.
  std::optional<tunnel::Refusal> find_service(Visit& visit, const std::string& name) const;
  tunnel::Served<access::ConnectionQuotas::Place> reserve_connection(Visit& visit) const;
  /// Counts the refusal.
  tunnel::Refusal no_connection_left(const Visit& visit) const;
  tunnel::Served<Breakers::Permit> ask_breaker(const Visit& visit) const;
  void answer_control_message(const std::string& text, LiveStreams::Stream& live,
                              tunnel::WebSocketStream& caller, const Visit& visit) const;
  static std::optional<tracing::SpanContext> parent_of(const tunnel::RequestHead& head);
  void begin_trace(const std::optional<tracing::SpanContext>& parent, Visit& visit) const;
  void end_trace(Visit& visit, const tunnel::ForwardTimes& times) const;
  /// Of a request whose caller left before it was answered.
  static void note_leaving(Visit& visit);
  void finish(Visit& visit) const;

  const Common& common_;
  tunnel::asio::io_context& io_;
  tunnel::Dialer& dialer_;
  tunnel::HttpForward& forward_;
  tunnel::DeadlineWatch& watch_;
  ActiveUsers& users_;
  std::shared_ptr<const Policy> policy_;
  Options options_;
  LiveStreams streams_;
  std::unordered_set<TunnelSession*> sessions_;  // of callers' links on this thread
  std::unordered_set<links::Link*> links_;       // those, and agents'
  std::atomic<std::uint64_t> resume_buffer_bytes_{0};
};

}  // namespace tunneld
