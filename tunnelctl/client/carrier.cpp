#include "tunnelctl/client/carrier.h"

#include <exception>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tunnelctl::client {

Carrier::Carrier(asio::any_io_executor executor, std::unique_ptr<tunnel::WebSocketStream> socket,
                 std::shared_ptr<CarrierEnd> end)
    : executor_(std::move(executor)), socket_(std::move(socket)), end_(std::move(end)) {
  end_->socket = socket_;
}

Carrier::~Carrier() {
  close();
}

asio::awaitable<Result<std::size_t>> Carrier::read(std::span<std::byte> into) {
  const auto socket = socket_;
  const auto end = end_;
  auto got = co_await socket->read(into);
  if (got && *got > 0) {
    end->bytes_in += *got;
    co_return got;
  }
  auto ending = socket->ending();
  if (end->code) co_return got;
  end->code = ending.by_peer ? ending.code : std::uint16_t{1006};
  if (ending.by_peer) end->reason = std::move(ending.reason);
  co_return got;
}

asio::awaitable<Result<void>> Carrier::write(std::span<const std::byte> bytes) {
  end_->bytes_out += bytes.size();
  return socket_->write(bytes);
}

asio::awaitable<Result<void>> Carrier::write_pieces(std::span<const std::span<const std::byte>> pieces) {
  for (const auto piece : pieces) end_->bytes_out += piece.size();
  return socket_->write_pieces(pieces);
}

asio::awaitable<Result<void>> Carrier::shutdown_write() {
  if (end_->in_good_order) co_return co_await socket_->shutdown_write();
  // The server ended the link, and its Close, which says why, is on its way: one of ours would hide it.
  co_return Result<void>{};
}

void Carrier::close() noexcept {
  if (std::exchange(closed_, true)) return;
  const auto gone = [end = end_] { end->closed = true; };
  if (!end_->in_good_order) {
    socket_->close();
    return gone();
  }
  asio::co_spawn(executor_, say_goodbye(socket_), [gone](const std::exception_ptr&) { gone(); });
}

asio::awaitable<void> Carrier::say_goodbye(std::shared_ptr<tunnel::WebSocketStream> socket) {
  co_await socket->close_with(1000, "");
}

}  // namespace tunnelctl::client
