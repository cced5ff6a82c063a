#include "tunnelctl/client/local_streams.h"

#include <fcntl.h>

#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace tunnelctl::client {
namespace {

using boost::system::error_code;

tl::unexpected<Error> failed(const error_code& error) {
  const bool cancelled = error == asio::error::operation_aborted || error == asio::error::bad_descriptor;
  return fail(cancelled ? Error::Kind::cancelled : Error::Kind::unavailable, error.message());
}

template <class From>
asio::awaitable<Result<std::size_t>> read_some(From& from, std::span<std::byte> into) {
  const auto [error, size] = co_await from.async_read_some(asio::buffer(into.data(), into.size()),
                                                           asio::as_tuple(asio::use_awaitable));
  if (error == asio::error::eof) co_return std::size_t{0};
  if (error) co_return failed(error);
  co_return size;
}

template <class To>
asio::awaitable<Result<void>> write_all(To& to, std::span<const std::byte> bytes) {
  const auto [error, size] = co_await asio::async_write(to, asio::buffer(bytes.data(), bytes.size()),
                                                        asio::as_tuple(asio::use_awaitable));
  static_cast<void>(size);
  if (error) co_return failed(error);
  co_return Result<void>{};
}

}  // namespace

TcpStream::TcpStream(asio::ip::tcp::socket socket) : socket_(std::move(socket)) {
  error_code ignored;
  // Keystrokes must not wait for each other.
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
}

asio::awaitable<Result<std::size_t>> TcpStream::read(std::span<std::byte> into) {
  return read_some(socket_, into);
}

asio::awaitable<Result<void>> TcpStream::write(std::span<const std::byte> bytes) {
  return write_all(socket_, bytes);
}

asio::awaitable<Result<void>> TcpStream::shutdown_write() {
  error_code error;
  socket_.shutdown(asio::socket_base::shutdown_send, error);
  if (error) co_return failed(error);
  co_return Result<void>{};
}

void TcpStream::close() noexcept {
  error_code ignored;
  socket_.close(ignored);
}

void TcpStream::reset() noexcept {
  error_code ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);
}

DescriptorStream::DescriptorStream(asio::io_context& io, int in, int out)
    : in_(in),
      out_(out),
      in_flags_(::fcntl(in, F_GETFL)),
      out_flags_(::fcntl(out, F_GETFL)),
      input_(io, ::fcntl(in, F_DUPFD_CLOEXEC, 0)),
      output_(io, ::fcntl(out, F_DUPFD_CLOEXEC, 0)) {}

DescriptorStream::~DescriptorStream() {
  close();
  // Not being blocking belongs to what is open, not to our duplicate.
  if (in_flags_ >= 0) ::fcntl(in_, F_SETFL, in_flags_);
  if (out_flags_ >= 0) ::fcntl(out_, F_SETFL, out_flags_);
}

asio::awaitable<Result<std::size_t>> DescriptorStream::read(std::span<std::byte> into) {
  return read_some(input_, into);
}

asio::awaitable<Result<void>> DescriptorStream::write(std::span<const std::byte> bytes) {
  return write_all(output_, bytes);
}

asio::awaitable<Result<void>> DescriptorStream::shutdown_write() {
  error_code ignored;
  output_.close(ignored);
  co_return Result<void>{};
}

void DescriptorStream::close() noexcept {
  error_code ignored;
  input_.close(ignored);
  output_.close(ignored);
}

}  // namespace tunnelctl::client
