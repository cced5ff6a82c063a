#include "tunnelctl/client/agent.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <exception>
#include <utility>

#include <openssl/rand.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "common/http_access.h"
#include "common/strict_json.h"
#include "tunnelctl/client/agent_state.h"
#include "tunnelctl/client/carrier.h"

namespace tunnelctl::client {
namespace {

using namespace asio::experimental::awaitable_operators;
using logging::Level;
using nlohmann::json;

constexpr const char* kSubprotocol = "tunnel-agent.v1";
constexpr std::size_t kMostServices = 100;
constexpr std::size_t kLargestMessage = 16 * 1024;
constexpr std::size_t kBridge = 64 * 1024;

std::string new_boot_id() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1)
    throw std::runtime_error("no randomness");
  std::string text;
  for (const unsigned char byte : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool is_service_name(std::string_view text) {
  return !text.empty() && text.size() <= 63 && is_lower_or_digit(text.front()) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_lower_or_digit(c) || c == '-'; });
}

/// Host names, IPv4, or IPv6 in brackets; nothing that sshd would take for a pattern.
bool is_host(std::string_view text) {
  const bool v6 = text.size() > 2 && text.front() == '[' && text.back() == ']';
  const auto name = v6 ? text.substr(1, text.size() - 2) : text;
  return !name.empty() && name.size() <= 253 && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), [v6](char c) {
           const bool hex = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || (c >= '0' && c <= '9');
           if (v6) return hex || c == ':' || c == '.';
           return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
         });
}

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535 &&
         text.front() != '0';
}

bool is_ticket(std::string_view text) {
  return links::session_id_from_hex(text).has_value();  // the same 32 digits
}

/// A text member, or empty.
std::string text_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string harmless(const std::string& text) {
  return http::one_line(text, 300);
}

AgentOutcome refused(Error error) {
  return {AgentOutcome::End::refused, std::move(error)};
}

}  // namespace

Result<AgentService> parse_agent_service(std::string_view text) {
  const auto wrong = [&](const char* why) {
    return fail(Error::Kind::bad_input, "--service \"" + http::one_line(text, 100) + "\": " + why +
                                            "; it is written name=host:port, as in ollama=127.0.0.1:11434");
  };
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return wrong("there is no =");
  const auto name = text.substr(0, equals);
  const auto target = text.substr(equals + 1);
  if (!is_service_name(name))
    return wrong("a name has 1 to 63 small letters, digits and hyphens, and begins with no hyphen");
  const auto colon = target.rfind(':');
  if (colon == std::string_view::npos) return wrong("the target has no port");
  const auto host = target.substr(0, colon);
  if (host.find(':') != std::string_view::npos && !host.starts_with('['))
    return wrong("an IPv6 address stands in brackets");
  if (!is_host(host)) return wrong("the host is no name and no address");
  if (colon + 1 == target.size() || !is_port(target.substr(colon + 1))) return wrong("a port is 1 to 65535");
  return AgentService{std::string(name), std::string(target)};
}

Result<std::vector<AgentService>> parse_agent_services(const std::vector<std::string>& texts) {
  if (texts.empty())
    return fail(Error::Kind::bad_input, "no service is named: say --service name=host:port at least once");
  if (texts.size() > kMostServices)
    return fail(Error::Kind::bad_input, "an agent announces a hundred services at most");
  std::vector<AgentService> services;
  for (const auto& text : texts) {
    auto service = parse_agent_service(text);
    if (!service) return tl::unexpected(service.error());
    for (const auto& other : services)
      if (other.name == service->name)
        return fail(Error::Kind::bad_input, "--service: the name \"" + service->name + "\" is given twice");
    services.push_back(std::move(*service));
  }
  return services;
}

struct Agent::Session {
  explicit Session(std::string ticket_in) : ticket(std::move(ticket_in)) {}
  const std::string ticket;
  asio::cancellation_signal cancel;
  Clock::time_point opened = Clock::now();
  Clock::time_point last_byte = opened;
  std::uint64_t bytes_in = 0, bytes_out = 0;
  /// Of the WebSocket it has now.
  std::shared_ptr<CarrierEnd> carrier_end;
};

