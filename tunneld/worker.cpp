#include "tunneld/worker.h"

#include <pthread.h>
#include <signal.h>

#include <string>
#include <utility>

#include <boost/asio/post.hpp>

namespace tunneld {

namespace {

using Clock = std::chrono::steady_clock;

/// How late this timer fires is how late every event of the loop may be.
constexpr std::chrono::milliseconds kProbeEvery{500};
/// What closing wakes (sessions saying goodbye) is over in a few turns of the loop.
constexpr std::chrono::milliseconds kLastTurns{500};

}  // namespace

Worker::Worker(std::size_t index, const Gate::Common& common, admin::Metrics& metrics,
               tunnel::QueueLedger& queue, const Options& options, upstream::SshDialer::Identities identities,
               upstream::AgentRegistry* agents, std::shared_ptr<const Policy> policy)
    : index_(index),
      metrics_(metrics),
      dialer_(io_, options.upstream, std::move(identities), queue, metrics, agents),
      pool_(dialer_, watch_, options.pool),
      forward_(pool_, watch_, metrics, options.forward),
      gate_(common, io_, dialer_, forward_, watch_, users_, std::move(policy), options.gate) {}

Worker::~Worker() {
  stop();
}

void Worker::start() {
  last_turn_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
  lag_timer_.expires_after(kProbeEvery);
  probe_lag();
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::promise<void> ended;
  ended_ = ended.get_future();
  thread_ = std::thread([this, ended = std::move(ended)]() mutable {
    io_.run();
    ended.set_value_at_thread_exit();
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  const auto name = "worker-" + std::to_string(index_);
  ::pthread_setname_np(thread_.native_handle(), name.c_str());
}

void Worker::probe_lag() {
  lag_timer_.async_wait([this](boost::system::error_code error) {
    if (error) return;
    const auto now = Clock::now();
    metrics_.loop_lagged(index_, now - lag_timer_.expiry());
    last_turn_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
    lag_timer_.expires_at(now + kProbeEvery);
    probe_lag();
  });
}

void Worker::with_gate(std::function<void(Gate&)> change) {
  boost::asio::post(io_, [this, change = std::move(change)] { change(gate_); });
}

void Worker::stop() {
  if (!thread_.joinable()) return;
  boost::asio::post(io_, [this] {
    lag_timer_.cancel();
    gate_.close_links();
    pool_.clear();
    dialer_.close();
  });
  // A loop without work returns by itself; what does not end is cut off.
  if (ended_.wait_for(kLastTurns) != std::future_status::ready) io_.stop();
  thread_.join();
}

}  // namespace tunneld
