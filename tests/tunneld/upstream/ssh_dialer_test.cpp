#include "tunneld/upstream/ssh_dialer.h"

#include <algorithm>
#include <csignal>
#include <functional>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>

#include "tests/support/ssh_lab.h"
#include "tests/support/ssh_observer.h"
#include "tunneld/ssh/session.h"

namespace tunneld::upstream {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Stream = std::unique_ptr<tunnel::ByteStream>;

class Dialer : public testing::Test {
 protected:
  Dialer() : identity_(*ssh::Identity::load_or_create(folder_.path() / "identity", "test")) {
    options_.ssh.max_channels = 2;
    options_.max_sessions = 2;
    service_ = {"echo", "lab", "127.0.0.1", echo_.port(), {"*"}};
  }

  void SetUp() override {
    ASSERT_TRUE(ssh::initialise(options_.ssh));
    sshd_.emplace(identity_.public_line());
    DialledUpstream upstream;
    upstream.endpoint = {"lab", {sshd_->address()}, sshd_->user()};
    upstream.host_keys.fingerprints = {sshd_->host_key_fingerprint()};
    options_.upstreams = {upstream};
  }

  SshDialer& dialer() {
    if (!dialer_) dialer_.emplace(io_, options_, SshDialer::Identities{{"lab", &identity_}}, observer_);
    return *dialer_;
  }

  void TearDown() override {
    if (!dialer_) return;
    dialer_->close();
    io_.restart();
    io_.run_for(5s);
  }

  struct Opening {
    std::optional<tunnel::Served<Stream>> result;
    bool done() const { return result.has_value(); }
    bool ok() const { return done() && result->has_value(); }
  };
  /// Starts an open and goes on; `settle` runs it.
  std::shared_ptr<Opening> start(const std::string& subject = "ann", Clock::duration within = 20s) {
    auto opening = std::make_shared<Opening>();
    access::Principal principal;
    principal.issuer = "test";
    principal.subject = subject;
    asio::co_spawn(io_, open_one(dialer(), principal, service_, Clock::now() + within),
                   [opening](std::exception_ptr error, tunnel::Served<Stream> result) {
                     if (!error) opening->result.emplace(std::move(result));
                   });
    return opening;
  }
  static asio::awaitable<tunnel::Served<Stream>> open_one(SshDialer& dialer, access::Principal principal,
                                                          tunnel::Service service,
                                                          Clock::time_point deadline) {
    co_return co_await dialer.open(principal, service, deadline);
  }

  bool settle(const std::function<bool()>& condition, std::chrono::milliseconds within = 40s) {
    const auto deadline = Clock::now() + within;
    io_.restart();
    while (!condition() && Clock::now() < deadline) io_.run_one_for(50ms);
    return condition();
  }
  Stream open(const std::string& subject = "ann") {
    auto opening = start(subject);
    settle([&] { return opening->done(); });
    if (!opening->ok())
      throw std::runtime_error(opening->done() ? opening->result->error().message : "hangs");
    return std::move(**opening->result);
  }

