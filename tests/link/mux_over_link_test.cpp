#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "link/mux.h"
#include "tests/link/cut_carriers.h"
#include "tests/support/memory_stream.h"
#include "tests/support/run_async.h"

namespace links {
namespace {

using namespace std::chrono_literals;
using cut::Plan;
using cut::start;
using cut::until;
using cut::Wire;
using cut::WireEnd;
using support::bytes_of;
using support::read_all;
using support::run_async;
using tunnel::ByteStream;

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 131 + i / 251);
  return text;
}

/// Two multiplexers over the two ends of a link, which comes back after each cut.
struct Ends {
  Ends() = default;
  Ends(const Ends&) = delete;
  Ends& operator=(const Ends&) = delete;
  ~Ends() {
    accepted.clear();
    stream.reset();
    near.reset();
    far.reset();
    if (client) client->close();
    if (server) server->close();
    context.restart();
    context.poll();
    EXPECT_EQ(running, 0) << "a run() goes on after its Mux is gone";
  }

  asio::awaitable<void> connect(LinkOptions options = {}) {
    link_options = options;
    start(context, answer(wire_of({})));
    auto made = co_await Link::connect(context.get_executor(), client_end(), options);
    client = *made;
    const auto there = [this] { return server != nullptr; };
    co_await until(there);
    near = std::make_unique<Mux>(context.get_executor(), *client, Mux::Options{.ping_every = 0ms});
    far = std::make_unique<Mux>(context.get_executor(), *server,
                                Mux::Options{.role = yamux::Role::server, .ping_every = 0ms});
    far->on_stream([this](std::unique_ptr<ByteStream> one) { accepted.push_back(std::move(one)); });
    start(context, carry(*near, near_end));
    start(context, carry(*far, far_end));
    auto opened = near->open();
    stream = std::move(*opened);
  }
  asio::awaitable<void> come_back(Plan plan) {
    const auto lost = [this] {
      return client->state() == Link::State::detached && server->state() == Link::State::detached;
    };
    co_await until(lost);
    start(context, answer(wire_of(plan)));
    const auto resumed = co_await client->resume(client_end());
    EXPECT_TRUE(resumed) << resumed.error().message;
  }

  std::unique_ptr<ByteStream> wire_of(Plan plan) {
    wire = std::make_shared<Wire>(context.get_executor(), plan, 64 * 1024);
    return std::make_unique<WireEnd>(wire, WireEnd::Side::server);
  }
  std::unique_ptr<ByteStream> client_end() const {
    return std::make_unique<WireEnd>(wire, WireEnd::Side::client);
  }
  asio::awaitable<void> answer(std::unique_ptr<ByteStream> carrier) {
    if (server) {
      const auto again = co_await server->accept_again(std::move(carrier));
      EXPECT_TRUE(again) << again.error().message;
      co_return;
    }
    auto made = co_await Link::accept(context.get_executor(), std::move(carrier), link_options);
    server = *made;
  }
  asio::awaitable<void> carry(Mux& mux, std::optional<Result<void>>& end) {
    ++running;
    auto ended = co_await mux.run();
    --running;
    end = std::move(ended);
  }
  asio::awaitable<void> write_then_end(ByteStream& to, const std::string& text) {
    const auto sent = co_await to.write(bytes_of(text));
    EXPECT_TRUE(sent) << sent.error().message;
    const auto ended = co_await to.shutdown_write();
    EXPECT_TRUE(ended) << ended.error().message;
  }

  asio::io_context context;
  LinkOptions link_options;
  std::shared_ptr<Wire> wire;
  std::shared_ptr<Link> client, server;
  std::unique_ptr<Mux> near, far;
  std::optional<Result<void>> near_end, far_end;
  std::vector<std::unique_ptr<ByteStream>> accepted;
  std::unique_ptr<ByteStream> stream;
  int running = 0;
};

