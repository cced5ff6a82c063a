#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunneld/ssh/identity.h"
#include "tunneld/tunnel/dialer.h"
#include "tunneld/tunnel/observer.h"
#include "tunneld/upstream/options.h"

namespace tunneld::upstream {

namespace asio = boost::asio;

/// The dialled upstreams of one worker thread: keeps SSH sessions per (principal, upstream) and opens
/// channels on them. A session is filled before the next is opened, because channels that share one
/// share its packets and system calls. Sessions are never shared between principals.
///
/// Threads: everything on `io`'s thread, construction and destruction included (or while it is not
/// running). `identities` and `observer` outlive the dialer. After close(), run `io` until it has no
/// more work before destroying the dialer.
class SshDialer final : public tunnel::Dialer {
 public:
  using Identities = std::map<std::string, const ssh::Identity*>;  // by upstream name

  SshDialer(asio::io_context& io, const Options& options, Identities identities, tunnel::Observer& observer);
  ~SshDialer() override;

  asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open(
      const access::Principal& principal, const tunnel::Service& service,
      std::chrono::steady_clock::time_point deadline) override;

  struct Counts {
    std::size_t sessions = 0;
    std::size_t channels = 0;
    std::size_t waiting = 0;
  };
  Counts counts() const;

  /// Ends all sessions; open() refuses from here on.
  void close();

 private:
  struct Group;
  struct Upstream;
  using Key = std::pair<std::string, std::string>;  // principal key, upstream name

  void start_session(const std::shared_ptr<Group>& group);
  asio::awaitable<void> run_connect(std::shared_ptr<Group> group);
  void sweep();
  void arm_sweep();
  std::size_t sessions_total() const;
  /// Makes room for one more session by closing an idle one; false if none is idle.
  bool evict_idle();

  asio::io_context& io_;
  const Options options_;
  const Identities identities_;
  tunnel::Observer& observer_;
  std::map<std::string, std::unique_ptr<Upstream>> upstreams_;
  std::map<Key, std::shared_ptr<Group>> groups_;
  std::list<asio::cancellation_signal> connects_;  // one per connect under way
  asio::steady_timer sweep_timer_;
  bool closed_ = false;
};

}  // namespace tunneld::upstream
