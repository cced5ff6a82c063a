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

namespace tunneld::upstream {

namespace asio = boost::asio;

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
};
/// Reads the JSON of an announce message; bad_request names the field.
tunnel::Served<Announcement> parse_announcement(std::string_view json);

struct AgentInfo {
  std::string agent_id, boot_id, principal_hash, principal_key, peer, user, host_key_fingerprint;
  std::vector<std::string> services;
  std::chrono::system_clock::time_point since{};
  std::size_t sessions = 0;
};

/// The agents that are connected here, the services they announce, and the SSH transports asked of them.
/// An agent belongs to the principal of its token; nobody else sees it or its services.
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
    std::function<void(const AgentInfo&, bool connected, std::string_view why)> on_agent{};
    std::function<void()> on_superseded{};
  };
  /// Fails with bad_input naming the file when enrolments cannot be read.
  static Result<std::unique_ptr<AgentRegistry>> make(Options options);
  ~AgentRegistry();

  /// As long as it lives the agent is reachable.
  class Registration {
   public:
    virtual ~Registration() = default;
    /// The same agent announced other services.
    virtual tunnel::Served<void> update(Announcement announcement) = 0;
    virtual std::vector<std::string> warnings() const = 0;
  };
  /// Refuses with host_key_mismatch, rate_limited (too many agents), bad_request, or unavailable: the
  /// enrolment cannot be written, or a newer boot of the agent is connected, which superseded this one. Else
  /// a connection of the same principal and agent id is superseded (4409) by this one.
  tunnel::Served<std::unique_ptr<Registration>> announce(const tunnel::Principal& principal, std::string peer,
                                                         Announcement announcement,
                                                         std::shared_ptr<Control> control,
                                                         std::size_t max_services);

  /// The principal's own service of that name, whose upstream is "agent:<id>"; null if there is none.
  std::shared_ptr<const tunnel::Service> find(const tunnel::Principal& principal,
                                              std::string_view name) const;
  std::vector<AgentInfo> agents(std::string_view principal_key = {}) const;  // empty: all

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
  /// A door got a WebSocket for `ticket`: where it is wanted. Takes the ticket up: it holds once.
  struct Claim {
    asio::io_context* home = nullptr;
    std::string agent_id;
    /// On home's thread, once; dropping it uncalled fails the opening.
    std::function<void(std::unique_ptr<tunnel::ByteStream>)> deliver;
  };
  std::optional<Claim> redeem(std::string_view principal_key, std::string_view ticket);
  /// The agent cannot serve that ticket.
  void session_failed(std::string_view principal_key, std::string_view ticket, std::string_view reason);

 private:
  struct Impl;
  explicit AgentRegistry(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace tunneld::upstream
