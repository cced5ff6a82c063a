#include "tunneld/ssh/session.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tests/support/ssh_lab.h"
#include "tests/support/ssh_observer.h"

namespace tunneld::ssh {
namespace {

using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Bytes = std::vector<std::byte>;
using Stream = std::unique_ptr<tunnel::ByteStream>;

/// A test's world: an identity, an sshd that knows it, and a loop to run coroutines on.
class SshSession : public testing::Test {
 protected:
  SshSession() : identity_(*Identity::load_or_create(folder_.path() / "identity", "test")) {}

  void SetUp() override { ASSERT_TRUE(initialise(options_)); }

  void start_sshd(const std::string& extra = {}) {
    sshd_.emplace(identity_.public_line(), support::SshdOptions{extra, {}});
    endpoint_ = {"lab", {sshd_->address()}, sshd_->user()};
    host_keys_.fingerprints = {sshd_->host_key_fingerprint()};
  }

  /// Runs one coroutine to its end; a test that hangs fails after a minute.
  template <class T>
  T run(asio::awaitable<T> story) {
    std::optional<T> result;
    std::exception_ptr error;
    asio::co_spawn(io_, std::move(story), [&](std::exception_ptr thrown, T value) {
      error = thrown;
      result.emplace(std::move(value));
    });
    io_.restart();
    const auto deadline = Clock::now() + 60s;
    while (!result && Clock::now() < deadline) io_.run_one_for(1s);
    if (error) std::rethrow_exception(error);
    if (!result) throw std::runtime_error("the coroutine did not finish");
    return std::move(*result);
  }

  tunnel::Served<std::shared_ptr<Session>> connect() {
    return run(
        Session::connect(io_, endpoint_, identity_, host_keys_, options_, observer_, Clock::now() + 20s));
  }
  Stream open(Session& session, std::uint16_t port) {
    auto stream = run(session.open_channel("127.0.0.1", port, Clock::now() + 10s));
    if (!stream) throw std::runtime_error(stream.error().message);
    return std::move(*stream);
  }
  /// Runs what is due without waiting for more, until `condition` holds.
  bool settle(const std::function<bool()>& condition, std::chrono::seconds within = 20s) {
    const auto deadline = Clock::now() + within;
    io_.restart();
    while (!condition() && Clock::now() < deadline) io_.run_one_for(100ms);
    return condition();
  }