Agent::Agent(asio::io_context& io, AgentSettings settings, AgentWorld world)
    : io_(io),
      settings_(std::move(settings)),
      world_(std::move(world)),
      boot_id_(new_boot_id()),
      pace_(io, settings_.backoff, settings_.first),
      announce_timer_(io),
      token_timer_(io) {}

Agent::~Agent() = default;

asio::awaitable<AgentOutcome> Agent::run() {
  AgentOutcome outcome;
  Verdict last;
  std::string cause = "first";
  while (!stopping_) {
    const auto turn = co_await pace_.turn(last.advice);
    if (stopping_) break;
    if (!turn) {
      outcome = {AgentOutcome::End::gave_up, last.error};
      break;
    }
    if (turn->network_changed) cause = "network_changed";
    last = co_await asio::co_spawn(io_, attempt(*turn, cause),
                                   asio::bind_cancellation_slot(cancel_attempt_.slot(), asio::use_awaitable));
    if (stopping_) break;
    if (auto final = judge(last)) {
      outcome = std::move(*final);
      break;
    }
    cause = last.reason;
  }
  stopping_ = true;  // whatever the reason: no new session from here on
  co_await farewell();
  co_return outcome;
}

void Agent::stop() {
  if (std::exchange(stopping_, true)) return;
  pace_.cancel();
  if (!control_) {
    cancel_attempt_.emit(asio::cancellation_type::terminal);
    return;
  }
  struct Goodbye {
    asio::awaitable<void> operator()(std::shared_ptr<WebSocket> control) const {
      co_await control->close_with(1000, "");
    }
  };
  asio::co_spawn(io_, Goodbye{}(control_), [](const std::exception_ptr&) {});
}

std::optional<AgentOutcome> Agent::judge(const Verdict& verdict) {
  if (verdict.reason == "superseded")
    return AgentOutcome{
        AgentOutcome::End::superseded,
        {Error::Kind::denied, "another agent with the id " + settings_.id +
                                  " runs and took this one's place; let one of them run, or give one "
                                  "another --id"}};
  if (verdict.then == Then::stop) return refused(verdict.error);
  if (verdict.then == Then::refresh_once) {
    if (std::exchange(refreshed_, true)) return refused(verdict.error);
    return std::nullopt;
  }
  const bool person_waits = !ever_announced_ && !settings_.unattended;
  if (verdict.stops_first && person_waits) return refused(verdict.error);
  return std::nullopt;
}

// ---- the control connection
// -----------------------------------------------------------------------------------

asio::awaitable<Verdict> Agent::attempt(Pace::Turn turn, std::string cause) {
  ++counts_.attempts;
  Attempt told{.at = std::chrono::system_clock::now(),
               .number = turn.attempt,
               .delay = turn.waited,
               .endpoint = world_.shown("/agent"),
               .cause = std::move(cause)};
  auto trusted = co_await world_.trust();
  if (stopping_) co_return Verdict();
  if (!trusted) {
    tell_attempt(told, trusted.error().reason);
    co_return std::move(trusted.error());
  }
  auto token = world_.token();
  if (!token) {
    tell_attempt(told, "no_token");
    co_return Verdict{.stops_first = true, .reason = "no_token", .error = std::move(token.error())};
  }
  token_ = std::move(*token);
  auto with = request(token_);
  auto control = co_await world_.connect("/agent", std::move(with));
  if (stopping_) co_return Verdict();
  if (!control) {
    auto verdict = after_failure(control.error());
    tell_attempt(told, verdict.reason);
    co_return verdict;
  }
  co_return co_await serve(std::move(*control), std::move(told));
}

void Agent::tell_attempt(Attempt& attempt, std::string_view outcome) {
  attempt.outcome = outcome;
  world_.tell(outcome == "connected" ? Level::info : Level::warn, "attempt",
              {{"n", attempt.number},
               {"delay_ms", attempt.delay.count()},
               {"endpoint", attempt.endpoint},
               {"cause", attempt.cause},
               {"outcome", attempt.outcome}});
}

