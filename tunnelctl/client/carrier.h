#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "tunnel/byte_stream.h"
#include "tunnel/http_exchange.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// How a carrier ended, for whoever gave it to a link and cannot ask it any more.
struct CarrierEnd {
  /// Set before the link is closed: the WebSocket then ends with 1000 and its closing handshake, and not by a
  /// cut.
  bool in_good_order = false;
  /// The server's close code, once it has ended; 1006 without one.
  std::optional<std::uint16_t> code{};
  /// What its Close said besides: {"code","retryAfterMs"}, or anything else that fits.
  std::string reason{};
  std::uint64_t bytes_in = 0, bytes_out = 0;  // of the link's frames
  /// While it is there.
  std::weak_ptr<const tunnel::WebSocketStream> socket{};
  /// The connection is gone.
  bool closed = false;
};

/// A WebSocket as a link's carrier, which notes how it ends.
class Carrier final : public tunnel::ByteStream {
 public:
  Carrier(asio::any_io_executor executor, std::unique_ptr<tunnel::WebSocketStream> socket,
          std::shared_ptr<CarrierEnd> end);
  ~Carrier() override;

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  bool readable() const noexcept override { return socket_->readable(); }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> write_pieces(std::span<const std::span<const std::byte>> pieces) override;
  asio::awaitable<Result<void>> shutdown_write() override;
  void close() noexcept override;

 private:
  static asio::awaitable<void> say_goodbye(std::shared_ptr<tunnel::WebSocketStream> socket);

  asio::any_io_executor executor_;
  std::shared_ptr<tunnel::WebSocketStream> socket_;
  std::shared_ptr<CarrierEnd> end_;
  bool closed_ = false;
};

}  // namespace tunnelctl::client
