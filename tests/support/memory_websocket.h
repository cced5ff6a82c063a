#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/memory_stream.h"
#include "tunnel/http_exchange.h"

namespace support {

/// The server's end of a WebSocket without frames: binary messages are a MemoryStream's bytes. Remembers the
/// control messages it was given and how it was closed. `state` outlives it.
class MemoryWebSocket final : public tunnel::WebSocketStream {
 public:
  struct State {
    std::vector<std::string> posted;
    std::uint16_t close_code = 0;  // 0: not closed with one
    std::string close_reason;
    std::function<void(std::string)> on_control;  // call it with what the peer sends
  };
  MemoryWebSocket(std::unique_ptr<MemoryStream> stream, std::shared_ptr<State> state)
      : stream_(std::move(stream)), state_(std::move(state)) {}

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    return stream_->read(into);
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return stream_->write(bytes);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return stream_->shutdown_write(); }
  void close() noexcept override { stream_->close(); }
  asio::awaitable<void> close_with(std::uint16_t code, std::string_view reason) override {
    if (state_->close_code == 0) {
      state_->close_code = code;
      state_->close_reason = reason;
    }
    co_await stream_->shutdown_write();
    stream_->close();
  }
  Ending ending() const override {
    return state_->close_code == 0 ? Ending{} : Ending{state_->close_code, false};
  }
  void on_control(std::function<void(std::string)> handler) override {
    state_->on_control = std::move(handler);
  }
  bool post_control(std::string_view text) override {
    state_->posted.emplace_back(text);
    return true;
  }

 private:
  std::unique_ptr<MemoryStream> stream_;
  std::shared_ptr<State> state_;
};

}  // namespace support
