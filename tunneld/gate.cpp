#include "tunneld/gate.h"

#include <algorithm>
#include <utility>
#include <variant>

#include <boost/asio/this_coro.hpp>
#include <nlohmann/json.hpp>

#include "tunnel/control_messages.h"
#include "tunnel/relay.h"
#include "tunnel/request_path.h"
#include "tunneld/admin/me.h"
#include "tunneld/gate_visit.h"
#include "tunneld/tunnel_session.h"

namespace tunneld {

using tunnel::Code;
using tunnel::HttpExchange;
using tunnel::Refusal;
using tunnel::RelayEnd;
using Clock = std::chrono::steady_clock;

namespace {

/// The status, nginx's, when nobody is there to be answered.
constexpr unsigned kCallerGone = 499;
constexpr const char* kCallerLeft = "the caller left";

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

/// Whether a refusal says that the service or the way to it is broken. What is our own doing (queue full,
/// draining, the caller's mistakes) does not, nor does a wait for a channel that never came.
bool is_failure(const Refusal& why, bool had_channel) {
  switch (why.code) {
    case Code::unreachable:
    case Code::ssh_error:
    case Code::websocket_error:  // it broke off within its head, or does not speak HTTP
    case Code::host_key_mismatch:
    case Code::outcome_unknown: return true;
    // Asking costs nothing, and its agent says when it is back: no reason to keep it shut for a minute more.
    case Code::no_agent: return false;
    case Code::timed_out: return had_channel;
    default: return false;
  }
}

std::string breaker_error(Code code, std::string_view why) {
  std::string text(tunnel::facts(code).name);
  return text.append(": ").append(why);
}

/// A permit that says, when the story is over, what it came to.
void settle(access::CircuitBreakers::Permit& permit, const Refusal& why, bool had_channel) {
  if (is_failure(why, had_channel)) permit.failed(Clock::now(), breaker_error(why.code, why.message));
}

void settle(access::CircuitBreakers::Permit& permit, const tunnel::Forwarded& done) {
  using Ending = tunnel::Forwarded::Ending;
  switch (done.ending) {
    case Ending::complete:
    case Ending::upgraded: return permit.succeeded(Clock::now());
    case Ending::service_cut: return permit.failed(Clock::now(), breaker_error(Code::ssh_error, done.why));
    case Ending::timed_out: return permit.failed(Clock::now(), breaker_error(Code::timed_out, done.why));
    case Ending::caller_gone:
      // Its leaving says nothing, an answer that had begun does.
      if (done.status != kCallerGone) permit.succeeded(Clock::now());
  }
}

/// A caller's WebSocket as the place for control messages.
class WebSocketSink final : public ControlSink {
 public:
  explicit WebSocketSink(tunnel::WebSocketStream& socket) : socket_(socket) {}
  bool post_control(std::string_view message) override { return socket_.post_control(message); }

