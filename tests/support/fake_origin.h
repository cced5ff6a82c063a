#pragma once

#include <functional>
#include <string>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "tests/support/memory_stream.h"
#include "tunnel/dialer.h"
#include "tunnel/http1.h"

namespace support {

/// A service in memory behind a Dialer: what it was asked is counted, what it does is scripted.
class FakeOrigin : public tunnel::Dialer {
 public:
  enum class Then { keep, close, reset, hang };
  /// What it does about one request.
  struct Reply {
    std::string bytes;  // raw, may be broken HTTP
    Then then = Then::keep;
    bool before_body = false;  // answers after the head, without reading the body
    std::size_t piece = 0;     // bytes a write, 0: all at once
  };
  using Script = std::function<asio::awaitable<void>(MemoryStream&)>;

  explicit FakeOrigin(asio::io_context& context) : context_(context) {}

  /// The n-th request over all channels gets replies[n]; the last one repeats.
  std::vector<Reply> replies;
  /// Instead of replies: plays one channel to its end. Must outlive the run.
  Script script;
  std::optional<tunnel::Refusal> refusal;  // open() fails with it
  std::size_t capacity = 64 * 1024;
  std::chrono::steady_clock::duration queued{};  // open() says that it took so long

  // What happened
  unsigned opened = 0;
  std::vector<tunnel::Priority> priorities;  // of each open(), refused or not
  std::vector<std::size_t> held_bytes;
  std::vector<std::string> heads;   // of each request, as text
  std::vector<std::string> bodies;  // decoded, as far as they were read
  std::vector<tunnel::Header> trailers;
  unsigned ended_channels = 0;  // channels whose script has ended

  asio::awaitable<tunnel::Served<std::unique_ptr<ByteStream>>> open(
      const tunnel::OpenRequest& request) override {
    held_bytes.push_back(request.held_bytes);
    priorities.push_back(request.priority);
    if (request.report != nullptr) request.report->queued += queued;
    if (refusal) co_return tl::unexpected<tunnel::Refusal>(*refusal);
    ++opened;
    auto [near, far] = memory_streams(context_.get_executor(), capacity);
    asio::co_spawn(context_, play(std::move(far)), [this](std::exception_ptr) { ++ended_channels; });
    co_return std::unique_ptr<ByteStream>(std::move(near));
  }

 private:
  asio::awaitable<void> play(std::unique_ptr<MemoryStream> stream) {
    if (script) {
      co_await script(*stream);
      co_return;
    }
    std::string input;
    while (co_await serve_one(*stream, input)) {
    }
  }

  asio::awaitable<bool> more(MemoryStream& stream, std::string& input) {
    std::array<std::byte, 16384> buffer;
    const auto got = co_await stream.read(buffer);
    if (!got || *got == 0) co_return false;
    input.append(reinterpret_cast<const char*>(buffer.data()), *got);
    co_return true;
  }

  asio::awaitable<bool> serve_one(MemoryStream& stream, std::string& input) {
    std::size_t scanned = 0;
    std::optional<std::size_t> size;
    while (!(size = tunnel::find_head_end(bytes_of(input), scanned)))
      if (!co_await more(stream, input)) co_return false;
    heads.push_back(input.substr(0, *size));
    input.erase(0, *size);
    bodies.emplace_back();
    const Reply reply = replies[std::min(heads.size(), replies.size()) - 1];
    if (!reply.before_body && !co_await read_body(stream, input)) co_return false;
    const auto piece = reply.piece == 0 ? std::max<std::size_t>(reply.bytes.size(), 1) : reply.piece;
    for (std::size_t at = 0; at < reply.bytes.size(); at += piece)
      if (!co_await stream.write(bytes_of(std::string_view(reply.bytes).substr(at, piece)))) co_return false;
    if (reply.then == Then::keep) co_return true;
    if (reply.then == Then::close) co_await stream.shutdown_write();
    if (reply.then != Then::reset) {
      // Reads on as a lingering close does, so that nothing is reset before the peer has read it all.
      std::string rest;
      while (co_await more(stream, rest)) {
      }
    }
    co_return false;
  }

  asio::awaitable<bool> read_body(MemoryStream& stream, std::string& input) {
    const auto head = tunnel::parse_request_head(heads.back(), {});
    if (!head) co_return false;
    if (const auto* sized = std::get_if<tunnel::SizedBody>(&head->body)) {
      while (input.size() < sized->bytes)
        if (!co_await more(stream, input)) co_return false;
      bodies.back() = input.substr(0, sized->bytes);
      input.erase(0, sized->bytes);
    } else if (std::holds_alternative<tunnel::ChunkedBody>(head->body)) {
      tunnel::ChunkDecoder decoder;
      for (;;) {
        const auto step = decoder.decode(bytes_of(input));
        if (!step) co_return false;
        bodies.back().append(reinterpret_cast<const char*>(step->data.data()), step->data.size());
        input.erase(0, step->consumed);
        if (step->done) break;
        if (step->consumed == 0 && !co_await more(stream, input)) co_return false;
      }
      trailers = decoder.trailers();
    }
    co_return true;
  }

  asio::io_context& context_;
};

}  // namespace support
