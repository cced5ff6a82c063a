#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <nlohmann/json_fwd.hpp>

#include "tunnel/http_exchange.h"
#include "tunneld/admission.h"
#include "tunneld/farewell.h"
#include "tunneld/live_streams.h"
#include "tunneld/upstream/agent_registry.h"

namespace tunneld {

/// An agent's control connection: what it announces, and the sessions it is asked for (docs/api/links.md).
/// Threads: its own, where `io` runs.
class AgentConnection final : LiveStreams::Life,
                              ControlSink,
                              public std::enable_shared_from_this<AgentConnection> {
 public:
  /// All outlive it.
  struct Parts {
    tunnel::asio::io_context& io;
    LiveStreams& streams;
    tunnel::DeadlineWatch& watch;
    const Admission& admission;
    tunnel::Observer& observer;
    upstream::AgentRegistry& agents;
    std::function<void(const std::string& agent_id, const std::string& principal_hash)> superseded;
  };
  /// `socket` carries control messages. `terms`: what it may announce. Made with std::make_shared.
  AgentConnection(Parts parts, tunnel::WebSocketStream& socket, LiveStreams::Token token, std::string peer,
                  std::string correlation_id, upstream::AgentRegistry::Terms terms);
  ~AgentConnection() override;

  /// Until either side has enough; the WebSocket is closed then. Returns why, in words.
  tunnel::asio::awaitable<std::string> run();

 private:
  class Control;
  // LiveStreams::Life
  void stop(How how, std::string why) override;
  void stop_when_quiet(std::chrono::milliseconds quiet, How how, std::string why) override;
  void set_until(Clock::time_point until) override;
  // ControlSink
  bool post_control(std::string_view message) override;

  tunnel::asio::awaitable<void> read_to_end();
  tunnel::asio::awaitable<void> stopped();
  void on_message(const std::string& text);
  void announce(const std::string& text);
  void session_failed(const nlohmann::json& message);
  void renew(const std::string& text);
  void refuse(const tunnel::Refusal& why);
  void flush();
  void end(std::string why, Farewell farewell);

  const Parts parts_;
  tunnel::WebSocketStream& socket_;
  const std::string peer_;
  const std::string correlation_id_;
  upstream::AgentRegistry::Terms terms_;
  std::string agent_id_;  // once it has announced itself
  std::unique_ptr<upstream::AgentRegistry::Registration> registration_;

  std::deque<std::string> waiting_;  // messages that the WebSocket did not take yet
  tunnel::asio::steady_timer retry_timer_;
  tunnel::asio::steady_timer announce_timer_;
  tunnel::asio::steady_timer until_timer_;
  tunnel::asio::steady_timer quiet_timer_;
  tunnel::asio::steady_timer stop_;  // cancelled when it is to end

  struct End {
    std::string why;
    Farewell farewell;
  };
  std::optional<End> end_;
};

}  // namespace tunneld
