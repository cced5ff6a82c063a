#include "tunnelctl/client/tunnel.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/strict_json.h"
#include "link/mux.h"
#include "tunnel/wakeup.h"

namespace tunnelctl::client {
namespace {

using namespace asio::experimental::awaitable_operators;
using Json = nlohmann::json;

constexpr std::size_t kMaxControlLine = 16 * 1024;
/// While the last bytes leave: how often to look whether they have.
constexpr std::chrono::milliseconds kLook{10};
/// For the closing handshake of the WebSocket, and a moment for who waits for it.
constexpr std::chrono::milliseconds kGoodbye{5'500};
/// The Close follows the link's last frame.
constexpr std::chrono::milliseconds kHearOut{1'000};

tl::unexpected<Error> stopped() {
  return fail(Error::Kind::cancelled, "stopped");
}

asio::awaitable<void> pause(asio::io_context& io, std::chrono::milliseconds time) {
  asio::steady_timer timer(io, time);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

asio::awaitable<bool> is_cancelled() {
  const auto state = co_await asio::this_coro::cancellation_state;
  co_return state.cancelled() != asio::cancellation_type::none;
}

std::string text_of(const Json& message, const char* name) {
  const auto found = message.find(name);
  return found != message.end() && found->is_string()
             ? http::one_line(found->get_ref<const std::string&>(), 200)
             : std::string();
}

}  // namespace

/// One link, and what travels over it.
struct Tunnel::Line {
  Line(asio::io_context& io, std::shared_ptr<links::Link> link_in)
      : link(std::move(link_in)), mux(io.get_executor(), *link, links::Mux::Options{}) {}

  std::shared_ptr<links::Link> link;
  links::Mux mux;
  std::unique_ptr<tunnel::ByteStream> control{};
  bool greeted = false;  // the server's hello has come
  bool lost = false;     // without a carrier
  std::string why_lost{};
  bool forgotten = false;    // the server does not resume it
  tunnel::Wakeup changed{};  // of `lost`
  bool token_ends = false;
  tunnel::Wakeup token_expiring{};
  /// Ends the tunnel with the link.
  std::optional<Error> failure{};
  std::string why_over{};
  std::size_t broken = 0;  // streams that ended with it

  /// The first reason is the one; later ones follow from it.
  void end(std::string why, std::size_t streams) {
    if (why_over.empty()) why_over = std::move(why);
    broken = std::max(broken, streams);
  }
};

Tunnel::Tunnel(asio::io_context& io, ServerSettings server, TunnelOptions options, TunnelListener& listener,
               Connect connect, std::function<double()> random)
    : io_(io),
      server_(std::move(server)),
      options_(std::move(options)),
      listener_(listener),
      connect_(std::move(connect)),
      pace_(io, options_.backoff, options_.first, std::move(random)) {
  pace_.on_network_change([this] { look_at_address(); });
  if (connect_) return;
  connect_ = [this](edge::ClientTarget target, edge::ClientRequest request, edge::ConnectReport& report)
      -> asio::awaitable<tl::expected<std::unique_ptr<tunnel::WebSocketStream>, edge::ConnectFailure>> {
    co_return co_await edge::connect_websocket(io_, target, request, options_.websocket, &report);
  };
}

Tunnel::~Tunnel() = default;

// ---- connecting ----

asio::awaitable<Result<void>> Tunnel::run() {
  set_state(State::connecting, http::shown_url(server_.url));
  Verdict why;
  why.reason = "first";
  for (;;) {
    auto link = co_await reach(nullptr, why);
    Result<Verdict> ended = tl::unexpected(link ? Error{} : link.error());
    if (link) ended = co_await live(std::move(*link));
    if (closing_) {
      while (state_ != State::disconnected) (void)co_await wait_for_change(Clock::time_point::max());
      co_return stopped();
    }
    if (!ended) {
      if (ended.error().kind == Error::Kind::cancelled) co_return stopped();
      set_state(State::error, ended.error().message);
      co_return tl::unexpected(ended.error());
    }
    why = std::move(*ended);
  }
}

asio::awaitable<Result<std::shared_ptr<links::Link>>> Tunnel::reach(std::shared_ptr<links::Link> link,
                                                                    Verdict why) {
  for (;;) {
    const auto turn = co_await pace_.turn(why.advice);
    const bool cancelled = co_await is_cancelled();
    if (closing_ || cancelled) co_return stopped();
    if (link && link->state() == links::Link::State::over)
      co_return fail(Error::Kind::not_found, link->why_over());
    if (!turn) co_return tl::unexpected(gave_up(options_.backoff.max_attempts.value_or(0), why));
    Attempt told{.at = std::chrono::system_clock::now(), .number = turn->attempt, .delay = turn->waited};
    told.cause = turn->network_changed ? "network_changed" : why.reason;
    auto outcome = co_await attempt(link);
    told.endpoint = outcome.endpoint;
    told.outcome = !outcome.link ? outcome.verdict.reason + ": " + outcome.verdict.error.message
                   : link        ? "resumed"
                                 : "connected";
    listener_.on_attempt(told);
    if (closing_) co_return stopped();
    if (outcome.link) {
      pace_.connected();
      ever_connected_ = true;
      co_return outcome.link;
    }
    if (outcome.gone && line_) line_->forgotten = true;
    if (outcome.gone) co_return fail(Error::Kind::not_found, outcome.verdict.error.message);
    if (auto error = final_error(outcome.verdict)) co_return tl::unexpected(std::move(*error));
    why = std::move(outcome.verdict);
  }
}

asio::awaitable<Tunnel::Outcome> Tunnel::attempt(std::shared_ptr<links::Link> link) {
  Outcome outcome;
  outcome.endpoint = http::shown_url(server_.url + options_.path);
  auto token = read_token(server_);
  if (!token) {
    // A file that is being replaced may be back at the next attempt.
    outcome.verdict = {.stops_first = true, .reason = "no_token", .error = token.error()};
    co_return outcome;
  }
  token_ = *token;
  edge::ClientRequest request;
  request.bearer = std::move(*token);
  request.subprotocols.emplace_back("tunnel.v1");
  if (link) request.fields.push_back({"Tunnel-Session", links::to_hex(link->id())});
  edge::ConnectReport report;
  auto socket = co_await connect_(target(server_, options_.path), std::move(request), report);
  if (!report.address.empty()) outcome.endpoint += " at " + report.address;
  if (socket) {
    auto shaken = co_await shake_hands(std::move(link), std::move(*socket));
    shaken.endpoint = std::move(outcome.endpoint);
    co_return shaken;
  }
  outcome.verdict = after_failure(socket.error());
  // What it says of a session that it does not know; any other 404 is somebody else's.
  outcome.gone = link && socket.error().status == 404 && socket.error().error_code == "TUNNEL_010";
  co_return outcome;
}

asio::awaitable<Tunnel::Outcome> Tunnel::shake_hands(std::shared_ptr<links::Link> link,
                                                     std::unique_ptr<tunnel::WebSocketStream> socket) {
  Outcome outcome;
  auto end = std::make_shared<CarrierEnd>();
  auto carrier = std::make_unique<Carrier>(io_.get_executor(), std::move(socket), end);
  Error error;
  if (link) {
    auto resumed = co_await link->resume(std::move(carrier));
    if (resumed) outcome.link = link;
    if (!resumed) error = resumed.error();
    outcome.gone = link->state() == links::Link::State::over;
  } else {
    auto made = co_await links::Link::connect(io_.get_executor(), std::move(carrier), options_.link);
    if (made) outcome.link = *made;
    if (!made) error = made.error();
  }
  if (outcome.link) {
    earlier_ = traffic();
    carrier_end_ = std::move(end);
    co_return outcome;
  }
  if (end->code && *end->code != 1006) {
    outcome.verdict = after_close(*end->code, end->reason);
  } else {
    outcome.verdict.reason = "handshake";
    outcome.verdict.error = {
        Error::Kind::unavailable,
        http::one_line(error.message) + "; check that a tunneld of this version runs there"};
  }
  co_return outcome;
}

void Tunnel::look_at_address() {
  if (!line_ || line_->link->state() != links::Link::State::attached) return;
  if (const auto lost = lost_address(vitals().socket))
    line_->link->detach("this machine no longer has the address " + lost->to_string());
}

std::optional<Error> Tunnel::final_error(const Verdict& verdict) const {
  if (!options_.reconnect || verdict.then == Then::stop) return verdict.error;
  const bool forever = !options_.backoff.max_attempts;
  if (forever) return std::nullopt;
  if (verdict.then == Then::refresh_once && !token_is_new()) return verdict.error;
  if (verdict.stops_first && !ever_connected_) return verdict.error;
  return std::nullopt;
}

bool Tunnel::token_is_new() const {
  const auto token = read_token(server_);
  return token && !(*token == token_);
}

// ---- connected ----

asio::awaitable<Result<Verdict>> Tunnel::live(std::shared_ptr<links::Link> link) {
  struct AtEnd {
    Tunnel& tunnel;
    const std::shared_ptr<Line>& line;
    ~AtEnd() {
      line->link->on_attached(nullptr);
      line->link->close();
      line->mux.close();
      tunnel.line_.reset();
    }
  };
  const auto line = std::make_shared<Line>(io_, std::move(link));
  line_ = line;
  {
    const AtEnd at_end{*this, line};
    line->link->on_attached([at = std::weak_ptr<Line>(line)](bool attached, std::string_view why) {
      const auto known = at.lock();
      if (!known) return;
      known->lost = !attached;
      if (!attached) known->why_lost = http::one_line(why);
      known->changed.notify();
    });
    line->lost = line->link->state() != links::Link::State::attached;
    if (auto control = line->mux.open(); control) line->control = std::move(*control);
    co_await (carry(line) || keep_attached(line) || converse(line) || renew_token(line));
    const bool server_ended = line->link->state() == links::Link::State::over && !line->lost;
    if (server_ended && !closing_) co_await hear_out(carrier_end_);
  }
  const bool cancelled = co_await is_cancelled();
  if (closing_ || cancelled) co_return stopped();
  pace_.lost();
  co_return look_back(*line);
}

Result<Verdict> Tunnel::look_back(const Line& line) {
  if (line.failure) return tl::unexpected(*line.failure);
  Verdict next;
  next.reason = "link_over";
  auto why = line.why_over;
  if (line.forgotten) {
    // The server is there, so a new one may begin at once.
    next.advice.hint = std::chrono::milliseconds(0);
  } else if (const auto code = carrier_end_->code.value_or(std::uint16_t{1006}); !line.lost && code != 1006) {
    next = after_close(code, carrier_end_->reason);
    if (auto error = final_error(next)) return tl::unexpected(std::move(*error));
    why = next.error.message;
  }
  if (why.empty()) why = "the server ended it";
  if (!options_.reconnect)
    return fail(Error::Kind::unavailable, "the connection is over: " + http::one_line(why));
  std::string text = "the connection is over: " + http::one_line(why);
  if (line.broken > 0)
    text +=
        "; " + std::to_string(line.broken) + (line.broken == 1 ? " stream is" : " streams are") + " broken";
  set_state(State::reconnecting, std::move(text));
  return next;
}

asio::awaitable<void> Tunnel::hear_out(std::shared_ptr<CarrierEnd> end) {
  const auto give_up = Clock::now() + kHearOut;
  while (!end->code && !end->closed && Clock::now() < give_up) co_await pause(io_, kLook);
}

asio::awaitable<void> Tunnel::carry(std::shared_ptr<Line> line) {
  const auto ended = co_await line->mux.run();
  line->end(ended ? std::string() : ended.error().message, *streams_);
}

asio::awaitable<void> Tunnel::keep_attached(std::shared_ptr<Line> line) {
  for (;;) {
    while (!line->lost)
      if (!co_await line->changed.wait()) co_return;
    pace_.lost();
    const auto code = carrier_end_->code.value_or(std::uint16_t{1006});
    auto verdict = after_close(code, carrier_end_->reason);
    const auto why = code != 1006 || line->why_lost.empty() ? verdict.error.message : line->why_lost;
    if (auto error = final_error(verdict)) {
      if (verdict.then != Then::stop) error->message = "the connection is over: " + why;
      line->failure = std::move(error);
      co_return;
    }
    set_state(State::reconnecting, why);
    pace_.hold_on_until(Clock::now() + line->link->window());
    auto reached = co_await reach(line->link, std::move(verdict));
    if (!reached) {
      if (reached.error().kind != Error::Kind::not_found) line->failure = reached.error();
      line->end(reached.error().message, *streams_);
      co_return;
    }
    if (!line->lost) set_state(State::connected, http::shown_url(server_.url), true);
  }
}

asio::awaitable<void> Tunnel::converse(std::shared_ptr<Line> line) {
  if (!line->control) co_return;
  std::array<std::byte, 4096> buffer;
  std::string pending;
  for (;;) {
    const auto got = co_await line->control->read(buffer);
    if (!got || *got == 0) co_return;
    pending.append(reinterpret_cast<const char*>(buffer.data()), *got);
    for (auto end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
      on_control(*line, std::string_view(pending).substr(0, end));
      pending.erase(0, end + 1);
    }
    if (pending.size() > kMaxControlLine) {
      line->end("a control message of the server has no end", *streams_);
      co_return;
    }
  }
}

void Tunnel::on_control(Line& line, std::string_view text) {
  const auto message = parse_strict_json(text, kMaxControlLine, 8);
  if (!message || !message->is_object()) return;
  const auto type = text_of(*message, "type");
  if (type == "hello") {
    if (!std::exchange(line.greeted, true) && !line.lost && state_ != State::connected)
      set_state(State::connected, http::shown_url(server_.url));
  } else if (type == "auth.expiring") {
    line.token_ends = true;
    line.token_expiring.notify();
  } else if (type == "auth.ok") {
    listener_.on_notice("the server took the newer token, which holds until " +
                        text_of(*message, "expiresAt"));
  } else if (type == "maintenance") {
    auto notice = "the server is going to stop at " + text_of(*message, "deadline");
    if (const auto reason = text_of(*message, "reason"); !reason.empty()) notice += ": " + reason;
    listener_.on_notice(notice + "; connections are made anew then");
  } else if (type == "error") {
    const auto error = message->find("error");
    const bool known = error != message->end() && error->is_object();
    listener_.on_notice("the server refused a message of ours: " +
                        (known ? text_of(*error, "code") + " " + text_of(*error, "message") : ""));
  }
  // `flow` and what newer servers say ask for nothing here.
}

asio::awaitable<void> Tunnel::renew_token(std::shared_ptr<Line> line) {
  for (;;) {
    while (!line->token_ends)
      if (!co_await line->token_expiring.wait()) co_return;
    line->token_ends = false;
    if (server_.token_file.empty()) {
      listener_.on_notice(
          "the token ends in a minute and the connection with it; one in a file (--token-file) would be read "
          "again");
      continue;
    }
    bool told = false;
    auto token = read_token(server_);
    while (!token || *token == token_) {
      if (!std::exchange(told, true))
        listener_.on_notice("the token ends in a minute; waiting for a newer one in " +
                            server_.token_file.string());
      co_await pause(io_, options_.token_poll);
      token = read_token(server_);
    }
    token_ = *token;
    const Secret text(Json{{"type", "auth.refresh"}, {"token", std::string(token->reveal())}}.dump() + "\n");
    const auto sent = co_await line->control->write(std::as_bytes(std::span(text.reveal())));
    if (!sent) co_return;
  }
}

// ---- for others ----

asio::awaitable<tunnel::Served<std::unique_ptr<ServiceStream>>> Tunnel::open(std::string service,
                                                                             tunnel::Priority priority,
                                                                             Clock::time_point deadline) {
  while (state_ != State::connected || !line_) {
    if (closing_ || state_ == State::error)
      co_return tunnel::refuse(tunnel::Code::unavailable, "there is no connection to the server any more");
    const bool changed = co_await wait_for_change(deadline);
    if (!changed)
      co_return tunnel::refuse(tunnel::Code::timed_out, "the server could not be reached in time");
  }
  auto inner = line_->mux.open();
  if (!inner) co_return tunnel::refuse(tunnel::Code::unavailable, inner.error().message);
  auto stream = std::make_unique<ServiceStream>(std::move(*inner), streams_);
  const auto line = opening_line(service, priority);
  const auto sent = co_await stream->write(std::as_bytes(std::span(line)));
  if (!sent) co_return tunnel::refuse(tunnel::Code::unavailable, sent.error().message);
  co_return stream;
}

asio::awaitable<void> Tunnel::close(Clock::time_point deadline) {
  closing_ = true;
  pace_.cancel();
  if (const auto line = line_; line && line->link->state() == links::Link::State::attached) {
    const auto& link = *line->link;
    do co_await pause(io_, kLook);
    while (link.state() == links::Link::State::attached && link.unsent() + link.unacknowledged() > 0 &&
           Clock::now() < deadline);
    const auto end = carrier_end_;
    end->in_good_order = true;
    line->link->close();
    const auto give_up = Clock::now() + kGoodbye;
    while (!end->closed && Clock::now() < give_up) co_await pause(io_, kLook);
  }
  set_state(State::disconnected, "closed");
}

Tunnel::Traffic Tunnel::traffic() const {
  if (!carrier_end_) return earlier_;
  return {earlier_.bytes_in + carrier_end_->bytes_in, earlier_.bytes_out + carrier_end_->bytes_out};
}

tunnel::WebSocketStream::Vitals Tunnel::vitals() const {
  const auto socket = carrier_end_ ? carrier_end_->socket.lock() : nullptr;
  return socket ? socket->vitals() : tunnel::WebSocketStream::Vitals();
}

void Tunnel::set_state(State state, std::string why, bool resumed) {
  state_ = state;
  StateChange change{.at = std::chrono::system_clock::now(), .state = state, .why = std::move(why)};
  if (line_) change.session_id = links::to_hex(line_->link->id());
  change.resumed = resumed;
  change.streams = *streams_;
  listener_.on_state(change);
  for (auto* waiter : waiters_) waiter->cancel();
}

asio::awaitable<bool> Tunnel::wait_for_change(Clock::time_point deadline) {
  asio::steady_timer timer(io_, deadline);
  struct Place {
    std::set<asio::steady_timer*>& all;
    asio::steady_timer* timer;
    ~Place() { all.erase(timer); }
  };
  waiters_.insert(&timer);
  const Place place{waiters_, &timer};
  const auto [error] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  co_return static_cast<bool>(error);
}

}  // namespace tunnelctl::client