  support::TemporaryFolder folder_;
  Identity identity_;
  std::optional<support::Sshd> sshd_;
  Endpoint endpoint_;
  HostKeyPolicy host_keys_;
  Options options_;
  support::SshObserver observer_;
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

/// Everything until the peer ends its direction; what was read so far if the stream breaks.
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

// ---- interoperation ----

TEST_F(SshSession, CarriesEverySizeBothWays) {
  start_sshd();
  support::TcpService echo(support::echo);
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  std::vector<std::size_t> sizes;
  for (std::size_t size = 1; size <= 70; ++size) sizes.push_back(size);
  for (std::size_t around : {255u, 4096u, 16384u, 32700u, 32768u, 35000u, 65400u, 65536u, 262144u, 1048576u})
    for (std::size_t size = around - 2; size <= around + 2; ++size) sizes.push_back(size);
  for (std::size_t size : sizes) {
    auto stream = open(**session, echo.port());
    const Bytes bytes = pattern(size, static_cast<unsigned>(size));
    ASSERT_EQ(run(through(*stream, bytes)), bytes) << size << " bytes";
  }
}

TEST_F(SshSession, FollowsKeyChangesInMidTransfer) {
  start_sshd("RekeyLimit 512K");
  support::TcpService echo(support::echo);
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  const std::size_t size = 6 * 1024 * 1024;
  Stream a = open(**session, echo.port()), b = open(**session, echo.port()), c = open(**session, echo.port());
  const Bytes first = pattern(size, 1), second = pattern(size, 2), third = pattern(size, 3);
  auto everything = [](Stream& x, Stream& y, Stream& z, const Bytes& p, const Bytes& q,
                       const Bytes& r) -> asio::awaitable<bool> {
    auto [got_p, got_q, got_r] = co_await (through(*x, p) && through(*y, q) && through(*z, r));
    co_return got_p == p&& got_q == q&& got_r == r;
  };
  EXPECT_TRUE(run(everything(a, b, c, first, second, third)));
  // sshd logs each exchange: the first, and at least one for every few megabytes.
  const std::string log = sshd_->log();
  std::size_t exchanges = 0;
  for (std::size_t at = log.find("SSH2_MSG_NEWKEYS sent"); at != std::string::npos;
       at = log.find("SSH2_MSG_NEWKEYS sent", at + 1))
    ++exchanges;
  EXPECT_GT(exchanges, 10u);
}

TEST_F(SshSession, RefusesAFlippedByteAnywhereInWhatTheFarSideSends) {
  start_sshd();
  support::TcpService echo(support::echo);
  // The handshake takes somewhat over 1,500 bytes; beyond are sealed packets: lengths, text and tags.
  std::size_t refused = 0;
  const std::size_t first = 2'600;
  for (std::size_t offset = first; offset < first + 40; ++offset) {
    auto proxy = support::tampering_proxy(sshd_->port(), {.towards_server = false, .offset = offset});
    endpoint_.addresses = {"127.0.0.1:" + std::to_string(proxy->port())};
    auto session = connect();
    if (!session) {  // the flip hit the log-in
      ++refused;
      continue;
    }
    auto stream = run((*session)->open_channel("127.0.0.1", echo.port(), Clock::now() + 5s));
    const Bytes bytes = pattern(20'000, 7);
    const bool intact = stream && run(through(**stream, bytes)) == bytes;
    EXPECT_FALSE(intact) << "flip at " << offset;
    EXPECT_FALSE((*session)->alive()) << "flip at " << offset;
    ++refused;
    if (stream) (*stream)->close();
    (*session)->close();
  }
  EXPECT_EQ(refused, 40u);
}

TEST_F(SshSession, IsRefusedByTheFarSideForAFlippedByteInWhatItSends) {
  start_sshd();
  support::TcpService echo(support::echo);
  const std::size_t first = 4'000;
  for (std::size_t offset = first; offset < first + 40; ++offset) {
    auto proxy = support::tampering_proxy(sshd_->port(), {.towards_server = true, .offset = offset});
    endpoint_.addresses = {"127.0.0.1:" + std::to_string(proxy->port())};
    auto session = connect();
    ASSERT_TRUE(session) << session.error().message;
    auto stream = run((*session)->open_channel("127.0.0.1", echo.port(), Clock::now() + 5s));
    ASSERT_TRUE(stream) << stream.error().message;
    const Bytes bytes = pattern(20'000, 9);
    EXPECT_NE(run(through(**stream, bytes)), bytes) << "flip at " << offset;
    EXPECT_FALSE((*session)->alive());
    (*stream)->close();
  }
}

TEST_F(SshSession, CanGoBackToTheLibrarysOwnCipher) {
  options_.whole_packet_gcm = false;
  ASSERT_TRUE(initialise(options_));
  start_sshd();
  support::TcpService echo(support::echo);
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  auto stream = open(**session, echo.port());
  const Bytes bytes = pattern(500, 3);
  EXPECT_EQ(run(through(*stream, bytes)), bytes);
}

// ---- who the far side is ----

TEST_F(SshSession, RefusesAHostKeyThatIsNotThePinnedOne) {
  start_sshd();
  host_keys_.fingerprints = {"SHA256:" + std::string(43, 'A')};
  auto session = connect();
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::host_key_mismatch);
  EXPECT_THAT(session.error().message, HasSubstr(sshd_->host_key_fingerprint()));
}

TEST_F(SshSession, ReadsKnownHostsAndRefusesChangedKeys) {
  start_sshd();
  const auto file = folder_.path() / "known_hosts";
  const std::string name = "[127.0.0.1]:" + std::to_string(sshd_->port());
  host_keys_ = {{}, file, false};
  {
    std::ofstream(file) << name << " " << sshd_->host_key_line() << "\n";
    EXPECT_TRUE(connect());
  }
  {
    std::ofstream(file) << name << " " << identity_.public_line() << "\n";
    auto session = connect();
    ASSERT_FALSE(session);
    EXPECT_EQ(session.error().code, tunnel::Code::host_key_mismatch);
    EXPECT_THAT(session.error().message, HasSubstr("differs"));
  }
  {
    std::ofstream(file) << "elsewhere " << sshd_->host_key_line() << "\n";
    auto session = connect();
    ASSERT_FALSE(session);
    EXPECT_THAT(session.error().message, HasSubstr("is not in"));
  }
}

TEST_F(SshSession, TrustsOnFirstUseOnlyWhenToldAndNeverOverwrites) {
  start_sshd();
  const auto file = folder_.path() / "known_hosts";
  host_keys_ = {{}, file, true};
  ASSERT_TRUE(connect());
  std::ostringstream recorded;
  recorded << std::ifstream(file).rdbuf();
  EXPECT_THAT(recorded.str(), HasSubstr(std::to_string(sshd_->port())));
  EXPECT_TRUE(connect());

  std::ofstream(file) << "[127.0.0.1]:" << sshd_->port() << " " << identity_.public_line() << "\n";
  auto session = connect();
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::host_key_mismatch);
}

TEST_F(SshSession, SaysThatItsKeyIsNotAuthorised) {
  start_sshd();
  auto stranger = *Identity::load_or_create(folder_.path() / "stranger", "x");
  auto session =
      run(Session::connect(io_, endpoint_, stranger, host_keys_, options_, observer_, Clock::now() + 20s));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::ssh_error);
  EXPECT_THAT(session.error().message, HasSubstr("authorized_keys"));
}

TEST_F(SshSession, RefusesWeakerAlgorithms) {
  start_sshd();
  struct Row {
    const char* what;
    const char* lines;
  };
  // First value wins in sshd_config, so these are put into a configuration of their own.
  for (const Row& row :
       {Row{"cipher", "Ciphers aes128-ctr"}, Row{"kex", "KexAlgorithms ecdh-sha2-nistp256"}}) {
    SCOPED_TRACE(row.what);
    support::SshdOptions weak;
    weak.first_lines = row.lines;
    support::Sshd other(identity_.public_line(), weak);
    endpoint_.addresses = {other.address()};
    host_keys_.fingerprints = {other.host_key_fingerprint()};
    auto session = connect();
    ASSERT_FALSE(session);
    EXPECT_EQ(session.error().code, tunnel::Code::ssh_error);
  }
}

TEST_F(SshSession, RefusesWhatIsNotSsh) {
  struct Row {
    const char* says;
  };
  for (const Row& row : {Row{"HTTP/1.1 400 Bad Request\r\n\r\n"}, Row{"SSH-1.5-old\r\n"},
                         Row{"\0\0\0\0\0\0\0\0\n"}, Row{""}}) {
    SCOPED_TRACE(row.says);
    support::TcpService impostor([says = std::string(row.says)](int socket) {
      (void)!::write(socket, says.data(), says.size());
      ::shutdown(socket, SHUT_WR);
      char ignored[256];
      while (::read(socket, ignored, sizeof ignored) > 0) {
      }
    });
    endpoint_ = {"impostor", {"127.0.0.1:" + std::to_string(impostor.port())}, "nobody"};
    host_keys_.fingerprints = {"SHA256:" + std::string(43, 'A')};
    auto session = connect();
    ASSERT_FALSE(session);
    EXPECT_EQ(session.error().code, tunnel::Code::ssh_error);
  }
}

// ---- reaching it ----

TEST_F(SshSession, TriesTheNextAddressWhenOneDoesNotAnswer) {
  start_sshd();
  support::BlackHole hole;
  options_.connect_timeout = 200ms;
  endpoint_.addresses = {"127.0.0.1:" + std::to_string(support::closed_port()),
                         "127.0.0.1:" + std::to_string(hole.port()), sshd_->address()};
  EXPECT_TRUE(connect());
}

TEST_F(SshSession, NamesTheUpstreamThatCannotBeReached) {
  const std::string address = "127.0.0.1:" + std::to_string(support::closed_port());
  endpoint_ = {"home", {address}, "nobody"};
  auto session = connect();
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::unreachable);
  EXPECT_EQ(session.error().message, "upstream home (" + address + "): Connection refused");
}

TEST_F(SshSession, GivesUpOnAFarSideThatNeverSpeaks) {
  support::TcpService mute([](int socket) {
    char ignored[256];
    while (::read(socket, ignored, sizeof ignored) > 0) {
    }
  });
  endpoint_ = {"mute", {"127.0.0.1:" + std::to_string(mute.port())}, "nobody"};
  options_.handshake_timeout = 200ms;
  auto session = connect();
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, tunnel::Code::timed_out);
}

