// The doors of links and agents.
#include <exception>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include "common/log.h"
#include "tunnel/relay.h"
#include "tunnel/wakeup.h"
#include "tunneld/admin/health.h"
#include "tunneld/agent_door.h"
#include "tunneld/gate.h"
#include "tunneld/gate_visit.h"
#include "tunneld/tunnel_session.h"

namespace tunneld {

namespace asio = tunnel::asio;
using namespace std::chrono_literals;
using admin::Metrics;
using tunnel::Code;
using tunnel::HttpExchange;
using tunnel::Refusal;
using Clock = std::chrono::steady_clock;

/// A session among those of its gate, whatever way it ends.
class Gate::Listed {
 public:
  Listed(Gate& gate, TunnelSession& session) : gate_(gate), session_(session) {
    gate_.sessions_.insert(&session_);
    gate_.links_.insert(&session_.link());
  }
  ~Listed() {
    gate_.sessions_.erase(&session_);
    gate_.links_.erase(&session_.link());
  }
  Listed(const Listed&) = delete;
  Listed& operator=(const Listed&) = delete;

 private:
  Gate& gate_;
  TunnelSession& session_;
};

namespace {

constexpr const char* kCallerProtocol = "tunnel.v1";
constexpr const char* kAgentProtocol = "tunnel-agent.v1";
constexpr std::string_view kSessionPath = "/agent/session/";
constexpr std::string_view kOwnAgentsPath = "/api/tunnel/agents/";
/// A caller that was refused reads why.
constexpr auto kReadOut = 5s;
/// An agent answers what it is asked: one message for each session that cannot be had, and a crowd of
/// requests may ask for many at once.
constexpr unsigned kAgentMessagesPerSecond = 200;

/// One answer for a session that is over, one that never was and somebody else's.
Refusal no_session() {
  return {Code::bad_request, "no such session", std::nullopt, 404};
}

Farewell not_resumed() {
  return {1008, close_reason(Code::bad_request)};
}

void end_story(const std::exception_ptr& failure) {
  if (!failure) return;
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    logging::error("link", "a link failed", {{"why", error.what()}});
  }
}

links::LinkOptions link_options(const Config::Link& config) {
  links::LinkOptions options;
  options.window = config.resume_window;
  options.max_unacknowledged = config.max_buffer;
  return options;
}

/// When the last one lets go of a WebSocket that others hold than the handler it came by.
struct Gone {
  bool gone = false;
  std::uint16_t close_code = 1006;
  tunnel::Wakeup changed;
};

std::shared_ptr<tunnel::WebSocketStream> shared_until_gone(std::unique_ptr<tunnel::WebSocketStream> socket,
                                                           const std::shared_ptr<Gone>& gone) {
  return {socket.release(), [gone](tunnel::WebSocketStream* last) {
            gone->close_code = last->ending().code;
            delete last;
            gone->gone = true;
            gone->changed.notify();
          }};
}

/// An agent's link as the byte stream that an SSH session travels over. A drain ends it when it pauses.
class AgentTransport final : public tunnel::ByteStream, LiveStreams::Life {
 public:
  AgentTransport(std::shared_ptr<links::Link> link, const std::shared_ptr<Farewell>& farewell,
                 links::LinkTable::Place place, Gate& gate, asio::io_context& home, LiveStreams::Token token,
                 std::chrono::milliseconds dead_after)
      : LiveStreams::Life(gate.streams(), gate.watch(), std::move(token), nullptr),
        link_(std::move(link)),
        place_(std::move(place)),
        links_(gate.links()),
        dead_after_(dead_after),
        quiet_timer_(home),
        window_timer_(home) {
    // It ends when the SSH session does, which is no fault.
    *farewell = {};
    links_.insert(link_.get());
    link_->on_attached([this](bool attached, std::string_view) { on_carrier(attached); });
    on_carrier(true);
    begin();
  }
  ~AgentTransport() override {
    link_->on_attached(nullptr);
    links_.erase(link_.get());
    link_->close();
  }
  AgentTransport(const AgentTransport&) = delete;
  AgentTransport& operator=(const AgentTransport&) = delete;

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    const auto got = co_await link_->read(into);
    moved_ = Clock::now();
    co_return got;
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    moved_ = Clock::now();
    co_return co_await link_->write(bytes);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return link_->shutdown_write(); }
  void close() noexcept override { link_->close(); }

