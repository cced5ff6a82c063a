#include "tunnelctl/client/restored_exchange.h"

#include <algorithm>
#include <cstring>

namespace tunnelctl::client {
namespace {

tl::unexpected<Error> nobody_there() {
  return fail(Error::Kind::bug, "a kept request has nobody who could speak another protocol");
}

}  // namespace

asio::awaitable<Result<std::size_t>> RestoredExchange::read_body(std::span<std::byte> into) {
  const auto size = std::min(into.size(), request_.body.size() - at_);
  if (size > 0) std::memcpy(into.data(), request_.body.data() + at_, size);
  at_ += size;
  co_return size;
}

const std::vector<tunnel::Header>& RestoredExchange::trailers() const {
  static const std::vector<tunnel::Header> none;
  return none;
}

asio::awaitable<Result<void>> RestoredExchange::send_interim(const tunnel::ResponseHead&) {
  co_return Result<void>();
}

asio::awaitable<Result<void>> RestoredExchange::send_head(const tunnel::ResponseHead& head) {
  status_ = head.status;
  co_return Result<void>();
}

asio::awaitable<Result<void>> RestoredExchange::write_body(std::span<const std::byte>) {
  co_return Result<void>();
}

asio::awaitable<Result<void>> RestoredExchange::send_head_with(const tunnel::ResponseHead& head,
                                                               std::span<const std::byte>) {
  status_ = head.status;
  co_return Result<void>();
}

asio::awaitable<Result<void>> RestoredExchange::finish(const std::vector<tunnel::Header>&) {
  co_return Result<void>();
}

asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> RestoredExchange::upgrade(
    const tunnel::ResponseHead&) {
  co_return nobody_there();
}

asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> RestoredExchange::accept_websocket(
    const tunnel::WebSocketAccept&) {
  co_return nobody_there();
}

asio::awaitable<Result<void>> RestoredExchange::accept_websocket_on(
    asio::io_context&, const tunnel::WebSocketAccept&,
    std::function<void(std::unique_ptr<tunnel::WebSocketStream>)>) {
  co_return nobody_there();
}

}  // namespace tunnelctl::client