// ---- channels ----

TEST_F(SshSession, TellsARefusedTargetFromAForbiddenOne) {
  support::TcpService echo(support::echo);
  const auto closed = support::closed_port();
  start_sshd("PermitOpen 127.0.0.1:" + std::to_string(closed));
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  auto refused = run((*session)->open_channel("127.0.0.1", closed, Clock::now() + 5s));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, tunnel::Code::unreachable);
  auto forbidden = run((*session)->open_channel("127.0.0.1", echo.port(), Clock::now() + 5s));
  ASSERT_FALSE(forbidden);
  EXPECT_EQ(forbidden.error().code, tunnel::Code::ssh_error);
  EXPECT_THAT(forbidden.error().message, HasSubstr("PermitOpen"));
  EXPECT_EQ((*session)->free_channels(), options_.max_channels);
}

TEST_F(SshSession, OpensOthersWhileOneOpenHangs) {
  start_sshd();
  support::BlackHole hole;
  support::TcpService echo(support::echo);
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  auto both = [](Session& on, std::uint16_t hung, std::uint16_t good) -> asio::awaitable<bool> {
    auto [stuck, opened] = co_await (on.open_channel("127.0.0.1", hung, Clock::now() + 1s) &&
                                     on.open_channel("127.0.0.1", good, Clock::now() + 500ms));
    co_return !stuck && stuck.error().code == tunnel::Code::timed_out && opened.has_value();
  };
  EXPECT_TRUE(run(both(**session, hole.port(), echo.port())));
  // The hung one still counts until the far side has answered it.
  EXPECT_LT((*session)->free_channels(), options_.max_channels);
}

