#pragma once

#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "edge/self_signed.h"
#include "edge/server.h"
#include "edge/tls_context.h"
#include "tests/support/caller.h"
#include "tests/support/recording_observer.h"

namespace edge {

namespace test = tunneld::test;

/// A directory of its own that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "edge-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Waits for something another thread does, at most 10 s.
inline bool eventually(const std::function<bool()>& done) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

using Handle = std::function<asio::awaitable<void>(tunnel::HttpExchange&)>;

/// A server with a handler given as a function, running on its own threads on a free port.
class Door {
 public:
  struct Setup {
    Options options{};
    std::string listen = "127.0.0.1:0";
    bool tls = false;
    std::size_t threads = 2;
    TlsOptions::MinVersion min_version = TlsOptions::MinVersion::tls1_3;
    Server::Parts more{};  // its functions, but the handler and on_ended
  };
  explicit Door(Handle handle) : Door(Setup{}, std::move(handle)) {}
  Door(Setup setup, Handle handle) : handler_(std::move(handle)) {
    setup.options.listen = {setup.listen};
    Server::Parts parts = std::move(setup.more);
    for (std::size_t i = 0; i < setup.threads; ++i) {
      contexts_.push_back(std::make_unique<asio::io_context>(1));
      guards_.push_back(asio::make_work_guard(*contexts_.back()));
      parts.threads.push_back(contexts_.back().get());
    }
    parts.handler = [this](std::size_t) -> tunnel::HttpHandler& { return handler_; };
    parts.observer = &observer;
    parts.on_ended = [this](const ConnectionInfo& connection, std::string_view how) {
      const std::lock_guard lock(mutex_);
      endings_.emplace_back(how);
      last_ended_ = connection;
    };
    if (setup.tls) {
      EXPECT_TRUE(write_self_signed(certificate(), folder / "key.pem"));
      auto tls = load_tls({certificate(), folder / "key.pem", setup.min_version});
      EXPECT_TRUE(tls) << tls.error().message;
      parts.tls = *tls;
    }
    server = std::make_unique<Server>(setup.options, std::move(parts));
    const auto started = server->start();
    EXPECT_TRUE(started) << started.error().message;
    port = server->local_endpoints().front().port();
    for (auto& context : contexts_) threads_.emplace_back([&context] { context->run(); });
  }
  ~Door() {
    server->close_all();
    EXPECT_TRUE(eventually([&] { return server->connection_count() == 0; }));
    for (auto& context : contexts_) context->stop();
    for (auto& thread : threads_) thread.join();
    server.reset();
    guards_.clear();
    contexts_.clear();
    EXPECT_EQ(observer.count("socket_opened"), observer.count("socket_closed"));
  }
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  std::filesystem::path certificate() const { return folder / "certificate.pem"; }
  asio::io_context& context(std::size_t i = 0) { return *contexts_[i]; }
  bool ended(std::string_view how) {
    return eventually([&] {
      const std::lock_guard lock(mutex_);
      return std::find(endings_.begin(), endings_.end(), how) != endings_.end();
    });
  }
  ConnectionInfo last_ended() const {
    const std::lock_guard lock(mutex_);
    return last_ended_;
  }
  std::future<bool> drain(std::chrono::milliseconds within) {
    return asio::co_spawn(context(), server->drain(std::chrono::steady_clock::now() + within),
                          asio::use_future);
  }

  TemporaryFolder folder;
  test::RecordingObserver observer;
  std::unique_ptr<Server> server;
  std::uint16_t port = 0;

 private:
  struct Handler final : tunnel::HttpHandler {
    explicit Handler(Handle given) : handle_with(std::move(given)) {}
    asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override { return handle_with(exchange); }
    Handle handle_with;
  };
  Handler handler_;
  std::vector<std::unique_ptr<asio::io_context>> contexts_;
  std::vector<asio::executor_work_guard<asio::io_context::executor_type>> guards_;
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;
  std::vector<std::string> endings_;
  ConnectionInfo last_ended_;
};

inline tunnel::ResponseHead ok(tunnel::BodyFraming body) {
  tunnel::ResponseHead head;
  head.status = 200;
  head.reason = "OK";
  head.body = body;
  return head;
}

/// Handlers most tests share.
inline asio::awaitable<void> answer_hello(tunnel::HttpExchange& exchange) {
  exchange.authenticated(tunnel::Tier::free);
  const auto head = ok(tunnel::SizedBody{5});
  const std::string_view body = "hello";
  (void)co_await exchange.send_head_with(head, std::as_bytes(std::span(body)));
  (void)co_await exchange.finish(std::vector<tunnel::Header>());
}

/// Sends the body back, chunked, as it comes; trailers too.
inline asio::awaitable<void> answer_echo(tunnel::HttpExchange& exchange) {
  exchange.authenticated(tunnel::Tier::free);
  std::vector<std::byte> buffer(64 * 1024);
  auto got = co_await exchange.read_body(buffer);
  if (!got) co_return;
  (void)co_await exchange.send_head(ok(tunnel::ChunkedBody{}));
  while (got && *got > 0) {
    if (!co_await exchange.write_body(std::span(buffer).first(*got))) co_return;
    got = co_await exchange.read_body(buffer);
  }
  if (got) (void)co_await exchange.finish(exchange.trailers());
}

inline asio::awaitable<void> echo_stream(tunnel::ByteStream& stream) {
  std::vector<std::byte> buffer(64 * 1024);
  for (;;) {
    auto got = co_await stream.read(buffer);
    if (!got || *got == 0) break;
    if (!co_await stream.write(std::span(buffer).first(*got))) break;
  }
  (void)co_await stream.shutdown_write();
}

/// A WebSocket that echoes bytes; empty messages end a direction when the path says so.
inline asio::awaitable<void> answer_websocket_echo(tunnel::HttpExchange& exchange) {
  exchange.authenticated(tunnel::Tier::premium);
  exchange.serving("echo");
  tunnel::WebSocketAccept accept;
  accept.empty_message_ends = exchange.request().target == "/half-close";
  auto socket = co_await exchange.accept_websocket(accept);
  if (!socket) co_return;
  co_await echo_stream(**socket);
  co_await (*socket)->close_with(1000, "");
}

}  // namespace edge
