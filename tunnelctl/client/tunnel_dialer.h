#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunnel/dialer.h"
#include "tunnel/fair_queue.h"
#include "tunnel/queue_ledger.h"
#include "tunnel/silent_observer.h"
#include "tunnelctl/client/service_stream.h"

namespace tunnelctl::client {

class Tunnel;

/// Where streams to services come from: a Tunnel, or what a test puts in its place.
struct StreamSource {
  using Clock = std::chrono::steady_clock;
  using Opened = tunnel::Served<std::unique_ptr<ServiceStream>>;
  std::function<asio::awaitable<Opened>(std::string service, tunnel::Priority, Clock::time_point deadline)>
      open;
  /// A stream opened now begins at once.
  std::function<bool()> connected;
};
StreamSource streams_of(Tunnel& tunnel);

/// What one request wants of its streams, and learns of them beyond their bytes. Of the newest one: each
/// open() begins anew.
struct StreamNews {
  /// In: a stream that has carried another request will not do.
  bool only_new = false;
  /// In: waits no longer than that, whatever the deadline of one open().
  std::chrono::steady_clock::time_point wait_until = std::chrono::steady_clock::time_point::max();
  /// The server refused the stream, which shows with its first read: nothing was handed to the service.
  std::optional<tunnel::Refusal> refusal{};
  /// The link ended for good before the first byte of an answer.
  bool link_broke = false;
};

/// Opens streams through the tunnel for HTTP requests, and is where requests wait while there is no
/// connection: in one queue, whose turns are by priority (8:4:1, first come first served inside one), each
/// until its own deadline. Bounded in requests (OpenRequest::queue_capacity) and in the bytes held for them;
/// what does not fit is refused at once. From 95 % on the newest of low priority give way to others, and are
/// told.
///
/// Once connected those that wait are let go, at most Options::let_go at a time: one is on its way until its
/// answer has begun. While nobody waits, nothing is held back.
///
/// open() asks for the stream and does not wait for the server's answer to that: StreamNews says what it was.
///
/// Threads: the context's one. Streams may outlive the dialer; nobody may wait in open() when it goes away.
class TunnelDialer final : public tunnel::Dialer {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    /// Heads and small bodies of all that wait.
    std::size_t queue_bytes = 16 * 1024 * 1024;
    std::size_t let_go = 10;
    /// After the tunnel gave no stream though it seemed connected: its end may not have been noticed yet.
    std::chrono::milliseconds breath{100};
  };
  /// `on_level` is told when the queue's level changes; `fill` is 0 to 1.
  TunnelDialer(asio::io_context& io, StreamSource source, Options options,
               std::function<void(tunnel::FlowLevel, double fill)> on_level = {});
  ~TunnelDialer() override;

  /// Refuses with queue_full, timed_out, or unavailable after close().
  asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open(
      const tunnel::OpenRequest& request) override;
  Offer offer(std::string_view group, std::string_view reuse_key,
              std::unique_ptr<tunnel::ByteStream>& stream) override;

  /// As long as it lives, `news` speaks of streams opened for requests that name this very Service.
  class Attention {
   public:
    Attention(TunnelDialer& dialer, const tunnel::Service& service, std::shared_ptr<StreamNews> news);
    ~Attention();
    Attention(const Attention&) = delete;
    Attention& operator=(const Attention&) = delete;

   private:
    TunnelDialer& dialer_;
    const tunnel::Service& service_;
  };

  /// The source connected, or lost its connection.
  void source_changed();
  /// Nobody is let go before then: the server asked for it.
  void hold_until(Clock::time_point time);
  /// Streams are used once from here on, so that none is kept that nobody needs.
  void keep_none();
  /// Refuses those that wait and whoever comes, and closes all streams.
  void close();

  std::size_t waiting() const { return queue_.size(); }
  /// Let go, and their answer has not begun.
  std::size_t on_their_way() const;

 private:
  class Stream;
  struct Going;
  struct Shared;
  struct Standing;
  struct Waiter;
  using Queue = tunnel::PriorityQueue<std::shared_ptr<Waiter>>;

  bool ready() const;
  asio::awaitable<tunnel::Served<std::shared_ptr<Waiter>>> wait_turn(const tunnel::OpenRequest& request,
                                                                     std::shared_ptr<StreamNews> news);
  /// Lets go whom there is room for.
  void serve();
  /// The one whose turn it is, off the books; null if nobody waits.
  std::shared_ptr<Waiter> take_next();
  void fail(Waiter& waiter, tunnel::Refusal why, tunnel::QueueExit how);

  asio::io_context& io_;
  const Options options_;
  const std::shared_ptr<Shared> shared_;
  tunnel::SilentObserver observer_;
  tunnel::QueueLedger ledger_;
  Queue queue_;
  std::map<const tunnel::Service*, std::shared_ptr<StreamNews>> attended_;
  Clock::time_point held_until_{};
  asio::steady_timer hold_timer_;
  bool closed_ = false;
};

}  // namespace tunnelctl::client
