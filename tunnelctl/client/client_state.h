#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tunnel/http_exchange.h"

namespace tunnelctl::client {

struct Attempt;

enum class State { disconnected, connecting, connected, reconnecting, error };
const char* to_string(State state);

/// One change of state. Each is told once.
struct StateChange {
  std::chrono::system_clock::time_point at{};
  State state = State::disconnected;
  std::string why{};         // one harmless line; of `connected` where to
  std::string session_id{};  // of the link, in hexadecimal; empty before there is one
  bool resumed = false;      // connected again, and every stream goes on
  std::size_t streams = 0;   // open at that moment; of a link that could not be resumed: those that broke
};

/// How good the way to the server is, by the newest pings.
struct LineQuality {
  double p50_ms = 0, p95_ms = 0, jitter_ms = 0;
  double missed_pong_ratio = 0;
  std::optional<double> retransmit_ratio{};  // of this connection's bytes; where the kernel counts them
  const char* band = "poor";                 // quality_word()'s
};

/// What changes all the time.
struct ClientFigures {
  std::size_t streams = 0;                      // to services; of an agent its sessions
  std::size_t queued = 0;                       // requests that wait for the connection
  std::optional<std::size_t> queue_capacity{};  // where there is a queue
  std::uint64_t bytes_in = 0, bytes_out = 0;    // from the server, and to it
  std::optional<LineQuality> quality{};
};

/// A `connect` or an `agent` as `tunnelctl status --clients` shows it. Holds no token and no secret.
struct ClientState {
  static constexpr std::size_t kMostEvents = 100;
  struct Event {
    std::chrono::system_clock::time_point at{};
    std::string what{};
  };

  std::string kind{};                 // "connect", "agent"
  std::string id{};                   // an agent's
  std::string server{};               // its address, without credentials
  std::vector<std::string> serves{};  // "127.0.0.1:8022 -> ssh", "ollama=127.0.0.1:11434"
  std::chrono::system_clock::time_point started{};
  State state = State::disconnected;
  std::chrono::system_clock::time_point since{};
  std::string why{};
  std::string session_id{};
  std::uint64_t attempts = 0;     // since the start
  std::uint64_t connections = 0;  // of those
  std::deque<Event> events{};     // the newest kMostEvents
  ClientFigures figures{};

  void note(const StateChange& change);
  void note(const Attempt& attempt);
  void note(std::chrono::system_clock::time_point at, std::string_view what);
};

nlohmann::json to_json(const ClientState& state);

/// Between pings of a connection whose quality is shown.
inline constexpr std::chrono::seconds kPingAfter{10};

/// The newest pings of a connection and of those before it, from what WebSocketStream::vitals() says when it
/// is looked at, which must be more often than pings leave.
class PingHistory {
 public:
  void look(const tunnel::WebSocketStream::Vitals& now);
  /// nullopt before the first answer.
  std::optional<LineQuality> quality() const;

 private:
  void put(std::optional<std::chrono::steady_clock::duration> round_trip);

  std::deque<std::optional<std::chrono::steady_clock::duration>> newest_{};
  tunnel::WebSocketStream::Vitals last_{};
  std::optional<double> retransmit_ratio_{};
};

}  // namespace tunnelctl::client