TEST(MuxOverLink, CarriesMoreThanTheLinkTakesAtOnce) {
  for (const std::size_t bound : {std::size_t{64} * 1024, std::size_t{32} * 1024 * 1024}) {
    SCOPED_TRACE(bound);
    Ends ends;
    const auto sent = pattern(3'000'000);
    run_async(ends.context, [](Ends& test, std::string text, std::size_t most) -> asio::awaitable<void> {
      co_await test.connect({.max_unacknowledged = most, .max_unsent = 64 * 1024});
      start(test.context, test.write_then_end(*test.stream, text));
      const auto opened = [&test] { return !test.accepted.empty(); };
      co_await until(opened);
      EXPECT_TRUE(co_await read_all(*test.accepted[0]) == text);
      start(test.context, test.write_then_end(*test.accepted[0], text));
      EXPECT_TRUE(co_await read_all(*test.stream) == text);
    }(ends, sent, bound));
  }
}

TEST(MuxOverLink, AStreamGoesOnOverEveryCut) {
  Ends ends;
  const auto sent = pattern(1'000'000);
  run_async(ends.context, [](Ends& test, std::string text) -> asio::awaitable<void> {
    co_await test.connect();
    start(test.context, test.write_then_end(*test.stream, text));
    const auto opened = [&test] { return !test.accepted.empty(); };
    co_await until(opened);
    std::optional<std::string> arrived;
    start(test.context, [](ByteStream& from, std::optional<std::string>& into) -> asio::awaitable<void> {
      into = co_await read_all(from);
    }(*test.accepted[0], arrived));
    test.wire->cut();
    for (const std::size_t bytes : {1'000U, 65'536U, 131'072U, 200'000U})
      co_await test.come_back({.up = bytes, .down = cut::kNever, .loses_rest = true});
    co_await test.come_back({});
    const auto all = [&arrived] { return arrived.has_value(); };
    co_await until(all);
    EXPECT_TRUE(*arrived == text);
  }(ends, sent));
}

TEST(MuxOverLink, AStreamMayBeOpenedAndWrittenToWhileThereIsNoCarrier) {
  Ends ends;
  run_async(ends.context, [](Ends& test) -> asio::awaitable<void> {
    co_await test.connect();
    co_await cut::settle();
    test.wire->cut();
    co_await cut::settle();
    auto opened = test.near->open();
    const auto second = std::move(*opened);
    co_await test.write_then_end(*second, "while it was away");
    co_await test.come_back({});
    const auto there = [&test] { return test.accepted.size() == 2; };
    co_await until(there);
    EXPECT_EQ(co_await read_all(*test.accepted[1]), "while it was away");
  }(ends));
}

TEST(MuxOverLink, EndsWithTheLinkAndSaysWhatTheLinkSaid) {
  Ends ends;
  run_async(ends.context, [](Ends& test) -> asio::awaitable<void> {
    co_await test.connect();
    const auto opened = [&test] { return !test.accepted.empty(); };
    co_await until(opened);
    test.client->close();
    const auto ended = [&test] { return test.near_end && test.far_end; };
    co_await until(ended);
    EXPECT_FALSE(*test.near_end);
    EXPECT_FALSE(*test.far_end) << "a stream was open";
    const auto sent = co_await test.stream->write(bytes_of("too late"));
    EXPECT_FALSE(sent);
  }(ends));
}

/// Its answers are kept for a peer that comes back, so they must be bounded while it does not.
TEST(MuxOverLink, ThePingsOfAPeerThatTakesNoAnswersAreBounded) {
  Ends ends;
  run_async(ends.context, [](Ends& test) -> asio::awaitable<void> {
    co_await test.connect({.max_unsent = 1024});
    const auto opened = [&test] { return !test.accepted.empty(); };
    co_await until(opened);
    // The server's answers fill what its carrier takes and what the link keeps unsent.
    std::string pings;
    const auto ping = yamux::encode({yamux::Type::ping, yamux::kSyn, 0, 7});
    for (int i = 0; i < 20'000; ++i) pings.append(reinterpret_cast<const char*>(ping.data()), ping.size());
    test.near->close();  // nobody reads the client's end of the link any more
    start(test.context, [](Ends& in, std::string bytes) -> asio::awaitable<void> {
      (void)co_await in.client->write(bytes_of(bytes));
    }(test, std::move(pings)));
    const auto ended = [&test] { return test.far_end.has_value(); };
    co_await until(ended);
    EXPECT_EQ(test.far_end->error().message, "yamux: the peer demands answers and takes none");
    EXPECT_LT(test.server->unacknowledged(), 256U * 1024U);
  }(ends));
}

}  // namespace
}  // namespace links
