#include "tunneld/gate.h"

#include <array>
#include <utility>
#include <variant>

#include "tunneld/access/digest.h"
#include "tunneld/tunnel/relay.h"
#include "tunneld/tunnel/request_path.h"

namespace tunneld {

using tunnel::Code;
using tunnel::HttpExchange;
using tunnel::Refusal;
using tunnel::RelayEnd;
using Clock = std::chrono::steady_clock;

/// One request on its way through the gate, and what is known of it so far.
struct Gate::Visit {
  explicit Visit(HttpExchange& exchange) {
    record.method = exchange.request().method;
    record.peer = exchange.peer_address();
    record.correlation_id = exchange.correlation_id();
    record.door = "page";
  }
  Clock::time_point began = Clock::now();
  AccessRecord record;
  // What the record's views point into.
  std::string service;
  std::string hash;
  std::string why;
};

namespace {

Refusal not_found() {
  return {Code::bad_request, "no such page", std::nullopt, 404};
}

bool is_read(const tunnel::RequestHead& head) {
  return head.method == "GET" || head.method == "HEAD";
}

bool asks_for_websocket(const tunnel::RequestHead& head) {
  const auto* upgrade = head.find("upgrade");
  return head.wants_upgrade && upgrade != nullptr && tunnel::same_name(*upgrade, "websocket");
}

/// The monotonic time of a token's end: expiry is wall clock, deadlines are not.
Clock::time_point expiry_of(const access::Principal& principal) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(principal.expires_at - std::chrono::system_clock::now());
}

std::string reason_json(Code code, bool soon) {
  std::string text = R"({"code":")";
  text += tunnel::facts(code).name;
  text += soon ? R"(","retryAfterMs":1000})" : R"("})";
  return text;
}

}  // namespace

Farewell farewell_after(const RelayEnd& end) {
  switch (end.how) {
    case RelayEnd::How::finished: return {1000, ""};
    case RelayEnd::How::caller_failed: return {1002, ""};
    case RelayEnd::How::service_failed: return {1011, reason_json(Code::ssh_error, false)};
    case RelayEnd::How::idle: return {4408, reason_json(Code::timed_out, false)};
    case RelayEnd::How::expired: return {4401, reason_json(Code::token_expired, false)};
    case RelayEnd::How::cancelled: return {1012, reason_json(Code::unavailable, true)};
  }
  return {1011, ""};
}

std::string principal_hash(const access::Principal& principal) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  const auto digest = access::sha256(principal.key());
  std::string text;
  for (std::size_t i = 0; i < 8; ++i) {
    text += kDigits[digest[i] >> 4U];
    text += kDigits[digest[i] & 15U];
  }
  return text;
}

Gate::Gate(const Common& common, tunnel::Dialer& dialer, tunnel::HttpForward& forward,
           tunnel::DeadlineWatch& watch, ActiveUsers& users, std::shared_ptr<const Policy> policy,
           Options options)
    : common_(common),
      dialer_(dialer),
      forward_(forward),
      watch_(watch),
      users_(users),
      policy_(std::move(policy)),
      options_(options) {}

tunnel::asio::awaitable<void> Gate::handle(HttpExchange& exchange) {
  Visit visit(exchange);
  const auto& head = exchange.request();
  const std::string_view target = head.target;
  const auto path = target.substr(0, target.find('?'));
  if (path.starts_with("/t/")) {
    co_await serve_http(exchange, visit);
  } else if (path.starts_with("/ws/")) {
    co_await serve_websocket(exchange, visit);
  } else if (path == "/api/tunnel/health" && is_read(head)) {
    co_await serve_health(exchange, visit);
  } else if (path == "/.well-known/tunnel-keys" && is_read(head)) {
    admin::Answer keys{.body = common_.tunnel_keys};
    co_await serve_page(exchange, visit, std::move(keys));
  } else {
    co_await refuse(exchange, visit, not_found());
  }
  visit.record.took = Clock::now() - visit.began;
  common_.log(visit.record);
}

