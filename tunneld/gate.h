#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tunnel/http_exchange.h"
#include "tunnel/http_forward.h"
#include "tunnel/observer.h"
#include "tunnel/queue_ledger.h"
#include "tunneld/access/circuit_breakers.h"
#include "tunneld/access/connection_quotas.h"
#include "tunneld/active_users.h"
#include "tunneld/admin/answer.h"
#include "tunneld/admin/health.h"
#include "tunneld/admin/user_table.h"
#include "tunneld/admission.h"
#include "tunneld/audit/audit_log.h"
#include "tunneld/config.h"
#include "tunneld/live_streams.h"
#include "tunneld/tracing/tracer.h"

namespace tunneld {

/// One request or stream that ended, for the access log. Never holds a path, query, token or body.
struct AccessRecord {
  std::string_view method;
  std::string_view service;      // empty when none was named
  std::string_view door;         // http, upgrade, websocket, page
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
///   GET /api/tunnel/me            what the token's principal may do and has done
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
  };
  struct Options {
    std::chrono::milliseconds open_timeout{30'000};  // for a stream's channel
    std::chrono::milliseconds idle_limit{300'000};
    std::chrono::milliseconds slow{5'000};
    std::array<Config::Tier, 3> tiers{};
    bool audit_requests = true;
  };

  Gate(const Common& common, tunnel::Dialer& dialer, tunnel::HttpForward& forward,
       tunnel::DeadlineWatch& watch, ActiveUsers& users, std::shared_ptr<const Policy> policy,
       Options options);

  tunnel::asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override;
  /// Requests from here on are judged by it.
  void set_policy(std::shared_ptr<const Policy> policy) { policy_ = std::move(policy); }
  void set_options(const Options& options) { options_ = options; }
  LiveStreams& streams() { return streams_; }

 private:
  struct Visit;
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
  tunnel::asio::awaitable<void> refuse(tunnel::HttpExchange& exchange, Visit& visit, tunnel::Refusal why);
  tunnel::asio::awaitable<tunnel::RelayEnd> relay_stream(tunnel::WebSocketStream& caller,
                                                         tunnel::ByteStream& service, Visit& visit,
                                                         bool control_messages);

  /// Address, token, rates: fills in what the visit then knows of its caller.
  std::optional<tunnel::Refusal> admit(tunnel::HttpExchange& exchange, Visit& visit) const;
  /// The service that the caller may use.
  tunnel::Served<const tunnel::Service*> find_service(tunnel::HttpExchange& exchange, Visit& visit,
                                                      const std::string& name) const;
  tunnel::Served<access::ConnectionQuotas::Place> reserve_connection(Visit& visit) const;
  tunnel::Served<Breakers::Permit> ask_breaker(const Visit& visit, const tunnel::Service& service) const;
  void answer_control_message(const std::string& text, LiveStreams::Stream& live,
                              tunnel::WebSocketStream& caller, const Visit& visit) const;
  void begin_trace(const tunnel::RequestHead& head, Visit& visit) const;
  void end_trace(Visit& visit, const tunnel::ForwardTimes& times) const;
  /// Of a request whose caller left before it was answered.
  static void note_leaving(Visit& visit);
  void finish(Visit& visit) const;

  const Common& common_;
  tunnel::Dialer& dialer_;
  tunnel::HttpForward& forward_;
  tunnel::DeadlineWatch& watch_;
  ActiveUsers& users_;
  std::shared_ptr<const Policy> policy_;
  Options options_;
  LiveStreams streams_;
};

/// How a WebSocket is ended after its relay: the close code and the reason, JSON of at most 123 bytes.
struct Farewell {
  std::uint16_t code = 1000;
  std::string reason;
};
Farewell farewell_after(const tunnel::RelayEnd& end);

}  // namespace tunneld
