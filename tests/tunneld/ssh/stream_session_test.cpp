#include <optional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>

#include "tests/support/memory_stream.h"
#include "tests/support/ssh_lab.h"
#include "tests/support/ssh_observer.h"
#include "tests/tunneld/ssh/inetd_sshd.h"
#include "tunneld/ssh/session.h"

namespace tunneld::ssh {
namespace {

using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Bytes = std::vector<std::byte>;
using Stream = std::unique_ptr<tunnel::ByteStream>;
using Connected = tunnel::Served<std::shared_ptr<Session>>;

/// A session over a stream that somebody else connected, to an sshd without a port.
class SshOverAStream : public testing::Test {
 protected:
  SshOverAStream() : identity_(*Identity::load_or_create(folder_.path() / "identity", "test")) {}

  void SetUp() override { ASSERT_TRUE(initialise(options_)); }

  void configure(const std::string& extra = {}) {
    sshd_.emplace(identity_.public_line(), extra);
    endpoint_ = {"agent:home", {}, sshd_->user()};
    host_keys_.fingerprints = {sshd_->host_key_fingerprint()};
  }

  template <class T>
  T run(asio::awaitable<T> story) {
    std::optional<T> result;
    std::exception_ptr error;
    asio::co_spawn(io_, std::move(story), [&](std::exception_ptr thrown, T value) {
      error = thrown;
      result.emplace(std::move(value));
    });
    settle([&] { return result.has_value(); }, 60s);
    if (error) std::rethrow_exception(error);
    if (!result) throw std::runtime_error("the coroutine did not finish");
    return std::move(*result);
  }
  bool settle(const std::function<bool()>& condition, std::chrono::milliseconds within = 20s) {
    const auto deadline = Clock::now() + within;
    io_.restart();
    while (!condition() && Clock::now() < deadline) {
      io_.restart();
      io_.run_one_for(20ms);
    }
    return condition();
  }

  asio::awaitable<Connected> connecting(Stream stream) {
    return Session::connect_over(io_, std::move(stream), endpoint_, identity_, host_keys_, options_,
                                 observer_, Clock::now() + 20s);
  }
  /// The session's stream stays in reach as stream_, as long as the session has it.
  std::shared_ptr<Session> connect() {
    auto stream = sshd_->start(io_);
    stream_ = stream.get();
    auto session = run(connecting(std::move(stream)));
    if (!session) throw std::runtime_error(session.error().message);
    return *session;
  }
  Stream open(Session& session, std::uint16_t port) {
    auto stream = run(session.open_channel("127.0.0.1", port, Clock::now() + 10s));
    if (!stream) throw std::runtime_error(stream.error().message);
    return std::move(*stream);
  }

