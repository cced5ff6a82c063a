#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "link/link.h"
#include "link/mux.h"
#include "tests/support/memory_stream.h"
#include "tunnelctl/client/tunnel.h"

namespace tunnelctl::client {

/// A tunneld's `/ws` in memory: real links and streams over connections that a test can cut. Its services:
/// `echo`, and `gone` that nobody may use.
class FakeTunneld {
 public:
  explicit FakeTunneld(asio::io_context& io) : io_(io) {}
  ~FakeTunneld() { stop(); }

  /// What Tunnel calls in place of the network.
  Connect connect() {
    return [this](edge::ClientTarget target, edge::ClientRequest request, edge::ConnectReport& report) {
      return accept(std::move(target), std::move(request), report);
    };
  }

  /// The next attempts fail so, one after another.
  void refuse(edge::ConnectFailure failure) { failures_.push_back(std::move(failure)); }
  void refuse(unsigned status, std::string code, std::string cause = "refused_by_server") {
    edge::ConnectFailure failure;
    failure.step = edge::ConnectStep::upgrade;
    failure.cause = std::move(cause);
    failure.message = "the server answered " + std::to_string(status);
    failure.status = status;
    failure.error_code = std::move(code);
    refuse(std::move(failure));
  }

  /// The connection breaks; what is under way on it is lost.
  void cut() {
    for (const auto& pipe : {pipes_.first, pipes_.second}) {
      pipe->bytes.clear();
      pipe->broken = true;
      pipe->wake();
    }
  }
  /// Every link is forgotten, as by a restart.
  void forget() {
    for (auto& session : sessions_) session->known = false;
  }
  /// Ends the link in use, and the WebSocket with that code.
  void end_with(std::uint16_t code, std::string reason = {}) {
    ending_->code = code;
    ending_->reason = std::move(reason);
    sessions_.back()->link->close();
  }
  void say(std::string line) {
    messages_.push_back(std::move(line));
    asio::co_spawn(io_, say_all(sessions_.back()), [](const std::exception_ptr&) {});
  }
  void stop() {
    for (auto& session : sessions_) {
      session->link->close();
      session->mux.close();
    }
  }

  std::vector<std::string> tokens;   // of each attempt
  std::vector<std::string> control;  // lines from the client
  std::size_t resumed = 0;
  std::size_t links() const { return sessions_.size(); }
  std::chrono::milliseconds window{60'000};

 private:
  struct Session {
    Session(asio::io_context& io, std::shared_ptr<links::Link> link_in)
        : link(std::move(link_in)), mux(io.get_executor(), *link, {.role = yamux::Role::server}) {}
    std::shared_ptr<links::Link> link;
    links::Mux mux;
    std::shared_ptr<tunnel::ByteStream> control{};
    bool known = true;
  };
  using Dialled = tl::expected<std::unique_ptr<tunnel::WebSocketStream>, edge::ConnectFailure>;

  /// The client's end.
  class Socket final : public tunnel::WebSocketStream {
   public:
    Socket(std::unique_ptr<support::MemoryStream> stream, std::shared_ptr<Ending> ending)
        : stream_(std::move(stream)), ending_(std::move(ending)) {}
    asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
      return stream_->read(into);
    }
    asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
      return stream_->write(bytes);
    }
    asio::awaitable<Result<void>> shutdown_write() override { return stream_->shutdown_write(); }
    void close() noexcept override { stream_->close(); }
    asio::awaitable<void> close_with(std::uint16_t code, std::string_view) override {
      *ending_ = {code, false};
      stream_->close();
      co_return;
    }
    Ending ending() const override { return *ending_; }

   private:
    std::unique_ptr<support::MemoryStream> stream_;
    std::shared_ptr<Ending> ending_;
  };

