#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "tunnel/byte_stream.h"
#include "tunnel/refusal.h"

namespace tunneld::upstream {

namespace asio = boost::asio;

/// SSH transports that agents were asked for and that have not come yet. Each has a ticket, which holds once,
/// for a while, and for the agent's principal alone.
/// Thread-safe, and nothing is called back while it holds its lock. Made with std::make_shared.
class AgentTickets : public std::enable_shared_from_this<AgentTickets> {
 public:
  using Clock = std::chrono::steady_clock;
  using Stream = std::unique_ptr<tunnel::ByteStream>;
  /// Of an agent's transports that are open.
  using SessionCount = std::shared_ptr<std::atomic<std::size_t>>;

  /// Who is asked.
  struct Agent {
    std::string principal_key;
    std::string agent_id;
    std::uint64_t start = 0;  // which of its starts; lose() names it
    SessionCount sessions;
  };

  /// One who waits for a transport, on its home's thread. The ticket holds no longer than it lives.
  class Ticket {
   public:
    Ticket(std::shared_ptr<AgentTickets> tickets, asio::io_context& home, Agent of,
           Clock::time_point expires);
    ~Ticket();
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

    /// 32 hexadecimal digits. A secret for as long as it holds.
    const std::string& text() const { return text_; }
    /// Once. Refuses with no_agent, timed_out, or unavailable with the agent's reason.
    asio::awaitable<tunnel::Served<Stream>> wait();

    struct Wait;

   private:
    const std::shared_ptr<AgentTickets> tickets_;
    asio::io_context& home_;
    const std::string agent_id_;
    const Clock::time_point expires_;
    const std::string text_;
    const std::shared_ptr<Wait> wait_;
  };

  /// A door got a WebSocket for a ticket: where it is wanted.
  struct Claim {
    asio::io_context* home = nullptr;
    std::string agent_id;
    /// On home's thread, once; dropping it uncalled fails the opening.
    std::function<void(Stream)> deliver;
  };
  /// Takes the ticket up.
  std::optional<Claim> redeem(std::string_view principal_key, std::string_view ticket);
  /// The agent cannot serve that ticket.
  void fail(std::string_view principal_key, std::string_view ticket, std::string_view reason);
  /// That start of an agent is over: who waits for it is refused with no_agent.
  void lose(std::uint64_t start);
  /// Those that hold, of that start of an agent.
  std::vector<std::string> of(std::uint64_t start) const;

 private:
  struct Opening {
    Agent agent;
    asio::io_context* home = nullptr;
    std::weak_ptr<Ticket::Wait> wait;
    Clock::time_point expires;
  };
  /// The principal's own opening of that ticket, which holds no more.
  std::optional<Opening> take(std::string_view principal_key, std::string_view ticket);

  mutable std::mutex mutex_;
  std::map<std::string, Opening, std::less<>> openings_;  // by ticket
};

/// What is said of an agent that is away.
tunnel::Refusal agent_not_connected(const std::string& agent_id);

}  // namespace tunneld::upstream
