#pragma once

#include <memory>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "tunnel/byte_stream.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// This machine's end of what is carried.
class LocalStream : public tunnel::ByteStream {
 public:
  /// Ends it so that the other side sees a broken connection, where there is a way to say so, and not a short
  /// one.
  virtual void reset() noexcept { close(); }
};

/// A TCP connection of this machine.
class TcpStream final : public LocalStream {
 public:
  explicit TcpStream(asio::ip::tcp::socket socket);

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> shutdown_write() override;
  void close() noexcept override;
  void reset() noexcept override;

 private:
  asio::ip::tcp::socket socket_;
};

/// Two descriptors as one stream, such as standard input and output. They are not blocking as long as it
/// lives, for whoever shares them too, and are as before afterwards.
class DescriptorStream final : public LocalStream {
 public:
  /// Uses duplicates: the descriptors stay open.
  DescriptorStream(asio::io_context& io, int in, int out);
  ~DescriptorStream() override;

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> shutdown_write() override;
  void close() noexcept override;

 private:
  const int in_, out_;
  const int in_flags_, out_flags_;
  asio::posix::stream_descriptor input_;
  asio::posix::stream_descriptor output_;
};

}  // namespace tunnelctl::client
