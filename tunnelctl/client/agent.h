#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "common/log.h"
#include "common/result.h"
#include "common/secret.h"
#include "edge/websocket_client.h"
#include "link/link.h"
#include "tunnel/byte_stream.h"
#include "tunnel/http_exchange.h"
#include "tunnel/wakeup.h"
#include "tunnelctl/client/agent_services.h"
#include "tunnelctl/client/backoff.h"
#include "tunnelctl/client/client_state.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

class AgentControl;
class AgentSessions;

struct AgentSettings {
  std::string id;
  std::vector<AgentService> services;
  std::string user;      // whom its sshd lets in
  std::string host_key;  // "ssh-ed25519 AAAA..."
  Backoff::Options backoff{};
  Backoff::First first = Backoff::First::at_once;
  /// Nobody waits for it: what a person would have to mend is tried again too.
  bool unattended = false;
  std::chrono::milliseconds announce_timeout{15'000};
  /// At the end, for sessions in which something still moves, and how long nothing may have moved for that.
  std::chrono::milliseconds farewell{10'000};
  std::chrono::milliseconds still_moving{2'000};
  /// For the closing handshake of a session's connection.
  std::chrono::milliseconds goodbye{1'000};
  /// How often a token file is looked at once the token is about to end.
  std::chrono::milliseconds token_check{5'000};
  /// Control connections to hold, 1 to 4.
  unsigned connections = 1;
  /// Each is two processes of sshd.
  std::size_t max_sessions = 64;
};

/// What an agent needs of the world; tests bring their own. All is called on the agent's thread.
struct AgentWorld {
  using Connected = tl::expected<std::unique_ptr<tunnel::WebSocketStream>, edge::ConnectFailure>;
  /// A WebSocket of the server's, at a path that begins with a slash.
  std::function<asio::awaitable<Connected>(std::string path, edge::ClientRequest request)> connect;
  /// Where `path` is, for the log.
  std::function<std::string(std::string_view path)> shown;
  /// Before each connection: learns which keys tunneld has, and lets them in.
  std::function<asio::awaitable<tl::expected<void, Verdict>>()> trust;
  std::function<Result<Secret>()> token;
  /// A fresh SSH server; its lines of stderr go to the function.
  std::function<Result<std::unique_ptr<tunnel::ByteStream>>(std::function<void(std::string)> on_line)> sshd;
  /// Every change of state, one call each.
  std::function<void(logging::Level, std::string_view message, logging::Fields)> tell;
  /// The same for who shows the state (`connected` is: announced), and each attempt. May be null.
  std::function<void(const StateChange&)> on_state{};
  std::function<void(const Attempt&)> on_attempt{};
};

struct AgentOutcome {
  enum class End { stopped, superseded, gave_up, refused };
  End end = End::stopped;
  Error error{};  // but for `stopped`: what it was, and what to do
};

/// For metrics: since the start, but for those that say "now".
struct AgentCounts {
  std::size_t connections_now = 0;  // that stand; tunneld has the services while it is not 0
  std::size_t sessions_now = 0;
  std::uint64_t attempts = 0, connections = 0, reconnects = 0;
  std::uint64_t sessions = 0, sessions_failed = 0, resumes = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;  // from tunneld to sshd, and back
};

/// Makes services behind NAT reachable: holds one to four control connections, /agent (docs/api/links.md),
/// and serves each SSH session that tunneld asks for by a WebSocket of its own and an sshd of its own.
/// Sessions live on while control connections are lost, and are resumed when their own is.
///
/// Threads: the context's one, stop() included. run() once; the agent outlives it, and the context runs until
/// it has returned.
class Agent {
 public:
  Agent(asio::io_context& io, AgentSettings settings, AgentWorld world);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Returns when it is over for good, and no session is left.
  asio::awaitable<AgentOutcome> run();
  /// Ends run() in good order: says goodbye, lets sessions finish for a while, ends the others.
  void stop();

  const AgentCounts& counts() const { return counts_; }
  /// Of the oldest control connection that stands.
  tunnel::WebSocketStream::Vitals vitals() const;

 private:
  void start(AgentControl& control);
  void on_announced();
  void on_lost(const Verdict& why);
  void set_state(State state, const std::string& why);

  asio::io_context& io_;
  const AgentSettings settings_;
  const AgentWorld world_;
  const std::string boot_id_;
  AgentCounts counts_;
  std::unique_ptr<AgentSessions> sessions_;
  std::vector<std::unique_ptr<AgentControl>> controls_;
  unsigned holding_ = 0;  // controls that have not ended
  tunnel::Wakeup control_ended_;
  bool ever_announced_ = false;
  bool stopping_ = false;
  AgentOutcome outcome_;
  std::exception_ptr bug_;
};

}  // namespace tunnelctl::client
