#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunnelctl/client/backoff.h"
#include "tunnelctl/client/network_watch.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// Waits between tries as Backoff says, and less when the network changes (NetworkWatch).
/// Threads: the context's one. One turn() at a time.
class Pace {
 public:
  /// `random` evenly over [0, 1); null: the system's randomness.
  Pace(asio::io_context& io, Backoff::Options options, Backoff::First first,
       std::function<double()> random = {});
  ~Pace();
  Pace(const Pace&) = delete;
  Pace& operator=(const Pace&) = delete;

  struct Turn {
    unsigned attempt = 1;
    std::chrono::milliseconds waited{};
    bool network_changed = false;  // which cut the wait short
  };
  /// Returns when the next try is due; nullopt: give up, or cancelled (by the coroutine or by cancel()).
  asio::awaitable<std::optional<Turn>> turn(Advice advice = {});
  /// Ends the turn() that waits, with nullopt: what it waits for is of no use any more.
  void cancel();

  void connected();
  void lost() { backoff_.lost(Backoff::Clock::now()); }
  /// See Backoff.
  void hold_on_until(Backoff::Clock::time_point time) { backoff_.hold_on_until(time); }
  /// Told of each change of the network, too.
  void on_network_change(std::function<void()> listener) { listener_ = std::move(listener); }
  /// As rtnetlink would say it.
  void network_changed();

 private:
  Backoff backoff_;
  std::function<double()> random_;
  asio::steady_timer timer_;
  bool waiting_ = false;
  bool cancelled_ = false;
  bool changed_ = false;  // since the last try began
  std::function<void()> listener_;
  NetworkWatch watch_;
};

}  // namespace tunnelctl::client