edge::ClientRequest Agent::request(const Secret& token) const {
  edge::ClientRequest request;
  request.bearer = token;
  request.subprotocols = {kSubprotocol};
  request.control_messages = true;
  return request;
}

std::string Agent::announcement() const {
  auto services = json::array();
  for (const auto& service : settings_.services)
    services.push_back({{"name", service.name}, {"target", service.target}});
  return json{{"type", "announce"},     {"agentId", settings_.id},       {"bootId", boot_id_},
              {"user", settings_.user}, {"hostKey", settings_.host_key}, {"services", std::move(services)}}
      .dump();
}

asio::awaitable<Verdict> Agent::serve(std::shared_ptr<WebSocket> control, Attempt told) {
  announced_ = false;
  refused_code_.clear();
  attempt_told_ = std::move(told);
  control_ = control;
  control->on_control([this](std::string text) { on_message(std::move(text)); });
  control->post_control(announcement());
  announce_timer_.expires_after(settings_.announce_timeout);
  announce_timer_.async_wait([waited = std::weak_ptr(control)](const boost::system::error_code& error) {
    if (const auto still = waited.lock(); still && !error) still->close();
  });
  std::array<std::byte, 1024> buffer;
  for (;;) {
    const auto got = co_await control->read(buffer);
    if (!got || *got == 0) break;
    // Nothing but messages belongs here.
    co_await control->close_with(1003, "");
    break;
  }
  announce_timer_.cancel();
  token_timer_.cancel();
  control->on_control(nullptr);
  control_.reset();
  auto verdict = why_lost(*control);
  if (announced_) {
    pace_.lost();
    // Sessions may yet be resumed, and giving up would end them.
    if (!sessions_.empty()) pace_.hold_on_until(Clock::now() + links::LinkOptions().window);
    counts_.connected_now = false;
    if (!stopping_)
      world_.tell(
          Level::warn, "disconnected",
          {{"reason", verdict.reason}, {"why", verdict.error.message}, {"sessions", sessions_.size()}});
  } else {
    tell_attempt(attempt_told_, verdict.reason);
  }
  co_return verdict;
}

Verdict Agent::why_lost(const WebSocket& control) const {
  const auto ending = control.ending();
  const auto reason = refused_code_.empty() ? std::string() : json{{"code", refused_code_}}.dump();
  auto verdict = after_close(ending.code, reason);
  // A daemon that ends us in good order has told why before, or is going to stop.
  if (ending.code == 1000) verdict.then = Then::back_off;
  if (!announced_ && !refused_code_.empty()) {
    verdict.stops_first = true;
    verdict.reason = refused_code_;
    verdict.error.message =
        "tunneld did not take the announcement: " + refused_why_ + " (" + refused_code_ + ")";
  } else if (!announced_ && ending.code == 1006) {
    verdict.then = Then::back_off;
    verdict.reason = "not_announced";
    verdict.error = {Error::Kind::unavailable, world_.shown("/agent") + ": did not take the announcement"};
  }
  if (refused_code_ == "TUNNEL_015")
    return {.then = Then::stop,
            .reason = refused_code_,
            .error = {
                Error::Kind::denied,
                "TUNNEL_015: tunneld knows the agent " + settings_.id + " with another host key than " +
                    key_fingerprint(settings_.host_key) +
                    "; start it with the state folder it had (see --state-dir), give it another --id, or ask "
                    "tunneld's operator to forget the old one"}};
  return verdict;
}

