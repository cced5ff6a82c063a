#pragma once

#include <memory>
#include <optional>

#include "tunnel/byte_stream.h"
#include "tunnel/refusal.h"
#include "tunnelctl/client/opening.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// A stream to a service, whose opening line has been sent. Data may be written at once; the server's answer
/// is looked for by the first read, so that opening costs no round trip of its own.
class ServiceStream final : public tunnel::ByteStream {
 public:
  /// `open` counts the streams there are; it is told of the end of this one.
  ServiceStream(std::unique_ptr<tunnel::ByteStream> inner, std::shared_ptr<std::size_t> open);
  ~ServiceStream() override;

  /// Fails when the server refused the stream: refusal() says how.
  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  bool readable() const noexcept override { return inner_->readable(); }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> write_pieces(std::span<const std::span<const std::byte>> pieces) override;
  asio::awaitable<Result<void>> shutdown_write() override;
  void close() noexcept override;

  const std::optional<tunnel::Refusal>& refusal() const { return refusal_; }
  /// It failed because the other side ended this stream, and not because the link ended with all of them.
  bool reset_by_peer() const;
  /// The server has said yes.
  bool granted() const { return answer_.complete() && !refusal_; }

 private:
  std::unique_ptr<tunnel::ByteStream> inner_;
  std::shared_ptr<std::size_t> open_;
  OpeningAnswer answer_{};
  std::optional<tunnel::Refusal> refusal_{};
};

}  // namespace tunnelctl::client