  support::TemporaryFolder folder_;
  ssh::Identity identity_;
  support::TcpService echo_{support::echo};
  std::optional<support::Sshd> sshd_;
  Options options_;
  tunnel::Service service_;
  support::SshObserver observer_;
  asio::io_context io_{1};
  std::optional<SshDialer> dialer_;
};

TEST_F(Dialer, FillsASessionBeforeItOpensAnother) {
  auto one = open();
  auto two = open();
  EXPECT_EQ(dialer().counts().sessions, 1u);
  auto three = open();
  EXPECT_EQ(dialer().counts().sessions, 2u);
  EXPECT_EQ(dialer().counts().channels, 3u);
}

TEST_F(Dialer, NeverSharesASessionBetweenPrincipals) {
  auto ann = open("ann");
  auto bob = open("bob");
  EXPECT_EQ(dialer().counts().sessions, 2u);
  EXPECT_EQ(observer_.sessions, 2);
}

TEST_F(Dialer, OpensOneSessionForAHerdThatFitsIt) {
  options_.ssh.max_channels = 10;
  std::vector<std::shared_ptr<Opening>> herd;
  for (int i = 0; i < 10; ++i) herd.push_back(start());
  ASSERT_TRUE(
      settle([&] { return std::all_of(herd.begin(), herd.end(), [](auto& each) { return each->ok(); }); }));
  EXPECT_EQ(dialer().counts().sessions, 1u);
}

TEST_F(Dialer, ServesThoseWhoWaitInTheOrderTheyCame) {
  options_.max_sessions = 1;
  options_.ssh.max_channels = 1;
  auto first = open();
  auto second = start();
  auto third = start();
  EXPECT_FALSE(settle([&] { return second->done() || third->done(); }, 200ms));
  EXPECT_EQ(observer_.waiting, 2);
  first->close();
  first.reset();
  ASSERT_TRUE(settle([&] { return second->ok(); }));
  EXPECT_FALSE(third->done());
  second->result.reset();
  ASSERT_TRUE(settle([&] { return third->ok(); }));
  EXPECT_EQ(observer_.waiting, 0);
}

TEST_F(Dialer, RefusesAtOnceWhenTooManyWait) {
  options_.max_sessions = 1;
  options_.ssh.max_channels = 1;
  options_.max_waiting = 1;
  auto holder = open();
  auto waits = start();
  settle([&] { return waits->done(); }, 50ms);
  auto refused = start();
  ASSERT_TRUE(settle([&] { return refused->done(); }));
  ASSERT_FALSE(refused->ok());
  EXPECT_EQ(refused->result->error().code, tunnel::Code::queue_full);
  EXPECT_FALSE(waits->done());
}

TEST_F(Dialer, StopsWaitingAtTheDeadline) {
  options_.max_sessions = 1;
  options_.ssh.max_channels = 1;
  auto holder = open();
  auto late = start("ann", 150ms);
  ASSERT_TRUE(settle([&] { return late->done(); }));
  ASSERT_FALSE(late->ok());
  EXPECT_EQ(late->result->error().code, tunnel::Code::timed_out);
  EXPECT_EQ(observer_.waiting, 0);
}

TEST_F(Dialer, DialsAgainAfterASessionDied) {
  auto before = open();
  for (pid_t process : sshd_->session_processes()) ::kill(process, SIGKILL);
  ASSERT_TRUE(settle([&] { return observer_.sessions == 0; }));
  auto after = open();
  EXPECT_EQ(dialer().counts().sessions, 1u);
}

TEST_F(Dialer, TellsEveryoneWhoWaitsWhyTheConnectFailed) {
  options_.upstreams.front().host_keys.fingerprints = {"SHA256:" + std::string(43, 'A')};
  auto one = start();
  auto two = start();
  ASSERT_TRUE(settle([&] { return one->done() && two->done(); }));
  EXPECT_EQ(one->result->error().code, tunnel::Code::host_key_mismatch);
  EXPECT_EQ(two->result->error().code, tunnel::Code::host_key_mismatch);
}

TEST_F(Dialer, RefusesWhatItHasNoUpstreamForAndWhenClosed) {
  service_.upstream = "elsewhere";
  auto unknown = start();
  ASSERT_TRUE(settle([&] { return unknown->done(); }));
  EXPECT_EQ(unknown->result->error().code, tunnel::Code::unavailable);
  service_.upstream = "lab";
  dialer().close();
  auto closed = start();
  ASSERT_TRUE(settle([&] { return closed->done(); }));
  EXPECT_EQ(closed->result->error().code, tunnel::Code::unavailable);
}

TEST_F(Dialer, ClosesWhileConnectsAreUnderWay) {
  std::vector<std::shared_ptr<Opening>> herd;
  for (int i = 0; i < 6; ++i) herd.push_back(start("user" + std::to_string(i)));
  settle([] { return false; }, 5ms);
  dialer().close();
  EXPECT_TRUE(
      settle([&] { return std::all_of(herd.begin(), herd.end(), [](auto& each) { return each->done(); }); }));
  EXPECT_EQ(dialer().counts().sessions, 0u);
}

}  // namespace
}  // namespace tunneld::upstream
