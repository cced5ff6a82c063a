#pragma once

#include <memory>
#include <string>

#include "edge/transport.h"
#include "tunnel/byte_stream.h"

namespace edge {

/// An upgraded connection as bytes. Reads never time out by themselves: the relay watches idleness.
class RawStream final : public tunnel::ByteStream {
 public:
  /// `early` is what the caller sent after its request's head.
  RawStream(std::shared_ptr<Transport> transport, std::string early);
  ~RawStream() override;

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> shutdown_write() override;
  void close() noexcept override;

 private:
  std::shared_ptr<Transport> transport_;
  std::string early_;
};

}  // namespace edge
