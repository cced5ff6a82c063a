#include <functional>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "tests/support/memory_stream.h"
#include "tests/support/ssh_lab.h"
#include "tests/support/ssh_observer.h"
#include "tests/tunneld/ssh/inetd_sshd.h"
#include "tests/tunneld/upstream/agent_lab.h"
#include "tunneld/ssh/session.h"
#include "tunneld/upstream/ssh_dialer.h"

namespace tunneld::upstream {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using tunnel::Code;
using Clock = std::chrono::steady_clock;
using Stream = std::unique_ptr<tunnel::ByteStream>;

/// An agent and its door in one: answers session.open with a stream to a fresh sshd, or as the test says.
class SshdControl final : public KeptControl, public std::enable_shared_from_this<SshdControl> {
 public:
  using Answer = std::function<Stream(asio::io_context& home)>;  // null: it fails
  SshdControl(AgentRegistry& registry, std::string key, asio::io_context& io, Answer answer)
      : registry_(registry), key_(std::move(key)), io_(io), answer_(std::move(answer)) {}
  void send(std::string text) override {
    KeptControl::send(text);
    // The agent may leave before it answers, or by its answer.
    asio::post(io_, [self = shared_from_this(), ticket = this->ticket()] { self->answer(ticket); });
  }

 private:
  void answer(const std::string& ticket) {
    auto stream = answer_(io_);
    if (!stream) return registry_.session_failed(key_, ticket, "out of processes");
    auto claim = registry_.redeem(key_, ticket);
    if (claim) claim->deliver(std::move(stream));
  }
  AgentRegistry& registry_;
  const std::string key_;
  asio::io_context& io_;
  const Answer answer_;
};

class AgentDialer : public testing::Test {
 protected:
  AgentDialer()
      : identity_(*ssh::Identity::load_or_create(folder_.path() / "identity", "test")),
        sshd_(identity_.public_line()) {
    AgentRegistry::Options options;
    options.enrolments = folder_.path() / "agents.json";
    registry_ = std::move(*AgentRegistry::make(options));
    options_.upstream_wait = 10s;
    options_.on_upstream = [this](std::string_view, bool, std::string_view) { told_ = true; };
  }
  void SetUp() override { ASSERT_TRUE(ssh::initialise(options_.ssh)); }
  void TearDown() override {
    if (!dialer_) return;
    dialer_->close();
    io_.restart();
    io_.run_for(3s);
    EXPECT_FALSE(told_) << "of agents the registry tells";
  }

  SshDialer& dialer() {
    if (!dialer_)
      dialer_.emplace(io_, options_, SshDialer::Identities{{SshDialer::kAgents, &identity_}}, ledger_,
                      observer_, registry_.get());
    return *dialer_;
  }
  Stream fresh_sshd(asio::io_context& home) {
    auto stream = sshd_.start(home);
    streams_.push_back(stream.get());
    return stream;
  }
  void connect_agent(const std::string& subject = "ann", SshdControl::Answer answer = nullptr) {
    if (!answer) answer = [this](asio::io_context& home) { return fresh_sshd(home); };
    Announcement announcement{
        "home", boot('1'), sshd_.user(), sshd_.host_key_line(), {{"echo", "127.0.0.1", echo_.port()}}};
    const auto who = principal_named(subject);
    auto registration =
        registry_->announce(who, "peer", std::move(announcement),
                            std::make_shared<SshdControl>(*registry_, who.key(), io_, std::move(answer)),
                            {10, std::make_shared<int>()});
    ASSERT_TRUE(registration) << registration.error().message;
    agents_[subject] = std::move(*registration);
  }