tunnel::asio::awaitable<void> Gate::serve_http(HttpExchange& exchange, Visit& visit) {
  const auto& head = exchange.request();
  visit.record.door = "http";
  auto caller = common_.authenticator.authenticate(head);
  if (!caller) {
    co_await refuse(exchange, visit, std::move(caller.error()));
    co_return;
  }
  const auto& principal = caller->principal();
  exchange.authenticated(principal.tier);
  visit.record.principal_hash = visit.hash = principal_hash(principal);

  auto route = tunnel::route_http(head.target);
  if (!route) {
    co_await refuse(exchange, visit, std::move(route.error()));
    co_return;
  }
  if (const auto* slash = std::get_if<tunnel::AddSlash>(&*route)) {
    admin::Answer moved{.status = 308};
    moved.fields.push_back({"Location", slash->location});
    co_await serve_page(exchange, visit, std::move(moved));
    co_return;
  }
  auto* found = std::get_if<tunnel::ServiceTarget>(&*route);
  if (found == nullptr) {
    co_await refuse(exchange, visit, not_found());
    co_return;
  }
  // The policy may be replaced while the request is under way; the service belongs to this one.
  const auto policy = policy_;
  const auto service = policy->authorise(principal, found->service);
  if (!service) {
    co_await refuse(exchange, visit, service.error());
    co_return;
  }
  visit.service = (*service)->name;
  visit.record.service = visit.service;
  exchange.serving(visit.service);

  const ActiveUsers::Stay stay(users_, principal.key());
  common_.observer.request_started(principal.tier);
  tunnel::ForwardTarget to{&principal, *service, std::move(found->target), caller->credential};
  auto done = co_await forward_.forward(exchange, to);
  const auto took = Clock::now() - visit.began;
  if (!done) {
    common_.observer.request_finished(principal.tier, tunnel::Outcome::error, took, took);
    co_await refuse(exchange, visit, std::move(done.error()));
    co_return;
  }
  using Ending = tunnel::Forwarded::Ending;
  // A caller that leaves is no failure of the tunnel, nor is an error that the service itself answers.
  const bool good = done->ending == Ending::complete || done->ending == Ending::upgraded ||
                    done->ending == Ending::caller_gone;
  common_.observer.request_finished(principal.tier, good ? tunnel::Outcome::success : tunnel::Outcome::error,
                                    took, took - std::min(took, done->waited_for_service));
  visit.record.status = done->status;
  visit.record.from_caller_bytes = done->from_caller_bytes;
  visit.record.from_service_bytes = done->from_service_bytes;
  visit.record.why = visit.why = std::move(done->why);
  if (done->ending == Ending::upgraded) visit.record.door = "upgrade";
}

