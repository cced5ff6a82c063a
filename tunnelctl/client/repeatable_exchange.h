#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tunnel/http_exchange.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// A caller's request that can be sent again as long as its body is at hand and it got no answer.
class RepeatableExchange final : public tunnel::HttpExchange {
 public:
  /// As much of a body as HttpForward takes for small.
  static constexpr std::size_t kAtHand = 16 * 1024;

  /// `caller` outlives it.
  explicit RepeatableExchange(tunnel::HttpExchange& caller) : caller_(caller) {}

  bool at_hand() const { return !lost_ && !answered_; }
  void rewind() { at_ = 0; }

  /// The body, what has been read of it and what is still to come; nullopt when it is lost, breaks off, is
  /// longer than `limit`, or has trailers.
  asio::awaitable<std::optional<std::string>> whole_body(std::size_t limit) {
    if (!at_hand()) co_return std::nullopt;
    std::string body(reinterpret_cast<const char*>(held_.data()), held_.size());
    lost_ = true;
    std::vector<std::byte> piece(kAtHand);
    for (;;) {
      const auto got = co_await caller_.read_body(piece);
      if (!got || body.size() + *got > limit) co_return std::nullopt;
      if (*got == 0) break;
      body.append(reinterpret_cast<const char*>(piece.data()), *got);
    }
    if (!caller_.trailers().empty()) co_return std::nullopt;
    co_return body;
  }

  const tunnel::RequestHead& request() const override { return caller_.request(); }
  const std::string& peer_address() const override { return caller_.peer_address(); }
  const char* scheme() const override { return caller_.scheme(); }
  const std::string& correlation_id() const override { return caller_.correlation_id(); }

  asio::awaitable<Result<std::size_t>> read_body(std::span<std::byte> into) override {
    if (at_ < held_.size()) {
      const auto size = std::min(into.size(), held_.size() - at_);
      std::memcpy(into.data(), held_.data() + at_, size);
      at_ += size;
      co_return size;
    }
    // Cut short, and where the body stands is anybody's guess.
    const bool was_lost = std::exchange(lost_, true);
    auto got = co_await caller_.read_body(into);
    if (!got || was_lost || held_.size() + *got > kAtHand) co_return got;
    lost_ = false;
    held_.insert(held_.end(), into.begin(), into.begin() + static_cast<std::ptrdiff_t>(*got));
    at_ = held_.size();
    co_return got;
  }
  const std::vector<tunnel::Header>& trailers() const override { return caller_.trailers(); }

  asio::awaitable<Result<void>> send_interim(const tunnel::ResponseHead& head) override {
    return caller_.send_interim(head);
  }
  asio::awaitable<Result<void>> send_head(const tunnel::ResponseHead& head) override {
    answered_ = true;
    return caller_.send_head(head);
  }
  asio::awaitable<Result<void>> write_body(std::span<const std::byte> bytes) override {
    return caller_.write_body(bytes);
  }
  asio::awaitable<Result<void>> send_head_with(const tunnel::ResponseHead& head,
                                               std::span<const std::byte> body) override {
    answered_ = true;
    return caller_.send_head_with(head, body);
  }
  asio::awaitable<Result<void>> finish(const std::vector<tunnel::Header>& trailers) override {
    return caller_.finish(trailers);
  }
  void abort() noexcept override { caller_.abort(); }
  asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> upgrade(
      const tunnel::ResponseHead& head) override {
    answered_ = true;
    return caller_.upgrade(head);
  }
  asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> accept_websocket(
      const tunnel::WebSocketAccept& accept) override {
    return caller_.accept_websocket(accept);
  }
  asio::awaitable<Result<void>> accept_websocket_on(
      asio::io_context& home, const tunnel::WebSocketAccept& accept,
      std::function<void(std::unique_ptr<tunnel::WebSocketStream>)> take) override {
    return caller_.accept_websocket_on(home, accept, std::move(take));
  }

 private:
  tunnel::HttpExchange& caller_;
  std::vector<std::byte> held_{};
  std::size_t at_ = 0;
  bool lost_ = false;
  bool answered_ = false;
};

}  // namespace tunnelctl::client