  struct Opening {
    std::optional<tunnel::Served<Stream>> result;
    bool done() const { return result.has_value(); }
    bool ok() const { return done() && result->has_value(); }
    bool refused_with(Code code) const { return done() && !ok() && result->error().code == code; }
    std::string why() const { return !done() ? "hangs" : ok() ? "" : result->error().message; }
  };
  std::shared_ptr<Opening> start(const std::string& subject = "ann", Clock::duration within = 20s) {
    auto opening = std::make_shared<Opening>();
    asio::co_spawn(io_, open_one(dialer(), subject, service_, Clock::now() + within),
                   [opening](std::exception_ptr error, tunnel::Served<Stream> result) {
                     if (error) result = tunnel::refuse(Code::unavailable, "cut short");
                     opening->result.emplace(std::move(result));
                   });
    return opening;
  }
  static asio::awaitable<tunnel::Served<Stream>> open_one(SshDialer& dialer, std::string subject,
                                                          tunnel::Service service,
                                                          Clock::time_point deadline) {
    const auto principal = principal_named(subject);
    const tunnel::OpenRequest request{.principal = principal, .service = service, .deadline = deadline};
    co_return co_await dialer.open(request);
  }
  bool settle(const std::function<bool()>& condition, std::chrono::milliseconds within = 20s) {
    const auto deadline = Clock::now() + within;
    while (!condition() && Clock::now() < deadline) {
      io_.restart();
      io_.run_one_for(20ms);
    }
    return condition();
  }
  Stream open(const std::string& subject = "ann") {
    auto opening = start(subject);
    settle([&] { return opening->done(); });
    if (!opening->ok()) throw std::runtime_error(opening->why());
    return std::move(**opening->result);
  }
  std::string echoed(tunnel::ByteStream& stream, const std::string& text) {
    std::optional<std::string> got;
    asio::co_spawn(io_, there_and_back(stream, text),
                   [&got](std::exception_ptr, std::string answer) { got = std::move(answer); });
    settle([&] { return got.has_value(); });
    return got.value_or("hangs");
  }
  static asio::awaitable<std::string> there_and_back(tunnel::ByteStream& stream, std::string text) {
    const auto sent = co_await stream.write(support::bytes_of(text));
    if (!sent) co_return sent.error().message;
    co_return co_await support::read_exactly(stream, text.size());
  }

  support::TemporaryFolder folder_;
  ssh::Identity identity_;
  support::InetdSshd sshd_;
  support::TcpService echo_{support::echo};
  tunnel::Service service_{"echo", "agent:home", "127.0.0.1", echo_.port(), {"*"}};
  Options options_;
  support::SshObserver observer_;
  tunnel::QueueLedger ledger_{{}, observer_, nullptr};
  std::vector<support::SocketStream*> streams_;
  bool told_ = false;
  asio::io_context io_{1};
  std::unique_ptr<AgentRegistry> registry_;
  std::map<std::string, std::unique_ptr<AgentRegistry::Registration>> agents_;
  std::optional<SshDialer> dialer_;
};

TEST_F(AgentDialer, ReachesAServiceThroughItsAgent) {
  connect_agent();
  auto one = open();
  EXPECT_EQ(echoed(*one, "hello"), "hello");
  auto two = open();
  EXPECT_EQ(echoed(*two, "there"), "there");
  EXPECT_EQ(dialer().counts().sessions, 1u) << "one transport for both";
  EXPECT_EQ(sshd_.started(), 1u);
  EXPECT_EQ(registry_->agents()[0].sessions, 1u);
}

TEST_F(AgentDialer, PrincipalsShareNothing) {
  connect_agent("ann");
  connect_agent("bob");
  auto ann = open("ann");
  auto bob = open("bob");
  EXPECT_EQ(dialer().counts().sessions, 2u);
  for (const auto& agent : registry_->agents()) EXPECT_EQ(agent.sessions, 1u);
}

TEST_F(AgentDialer, AnotherPrincipalsAgentIsNoAgent) {
  options_.upstream_wait = 0ms;
  connect_agent("ann");
  const auto bob = start("bob");
  ASSERT_TRUE(settle([&] { return bob->done(); }));
  EXPECT_TRUE(bob->refused_with(Code::no_agent)) << bob->why();
  EXPECT_EQ(sshd_.started(), 0u);
}

TEST_F(AgentDialer, WaitsForAnAgentThatIsAwayAndThenSaysSo) {
  options_.upstream_wait = 250ms;
  const auto began = Clock::now();
  const auto one = start();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(Code::no_agent)) << one->why();
  EXPECT_TRUE(one->result->error().retry_after);
  EXPECT_GE(Clock::now() - began, 250ms);
  EXPECT_GE(observer_.errors["connect/no_agent"], 2) << "it was tried again";
}

