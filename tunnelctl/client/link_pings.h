#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "link/link.h"
#include "link/yamux.h"
#include "tunnel/byte_stream.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// Stands between a link and the Mux that it carries, and sends yamux pings of its own between the Mux's
/// frames: a Mux pings only while something moves, and tells no single round trip.
/// Threads: the link's one.
class PingedLink final : public tunnel::ByteStream {
 public:
  explicit PingedLink(std::shared_ptr<links::Link> link) : link_(std::move(link)) {}

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> shutdown_write() override { return link_->shutdown_write(); }
  void close() noexcept override { link_->close(); }

  /// False while a write of the Mux is under way (a frame would land in another's middle), and once the link
  /// is over. Values must be none of the Mux's, which counts from 1.
  bool ping(std::uint32_t value);
  /// Told of every answer to a ping, the Mux's too.
  void on_pong(std::function<void(std::uint32_t value)> listener) { listener_ = std::move(listener); }

 private:
  void look_at(std::span<const std::byte> bytes);
  void look_at_header();

  std::shared_ptr<links::Link> link_;
  std::function<void(std::uint32_t)> listener_;
  bool writing_ = false;
  std::array<std::byte, yamux::kHeaderBytes> header_{};
  std::size_t header_bytes_ = 0;
  std::size_t payload_left_ = 0;
};

}  // namespace tunnelctl::client