 private:
  void stop(How, std::string) override { link_->close(); }
  void stop_when_quiet(std::chrono::milliseconds quiet, How, std::string) override {
    quiet_timer_.expires_at(moved_ + quiet);
    quiet_timer_.async_wait([this, quiet, alive = std::weak_ptr(alive_)](boost::system::error_code error) {
      if (error || alive.expired()) return;
      if (Clock::now() < moved_ + quiet) return stop_when_quiet(quiet, How::draining, {});
      link_->close();
    });
  }
  /// Its agent shows its newer tokens on its control connection.
  void set_until(Clock::time_point) override {}

  void on_carrier(bool attached) {
    window_timer_.cancel();
    const auto lost = std::exchange(socket_, nullptr);
    if (attached) {
      if (const auto* carrier = dynamic_cast<Carrier*>(link_->carrier())) socket_ = carrier->socket();
      return;
    }
    if (!lost) return;
    const auto left = window_left(lost->ending(), link_->window(), dead_after_);
    if (left == link_->window()) return;
    window_timer_.expires_after(left);
    window_timer_.async_wait([this, alive = std::weak_ptr(alive_)](boost::system::error_code error) {
      if (error || alive.expired() || link_->state() != links::Link::State::detached) return;
      link_->close();
    });
  }

  std::shared_ptr<links::Link> link_;
  links::LinkTable::Place place_;
  std::unordered_set<links::Link*>& links_;
  std::shared_ptr<tunnel::WebSocketStream> socket_;  // that carries it now
  const std::chrono::milliseconds dead_after_;
  asio::steady_timer quiet_timer_;
  asio::steady_timer window_timer_;
  Clock::time_point moved_ = Clock::now();
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

/// Who comes back to a link, for the log.
struct Returning {
  std::string session_id, principal_hash, peer, correlation_id;
};

/// On the link's own thread.
asio::awaitable<void> take_up(std::weak_ptr<links::Link> known,
                              std::shared_ptr<tunnel::WebSocketStream> socket, LiveStreams::Token token,
                              std::function<void(Metrics::Resumed)> count, Returning who) {
  const auto link = known.lock();
  if (!link) {
    count(Metrics::Resumed::expired);
    const auto farewell = not_resumed();
    co_await socket->close_with(farewell.code, farewell.reason);
    co_return;
  }
  auto carrier = std::make_unique<Carrier>(socket, std::move(token), not_resumed());
  const auto done = co_await link->accept_again(std::move(carrier));
  if (done)
    count(Metrics::Resumed::ok);
  else if (done.error().kind == Error::Kind::denied)
    count(Metrics::Resumed::refused);
  else if (done.error().kind == Error::Kind::not_found)
    count(Metrics::Resumed::expired);
  const std::string why = done ? std::string() : done.error().message;
  logging::log(done ? logging::Level::info : logging::Level::warn, "link",
               done ? "link resumed" : "link not resumed",
               {{"session_id", who.session_id},
                {"principal", who.principal_hash},
                {"peer", who.peer},
                {"correlation_id", who.correlation_id},
                {"why", why}});
}

/// That agent of the principal as it is connected now.
links::LinkTable::Agent connected_agent(const upstream::AgentRegistry& agents, std::string_view principal_key,
                                        const std::string& agent_id) {
  for (const auto& info : agents.agents(principal_key))
    if (info.agent_id == agent_id) return {info.agent_id, info.boot_id};
  return {agent_id, {}};
}

/// What an agent's SSH transport is made with.
struct AgentTerms {
  links::LinkOptions link;
  links::LinkTable::Agent agent;
  std::chrono::milliseconds dead_after;
};

/// On the thread that wants the agent's SSH transport.
asio::awaitable<void> hand_over(asio::io_context& home, Gate& gate,
                                std::shared_ptr<tunnel::WebSocketStream> socket, LiveStreams::Token token,
                                AgentTerms terms, links::LinkTable& table,
                                std::function<void(std::unique_ptr<tunnel::ByteStream>)> deliver) {
  auto carrier =
      std::make_unique<Carrier>(std::move(socket), token, Farewell{1002, close_reason(Code::bad_request)});
  const auto farewell = carrier->farewell();
  const auto link = co_await links::Link::accept(home.get_executor(), std::move(carrier), terms.link);
  if (!link) {
    logging::warn("link", "an agent's session did not begin", {{"why", link.error().message}});
    co_return;
  }
  auto place = table.enter(*link, home, token->principal_key, std::move(terms.agent));
  deliver(std::make_unique<AgentTransport>(*link, farewell, std::move(place), gate, home, token,
                                           terms.dead_after));
}

}  // namespace

