#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tunneld/active_users.h"
#include "tunneld/admin/answer.h"
#include "tunneld/admin/health.h"
#include "tunneld/admission.h"
#include "tunneld/tunnel/http_exchange.h"
#include "tunneld/tunnel/http_forward.h"
#include "tunneld/tunnel/observer.h"

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
  std::string_view peer;
  std::string_view correlation_id;
  std::string_view principal_hash;  // empty while unknown
  std::string_view code;            // TUNNEL_0NN of a refusal
  std::string_view why;             // in words, for the operator
};

/// The public door of one thread: finds out which page or service a request means and takes it through
/// admission (authenticate, authorise, open, relay). What it does not know is 404, the admin pages
/// included.
///   ANY /t/<service>/...          forwarded as HTTP; upgrades pass
///   GET /ws/<service>             one WebSocket, one stream; the channel opens before the 101, so that
///                                 a refusal is an HTTP status
///   GET /api/tunnel/health        without a token; counts with the scope tunnel:metrics
///   GET /.well-known/tunnel-keys  tunneld's SSH public keys
/// Threads: all on its own; `set_policy` too.
class Gate final : public tunnel::HttpHandler {
 public:
  /// The same for the gates of all threads; outlives them. Functions may be called from any thread.
  struct Common {
    const Authenticator& authenticator;
    tunnel::Observer& observer;
    std::function<admin::Health()> health;
    std::function<admin::HealthCounts()> counts;
    std::function<void(const AccessRecord&)> log;
    std::string tunnel_keys;  // JSON body of /.well-known/tunnel-keys
    std::atomic<bool>& draining;
  };
  struct Options {
    std::chrono::milliseconds open_timeout{30'000};  // for a stream's channel
    std::chrono::milliseconds idle_limit{300'000};
  };

  Gate(const Common& common, tunnel::Dialer& dialer, tunnel::HttpForward& forward,
       tunnel::DeadlineWatch& watch, ActiveUsers& users, std::shared_ptr<const Policy> policy,
       Options options);

  tunnel::asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override;
  /// Requests from here on are judged by it.
  void set_policy(std::shared_ptr<const Policy> policy) { policy_ = std::move(policy); }

 private:
  struct Visit;
  tunnel::asio::awaitable<void> serve_http(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> serve_websocket(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> serve_page(tunnel::HttpExchange& exchange, Visit& visit,
                                           admin::Answer answer);
  tunnel::asio::awaitable<void> serve_health(tunnel::HttpExchange& exchange, Visit& visit);
  tunnel::asio::awaitable<void> refuse(tunnel::HttpExchange& exchange, Visit& visit, tunnel::Refusal why);
  tunnel::asio::awaitable<tunnel::RelayEnd> relay_stream(tunnel::WebSocketStream& caller,
                                                         tunnel::ByteStream& service,
                                                         const access::Principal& principal);

  const Common& common_;
  tunnel::Dialer& dialer_;
  tunnel::HttpForward& forward_;
  tunnel::DeadlineWatch& watch_;
  ActiveUsers& users_;
  std::shared_ptr<const Policy> policy_;
  const Options options_;
};

/// How a WebSocket is ended after its relay: the close code and the reason, JSON of at most 123 bytes.
struct Farewell {
  std::uint16_t code = 1000;
  std::string reason;
};
Farewell farewell_after(const tunnel::RelayEnd& end);

/// 16 hex digits that stand for a principal in logs: the same one always gives the same.
std::string principal_hash(const access::Principal& principal);

}  // namespace tunneld
