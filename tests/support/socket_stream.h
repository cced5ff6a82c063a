#pragma once

#include <memory>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "tunnel/byte_stream.h"

namespace support {

namespace asio = boost::asio;

/// A local socket as a tunnel::ByteStream.
class SocketStream final : public tunnel::ByteStream {
 public:
  using Socket = asio::local::stream_protocol::socket;
  explicit SocketStream(Socket socket) : socket_(std::move(socket)) {}

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    const auto [error, size] = co_await socket_.async_read_some(asio::buffer(into.data(), into.size()),
                                                                asio::as_tuple(asio::use_awaitable));
    if (error == asio::error::eof) co_return std::size_t{0};
    if (error) co_return failure(error);
    co_return size;
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    const auto [error, size] = co_await asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()),
                                                          asio::as_tuple(asio::use_awaitable));
    if (error) co_return failure(error);
    co_return Result<void>{};
  }
  asio::awaitable<Result<void>> shutdown_write() override {
    boost::system::error_code error;
    socket_.shutdown(Socket::shutdown_send, error);
    if (error) co_return failure(error);
    co_return Result<void>{};
  }
  void close() noexcept override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  static tl::unexpected<Error> failure(const boost::system::error_code& error) {
    const bool cancelled = error == asio::error::operation_aborted;
    return fail(cancelled ? Error::Kind::cancelled : Error::Kind::unavailable, error.message());
  }
  Socket socket_;
};

}  // namespace support