// Links ---------------------------------------------------------------------------------------------

asio::awaitable<bool> Gate::let_in_for(HttpExchange& exchange, Visit& visit, const char* subprotocol) {
  const bool admitted = co_await let_in(exchange, visit);
  if (!admitted) co_return false;
  auto unknown = check_subprotocol(exchange.request(), subprotocol);
  if (!unknown) co_return true;
  co_await turn_away(exchange, visit, std::move(*unknown));
  co_return false;
}

bool Gate::note_upgrade(Visit& visit, const Error* failure) {
  visit.record.status = failure == nullptr ? 101 : 400;
  if (failure != nullptr) visit.record.why = visit.why = failure->message;
  return failure == nullptr;
}

asio::awaitable<void> Gate::carry_on(asio::io_context& home, HttpExchange& exchange, Visit& visit,
                                     const char* subprotocol, Take take) {
  const auto accept = acceptance(exchange, visit, subprotocol);
  note_upgrade(visit, nullptr);
  const auto carried = co_await exchange.accept_websocket_on(home, accept, std::move(take));
  if (!carried) note_upgrade(visit, &carried.error());
}

asio::awaitable<void> Gate::serve_link(HttpExchange& exchange, Visit& visit) {
  const auto& head = exchange.request();
  visit.record.door = "links";
  if (auto draining = check_draining()) {
    co_await turn_away(exchange, visit, std::move(*draining));
    co_return;
  }
  const bool admitted = co_await let_in_for(exchange, visit, kCallerProtocol);
  if (!admitted) co_return;
  if (head.find("Tunnel-Session") != nullptr)
    co_await resume_link(exchange, visit, kCallerProtocol);
  else
    co_await begin_link(exchange, visit);
}

asio::awaitable<void> Gate::begin_link(HttpExchange& exchange, Visit& visit) {
  auto place = reserve_connection(visit);
  if (!place) {
    co_await turn_away(exchange, visit, std::move(place.error()));
    co_return;
  }
  const auto accept = acceptance(exchange, visit, kCallerProtocol);
  auto websocket = co_await exchange.accept_websocket(accept);
  if (!note_upgrade(visit, websocket ? nullptr : &websocket.error())) co_return;  // answered there
  const auto gone = std::make_shared<Gone>();
  std::weak_ptr<tunnel::WebSocketStream> held;
  {
    auto socket = shared_until_gone(std::move(*websocket), gone);
    held = socket;
    auto carrier = std::make_unique<Carrier>(std::move(socket), visit.caller.token,
                                             Farewell{1002, close_reason(Code::bad_request)});
    auto link =
        co_await links::Link::accept(io_.get_executor(), std::move(carrier), link_options(options_.link));
    if (link) {
      auto session = std::make_shared<TunnelSession>(
          TunnelSession::Parts{io_, streams_, watch_, common_.admission, common_.observer},
          TunnelSession::Caller{visit.caller, visit.address, std::string(visit.record.correlation_id)},
          std::move(*link),
          TunnelSession::Options{options_.link.max_streams, options_.heartbeat, 10s, common_.instance_id,
                                 options_.dead_after},
          [this](TunnelSession& of, tunnel::ByteStream& stream, tunnel::Served<StreamOpening> opening) {
            return serve_stream(of, stream, std::move(opening));
          });
      asio::co_spawn(io_, run_link(std::move(session), std::move(*place)), end_story);
    } else {
      visit.record.why = visit.why = link.error().message;
    }
  }
  // The link may live longer than what carries it now, and this connection may not.
  while (!gone->gone) {
    const bool notified = co_await gone->changed.wait();
    if (notified) continue;
    if (const auto socket = held.lock()) socket->close();
    break;
  }
  visit.record.close_code = gone->close_code;
}

