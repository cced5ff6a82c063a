#include "tunnelctl/client/pace.h"

#include <algorithm>
#include <random>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tunnelctl::client {
namespace {

std::function<double()> system_random() {
  // Seeded by the system: machines that start together must not try together.
  auto engine = std::make_shared<std::mt19937>(std::random_device{}());
  return [engine] { return std::uniform_real_distribution<double>(0, 1)(*engine); };
}

}  // namespace

Pace::Pace(asio::io_context& io, Backoff::Options options, Backoff::First first,
           std::function<double()> random)
    : backoff_(options, first),
      random_(random ? std::move(random) : system_random()),
      timer_(io),
      watch_(io, [this] { network_changed(); }) {}

Pace::~Pace() = default;

asio::awaitable<std::optional<Pace::Turn>> Pace::turn(Advice advice) {
  using Clock = Backoff::Clock;
  const auto began = Clock::now();
  const auto next = backoff_.next(began, random_(), advice);
  if (!next) co_return std::nullopt;
  auto due = began + next->delay;
  cancelled_ = false;
  bool hurried = false;
  while (Clock::now() < due) {
    // What changed during the last try counts too: it may have begun a moment too early.
    if (changed_ && next->may_hurry && !hurried) {
      hurried = true;
      due = std::min(due, Clock::now() + backoff_.hurried_delay(Clock::now()));
      continue;
    }
    timer_.expires_at(due);
    waiting_ = true;
    co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
    waiting_ = false;
    const auto state = co_await asio::this_coro::cancellation_state;
    if (!cancelled_ && state.cancelled() == asio::cancellation_type::none) continue;
    backoff_.withdraw();
    co_return std::nullopt;
  }
  changed_ = false;
  const auto now = Clock::now();
  backoff_.begin(now);
  co_return Turn{next->attempt, std::chrono::duration_cast<std::chrono::milliseconds>(now - began), hurried};
}

void Pace::connected() {
  backoff_.connected(Backoff::Clock::now());
  changed_ = false;
}

void Pace::cancel() {
  cancelled_ = true;
  timer_.cancel();
}

void Pace::network_changed() {
  changed_ = true;
  if (waiting_) timer_.cancel();
  if (listener_) listener_();
}

}  // namespace tunnelctl::client