TEST_F(AgentDialer, ServesThoseWhoWaitedWhenTheAgentComesBack) {
  const auto one = start();
  const auto two = start();
  ASSERT_TRUE(settle([&] { return observer_.errors["connect/no_agent"] >= 2; }));
  EXPECT_FALSE(one->done());
  connect_agent();
  ASSERT_TRUE(settle([&] { return one->done() && two->done(); }));
  ASSERT_TRUE(one->ok()) << one->why();
  ASSERT_TRUE(two->ok()) << two->why();
  EXPECT_EQ(echoed(**one->result->operator->(), "x"), "x");
}

TEST_F(AgentDialer, AsksAgainWhenTheAgentWentAwayUnderTheHandshake) {
  connect_agent("ann", [this](asio::io_context& home) {
    auto [near, far] = support::memory_streams(home.get_executor());
    far->close();
    agents_.clear();
    return std::move(near);
  });
  const auto one = start();
  ASSERT_TRUE(settle([&] { return observer_.errors["connect/no_agent"] >= 1; }));
  EXPECT_FALSE(one->done()) << one->why();
  connect_agent();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->ok()) << one->why();
}

TEST_F(AgentDialer, ASessionDiesWithItsTransportAndTheNextRequestGetsAnother) {
  connect_agent();
  auto one = open();
  streams_.front()->close();
  ASSERT_TRUE(settle([&] { return observer_.sessions == 0; }));
  EXPECT_THAT(echoed(*one, "x"), HasSubstr("agent:home"));
  auto two = open();
  EXPECT_EQ(echoed(*two, "y"), "y");
  EXPECT_EQ(sshd_.started(), 2u);
}

TEST_F(AgentDialer, TellsTheAgentsReasonAtOnce) {
  connect_agent("ann", [](asio::io_context&) { return nullptr; });
  const auto one = start();
  ASSERT_TRUE(settle([&] { return one->done(); }, 5s));
  EXPECT_TRUE(one->refused_with(Code::unavailable));
  EXPECT_THAT(one->why(), HasSubstr("out of processes"));
}

TEST_F(AgentDialer, AHostKeyOtherThanTheEnrolledOneIsFatal) {
  support::InetdSshd impostor(identity_.public_line());
  connect_agent("ann", [&impostor](asio::io_context& home) { return impostor.start(home); });
  const auto one = start();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(Code::host_key_mismatch)) << one->why();
}

TEST_F(AgentDialer, ForgetsAgentsThatNobodyUses) {
  options_.upstream_wait = 0ms;
  options_.session_idle = 0ms;
  connect_agent();
  open().reset();
  const auto refused = start("bob");
  ASSERT_TRUE(settle([&] { return refused->done() && dialer().counts().channels == 0; }));
  EXPECT_EQ(dialer().counts().agents, 2u);
  ASSERT_TRUE(settle([&] { return dialer().counts().agents == 0; })) << "the sweep has been here";
  EXPECT_EQ(dialer().counts().sessions, 0u);
  auto again = open();
  EXPECT_EQ(echoed(*again, "z"), "z");
}

TEST_F(AgentDialer, ClosesWhileItWaitsForAnAgentToAnswer) {
  Stream silent;
  connect_agent("ann", [&silent](asio::io_context& home) {
    auto [near, far] = support::memory_streams(home.get_executor());
    silent = std::move(far);
    return std::move(near);
  });
  const auto one = start();
  ASSERT_TRUE(settle([&] { return registry_->agents()[0].sessions == 1; }));
  dialer().close();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(Code::unavailable));
  EXPECT_TRUE(settle([&] { return registry_->agents()[0].sessions == 0; }));
}

TEST_F(AgentDialer, WithoutARegistryThereAreNoAgents) {
  dialer_.emplace(io_, options_, SshDialer::Identities{{SshDialer::kAgents, &identity_}}, ledger_, observer_);
  const auto one = start();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(Code::unavailable));
}

}  // namespace
}  // namespace tunneld::upstream