asio::awaitable<void> Gate::resume_link(HttpExchange& exchange, Visit& visit, const char* subprotocol) {
  const auto id = links::session_id_from_hex(*exchange.request().find("Tunnel-Session"));
  std::optional<links::LinkTable::Found> found;
  if (id) found = common_.links.find(*id, visit.key());
  if (!found) {
    common_.resumed(Metrics::Resumed::expired);
    co_await turn_away(exchange, visit, no_session());
    co_return;
  }
  Returning who{links::to_hex(*id), visit.hash(), visit.address, std::string(visit.record.correlation_id)};
  Take take = [found = *found, token = visit.caller.token, count = common_.resumed,
               who = std::move(who)](std::unique_ptr<tunnel::WebSocketStream> socket) {
    std::shared_ptr<tunnel::WebSocketStream> shared(std::move(socket));
    asio::co_spawn(*found.home, take_up(found.link, std::move(shared), token, count, who), end_story);
  };
  co_await carry_on(*found->home, exchange, visit, subprotocol, std::move(take));
}

asio::awaitable<void> Gate::run_link(std::shared_ptr<TunnelSession> session,
                                     [[maybe_unused]] access::ConnectionQuotas::Place place) {
  const auto& caller = session->caller();
  const auto& token = *caller.credentials.token;
  const auto id = links::to_hex(session->link().id());
  const auto began = Clock::now();
  session->findable(
      common_.links.enter(session->link().shared_from_this(), io_, std::string(token.principal_key)));
  const ActiveUsers::Stay stay(users_, token.principal_key);
  const Listed listed(*this, *session);
  common_.users.connection_opened(token.principal_key, token.principal.tier,
                                  std::chrono::system_clock::now());
  if (common_.audit != nullptr)
    common_.audit->write("link.opened", {{"principal", token.principal_hash},
                                         {"session_id", id},
                                         {"peer", caller.address},
                                         {"correlation_id", caller.correlation_id}});
  co_await session->run();
  const auto end = session->ending();
  if (end.how == tunnel::RelayEnd::How::expired) common_.observer.error_answered(Code::token_expired);
  if (end.how == tunnel::RelayEnd::How::revoked) common_.observer.error_answered(Code::token_invalid);
  common_.users.connection_closed(token.principal_key, end.from_caller_bytes, end.from_services_bytes,
                                  std::chrono::system_clock::now());
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - began).count();
  logging::info("link", "link ended",
                {{"session_id", id},
                 {"principal", token.principal_hash},
                 {"peer", caller.address},
                 {"close_code", end.close_code},
                 {"resumes", session->link().resumes()},
                 {"streams", end.streams},
                 {"bytes_in", end.from_caller_bytes},
                 {"bytes_out", end.from_services_bytes},
                 {"ms", ms},
                 {"why", end.why}});
  if (common_.audit != nullptr)
    common_.audit->write("link.closed", {{"principal", token.principal_hash},
                                         {"session_id", id},
                                         {"close_code", end.close_code},
                                         {"resumes", session->link().resumes()},
                                         {"streams", end.streams},
                                         {"bytes_in", end.from_caller_bytes},
                                         {"bytes_out", end.from_services_bytes},
                                         {"ms", ms},
                                         {"peer", caller.address},
                                         {"correlation_id", caller.correlation_id}});
}

void Gate::measure_links() {
  std::uint64_t bytes = 0;
  for (auto* link : links_) bytes += link->unacknowledged();
  resume_buffer_bytes_.store(bytes, std::memory_order_relaxed);
}

void Gate::close_links() {
  for (auto* session : sessions_) session->abort();
}

// Their streams -------------------------------------------------------------------------------------

asio::awaitable<void> Gate::serve_stream(TunnelSession& session, tunnel::ByteStream& stream,
                                         tunnel::Served<StreamOpening> opening) {
  auto caller = session.caller().credentials;
  caller.token = session.token();
  auto id =
      opening && !opening->correlation_id.empty() ? opening->correlation_id : session.next_correlation_id();
  Visit visit(std::move(caller), session.caller().address, std::move(id));
  visit.cancellation = co_await asio::this_coro::cancellation_state;
  try {
    co_await carry_stream(session, stream, opening, visit);
  } catch (...) {
    if (!visit.abandoned()) throw;
  }
  if (visit.abandoned()) note_leaving(visit);
  session.add_bytes(visit.record.from_caller_bytes, visit.record.from_service_bytes);
  finish(visit);
}

