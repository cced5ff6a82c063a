#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunnel/deadline_watch.h"
#include "tunnel/http_forward.h"
#include "tunnel/http_pool.h"
#include "tunnel/queue_ledger.h"
#include "tunneld/active_users.h"
#include "tunneld/admin/metrics.h"
#include "tunneld/gate.h"
#include "tunneld/upstream/ssh_dialer.h"

namespace tunneld {

/// One thread with its event loop and everything that lives on it: SSH sessions, pooled channels and
/// the public door's handler. Nothing here is shared with another worker.
class Worker {
 public:
  struct Options {
    upstream::Options upstream;
    tunnel::HttpPool::Options pool;
    tunnel::ForwardOptions forward;
    Gate::Options gate;
  };

  Worker(std::size_t index, const Gate::Common& common, admin::Metrics& metrics, tunnel::QueueLedger& queue,
         const Options& options, upstream::SshDialer::Identities identities, upstream::AgentRegistry* agents,
         std::shared_ptr<const Policy> policy);
  /// Stops first if it runs.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  boost::asio::io_context& io() { return io_; }
  Gate& gate() { return gate_; }
  const Gate& gate() const { return gate_; }
  const ActiveUsers& users() const { return users_; }

  /// Starts the thread, with every signal blocked: the control thread takes them.
  void start();
  /// Does something to the gate on its own thread, soon. Any thread.
  void with_gate(std::function<void(Gate&)> change);
  /// Ends SSH sessions and idle channels, lets the loop finish what that wakes, and joins the thread.
  void stop();
  /// When the loop last came round; the watchdog's proof of life.
  std::chrono::steady_clock::time_point last_turn() const {
    return std::chrono::steady_clock::time_point(
        std::chrono::steady_clock::duration(last_turn_.load(std::memory_order_relaxed)));
  }

 private:
  void probe_lag();

  const std::size_t index_;
  admin::Metrics& metrics_;
  boost::asio::io_context io_{1};
  tunnel::DeadlineWatch watch_{io_.get_executor()};
  ActiveUsers users_;
  upstream::SshDialer dialer_;
  tunnel::HttpPool pool_;
  tunnel::HttpForward forward_;
  Gate gate_;
  boost::asio::steady_timer lag_timer_{io_};
  std::atomic<std::chrono::steady_clock::rep> last_turn_{0};
  std::future<void> ended_;
  std::thread thread_;
};

}  // namespace tunneld
