#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edge/http_connection.h"
#include "tunnel/http_exchange.h"

namespace edge {

/// One request and its answer over an HttpConnection.
class Exchange final : public tunnel::HttpExchange {
 public:
  Exchange(HttpConnection& connection, tunnel::RequestHead head);

  const tunnel::RequestHead& request() const override { return head_; }
  const std::string& peer_address() const override { return connection_.context_.peer_address; }
  const char* scheme() const override { return connection_.transport_->is_tls() ? "https" : "http"; }
  const std::string& correlation_id() const override { return correlation_id_; }
  void authenticated(tunnel::Tier tier) override;
  void serving(std::string_view service) override;
  void identified(std::string_view principal_hash) override;

  asio::awaitable<Result<std::size_t>> read_body(std::span<std::byte> into) override;
  const std::vector<tunnel::Header>& trailers() const override { return trailers_; }
  asio::awaitable<Result<void>> send_interim(const tunnel::ResponseHead& head) override;
  asio::awaitable<Result<void>> send_head(const tunnel::ResponseHead& head) override;
  asio::awaitable<Result<void>> write_body(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> send_head_with(const tunnel::ResponseHead& head,
                                               std::span<const std::byte> body) override;
  asio::awaitable<Result<void>> finish(const std::vector<tunnel::Header>& trailers) override;
  void abort() noexcept override;
  asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> upgrade(
      const tunnel::ResponseHead& head) override;
  asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> accept_websocket(
      const tunnel::WebSocketAccept& accept) override;
  asio::awaitable<Result<void>> accept_websocket_on(
      asio::io_context& home, const tunnel::WebSocketAccept& accept,
      std::function<void(std::unique_ptr<tunnel::WebSocketStream>)> take) override;

  /// Somebody still has to be there for the rest of the answer: not once the answer has left, nor after the
  /// connection was handed over.
  bool needs_caller() const;
  /// Nothing of the request is left to read, so that nothing but the next one can follow.
  bool has_whole_request() const { return body_done_; }
  Transport::Clock::time_point began() const { return began_; }

  /// What the connection does next.
  enum class Fate { keep, close, taken, broken };
  /// After the handler: answers if it did not, drops a small unread body, decides.
  asio::awaitable<Fate> conclude();
  /// Answers with the one error body. `status` overrides the code's.
  asio::awaitable<Result<void>> answer_error(const tunnel::Refusal& refusal,
                                             std::vector<tunnel::Header> fields);

 private:
  enum class Answer { none, streaming, finished, broken, taken };

  asio::awaitable<Result<std::size_t>> read_sized(std::span<std::byte> into);
  asio::awaitable<Result<std::size_t>> read_chunked(std::span<std::byte> into);
  /// Bytes off the connection into `into`: leftover first, then the transport.
  asio::awaitable<Result<std::size_t>> receive(std::span<std::byte> into);
  /// Decides the framing and the connection's fate; the head's text.
  std::string begin_answer(const tunnel::ResponseHead& head);
  /// Checks `bytes` against the announced length before they are sent.
  Result<void> account(std::size_t bytes);
  tl::unexpected<Error> misuse(const char* what);
  asio::awaitable<bool> drop_unread_body();
  /// Sends the 101, or what is wrong with the request; then how the WebSocket is to be set up.
  asio::awaitable<Result<WebSocket::Setup>> answer_websocket(const tunnel::WebSocketAccept& accept);
  bool lives_on(asio::io_context& home) const;

  HttpConnection& connection_;
  tunnel::RequestHead head_;
  std::string correlation_id_;
  Transport::Clock::time_point began_ = Transport::Clock::now();

  std::uint64_t body_left_ = 0;  // SizedBody
  std::optional<tunnel::ChunkDecoder> chunks_;
  bool body_done_ = false;
  bool continue_owed_ = false;
  std::vector<tunnel::Header> trailers_;

  Answer answer_ = Answer::none;
  tunnel::BodyFraming framing_;
  bool bodiless_ = false;  // HEAD, 204, 304
  std::uint64_t answer_left_ = 0;
  bool keep_alive_;
};

}  // namespace edge