std::optional<Refusal> Gate::admit_stream(const TunnelSession& session, Visit& visit) const {
  if (auto draining = check_draining()) return draining;
  // The session ends soon, if it does; this stream does not begin.
  const auto& principal = visit.principal();
  if (common_.revocations.revoked(principal)) return Refusal{Code::token_invalid, "the token was revoked"};
  if (principal.expires_at <= std::chrono::system_clock::now())
    return Refusal{Code::token_expired, "the token expired"};
  auto rate = common_.admission.take_rate(*visit.caller.token, session.caller().address);
  if (!rate) return std::move(rate.error().refusal);
  return check_audit();
}

asio::awaitable<void> Gate::carry_stream(TunnelSession& session, tunnel::ByteStream& stream,
                                         const tunnel::Served<StreamOpening>& opening, Visit& visit) {
  auto denied = admit_stream(session, visit);
  if (!denied && !opening) denied = opening.error();
  if (!denied) {
    visit.record.priority = opening->priority;
    denied = find_service(visit, opening->service);
  }
  if (denied) {
    co_await refuse_stream(stream, visit, std::move(*denied));
    co_return;
  }
  const ActiveUsers::Stay stay(users_, visit.key());
  tunnel::ForwardTimes times;
  auto channel = co_await open_channel(visit, std::nullopt, times);
  if (visit.abandoned()) {
    note_leaving(visit);
    end_trace(visit, times);
    co_return;
  }
  if (!channel) {
    co_await refuse_stream(stream, visit, std::move(channel.error()));
    end_trace(visit, times);
    co_return;
  }
  constexpr std::string_view kOk = "{\"ok\":true}\n";
  const auto answered = co_await stream.write(std::as_bytes(std::span(kOk)));
  if (!answered) {
    note_leaving(visit);
    end_trace(visit, times);
    co_return;
  }
  visit.record.status = 101;
  note_opened(visit);
  tunnel::RelayEnd end;
  {
    tunnel::RelayControl control;
    const TunnelSession::Relaying relaying(session, control);
    tunnel::RelayOptions options;
    options.idle_limit = options_.idle_limit;
    options.control = &control;
    end = co_await tunnel::relay(stream, **channel, watch_, common_.observer, options);
  }
  note_end(visit, end);
  // What did not end in good order is reset.
  stream.close();
  end_trace(visit, times);
}

asio::awaitable<void> Gate::refuse_stream(tunnel::ByteStream& stream, Visit& visit, Refusal why) {
  visit.record.code = tunnel::facts(why.code).name;
  visit.record.why = visit.why = why.message;
  visit.record.status = why.http_status.value_or(tunnel::facts(why.code).http_status);
  common_.observer.error_answered(why.code);
  const auto line = tunnel::error_body(why, admin::rfc3339(std::chrono::system_clock::now()),
                                       visit.correlation_id, visit.correlation_id);
  auto sent = co_await stream.write(std::as_bytes(std::span(line)));
  if (sent) sent = co_await stream.shutdown_write();
  if (sent) co_await read_out(stream, watch_, kReadOut);
}

// Agents --------------------------------------------------------------------------------------------

