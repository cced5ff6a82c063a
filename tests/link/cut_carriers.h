#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "link/link.h"
#include "tests/support/memory_stream.h"
#include "tunnel/wakeup.h"

namespace cut {

namespace asio = boost::asio;
using tunnel::ByteStream;

inline constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

/// When a connection breaks: after so many bytes in one of its directions.
struct Plan {
  std::size_t up = kNever;  // from the client
  std::size_t down = kNever;
  bool loses_rest = false;  // what is under way is lost, as in a reset
};

/// A connection that breaks by plan, or when told to.
struct Wire {
  Wire(const asio::any_io_executor& executor, const Plan& plan_in, std::size_t capacity)
      : up(std::make_shared<support::MemoryPipe>(executor, capacity)),
        down(std::make_shared<support::MemoryPipe>(executor, capacity)),
        plan(plan_in) {}

  void cut() {
    for (const auto& pipe : {up, down}) {
      if (plan.loses_rest) pipe->bytes.clear();
      pipe->broken = true;
      pipe->wake();
    }
  }

  std::shared_ptr<support::MemoryPipe> up;
  std::shared_ptr<support::MemoryPipe> down;
  Plan plan;
};

class WireEnd final : public ByteStream {
 public:
  enum class Side { client, server };
  WireEnd(std::shared_ptr<Wire> wire, Side side)
      : wire_(std::move(wire)),
        left_(side == Side::client ? wire_->plan.up : wire_->plan.down),
        inner_(side == Side::client ? wire_->down : wire_->up,
               side == Side::client ? wire_->up : wire_->down) {}

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override { return inner_.read(into); }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    const auto passes = bytes.first(std::min(bytes.size(), left_));
    if (auto sent = co_await inner_.write(passes); !sent) co_return sent;
    if (left_ == kNever) co_return Result<void>{};
    left_ -= passes.size();
    if (left_ > 0) co_return Result<void>{};
    wire_->cut();
    co_return fail(Error::Kind::unavailable, "the wire was cut");
  }
  asio::awaitable<Result<void>> shutdown_write() override { return inner_.shutdown_write(); }
  void close() noexcept override { inner_.close(); }

 private:
  std::shared_ptr<Wire> wire_;
  std::size_t& left_;
  support::MemoryStream inner_;
};

/// Lets everything else that is ready run until `holds`.
inline asio::awaitable<void> until(std::function<bool()> holds) {
  while (!holds()) co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
}

/// Lets what is ready run, several times over.
inline asio::awaitable<void> settle() {
  for (int i = 0; i < 100; ++i) co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
}

template <class T>
void start(asio::io_context& context, asio::awaitable<T> story) {
  asio::co_spawn(context, std::move(story), [](std::exception_ptr failure, auto&&...) {
    if (failure) std::rethrow_exception(failure);
  });
}

/// What came out of a link.
struct Collected {
  std::string bytes;
  std::optional<Result<std::size_t>> end;
};

inline asio::awaitable<void> collect(std::shared_ptr<links::Link> link, std::shared_ptr<Collected> into) {
  std::string buffer(64 * 1024, '\0');
  for (;;) {
    const auto got = co_await link->read(std::as_writable_bytes(std::span(buffer)));
    if (!got || *got == 0) {
      into->end = got;
      co_return;
    }
    into->bytes.append(buffer, 0, *got);
  }
}