TEST_F(SshSession, KeepsHalfClosedStreamsOpenInTheOtherDirection) {
  start_sshd();
  // Counts what comes until its end, and only then answers.
  support::TcpService counting([](int socket) {
    std::size_t total = 0;
    char buffer[4096];
    for (ssize_t n; (n = ::read(socket, buffer, sizeof buffer)) > 0;) total += static_cast<std::size_t>(n);
    const std::string answer = std::to_string(total);
    (void)!::write(socket, answer.data(), answer.size());
  });
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  auto stream = open(**session, counting.port());
  const Bytes answer = run(through(*stream, pattern(300'000, 4)));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(answer.data()), answer.size()), "300000");
}

TEST_F(SshSession, LetsOneStalledReaderNotStopAnother) {
  start_sshd();
  std::atomic<std::size_t> produced{0};
  support::TcpService endless([&produced](int socket) {
    const std::string block(64 * 1024, 'x');
    for (ssize_t n; (n = ::send(socket, block.data(), block.size(), MSG_NOSIGNAL)) > 0;)
      produced += static_cast<std::size_t>(n);
  });
  support::TcpService echo(support::echo);
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  auto stalled = open(**session, endless.port());  // nobody reads it
  auto lively = open(**session, echo.port());
  const Bytes bytes = pattern(8 * 1024 * 1024, 5);
  EXPECT_EQ(run(through(*lively, bytes)), bytes);
  // What was taken in for it: the window, and what the sockets on the way hold.
  EXPECT_LT(produced.load(), 24u * 1024 * 1024);
}

TEST_F(SshSession, FreesTheSlotOfAClosedStream) {
  start_sshd();
  support::TcpService echo(support::echo);
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  int freed = 0;
  (*session)->on_channel_free([&freed] { ++freed; });
  for (int round = 0; round < 30; ++round) {
    auto stream = open(**session, echo.port());
    stream->close();
  }
  EXPECT_TRUE(settle([&] { return (*session)->used_channels() == 0; }));
  EXPECT_EQ(freed, 30);
  (*session)->on_channel_free({});  // its end is none of this count's business
  EXPECT_EQ(observer_.channels, 0);
}

// ---- ends ----

TEST_F(SshSession, FailsAllStreamsAtOnceWhenTheFarSideIsKilled) {
  start_sshd();
  support::TcpService echo(support::echo);
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  auto stream = open(**session, echo.port());
  auto read_one = [](tunnel::ByteStream& from) -> asio::awaitable<Result<std::size_t>> {
    Bytes buffer(10);
    co_return co_await from.read(buffer);
  };
  std::optional<Result<std::size_t>> ended;
  asio::co_spawn(io_, read_one(*stream),
                 [&](std::exception_ptr, Result<std::size_t> result) { ended = result; });
  ASSERT_FALSE(settle([&] { return ended.has_value(); }, 0s));
  sshd_->kill_all();
  ASSERT_TRUE(settle([&] { return ended.has_value(); }));
  EXPECT_FALSE(*ended);
  EXPECT_FALSE((*session)->alive());
  EXPECT_EQ((*session)->free_channels(), 0u);
  EXPECT_EQ(observer_.sessions, 0);
}

TEST_F(SshSession, NoticesAFarSideThatStoppedAnswering) {
  start_sshd();
  options_.keepalive = 2s;
  options_.keepalive_reply = 300ms;
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  const auto stopped = sshd_->session_processes();
  ASSERT_FALSE(stopped.empty());
  for (pid_t process : stopped) ::kill(process, SIGSTOP);
  EXPECT_TRUE(settle([&] { return !(*session)->alive(); }));
  EXPECT_EQ(observer_.errors["session/keepalive"], 1);
  for (pid_t process : stopped) ::kill(process, SIGCONT);
}

TEST_F(SshSession, StaysAliveWhenKeepalivesAreAnswered) {
  start_sshd();
  options_.keepalive = 2s;
  options_.keepalive_reply = 300ms;
  options_.keepalive_misses = 1;
  auto session = connect();
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_FALSE(settle([&] { return !(*session)->alive(); }, 6s));
}

}  // namespace
}  // namespace tunneld::ssh