void Agent::on_message(std::string text) {
  const auto message = parse_strict_json(text, kLargestMessage);
  if (!message || !message->is_object()) {
    world_.tell(Level::warn, "a message that is no JSON object was ignored", {});
    return;
  }
  const auto type = text_of(*message, "type");
  if (type == "announced") {
    on_announced(*message);
  } else if (type == "session.open") {
    open_session(text_of(*message, "ticket"));
  } else if (type == "auth.expiring") {
    world_.tell(Level::info, "the token ends soon",
                {{"expires_at", harmless(text_of(*message, "expiresAt"))}});
    refresh_token(control_);
  } else if (type == "auth.ok") {
    world_.tell(Level::info, "the newer token was taken", {});
  } else if (type == "maintenance") {
    world_.tell(Level::warn, "tunneld is going to stop",
                {{"deadline", harmless(text_of(*message, "deadline"))},
                 {"reason", harmless(text_of(*message, "reason"))}});
  } else if (type == "error") {
    const auto error = message->find("error");
    if (error == message->end() || !error->is_object()) return;
    refused_code_ = harmless(text_of(*error, "code"));
    refused_why_ = harmless(text_of(*error, "message"));
    world_.tell(Level::warn, "tunneld refused a message", {{"code", refused_code_}, {"why", refused_why_}});
  }
}

void Agent::on_announced(const json& message) {
  announce_timer_.cancel();
  refused_code_.clear();
  if (!announced_) {
    announced_ = ever_announced_ = true;
    refreshed_ = false;
    ++counts_.connections;
    counts_.connected_now = true;
    pace_.connected();
    tell_attempt(attempt_told_, "connected");
  }
  std::string services;
  for (const auto& service : settings_.services)
    services += (services.empty() ? "" : ", ") + service.name + "=" + service.target;
  world_.tell(Level::info, "announced", {{"agent", settings_.id}, {"services", services}});
  const auto warnings = message.find("warnings");
  if (warnings == message.end() || !warnings->is_array()) return;
  for (const auto& warning : *warnings)
    if (warning.is_string()) world_.tell(Level::warn, harmless(warning.get<std::string>()), {});
}

void Agent::say(const json& message) {
  if (control_ && !control_->post_control(message.dump(-1, ' ', false, json::error_handler_t::replace)))
    world_.tell(Level::warn, "tunneld could not be told of something: too much is waiting to be sent", {});
}

void Agent::refresh_token(std::weak_ptr<WebSocket> to) {
  const auto control = to.lock();
  if (!control || control != control_) return;
  auto token = world_.token();
  if (token && !(*token == token_)) {
    token_ = std::move(*token);
    say({{"type", "auth.refresh"}, {"token", std::string(token_.reveal())}});
    return;
  }
  // Whoever renews the file may be a little late; until the connection is ended there is time.
  token_timer_.expires_after(settings_.token_check);
  token_timer_.async_wait([this, to = std::move(to)](const boost::system::error_code& error) {
    if (!error) refresh_token(to);
  });
}

// ---- sessions
// -------------------------------------------------------------------------------------------------

void Agent::open_session(std::string ticket) {
  if (!is_ticket(ticket)) {
    world_.tell(Level::warn, "a session was asked for without a ticket", {});
    return;
  }
  if (stopping_ || sessions_.size() >= settings_.max_sessions) {
    session_failed(ticket,
                   {Error::Kind::unavailable,
                    stopping_ ? "the agent is ending" : "the agent serves as many sessions as it may"});
    return;
  }
  auto session = std::make_shared<Session>(std::move(ticket));
  sessions_.insert(session);
  asio::co_spawn(
      io_, serve_session(session),
      asio::bind_cancellation_slot(session->cancel.slot(), [this, session](const std::exception_ptr& error) {
        sessions_.erase(session);
        counts_.sessions_now = sessions_.size();
        session_ended_.notify();
        if (error) session_failed(session->ticket, {Error::Kind::bug, "the agent failed"});
      }));
  counts_.sessions_now = sessions_.size();
}

void Agent::session_failed(const std::string& ticket, const Error& why) {
  ++counts_.sessions_failed;
  world_.tell(Level::warn, "a session failed",
              {{"session", ticket.substr(0, 8)}, {"why", harmless(why.message)}});
  say({{"type", "session.failed"}, {"ticket", ticket}, {"reason", harmless(why.message)}});
}