asio::awaitable<void> Gate::serve_agent(HttpExchange& exchange, Visit& visit) {
  visit.record.door = "agent";
  visit.role = "agent";
  auto unserved = check_draining();
  if (!unserved && common_.agents == nullptr)
    unserved = Refusal{Code::unavailable, "this server takes no agents"};
  if (unserved) {
    co_await turn_away(exchange, visit, std::move(*unserved));
    co_return;
  }
  const bool admitted = co_await let_in_for(exchange, visit, kAgentProtocol);
  if (!admitted) co_return;
  // All of an agent's connections take one place; what this one is, it says later.
  auto reserved = common_.connections.reserve(visit.key(), tier_of(visit.principal()).connections);
  if (!reserved && !common_.agents->has_agents(visit.key())) {
    co_await turn_away(exchange, visit, no_connection_left(visit));
    co_return;
  }
  std::shared_ptr<access::ConnectionQuotas::Place> place;
  if (reserved) place = std::make_shared<access::ConnectionQuotas::Place>(std::move(reserved));
  auto accept = acceptance(exchange, visit, kAgentProtocol);
  accept.control_messages = true;
  accept.control_messages_per_second = kAgentMessagesPerSecond;
  auto websocket = co_await exchange.accept_websocket(accept);
  if (!note_upgrade(visit, websocket ? nullptr : &websocket.error())) co_return;  // answered there
  const ActiveUsers::Stay stay(users_, visit.key());
  common_.users.connection_opened(visit.key(), visit.principal().tier, std::chrono::system_clock::now());
  const auto connection = std::make_shared<AgentConnection>(
      AgentConnection::Parts{io_, streams_, watch_, common_.admission, common_.observer, *common_.agents,
                             common_.superseded},
      **websocket, visit.caller.token, visit.address, std::string(visit.record.correlation_id),
      upstream::AgentRegistry::Terms{tier_of(visit.principal()).forwards, std::move(place)});
  const auto end = co_await connection->run();
  common_.users.connection_closed(visit.key(), 0, 0, std::chrono::system_clock::now());
  visit.record.close_code = (*websocket)->ending().code;
  visit.record.why = visit.why = end;
}

asio::awaitable<void> Gate::forget_agent(HttpExchange& exchange, Visit& visit) {
  visit.record.door = "agent";
  if (auto denied = admit(exchange, visit)) {
    co_await refuse(exchange, visit, std::move(*denied));
    co_return;
  }
  const std::string_view target = exchange.request().target;
  const std::string id(target.substr(kOwnAgentsPath.size(), target.find('?') - kOwnAgentsPath.size()));
  tunnel::Served<void> done = tunnel::refuse(Code::unavailable, "this server takes no agents");
  if (common_.agents != nullptr) done = common_.agents->forget(visit.principal(), id, visit.hash());
  if (!done) {
    co_await refuse(exchange, visit, std::move(done.error()));
    co_return;
  }
  admin::Answer answer{.status = 204};
  co_await serve_page(exchange, visit, std::move(answer));
}

asio::awaitable<void> Gate::serve_agent_session(HttpExchange& exchange, Visit& visit) {
  visit.record.door = "agent";
  visit.role = "agent";
  const bool admitted = co_await let_in_for(exchange, visit, kAgentProtocol);
  if (!admitted) co_return;
  const auto& head = exchange.request();
  if (head.find("Tunnel-Session") != nullptr) {
    co_await resume_link(exchange, visit, kAgentProtocol);
    co_return;
  }
  const std::string_view target = head.target;
  const auto path = target.substr(0, target.find('?'));
  std::optional<upstream::AgentRegistry::Claim> claim;
  if (common_.agents != nullptr && path.starts_with(kSessionPath))
    claim = common_.agents->redeem(visit.key(), path.substr(kSessionPath.size()));
  if (!claim) {
    co_await turn_away(exchange, visit, no_session());
    co_return;
  }
  co_await begin_agent_session(exchange, visit, std::move(*claim));
}

asio::awaitable<void> Gate::begin_agent_session(HttpExchange& exchange, Visit& visit,
                                                upstream::AgentRegistry::Claim claim) {
  auto& home = *claim.home;
  auto* gate = common_.gate_on ? common_.gate_on(home) : this;
  AgentTerms terms{link_options(options_.link), connected_agent(*common_.agents, visit.key(), claim.agent_id),
                   options_.dead_after};
  Take take = [&home, gate, deliver = std::move(claim.deliver), token = visit.caller.token,
               terms = std::move(terms),
               &table = common_.links](std::unique_ptr<tunnel::WebSocketStream> socket) {
    std::shared_ptr<tunnel::WebSocketStream> shared(std::move(socket));
    asio::co_spawn(home, hand_over(home, *gate, std::move(shared), token, terms, table, deliver), end_story);
  };
  co_await carry_on(home, exchange, visit, kAgentProtocol, std::move(take));
}

}  // namespace tunneld
