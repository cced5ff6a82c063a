#include "tunnelctl/client/link_pings.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <gtest/gtest.h>

#include "tests/support/run_async.h"
#include "tests/tunnelctl/client/fake_tunneld.h"
#include "tunnelctl/client/carrier.h"
#include "tunnelctl/client/tcp_counts.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kFirst = 0xC000'0000;

struct PingedLinkTest : testing::Test {
  asio::io_context io{};
  FakeTunneld server{io};
  std::shared_ptr<links::Link> link{};
  std::unique_ptr<PingedLink> pinged{};
  std::unique_ptr<links::Mux> mux{};
  std::vector<std::uint32_t> pongs{};

  static asio::awaitable<std::shared_ptr<links::Link>> dial(PingedLinkTest* test) {
    edge::ConnectReport report;
    auto connect = test->server.connect();
    // By name: g++ 12 destroys temporaries of a co_await twice.
    edge::ClientTarget target;
    edge::ClientRequest request;
    auto socket = co_await connect(std::move(target), std::move(request), report);
    auto carrier = std::make_unique<Carrier>(test->io.get_executor(), std::move(*socket),
                                             std::make_shared<CarrierEnd>());
    auto made = co_await links::Link::connect(test->io.get_executor(), std::move(carrier), {});
    co_return made ? *made : nullptr;
  }
  void SetUp() override {
    link = support::run_async(io, dial(this));
    ASSERT_TRUE(link);
    pinged = std::make_unique<PingedLink>(link);
    mux = std::make_unique<links::Mux>(io.get_executor(), *pinged, links::Mux::Options{.ping_every = 0ms});
    pinged->on_pong([this](std::uint32_t value) { pongs.push_back(value); });
    asio::co_spawn(io, mux->run(), [](const std::exception_ptr&, const Result<void>&) {});
  }
  void TearDown() override {
    link->close();
    mux->close();
    server.stop();
    io.restart();
    io.run_for(100ms);
  }
  void run_until(const std::function<bool()>& done) {
    io.restart();
    const auto give_up = std::chrono::steady_clock::now() + 10s;
    while (!done() && std::chrono::steady_clock::now() < give_up) io.run_one_until(give_up);
    ASSERT_TRUE(done());
  }
};

TEST_F(PingedLinkTest, EveryPingIsAnsweredWithoutAStream) {
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_TRUE(pinged->ping(kFirst + i));
  run_until([this] { return pongs.size() >= 20; });
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_EQ(pongs[i], kFirst + i);
}

asio::awaitable<bool> write_much(tunnel::ByteStream* stream, std::string text) {
  co_return (co_await stream->write(std::as_bytes(std::span(text)))).has_value();
}

asio::awaitable<std::string> read_much(tunnel::ByteStream* stream, std::size_t bytes) {
  std::string all;
  std::array<std::byte, 1'000> buffer;
  while (all.size() < bytes) {
    const auto got = co_await stream->read(buffer);
    if (!got || *got == 0) break;
    all.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
  co_return all;
}

TEST_F(PingedLinkTest, PingsAmidTheFramesOfOthersBreakNone) {
  const auto control = *mux->open();  // the first stream is not a service's
  const auto stream = *mux->open();
  std::string text = "{\"service\":\"echo\"}\n";
  std::string payload;
  for (int i = 0; payload.size() < 1'000'000; ++i) payload += std::to_string(i * 7'919);
  std::string got;
  bool wrote = false;
  asio::co_spawn(io, write_much(stream.get(), text + payload),
                 [&](const std::exception_ptr&, bool ok) { wrote = ok; });
  const auto answer = std::string("{\"ok\":true}\n");
  asio::co_spawn(io, read_much(stream.get(), answer.size() + payload.size()),
                 [&](const std::exception_ptr&, std::string all) { got = std::move(all); });
  std::uint32_t sent = 0;
  io.restart();
  const auto give_up = std::chrono::steady_clock::now() + 10s;
  while ((got.empty() || pongs.size() < sent) && std::chrono::steady_clock::now() < give_up) {
    if (got.empty() && pinged->ping(kFirst + sent)) ++sent;
    io.run_one_until(give_up);
  }
  EXPECT_TRUE(wrote);
  EXPECT_TRUE(got == answer + payload);
  EXPECT_GT(sent, 10U);
  EXPECT_EQ(pongs.size(), sent);
}

TEST_F(PingedLinkTest, NoPingLeavesOnceTheLinkIsOver) {
  link->close();
  io.restart();
  io.run_for(50ms);
  EXPECT_FALSE(pinged->ping(kFirst));
}

TEST(TcpCounts, OfWhatIsNoConnectionThereAreNone) {
  EXPECT_FALSE(tcp_counts(-1));
  EXPECT_FALSE(tcp_counts(0x7FFF'FFF0));
}

TEST(TcpCounts, AreWhatWasSent) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  asio::ip::tcp::socket near(io);
  near.connect(acceptor.local_endpoint());
  auto far = acceptor.accept();
  EXPECT_EQ(tcp_counts(near.native_handle())->retransmit_ratio(), 0);
  const std::string text(5'000, 'x');
  asio::write(near, asio::buffer(text));
  std::string got(text.size(), '\0');
  asio::read(far, asio::buffer(got));
  const auto counts = tcp_counts(near.native_handle());
  ASSERT_TRUE(counts);
  EXPECT_GE(counts->bytes_sent, text.size());
  EXPECT_LT(counts->bytes_sent, 3 * text.size());
  EXPECT_DOUBLE_EQ((TcpCounts{.bytes_sent = 200, .bytes_sent_again = 3}).retransmit_ratio(), 0.015);
}

}  // namespace
}  // namespace tunnelctl::client
