// Our multiplexer against the Go implementation (tests/interop/yamux), over a socket pair. Skipped where
// there is no Go, or its module cannot be had.
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "link/mux.h"
#include "tests/support/memory_stream.h"
#include "tests/support/run_async.h"
#include "tests/support/socket_stream.h"

namespace links {
namespace {

using namespace std::chrono_literals;
using support::bytes_of;
using tunnel::ByteStream;
using Streams = std::vector<std::unique_ptr<ByteStream>>;

constexpr std::size_t kStreams = 16;
constexpr std::size_t kBytesEach = 512 * 1024;  // more than a window; 8 MiB in all

std::string go_program() {
  const char* path = std::getenv("PATH");
  std::istringstream folders(std::string(path ? path : "") + ":/usr/local/go/bin");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (!folder.empty() && access((folder + "/go").c_str(), X_OK) == 0) return folder + "/go";
  return {};
}

/// tests/interop/yamux, built once for all tests, in a folder of its own.
struct GoPeer {
  GoPeer() {
    const auto go = go_program();
    if (go.empty()) {
      missing = "there is no Go compiler";
      return;
    }
    std::string pattern = (std::filesystem::temp_directory_path() / "yamux-peer-XXXXXX").string();
    if (!mkdtemp(pattern.data())) {
      missing = "no temporary folder";
      return;
    }
    folder = pattern;
    const auto sources = std::filesystem::path(__FILE__).parent_path().parent_path() / "interop" / "yamux";
    std::error_code failed;
    for (const auto* name : {"main.go", "go.mod", "go.sum"})
      std::filesystem::copy_file(sources / name, folder / name, failed);
    const auto command = "cd '" + folder.string() + "' && GOFLAGS=-mod=mod timeout 60 '" + go +
                         "' build -o peer . >build.log 2>&1";
    if (std::system(command.c_str()) == 0) return;
    std::ifstream log(folder / "build.log");
    missing = "the Go peer does not build: " + std::string(std::istreambuf_iterator<char>(log), {});
  }
  ~GoPeer() {
    std::error_code ignored;
    if (!folder.empty()) std::filesystem::remove_all(folder, ignored);
  }

  std::filesystem::path folder;
  std::string missing;
};

asio::awaitable<void> until(std::function<bool()> holds) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  while (!holds()) {
    timer.expires_after(1ms);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

class YamuxInterop : public testing::Test {
 protected:
  static void SetUpTestSuite() { peer_ = std::make_unique<GoPeer>(); }
  static void TearDownTestSuite() { peer_.reset(); }
  void SetUp() override {
    if (!peer_->missing.empty()) GTEST_SKIP() << peer_->missing;
  }
  void TearDown() override {
    if (child_ > 0) kill(child_, SIGKILL);
    if (child_ > 0) waitpid(child_, nullptr, 0);
  }

  /// Starts the peer with its end of a socket pair as stdin and stdout, and a Mux on the other.
  void start(yamux::Role role, std::vector<std::string> arguments) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const auto program = (peer_->folder / "peer").string();
    std::vector<char*> argv{const_cast<char*>(program.c_str())};
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    child_ = fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      dup2(ends[1], STDIN_FILENO);
      dup2(ends[1], STDOUT_FILENO);
      execv(program.c_str(), argv.data());
      _exit(127);
    }
    ::close(ends[1]);
    carrier_ = std::make_unique<support::SocketStream>(
        support::SocketStream::Socket(context_, asio::local::stream_protocol(), ends[0]));
    mux_ = std::make_unique<Mux>(context_.get_executor(), *carrier_,
                                 Mux::Options{.role = role, .ping_every = 1ms});
  }
  template <class T>
  T run(asio::awaitable<T> story) {
    return support::run_async(context_, std::move(story));
  }
  /// The exit status; the peer ends when its session does.
  int wait_for_peer() {
    int status = -1;
    run(until([&] { return waitpid(child_, &status, WNOHANG) != 0; }));
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void run_mux() {
    auto noted = [this](std::exception_ptr error, Result<void> result) {
      if (!error) mux_end_ = std::move(result);
    };
    asio::co_spawn(context_, mux_->run(), noted);
  }

  static std::unique_ptr<GoPeer> peer_;
  asio::io_context context_;
  std::unique_ptr<support::SocketStream> carrier_;
  std::unique_ptr<Mux> mux_;
  std::optional<Result<void>> mux_end_;
  pid_t child_ = -1;
};
std::unique_ptr<GoPeer> YamuxInterop::peer_;

std::string pattern(std::size_t size, std::size_t seed) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 131 + i / 251 + seed * 17) & 0xFF);
  return text;
}

