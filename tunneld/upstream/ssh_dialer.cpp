#include "tunneld/upstream/ssh_dialer.h"

#include <algorithm>
#include <optional>
#include <random>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include "tunneld/ssh/session.h"
#include "tunneld/tunnel/wakeup.h"

namespace tunneld::upstream {
namespace {

using tunnel::Code;
using tunnel::refuse;
using Clock = std::chrono::steady_clock;
using StreamResult = tunnel::Served<std::unique_ptr<tunnel::ByteStream>>;

constexpr auto kSweepEvery = std::chrono::seconds(5);
// A connect serves whoever waits when it finishes, so it has its own deadline.
constexpr auto kConnectWithin = std::chrono::seconds(30);
// sshd drops connections at random when many knock at once (MaxStartups): worth another knock.
constexpr int kDroppedRetries = 3;

struct Waiter {
  tunnel::Wakeup wakeup;
};

}  // namespace

struct SshDialer::Upstream {
  explicit Upstream(const DialledUpstream& configured_in) : configured(configured_in) {}
  const DialledUpstream& configured;
  std::size_t handshakes = 0;
  std::list<tunnel::Wakeup*> waiting_handshakes;
};

struct SshDialer::Group {
  Upstream* upstream = nullptr;
  const ssh::Identity* identity = nullptr;
  std::vector<std::shared_ptr<ssh::Session>> sessions;
  std::size_t connecting = 0;
  std::list<Waiter*> waiting;  // first come, first served
  // Told to those who wait when a connect fails.
  std::size_t failures = 0;
  tunnel::Refusal last_failure{Code::unreachable, ""};

  void wake_first() {
    if (!waiting.empty()) waiting.front()->wakeup.notify();
  }
  /// The fullest session that still has room.
  std::shared_ptr<ssh::Session> pick() {
    std::erase_if(sessions, [](const auto& session) { return !session->alive(); });
    std::shared_ptr<ssh::Session> best;
    for (const auto& session : sessions)
      if (session->free_channels() > 0 && (!best || session->free_channels() < best->free_channels()))
        best = session;
    return best;
  }
};

namespace {

/// Counts one who waits for as long as it stands in the queue.
class InQueue {
 public:
  InQueue(std::list<Waiter*>& queue, Waiter& waiter, tunnel::Observer& observer)
      : queue_(queue), place_(queue.insert(queue.end(), &waiter)), observer_(observer) {
    observer_.waiting_for_channel(+1);
  }
  InQueue(const InQueue&) = delete;
  InQueue& operator=(const InQueue&) = delete;
  ~InQueue() {
    queue_.erase(place_);
    observer_.waiting_for_channel(-1);
  }

