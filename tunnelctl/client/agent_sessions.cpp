#include "tunnelctl/client/agent_sessions.h"

#include <algorithm>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "common/http_access.h"
#include "common/strict_json.h"
#include "tunnelctl/client/agent_messages.h"
#include "tunnelctl/client/carrier.h"
#include "tunnelctl/client/network_watch.h"

namespace tunnelctl::client {
namespace {

using namespace asio::experimental::awaitable_operators;
using logging::Level;
using nlohmann::json;

constexpr std::size_t kBridge = 64 * 1024;
/// More than come within the life of one.
constexpr std::size_t kTicketsRemembered = 256;

bool is_ticket(std::string_view text) {
  return links::session_id_from_hex(text).has_value();  // the same 32 digits
}

}  // namespace

struct AgentSessions::Session {
  explicit Session(std::string ticket_in) : ticket(std::move(ticket_in)) {}
  const std::string ticket;
  asio::cancellation_signal cancel;
  Clock::time_point opened = Clock::now();
  Clock::time_point last_byte = opened;
  std::uint64_t bytes_in = 0, bytes_out = 0;
  /// Of the WebSocket it has now.
  std::shared_ptr<CarrierEnd> carrier_end;
  std::shared_ptr<links::Link> link{};  // once there is one, to its end
};

AgentSessions::AgentSessions(asio::io_context& io, const AgentSettings& settings, const AgentWorld& world,
                             AgentCounts& counts, std::function<void(const json&)> say)
    : io_(io), settings_(settings), world_(world), counts_(counts), say_(std::move(say)) {}

AgentSessions::~AgentSessions() = default;

void AgentSessions::open(std::string ticket, bool ending) {
  if (!is_ticket(ticket)) {
    world_.tell(Level::warn, "a session was asked for without a ticket", {});
    return;
  }
  // A ticket comes by each control connection.
  if (std::find(tickets_.begin(), tickets_.end(), ticket) != tickets_.end()) return;
  tickets_.push_back(ticket);
  if (tickets_.size() > kTicketsRemembered) tickets_.pop_front();
  if (ending || sessions_.size() >= settings_.max_sessions) {
    failed(ticket, {Error::Kind::unavailable,
                    ending ? "the agent is ending" : "the agent serves as many sessions as it may"});
    return;
  }
  auto session = std::make_shared<Session>(std::move(ticket));
  sessions_.insert(session);
  asio::co_spawn(
      io_, serve(session),
      asio::bind_cancellation_slot(session->cancel.slot(), [this, session](const std::exception_ptr& error) {
        sessions_.erase(session);
        counts_.sessions_now = sessions_.size();
        session_ended_.notify();
        if (error) failed(session->ticket, {Error::Kind::bug, "the agent failed"});
      }));
  counts_.sessions_now = sessions_.size();
}

void AgentSessions::failed(const std::string& ticket, const Error& why) {
  ++counts_.sessions_failed;
  world_.tell(Level::warn, "a session failed",
              {{"session", ticket.substr(0, 8)}, {"why", agent_word(why.message)}});
  say_({{"type", "session.failed"}, {"ticket", ticket}, {"reason", agent_word(why.message)}});
}

asio::awaitable<void> AgentSessions::serve(std::shared_ptr<Session> session) {
  const auto name = session->ticket.substr(0, 8);  // the rest is a secret for as long as it holds
  auto heard = [this, name](std::string line) {
    world_.tell(Level::warn, "sshd", {{"session", name}, {"line", line}});
  };
  auto sshd = world_.sshd(std::move(heard));
  if (!sshd) {
    failed(session->ticket, sshd.error());
    co_return;
  }
  session->carrier_end = std::make_shared<CarrierEnd>();
  auto link = co_await open_link(session);
  if (!link) {
    // tunneld learns it while it still waits, and not by the ticket's end.
    if (link.error().kind != Error::Kind::cancelled) failed(session->ticket, link.error());
    co_return;
  }
  session->link = *link;
  ++counts_.sessions;
  world_.tell(Level::info, "session opened", {{"session", name}, {"sessions", sessions_.size()}});
  const auto ended =
      co_await (copy(session, *(*link), **sshd, session->bytes_in) ||
                copy(session, **sshd, *(*link), session->bytes_out) || keep_attached(session, *link));
  // Cancelled or not: what was written is delivered, and the goodbye said.
  co_await asio::this_coro::reset_cancellation_state();
  (*sshd)->close();
  co_await let_go(session, *link);
  session->link = nullptr;
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - session->opened);
  const auto& over = (*link)->why_over();
  world_.tell(Level::info, "session closed",
              {{"session", name},
               {"why", ended.index() == 1 ? std::string("sshd ended") : agent_word(over)},
               {"bytes_in", session->bytes_in},
               {"bytes_out", session->bytes_out},
               {"took_ms", took.count()}});
}