/// Both ends of a link, each read all the time, and the wires between them.
class Pair {
 public:
  explicit Pair(asio::io_context& context, links::LinkOptions of_server = {},
                links::LinkOptions of_client = {})
      : server_options(of_server), client_options(of_client), context_(context) {}
  /// Whoever waits on a link is owned by it and holds it: closing lets both go.
  ~Pair() {
    if (client) client->on_attached(nullptr);
    if (client) client->close();
    if (server) server->close();
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  /// A new wire; the client connects over it, or comes back. Returns what the client saw.
  asio::awaitable<Result<void>> dial(Plan plan = {}) {
    wire = std::make_shared<Wire>(context_.get_executor(), plan, capacity);
    start(context_, answer(std::make_unique<WireEnd>(wire, WireEnd::Side::server)));
    auto carrier = std::make_unique<WireEnd>(wire, WireEnd::Side::client);
    if (client) co_return co_await client->resume(std::move(carrier));
    auto made = co_await links::Link::connect(context_.get_executor(), std::move(carrier), client_options);
    if (!made) co_return tl::unexpected(made.error());
    client = *made;
    client->on_attached([this](bool, std::string_view) { changed_.notify(); });
    start(context_, collect(client, from_server));
    co_return Result<void>{};
  }

  /// Both ends are there, and the client knows the link's id.
  asio::awaitable<void> establish() {
    co_await dial();
    auto there = [this] { return server && client && client->id() != links::SessionId{}; };
    co_await until(there);
  }

  /// Comes back after each cut, over wires of the plans that `plan` makes.
  asio::awaitable<void> keep_dialing(std::function<Plan()> plan) {
    while (client->state() != links::Link::State::over) {
      if (client->state() == links::Link::State::detached) {
        ++dials;
        co_await dial(plan());
      } else {
        co_await changed_.wait();
      }
    }
  }

  links::LinkOptions server_options;
  links::LinkOptions client_options;
  std::size_t capacity = 64 * 1024;
  std::shared_ptr<Wire> wire;
  std::shared_ptr<links::Link> client;
  std::shared_ptr<links::Link> server;
  std::shared_ptr<Collected> from_server = std::make_shared<Collected>();
  std::shared_ptr<Collected> from_client = std::make_shared<Collected>();
  std::optional<Result<void>> answered;  // the server's last handshake
  std::size_t dials = 0;

 private:
  asio::awaitable<void> answer(std::unique_ptr<ByteStream> carrier) {
    answered.reset();
    if (server) {
      answered = co_await server->accept_again(std::move(carrier));
      co_return;
    }
    auto made = co_await links::Link::accept(context_.get_executor(), std::move(carrier), server_options);
    if (!made) {
      answered = tl::unexpected(made.error());
      co_return;
    }
    server = *made;
    start(context_, collect(server, from_client));
    answered = Result<void>{};
  }

  asio::io_context& context_;
  tunnel::Wakeup changed_;
};

/// A peer that says frame by frame what a test wants it to.
struct RawPeer {
  struct Frame {
    std::optional<links::FrameType> type;  // none: the end
    std::string bytes;                     // of DATA or GONE
    std::uint64_t offset = 0;              // of DATA; wanted, of ACK
  };
  std::unique_ptr<ByteStream> stream;
  links::FrameDecoder decoder{};

  asio::awaitable<Frame> next() {
    for (;;) {
      std::string buffer(decoder.missing(), '\0');
      const auto bytes = std::as_writable_bytes(std::span(buffer));
      const auto got = co_await stream->read(bytes);
      if (!got || *got == 0) co_return Frame{};
      const auto step = decoder.decode(bytes.first(*got), bytes.data());
      if (step.event == links::FrameDecoder::Event::failed) co_return Frame{};
      if (step.event == links::FrameDecoder::Event::control) co_return control();
      if (step.event == links::FrameDecoder::Event::data) {
        const auto data = decoder.data();
        auto payload = co_await support::read_exactly(*stream, data.bytes);
        decoder.decode(std::as_bytes(std::span(payload)), std::as_writable_bytes(std::span(payload)).data());
        co_return Frame{links::FrameType::data, std::move(payload), data.offset};
      }
    }
  }
  /// The next one that is not an acknowledgement.
  asio::awaitable<Frame> next_but_acks() {
    for (;;) {
      auto frame = co_await next();
      if (frame.type != links::FrameType::ack) co_return frame;
    }
  }
  template <class Bytes>
  asio::awaitable<void> send(Bytes bytes) {
    co_await stream->write(std::as_bytes(std::span(bytes)));
  }
  asio::awaitable<void> send_data(std::uint64_t offset, std::string bytes) {
    co_await send(links::encode(links::Data{offset, bytes.size()}));
    co_await send(std::move(bytes));
  }

 private:
  Frame control() {
    if (decoder.type() == links::FrameType::gone) return {decoder.type(), decoder.gone(), 0};
    if (decoder.type() == links::FrameType::ack) return {decoder.type(), {}, decoder.ack().wanted};
    return {decoder.type(), {}, 0};
  }
};

}  // namespace cut
