#include "tunneld/upstream/ssh_dialer.h"

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <functional>
#include <future>
#include <map>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include "tests/support/memory_stream.h"
#include "tests/support/ssh_lab.h"
#include "tests/support/ssh_observer.h"
#include "tunnel/relay.h"
#include "tunneld/ssh/session.h"

namespace tunneld::upstream {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using tunnel::QueueExit;
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
    if (!dialer_)
      dialer_.emplace(io_, options_, SshDialer::Identities{{"lab", &identity_}}, ledger_, observer_);
    return *dialer_;
  }

  void TearDown() override {
    if (!dialer_) return;
    dialer_->close();
    io_.restart();
    io_.run_for(5s);
  }

  struct Wanted {
    std::string subject = "ann";
    Clock::duration within = 20s;
    tunnel::Priority priority = tunnel::Priority::normal;
    std::string reuse_key{};
    std::size_t queue_capacity = 100;
  };
  struct Opening {
    std::optional<tunnel::Served<Stream>> result;
    tunnel::OpenReport report;
    asio::cancellation_signal cancel;
    bool done() const { return result.has_value(); }
    bool ok() const { return done() && result->has_value(); }
    bool refused_with(tunnel::Code code) const { return done() && !ok() && result->error().code == code; }
  };
  /// Starts an open and goes on; `settle` runs it.
  std::shared_ptr<Opening> start(Wanted wanted) {
    auto opening = std::make_shared<Opening>();
    auto keep = [opening](std::exception_ptr error, tunnel::Served<Stream> result) {
      if (error) result = tunnel::refuse(tunnel::Code::unavailable, "cut short");
      opening->result.emplace(std::move(result));
    };
    asio::co_spawn(io_, open_one(dialer(), std::move(wanted), service_, opening),
                   asio::bind_cancellation_slot(opening->cancel.slot(), std::move(keep)));
    return opening;
  }
  std::shared_ptr<Opening> start(const char* subject = "ann") { return start(Wanted{.subject = subject}); }
  static asio::awaitable<tunnel::Served<Stream>> open_one(SshDialer& dialer, Wanted wanted,
                                                          tunnel::Service service,
                                                          std::shared_ptr<Opening> opening) {
    const auto principal = principal_named(wanted.subject);
    const tunnel::OpenRequest request{.principal = principal,
                                      .service = service,
                                      .deadline = Clock::now() + wanted.within,
                                      .priority = wanted.priority,
                                      .held_bytes = 10,
                                      .queue_capacity = wanted.queue_capacity,
                                      .reuse_key = wanted.reuse_key,
                                      .report = &opening->report};
    co_return co_await dialer.open(request);
  }
  static tunnel::Principal principal_named(const std::string& subject) {
    tunnel::Principal principal;
    principal.issuer = "test";
    principal.subject = subject;
    return principal;
  }
  std::string group_of(const std::string& subject) const {
    return tunnel::channel_group(principal_named(subject), service_.upstream);
  }
  void one_channel_in_all() {
    options_.max_sessions = 1;
    options_.ssh.max_channels = 1;
  }
  void wait_until_waiting(int count) {
    ASSERT_TRUE(settle([&] { return observer_.waiting == count; })) << observer_.waiting;
  }

  bool settle(const std::function<bool()>& condition, std::chrono::milliseconds within = 40s) {
    const auto deadline = Clock::now() + within;
    io_.restart();
    while (!condition() && Clock::now() < deadline) io_.run_one_for(50ms);
    return condition();
  }
  Stream open(const std::string& subject = "ann") {
    auto opening = start(Wanted{.subject = subject});
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
  tunnel::QueueLedger ledger_{{}, observer_, nullptr};
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

TEST_F(Dialer, AnOpenThatNeedNotWaitIsNotInTheLedger) {
  auto first = open();
  EXPECT_EQ(observer_.queued, 1) << "it waited for the session to be connected";
  EXPECT_EQ(observer_.exits[QueueExit::served], 1);
  auto second = start();
  ASSERT_TRUE(settle([&] { return second->ok(); }));
  EXPECT_EQ(observer_.queued, 1);
  EXPECT_EQ(second->report.queued, Clock::duration::zero());
}

TEST_F(Dialer, RefusesAtOnceWhenTheQueueIsFull) {
  one_channel_in_all();
  auto holder = open();
  auto waits = start(Wanted{.queue_capacity = 1});
  wait_until_waiting(1);
  auto refused = start(Wanted{.queue_capacity = 1});
  ASSERT_TRUE(settle([&] { return refused->done(); }));
  ASSERT_TRUE(refused->refused_with(tunnel::Code::queue_full));
  EXPECT_TRUE(refused->result->error().retry_after);
  EXPECT_THAT(refused->result->error().message, HasSubstr("upstream lab"));
  EXPECT_FALSE(waits->done());
  auto other = open("bob");  // whose queue is another
}

TEST_F(Dialer, StopsWaitingAtTheDeadline) {
  one_channel_in_all();
  auto holder = open();
  auto late = start(Wanted{.within = 150ms});
  ASSERT_TRUE(settle([&] { return late->done(); }));
  EXPECT_TRUE(late->refused_with(tunnel::Code::timed_out));
  EXPECT_GE(late->report.queued, 150ms);
  EXPECT_EQ(observer_.waiting, 0);
  EXPECT_EQ(observer_.exits[QueueExit::expired], 1);
}

TEST_F(Dialer, DoesNotBeginToWaitAfterTheDeadline) {
  auto late = start(Wanted{.within = 0s});
  ASSERT_TRUE(settle([&] { return late->done(); }));
  EXPECT_TRUE(late->refused_with(tunnel::Code::timed_out));
  EXPECT_EQ(observer_.queued, 0);
}

TEST_F(Dialer, ServesThoseWhoWaitByPriority) {
  one_channel_in_all();
  auto holder = open();
  std::map<std::string, std::shared_ptr<Opening>> waiting;
  std::vector<std::string> order;
  for (const auto* name : {"low", "normal", "high", "high 2"}) {
    const auto word = std::string(name).substr(0, std::string(name).find(' '));
    waiting[name] = start(Wanted{.priority = *tunnel::priority_named(word)});
    wait_until_waiting(static_cast<int>(waiting.size()));
  }
  holder.reset();
  while (!waiting.empty()) {
    auto served = waiting.end();
    ASSERT_TRUE(settle([&] {
      served = std::find_if(waiting.begin(), waiting.end(), [](auto& each) { return each.second->done(); });
      return served != waiting.end();
    }));
    ASSERT_TRUE(served->second->ok());
    order.push_back(served->first);
    waiting.erase(served);  // and its stream with it
  }
  EXPECT_EQ(order, (std::vector<std::string>{"high", "high 2", "normal", "low"}));
}

TEST_F(Dialer, ALowOneThatIsEvictedIsToldSo) {
  one_channel_in_all();
  auto holder = open();
  auto low = start(Wanted{.priority = tunnel::Priority::low, .queue_capacity = 1});
  wait_until_waiting(1);
  auto high = start(Wanted{.priority = tunnel::Priority::high, .queue_capacity = 1});
  ASSERT_TRUE(settle([&] { return low->done(); }));
  ASSERT_TRUE(low->refused_with(tunnel::Code::queue_full));
  EXPECT_THAT(low->result->error().message, HasSubstr("low priority"));
  EXPECT_EQ(observer_.exits[QueueExit::evicted], 1);
  holder.reset();
  EXPECT_TRUE(settle([&] { return high->ok(); }));
}

TEST_F(Dialer, OneEvictedAsItsTurnComesIsNotServedToo) {
  one_channel_in_all();
  auto holder = open();
  auto low = start(Wanted{.priority = tunnel::Priority::low, .queue_capacity = 1});
  wait_until_waiting(1);
  // From elsewhere, as another thread would: the word is on its way when the place becomes free.
  auto elsewhere = ledger_.enter({.principal = principal_named("ann").key(),
                                  .capacity = 1,
                                  .priority = tunnel::Priority::high,
                                  .bytes = 0,
                                  .evict = {}});
  ASSERT_TRUE(elsewhere);
  Stream stream = std::move(holder);
  EXPECT_EQ(dialer().offer(group_of("ann"), "", stream), tunnel::Dialer::Offer::unwanted)
      << "the only one who stood there was evicted";
  EXPECT_TRUE(stream);
  ASSERT_TRUE(settle([&] { return low->done(); }));
  EXPECT_TRUE(low->refused_with(tunnel::Code::queue_full));
}

TEST_F(Dialer, OneWhoLeavesGivesItsPlaceInTheQueueToTheNext) {
  one_channel_in_all();
  auto holder = open();
  auto leaver = start();
  wait_until_waiting(1);
  auto next = start();
  wait_until_waiting(2);
  leaver->cancel.emit(asio::cancellation_type::terminal);
  ASSERT_TRUE(settle([&] { return leaver->done(); }));
  EXPECT_EQ(observer_.waiting, 1);
  EXPECT_EQ(observer_.exits[QueueExit::abandoned], 1);
  EXPECT_EQ(ledger_.waiting(principal_named("ann").key()), 1u);
  holder.reset();
  EXPECT_TRUE(settle([&] { return next->ok(); }));
}

TEST_F(Dialer, OneWhoLeavesJustAsItIsServedGivesTheChannelToTheNext) {
  one_channel_in_all();
  auto holder = open();
  auto leaver = start();
  wait_until_waiting(1);
  auto next = start();
  wait_until_waiting(2);
  // Runs before the one that is served does.
  observer_.when_left = [&](QueueExit) {
    if (observer_.exits[QueueExit::served] == 2)
      asio::post(io_, [leaver] { leaver->cancel.emit(asio::cancellation_type::terminal); });
  };
  holder.reset();
  ASSERT_TRUE(settle([&] { return leaver->done(); }));
  EXPECT_FALSE(leaver->ok());
  EXPECT_EQ(observer_.exits[QueueExit::served], 3) << "the holder, the one that left, and the next";
  EXPECT_TRUE(settle([&] { return next->ok(); }));
}

TEST_F(Dialer, AStreamThatIsOfferedGoesToTheOneWhoseTurnItIs) {
  one_channel_in_all();
  auto channel = open();
  EXPECT_EQ(dialer().offer(group_of("ann"), "web", channel), tunnel::Dialer::Offer::unwanted);
  auto low = start(Wanted{.priority = tunnel::Priority::low, .reuse_key = "web"});
  wait_until_waiting(1);
  auto other = start(Wanted{.priority = tunnel::Priority::high, .reuse_key = "api"});
  wait_until_waiting(2);
  auto bob = start("bob");
  ASSERT_TRUE(settle([&] { return bob->ok(); }));
  auto const* const raw = channel.get();
  EXPECT_EQ(dialer().offer(group_of("cyd"), "web", channel), tunnel::Dialer::Offer::unwanted);
  EXPECT_EQ(dialer().offer(group_of("ann"), "web", channel), tunnel::Dialer::Offer::place_wanted)
      << "the high one wants another service";
  ASSERT_TRUE(channel);
  EXPECT_EQ(dialer().offer(group_of("ann"), "api", channel), tunnel::Dialer::Offer::taken);
  ASSERT_TRUE(settle([&] { return other->ok(); }));
  EXPECT_EQ(other->result->value().get(), raw);
  EXPECT_TRUE(other->report.reused);
  channel = std::move(**other->result);
  EXPECT_EQ(dialer().offer(group_of("ann"), "web", channel), tunnel::Dialer::Offer::taken);
  ASSERT_TRUE(settle([&] { return low->ok(); }));
  EXPECT_EQ(observer_.channels, 2) << "no channel was opened for any of them";
}

TEST_F(Dialer, AsksForAnIdleChannelToBeClosedWhenNoMoreMayBeOpened) {
  one_channel_in_all();
  std::vector<std::string> asked;
  auto idle = open();
  dialer().on_place_wanted([&](std::string_view group) {
    asked.emplace_back(group);
    if (!idle) return false;
    idle.reset();
    return true;
  });
  auto first = start();
  ASSERT_TRUE(settle([&] { return first->ok(); }));
  EXPECT_EQ(asked, std::vector<std::string>{group_of("ann")});
  auto second = start();
  wait_until_waiting(1);
  auto third = start();
  wait_until_waiting(2);
  EXPECT_EQ(asked.size(), 2u) << "there is none, and none comes while somebody waits";
}

TEST_F(Dialer, HandshakesGoToPrincipalsInTurn) {
  options_.max_handshakes = 1;
  options_.max_sessions = 4;
  options_.ssh.max_channels = 1;
  std::vector<std::shared_ptr<Opening>> flood;
  for (int count = 0; count < 4; ++count) flood.push_back(start("ann"));
  auto bob = start("bob");
  ASSERT_TRUE(settle([&] { return bob->ok(); }));
  EXPECT_LE(std::count_if(flood.begin(), flood.end(), [](auto& each) { return each->ok(); }), 2);
}

TEST_F(Dialer, RoomForSessionsGoesToPrincipalsInTurn) {
  one_channel_in_all();
  options_.max_sessions_total = 1;
  auto holder = open("ann");
  auto bob = start("bob");
  wait_until_waiting(1);
  auto ann = start("ann");
  wait_until_waiting(2);
  auto cyd = start("cyd");
  wait_until_waiting(3);
  holder.reset();
  ASSERT_TRUE(settle([&] { return bob->done(); }));
  ASSERT_TRUE(bob->ok()) << bob->result->error().message;
  EXPECT_FALSE(ann->done()) << "whose session it was";
  EXPECT_EQ(dialer().counts().sessions, 1u);
  bob->result.reset();
  ASSERT_TRUE(settle([&] { return cyd->done() || ann->done(); }));
  cyd->result.reset();
  ann->result.reset();
  EXPECT_TRUE(settle([&] { return cyd->done() || ann->done(); }));
}

TEST_F(Dialer, WhoWaitsForRoomForASessionStopsAtTheDeadline) {
  options_.max_sessions_total = 1;
  auto holder = open("ann");
  auto bob = start(Wanted{.subject = "bob", .within = 100ms});
  ASSERT_TRUE(settle([&] { return bob->done(); }));
  EXPECT_TRUE(bob->refused_with(tunnel::Code::timed_out));
  holder.reset();
  auto cyd = open("cyd");
  EXPECT_EQ(observer_.sessions, 1) << "and nothing was connected for bob";
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

// ---- backpressure, end to end ----

/// More than all windows and socket buffers on the way take in: 256 KiB here, 2 MiB of SSH window, and some
/// MiB in the kernel.
constexpr std::size_t kMostOnTheWay = 24 * 1024 * 1024;

class Backpressure : public Dialer {
 protected:
  /// Relays between a caller in memory and the service.
  void start_relay() {
    channel_ = open();
    auto [near, far] = support::memory_streams(io_.get_executor(), 64 * 1024);
    caller_ = std::move(near);
    far_ = std::move(far);
    asio::co_spawn(io_, tunnel::relay(*caller_, *channel_, *watch_, observer_, {}),
                   [this](std::exception_ptr, tunnel::RelayEnd) { relay_over_ = true; });
  }
  void TearDown() override {
    if (far_) far_->close();
    EXPECT_TRUE(settle([&] { return relay_over_ && peer_over_; }));
    channel_.reset();
    watch_.reset();
    Dialer::TearDown();
  }
  asio::awaitable<void> send_without_end() {
    const std::string block(64 * 1024, 'x');
    while (co_await far_->write(support::bytes_of(block))) sent_ += block.size();
    peer_over_ = true;
  }
  asio::awaitable<void> read_without_end() {
    std::vector<std::byte> block(64 * 1024);
    for (;;) {
      const auto got = co_await far_->read(block);
      if (!got || *got == 0) break;
      read_ += *got;
    }
    peer_over_ = true;
  }

  std::optional<tunnel::DeadlineWatch> watch_{std::in_place, io_.get_executor()};
  Stream channel_;
  std::unique_ptr<support::MemoryStream> caller_;
  std::unique_ptr<support::MemoryStream> far_;
  bool relay_over_ = false;
  bool peer_over_ = false;
  std::size_t sent_ = 0;
  std::size_t read_ = 0;
};

TEST_F(Backpressure, AServiceThatDoesNotReadStopsItsCaller) {
  std::promise<void> go_on;
  support::TcpService slow([ready = go_on.get_future().share()](int socket) {
    ready.wait();
    std::vector<char> buffer(256 * 1024);
    while (::recv(socket, buffer.data(), buffer.size(), 0) > 0) {
    }
  });
  service_.target_port = slow.port();
  start_relay();
  asio::co_spawn(io_, send_without_end(), [](std::exception_ptr) {});
  EXPECT_FALSE(settle([&] { return sent_ > kMostOnTheWay; }, 2s)) << "memory is not where it ends";
  go_on.set_value();
  EXPECT_TRUE(settle([&] { return sent_ > 2 * kMostOnTheWay; })) << "and it goes on when the service does";
}

TEST_F(Backpressure, ACallerThatDoesNotReadStopsItsService) {
  std::atomic<std::size_t> produced{0};
  support::TcpService endless([&produced](int socket) {
    const std::string block(64 * 1024, 'x');
    for (ssize_t n; (n = ::send(socket, block.data(), block.size(), MSG_NOSIGNAL)) > 0;)
      produced += static_cast<std::size_t>(n);
  });
  service_.target_port = endless.port();
  start_relay();
  EXPECT_FALSE(settle([&] { return produced.load() > kMostOnTheWay; }, 2s));
  asio::co_spawn(io_, read_without_end(), [](std::exception_ptr) {});
  EXPECT_TRUE(settle([&] { return read_ > 2 * kMostOnTheWay; }));
}

// ---- upstreams that are away ----

/// Passes connections on to the sshd, while it is open.
class Way {
 public:
  Way(asio::io_context& io, std::uint16_t from, std::uint16_t to) : io_(io), acceptor_(io), to_(to) {
    const tcp::endpoint at(asio::ip::address_v4::loopback(), from);
    acceptor_.open(at.protocol());
    acceptor_.set_option(tcp::acceptor::reuse_address(true));
    acceptor_.bind(at);
    acceptor_.listen();
    asio::co_spawn(io, accept(), [](std::exception_ptr) {});
  }
  /// Takes no new connections; those there are go on.
  void close() { acceptor_.close(); }

 private:
  using tcp = asio::ip::tcp;
  static constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

  asio::awaitable<void> accept() {
    for (;;) {
      auto near = std::make_shared<tcp::socket>(io_);
      const auto [error] = co_await acceptor_.async_accept(*near, kAwait);
      if (error) co_return;
      auto far = std::make_shared<tcp::socket>(io_);
      const tcp::endpoint to(asio::ip::address_v4::loopback(), to_);
      const auto [refused] = co_await far->async_connect(to, kAwait);
      if (refused) continue;
      asio::co_spawn(io_, pump(near, far), [](std::exception_ptr) {});
      asio::co_spawn(io_, pump(far, near), [](std::exception_ptr) {});
    }
  }
  static asio::awaitable<void> pump(std::shared_ptr<tcp::socket> from, std::shared_ptr<tcp::socket> to) {
    std::vector<char> buffer(16 * 1024);
    for (;;) {
      const auto [failed, got] = co_await from->async_read_some(asio::buffer(buffer), kAwait);
      const auto [broken, sent] = co_await asio::async_write(*to, asio::buffer(buffer, got), kAwait);
      if (!failed && !broken && sent == got) continue;
      boost::system::error_code ignored;
      to->close(ignored);
      from->close(ignored);
      co_return;
    }
  }

  asio::io_context& io_;
  tcp::acceptor acceptor_;
  std::uint16_t to_;
};

class AwayUpstream : public Dialer {
 protected:
  void SetUp() override {
    Dialer::SetUp();
    port_ = support::closed_port();
    options_.upstreams.front().endpoint.addresses = {"127.0.0.1:" + std::to_string(port_)};
    options_.upstream_wait = 10s;
    options_.on_upstream = [this](std::string_view upstream, bool lost, std::string_view why) {
      told_.push_back(std::string(upstream) + (lost ? " lost" : " back"));
      why_ = why;
    };
  }
  void come_back() { way_.emplace(io_, port_, sshd_->port()); }
  void TearDown() override {
    if (way_) way_->close();
    Dialer::TearDown();
  }

  std::uint16_t port_ = 0;
  std::optional<Way> way_;
  std::vector<std::string> told_;
  std::string why_;
};

TEST_F(AwayUpstream, FailsThoseWhoWaitedForItLongEnough) {
  options_.upstream_wait = 250ms;
  auto one = start();
  auto two = start();
  auto other = start("bob");
  ASSERT_TRUE(settle([&] { return one->done() && two->done() && other->done(); }));
  for (const auto& each : {one, two, other}) {
    ASSERT_TRUE(each->refused_with(tunnel::Code::unreachable));
    EXPECT_GE(each->report.queued, 250ms);
    EXPECT_TRUE(each->result->error().retry_after);
  }
  EXPECT_EQ(observer_.exits[QueueExit::failed], 3);
  EXPECT_EQ(told_, std::vector<std::string>{"lab lost"});
  EXPECT_THAT(why_, HasSubstr("127.0.0.1"));
  EXPECT_GE(observer_.errors["connect/unreachable"], 2) << "it was tried again";
  EXPECT_LE(observer_.errors["connect/unreachable"], 4) << "with pauses, and once for all who wait";
}

TEST_F(AwayUpstream, FailsAtOnceWithoutAWait) {
  options_.upstream_wait = 0ms;
  auto one = start();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(tunnel::Code::unreachable));
  EXPECT_EQ(observer_.errors["connect/unreachable"], 1);
}

TEST_F(AwayUpstream, TheRequestsOwnDeadlineComesFirst) {
  auto one = start(Wanted{.within = 150ms});
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(tunnel::Code::timed_out));
  EXPECT_EQ(observer_.exits[QueueExit::expired], 1);
}