asio::awaitable<void> Agent::serve_session(std::shared_ptr<Session> session) {
  const auto name = session->ticket.substr(0, 8);  // the rest is a secret for as long as it holds
  auto heard = [this, name](std::string line) {
    world_.tell(Level::warn, "sshd", {{"session", name}, {"line", line}});
  };
  auto sshd = world_.sshd(std::move(heard));
  if (!sshd) {
    session_failed(session->ticket, sshd.error());
    co_return;
  }
  session->carrier_end = std::make_shared<CarrierEnd>();
  auto link = co_await open_link(session);
  if (!link) {
    // tunneld learns it while it still waits, and not by the ticket's end.
    if (link.error().kind != Error::Kind::cancelled) session_failed(session->ticket, link.error());
    co_return;
  }
  ++counts_.sessions;
  world_.tell(Level::info, "session opened", {{"session", name}, {"sessions", sessions_.size()}});
  const auto ended =
      co_await (copy(session, *(*link), **sshd, session->bytes_in) ||
                copy(session, **sshd, *(*link), session->bytes_out) || keep_attached(session, *link));
  // Cancelled or not: what was written is delivered, and the goodbye said.
  co_await asio::this_coro::reset_cancellation_state();
  (*sshd)->close();
  co_await let_go(session, *link);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - session->opened);
  const auto& over = (*link)->why_over();
  world_.tell(Level::info, "session closed",
              {{"session", name},
               {"why", ended.index() == 1 ? std::string("sshd ended") : harmless(over)},
               {"bytes_in", session->bytes_in},
               {"bytes_out", session->bytes_out},
               {"took_ms", took.count()}});
}

asio::awaitable<Result<std::shared_ptr<links::Link>>> Agent::open_link(std::shared_ptr<Session> session) {
  const auto token = world_.token();
  if (!token) co_return tl::unexpected(token.error());
  auto with = request(*token);
  auto socket = co_await world_.connect("/agent/session/" + session->ticket, std::move(with));
  if (!socket) {
    const bool cancelled = socket.error().cause == "cancelled";
    co_return fail(cancelled ? Error::Kind::cancelled : Error::Kind::unavailable,
                   "the agent could not connect for it: " + socket.error().message);
  }
  auto carrier = carry(*session, std::move(*socket));
  auto link = co_await links::Link::connect(io_.get_executor(), std::move(carrier), links::LinkOptions());
  co_return link;
}

std::unique_ptr<tunnel::ByteStream> Agent::carry(Session& session, std::unique_ptr<WebSocket> socket) {
  auto* const raw = socket.get();
  // A session's connection ends with its token too; the one it goes on with is looked up there as well.
  socket->on_control([this, raw](const std::string& text) {
    const auto message = parse_strict_json(text, kLargestMessage);
    if (!message || !message->is_object() || text_of(*message, "type") != "auth.expiring") return;
    if (const auto token = world_.token())
      raw->post_control(json{{"type", "auth.refresh"}, {"token", std::string(token->reveal())}}.dump());
  });
  session.carrier_end = std::make_shared<CarrierEnd>();
  return std::make_unique<Carrier>(io_.get_executor(), std::move(socket), session.carrier_end);
}

asio::awaitable<void> Agent::copy(std::shared_ptr<Session> session, tunnel::ByteStream& from,
                                  tunnel::ByteStream& to, std::uint64_t& bytes) {
  std::vector<std::byte> buffer(kBridge);
  auto& total = &bytes == &session->bytes_in ? counts_.bytes_in : counts_.bytes_out;
  for (;;) {
    const auto got = co_await from.read(buffer);
    if (!got || *got == 0) co_return;
    session->last_byte = Clock::now();
    const auto sent = co_await to.write(std::span(buffer).first(*got));
    if (!sent) co_return;
    bytes += *got;
    total += *got;
  }
}

