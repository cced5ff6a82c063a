#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <nlohmann/json_fwd.hpp>

#include "link/link.h"
#include "tunnel/byte_stream.h"
#include "tunnel/http_exchange.h"
#include "tunnel/wakeup.h"
#include "tunnelctl/client/agent.h"
#include "tunnelctl/client/pace.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {

/// The SSH sessions that an agent serves: each a WebSocket of its own that comes back after a cut, and an
/// sshd of its own. Threads: the context's one. What it is made of outlives it, and it what runs on the
/// context.
class AgentSessions {
 public:
  /// `say`: sends a message on the control connections.
  AgentSessions(asio::io_context& io, const AgentSettings& settings, const AgentWorld& world,
                AgentCounts& counts, std::function<void(const nlohmann::json&)> say);
  ~AgentSessions();

  /// Serves the ticket, once however often it is told. `ending`: says that it will not.
  void open(std::string ticket, bool ending);
  /// Cuts those loose that speak from an address which this machine no longer has: they come back from
  /// another.
  void look_at_addresses();
  /// Lets those in which something moves finish for a while, ends the others, and returns when all are over.
  asio::awaitable<void> farewell();
  std::size_t size() const { return sessions_.size(); }

 private:
  struct Session;
  using Clock = std::chrono::steady_clock;
  using WebSocket = tunnel::WebSocketStream;

  asio::awaitable<void> serve(std::shared_ptr<Session> session);
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
  void failed(const std::string& ticket, const Error& why);
  /// Ends the link, and returns when its WebSocket has said goodbye.
  asio::awaitable<void> let_go(std::shared_ptr<Session> session, std::shared_ptr<links::Link> link);

  void tell_farewell(Clock::duration left);

  asio::io_context& io_;
  const AgentSettings& settings_;
  const AgentWorld& world_;
  AgentCounts& counts_;
  const std::function<void(const nlohmann::json&)> say_;
  std::deque<std::string> tickets_;  // of late
  std::set<std::shared_ptr<Session>> sessions_;
  tunnel::Wakeup session_ended_;
};

}  // namespace tunnelctl::client