TEST_F(AwayUpstream, ServesThoseWhoWaitedByPriorityWhenItIsBack) {
  one_channel_in_all();
  auto low = start(Wanted{.priority = tunnel::Priority::low});
  auto high = start(Wanted{.priority = tunnel::Priority::high});
  auto bob = start("bob");
  ASSERT_TRUE(settle([&] { return observer_.errors["connect/unreachable"] >= 2; }));
  EXPECT_EQ(observer_.waiting, 3);
  come_back();
  ASSERT_TRUE(settle([&] { return high->ok() && bob->ok(); }));
  EXPECT_FALSE(low->done());
  high->result.reset();
  ASSERT_TRUE(settle([&] { return low->ok(); }));
  EXPECT_EQ(told_, (std::vector<std::string>{"lab lost", "lab back"}));
  EXPECT_EQ(why_, "");
}

TEST_F(AwayUpstream, IsNotAskedWhileNobodyWaits) {
  options_.upstream_wait = 120ms;
  auto one = start();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  const auto asked = observer_.errors["connect/unreachable"];
  EXPECT_FALSE(settle([&] { return observer_.errors["connect/unreachable"] > asked; }, 700ms));
  auto two = start();
  ASSERT_TRUE(settle([&] { return two->done(); }));
  EXPECT_GE(two->report.queued, 120ms) << "a new request has its own wait";
  EXPECT_EQ(told_, std::vector<std::string>{"lab lost"}) << "told once";
}

