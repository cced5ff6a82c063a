#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "tunnel/byte_stream.h"

namespace support {

namespace asio = boost::asio;
using tunnel::ByteStream;

/// One direction of a MemoryStream: a bounded queue whose ends can wait.
struct MemoryPipe {
  MemoryPipe(const asio::any_io_executor& executor, std::size_t limit)
      : capacity(limit),
        changed_for_reader(executor, asio::steady_timer::time_point::max()),
        changed_for_writer(executor, asio::steady_timer::time_point::max()) {}

  void wake() {
    changed_for_reader.cancel();
    changed_for_writer.cancel();
  }

  std::size_t capacity;
  std::string bytes;
  bool ended = false;   // the writer said it has no more
  bool broken = false;  // either side closed: reading what is left works, then fails unless ended
  asio::steady_timer changed_for_reader;
  asio::steady_timer changed_for_writer;
};

/// One end of an in-memory connection. Behaves as ByteStream promises: backpressure, half-close,
/// cancellation; close() is seen by the peer as a reset unless it had ended its direction.
class MemoryStream : public ByteStream {
 public:
  MemoryStream(std::shared_ptr<MemoryPipe> in, std::shared_ptr<MemoryPipe> out)
      : in_(std::move(in)), out_(std::move(out)) {}
  ~MemoryStream() override { close(); }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    while (in_->bytes.empty() && !in_->ended && !in_->broken && !closed_)
      if (!co_await wait(in_->changed_for_reader)) co_return fail(Error::Kind::cancelled, "read cancelled");
    if (closed_) co_return fail(Error::Kind::cancelled, "read on a closed stream");
    if (in_->bytes.empty() && in_->ended) co_return std::size_t{0};
    if (in_->bytes.empty()) co_return fail(Error::Kind::unavailable, "connection reset");
    const auto size = std::min({into.size(), in_->bytes.size(), most_per_read});
    std::memcpy(into.data(), in_->bytes.data(), size);
    in_->bytes.erase(0, size);
    in_->changed_for_writer.cancel();
    co_return size;
  }

  bool readable() const noexcept override { return !in_->bytes.empty() || in_->ended || in_->broken; }

  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    ++writes;
    while (!bytes.empty()) {
      while (out_->bytes.size() >= out_->capacity && !out_->broken && !closed_)
        if (!co_await wait(out_->changed_for_writer))
          co_return fail(Error::Kind::cancelled, "write cancelled");
      if (closed_) co_return fail(Error::Kind::cancelled, "write on a closed stream");
      if (out_->broken) co_return fail(Error::Kind::unavailable, "broken pipe");
      const auto size = std::min(bytes.size(), out_->capacity - out_->bytes.size());
      out_->bytes.append(reinterpret_cast<const char*>(bytes.data()), size);
      bytes = bytes.subspan(size);
      out_->changed_for_reader.cancel();
    }
    co_return Result<void>{};
  }

  asio::awaitable<Result<void>> shutdown_write() override {
    out_->ended = true;
    out_->wake();
    co_return Result<void>{};
  }

  void close() noexcept override {
    if (closed_) return;
    closed_ = true;
    in_->broken = out_->broken = true;
    in_->wake();
    out_->wake();
  }

  std::size_t most_per_read = std::size_t{1} << 30;  // set to 1 for a dribbling peer
  unsigned writes = 0;

 private:
  /// False when the coroutine was cancelled rather than woken.
  static asio::awaitable<bool> wait(asio::steady_timer& changed) {
    co_await changed.async_wait(asio::as_tuple(asio::use_awaitable));
    co_return (co_await asio::this_coro::cancellation_state).cancelled() == asio::cancellation_type::none;
  }

  std::shared_ptr<MemoryPipe> in_;
  std::shared_ptr<MemoryPipe> out_;
  bool closed_ = false;
};

/// Two connected ends; each direction holds at most `capacity` unread bytes.
inline std::pair<std::unique_ptr<MemoryStream>, std::unique_ptr<MemoryStream>> memory_streams(
    const asio::any_io_executor& executor, std::size_t capacity = 64 * 1024) {
  auto there = std::make_shared<MemoryPipe>(executor, capacity);
  auto back = std::make_shared<MemoryPipe>(executor, capacity);
  return {std::make_unique<MemoryStream>(back, there), std::make_unique<MemoryStream>(there, back)};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// Reads until the peer's end or a failure.
inline asio::awaitable<std::string> read_all(ByteStream& stream) {
  std::string all;
  std::array<std::byte, 8192> buffer;
  for (;;) {
    const auto got = co_await stream.read(buffer);
    if (!got || *got == 0) co_return all;
    all.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
}

/// Reads until `wanted` bytes, the peer's end or a failure.
inline asio::awaitable<std::string> read_exactly(ByteStream& stream, std::size_t wanted) {
  std::string all;
  std::array<std::byte, 8192> buffer;
  while (all.size() < wanted) {
    const auto got =
        co_await stream.read(std::span(buffer).first(std::min(buffer.size(), wanted - all.size())));
    if (!got || *got == 0) break;
    all.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
  co_return all;
}

}  // namespace support
