#pragma once

#include <deque>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/memory_stream.h"
#include "tunnel/http_exchange.h"

namespace support {

/// A caller's request from text, and a record of everything it was answered.
class MemoryExchange : public tunnel::HttpExchange {
 public:
  /// `request_head` is a whole one; `pieces` are what read_body() returns one by one.
  MemoryExchange(const asio::any_io_executor& executor, std::string_view request_head,
                 std::vector<std::string> pieces = {})
      : body(pieces.begin(), pieces.end()),
        executor_(executor),
        changed_(executor, asio::steady_timer::time_point::max()) {
    auto parsed = tunnel::parse_request_head(request_head, {});
    if (!parsed) throw std::invalid_argument("MemoryExchange: " + std::string(parsed.error().reason));
    request_ = std::move(*parsed);
  }

  // What the caller does
  std::deque<std::string> body;
  std::optional<Error> body_error{};  // after the pieces, instead of the end
  bool body_stays_open = false;       // after the pieces, nothing comes
  bool gone = false;                  // whatever is sent to it fails
  bool stops_reading = false;         // write_body() waits for ever
  std::vector<tunnel::Header> sent_trailers{};
  std::string peer = "192.0.2.7";

  void push(std::string piece) {
    body.push_back(std::move(piece));
    changed_.cancel();
  }
  void end_body() {
    body_stays_open = false;
    changed_.cancel();
  }

  // What it got
  std::vector<tunnel::ResponseHead> interim{};
  std::optional<tunnel::ResponseHead> head{};
  std::string answer{};
  std::vector<std::string> writes{};  // each piece of the body
  std::vector<tunnel::Header> trailers_got{};
  bool finished = false;
  bool aborted = false;
  unsigned body_reads = 0;
  std::unique_ptr<MemoryStream> upgraded_peer{};  // the caller's end after upgrade()

  const tunnel::RequestHead& request() const override { return request_; }
  const std::string& peer_address() const override { return peer; }
  const char* scheme() const override { return "https"; }
  const std::string& correlation_id() const override { return correlation_id_; }

  asio::awaitable<Result<std::size_t>> read_body(std::span<std::byte> into) override {
    ++body_reads;
    while (body.empty() && body_stays_open && !aborted) {
      co_await changed_.async_wait(asio::as_tuple(asio::use_awaitable));
      if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none)
        co_return fail(Error::Kind::cancelled, "read_body cancelled");
    }
    if (aborted) co_return fail(Error::Kind::cancelled, "aborted");
    if (body.empty() && body_error) co_return tl::unexpected<Error>(*body_error);
    if (body.empty()) co_return std::size_t{0};
    auto& piece = body.front();
    const auto size = std::min(into.size(), piece.size());
    std::memcpy(into.data(), piece.data(), size);
    piece.erase(0, size);
    if (piece.empty()) body.pop_front();
    co_return size;
  }
  const std::vector<tunnel::Header>& trailers() const override { return sent_trailers; }

  asio::awaitable<Result<void>> send_interim(const tunnel::ResponseHead& given) override {
    interim.push_back(given);
    co_return outcome();
  }
  asio::awaitable<Result<void>> send_head(const tunnel::ResponseHead& given) override {
    head = given;
    answered_.cancel();
    co_return outcome();
  }
  asio::awaitable<Result<void>> write_body(std::span<const std::byte> bytes) override {
    while (stops_reading && !aborted) co_await changed_.async_wait(asio::as_tuple(asio::use_awaitable));
    record(bytes);
    co_return outcome();
  }
  asio::awaitable<Result<void>> send_head_with(const tunnel::ResponseHead& given,
                                               std::span<const std::byte> bytes) override {
    head = given;
    record(bytes);
    co_return outcome();
  }
  asio::awaitable<Result<void>> finish(const std::vector<tunnel::Header>& trailers) override {
    trailers_got = trailers;
    finished = true;
    co_return outcome();
  }
  void abort() noexcept override {
    aborted = true;
    changed_.cancel();
    answered_.cancel();
  }

  asio::awaitable<Result<std::unique_ptr<ByteStream>>> upgrade(const tunnel::ResponseHead& given) override {
    head = given;
    auto [ours, theirs] = memory_streams(executor_);
    upgraded_peer = std::move(theirs);
    answered_.cancel();
    co_return std::unique_ptr<ByteStream>(std::move(ours));
  }
  asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> accept_websocket(
      const tunnel::WebSocketAccept&) override {
    co_return fail(Error::Kind::bug, "this exchange speaks no WebSocket");
  }
  asio::awaitable<Result<void>> accept_websocket_on(
      asio::io_context&, const tunnel::WebSocketAccept&,
      std::function<void(std::unique_ptr<tunnel::WebSocketStream>)>) override {
    co_return fail(Error::Kind::bug, "this exchange speaks no WebSocket");
  }

  /// Waits until the caller has a head, or at least `bytes` of the body, or was cut off.
  asio::awaitable<void> wait_for_head() {
    while (!head && !aborted) co_await answered_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  asio::awaitable<void> wait_for_body(std::size_t bytes) {
    while (answer.size() < bytes && !aborted)
      co_await answered_.async_wait(asio::as_tuple(asio::use_awaitable));
  }

  /// The value of the answer's first field of that name, or "-".
  std::string field(std::string_view name) const {
    const auto* value = head ? head->find(name) : nullptr;
    return value != nullptr ? *value : "-";
  }

 private:
  void record(std::span<const std::byte> bytes) {
    writes.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    answer += writes.back();
    answered_.cancel();
  }
  Result<void> outcome() const {
    if (gone || aborted) return fail(Error::Kind::unavailable, "the caller is gone");
    return {};
  }

  asio::any_io_executor executor_;
  tunnel::RequestHead request_;
  std::string correlation_id_ = "corr-1";
  asio::steady_timer changed_;
  asio::steady_timer answered_{executor_, asio::steady_timer::time_point::max()};
};

}  // namespace support