  asio::awaitable<Dialled> accept(edge::ClientTarget, edge::ClientRequest request,
                                  edge::ConnectReport& report) {
    report.address = "192.0.2.1:443";
    tokens.emplace_back(request.bearer.reveal());
    if (!failures_.empty()) {
      auto failure = std::move(failures_.front());
      failures_.pop_front();
      co_return tl::unexpected(std::move(failure));
    }
    std::shared_ptr<Session> known;
    for (const auto& field : request.fields)
      if (field.name == "Tunnel-Session") {
        for (const auto& session : sessions_)
          if (session->known && links::to_hex(session->link->id()) == field.value) known = session;
        if (!known) {
          edge::ConnectFailure failure;
          failure.step = edge::ConnectStep::upgrade;
          failure.message = "no such session";
          failure.status = 404;
          failure.error_code = "TUNNEL_010";
          co_return tl::unexpected(std::move(failure));
        }
      }
    const auto executor = io_.get_executor();
    pipes_ = {std::make_shared<support::MemoryPipe>(executor, 64 * 1024),
              std::make_shared<support::MemoryPipe>(executor, 64 * 1024)};
    auto ours = std::make_unique<support::MemoryStream>(pipes_.first, pipes_.second);
    auto theirs = std::make_unique<support::MemoryStream>(pipes_.second, pipes_.first);
    ending_ = std::make_shared<tunnel::WebSocketStream::Ending>();
    if (known)
      asio::co_spawn(io_, resume(known, std::move(ours)), [](const std::exception_ptr&) {});
    else
      asio::co_spawn(io_, serve(std::move(ours)), [](const std::exception_ptr&) {});
    co_return std::make_unique<Socket>(std::move(theirs), ending_);
  }

  asio::awaitable<void> resume(std::shared_ptr<Session> session,
                               std::unique_ptr<support::MemoryStream> stream) {
    std::unique_ptr<tunnel::ByteStream> carrier = std::move(stream);
    const auto link = session->link;
    const auto done = co_await link->accept_again(std::move(carrier));
    if (done) ++resumed;
  }

  asio::awaitable<void> serve(std::unique_ptr<support::MemoryStream> stream) {
    links::LinkOptions options;
    options.window = window;
    auto link = co_await links::Link::accept(io_.get_executor(), std::move(stream), options);
    if (!link) co_return;
    const auto session = std::make_shared<Session>(io_, *link);
    sessions_.push_back(session);
    session->mux.on_stream([this, at = session.get()](std::unique_ptr<tunnel::ByteStream> opened) {
      std::shared_ptr<tunnel::ByteStream> shared(std::move(opened));
      const bool first = !at->control;
      if (first) at->control = shared;
      asio::co_spawn(io_, first ? converse(shared) : offer(shared), [](const std::exception_ptr&) {});
    });
    (void)co_await session->mux.run();
  }

  asio::awaitable<void> converse(std::shared_ptr<tunnel::ByteStream> stream) {
    (void)co_await stream->write(support::bytes_of("{\"type\":\"hello\",\"heartbeatMs\":30000}\n"));
    for (;;) {
      auto line = co_await read_line(*stream);
      if (line.empty()) co_return;
      control.push_back(std::move(line));
    }
  }

  asio::awaitable<void> say_all(std::shared_ptr<Session> session) {
    std::string lines;
    for (const auto& message : std::exchange(messages_, {})) lines += message + "\n";
    (void)co_await session->control->write(support::bytes_of(lines));
  }

  asio::awaitable<void> offer(std::shared_ptr<tunnel::ByteStream> stream) {
    const auto line = co_await read_line(*stream);
    if (line.find("\"echo\"") == std::string::npos) {
      (void)co_await stream->write(
          support::bytes_of("{\"error\":{\"code\":\"TUNNEL_017\",\"message\":\"no service gone\"}}\n"));
      (void)co_await stream->shutdown_write();
      co_return;
    }
    (void)co_await stream->write(support::bytes_of("{\"ok\":true}\n"));
    std::vector<std::byte> buffer(64 * 1024);
    for (;;) {
      const auto got = co_await stream->read(buffer);
      if (!got) co_return;
      if (*got == 0) break;
      const auto sent = co_await stream->write(std::span(buffer).first(*got));
      if (!sent) co_return;
    }
    (void)co_await stream->shutdown_write();
  }

  static asio::awaitable<std::string> read_line(tunnel::ByteStream& stream) {
    std::string line;
    std::array<std::byte, 1> one;
    for (;;) {
      const auto got = co_await stream.read(one);
      if (!got || *got == 0 || one[0] == std::byte{'\n'}) co_return line;
      line.push_back(static_cast<char>(one[0]));
    }
  }

  asio::io_context& io_;
  std::deque<edge::ConnectFailure> failures_;
  std::pair<std::shared_ptr<support::MemoryPipe>, std::shared_ptr<support::MemoryPipe>> pipes_;
  std::shared_ptr<tunnel::WebSocketStream::Ending> ending_;
  std::vector<std::shared_ptr<Session>> sessions_;
  std::vector<std::string> messages_;
};

}  // namespace tunnelctl::client