 private:
  tunnel::WebSocketStream& socket_;
};

/// What a forwarding that was cancelled came to, whatever it took that for.
void count_as_left(tunnel::Served<tunnel::Forwarded>& done) {
  using Ending = tunnel::Forwarded::Ending;
  if (done && (done->ending == Ending::complete || done->ending == Ending::upgraded)) return;
  if (!done) done.emplace();
  done->ending = Ending::caller_gone;
  if (done->status == 0) done->status = kCallerGone;
  done->why = kCallerLeft;
}

}  // namespace

Gate::Gate(const Common& common, tunnel::asio::io_context& io, tunnel::Dialer& dialer,
           tunnel::HttpForward& forward, tunnel::DeadlineWatch& watch, ActiveUsers& users,
           std::shared_ptr<const Policy> policy, Options options)
    : common_(common),
      io_(io),
      dialer_(dialer),
      forward_(forward),
      watch_(watch),
      users_(users),
      policy_(std::move(policy)),
      options_(options),
      streams_(common.revocations) {}

Gate::~Gate() = default;

tunnel::asio::awaitable<void> Gate::handle(HttpExchange& exchange) {
  Visit visit(exchange);
  visit.cancellation = co_await tunnel::asio::this_coro::cancellation_state;
  const auto& head = exchange.request();
  visit.address = common_.admission.address_of(head, exchange.peer_address());
  visit.record.peer = visit.address;
  const std::string_view target = head.target;
  const auto path = target.substr(0, target.find('?'));
  try {
    if (path.starts_with("/t/")) {
      co_await serve_http(exchange, visit);
    } else if (path.starts_with("/ws/")) {
      co_await serve_websocket(exchange, visit);
    } else if (path == "/ws" || path == "/tunnel") {
      co_await serve_link(exchange, visit);
    } else if (path == "/agent") {
      co_await serve_agent(exchange, visit);
    } else if (path == "/agent/session" || path.starts_with("/agent/session/")) {
      co_await serve_agent_session(exchange, visit);
    } else if (path == "/api/tunnel/me" && is_read(head)) {
      co_await serve_me(exchange, visit);
    } else if (path.starts_with("/api/tunnel/agents/") && head.method == "DELETE") {
      co_await forget_agent(exchange, visit);
    } else if (auto denied = common_.admission.admit_stranger(visit.address)) {
      co_await refuse(exchange, visit, std::move(denied->refusal));
    } else if (path == "/api/tunnel/health" && is_read(head)) {
      co_await serve_health(exchange, visit);
    } else if (path == "/.well-known/tunnel-keys" && is_read(head)) {
      admin::Answer keys{.body = common_.tunnel_keys};
      co_await serve_page(exchange, visit, std::move(keys));
    } else {
      co_await refuse(exchange, visit, not_found());
    }
  } catch (...) {
    if (!visit.abandoned()) throw;
  }
  if (visit.abandoned()) note_leaving(visit);
  finish(visit);
}

void Gate::note_leaving(Visit& visit) {
  if (visit.record.status != 0) return;  // an answer had begun
  visit.record.status = kCallerGone;
  visit.record.why = visit.why = kCallerLeft;
}

void Gate::finish(Visit& visit) const {
  auto& record = visit.record;
  record.took = Clock::now() - visit.began;
  if (visit.finished) {
    auto& request = *visit.finished;
    request.tier = visit.principal().tier;
    request.priority = record.priority;
    request.took = record.took;
    request.overhead = std::min(request.overhead, request.took);
    record.slow = request.took > options_.slow;
    if (visit.trace) record.trace_id = request.trace_id = visit.trace->id;
    common_.observer.request_finished(request);
  }
  const bool stream = visit.is_stream();
  if (visit.known() && record.door != std::string_view("page")) {
    const auto now = std::chrono::system_clock::now();
    // What became a stream, a link or an agent's connection lasts as long as its owner likes, and is no
    // request.
    if (record.status != 101 || record.door == std::string_view("upgrade"))
      common_.users.request_finished(
          visit.key(),
          {visit.principal().tier,
           visit.finished ? visit.finished->outcome == tunnel::Outcome::error : !record.code.empty(),
           record.took, record.from_caller_bytes, record.from_service_bytes},
          now);
    // What met its rate limit is told by a line a second, not by one each.
    if (common_.audit != nullptr && options_.audit_requests && record.code != "TUNNEL_005")
      common_.audit->write(stream && record.status == 101 ? "stream.closed" : "request",
                           {{"principal", record.principal_hash},
                            {"method", record.method},
                            {"service", record.service},
                            {"status", record.status},
                            {"close_code", record.close_code},
                            {"code", record.code},
                            {"bytes_in", record.from_caller_bytes},
                            {"bytes_out", record.from_service_bytes},
                            {"ms", std::chrono::duration<double, std::milli>(record.took).count()},
                            {"peer", record.peer},
                            {"correlation_id", record.correlation_id}});
  }
  common_.log(record);
}

std::optional<Refusal> Gate::admit(HttpExchange& exchange, Visit& visit) const {
  auto admitted = common_.admission.admit(exchange.request(), visit.address);
  if (!admitted) {
    visit.rate = admitted.error().rate;
    return std::move(admitted.error().refusal);
  }
  visit.caller = std::move(admitted->caller);
  visit.rate = admitted->rate;
  visit.record.principal_hash = visit.hash();
  exchange.authenticated(visit.principal().tier);
  exchange.identified(visit.hash());
  return check_audit();
}

std::optional<Refusal> Gate::check_audit() const {
  if (!common_.unaudited.load(std::memory_order_relaxed)) return std::nullopt;
  return Refusal{Code::unavailable, "the audit log cannot be written", std::chrono::seconds(5)};
}

std::optional<Refusal> Gate::find_service(Visit& visit, const std::string& name) const {
  // Configured services win. An agent's are its own principal's alone, and nobody learns of others.
  auto service = Policy::authorise(policy_, visit.principal(), name);
  if (!service && common_.agents != nullptr)
    if (auto own = common_.agents->find(visit.principal(), name)) service = std::move(own);
  if (!service) {
    if (common_.audit != nullptr)
      common_.audit->write("service.denied",
                           {{"principal", visit.hash()}, {"service", name}, {"peer", visit.address}});
    return std::move(service.error());
  }
  visit.wanted = std::move(*service);
  visit.service = visit.wanted->name;
  visit.record.service = visit.service;
  return std::nullopt;
}

tunnel::Served<access::ConnectionQuotas::Place> Gate::reserve_connection(Visit& visit) const {
  const auto limit = tier_of(visit.principal()).connections;
  auto place = common_.connections.reserve(visit.key(), limit);
  if (place) return place;
  return tl::unexpected(no_connection_left(visit));
}

Refusal Gate::no_connection_left(const Visit& visit) const {
  const auto& principal = visit.principal();
  common_.observer.rate_limited("connections", principal.tier);
  return {Code::too_many_connections,
          "the tier allows " + std::to_string(tier_of(principal).connections) + " connections at a time",
          std::chrono::seconds(5)};
}

tunnel::Served<Gate::Breakers::Permit> Gate::ask_breaker(const Visit& visit) const {
  const auto& service = *visit.wanted;
  auto asked = common_.breakers.admit({visit.key(), service.upstream, service.name}, Clock::now());
  if (auto* permit = std::get_if<Breakers::Permit>(&asked)) return std::move(*permit);
  const auto wait = std::chrono::ceil<std::chrono::seconds>(std::get<Breakers::Open>(asked).retry_after);
  return tl::unexpected(Refusal{Code::circuit_open, "service " + service.name + " failed repeatedly",
                                std::max(wait, std::chrono::seconds(1))});
}

std::optional<tracing::SpanContext> Gate::parent_of(const tunnel::RequestHead& head) {
  // Several are none (W3C Trace Context 3.2.1).
  std::optional<tracing::SpanContext> parent;
  unsigned given = 0;
  for (const auto& field : head.fields)
    if (tunnel::same_name(field.name, "traceparent") && given++ == 0)
      parent = tracing::parse_traceparent(field.value);
  if (given > 1) parent.reset();
  return parent;
}

void Gate::begin_trace(const std::optional<tracing::SpanContext>& parent, Visit& visit) const {
  if (common_.tracer == nullptr) return;
  const auto server = common_.tracer->begin(parent);
  if (!server.sampled) return;
  visit.trace = Visit::Trace{server,
                             tracing::Tracer::child_of(server),
                             {},
                             false,
                             std::chrono::system_clock::now() - (Clock::now() - visit.began),
                             server.trace_id_text()};
  if (parent) {
    visit.trace->parent = parent->span_id;
    visit.trace->continues = true;
  }
}

void Gate::end_trace(Visit& visit, const tunnel::ForwardTimes& times) const {
  if (!visit.trace) return;
  const auto& trace = *visit.trace;
  const auto& record = visit.record;
  const auto took = Clock::now() - visit.began;
  const auto got = times.got_channel_after.value_or(took);
  const bool stream = visit.is_stream();
  tracing::Span waiting{.name = "tunnel.get_connection",
                        .context = tracing::Tracer::child_of(trace.server),
                        .parent = trace.server.span_id,
                        .start = trace.began,
                        .took = got};
  waiting.numbers.emplace_back("tunnel.queued_us",
                               std::chrono::duration_cast<std::chrono::microseconds>(times.queued).count());
  waiting.error = !times.got_channel_after;
  common_.record_span(std::move(waiting));
  if (times.got_channel_after) {
    tracing::Span forward{.name = "tunnel.ssh_forward",
                          .context = trace.forward,
                          .parent = trace.server.span_id,
                          .kind = tracing::SpanKind::client,
                          .start = trace.began + got,
                          .took = took - got};
    common_.record_span(std::move(forward));
  }
  tracing::Span server{.name = stream ? "tunnel.stream" : "tunnel.forward_request",
                       .context = trace.server,
                       .parent = trace.parent,
                       .kind = tracing::SpanKind::server,
                       .start = trace.began,
                       .took = took};
  server.error = record.status >= 500 || !record.code.empty();
  if (!record.code.empty()) server.texts.emplace_back("error.type", std::string(record.code));
  server.texts.emplace_back("http.request.method", std::string(record.method));
  server.texts.emplace_back("tunnel.service", visit.service);
  server.texts.emplace_back("tunnel.door", std::string(record.door));
  server.texts.emplace_back("tunnel.tier", to_string(visit.principal().tier));
  server.texts.emplace_back("tunnel.correlation_id", std::string(record.correlation_id));
  server.numbers.emplace_back("http.response.status_code", record.status);
  common_.record_span(std::move(server));
}

tunnel::asio::awaitable<void> Gate::serve_http(HttpExchange& exchange, Visit& visit) {
  const auto& head = exchange.request();
  visit.record.door = "http";
  if (auto denied = admit(exchange, visit)) {
    co_await refuse(exchange, visit, std::move(*denied));
    co_return;
  }
  const auto& principal = visit.principal();
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
  if (auto denied = find_service(visit, std::string(found->service))) {
    co_await refuse(exchange, visit, std::move(*denied));
    co_return;
  }
  exchange.serving(visit.service);
  const auto priority = tunnel::priority_of(head);
  if (!priority) {
    co_await refuse(exchange, visit, priority.error());
    co_return;
  }
  visit.record.priority = *priority;
  // An upgraded connection is one like a WebSocket; its place is taken before the service can say 101.
  access::ConnectionQuotas::Place place;
  std::optional<LiveStreams::Stream> live;
  if (head.wants_upgrade) {
    auto reserved = reserve_connection(visit);
    if (!reserved) {
      co_await refuse(exchange, visit, std::move(reserved.error()));
      co_return;
    }
    place = std::move(*reserved);
    live.emplace(streams_, watch_, visit.caller.token, nullptr);
  }
  auto permit = ask_breaker(visit);
  if (!permit) {
    co_await refuse(exchange, visit, std::move(permit.error()));
    co_return;
  }
  begin_trace(parent_of(head), visit);

  const ActiveUsers::Stay stay(users_, visit.key());
  common_.observer.request_started(principal.tier);
  visit.finished.emplace();
  tunnel::ForwardTimes times;
  tunnel::ForwardTarget to{.principal = &principal,
                           .service = visit.wanted.get(),
                           .target = std::move(found->target),
                           .credential = visit.caller.credential,
                           .priority = *priority,
                           .queue_capacity = tier_of(principal).queue,
                           .relay_control = live ? &live->control : nullptr,
                           .times = &times};
  if (visit.trace) {
    to.traceparent = visit.trace->forward.traceparent();
    // The caller's tracestate belongs to the caller's trace, and this is none of it.
    if (!visit.trace->continues) to.tracestate = tunnel::Tracestate::drop;
  }
  to.answer_fields = rate_fields(*visit.rate, std::chrono::system_clock::now());
  tunnel::Served<tunnel::Forwarded> done;
  try {
    done = co_await forward_.forward(exchange, to);
  } catch (...) {
    if (!visit.abandoned()) throw;
    done = tl::unexpected(Refusal{});
  }
  if (visit.abandoned()) count_as_left(done);
  visit.record.queued = times.queued;
  const auto took = Clock::now() - visit.began;
  if (!done) {
    settle(*permit, done.error(), times.got_channel_after.has_value());
    visit.finished->outcome = tunnel::Outcome::error;
    visit.finished->overhead = took;
    co_await refuse(exchange, visit, std::move(done.error()));
    end_trace(visit, times);
    co_return;
  }
  settle(*permit, *done);
  using Ending = tunnel::Forwarded::Ending;
  // A caller that leaves is no failure of the tunnel, nor is an error that the service itself answers.
  const bool good = done->ending == Ending::complete || done->ending == Ending::upgraded ||
                    done->ending == Ending::caller_gone;
  visit.finished->outcome = good ? tunnel::Outcome::success : tunnel::Outcome::error;
  visit.finished->overhead = took - std::min(took, done->waited_for_service);
  // Nobody can tell how long the service would have taken.
  if (done->status == kCallerGone) visit.finished->overhead = times.got_channel_after.value_or(took);
  visit.record.status = done->status;
  visit.record.from_caller_bytes = done->from_caller_bytes;
  visit.record.from_service_bytes = done->from_service_bytes;
  visit.record.why = visit.why = std::move(done->why);
  if (done->ending == Ending::upgraded) visit.record.door = "upgrade";
  end_trace(visit, times);
}

tunnel::asio::awaitable<void> Gate::turn_away(HttpExchange& exchange, Visit& visit, Refusal why) {
  // Who is refused before it could show a token is a stranger like others.
  if (!visit.judged)
    if (auto denied = common_.admission.admit_stranger(visit.address)) why = std::move(denied->refusal);
  common_.observer.websocket_refused(visit.role, why.code);
  co_await refuse(exchange, visit, std::move(why));
}

std::optional<Refusal> Gate::check_draining() const {
  // What has no natural end to wait for is better sent to another instance before it begins.
  if (!common_.draining.load(std::memory_order_relaxed)) return std::nullopt;
  return Refusal{Code::unavailable, "draining", std::chrono::seconds(1)};
}

tunnel::asio::awaitable<bool> Gate::let_in(HttpExchange& exchange, Visit& visit) {
  const auto& head = exchange.request();
  if (head.method != "GET" || !asks_for_websocket(head)) {
    const bool get = head.method == "GET";
    visit.record.code = tunnel::facts(Code::bad_request).name;
    auto answer = admin::answer_refusing(
        exchange, {Code::bad_request, "this page speaks WebSocket only", std::nullopt, get ? 426 : 405});
    if (get)
      answer.fields.push_back({"Upgrade", "websocket"});
    else
      answer.fields.push_back({"Allow", "GET"});
    common_.observer.websocket_refused(visit.role, Code::bad_request);
    common_.observer.error_answered(Code::bad_request);
    co_await serve_page(exchange, visit, std::move(answer));
    co_return false;
  }
  auto denied = policy_->check_origin(head);
  if (!denied) {
    visit.judged = true;
    denied = admit(exchange, visit);
  }
  if (!denied) co_return true;
  co_await turn_away(exchange, visit, std::move(*denied));
  co_return false;
}

tunnel::WebSocketAccept Gate::acceptance(const HttpExchange& exchange, const Visit& visit,
                                         std::string subprotocol) {
  tunnel::WebSocketAccept accept;
  accept.subprotocol = std::move(subprotocol);
  accept.role = visit.role;
  if (visit.rate) accept.fields = rate_fields(*visit.rate, std::chrono::system_clock::now());
  accept.fields.push_back({"X-Correlation-ID", exchange.correlation_id()});
  return accept;
}

tunnel::asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> Gate::open_channel(
    Visit& visit, std::optional<tracing::SpanContext> parent, tunnel::ForwardTimes& times) {
  auto permit = ask_breaker(visit);
  if (!permit) co_return tl::unexpected(std::move(permit.error()));
  begin_trace(parent, visit);
  tunnel::OpenReport report;
  const tunnel::OpenRequest wanted{.principal = visit.principal(),
                                   .service = *visit.wanted,
                                   .deadline = Clock::now() + options_.open_timeout,
                                   .priority = visit.record.priority,
                                   .queue_capacity = tier_of(visit.principal()).queue,
                                   .report = &report};
  tunnel::Served<std::unique_ptr<tunnel::ByteStream>> channel;
  try {
    channel = co_await dialer_.open(wanted);
  } catch (...) {
    if (!visit.abandoned()) throw;
  }
  visit.record.queued = times.queued = report.queued;
  if (visit.abandoned()) co_return tunnel::refuse(Code::unavailable, kCallerLeft);
  if (!channel) {
    settle(*permit, channel.error(), report.queued == Clock::duration::zero());
    co_return channel;
  }
  permit->succeeded(Clock::now());
  times.got_channel_after = Clock::now() - visit.began;
  co_return channel;
}

void Gate::note_opened(const Visit& visit) const {
  if (common_.audit == nullptr || !options_.audit_requests) return;
  common_.audit->write("stream.opened", {{"principal", visit.hash()},
                                         {"service", visit.service},
                                         {"peer", visit.address},
                                         {"correlation_id", visit.record.correlation_id}});
}

void Gate::note_end(Visit& visit, const RelayEnd& end) const {
  visit.record.from_caller_bytes = end.from_caller_bytes;
  visit.record.from_service_bytes = end.from_service_bytes;
  visit.record.why = visit.why = end.why;
  if (end.how == RelayEnd::How::expired) common_.observer.error_answered(Code::token_expired);
  if (end.how == RelayEnd::How::revoked) common_.observer.error_answered(Code::token_invalid);
  if (end.how == RelayEnd::How::service_failed) common_.observer.error_answered(Code::ssh_error);
}

tunnel::asio::awaitable<void> Gate::serve_websocket(HttpExchange& exchange, Visit& visit) {
  const auto& head = exchange.request();
  visit.record.door = "websocket";
  if (auto draining = check_draining()) {
    co_await turn_away(exchange, visit, std::move(*draining));
    co_return;
  }
  auto route = tunnel::route_websocket(head.target);
  if (!route) {
    co_await turn_away(exchange, visit, std::move(route.error()));
    co_return;
  }
  const auto* found = std::get_if<tunnel::ServiceTarget>(&*route);
  if (found == nullptr) {
    co_await refuse(exchange, visit, not_found());
    co_return;
  }
  const bool admitted = co_await let_in(exchange, visit);
  if (!admitted) co_return;
  const auto& principal = visit.principal();
  auto subprotocol = choose_subprotocol(head);
  if (!subprotocol) {
    co_await turn_away(exchange, visit, std::move(subprotocol.error()));
    co_return;
  }
  const auto priority = tunnel::priority_of(head);
  if (!priority) {
    co_await turn_away(exchange, visit, priority.error());
    co_return;
  }
  visit.record.priority = *priority;
  if (auto denied = find_service(visit, std::string(found->service))) {
    co_await turn_away(exchange, visit, std::move(*denied));
    co_return;
  }
  exchange.serving(visit.service);
  const auto place = reserve_connection(visit);
  if (!place) {
    co_await turn_away(exchange, visit, place.error());
    co_return;
  }
  const ActiveUsers::Stay stay(users_, visit.key());
  tunnel::ForwardTimes times;
  auto channel = co_await open_channel(visit, parent_of(head), times);
  if (visit.abandoned()) {
    note_leaving(visit);
    end_trace(visit, times);
    co_return;
  }
  if (!channel) {
    co_await turn_away(exchange, visit, std::move(channel.error()));
    end_trace(visit, times);
    co_return;
  }
  const bool half_close = *subprotocol == "tunnel.raw.v1";
  auto accept = acceptance(exchange, visit, std::move(*subprotocol));
  accept.empty_message_ends = accept.control_messages = half_close;
  auto websocket = co_await exchange.accept_websocket(accept);
  if (!websocket) {  // answered there
    visit.record.status = 400;
    visit.record.why = visit.why = websocket.error().message;
    end_trace(visit, times);
    co_return;
  }
  visit.record.status = 101;
  common_.users.connection_opened(visit.key(), principal.tier, std::chrono::system_clock::now());
  note_opened(visit);
  const auto end = co_await relay_stream(**websocket, **channel, visit, accept.control_messages);
  common_.users.connection_closed(visit.key(), end.from_caller_bytes, end.from_service_bytes,
                                  std::chrono::system_clock::now());
  note_end(visit, end);
  if (end.how != RelayEnd::How::caller_failed) {
    const auto farewell = farewell_after(end);
    co_await (*websocket)->close_with(farewell.code, farewell.reason);
  }
  visit.record.close_code = (*websocket)->ending().code;
  end_trace(visit, times);
}

tunnel::asio::awaitable<RelayEnd> Gate::relay_stream(tunnel::WebSocketStream& caller,
                                                     tunnel::ByteStream& service, Visit& visit,
                                                     bool control_messages) {
  WebSocketSink sink(caller);
  LiveStreams::Stream live(streams_, watch_, visit.caller.token, control_messages ? &sink : nullptr);
  if (control_messages) {
    caller.on_control([this, &live, &caller, &visit](const std::string& text) {
      answer_control_message(text, live, caller, visit);
    });
  }
  tunnel::RelayOptions options;
  options.idle_limit = options_.idle_limit;
  options.until = expiry_of(visit.principal());
  options.control = &live.control;
  auto end = co_await tunnel::relay(caller, service, watch_, common_.observer, options);
  caller.on_control({});
  co_return end;
}

void Gate::answer_control_message(const std::string& text, LiveStreams::Stream& live,
                                  tunnel::WebSocketStream& caller, const Visit& visit) const {
  const auto refuse_it = [&](const Refusal& why) {
    common_.observer.error_answered(why.code);
    caller.post_control(tunnel::error_message(why.code, why.message));
  };
  const auto message = tunnel::parse_control_message(text);
  if (!message) return refuse_it(message.error());
  auto token = common_.admission.renew(live.token()->principal, message->token, visit.address);
  if (!token) return refuse_it(token.error());
  live.refresh(std::move(*token));
  caller.post_control(tunnel::auth_ok_message(live.token()->principal.expires_at));
}

tunnel::asio::awaitable<void> Gate::serve_me(HttpExchange& exchange, Visit& visit) {
  if (auto denied = admit(exchange, visit)) {
    co_await refuse(exchange, visit, std::move(*denied));
    co_return;
  }
  const auto& tier = tier_of(visit.principal());
  std::vector<admin::MeAgent> agents;
  if (common_.agents != nullptr)
    for (auto& agent : common_.agents->agents(visit.key()))
      agents.push_back({std::move(agent.agent_id), std::move(agent.services), std::move(agent.peer),
                        agent.since, agent.connections});
  const admin::MeLimits limits{.requests_per_minute = visit.rate->limit,
                               .requests_remaining = visit.rate->remaining,
                               .connections = tier.connections,
                               .connections_open = common_.connections.held(visit.key()),
                               .queue = tier.queue,
                               .queue_waiting = common_.queue.waiting(visit.key()),
                               .flow = tunnel::to_string(common_.queue.level(visit.key()))};
  admin::Answer answer{
      .body = admin::me_body(visit.principal(), common_.users.find(visit.key()), limits, agents).dump()};
  co_await serve_page(exchange, visit, std::move(answer));
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
  if (visit.rate)
    for (auto& field : rate_fields(*visit.rate, std::chrono::system_clock::now()))
      answer.fields.push_back(std::move(field));
  co_await admin::send(exchange, std::move(answer));
}

tunnel::asio::awaitable<void> Gate::refuse(HttpExchange& exchange, Visit& visit, Refusal why) {
  visit.record.code = tunnel::facts(why.code).name;
  visit.record.why = visit.why = why.message;
  common_.observer.error_answered(why.code);
  co_await serve_page(exchange, visit, admin::answer_refusing(exchange, why));
}

}  // namespace tunneld
