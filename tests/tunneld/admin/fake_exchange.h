#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "tunnel/http_exchange.h"

namespace tunneld::tests {

/// One request at a door without a door: remembers what was answered. Everything completes at once.
class FakeExchange : public tunnel::HttpExchange {
 public:
  FakeExchange(std::string method, std::string target) {
    head_.method = std::move(method);
    head_.target = std::move(target);
  }
  FakeExchange& with(std::string name, std::string value) {
    head_.fields.push_back({std::move(name), std::move(value)});
    return *this;
  }
  FakeExchange& with_bearer(const std::string& token) { return with("Authorization", "Bearer " + token); }
  FakeExchange& with_body(std::string text) {
    body_ = std::move(text);
    head_.body = tunnel::SizedBody{body_.size()};
    return *this;
  }
  FakeExchange& asking_for_websocket() {
    head_.wants_upgrade = true;
    return with("Upgrade", "websocket").with("Connection", "Upgrade").with("Sec-WebSocket-Version", "13");
  }

  // What came of it.
  tunnel::ResponseHead answered;
  std::string body;
  bool finished = false;
  bool aborted = false;
  tunnel::WebSocketAccept accepted;                         // set when the WebSocket was accepted
  std::unique_ptr<tunnel::WebSocketStream> next_websocket;  // what accept_websocket hands out

  std::string field(std::string_view name) const {
    const auto* value = answered.find(name);
    return value == nullptr ? std::string{} : *value;
  }

  /// Runs the handler to its end on a loop of its own.
  void serve(tunnel::HttpHandler& handler) {
    boost::asio::io_context io;
    serve(handler, io);
  }
  void serve(tunnel::HttpHandler& handler, boost::asio::io_context& io) {
    bool done = false;
    boost::asio::co_spawn(io, handler.handle(*this), [&done](std::exception_ptr failure) {
      done = true;
      if (failure) std::rethrow_exception(failure);
    });
    // Not until the loop is empty: a deadline watch leaves its timer armed.
    while (!done && io.run_one() > 0) {
    }
  }

  const tunnel::RequestHead& request() const override { return head_; }
  const std::string& peer_address() const override { return peer_; }
  const char* scheme() const override { return "https"; }
  const std::string& correlation_id() const override { return correlation_id_; }
  boost::asio::awaitable<Result<std::size_t>> read_body(std::span<std::byte> into) override {
    const auto count = std::min(into.size(), body_.size() - read_);
    std::memcpy(into.data(), body_.data() + read_, count);
    read_ += count;
    co_return count;
  }
  const std::vector<tunnel::Header>& trailers() const override { return none_; }
  boost::asio::awaitable<Result<void>> send_interim(const tunnel::ResponseHead&) override {
    co_return Result<void>{};
  }
  boost::asio::awaitable<Result<void>> send_head(const tunnel::ResponseHead& head) override {
    answered = head;
    co_return Result<void>{};
  }
  boost::asio::awaitable<Result<void>> write_body(std::span<const std::byte> bytes) override {
    body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    co_return Result<void>{};
  }
  boost::asio::awaitable<Result<void>> send_head_with(const tunnel::ResponseHead& head,
                                                      std::span<const std::byte> bytes) override {
    answered = head;
    body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    co_return Result<void>{};
  }
  boost::asio::awaitable<Result<void>> finish(const std::vector<tunnel::Header>&) override {
    finished = true;
    co_return Result<void>{};
  }
  void abort() noexcept override { aborted = true; }
  boost::asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> upgrade(
      const tunnel::ResponseHead&) override {
    co_return fail(Error::Kind::bug, "the fake has no raw stream");
  }
  boost::asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> accept_websocket(
      const tunnel::WebSocketAccept& accept) override {
    if (!next_websocket) co_return fail(Error::Kind::bad_input, "the fake has no WebSocket");
    accepted = accept;
    answered.status = 101;
    co_return std::move(next_websocket);
  }
  /// Does not wait for its end.
  boost::asio::awaitable<Result<void>> accept_websocket_on(
      boost::asio::io_context& home, const tunnel::WebSocketAccept& accept,
      std::function<void(std::unique_ptr<tunnel::WebSocketStream>)> take) override {
    auto accepted_one = co_await accept_websocket(accept);
    if (!accepted_one) co_return tl::unexpected(std::move(accepted_one.error()));
    boost::asio::post(home, [take = std::move(take), stream = std::move(*accepted_one)]() mutable {
      take(std::move(stream));
    });
    co_return Result<void>{};
  }

 private:
  tunnel::RequestHead head_;
  std::string peer_ = "192.0.2.7";
  std::string correlation_id_ = "test-1";
  std::string body_;
  std::size_t read_ = 0;
  std::vector<tunnel::Header> none_;
};

}  // namespace tunneld::tests
