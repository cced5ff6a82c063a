#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "link/link_frames.h"
#include "tunnel/byte_stream.h"

namespace links {

namespace asio = boost::asio;

struct LinkOptions {
  /// Without a carrier for that long the link is over. A server's choice: a client takes the server's.
  std::chrono::milliseconds window{60'000};
  /// Sent and not acknowledged, at most: what a replay needs. It is taken only as far as it is used, and
  /// must hold what is under way on the path (400 MiB/s at 40 ms are 16 MiB).
  std::size_t max_unacknowledged = 32 * 1024 * 1024;
  /// Written and not given to the carrier, at most, before writers wait.
  std::size_t max_unsent = 256 * 1024;
  /// What the peer's HELLO and WELCOME may take.
  std::chrono::milliseconds handshake_timeout{10'000};
  /// What was written before close() may take that long to leave.
  std::chrono::milliseconds farewell_limit{5'000};
};

/// A stream of bytes that survives the connections it travels over (docs/api/links.md). Carriers, such as
/// WebSockets, come and go; what is written on one side is read on the other, once and in order, or the link
/// ends and both sides learn it.
///
/// Somebody must read() all the time: acknowledgements arrive that way.
/// Threads: one. Cancellation as in ByteStream. shutdown_write() is refused: a link ends as a whole.
/// Lifetime: to be closed before its io_context goes; who waits on it is else never let go.
class Link final : public tunnel::ByteStream, public std::enable_shared_from_this<Link> {
 public:
  using Clock = std::chrono::steady_clock;
  enum class State { attached, detached, over };

  // ---- the server's side ----
  /// Speaks first on a new carrier; the client must want a new link. Fails with what the carrier or the
  /// client did wrong.
  static asio::awaitable<Result<std::shared_ptr<Link>>> accept(asio::any_io_executor executor,
                                                               std::unique_ptr<tunnel::ByteStream> carrier,
                                                               LinkOptions options);
  /// A client came back on a new carrier, which takes the place of the one before even if that is not known
  /// to be broken. denied: the client could not prove that the link is its own (it has been told so); the
  /// link is as it was.
  asio::awaitable<Result<void>> accept_again(std::unique_ptr<tunnel::ByteStream> carrier);

  // ---- the client's side ----
  static asio::awaitable<Result<std::shared_ptr<Link>>> connect(asio::any_io_executor executor,
                                                                std::unique_ptr<tunnel::ByteStream> carrier,
                                                                LinkOptions options);
  /// Goes on over a new carrier. not_found: the server will not resume it (GONE); the link is over.
  asio::awaitable<Result<void>> resume(std::unique_ptr<tunnel::ByteStream> carrier);

  ~Link() override;

  // ByteStream
  /// Waits through cuts. Fails once the link is over; 0 when the peer ended it in good order.
  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> shutdown_write() override;
  /// Ends the link for good. With a carrier the peer gets what was written before and then GONE, if the
  /// carrier takes it within 5 s; a read that waits on the carrier ends with `cancelled` when that is done.
  void close() noexcept override;

  /// Takes bytes without waiting, in order with write(); false once the link is over. For who keeps to
  /// unsent() and wait_sendable() himself.
  bool append(std::span<const std::byte> head, std::span<const std::byte> body);
  std::size_t unsent() const;
  /// unsent() is below the bound, and there is room to keep more.
  bool sendable() const;
  /// Returns when it is sendable(); false once the link is over.
  asio::awaitable<bool> wait_sendable();

  /// Gives the carrier up as if it had broken: for who knows better than the carrier does.
  void detach(std::string_view why);
  /// Told when the carrier is lost (false, and why) and when there is one again (true). May be null.
  void on_attached(std::function<void(bool attached, std::string_view why)> listener);
  /// Told once when the link is over.
  void on_over(std::function<void(std::string_view why)> listener);

  State state() const;
  const SessionId& id() const;
  std::chrono::milliseconds window() const;
  /// Kept for a replay now.
  std::size_t unacknowledged() const;
  std::uint64_t resumes() const;
  /// Why it is over; empty before.
  const std::string& why_over() const;
  /// It is over because the peer said so (GONE), in good order or not.
  bool ended_by_peer() const;
  tunnel::ByteStream* carrier();  // null while there is none

 private:
  struct Impl;
  explicit Link(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;  // also held by what is under way
};

}  // namespace links
