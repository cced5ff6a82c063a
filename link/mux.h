#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "link/yamux.h"
#include "tunnel/byte_stream.h"

namespace links {

namespace asio = boost::asio;

/// What Mux::open() and Mux::on_stream() hand out.
class MuxStream : public tunnel::ByteStream {
 public:
  /// It failed because the peer reset it, and not because the carrier ended under all of them.
  virtual bool reset_by_peer() const = 0;
};

class Link;

/// Many streams over one (yamux). Each is a MuxStream with half-close and a window of its own: one
/// whose reader is slow stops its own sender and nobody else.
///
/// Frames of a ready batch leave together, in one write of the carrier. Streams that write take turns, a
/// frame of 64 KiB at most, so that small ones pass between bulk.
///
/// A stream's end: read() gives 0 behind the peer's shutdown_write(); destroying or closing a stream of which
/// either direction is open resets it, and the other side fails with `unavailable`, "reset by the peer" (but
/// reads what had arrived, if its end had arrived as well); MuxStream::reset_by_peer() tells that apart.
///
/// Threads: one. Streams may outlive the Mux; they then fail with `cancelled`.
class Mux {
 public:
  struct Options {
    yamux::Role role = yamux::Role::client;
    yamux::Options yamux{};
    /// Between pings that measure the round trip, while something moves. Zero: none, and windows do not grow.
    std::chrono::milliseconds ping_every{5'000};
    /// What telling the peer of its fault may take, before run() ends.
    std::chrono::milliseconds farewell_timeout{1'000};
  };
  /// `carrier` outlives run().
  Mux(asio::any_io_executor executor, tunnel::ByteStream& carrier, Options options);
  /// The same over a link, whose own buffer takes the frames: what streams write is copied once, not twice.
  Mux(asio::any_io_executor executor, Link& link, Options options);
  ~Mux();
  Mux(const Mux&) = delete;
  Mux& operator=(const Mux&) = delete;

  /// Told of each stream that the peer opens, before its first bytes; none: they are reset. Called within
  /// run(); must not destroy the Mux.
  void on_stream(std::function<void(std::unique_ptr<tunnel::ByteStream>)> listener);

  /// Reads and writes the carrier until it ends; all streams are then broken, but what has arrived can be
  /// read. The error says what was wrong with the carrier (as the carrier put it) or with what came over it
  /// (bad_input), or that somebody called close() (cancelled). Success: both sides had said go-away and the
  /// last stream has ended, or the carrier ended with no stream open. Once only. Does not close the carrier.
  asio::awaitable<Result<void>> run();

  /// A new stream, at once: nothing is waited for, its first bytes travel with the opening. `unavailable`
  /// after a go-away, when the carrier has ended, or at the limit of streams.
  Result<std::unique_ptr<tunnel::ByteStream>> open();

  /// No new streams in either direction from here on; those that are open go on.
  void go_away(yamux::GoAway reason = yamux::GoAway::normal);
  /// Breaks all streams off and ends run().
  void close() noexcept;

  std::size_t streams() const;
  /// Of the last ping, with what it waited for behind other frames; zero before the first answer.
  std::chrono::steady_clock::duration round_trip() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace links