asio::awaitable<void> Agent::keep_attached(std::shared_ptr<Session> session,
                                           std::shared_ptr<links::Link> link) {
  // Shared with the listener, which may be called once more while this coroutine is taken down.
  const auto changed = std::make_shared<tunnel::Wakeup>();
  link->on_attached([changed, this, session](bool attached, std::string_view why) {
    if (!attached)
      world_.tell(Level::warn, "session cut",
                  {{"session", session->ticket.substr(0, 8)}, {"why", http::one_line(why, 300)}});
    changed->notify();
  });
  for (;;) {
    while (link->state() == links::Link::State::attached)
      if (!co_await changed->wait()) co_return;
    if (link->state() == links::Link::State::over) co_return;
    const bool resumed = co_await resume(session, link);
    if (!resumed) co_return;
  }
}

asio::awaitable<bool> Agent::resume(std::shared_ptr<Session> session, std::shared_ptr<links::Link> link) {
  // At once, then soon, and without an end: the link's window is the end.
  Backoff::Options options;
  options.base = std::chrono::milliseconds(500);
  options.cap = options.quick_cap;
  options.max_attempts = std::nullopt;
  Pace pace(io_, options, Backoff::First::at_once);
  Advice advice;
  while (link->state() == links::Link::State::detached) {
    const auto turn = co_await pace.turn(advice);
    if (!turn) co_return false;
    const auto told = co_await try_resume(session, link, *turn);
    if (!told) co_return false;
    advice = *told;
  }
  co_return link->state() == links::Link::State::attached;
}

asio::awaitable<std::optional<Advice>> Agent::try_resume(std::shared_ptr<Session> session,
                                                         std::shared_ptr<links::Link> link, Pace::Turn turn) {
  const auto tell = [&](Level level, std::string_view outcome) {
    world_.tell(level, "session attempt",
                {{"session", session->ticket.substr(0, 8)},
                 {"n", turn.attempt},
                 {"delay_ms", turn.waited.count()},
                 {"outcome", outcome}});
  };
  const auto token = world_.token();
  if (!token) {
    tell(Level::warn, "no_token");
    co_return Advice();
  }
  auto with = request(*token);
  with.fields.push_back({"Tunnel-Session", links::to_hex(link->id())});
  auto socket = co_await world_.connect("/agent/session", std::move(with));
  if (!socket) {
    const auto verdict = after_failure(socket.error());
    tell(Level::warn, verdict.reason);
    // It knows nothing of the link: restarted, or the window is over.
    const bool unknown = socket.error().status == 404 || socket.error().status == 403;
    co_return unknown ? std::nullopt : std::optional(verdict.advice);
  }
  auto carrier = carry(*session, std::move(*socket));
  const auto resumed = co_await link->resume(std::move(carrier));
  tell(resumed ? Level::info : Level::warn, resumed ? "resumed" : harmless(resumed.error().message));
  if (resumed) ++counts_.resumes;
  const bool gone = !resumed && resumed.error().kind == Error::Kind::not_found;
  co_return gone ? std::nullopt : std::optional(Advice());
}

asio::awaitable<void> Agent::let_go(std::shared_ptr<Session> session, std::shared_ptr<links::Link> link) {
  const auto end = session->carrier_end;
  end->in_good_order = true;
  link->close();
  const auto until = Clock::now() + settings_.goodbye;
  asio::steady_timer look(io_);
  while (!end->closed && Clock::now() < until) {
    look.expires_after(std::chrono::milliseconds(10));
    co_await look.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

asio::awaitable<void> Agent::farewell() {
  const auto until = Clock::now() + settings_.farewell;
  asio::steady_timer pause(io_);
  while (!sessions_.empty()) {
    const auto now = Clock::now();
    // A copy: what is cancelled may leave the set.
    for (const auto& session : std::vector(sessions_.begin(), sessions_.end()))
      if (now >= until || now - session->last_byte >= settings_.still_moving)
        session->cancel.emit(asio::cancellation_type::terminal);
    pause.expires_after(std::chrono::milliseconds(50));
    pause.async_wait([this](const boost::system::error_code& error) {
      if (!error) session_ended_.notify();
    });
    (void)co_await session_ended_.wait();
    pause.cancel();
  }
}

}  // namespace tunnelctl::client