tunnel::asio::awaitable<void> Gate::serve_websocket(HttpExchange& exchange, Visit& visit) {
  const auto& head = exchange.request();
  visit.record.door = "websocket";
  const auto turn_away = [&](Refusal why) {
    common_.observer.websocket_refused("caller", why.code);
    return refuse(exchange, visit, std::move(why));
  };
  // A stream has no natural end to wait for: better sent to another instance before it begins.
  if (common_.draining.load(std::memory_order_relaxed)) {
    Refusal draining{Code::unavailable, "draining", std::chrono::seconds(1)};
    co_await turn_away(std::move(draining));
    co_return;
  }
  auto route = tunnel::route_websocket(head.target);
  if (!route) {
    co_await turn_away(std::move(route.error()));
    co_return;
  }
  const auto* found = std::get_if<tunnel::ServiceTarget>(&*route);
  if (found == nullptr) {
    co_await refuse(exchange, visit, not_found());
    co_return;
  }
  if (head.method != "GET" || !asks_for_websocket(head)) {
    const bool get = head.method == "GET";
    visit.record.code = tunnel::facts(Code::bad_request).name;
    auto answer = admin::answer_refusing(
        exchange, {Code::bad_request, "this page speaks WebSocket only", std::nullopt, get ? 426 : 405});
    if (get)
      answer.fields.push_back({"Upgrade", "websocket"});
    else
      answer.fields.push_back({"Allow", "GET"});
    common_.observer.websocket_refused("caller", Code::bad_request);
    common_.observer.error_answered(Code::bad_request);
    co_await serve_page(exchange, visit, std::move(answer));
    co_return;
  }
  const auto policy = policy_;
  if (auto foreign = policy->check_origin(head)) {
    co_await turn_away(std::move(*foreign));
    co_return;
  }
  auto caller = common_.authenticator.authenticate(head);
  if (!caller) {
    co_await turn_away(std::move(caller.error()));
    co_return;
  }
  const auto& principal = caller->principal();
  exchange.authenticated(principal.tier);
  visit.record.principal_hash = visit.hash = principal_hash(principal);
  auto subprotocol = choose_subprotocol(head);
  if (!subprotocol) {
    co_await turn_away(std::move(subprotocol.error()));
    co_return;
  }
  const auto service = policy->authorise(principal, found->service);
  if (!service) {
    co_await turn_away(service.error());
    co_return;
  }
  visit.service = (*service)->name;
  visit.record.service = visit.service;
  exchange.serving(visit.service);

  const ActiveUsers::Stay stay(users_, principal.key());
  auto channel = co_await dialer_.open(principal, **service, Clock::now() + options_.open_timeout);
  if (!channel) {
    co_await turn_away(std::move(channel.error()));
    co_return;
  }
  tunnel::WebSocketAccept accept;
  accept.empty_message_ends = *subprotocol == "tunnel.raw.v1";
  accept.subprotocol = std::move(*subprotocol);
  accept.fields.push_back({"X-Correlation-ID", exchange.correlation_id()});
  auto websocket = co_await exchange.accept_websocket(accept);
  if (!websocket) {  // answered there
    visit.record.status = 400;
    visit.record.why = visit.why = websocket.error().message;
    co_return;
  }
  visit.record.status = 101;
  const auto end = co_await relay_stream(**websocket, **channel, principal);
  visit.record.from_caller_bytes = end.from_caller_bytes;
  visit.record.from_service_bytes = end.from_service_bytes;
  visit.record.why = visit.why = end.why;
  if (end.how == RelayEnd::How::expired) common_.observer.error_answered(Code::token_expired);
  if (end.how == RelayEnd::How::service_failed) common_.observer.error_answered(Code::ssh_error);
  if (end.how != RelayEnd::How::caller_failed) {
    const auto farewell = farewell_after(end);
    co_await (*websocket)->close_with(farewell.code, farewell.reason);
  }
  visit.record.close_code = (*websocket)->ending().code;
}

tunnel::asio::awaitable<RelayEnd> Gate::relay_stream(tunnel::WebSocketStream& caller,
                                                     tunnel::ByteStream& service,
                                                     const access::Principal& principal) {
  tunnel::RelayOptions options;
  options.idle_limit = options_.idle_limit;
  options.until = expiry_of(principal);
  co_return co_await tunnel::relay(caller, service, watch_, common_.observer, options);
}

tunnel::asio::awaitable<void> Gate::serve_health(HttpExchange& exchange, Visit& visit) {
  const auto health = common_.health();
  std::optional<admin::HealthCounts> counts;
  // Without a token, or with another one, the page stays the same but for the counts.
  if (exchange.request().find("authorization") != nullptr) {
    const auto caller = common_.authenticator.authenticate(exchange.request());
    if (caller && caller->principal().has_scope("tunnel:metrics")) counts = common_.counts();
  }
  admin::Answer answer{.status = health.not_ready ? 503U : 200U, .body = admin::health_body(health, counts)};
  co_await serve_page(exchange, visit, std::move(answer));
}

tunnel::asio::awaitable<void> Gate::serve_page(HttpExchange& exchange, Visit& visit, admin::Answer answer) {
  visit.record.status = answer.status;
  visit.record.from_service_bytes = answer.body.size();
  co_await admin::send(exchange, std::move(answer));
}

tunnel::asio::awaitable<void> Gate::refuse(HttpExchange& exchange, Visit& visit, Refusal why) {
  visit.record.code = tunnel::facts(why.code).name;
  visit.record.why = visit.why = why.message;
  common_.observer.error_answered(why.code);
  co_await serve_page(exchange, visit, admin::answer_refusing(exchange, why));
}

}  // namespace tunneld
