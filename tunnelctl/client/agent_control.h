#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <nlohmann/json_fwd.hpp>

#include "tunnelctl/client/agent.h"
#include "tunnelctl/client/pace.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {

/// One of an agent's control connections (docs/api/links.md), which comes back when it is lost.
/// Threads: the context's one. What it is made of outlives it; hold() once, and it outlives that.
class AgentControl {
 public:
  /// What the agent does about it.
  struct Events {
    /// tunneld has the services: for the first time on this connection.
    std::function<void()> announced;
    /// A connection that was announced is lost.
    std::function<void(const Verdict& why)> lost;
    std::function<void(std::string ticket)> session_open;
    /// This machine's network changed.
    std::function<void()> network_changed;
    /// Whether another of the agent's connections stands, so that this one need not give up.
    std::function<bool()> others_stand;
    /// Whether tunneld had the services before, over whichever connection.
    std::function<bool()> ever_announced;
  };
  struct Agent {
    const AgentSettings& settings;
    const AgentWorld& world;
    AgentCounts& counts;
    const std::string& boot_id;
  };
  AgentControl(asio::io_context& io, unsigned slot, Agent agent, Events events);
  ~AgentControl();
  AgentControl(const AgentControl&) = delete;
  AgentControl& operator=(const AgentControl&) = delete;

  /// Returns when it is over for good; nullopt: because of stop().
  asio::awaitable<std::optional<AgentOutcome>> hold();
  /// Ends hold(), and says goodbye.
  void stop();
  bool stands() const { return announced_; }
  /// While it stands.
  tunnel::WebSocketStream::Vitals vitals() const { return control_->vitals(); }
  /// Does not give up before then.
  void hold_on_until(std::chrono::steady_clock::time_point time);
  /// If it stands.
  void say(const nlohmann::json& message);

 private:
  using Clock = std::chrono::steady_clock;
  using WebSocket = tunnel::WebSocketStream;

  /// One attempt, and if it succeeds the connection to its end.
  asio::awaitable<Verdict> attempt(Pace::Turn turn, std::string cause);
  asio::awaitable<Verdict> serve(std::shared_ptr<WebSocket> control, Attempt told);
  /// The outcome if that ends the agent.
  std::optional<AgentOutcome> judge(const Verdict& verdict);
  Verdict why_lost(const WebSocket& control) const;
  std::string announcement() const;
  /// With the connection's number, where there are several.
  template <class... Fields>
  void tell(logging::Level level, std::string_view message, const Fields&... fields) const;
  void tell_attempt(Attempt& attempt, std::string_view outcome);
  /// Ends a connection that speaks from an address which this machine no longer has.
  void look_at_address();
  void on_message(std::string text);
  void on_announced(const nlohmann::json& message);
  void refresh_token(std::weak_ptr<WebSocket> to);

  asio::io_context& io_;
  const unsigned slot_;
  const AgentSettings& settings_;
  const AgentWorld& world_;
  AgentCounts& counts_;
  const std::string& boot_id_;
  const Events events_;
  Pace pace_;
  Clock::time_point hold_on_until_ = Clock::time_point::min();

  asio::cancellation_signal cancel_attempt_;
  std::shared_ptr<WebSocket> control_;
  Attempt attempt_told_;         // of this connection; told when it is announced
  bool announced_ = false;       // on this connection
  bool ever_announced_ = false;  // on any of this slot
  bool refreshed_ = false;       // the token, because the server did not take it, since it last did
  bool stopping_ = false;
  std::string refused_code_, refused_why_;  // of the last error message on this connection
  Secret token_;                            // that this connection goes on with
  asio::steady_timer announce_timer_;
  asio::steady_timer token_timer_;
};

}  // namespace tunnelctl::client
