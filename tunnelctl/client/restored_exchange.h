#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnel/http_exchange.h"
#include "tunnelctl/client/kept_request.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// A kept request on its way, without a caller: its answer is read and goes nowhere; what counts is that
/// there was one. Made anew for each try.
class RestoredExchange final : public tunnel::HttpExchange {
 public:
  /// `request` outlives it.
  explicit RestoredExchange(const KeptRequest& request) : request_(request) {}

  /// Of the answer that was begun; nullopt before one was.
  std::optional<unsigned> status() const { return status_; }

  const tunnel::RequestHead& request() const override { return request_.head; }
  const std::string& peer_address() const override { return request_.peer_address; }
  const char* scheme() const override { return "http"; }
  const std::string& correlation_id() const override { return request_.request_id; }

  asio::awaitable<Result<std::size_t>> read_body(std::span<std::byte> into) override;
  const std::vector<tunnel::Header>& trailers() const override;
  asio::awaitable<Result<void>> send_interim(const tunnel::ResponseHead& head) override;
  asio::awaitable<Result<void>> send_head(const tunnel::ResponseHead& head) override;
  asio::awaitable<Result<void>> write_body(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> send_head_with(const tunnel::ResponseHead& head,
                                               std::span<const std::byte> body) override;
  asio::awaitable<Result<void>> finish(const std::vector<tunnel::Header>& trailers) override;
  void abort() noexcept override {}

  // A request that was kept asks for none of these.
  asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> upgrade(
      const tunnel::ResponseHead& head) override;
  asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> accept_websocket(
      const tunnel::WebSocketAccept& accept) override;
  asio::awaitable<Result<void>> accept_websocket_on(
      asio::io_context& home, const tunnel::WebSocketAccept& accept,
      std::function<void(std::unique_ptr<tunnel::WebSocketStream>)> take) override;

 private:
  const KeptRequest& request_;
  std::size_t at_ = 0;
  std::optional<unsigned> status_{};
};

}  // namespace tunnelctl::client
