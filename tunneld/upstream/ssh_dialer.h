#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunnel/dialer.h"
#include "tunnel/fair_queue.h"
#include "tunnel/observer.h"
#include "tunnel/queue_ledger.h"
#include "tunneld/ssh/identity.h"
#include "tunneld/upstream/options.h"

namespace tunneld::ssh {
class Session;
}

namespace tunneld::upstream {

class AgentRegistry;

namespace asio = boost::asio;

/// The dialled upstreams of one worker thread: keeps SSH sessions per (principal, upstream) and opens
/// channels on them. A session is filled before the next is opened, because channels that share one
/// share its packets and system calls. Sessions are never shared between principals.
///
/// Who must wait stands in the ledger, and is served in turn: a place for a channel goes to the requests of
/// its principal by priority; handshakes with an upstream, and places for sessions while
/// max_sessions_total are open, go to principals round robin. While an upstream cannot be reached, one try
/// at a time is made for all who wait, with pauses of 100 ms at first and 1 s at last (30 % more or less).
///
/// A service whose upstream is "agent:<id>" is reached through the agent of that id which belongs to the
/// request's own principal. An agent that is not connected counts as an upstream that is away.
///
/// Threads: everything on `io`'s thread, construction and destruction included (or while it is not
/// running). `identities`, `ledger`, `observer` and `agents` outlive the dialer and whatever is left on `io`.
/// After close(), run `io` until it has no more work before destroying the dialer.
class SshDialer final : public tunnel::Dialer {
 public:
  /// By upstream name; under kAgents the one for all agents.
  using Identities = std::map<std::string, const ssh::Identity*>;
  static constexpr const char* kAgents = "agent:";

  /// `agents` may be null: then there are none.
  SshDialer(asio::io_context& io, const Options& options, Identities identities, tunnel::QueueLedger& ledger,
            tunnel::Observer& observer, AgentRegistry* agents = nullptr);
  ~SshDialer() override;

  asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open(
      const tunnel::OpenRequest& request) override;
  Offer offer(std::string_view group, std::string_view reuse_key,
              std::unique_ptr<tunnel::ByteStream>& stream) override;
  void on_place_wanted(std::function<bool(std::string_view group)> close_one) override;

  struct Counts {
    std::size_t sessions = 0;
    std::size_t channels = 0;
    std::size_t waiting = 0;
    std::size_t agents = 0;  // that have been asked for and are not forgotten yet
  };
  Counts counts() const;

  /// Ends all sessions; open() refuses from here on.
  void close();

 private:
  struct Connect;
  struct Group;
  struct Promise;
  struct ServeOnExit;
  struct Standing;
  struct Upstream;
  struct Waiter;
  using ConnectResult = tunnel::Served<std::shared_ptr<ssh::Session>>;

  /// The one that reaches the request's service; null if there is none.
  Upstream* upstream_of(const tunnel::OpenRequest& request);
  std::shared_ptr<Group> group_of(const tunnel::OpenRequest& request, Upstream& upstream);
  asio::awaitable<tunnel::Served<std::shared_ptr<Waiter>>> wait_turn(std::shared_ptr<Group> group,
                                                                     const tunnel::OpenRequest& request);
  void make_room_for(Group& group);
  void arm(Waiter& waiter);
  void timer_fired(Waiter& waiter);

  bool wants_session(const Group& group) const;
  void want_session(const std::shared_ptr<Group>& group);
  void start_handshakes(Upstream& upstream);
  void start_connect(const std::shared_ptr<Group>& group);
  asio::awaitable<ConnectResult> run_connect(std::shared_ptr<Group> group, std::shared_ptr<Connect> connect);
  asio::awaitable<ConnectResult> connect_agent(const Upstream& upstream, const ssh::Identity& identity,
                                               std::chrono::steady_clock::time_point deadline);
  void connect_ended(const std::shared_ptr<Group>& group, Connect& connect, std::exception_ptr error,
                     ConnectResult result);
  void connected(const std::shared_ptr<Group>& group, std::shared_ptr<ssh::Session> session);
  void connect_failed(Group& group, const tunnel::Refusal& why);
  void went_away(Upstream& upstream);
  void tell(Upstream& upstream, bool lost, std::string_view why);

  void place_freed(const std::shared_ptr<Group>& group);
  void settle(const std::shared_ptr<Group>& group);
  bool room_for_session();
  void give_places();
  /// Makes room for one more session by closing an idle one; false if none is idle.
  bool evict_idle();
  void sweep();
  void forget_unused_agents();
  void arm_sweep();

  asio::io_context& io_;
  const Options options_;
  const Identities identities_;
  tunnel::QueueLedger& ledger_;
  tunnel::Observer& observer_;
  AgentRegistry* const agents_;
  std::function<bool(std::string_view)> close_one_;
  /// By name; those of agents by channel_group(), from when they are asked for until they are unused.
  std::map<std::string, std::shared_ptr<Upstream>, std::less<>> upstreams_;
  std::map<std::string, std::shared_ptr<Group>, std::less<>> groups_;  // by channel_group()
  std::list<std::shared_ptr<Connect>> connects_;                       // under way
  tunnel::FairQueue<std::shared_ptr<Connect>> places_wanted_;          // connects without room for a session
  std::size_t places_promised_ = 0;                                    // to connects under way
  std::size_t waiting_ = 0;                                            // over all groups
  asio::steady_timer sweep_timer_;
  bool closed_ = false;
};

}  // namespace tunneld::upstream