asio::awaitable<void> send_all(ByteStream& stream, std::string text) {
  EXPECT_TRUE(co_await stream.write(bytes_of(text)));
  EXPECT_TRUE(co_await stream.shutdown_write());
}
asio::awaitable<void> exchange(std::unique_ptr<ByteStream> stream, std::size_t seed, std::size_t& done) {
  using namespace asio::experimental::awaitable_operators;
  const auto text = pattern(kBytesEach, seed);
  const auto got = co_await (send_all(*stream, text) && support::read_all(*stream));
  EXPECT_TRUE(got == text) << "stream " << seed << ": " << got.size() << " bytes came back";
  ++done;
}
struct Rethrow {
  void operator()(std::exception_ptr error) const {
    if (error) std::rethrow_exception(error);
  }
};
TEST_F(YamuxInterop, OurClientAndTheGoServer) {
  start(yamux::Role::client, {"server"});
  run_mux();
  std::size_t done = 0;
  for (std::size_t seed = 0; seed < kStreams; ++seed)
    asio::co_spawn(context_, exchange(std::move(mux_->open()).value(), seed, done), Rethrow{});
  run(until([&] { return done == kStreams; }));
  EXPECT_GT(mux_->round_trip(), 0ns) << "it answers pings";
  EXPECT_EQ(mux_->streams(), 0U);

  // A reset, behind which the session goes on.
  auto broken = std::move(mux_->open()).value();
  ASSERT_TRUE(run(broken->write(bytes_of("never mind"))));
  broken.reset();
  asio::co_spawn(context_, exchange(std::move(mux_->open()).value(), 99, done), Rethrow{});
  run(until([&] { return done == kStreams + 1; }));

  mux_->go_away();
  context_.restart();
  context_.poll();  // it is with the peer before the connection's end is
  ASSERT_TRUE(run(carrier_->shutdown_write()));
  run(until([&] { return mux_end_.has_value(); }));
  EXPECT_TRUE(*mux_end_) << mux_end_->error().message;
  EXPECT_EQ(wait_for_peer(), 0);
}

asio::awaitable<void> echo(std::unique_ptr<ByteStream> stream) {
  std::array<std::byte, 20'000> buffer;
  for (;;) {
    const auto got = co_await stream->read(buffer);
    if (!got) co_return;
    if (*got == 0) break;
    const auto sent = co_await stream->write(std::span(buffer).first(*got));
    if (!sent) co_return;
  }
  (void)co_await stream->shutdown_write();
}

TEST_F(YamuxInterop, TheGoClientAndOurServer) {
  start(yamux::Role::server, {"client", std::to_string(kStreams), std::to_string(kBytesEach)});
  std::size_t opened = 0;
  mux_->on_stream([&](std::unique_ptr<ByteStream> stream) {
    ++opened;
    asio::co_spawn(context_, echo(std::move(stream)), Rethrow{});
  });
  run_mux();
  // Its go-away comes when it has got all its bytes back; it waits for ours then.
  run(until([&] { return mux_end_.has_value() || !mux_->open(); }));
  EXPECT_GE(opened, kStreams) << "and those that it opens to see whether it still may";
  mux_->go_away();
  run(until([&] { return mux_end_.has_value(); }));
  EXPECT_TRUE(*mux_end_) << mux_end_->error().message;
  EXPECT_EQ(wait_for_peer(), 0);
}

}  // namespace
}  // namespace links