asio::awaitable<Result<std::shared_ptr<links::Link>>> AgentSessions::open_link(
    std::shared_ptr<Session> session) {
  const auto token = world_.token();
  if (!token) co_return tl::unexpected(token.error());
  auto with = agent_request(*token);
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

std::unique_ptr<tunnel::ByteStream> AgentSessions::carry(Session& session,
                                                         std::unique_ptr<WebSocket> socket) {
  auto* const raw = socket.get();
  // A session's connection ends with its token too; the one it goes on with is looked up there as well.
  socket->on_control([this, raw](const std::string& text) {
    const auto message = parse_strict_json(text, kLargestAgentMessage);
    if (!message || !message->is_object() || agent_text(*message, "type") != "auth.expiring") return;
    if (const auto token = world_.token())
      raw->post_control(json{{"type", "auth.refresh"}, {"token", std::string(token->reveal())}}.dump());
  });
  session.carrier_end = std::make_shared<CarrierEnd>();
  return std::make_unique<Carrier>(io_.get_executor(), std::move(socket), session.carrier_end);
}

asio::awaitable<void> AgentSessions::copy(std::shared_ptr<Session> session, tunnel::ByteStream& from,
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

asio::awaitable<void> AgentSessions::keep_attached(std::shared_ptr<Session> session,
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

asio::awaitable<bool> AgentSessions::resume(std::shared_ptr<Session> session,
                                            std::shared_ptr<links::Link> link) {
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

asio::awaitable<std::optional<Advice>> AgentSessions::try_resume(std::shared_ptr<Session> session,
                                                                 std::shared_ptr<links::Link> link,
                                                                 Pace::Turn turn) {
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
  auto with = agent_request(*token);
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
  tell(resumed ? Level::info : Level::warn, resumed ? "resumed" : agent_word(resumed.error().message));
  if (resumed) ++counts_.resumes;
  if (!resumed && resumed.error().kind == Error::Kind::not_found) co_return std::nullopt;
  const auto& end = *session->carrier_end;
  const bool told_why = !resumed && end.code && *end.code != 1006;
  co_return told_why ? after_close(*end.code, end.reason).advice : Advice();
}

asio::awaitable<void> AgentSessions::let_go(std::shared_ptr<Session> session,
                                            std::shared_ptr<links::Link> link) {
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

void AgentSessions::look_at_addresses() {
  // A copy: a link that is cut loose may end its session.
  for (const auto& session : std::vector(sessions_.begin(), sessions_.end())) {
    const auto socket = session->link ? session->carrier_end->socket.lock() : nullptr;
    const auto lost = socket ? lost_address(socket->vitals().socket) : std::nullopt;
    if (lost) session->link->detach("this machine no longer has the address " + lost->to_string());
  }
}

asio::awaitable<void> AgentSessions::farewell() {
  const auto until = Clock::now() + settings_.farewell;
  auto tell_at = Clock::now();
  asio::steady_timer pause(io_);
  while (!sessions_.empty()) {
    const auto now = Clock::now();
    if (now >= tell_at) {
      tell_farewell(until - now);
      tell_at = now + std::chrono::seconds(1);
    }
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

void AgentSessions::tell_farewell(Clock::duration left) {
  const auto seconds = std::max(std::chrono::ceil<std::chrono::seconds>(left), std::chrono::seconds(0));
  world_.tell(Level::info, "stopping", {{"sessions", sessions_.size()}, {"left_s", seconds.count()}});
}

}  // namespace tunnelctl::client
