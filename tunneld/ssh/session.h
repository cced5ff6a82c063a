#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "tunnel/byte_stream.h"
#include "tunnel/observer.h"
#include "tunnel/refusal.h"
#include "tunneld/ssh/host_keys.h"
#include "tunneld/ssh/identity.h"
#include "tunneld/ssh/options.h"

namespace tunneld::ssh {

namespace asio = boost::asio;

/// Prepares libssh2 for the process; call once before the first session and before threads start.
/// Fails when the library is not at least 1.11.1.
Result<void> initialise(const Options& options);
/// "1.11.1" as linked.
std::string library_version();

/// One SSH-2 connection as a client, carrying up to Options::max_channels direct-tcpip channels.
///
/// libssh2 does the protocol and no I/O: a socket's bytes are received into one buffer shared by all
/// sessions of a thread, and what is to be sent is gathered and written once per ready batch.
/// Algorithms offered: curve25519-sha256, aes256-gcm@openssh.com, host keys ssh-ed25519 and
/// rsa-sha2-512/256; strict key exchange is required of the far side.
///
/// Threads: everything on the io_context it was connected on. Channels keep their session alive.
class Session : public std::enable_shared_from_this<Session> {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  /// Tries the endpoint's addresses in order, verifies the host key and logs in. Refuses with
  /// unreachable, timed_out, host_key_mismatch or ssh_error; the message names upstream and address.
  static asio::awaitable<tunnel::Served<std::shared_ptr<Session>>> connect(
      asio::io_context& io, const Endpoint& endpoint, const Identity& identity,
      const HostKeyPolicy& host_keys, const Options& options, tunnel::Observer& observer, Deadline deadline);

  /// The same over a stream that somebody else connected: the session owns it, and ends when it does. Of the
  /// endpoint only name and user count; the host key must have one of the policy's fingerprints. Refuses with
  /// timed_out, host_key_mismatch or ssh_error.
  static asio::awaitable<tunnel::Served<std::shared_ptr<Session>>> connect_over(
      asio::io_context& io, std::unique_ptr<tunnel::ByteStream> stream, const Endpoint& endpoint,
      const Identity& identity, const HostKeyPolicy& host_keys, const Options& options,
      tunnel::Observer& observer, Deadline deadline);

  virtual ~Session() = default;

  /// Opens a channel to `host`:`port` as the far side resolves it. Refuses with unreachable (the far
  /// side could not connect), service_denied is never used: a far side that forbids the target is
  /// ssh_error. The caller has checked free_channels().
  virtual asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open_channel(
      const std::string& host, std::uint16_t port, Deadline deadline) = 0;

  /// Channels that may still be opened; those being opened or closed count as taken. 0 once dead.
  virtual unsigned free_channels() const = 0;
  virtual unsigned used_channels() const = 0;
  virtual bool alive() const = 0;
  /// Since when no channel has been in use; only meaningful with used_channels() == 0.
  virtual Deadline idle_since() const = 0;
  /// Called whenever a channel's place becomes free, and when the session dies. One listener.
  virtual void on_channel_free(std::function<void()> listener) = 0;
  /// Says goodbye (SSH_MSG_DISCONNECT 11) and ends all channels with `cancelled`. Idempotent.
  virtual void close() noexcept = 0;
};

}  // namespace tunneld::ssh
