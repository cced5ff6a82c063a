#pragma once

#include <cstddef>
#include <span>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"

namespace tunnel {

namespace asio = boost::asio;

/// One bidirectional, ordered, reliable stream of bytes: an SSH channel, a caller's WebSocket,
/// an upgraded HTTP connection. `edge/` and `ssh/` implement it and never see each other.
///
/// Threads: a stream lives on one io_context run by one thread; every call comes from there.
/// At most one read and one write may be under way at a time, and they may overlap each other.
/// Cancellation: operations honour the coroutine's cancellation (terminal); a cancelled operation
/// returns Error::Kind::cancelled, after which only close() may be called.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  /// Waits for at least one byte and returns how many were stored (never more than `into`).
  /// 0 means the peer ended its direction (half-close); the other direction stays usable.
  virtual asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) = 0;

  /// True if read() would return without waiting: bytes, the peer's end or an error have arrived.
  /// Pools ask before they use an idle stream again; a stream that cannot tell says false.
  virtual bool readable() const noexcept { return false; }

  /// Returns once all of `bytes` is accepted for sending. Backpressure lives here: it does not
  /// return while the peer's window or our bounded output buffer is full.
  virtual asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) = 0;

  /// The same for pieces that belong together, such as headers and their payloads: a stream that knows how
  /// sends them as one. They and the array stay until it returns.
  virtual asio::awaitable<Result<void>> write_pieces(std::span<const std::span<const std::byte>> pieces) {
    for (const auto piece : pieces) {
      auto sent = co_await write(piece);
      if (!sent) co_return sent;
    }
    co_return Result<void>{};
  }

  /// Ends our direction; the peer reads 0 after the bytes already written.
  virtual asio::awaitable<Result<void>> shutdown_write() = 0;

  /// Ends both directions at once and wakes pending operations with `cancelled`. Idempotent.
  virtual void close() noexcept = 0;
};

}  // namespace tunnel