  support::TemporaryFolder folder_;
  Identity identity_;
  std::optional<support::InetdSshd> sshd_;
  Endpoint endpoint_;
  HostKeyPolicy host_keys_;
  Options options_;
  support::SshObserver observer_;
  support::SocketStream* stream_ = nullptr;
  asio::io_context io_{1};
};

Bytes pattern(std::size_t size, unsigned seed) {
  std::minstd_rand random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

asio::awaitable<bool> send(tunnel::ByteStream& stream, const Bytes& bytes) {
  const auto written = co_await stream.write(bytes);
  if (!written) co_return false;
  const auto ended = co_await stream.shutdown_write();
  co_return ended.has_value();
}

asio::awaitable<Bytes> receive(tunnel::ByteStream& stream) {
  Bytes all, buffer(50'000);
  for (;;) {
    auto n = co_await stream.read(buffer);
    if (!n || *n == 0) co_return all;
    all.insert(all.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(*n));
  }
}

asio::awaitable<Bytes> through(tunnel::ByteStream& stream, const Bytes& bytes) {
  auto [sent, received] = co_await (send(stream, bytes) && receive(stream));
  co_return sent ? received : Bytes{};
}

TEST_F(SshOverAStream, CarriesEverySizeBothWays) {
  configure();
  support::TcpService echo(support::echo);
  const auto session = connect();
  for (std::size_t around : {2u, 255u, 4096u, 16384u, 32700u, 32768u, 65400u, 65536u, 262144u, 1048576u})
    for (std::size_t size = around - 1; size <= around + 1; ++size) {
      auto stream = open(*session, echo.port());
      const Bytes bytes = pattern(size, static_cast<unsigned>(size));
      ASSERT_EQ(run(through(*stream, bytes)), bytes) << size << " bytes";
    }
  session->close();
}

TEST_F(SshOverAStream, MovesMuchOnManyChannelsThroughKeyChanges) {
  configure("RekeyLimit 512K");
  support::TcpService echo(support::echo);
  const auto session = connect();
  Stream a = open(*session, echo.port()), b = open(*session, echo.port()), c = open(*session, echo.port());
  const std::size_t size = 16 * 1024 * 1024;
  const Bytes p = pattern(size, 1), q = pattern(size, 2), r = pattern(size, 3);
  auto everything = [](Stream& x, Stream& y, Stream& z, const Bytes& bytes_x, const Bytes& bytes_y,
                       const Bytes& bytes_z) -> asio::awaitable<bool> {
    auto [got_x, got_y, got_z] =
        co_await (through(*x, bytes_x) && through(*y, bytes_y) && through(*z, bytes_z));
    co_return got_x == bytes_x&& got_y == bytes_y&& got_z == bytes_z;
  };
  EXPECT_TRUE(run(everything(a, b, c, p, q, r)));
  EXPECT_THAT(sshd_->log(), HasSubstr("rekey"));
  session->close();
}

TEST_F(SshOverAStream, TakesWhatComesInTheSmallestPieces) {
  configure();
  support::TcpService echo(support::echo);
  auto stream = sshd_->start(io_);
  stream->most_per_read = 1;
  auto session = run(connecting(std::move(stream)));
  ASSERT_TRUE(session) << session.error().message;
  auto channel = open(**session, echo.port());
  const Bytes bytes = pattern(100'000, 5);
  EXPECT_EQ(run(through(*channel, bytes)), bytes);
  (*session)->close();
}

TEST_F(SshOverAStream, WritesABatchAtOnce) {
  configure();
  support::TcpService echo(support::echo);
  const auto session = connect();
  std::vector<Stream> channels;
  for (int count = 0; count < 8; ++count) channels.push_back(open(*session, echo.port()));
  settle([] { return false; }, 200ms);  // what sshd still says
  const auto before = stream_->writes;
  int written = 0;
  auto write_one = [](tunnel::ByteStream& stream, int& count) -> asio::awaitable<void> {
    const Bytes bytes(64, std::byte{'x'});
    const auto sent = co_await stream.write(bytes);
    if (sent) ++count;
  };
  for (auto& channel : channels) asio::co_spawn(io_, write_one(*channel, written), [](std::exception_ptr) {});
  ASSERT_TRUE(settle([&] { return written == 8 && stream_->writes > before; }));
  EXPECT_EQ(stream_->writes, before + 1);
  channels.clear();
  session->close();
}

TEST_F(SshOverAStream, AStreamThatTakesNothingStopsTheWriters) {
  configure();
  support::TcpService echo(support::echo);
  const auto session = connect();
  auto channel = open(*session, echo.port());
  stream_->hold_writes = true;
  std::size_t accepted = 0;
  bool over = false;
  auto write_much = [](tunnel::ByteStream& stream, std::size_t& count, bool& ended) -> asio::awaitable<void> {
    const Bytes block(16 * 1024);
    while (count < 4 * 1024 * 1024) {
      const auto sent = co_await stream.write(block);
      if (!sent) break;
      count += block.size();
    }
    ended = true;
  };
  auto read_much = [](tunnel::ByteStream& stream) -> asio::awaitable<void> {
    Bytes buffer(65536);
    for (;;) {
      const auto got = co_await stream.read(buffer);
      if (!got || *got == 0) co_return;
    }
  };
  asio::co_spawn(io_, write_much(*channel, accepted, over), [](std::exception_ptr) {});
  asio::co_spawn(io_, read_much(*channel), [](std::exception_ptr) {});
  EXPECT_FALSE(settle([&] { return accepted > 2 * options_.output_high_bytes; }, 1s));
  EXPECT_GE(accepted, options_.output_high_bytes / 2);
  stream_->release();
  EXPECT_TRUE(settle([&] { return accepted >= 4 * 1024 * 1024; }));
  channel->close();
  ASSERT_TRUE(settle([&] { return over; }));
  session->close();
  settle([] { return false; }, 200ms);
}

// ---- ends ----

TEST_F(SshOverAStream, DiesWithItsStreamAndItsChannelsWithIt) {
  configure();
  support::TcpService echo(support::echo);
  bool told = false;  // outlives the channel, whose end tells once more
  const auto session = connect();
  auto channel = open(*session, echo.port());
  EXPECT_EQ(observer_.sessions, 1);
  session->on_channel_free([&] { told = true; });
  std::optional<Result<std::size_t>> read;
  auto read_one = [](tunnel::ByteStream& stream) -> asio::awaitable<Result<std::size_t>> {
    std::array<std::byte, 16> buffer;
    co_return co_await stream.read(buffer);
  };
  asio::co_spawn(io_, read_one(*channel),
                 [&](std::exception_ptr, Result<std::size_t> result) { read = std::move(result); });
  settle([] { return false; }, 200ms);
  ASSERT_FALSE(read);
  stream_->close();
  ASSERT_TRUE(settle([&] { return read.has_value(); }));
  ASSERT_FALSE(*read);
  EXPECT_THAT(read->error().message, HasSubstr("agent:home: connection lost"));
  EXPECT_FALSE(session->alive());
  EXPECT_TRUE(told);
  EXPECT_EQ(session->free_channels(), 0u);
  EXPECT_EQ(observer_.sessions, 0);
  const auto refused = run(session->open_channel("127.0.0.1", echo.port(), Clock::now() + 5s));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, tunnel::Code::ssh_error);
  EXPECT_TRUE(settle([&] { return sshd_->all_gone(); }));
}

TEST_F(SshOverAStream, DiesWhenTheFarSideEnds) {
  configure();
  const auto session = connect();
  sshd_->kill_all();
  EXPECT_TRUE(settle([&] { return !session->alive(); }));
}

TEST_F(SshOverAStream, SaysGoodbyeWhenItIsClosed) {
  configure();
  support::TcpService echo(support::echo);
  const auto session = connect();
  // A channel that came and went: sshd has nothing left to say, and reads what it is told.
  open(*session, echo.port()).reset();
  ASSERT_TRUE(settle([&] { return session->used_channels() == 0; }));
  session->close();
  EXPECT_FALSE(session->alive());
  EXPECT_TRUE(settle([&] { return sshd_->all_gone(); }));
  EXPECT_THAT(sshd_->log(), HasSubstr("11: tunneld closes"));
}

TEST_F(SshOverAStream, EndsWhenNobodyHoldsIt) {
  configure();
  auto session = connect();
  session.reset();
  EXPECT_TRUE(settle([&] { return sshd_->all_gone(); }));
  EXPECT_EQ(observer_.sessions, 0);
}

TEST_F(SshOverAStream, ClosesThoughTheStreamTakesNothing) {
  configure();
  support::TcpService echo(support::echo);
  const auto session = connect();
  stream_->hold_writes = true;
  const auto closing = Clock::now();
  session->close();
  EXPECT_TRUE(settle([&] { return sshd_->all_gone(); }));
  EXPECT_LT(Clock::now() - closing, 10s);
}

// ---- who the far side is ----

TEST_F(SshOverAStream, RefusesAnotherHostKeyBeforeItLogsIn) {
  configure();
  host_keys_.fingerprints = {"SHA256:" + std::string(43, 'A')};
  const auto session = run(connecting(sshd_->start(io_)));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::host_key_mismatch);
  EXPECT_THAT(session.error().message, HasSubstr(sshd_->host_key_fingerprint()));
  EXPECT_TRUE(settle([&] { return sshd_->all_gone(); }));
  EXPECT_THAT(sshd_->log(), testing::Not(HasSubstr("userauth-request")));
}

TEST_F(SshOverAStream, RefusesWhoeverItHasNoHostKeyOf) {
  configure();
  host_keys_.fingerprints.clear();
  const auto session = run(connecting(sshd_->start(io_)));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::host_key_mismatch);
}

TEST_F(SshOverAStream, NamesTheUserWhoseKeyIsMissing) {
  configure();
  const auto other = Identity::load_or_create(folder_.path() / "other_key", "other");
  ASSERT_TRUE(other);
  auto story = Session::connect_over(io_, sshd_->start(io_), endpoint_, *other, host_keys_, options_,
                                     observer_, Clock::now() + 20s);
  const auto session = run(std::move(story));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::ssh_error);
  EXPECT_THAT(session.error().message, HasSubstr("authorized_keys"));
}

TEST_F(SshOverAStream, RefusesGarbage) {
  configure();
  const std::string much(300'000, 'x');
  const std::string said[] = {"", "HTTP/1.1 400 Bad Request\r\n\r\n",
                              "SSH-2.0-x\r\n" + std::string(64, '\xff'), much, "SSH-2.0-x\r\n" + much};
  for (const auto& words : said) {
    auto [near, far] = support::memory_streams(io_.get_executor(), 1024 * 1024);
    auto say = [](support::MemoryStream& stream, const std::string& text) -> asio::awaitable<bool> {
      const auto written = co_await stream.write(support::bytes_of(text));
      const auto ended = co_await stream.shutdown_write();
      co_return written&& ended;
    };
    ASSERT_TRUE(run(say(*far, words)));
    const auto session = run(connecting(std::move(near)));
    ASSERT_FALSE(session) << words.substr(0, 40);
    EXPECT_EQ(session.error().code, tunnel::Code::ssh_error) << words.substr(0, 40);
  }
}

TEST_F(SshOverAStream, DoesNotWaitForSilenceForEver) {
  configure();
  options_.handshake_timeout = 50ms;
  auto [near, far] = support::memory_streams(io_.get_executor());
  const auto session = run(connecting(std::move(near)));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::timed_out);
  EXPECT_TRUE(settle([&] { return far->readable(); })) << "and the stream is closed";
}

TEST_F(SshOverAStream, ClosesTheStreamWhenItsConnectIsCancelled) {
  configure();
  auto [near, far] = support::memory_streams(io_.get_executor());
  asio::cancellation_signal cancel;
  bool over = false;
  asio::co_spawn(
      io_, connecting(std::move(near)),
      asio::bind_cancellation_slot(cancel.slot(), [&](std::exception_ptr, Connected) { over = true; }));
  settle([] { return false; }, 200ms);
  ASSERT_FALSE(over);
  cancel.emit(asio::cancellation_type::terminal);
  ASSERT_TRUE(settle([&] { return over; }));
  const auto rest = run(support::read_all(*far));
  EXPECT_THAT(rest, testing::StartsWith("SSH-2.0-"));
}

}  // namespace
}  // namespace tunneld::ssh
