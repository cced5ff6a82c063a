#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunnel/wakeup.h"
#include "tunneld/ssh/session.h"
#include "tunneld/upstream/ssh_dialer.h"

/// What the dialer keeps of those who wait and of what they wait for. Nothing outside ssh_dialer.cpp includes
/// this file.
namespace tunneld::upstream {

inline tunnel::Refusal evicted() {
  return {tunnel::Code::queue_full, "dropped from the queue: low priority gives way when it is nearly full",
          std::chrono::seconds(1)};
}

/// A session, and how many of its free channels belong to requests that are about to open them.
struct Held {
  std::shared_ptr<ssh::Session> session;
  unsigned promised = 0;
  unsigned free() const {
    const auto free = session->free_channels();
    return free > promised ? free - promised : 0;
  }
};

/// The right to open one channel. Given up when destroyed.
struct SshDialer::Promise {
  Promise() = default;
  explicit Promise(std::shared_ptr<Held> held_in) : held(std::move(held_in)) { ++held->promised; }
  Promise(Promise&& other) noexcept = default;
  Promise& operator=(Promise&& other) noexcept {
    std::swap(held, other.held);
    return *this;
  }
  ~Promise() {
    if (held) --held->promised;
  }
  explicit operator bool() const { return held != nullptr; }
  /// The session, to open the channel on at once.
  std::shared_ptr<ssh::Session> redeem() {
    --held->promised;
    return std::exchange(held, nullptr)->session;
  }

  std::shared_ptr<Held> held;
};

/// A session being connected. It holds one of its upstream's handshakes from the start.
struct SshDialer::Connect {
  asio::cancellation_signal signal;
  tunnel::Wakeup turn;
  bool has_place = false;  // among max_sessions_total
  bool pointless = false;  // nobody waits for it any more
};

struct SshDialer::Upstream : std::enable_shared_from_this<Upstream> {
  Upstream(asio::io_context& io, DialledUpstream configured_in)
      : configured(std::move(configured_in)), retry(io) {}

  /// Of an agent only the endpoint's name: the rest is asked of it each time.
  const DialledUpstream configured;
  std::string agent_id;       // empty for one that is dialled
  std::string principal_key;  // whose agent it is
  std::size_t handshakes = 0;
  tunnel::FairQueue<std::shared_ptr<Group>> turns;  // each group once
  /// While it cannot be reached and somebody waits.
  bool away = false;
  bool pausing = false;
  std::chrono::milliseconds pause{};
  asio::steady_timer retry;
  tunnel::Refusal last_failure{tunnel::Code::unreachable, ""};
  /// As told to Options::on_upstream.
  enum class Known { nothing, good, lost } known = Known::nothing;

  bool idle() const { return handshakes == 0 && turns.empty() && !pausing; }
};

/// One that waits for its turn. Shared by the coroutine that waits, its queue, its timer and the ledger.
struct SshDialer::Waiter {
  explicit Waiter(asio::io_context& io) : timer(io) {}

  tunnel::Wakeup wakeup;
  asio::steady_timer timer;
  Group* group = nullptr;
  bool queued = false;  // then the group is there
  tunnel::PriorityQueue<std::shared_ptr<Waiter>>::Place place;
  tunnel::QueueLedger::Place ledger;
  std::chrono::steady_clock::time_point entered;
  std::chrono::steady_clock::time_point deadline;
  std::string_view reuse_key;
  // What came of it; one of these.
  Promise promise;
  std::unique_ptr<tunnel::ByteStream> stream;
  std::optional<tunnel::Refusal> refusal;

  bool served() const { return promise || stream || refusal; }
};

/// A principal on an upstream: its sessions, and its requests that wait.
struct SshDialer::Group {
  SshDialer* dialer = nullptr;  // null once that is gone
  std::string key;
  std::string principal;
  Upstream* upstream = nullptr;
  const ssh::Identity* identity = nullptr;
  std::vector<std::shared_ptr<Held>> sessions;
  std::size_t connecting = 0;
  bool in_turns = false;      // of the upstream's handshakes
  bool settling = false;      // place_freed() has been passed on
  bool nothing_idle = false;  // that could be closed to make room; holds while somebody waits
  tunnel::PriorityQueue<std::shared_ptr<Waiter>> queue;

  std::size_t alive() const {
    return static_cast<std::size_t>(std::count_if(sessions.begin(), sessions.end(),
                                                  [](const auto& held) { return held->session->alive(); }));
  }

  /// A place on the fullest session that still has room.
  Promise pick() const {
    const std::shared_ptr<Held>* best = nullptr;
    for (const auto& held : sessions)
      if (held->free() > 0 && (best == nullptr || held->free() < (*best)->free())) best = &held;
    return best == nullptr ? Promise{} : Promise{*best};
  }

  /// Gives free places to those whose turn it is.
  void serve() {
    while (dialer != nullptr && !queue.empty()) {
      auto promise = pick();
      if (!promise) return;
      const auto waiter = take_next();
      if (!waiter) continue;
      waiter->promise = std::move(promise);
      waiter->wakeup.notify();
    }
  }

  /// The one whose turn it is, out of the queue; null if the ledger has evicted it already.
  std::shared_ptr<Waiter> take_next() {
    auto waiter = queue.take();
    left(*waiter);
    if (waiter->ledger.leave(tunnel::QueueExit::served)) return waiter;
    waiter->refusal = evicted();
    waiter->wakeup.notify();
    return nullptr;
  }

  void fail(Waiter& waiter, const tunnel::Refusal& why, tunnel::QueueExit how) {
    remove(waiter);
    waiter.refusal = waiter.ledger.leave(how) ? why : evicted();
    waiter.wakeup.notify();
  }

  void remove(Waiter& waiter) {
    queue.remove(waiter.place);
    left(waiter);
  }

  void left(Waiter& waiter) {
    waiter.queued = false;
    waiter.timer.cancel();
    if (dialer != nullptr) --dialer->waiting_;
    if (queue.empty()) nothing_idle = false;
  }

  std::vector<std::shared_ptr<Waiter>> everyone() const {
    std::vector<std::shared_ptr<Waiter>> all;
    queue.for_each([&all](const auto& waiter) { all.push_back(waiter); });
    return all;
  }
};

struct SshDialer::ServeOnExit {
  Group& group;
  ~ServeOnExit() { group.serve(); }
};

/// A request's stay in its group's queue; ends with the coroutine, however that ends.
struct SshDialer::Standing {
  std::shared_ptr<Group> group;
  std::shared_ptr<Waiter> waiter;
  Standing(std::shared_ptr<Group> group_in, std::shared_ptr<Waiter> waiter_in)
      : group(std::move(group_in)), waiter(std::move(waiter_in)) {}
  Standing(const Standing&) = delete;
  Standing& operator=(const Standing&) = delete;
  ~Standing() {
    if (!waiter->queued) return;
    group->remove(*waiter);
    waiter->ledger.leave(tunnel::QueueExit::abandoned);
  }
};

}  // namespace tunneld::upstream