TEST_F(AwayUpstream, AChannelOfALivingSessionIsStillWorthWaitingFor) {
  options_.max_sessions = 2;
  options_.ssh.max_channels = 1;
  options_.upstream_wait = 100ms;
  come_back();
  auto holder = open();
  way_->close();
  auto waits = start();
  ASSERT_TRUE(settle([&] { return observer_.errors["connect/unreachable"] >= 3; }));
  EXPECT_FALSE(waits->done()) << "though it waited longer than for an upstream that is wholly away";
  holder.reset();
  EXPECT_TRUE(settle([&] { return waits->ok(); }));
}

TEST_F(AwayUpstream, AWrongHostKeyIsNoReasonToWait) {
  options_.upstreams.front().host_keys.fingerprints = {"SHA256:" + std::string(43, 'A')};
  options_.upstream_wait = 1h;
  auto one = start(Wanted{.within = 2h});
  ASSERT_TRUE(settle([&] { return observer_.errors["connect/unreachable"] >= 1; }));
  come_back();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(tunnel::Code::host_key_mismatch));
  EXPECT_EQ(told_, std::vector<std::string>{"lab lost"}) << "once: it was never good";
}

TEST_F(AwayUpstream, ClosesWhileSomebodyWaitsForIt) {
  auto one = start();
  ASSERT_TRUE(settle([&] { return observer_.errors["connect/unreachable"] >= 1; }));
  dialer().close();
  ASSERT_TRUE(settle([&] { return one->done(); }));
  EXPECT_TRUE(one->refused_with(tunnel::Code::unavailable));
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
  for (int i = 0; i < 6; ++i) herd.push_back(start(Wanted{.subject = "user" + std::to_string(i)}));
  settle([] { return false; }, 5ms);
  dialer().close();
  EXPECT_TRUE(
      settle([&] { return std::all_of(herd.begin(), herd.end(), [](auto& each) { return each->done(); }); }));
  EXPECT_EQ(dialer().counts().sessions, 0u);
}

}  // namespace
}  // namespace tunneld::upstream
