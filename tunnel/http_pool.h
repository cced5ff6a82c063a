#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tunnel/deadline_watch.h"
#include "tunnel/dialer.h"

namespace tunnel {

/// Idle keep-alive channels to services, per principal: never does one principal's request travel on
/// another's channel. One per thread.
class HttpPool {
 public:
  struct Options {
    /// Common servers close after 5 s (Node, Apache, uvicorn): below that, so that a request seldom
    /// meets a channel that is being closed. nginx (75 s) and Go (none) lose little: a new channel
    /// costs one round trip within an SSH session that stays.
    std::chrono::milliseconds idle_limit{4000};
    /// As many as the dialer opens for one principal by default: closing a channel only to open it again
    /// for the next request would cost four times the request. An idle channel holds no data.
    std::size_t max_idle_per_service = 80;
    std::size_t max_idle = 1024;
  };

  /// A channel lent for one request. Destroying it closes it; give it back with put().
  struct Lease {
    std::unique_ptr<ByteStream> stream;
    std::string key;  // its first group_bytes are the channel_group()
    std::size_t group_bytes = 0;
    bool reused = false;  // has carried a request before: its peer may be closing it
  };

  enum class Source { idle_or_new, new_only };

  /// `dialer` and `watch` outlive the pool.
  HttpPool(Dialer& dialer, DeadlineWatch& watch, Options options);
  ~HttpPool();

  /// The most recently used idle channel that has neither ended nor anything unread; else what
  /// Dialer::open() gives or refuses: a new one, or one that another request gives back meanwhile, when
  /// the request's turn has come. `reuse_key` of the request is the pool's to set.
  asio::awaitable<Served<Lease>> take(OpenRequest request, Source source);

  /// For a channel whose last answer was read to its end and that both sides keep alive. Goes to whoever
  /// waits and has the next turn; is kept idle only while nobody waits.
  void put(Lease lease);

  std::size_t idle() const { return idle_count_; }
  /// Closes every idle channel (draining, or the services changed).
  void clear();

 private:
  struct Idle {
    std::unique_ptr<ByteStream> stream;
    DeadlineWatch::Clock::time_point until;
  };
  /// Wakes when the channel that is idle longest may have to go.
  struct Sweep : DeadlineWatch::Entry {
    explicit Sweep(HttpPool& owner) : pool(owner) {}
    void expired() override { pool.sweep(); }
    HttpPool& pool;
  };

  void sweep();
  /// Closes the channel of `group` that is idle longest; false if there is none.
  bool close_idle_of(std::string_view group);

  Dialer& dialer_;
  DeadlineWatch& watch_;
  Options options_;
  std::unordered_map<std::string, std::vector<Idle>> idle_;  // each oldest first
  std::size_t idle_count_ = 0;
  bool sweeping_ = false;
  Sweep sweep_{*this};
};

}  // namespace tunnel
