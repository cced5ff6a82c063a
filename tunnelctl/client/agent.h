#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <nlohmann/json_fwd.hpp>

#include "common/log.h"
#include "common/result.h"
#include "common/secret.h"
#include "edge/websocket_client.h"
#include "link/link.h"
#include "tunnel/byte_stream.h"
#include "tunnel/http_exchange.h"
#include "tunnel/wakeup.h"
#include "tunnelctl/client/pace.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// A service as its agent announces it.
struct AgentService {
  std::string name;    // ^[a-z0-9][a-z0-9-]{0,62}$
  std::string target;  // "127.0.0.1:11434", "[::1]:80": as the agent's sshd permits it
};
/// "ollama=127.0.0.1:11434". Fails with bad_input, quoting the text and showing how it is written.
Result<AgentService> parse_agent_service(std::string_view text);
/// At least one and at most a hundred, none of a name twice.
Result<std::vector<AgentService>> parse_agent_services(const std::vector<std::string>& texts);

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
};

struct AgentOutcome {
  enum class End { stopped, superseded, gave_up, refused };
  End end = End::stopped;
  Error error{};  // but for `stopped`: what it was, and what to do
};

/// For metrics: since the start, but for those that say "now".
struct AgentCounts {
  bool connected_now = false;
  std::size_t sessions_now = 0;
  std::uint64_t attempts = 0, connections = 0;
  std::uint64_t sessions = 0, sessions_failed = 0, resumes = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;  // from tunneld to sshd, and back
};

/// Makes services behind NAT reachable: holds the control connection /agent (docs/api/links.md), and serves
/// each SSH session that tunneld asks for by a WebSocket of its own and an sshd of its own. Sessions live on
/// while the control connection is lost, and are resumed when their own is.
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

 private:
  struct Session;
  using Clock = std::chrono::steady_clock;
  using WebSocket = tunnel::WebSocketStream;

  // ---- the control connection ----
  /// One attempt, and if it succeeds the connection to its end.
  asio::awaitable<Verdict> attempt(Pace::Turn turn, std::string cause);
  asio::awaitable<Verdict> serve(std::shared_ptr<WebSocket> control, Attempt told);
  /// The outcome if that ends the agent.
  std::optional<AgentOutcome> judge(const Verdict& verdict);
  Verdict why_lost(const WebSocket& control) const;
  std::string announcement() const;
  void tell_attempt(Attempt& attempt, std::string_view outcome);
  void on_message(std::string text);
  void on_announced(const nlohmann::json& message);
  void say(const nlohmann::json& message);

  // ---- the token ----
  edge::ClientRequest request(const Secret& token) const;
  void refresh_token(std::weak_ptr<WebSocket> to);

  // ---- sessions ----
  void open_session(std::string ticket);
  asio::awaitable<void> serve_session(std::shared_ptr<Session> session);
  asio::awaitable<Result<std::shared_ptr<links::Link>>> open_link(std::shared_ptr<Session> session);
  /// A WebSocket as the session's carrier.
  std::unique_ptr<tunnel::ByteStream> carry(Session& session, std::unique_ptr<WebSocket> socket);
  asio::awaitable<void> copy(std::shared_ptr<Session> session, tunnel::ByteStream& from,
                             tunnel::ByteStream& to, std::uint64_t& bytes);
  /// Gets the link a new WebSocket whenever it has lost one; returns when that is of no use.
  asio::awaitable<void> keep_attached(std::shared_ptr<Session> session, std::shared_ptr<links::Link> link);
  /// False: it will never be resumed.
  asio::awaitable<bool> resume(std::shared_ptr<Session> session, std::shared_ptr<links::Link> link);
  /// What to do before the next try, or of nothing more to try.
  asio::awaitable<std::optional<Advice>> try_resume(std::shared_ptr<Session> session,
                                                    std::shared_ptr<links::Link> link, Pace::Turn turn);
  void session_failed(const std::string& ticket, const Error& why);
  /// Ends the link, and returns when its WebSocket has said goodbye.
  asio::awaitable<void> let_go(std::shared_ptr<Session> session, std::shared_ptr<links::Link> link);
  asio::awaitable<void> farewell();

  asio::io_context& io_;
  const AgentSettings settings_;
  const AgentWorld world_;
  const std::string boot_id_;
  Pace pace_;
  AgentCounts counts_;

  asio::cancellation_signal cancel_attempt_;
  std::shared_ptr<WebSocket> control_;
  Attempt attempt_told_;    // of this connection; told when it is announced
  bool announced_ = false;  // on this connection
  bool ever_announced_ = false;
  bool refreshed_ = false;  // the token, because the server did not take it, since it last did
  bool stopping_ = false;
  std::string refused_code_, refused_why_;  // of the last error message on this connection
  Secret token_;                            // that this connection goes on with
  asio::steady_timer announce_timer_;
  asio::steady_timer token_timer_;

  std::set<std::shared_ptr<Session>> sessions_;
  tunnel::Wakeup session_ended_;
};

}  // namespace tunnelctl::client
