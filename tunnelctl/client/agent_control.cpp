#include "tunnelctl/client/agent_control.h"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "common/strict_json.h"
#include "tunnelctl/client/agent_messages.h"
#include "tunnelctl/client/agent_state.h"
#include "tunnelctl/client/network_watch.h"

namespace tunnelctl::client {
namespace {

using logging::Field;
using logging::Level;
using nlohmann::json;

/// How long a connection that stands keeps another one from giving up: for the next try.
constexpr std::chrono::seconds kSpell{1};

AgentOutcome refused(Error error) {
  return {AgentOutcome::End::refused, std::move(error)};
}

}  // namespace

AgentControl::AgentControl(asio::io_context& io, unsigned slot, Agent agent, Events events)
    : io_(io),
      slot_(slot),
      settings_(agent.settings),
      world_(agent.world),
      counts_(agent.counts),
      boot_id_(agent.boot_id),
      events_(std::move(events)),
      pace_(io, settings_.backoff, settings_.first),
      announce_timer_(io),
      token_timer_(io) {
  pace_.on_network_change([this] {
    look_at_address();
    events_.network_changed();
  });
}

AgentControl::~AgentControl() = default;

asio::awaitable<std::optional<AgentOutcome>> AgentControl::hold() {
  Verdict last;
  std::string cause = "first";
  while (!stopping_) {
    if (events_.others_stand()) hold_on_until(Clock::now() + kSpell);
    const auto turn = co_await pace_.turn(last.advice);
    if (stopping_) break;
    if (!turn)
      co_return AgentOutcome{AgentOutcome::End::gave_up,
                             gave_up(settings_.backoff.max_attempts.value_or(0), last)};
    if (turn->network_changed) cause = "network_changed";
    last = co_await asio::co_spawn(io_, attempt(*turn, cause),
                                   asio::bind_cancellation_slot(cancel_attempt_.slot(), asio::use_awaitable));
    if (stopping_) break;
    if (auto final = judge(last)) co_return final;
    cause = last.reason;
  }
  co_return std::nullopt;
}

void AgentControl::hold_on_until(Clock::time_point time) {
  hold_on_until_ = std::max(hold_on_until_, time);
  pace_.hold_on_until(hold_on_until_);
}

void AgentControl::stop() {
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

void AgentControl::look_at_address() {
  const auto lost = control_ ? lost_address(control_->vitals().socket) : std::nullopt;
  if (!lost) return;
  tell(Level::info, "address lost", Field{"address", lost->to_string()});
  control_->close();
}

template <class... Fields>
void AgentControl::tell(Level level, std::string_view message, const Fields&... fields) const {
  // Where there is but one, its number says nothing.
  if (settings_.connections > 1)
    world_.tell(level, message, {fields..., Field{"connection", slot_ + 1}});
  else
    world_.tell(level, message, {fields...});
}

std::optional<AgentOutcome> AgentControl::judge(const Verdict& verdict) {
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
  const bool person_waits = !events_.ever_announced() && !settings_.unattended;
  if (verdict.stops_first && person_waits) return refused(verdict.error);
  return std::nullopt;
}

asio::awaitable<Verdict> AgentControl::attempt(Pace::Turn turn, std::string cause) {
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
  auto with = agent_request(token_);
  auto control = co_await world_.connect("/agent", std::move(with));
  if (stopping_) co_return Verdict();
  if (!control) {
    auto verdict = after_failure(control.error());
    tell_attempt(told, verdict.reason);
    co_return verdict;
  }
  co_return co_await serve(std::move(*control), std::move(told));
}

void AgentControl::tell_attempt(Attempt& attempt, std::string_view outcome) {
  attempt.outcome = outcome;
  tell(outcome == "connected" ? Level::info : Level::warn, "attempt", Field{"n", attempt.number},
       Field{"delay_ms", attempt.delay.count()}, Field{"endpoint", attempt.endpoint},
       Field{"cause", attempt.cause}, Field{"outcome", attempt.outcome});
  if (world_.on_attempt) world_.on_attempt(attempt);
}

std::string AgentControl::announcement() const {
  auto services = json::array();
  for (const auto& service : settings_.services)
    services.push_back({{"name", service.name}, {"target", service.target}});
  return json{{"type", "announce"},     {"agentId", settings_.id},       {"bootId", boot_id_},
              {"user", settings_.user}, {"hostKey", settings_.host_key}, {"services", std::move(services)},
              {"slot", slot_}}
      .dump();
}

asio::awaitable<Verdict> AgentControl::serve(std::shared_ptr<WebSocket> control, Attempt told) {
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
  if (std::exchange(announced_, false)) {
    pace_.lost();
    if (!stopping_)
      tell(Level::warn, "disconnected", Field{"reason", verdict.reason}, Field{"why", verdict.error.message},
           Field{"sessions", counts_.sessions_now});
    events_.lost(verdict);
  } else {
    tell_attempt(attempt_told_, verdict.reason);
  }
  co_return verdict;
}

Verdict AgentControl::why_lost(const WebSocket& control) const {
  const auto ending = control.ending();
  auto reason = ending.by_peer ? ending.reason : std::string();
  if (reason.empty() && !refused_code_.empty()) reason = json{{"code", refused_code_}}.dump();
  auto verdict = after_close(ending.code, reason);
  // A daemon that ends us in good order has told why before, or is going to stop.
  if (ending.code == 1000) verdict.then = Then::back_off;
  if (!announced_ && !refused_code_.empty()) {
    // Too many at a time, or not now: that passes.
    verdict.stops_first =
        refused_code_ != "TUNNEL_004" && refused_code_ != "TUNNEL_005" && refused_code_ != "TUNNEL_012";
    verdict.reason = refused_code_;
    verdict.error.message =
        "tunneld did not take the announcement: " + refused_why_ + " (" + refused_code_ + ")";
    if (refused_code_ == "TUNNEL_010") verdict.error.kind = Error::Kind::bad_input;
  } else if (!announced_ && ending.code == 1006) {
    verdict.then = Then::back_off;
    verdict.reason = "not_announced";
    verdict.error = {Error::Kind::unavailable, world_.shown("/agent") + ": did not take the announcement"};
  }
  if (refused_code_ == "TUNNEL_015")
    return {.then = Then::stop,
            .reason = refused_code_,
            .error = {Error::Kind::denied, "TUNNEL_015: tunneld knows the agent " + settings_.id +
                                               " with another host key than " +
                                               key_fingerprint(settings_.host_key) +
                                               "; start it with the state folder it had (see --state-dir), "
                                               "give it another --id, or make tunneld forget the old key: "
                                               "tunnelctl agents forget " +
                                               settings_.id}};
  return verdict;
}

void AgentControl::on_message(std::string text) {
  const auto message = parse_strict_json(text, kLargestAgentMessage);
  if (!message || !message->is_object()) {
    world_.tell(Level::warn, "a message that is no JSON object was ignored", {});
    return;
  }
  const auto type = agent_text(*message, "type");
  if (type == "announced") {
    on_announced(*message);
  } else if (type == "session.open") {
    events_.session_open(agent_text(*message, "ticket"));
  } else if (type == "auth.expiring") {
    world_.tell(Level::info, "the token ends soon",
                {{"expires_at", agent_word(agent_text(*message, "expiresAt"))}});
    refresh_token(control_);
  } else if (type == "auth.ok") {
    world_.tell(Level::info, "the newer token was taken", {});
  } else if (type == "maintenance") {
    world_.tell(Level::warn, "tunneld is going to stop",
                {{"deadline", agent_word(agent_text(*message, "deadline"))},
                 {"reason", agent_word(agent_text(*message, "reason"))}});
  } else if (type == "error") {
    const auto error = message->find("error");
    if (error == message->end() || !error->is_object()) return;
    refused_code_ = agent_word(agent_text(*error, "code"));
    refused_why_ = agent_word(agent_text(*error, "message"));
    world_.tell(Level::warn, "tunneld refused a message", {{"code", refused_code_}, {"why", refused_why_}});
  }
}

void AgentControl::on_announced(const json& message) {
  announce_timer_.cancel();
  refused_code_.clear();
  if (!announced_) {
    announced_ = true;
    refreshed_ = false;
    ++counts_.connections;
    if (std::exchange(ever_announced_, true)) ++counts_.reconnects;
    pace_.connected();
    tell_attempt(attempt_told_, "connected");
    events_.announced();
  }
  std::string services;
  for (const auto& service : settings_.services)
    services += (services.empty() ? "" : ", ") + service.name + "=" + service.target;
  tell(Level::info, "announced", Field{"agent", settings_.id}, Field{"services", services});
  const auto warnings = message.find("warnings");
  if (warnings == message.end() || !warnings->is_array()) return;
  for (const auto& warning : *warnings)
    if (warning.is_string()) world_.tell(Level::warn, agent_word(warning.get<std::string>()), {});
}

void AgentControl::say(const json& message) {
  if (control_ && !control_->post_control(message.dump(-1, ' ', false, json::error_handler_t::replace)))
    world_.tell(Level::warn, "tunneld could not be told of something: too much is waiting to be sent", {});
}

void AgentControl::refresh_token(std::weak_ptr<WebSocket> to) {
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

}  // namespace tunnelctl::client