 private:
  std::list<Waiter*>& queue_;
  std::list<Waiter*>::iterator place_;
  tunnel::Observer& observer_;
};

}  // namespace

SshDialer::SshDialer(asio::io_context& io, const Options& options, Identities identities,
                     tunnel::Observer& observer)
    : io_(io), options_(options), identities_(std::move(identities)), observer_(observer), sweep_timer_(io) {
  for (const auto& upstream : options_.upstreams)
    upstreams_.emplace(upstream.endpoint.name, std::make_unique<Upstream>(upstream));
  arm_sweep();
}

SshDialer::~SshDialer() {
  close();
}

asio::awaitable<StreamResult> SshDialer::open(const access::Principal& principal,
                                              const tunnel::Service& service,
                                              std::chrono::steady_clock::time_point deadline) {
  auto upstream = upstreams_.find(service.upstream);
  auto identity = identities_.find(service.upstream);
  if (closed_ || upstream == upstreams_.end() || identity == identities_.end())
    co_return refuse(Code::unavailable, "upstream " + service.upstream + " is not there");
  auto& slot = groups_[Key(principal.key(), service.upstream)];
  if (!slot) {
    slot = std::make_shared<Group>();
    slot->upstream = upstream->second.get();
    slot->identity = identity->second;
  }
  std::shared_ptr<Group> group = slot;

  asio::steady_timer timer(io_, deadline);
  auto waiter = std::make_shared<Waiter>();
  std::optional<InQueue> queued;
  std::size_t failures_seen = group->failures;
  bool timer_armed = false;
  for (;;) {
    if (closed_) co_return refuse(Code::unavailable, "tunneld is closing");
    const bool my_turn = !queued || group->waiting.front() == waiter.get();
    // Who has not queued yet must not overtake those who have.
    if (my_turn && (queued || group->waiting.empty())) {
      if (auto session = group->pick()) {
        queued.reset();
        group->wake_first();  // there may be room for the next as well
        auto stream = co_await session->open_channel(service.target_host, service.target_port, deadline);
        if (stream) co_return stream;
        // A session that died under the open says nothing about the service: try another, once each.
        if (stream.error().code == Code::ssh_error && !session->alive() && Clock::now() < deadline) {
          failures_seen = group->failures;
          continue;
        }
        co_return tl::unexpected(std::move(stream.error()));
      }
    }
    if (queued && group->failures != failures_seen) co_return tl::unexpected(group->last_failure);
    if (Clock::now() >= deadline)
      co_return refuse(Code::timed_out, "upstream " + service.upstream + ": no free channel in time");
    if (!queued) {
      if (group->waiting.size() >= options_.max_waiting)
        co_return refuse(Code::queue_full,
                         "upstream " + service.upstream + ": too many streams wait for a channel");
      queued.emplace(group->waiting, *waiter, observer_);
    }
    // One connect under way will have room for max_channels of those who wait.
    while (group->waiting.size() > group->connecting * options_.ssh.max_channels &&
           group->sessions.size() + group->connecting < options_.max_sessions) {
      if (sessions_total() >= options_.max_sessions_total && !evict_idle()) {
        if (group->sessions.empty() && group->connecting == 0)
          co_return refuse(Code::unavailable, "too many SSH sessions are open");
        break;
      }
      start_session(group);
    }
    if (!timer_armed) {
      timer_armed = true;
      timer.async_wait([weak = std::weak_ptr<Waiter>(waiter)](boost::system::error_code ec) {
        auto late = weak.lock();
        if (!ec && late) late->wakeup.cancel();
      });
    }
    const bool woken = co_await waiter->wakeup.wait();
    if (!woken && Clock::now() < deadline)
      co_return refuse(Code::unavailable, "cancelled while waiting for a channel");
  }
}

void SshDialer::start_session(const std::shared_ptr<Group>& group) {
  ++group->connecting;
  auto signal = connects_.emplace(connects_.end());
  auto finished = [this, group, signal](std::exception_ptr error) {
    connects_.erase(signal);
    --group->connecting;
    if (error) {
      ++group->failures;
      group->last_failure = tunnel::Refusal{Code::ssh_error, "connecting was cut short"};
    }
    for (Waiter* waiter : group->waiting) waiter->wakeup.notify();
  };
  asio::co_spawn(io_, run_connect(group), asio::bind_cancellation_slot(signal->slot(), std::move(finished)));
}

asio::awaitable<void> SshDialer::run_connect(std::shared_ptr<Group> group) {
  Upstream& upstream = *group->upstream;
  const auto deadline = Clock::now() + kConnectWithin;
  // Paced: a thundering herd at sshd would be dropped at random.
  tunnel::Wakeup turn;
  while (upstream.handshakes >= options_.max_handshakes) {
    upstream.waiting_handshakes.push_back(&turn);
    if (!co_await turn.wait()) {
      upstream.waiting_handshakes.remove(&turn);
      co_return;
    }
  }
  ++upstream.handshakes;
  thread_local std::minstd_rand random(std::random_device{}());
  for (int attempt = 0;; ++attempt) {
    auto session =
        co_await ssh::Session::connect(io_, upstream.configured.endpoint, *group->identity,
                                       upstream.configured.host_keys, options_.ssh, observer_, deadline);
    if (session && !closed_) {
      (*session)->on_channel_free([weak = std::weak_ptr<Group>(group)] {
        if (auto locked = weak.lock()) locked->wake_first();
      });
      group->sessions.push_back(std::move(*session));
      break;
    }
    const bool dropped = !session && session.error().code == Code::ssh_error &&
                         session.error().message.find("closed the connection") != std::string::npos;
    if (dropped && attempt < kDroppedRetries && !closed_) {
      asio::steady_timer pause(io_, std::chrono::milliseconds(50 + random() % 200) * (attempt + 1));
      co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
      continue;
    }
    ++group->failures;
    group->last_failure =
        session ? tunnel::Refusal{Code::unavailable, "tunneld is closing"} : session.error();
    break;
  }
  --upstream.handshakes;
  if (!upstream.waiting_handshakes.empty()) {
    upstream.waiting_handshakes.front()->notify();
    upstream.waiting_handshakes.pop_front();
  }
}

void SshDialer::arm_sweep() {
  sweep_timer_.expires_after(kSweepEvery);
  sweep_timer_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    sweep();
    arm_sweep();
  });
}

void SshDialer::sweep() {
  const auto idle_before = Clock::now() - options_.session_idle;
  for (auto at = groups_.begin(); at != groups_.end();) {
    Group& group = *at->second;
    std::erase_if(group.sessions, [&](const auto& session) {
      if (!session->alive()) return true;
      if (session->used_channels() > 0 || session->idle_since() > idle_before) return false;
      session->close();
      return true;
    });
    const bool unused = group.sessions.empty() && group.connecting == 0 && group.waiting.empty();
    at = unused ? groups_.erase(at) : std::next(at);
  }
}

std::size_t SshDialer::sessions_total() const {
  std::size_t total = 0;
  for (const auto& [key, group] : groups_) total += group->sessions.size() + group->connecting;
  return total;
}

bool SshDialer::evict_idle() {
  for (auto& [key, group] : groups_) {
    for (auto& session : group->sessions) {
      if (session->used_channels() > 0) continue;
      session->close();
      std::erase(group->sessions, session);
      return true;
    }
  }
  return false;
}

SshDialer::Counts SshDialer::counts() const {
  Counts counts;
  for (const auto& [key, group] : groups_) {
    counts.waiting += group->waiting.size();
    for (const auto& session : group->sessions) {
      if (!session->alive()) continue;
      ++counts.sessions;
      counts.channels += session->used_channels();
    }
  }
  return counts;
}

void SshDialer::close() {
  if (closed_) return;
  closed_ = true;
  sweep_timer_.cancel();
  for (auto& signal : connects_) signal.emit(asio::cancellation_type::terminal);
  for (auto& [key, group] : groups_) {
    for (auto& session : group->sessions) session->close();
    group->sessions.clear();
    for (Waiter* waiter : group->waiting) waiter->wakeup.notify();
  }
}

}  // namespace tunneld::upstream
