#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "tunnel/byte_stream.h"
#include "tunnel/dialer.h"
#include "tunnel/principal.h"
#include "tunnel/refusal.h"
#include "tunneld/upstream/agent_tickets.h"

namespace tunneld::upstream {

namespace asio = boost::asio;

/// How many control connections an agent may hold at a time.
inline constexpr unsigned kMostAgentConnections = 4;

/// What an agent says of itself (docs/api/links.md).
struct Announcement {
  std::string agent_id;
  std::string boot_id;
  std::string user;      // whom its sshd lets in
  std::string host_key;  // "ssh-ed25519 AAAA..."
  struct Service {
    std::string name;
    std::string host;
    std::uint16_t port = 0;
  };
  std::vector<Service> services;
  unsigned slot = 0;  // which of its control connections this is, below kMostAgentConnections
};
/// Reads the JSON of an announce message; bad_request names the field.
tunnel::Served<Announcement> parse_announcement(std::string_view json);

struct AgentInfo {
  std::string agent_id, boot_id, principal_hash, principal_key, peer, user, host_key_fingerprint;
  std::vector<std::string> services;
  std::chrono::system_clock::time_point since{};
  std::size_t connections = 0;  // control connections; `peer` is where the oldest comes from
  std::size_t sessions = 0;
};

/// The agents that are connected here, the services they announce, and the SSH transports asked of them.
/// An agent belongs to the principal of its token; nobody else sees it or its services. It is connected by
/// one to four control connections of the same start, and is asked for transports over all of them: whichever
/// reaches it first counts, so that one which leads nowhere costs nothing.
/// Thread-safe; nothing is called back while it holds its lock.
class AgentRegistry {
 public:
  /// An agent's control connection, as its door implements it. Calls come from any thread.
  class Control {
   public:
    virtual ~Control() = default;
    virtual void send(std::string json_text) = 0;
    virtual void close(std::uint16_t code, std::string reason) = 0;
  };
  struct Options {
    /// Fingerprints of host keys, bound to (principal, agent id) when first seen; never overwritten.
    std::filesystem::path enrolments;
    std::chrono::milliseconds ticket_lifetime{30'000};
    std::size_t max_agents = 10'000;
    std::size_t max_agents_per_principal = 100;
    /// The services of an agent that went are still its principal's for that long: a request meanwhile waits
    /// for it or is told that it is away, and not that there is no such service.
    std::chrono::milliseconds remembered{0};
    std::function<void(const AgentInfo&, bool connected, std::string_view why)> on_agent{};
    std::function<void()> on_superseded{};
    /// An enrolment was taken back, by whose command.
    std::function<void(const std::string& agent_id, const std::string& principal_hash,
                       const std::string& fingerprint, std::string_view by)>
        on_forgotten{};
  };
  /// Fails with bad_input naming the file when enrolments cannot be read.
  static Result<std::unique_ptr<AgentRegistry>> make(Options options);
  ~AgentRegistry();

  /// One control connection of an agent, which is reachable as long as one of them lives.
  class Registration {
   public:
    virtual ~Registration() = default;
    /// The same agent announced other services.
    virtual tunnel::Served<void> update(Announcement announcement) = 0;
    virtual std::vector<std::string> warnings() const = 0;
  };
  /// What the agent's token gives it.
  struct Terms {
    std::size_t max_services = 0;
    /// The connection's place among those of its principal; null when there was none left. Kept until the
    /// agent has gone: all of an agent's connections take one place.
    std::shared_ptr<void> place{};
  };
  /// Refuses with host_key_mismatch, rate_limited (too many agents), too_many_connections (it has no place,
  /// and is no further connection of an agent), bad_request, or unavailable: the enrolment cannot be written,
  /// or a newer boot of the agent is connected, which superseded this one. Else the connections of an earlier
  /// boot of the same principal's agent of that id are superseded (4409), or the one in the same slot.
  tunnel::Served<std::unique_ptr<Registration>> announce(const tunnel::Principal& principal, std::string peer,
                                                         Announcement announcement,
                                                         std::shared_ptr<Control> control, Terms terms);

  /// The principal's own service of that name, whose upstream is "agent:<id>", perhaps away for a moment;
  /// null if there is none.
  std::shared_ptr<const tunnel::Service> find(const tunnel::Principal& principal,
                                              std::string_view name) const;
  std::vector<AgentInfo> agents(std::string_view principal_key = {}) const;  // empty: all
  bool has_agents(std::string_view principal_key) const;
  std::size_t count() const;

  // ---- enrolments ----
  /// Forgets the host key of an agent, so that it may show another one. Not while it is connected: it would
  /// be enrolled again at its next attempt. `by`: whose command it is, for on_forgotten. Refuses with
  /// bad_request and the status 404 (not enrolled) or 409 (connected), or unavailable (not written down).
  tunnel::Served<void> forget(const tunnel::Principal& principal, const std::string& agent_id,
                              std::string_view by);
  static tunnel::Refusal not_enrolled(const std::string& agent_id);
  /// Who has enrolled an agent of that id, by the hash that connections and logs show; null if nobody has.
  std::optional<tunnel::Principal> enrolled_by(std::string_view principal_hash,
                                               const std::string& agent_id) const;

  // ---- SSH transports ----
  struct Far {
    std::unique_ptr<tunnel::ByteStream> stream;
    std::string user;
    std::string host_key_fingerprint;
  };
  /// Asks the agent for an SSH transport and waits for it, on `home`'s thread. Refuses with no_agent,
  /// timed_out, or unavailable with the agent's reason.
  asio::awaitable<tunnel::Served<Far>> open_session(asio::io_context& home, std::string principal_key,
                                                    std::string agent_id,
                                                    std::chrono::steady_clock::time_point deadline);
  using Claim = AgentTickets::Claim;
  /// A door got a WebSocket for `ticket`: where it is wanted. Takes the ticket up: it holds once.
  std::optional<Claim> redeem(std::string_view principal_key, std::string_view ticket);
  /// The agent cannot serve that ticket.
  void session_failed(std::string_view principal_key, std::string_view ticket, std::string_view reason);

 private:
  struct Impl;
  explicit AgentRegistry(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tunneld::upstream
