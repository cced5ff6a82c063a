#include "link/link.h"

#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include "common/sha256.h"
#include "tests/link/cut_carriers.h"
#include "tests/support/run_async.h"

namespace links {
namespace {

using namespace std::chrono_literals;
using cut::Collected;
using cut::Pair;
using cut::Plan;
using cut::RawPeer;
using cut::settle;
using cut::start;
using cut::until;
using support::bytes_of;
using support::run_async;
using Kind = Error::Kind;
using State = Link::State;
using Frame = RawPeer::Frame;

constexpr std::size_t kChallengeBytes = 21;
constexpr std::size_t kWelcomeBytes = 64;

std::string pattern(std::size_t size, unsigned seed = 0) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i + seed) * 31 + i / 251);
  return text;
}

template <class T>
std::optional<Kind> failure(const Result<T>& result) {
  if (result) return std::nullopt;
  return result.error().kind;
}

/// Made before it is sent: g++ 12 destroys such a temporary twice within a co_await expression.
auto welcome_frame(const SessionId& id, std::uint64_t wanted, char secret, std::uint32_t window_ms) {
  return encode(Welcome{id, wanted, Secret(std::string(32, secret)), window_ms});
}

asio::awaitable<void> write_pieces(std::shared_ptr<Link> link, std::string text,
                                   std::vector<std::size_t> sizes) {
  std::size_t at = 0;
  for (const auto size : sizes) {
    co_await link->write(bytes_of(std::string_view(text).substr(at, size)));
    at += size;
    for (int i = 0; i < 4; ++i) co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
  }
}

struct LinkTest : testing::Test {
  /// A server of frames for a client's link, attached and welcomed.
  asio::awaitable<RawPeer> raw_server(std::shared_ptr<Link>& client, LinkOptions options = {}) {
    auto [near, far] = support::memory_streams(context.get_executor());
    RawPeer server{std::move(far)};
    co_await server.send(encode(Challenge{}));
    auto made = co_await Link::connect(context.get_executor(), std::move(near), options);
    client = *made;
    co_await server.next();
    co_return std::move(server);
  }
  /// A client of frames for a server's link, welcomed.
  asio::awaitable<RawPeer> raw_client(std::shared_ptr<Link>& server, LinkOptions options = {}) {
    auto [near, far] = support::memory_streams(context.get_executor());
    RawPeer client{std::move(far)};
    co_await client.send(encode(Hello{}));
    auto made = co_await Link::accept(context.get_executor(), std::move(near), options);
    server = *made;
    co_await client.next();
    co_await client.next();
    co_return std::move(client);
  }
  /// Comes back to a server's link by hand; `answer` is what accept_again() returned.
  asio::awaitable<RawPeer> come_back(std::shared_ptr<Link> server, Secret secret, std::uint64_t wanted) {
    auto [near, far] = support::memory_streams(context.get_executor());
    RawPeer client{std::move(far)};
    start(context, answer(server, std::move(near)));
    co_await client.next();
    const auto nonce = client.decoder.challenge().nonce;
    co_await client.send(encode(Hello{1, server->id(), wanted, prove(secret, nonce, server->id(), wanted)}));
    co_return std::move(client);
  }
  asio::awaitable<void> answer(std::shared_ptr<Link> server, std::unique_ptr<tunnel::ByteStream> carrier) {
    answered.reset();
    answered = co_await server->accept_again(std::move(carrier));
  }

  asio::io_context context;
  std::optional<Result<void>> answered;
};

// ---- the handshake ----

TEST_F(LinkTest, AClientSendsDataBehindHelloWithoutWaitingForWelcome) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    auto [near, far] = support::memory_streams(test.context.get_executor());
    RawPeer server{std::move(far)};
    co_await server.send(encode(Challenge{}));
    auto client = co_await Link::connect(test.context.get_executor(), std::move(near), {});
    if (!client) co_return ADD_FAILURE() << client.error().message;
    co_await (*client)->write(bytes_of("first"));
    EXPECT_EQ((co_await server.next()).type, FrameType::hello);
    const auto hello = server.decoder.hello();
    EXPECT_EQ(hello.version, 1);
    EXPECT_EQ(hello.session, SessionId{});
    EXPECT_EQ(hello.wanted, 0U);
    EXPECT_EQ(hello.proof, Proof{});
    const auto data = co_await server.next();
    EXPECT_EQ(data.type, FrameType::data);
    EXPECT_EQ(data.offset, 0U);
    EXPECT_EQ(data.bytes, "first");
    EXPECT_EQ((*client)->id(), SessionId{});

    SessionId id{};
    id.fill(std::byte{7});
    co_await server.send(welcome_frame(id, 5, 's', 1234));
    co_await server.send_data(0, "answer");
    EXPECT_EQ(co_await support::read_exactly(**client, 6), "answer");
    EXPECT_EQ((*client)->id(), id);
    EXPECT_EQ((*client)->window(), 1234ms);
    EXPECT_EQ((*client)->unacknowledged(), 0U);  // WELCOME said it had arrived
  }(*this));
}

TEST_F(LinkTest, AServerChallengesFirstAndWelcomesWithIdSecretAndWindow) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    LinkOptions options;
    options.window = 4321ms;
    auto client = co_await test.raw_client(server, options);
    EXPECT_EQ(client.decoder.type(), FrameType::welcome);
    const auto welcome = client.decoder.welcome();
    EXPECT_EQ(welcome.session, server->id());
    EXPECT_NE(welcome.session, SessionId{});
    EXPECT_EQ(welcome.wanted, 0U);
    EXPECT_EQ(welcome.window_ms, 4321U);
    EXPECT_EQ(server->state(), State::attached);
  }(*this));
}

TEST_F(LinkTest, AServerRefusesWhatIsNoHelloOfANewLink) {
  SessionId some{};
  some.fill(std::byte{1});
  const auto text = [](const auto& frame) {
    return std::string(reinterpret_cast<const char*>(frame.data()), frame.size());
  };
  struct Row {
    const char* what;
    std::string sent;
    Kind kind;
  };
  const Row rows[] = {
      {"another version", text(encode(Hello{2, {}, 0, {}})), Kind::bad_input},
      {"a session to resume", text(encode(Hello{1, some, 0, {}})), Kind::denied},
      {"an offset", text(encode(Hello{1, {}, 1, {}})), Kind::bad_input},
      {"an acknowledgement", text(encode(Ack{0})), Kind::bad_input},
      {"data", text(encode(Data{0, 1})) + "x", Kind::bad_input},
      {"something else", "GET / HTTP/1.1\r\n\r\n", Kind::bad_input},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    run_async(context, [](LinkTest& test, const Row& wrong) -> asio::awaitable<void> {
      auto [near, far] = support::memory_streams(test.context.get_executor());
      RawPeer client{std::move(far)};
      co_await client.send(wrong.sent);
      const auto server = co_await Link::accept(test.context.get_executor(), std::move(near), {});
      if (server) co_return ADD_FAILURE() << "accepted";
      EXPECT_EQ(server.error().kind, wrong.kind);
      EXPECT_EQ((co_await client.next()).type, FrameType::challenge);
      EXPECT_EQ((co_await client.next()).type, FrameType::gone);
      EXPECT_EQ((co_await client.next()).type, std::nullopt);
    }(*this, row));
  }
}

TEST_F(LinkTest, AHandshakeThatTakesTooLongIsTimedOut) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    LinkOptions options;
    options.handshake_timeout = 5ms;
    auto [near, silent] = support::memory_streams(test.context.get_executor());
    const auto server = co_await Link::accept(test.context.get_executor(), std::move(near), options);
    EXPECT_EQ(failure(server), Kind::timed_out);
    auto [other, silent_too] = support::memory_streams(test.context.get_executor());
    const auto client = co_await Link::connect(test.context.get_executor(), std::move(other), options);
    EXPECT_EQ(failure(client), Kind::timed_out);

    std::shared_ptr<Link> unwelcome;
    auto peer = co_await test.raw_server(unwelcome, options);
    auto out = std::make_shared<Collected>();
    start(test.context, cut::collect(unwelcome, out));
    EXPECT_EQ((co_await peer.next()).type, FrameType::gone);
    peer.stream->close();
    auto ended = [&out] { return out->end.has_value(); };
    co_await until(ended);
    EXPECT_EQ(failure(*out->end), Kind::timed_out);
  }(*this));
}

TEST_F(LinkTest, AClientWhoseFirstConnectionBreaksBeforeWelcomeHasNoLink) {
  for (std::size_t down = 0; down < kChallengeBytes + kWelcomeBytes; ++down) {
    SCOPED_TRACE(down);
    asio::io_context io;
    Pair pair(io);
    run_async(io, [](Pair& both, std::size_t bytes) -> asio::awaitable<void> {
      Plan plan;
      plan.down = bytes;
      const auto made = co_await both.dial(plan);
      EXPECT_EQ(made.has_value(), bytes >= kChallengeBytes);
      if (!made) co_return;
      auto ended = [&both] { return both.from_server->end.has_value(); };
      co_await until(ended);
      EXPECT_EQ(both.from_server->end->error().kind, Kind::unavailable);
      EXPECT_EQ(both.client->state(), State::over);
    }(pair, down));
  }
}

// ---- cuts ----

/// Some hundred bytes both ways in several frames, over wires that break by `plans`, one after another.
/// Returns how many wires it took; 0 when the client had no link.
std::size_t exchange(const std::vector<Plan>& plans, bool established_first) {
  asio::io_context context;
  LinkOptions options;
  options.handshake_timeout = 2s;
  Pair pair(context, options, options);
  run_async(
      context,
      [](Pair& both, std::vector<Plan> left, bool first, asio::io_context& io) -> asio::awaitable<void> {
        auto next_plan = [&left] {
          if (left.empty()) return Plan{};
          const auto plan = left.front();
          left.erase(left.begin());
          return plan;
        };
        if (first) {
          co_await both.establish();
          both.wire->cut();
        } else {
          const auto made = co_await both.dial(next_plan());
          if (!made) co_return;
        }
        start(io, both.keep_dialing(next_plan));
        const auto up = pattern(412, 1);
        const auto down = pattern(523, 2);
        start(io, write_pieces(both.client, up, {1, 40, 100, 7, 200, 64}));
        auto server_there = [&both] { return both.server != nullptr || both.client->state() == State::over; };
        co_await until(server_there);
        if (both.server) start(io, write_pieces(both.server, down, {64, 3, 200, 150, 5, 101}));
        auto done = [&both, &up, &down] {
          return both.client->state() == State::over || (both.from_client->bytes.size() >= up.size() &&
                                                         both.from_server->bytes.size() >= down.size());
        };
        co_await until(done);
        co_await settle();  // nothing more may come
        if (both.client->state() == State::over) co_return;
        EXPECT_EQ(both.from_client->bytes, up);
        EXPECT_EQ(both.from_server->bytes, down);
      }(pair, plans, established_first, context));
  if (!pair.client || pair.client->state() == State::over) return 0;
  return pair.dials + 1;
}

TEST(Link, LosesNothingWhereverAResumedConnectionIsCut) {
  std::size_t cut_short = 0;
  for (const bool loses_rest : {false, true}) {
    for (std::size_t bytes = 0; bytes < 800; ++bytes) {
      SCOPED_TRACE(testing::Message() << bytes << " bytes, " << (loses_rest ? "lossy" : "drained"));
      const auto up = exchange({{bytes, cut::kNever, loses_rest}}, true);
      const auto down = exchange({{cut::kNever, bytes, loses_rest}}, true);
      ASSERT_GT(up, 1U);
      ASSERT_GT(down, 1U);
      cut_short += (up > 2 ? 1U : 0U) + (down > 2 ? 1U : 0U);
    }
  }
  EXPECT_GT(cut_short, 1600U);  // the cuts really happened
}

TEST(Link, LosesNothingWhereverTheFirstConnectionIsCutAfterItsWelcome) {
  std::size_t whole = 0;
  for (std::size_t bytes = 0; bytes < 700; ++bytes) {
    SCOPED_TRACE(bytes);
    if (exchange({{bytes, cut::kNever, false}}, false) > 0) ++whole;
    const auto down = exchange({{cut::kNever, bytes, false}}, false);
    // The WELCOME had arrived, so there is a link, and exchange() has seen that it is whole.
    EXPECT_EQ(down > 0, bytes >= kChallengeBytes + kWelcomeBytes);
  }
  EXPECT_GT(whole, 500U);
}

TEST(Link, LosesNothingWhenSeveralConnectionsInARowAreCut) {
  for (std::size_t bytes = 1; bytes < 300; bytes += 7) {
    SCOPED_TRACE(bytes);
    EXPECT_GT(exchange({{bytes, cut::kNever, true},
                        {cut::kNever, bytes, false},
                        {bytes + 61, cut::kNever, false},
                        {cut::kNever, bytes + 85, true}},
                       true),
              0U);
  }
}

struct RandomCuts {
  explicit RandomCuts(asio::io_context& io, unsigned seed)
      : random(seed), pair(io, options(), options()), context(io) {}

  static LinkOptions options() {
    LinkOptions small;
    small.max_unsent = 20'000;
    small.max_unacknowledged = 150'000;
    return small;
  }
  std::size_t below(std::size_t bound) {
    return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random);
  }

  asio::awaitable<void> write(std::shared_ptr<Link> link, std::string& sent) {
    std::string text;
    while (cuts < kCuts) {
      text = pattern(below(3) == 0 ? below(50'000) : below(300), static_cast<unsigned>(below(1000)));
      const auto written = co_await link->write(bytes_of(text));
      if (!written) co_return ADD_FAILURE() << written.error().message;
      sent += text;
      EXPECT_LE(link->unacknowledged(), options().max_unacknowledged);
      if (below(8) == 0) co_await settle();
    }
  }
  /// Cuts of all kinds, at any time.
  asio::awaitable<void> disturb() {
    while (cuts < kCuts) {
      for (auto turns = below(60); turns > 0; --turns) co_await asio::post(context, asio::use_awaitable);
      ++cuts;
      switch (below(5)) {
        case 0: pair.client->detach("a test"); break;
        case 1: pair.server->detach("a test"); break;
        case 2: co_await pair.dial(plan()); break;  // the client comes back although nothing is broken
        case 3:
          pair.wire->plan.loses_rest = true;
          pair.wire->cut();
          break;
        default: pair.wire->cut();
      }
    }
  }
  Plan plan() {
    ++cuts;
    if (cuts >= kCuts) return {};
    Plan made;
    made.loses_rest = below(2) == 0;
    if (below(2) == 0) made.up = below(below(2) == 0 ? 200 : 100'000);
    if (below(2) == 0) made.down = below(below(2) == 0 ? 200 : 100'000);
    return made;
  }
  asio::awaitable<void> run() {
    co_await pair.establish();
    auto planner = [this] { return plan(); };
    start(context, pair.keep_dialing(planner));
    start(context, write(pair.client, up));
    start(context, write(pair.server, down));
    start(context, disturb());
    auto done = [this] {
      return cuts >= kCuts && pair.from_client->bytes.size() >= up.size() &&
             pair.from_server->bytes.size() >= down.size();
    };
    co_await until(done);
    co_await settle();
  }

  static constexpr std::size_t kCuts = 800;
  std::mt19937 random;
  Pair pair;
  asio::io_context& context;
  std::size_t cuts = 0;
  std::string up;
  std::string down;
};

TEST(Link, LosesNothingInThousandsOfRandomCuts) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(seed);
    asio::io_context context;
    RandomCuts story(context, seed);
    run_async(context, story.run());
    EXPECT_EQ(::to_hex(sha256(story.pair.from_client->bytes)), ::to_hex(sha256(story.up)));
    EXPECT_EQ(::to_hex(sha256(story.pair.from_server->bytes)), ::to_hex(sha256(story.down)));
    EXPECT_GT(story.up.size(), 100'000U);
    EXPECT_GT(story.pair.client->resumes(), 50U);
    EXPECT_FALSE(story.pair.from_client->end);
    EXPECT_FALSE(story.pair.from_server->end);
  }
}

TEST_F(LinkTest, TellsWhenACarrierIsLostAndWhenThereIsOneAgain) {
  Pair pair(context);
  run_async(context, [](Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    std::vector<std::string> told;
    both.server->on_attached([&told](bool attached, std::string_view why) {
      told.push_back(attached ? "attached" : "lost: " + std::string(why));
    });
    both.server->detach("no heartbeat");
    EXPECT_EQ(both.server->state(), State::detached);
    EXPECT_EQ(both.server->carrier(), nullptr);
    co_await both.dial();
    EXPECT_EQ(both.server->state(), State::attached);
    EXPECT_NE(both.server->carrier(), nullptr);
    EXPECT_EQ(told, (std::vector<std::string>{"lost: no heartbeat", "attached"}));
    EXPECT_EQ(both.server->resumes(), 1U);
    EXPECT_EQ(both.client->resumes(), 1U);
    both.server->on_attached(nullptr);
  }(pair));
}

TEST_F(LinkTest, ANewConnectionTakesThePlaceOfOneThatSeemsAlive) {
  Pair pair(context);
  run_async(context, [](Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    // The client believes its connection broken; the server has not noticed and sends into it.
    auto stale = both.wire;
    both.wire->down->capacity = 0;
    co_await both.server->write(bytes_of("into the void"));
    co_await settle();
    EXPECT_EQ(both.server->state(), State::attached);
    const auto back = co_await both.dial();
    EXPECT_TRUE(back) << back.error().message;
    auto arrived = [&both] { return both.from_server->bytes.size() >= 13; };
    co_await until(arrived);
    EXPECT_EQ(both.from_server->bytes, "into the void");
    EXPECT_TRUE(stale->up->broken);
  }(pair));
}

/// A carrier whose read has its bytes already when it is closed.
class LateStream final : public tunnel::ByteStream {
 public:
  LateStream(std::unique_ptr<tunnel::ByteStream> inner, std::string late)
      : inner_(std::move(inner)), late_(std::move(late)) {}
  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    const auto got = co_await inner_->read(into);
    if (got || late_.empty()) co_return got;
    const auto bytes = bytes_of(late_);
    std::copy(bytes.begin(), bytes.end(), into.begin());
    co_return std::exchange(late_, {}).size();
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return inner_->write(bytes);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return inner_->shutdown_write(); }
  void close() noexcept override { inner_->close(); }

 private:
  std::unique_ptr<tunnel::ByteStream> inner_;
  std::string late_;
};

TEST_F(LinkTest, WhatAReplacedConnectionStillHadIsNotTakenTwice) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    auto [near, far] = support::memory_streams(test.context.get_executor());
    RawPeer client{std::move(far)};
    co_await client.send(encode(Hello{}));
    const auto header = encode(Data{0, 5});
    auto late = std::string(reinterpret_cast<const char*>(header.data()), header.size()) + "hello";
    auto carrier = std::make_unique<LateStream>(std::move(near), std::move(late));
    auto made = co_await Link::accept(test.context.get_executor(), std::move(carrier), {});
    auto server = *made;
    auto out = std::make_shared<Collected>();
    start(test.context, cut::collect(server, out));
    co_await client.next();
    co_await client.next();
    auto again = co_await test.come_back(server, client.decoder.welcome().secret, 0);
    EXPECT_EQ((co_await again.next()).type, FrameType::welcome);
    EXPECT_EQ(again.decoder.welcome().wanted, 0U);
    EXPECT_EQ((co_await client.next()).type, std::nullopt);  // the old one was closed
    co_await again.send_data(0, "hello");
    auto arrived = [&out] { return out->bytes.size() >= 5 || out->end; };
    co_await until(arrived);
    co_await settle();
    EXPECT_EQ(out->bytes, "hello");
    EXPECT_EQ(server->state(), State::attached);
    server->close();
  }(*this));
}

// ---- who may come back ----

TEST_F(LinkTest, AWelcomeLostInACutDoesNotLockTheClientOut) {
  Pair pair(context);
  run_async(context, [](Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    for (int round = 0; round < 3; ++round) {
      for (const std::size_t of_welcome : {std::size_t{0}, std::size_t{30}, kWelcomeBytes - 1}) {
        both.client->detach("a test");
        Plan plan;
        plan.down = kChallengeBytes + of_welcome;
        const auto lost = co_await both.dial(plan);
        EXPECT_FALSE(lost);
        EXPECT_EQ(both.client->state(), State::detached);
      }
      const auto back = co_await both.dial();
      EXPECT_TRUE(back) << back.error().message;
    }
    co_await both.client->write(bytes_of("still here"));
    auto arrived = [&both] { return both.from_client->bytes == "still here"; };
    co_await until(arrived);
  }(pair));
}

TEST_F(LinkTest, ASecretIsWorthNothingOnceANewerOneWasProved) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    const auto first = client.decoder.welcome().secret;
    auto second_time = co_await test.come_back(server, first, 0);
    EXPECT_EQ((co_await second_time.next()).type, FrameType::welcome);
    const auto second = second_time.decoder.welcome().secret;
    EXPECT_FALSE(first == second);
    auto third_time = co_await test.come_back(server, second, 0);
    EXPECT_EQ((co_await third_time.next()).type, FrameType::welcome);
    auto thief = co_await test.come_back(server, first, 0);
    EXPECT_EQ((co_await thief.next()).type, FrameType::gone);
    EXPECT_EQ(test.answered->error().kind, Kind::denied);
    auto in_need = co_await test.come_back(server, second, 0);  // as if the third WELCOME had been lost
    EXPECT_EQ((co_await in_need.next()).type, FrameType::welcome);
  }(*this));
}

TEST_F(LinkTest, AWrongProofIsRefusedAndTheLinkGoesOn) {
  Pair pair(context);
  run_async(context, [](LinkTest& test, Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    auto thief = co_await test.come_back(both.server, Secret(std::string(32, 'x')), 0);
    const auto refused = co_await thief.next();
    EXPECT_EQ(refused.type, FrameType::gone);
    EXPECT_EQ((co_await thief.next()).type, std::nullopt);
    EXPECT_EQ(test.answered->error().kind, Kind::denied);
    EXPECT_EQ(both.server->state(), State::attached);
    co_await both.client->write(bytes_of("undisturbed"));
    auto arrived = [&both] { return both.from_client->bytes == "undisturbed"; };
    co_await until(arrived);
    both.wire->cut();
    const auto back = co_await both.dial();
    EXPECT_TRUE(back) << back.error().message;
    EXPECT_EQ(both.server->resumes(), 1U);
  }(*this, pair));
}

TEST_F(LinkTest, AHelloOfAnotherConnectionCannotBeReplayed) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    const auto secret = client.decoder.welcome().secret;
    const auto heard = encode(Hello{1, server->id(), 0, prove(secret, Nonce{}, server->id(), 0)});
    auto [near, far] = support::memory_streams(test.context.get_executor());
    RawPeer thief{std::move(far)};
    co_await thief.send(heard);
    const auto refused = co_await server->accept_again(std::move(near));
    EXPECT_EQ(failure(refused), Kind::denied);
    EXPECT_EQ(server->state(), State::attached);
  }(*this));
}

TEST_F(LinkTest, AHelloOfWhichOneBitWasChangedIsRefusedWhicheverItIs) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    const auto secret = client.decoder.welcome().secret;
    const std::size_t begin = 8 * 4;  // behind type and length
    const std::size_t end = 8 * encode(Hello{}).size();
    for (std::size_t bit = begin; bit < end; ++bit) {
      SCOPED_TRACE(bit);
      auto [near, far] = support::memory_streams(test.context.get_executor());
      RawPeer thief{std::move(far)};
      start(test.context, test.answer(server, std::move(near)));
      co_await thief.next();
      const auto nonce = thief.decoder.challenge().nonce;
      auto hello = encode(Hello{1, server->id(), 0, prove(secret, nonce, server->id(), 0)});
      hello[bit / 8] ^= std::byte{1} << (bit % 8);
      co_await thief.send(hello);
      const auto told = co_await thief.next();
      EXPECT_EQ(told.type, FrameType::gone);
      if (!test.answered || *test.answered) co_return ADD_FAILURE() << "resumed";
      EXPECT_EQ(test.answered->error().kind, bit < begin + 8 ? Kind::bad_input : Kind::denied);
    }
    EXPECT_EQ(server->state(), State::attached);
    EXPECT_EQ(server->resumes(), 0U);
    auto owner = co_await test.come_back(server, secret, 0);
    EXPECT_EQ((co_await owner.next()).type, FrameType::welcome);
  }(*this));
}

TEST_F(LinkTest, AnAcknowledgementThatGoesBackTakesNothingAndGivesNothingTwice) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    auto out = std::make_shared<Collected>();
    start(test.context, cut::collect(server, out));
    co_await server->write(bytes_of("0123456789"));
    co_await client.next();
    for (const std::uint64_t wanted : {8U, 3U, 0U}) co_await client.send(encode(Ack{wanted}));
    co_await client.send_data(0, "heard");
    const auto heard = [&out] { return out->bytes == "heard"; };
    co_await until(heard);
    EXPECT_EQ(server->unacknowledged(), 2U);
    co_await server->write(bytes_of("more"));
    const auto data = co_await client.next_but_acks();
    EXPECT_EQ(data.offset, 10U);
    EXPECT_EQ(data.bytes, "more");
    EXPECT_EQ(server->state(), State::attached);
  }(*this));
}

TEST_F(LinkTest, BytesThatAreNoLongerKeptEndTheLinkOnBothSides) {
  struct Row {
    const char* what;
    std::uint64_t wanted;
  };
  for (const auto& row : {Row{"acknowledged before", 2}, Row{"never sent", 11}}) {
    SCOPED_TRACE(row.what);
    run_async(context, [](LinkTest& test, std::uint64_t wanted) -> asio::awaitable<void> {
      std::shared_ptr<Link> server;
      auto client = co_await test.raw_client(server);
      const auto secret = client.decoder.welcome().secret;
      auto out = std::make_shared<Collected>();
      start(test.context, cut::collect(server, out));
      co_await server->write(bytes_of("0123456789"));
      co_await client.next();
      co_await client.send(encode(Ack{5}));
      auto acknowledged = [&server] { return server->unacknowledged() == 5; };
      co_await until(acknowledged);
      auto again = co_await test.come_back(server, secret, wanted);
      const auto gone = co_await again.next();
      EXPECT_EQ(gone.type, FrameType::gone);
      EXPECT_EQ(gone.bytes, "cannot be resumed");
      EXPECT_EQ(test.answered->error().kind, Kind::not_found);
      EXPECT_EQ(server->state(), State::over);
      EXPECT_EQ((co_await client.next()).bytes, "cannot be resumed");
    }(*this, row.wanted));
  }
}

TEST_F(LinkTest, AClientEndsALinkWhoseServerWantsBytesThatAreNoLongerKept) {
  for (const std::uint64_t wanted : {std::uint64_t{2}, std::uint64_t{11}}) {
    SCOPED_TRACE(wanted);
    run_async(context, [](LinkTest& test, std::uint64_t offset) -> asio::awaitable<void> {
      std::shared_ptr<Link> client;
      auto server = co_await test.raw_server(client);
      auto out = std::make_shared<Collected>();
      start(test.context, cut::collect(client, out));
      SessionId id{};
      id.fill(std::byte{7});
      co_await server.send(welcome_frame(id, 0, 's', 60'000));
      co_await client->write(bytes_of("0123456789"));
      co_await server.next();
      co_await server.send(encode(Ack{5}));
      auto acknowledged = [&client] { return client->unacknowledged() == 5; };
      co_await until(acknowledged);

      auto [near, far] = support::memory_streams(test.context.get_executor());
      RawPeer again{std::move(far)};
      co_await again.send(encode(Challenge{}));
      co_await again.send(welcome_frame(id, offset, 't', 60'000));
      const auto resumed = co_await client->resume(std::move(near));
      EXPECT_EQ(failure(resumed), Kind::not_found);
      EXPECT_EQ(client->state(), State::over);
      EXPECT_EQ((co_await again.next()).type, FrameType::hello);
      EXPECT_EQ((co_await again.next()).type, FrameType::gone);
    }(*this, wanted));
  }
}

// ---- the end ----

TEST_F(LinkTest, IsOverWhenNobodyComesBackWithinTheServersWindow) {
  LinkOptions server_options;
  server_options.window = 10ms;
  Pair pair(context, server_options);
  run_async(context, [](Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    EXPECT_EQ(both.client->window(), 10ms);
    int told = 0;
    both.server->on_over([&told](std::string_view) { ++told; });
    co_await both.server->write(bytes_of("never arrives"));
    both.wire->cut();
    auto ended = [&both] { return both.from_server->end && both.from_client->end; };
    co_await until(ended);
    EXPECT_EQ(both.from_server->end->error().kind, Kind::unavailable);
    EXPECT_EQ(both.from_client->end->error().kind, Kind::unavailable);
    EXPECT_EQ(both.server->state(), State::over);
    EXPECT_EQ(both.server->unacknowledged(), 0U);
    EXPECT_NE(both.server->why_over().find("within 10 ms"), std::string::npos) << both.server->why_over();
    EXPECT_FALSE(both.server->ended_by_peer());
    const auto written = co_await both.server->write(bytes_of("x"));
    EXPECT_EQ(failure(written), Kind::unavailable);
    EXPECT_FALSE(both.server->append(bytes_of("x"), {}));
    EXPECT_FALSE(co_await both.server->wait_sendable());
    const auto back = co_await both.dial();
    EXPECT_FALSE(back);
    EXPECT_EQ(told, 1);
  }(pair));
}

TEST_F(LinkTest, AResumeWithinTheWindowStopsItsClock) {
  LinkOptions server_options;
  server_options.window = 30ms;
  Pair pair(context, server_options);
  run_async(context, [](Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    asio::steady_timer clock(co_await asio::this_coro::executor);
    both.wire->cut();
    const auto back = co_await both.dial();
    EXPECT_TRUE(back);
    clock.expires_after(60ms);
    co_await clock.async_wait(asio::use_awaitable);
    EXPECT_EQ(both.server->state(), State::attached);
    EXPECT_EQ(both.client->state(), State::attached);
  }(pair));
}

TEST_F(LinkTest, CloseDeliversWhatWasWrittenAndThenEndsInGoodOrder) {
  for (const bool by_server : {true, false}) {
    SCOPED_TRACE(by_server ? "server" : "client");
    asio::io_context io;
    Pair pair(io);
    run_async(io, [](Pair& both, bool server_closes) -> asio::awaitable<void> {
      co_await both.establish();
      auto& closer = server_closes ? both.server : both.client;
      auto& other = server_closes ? both.client : both.server;
      auto& heard = server_closes ? both.from_server : both.from_client;
      auto& own = server_closes ? both.from_client : both.from_server;
      const auto text = pattern(300'000);
      std::string why;
      other->on_over([&why](std::string_view reason) { why = reason; });
      EXPECT_TRUE(closer->append(bytes_of(text), {}));
      closer->close();
      EXPECT_EQ(closer->state(), State::over);
      auto ended = [&heard, &own] { return heard->end && own->end; };
      co_await until(ended);
      EXPECT_TRUE(heard->bytes == text);
      if (!*heard->end) co_return ADD_FAILURE() << heard->end->error().message;
      EXPECT_EQ(**heard->end, 0U);
      EXPECT_EQ(own->end->error().kind, Kind::cancelled);
      EXPECT_EQ(other->state(), State::over);
      EXPECT_FALSE(why.empty());
      EXPECT_FALSE(co_await other->write(bytes_of("x")));
      EXPECT_EQ(closer->unacknowledged(), 0U);
    }(pair, by_server));
  }
}

TEST_F(LinkTest, CloseWithoutACarrierIsToldToWhoComesBack) {
  Pair pair(context);
  run_async(context, [](Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    both.wire->cut();
    auto detached = [&both] { return both.server->state() == State::detached; };
    co_await until(detached);
    both.server->close();
    const auto back = co_await both.dial();
    EXPECT_EQ(failure(back), Kind::not_found);
    EXPECT_EQ(both.client->state(), State::over);
    EXPECT_EQ(both.from_client->end->error().kind, Kind::cancelled);
  }(pair));
}

TEST_F(LinkTest, CloseGivesUpOnACarrierThatTakesNothing) {
  LinkOptions options;
  options.farewell_limit = 10ms;
  Pair pair(context, options);
  pair.capacity = 200;
  run_async(context, [](Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    both.wire->down->capacity = 0;
    co_await both.server->write(bytes_of(pattern(1000)));
    co_await settle();
    both.server->close();
    auto ended = [&both] { return both.from_client->end.has_value(); };
    co_await until(ended);
    EXPECT_EQ(both.from_client->end->error().kind, Kind::cancelled);
    EXPECT_EQ(both.server->unacknowledged(), 0U);
  }(pair));
}

TEST_F(LinkTest, DroppingALinkTellsThePeer) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    server.reset();
    const auto gone = co_await client.next();
    EXPECT_EQ(gone.type, FrameType::gone);
    EXPECT_EQ(gone.bytes, "");
    EXPECT_EQ((co_await client.next()).type, std::nullopt);
  }(*this));
}

TEST_F(LinkTest, AListenerMayDropTheLink) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    server->on_attached([&server](bool, std::string_view) { server.reset(); });
    server->detach("a test");
    EXPECT_EQ(server, nullptr);
    auto other_client = co_await test.raw_client(server);
    server->on_over([&server](std::string_view) { server.reset(); });
    server->close();
    EXPECT_EQ(server, nullptr);
  }(*this));
}

TEST_F(LinkTest, GoneIsHeardEvenWhenWritingFailedBefore) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    co_await client.send_data(0, "last words");
    co_await client.send(encode_gone(""));
    client.stream->close();  // writing fails from here on, and nothing has been read
    co_await server->write(bytes_of("too late"));
    co_await settle();
    EXPECT_EQ(server->state(), State::attached);
    EXPECT_EQ(co_await support::read_all(*server), "last words");
    EXPECT_EQ(server->why_over(), "the peer ended the link");
    EXPECT_TRUE(server->ended_by_peer());
  }(*this));
}

TEST_F(LinkTest, ACarrierThatCannotBeWrittenToIsGivenUpEvenIfNobodyReads) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    client.stream->close();
    co_await server->write(bytes_of("x"));
    auto given_up = [&server] { return server->state() == State::detached; };
    co_await until(given_up);
  }(*this));
}

// ---- who breaks the rules ----

TEST_F(LinkTest, AnythingElseEndsTheLinkAndThePeerIsTold) {
  const auto text = [](const auto& frame) {
    return std::string(reinterpret_cast<const char*>(frame.data()), frame.size());
  };
  struct Row {
    const char* what;
    std::string sent;
  };
  const Row rows[] = {
      {"DATA too far", text(encode(Data{4, 1})) + "x"},
      {"DATA again", text(encode(Data{2, 1})) + "x"},
      {"an acknowledgement of what was not sent", text(encode(Ack{6}))},
      {"an unknown type", std::string("\x06\0\0\0", 4)},
      {"too much DATA", std::string("\x03\x01\0\x09", 4)},
      {"HELLO again", text(encode(Hello{}))},
      {"CHALLENGE", text(encode(Challenge{}))},
      {"WELCOME", text(welcome_frame(SessionId{}, 0, 's', 1))},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    run_async(context, [](LinkTest& test, const Row& wrong) -> asio::awaitable<void> {
      std::shared_ptr<Link> server;
      auto client = co_await test.raw_client(server);
      auto out = std::make_shared<Collected>();
      start(test.context, cut::collect(server, out));
      co_await server->write(bytes_of("hello"));
      co_await client.next();
      co_await client.send_data(0, "abc");
      co_await client.send(wrong.sent);
      const auto gone = co_await client.next_but_acks();
      EXPECT_EQ(gone.type, FrameType::gone);
      EXPECT_NE(gone.bytes, "");
      EXPECT_EQ(out->bytes, "abc");
      if (!out->end || *out->end) co_return ADD_FAILURE() << "went on";
      EXPECT_EQ(out->end->error().kind, Kind::bad_input);
      EXPECT_EQ(server->state(), State::over);
    }(*this, row));
  }
}

TEST_F(LinkTest, APeerThatEndsItForAReasonIsNoGoodOrder) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    co_await client.send_data(0, "abc");
    co_await client.send(encode_gone("I do not understand"));
    EXPECT_EQ(co_await support::read_exactly(*server, 3), "abc");
    std::array<std::byte, 8> buffer;
    const auto got = co_await server->read(buffer);
    EXPECT_FALSE(got);
    EXPECT_NE(server->why_over().find("I do not understand"), std::string::npos);
  }(*this));
}

TEST_F(LinkTest, AWelcomedClientTakesNoDataBeforeWelcome) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> client;
    auto server = co_await test.raw_server(client);
    co_await server.send_data(0, "early");
    std::array<std::byte, 8> buffer;
    const auto got = co_await client->read(buffer);
    EXPECT_FALSE(got);
    EXPECT_EQ((co_await server.next()).type, FrameType::gone);
  }(*this));
}

// ---- bounds ----

TEST_F(LinkTest, AWriterWaitsWhileTheCarrierTakesNothing) {
  LinkOptions options;
  options.max_unsent = 10'000;
  Pair pair(context, options);
  run_async(context, [](LinkTest& test, Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    both.wire->down->capacity = 0;
    const auto text = pattern(100'000);
    bool written = false;
    const auto story = [](std::shared_ptr<Link> link, std::string_view all,
                          bool& done) -> asio::awaitable<void> {
      co_await link->write(bytes_of(all));
      done = true;
    };
    start(test.context, story(both.server, text, written));
    co_await settle();
    EXPECT_FALSE(written);
    EXPECT_EQ(both.server->unsent(), 10'000U);
    EXPECT_LE(both.server->unacknowledged(), 20'000U);
    both.wire->down->capacity = 1 << 20;
    both.wire->down->wake();
    auto arrived = [&both, &text] { return both.from_server->bytes.size() == text.size(); };
    co_await until(arrived);
    EXPECT_TRUE(written);
    EXPECT_TRUE(both.from_server->bytes == text);
  }(*this, pair));
}

TEST_F(LinkTest, AWriterWaitsForAcknowledgementsWhichFreeWhatWasKept) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    LinkOptions options;
    options.max_unacknowledged = 300'000;
    auto client = co_await test.raw_client(server, options);
    auto out = std::make_shared<Collected>();
    start(test.context, cut::collect(server, out));
    const auto text = pattern(1'000'000);
    bool written = false;
    const auto story = [](std::shared_ptr<Link> link, std::string_view all,
                          bool& done) -> asio::awaitable<void> {
      co_await link->write(bytes_of(all));
      done = true;
    };
    start(test.context, story(server, text, written));
    std::string heard;
    while (heard.size() < 300'000) heard += (co_await client.next()).bytes;
    co_await settle();
    EXPECT_FALSE(written);
    EXPECT_EQ(server->unacknowledged(), 300'000U);
    EXPECT_EQ(server->unsent(), 0U);
    while (heard.size() < text.size()) {
      co_await client.send(encode(Ack{heard.size()}));
      heard += (co_await client.next()).bytes;
      EXPECT_LE(server->unacknowledged(), 300'000U);
    }
    EXPECT_TRUE(heard == text);
    co_await client.send(encode(Ack{heard.size()}));
    auto freed = [&server] { return server->unacknowledged() == 0; };
    co_await until(freed);
    EXPECT_TRUE(written);
  }(*this));
}

TEST_F(LinkTest, AnAcknowledgementBeforeItsTimeTakesNothingFromAWriteUnderWay) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    auto out = std::make_shared<Collected>();
    start(test.context, cut::collect(server, out));
    const auto text = pattern(64 * 1024);
    server->append(bytes_of(text), {});  // more than the carrier takes with the frame's header
    co_await settle();
    co_await client.send(encode(Ack{text.size()}));
    auto freed = [&server] { return server->unacknowledged() == 0; };
    co_await until(freed);
    server->append(bytes_of(std::string(64 * 1024, '!')), {});
    EXPECT_TRUE((co_await client.next()).bytes == text);
  }(*this));
}

TEST_F(LinkTest, WaitSendableReturnsWhenThereIsRoom) {
  LinkOptions options;
  options.max_unsent = 1000;
  Pair pair(context, options);
  run_async(context, [](LinkTest& test, Pair& both) -> asio::awaitable<void> {
    co_await both.establish();
    EXPECT_TRUE(co_await both.server->wait_sendable());
    both.wire->cut();
    auto detached = [&both] { return both.server->state() == State::detached; };
    co_await until(detached);
    EXPECT_TRUE(both.server->append(bytes_of(pattern(400)), bytes_of(pattern(600))));
    EXPECT_EQ(both.server->unsent(), 1000U);
    bool sendable = false;
    const auto story = [](std::shared_ptr<Link> link, bool& done) -> asio::awaitable<void> {
      done = co_await link->wait_sendable();
    };
    start(test.context, story(both.server, sendable));
    co_await settle();
    EXPECT_FALSE(sendable);
    co_await both.dial();
    auto room = [&sendable] { return sendable; };
    co_await until(room);
    auto arrived = [&both] { return both.from_server->bytes.size() == 1000; };
    co_await until(arrived);
  }(*this, pair));
}

TEST_F(LinkTest, AReadyBatchLeavesInOneFrame) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    for (const std::string_view part : {"one ", "two ", "three"}) server->append(bytes_of(part), {});
    EXPECT_EQ((co_await client.next()).bytes, "one two three");
  }(*this));
}

TEST_F(LinkTest, AcknowledgesAfterAWhileOrSoonAfter64KiBOrWithData) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    auto out = std::make_shared<Collected>();
    start(test.context, cut::collect(server, out));
    co_await client.send_data(0, "abc");
    const auto begin = Link::Clock::now();
    auto frame = co_await client.next();
    EXPECT_EQ(frame.type, FrameType::ack);
    EXPECT_EQ(frame.offset, 3U);
    EXPECT_GE(Link::Clock::now() - begin, 90ms);

    const auto again = Link::Clock::now();
    co_await client.send_data(3, pattern(64 * 1024 - 3));
    co_await client.send_data(64 * 1024, pattern(10));
    frame = co_await client.next();
    EXPECT_EQ(frame.type, FrameType::ack);
    EXPECT_GE(frame.offset, 64U * 1024U);
    EXPECT_LT(Link::Clock::now() - again, 90ms);

    const auto arrived = [&out] { return out->bytes.size() == 64 * 1024 + 10; };
    co_await until(arrived);
    co_await client.send_data(64 * 1024 + 10, "?");
    const auto asked = [&out] { return out->bytes.back() == '?'; };
    co_await until(asked);
    co_await server->write(bytes_of("!"));
    frame = co_await client.next();
    EXPECT_EQ(frame.type, FrameType::ack);
    EXPECT_EQ(frame.offset, 64U * 1024U + 11U);
    EXPECT_EQ((co_await client.next()).bytes, "!");
  }(*this));
}

TEST_F(LinkTest, AcknowledgesABulkTransferInSteps) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    auto out = std::make_shared<Collected>();
    start(test.context, cut::collect(server, out));
    std::size_t sent = 0;
    for (; sent < 1024 * 1024; sent += 32 * 1024) co_await client.send_data(sent, pattern(32 * 1024));
    std::uint64_t acknowledged = 0;
    while (acknowledged < sent) {
      const auto frame = co_await client.next();
      EXPECT_EQ(frame.type, FrameType::ack);
      EXPECT_GE(frame.offset, std::min<std::uint64_t>(acknowledged + 64 * 1024, sent));
      acknowledged = frame.offset;
    }
  }(*this));
}

TEST_F(LinkTest, WhatLiesInSeveralPiecesArrivesInOrder) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    const auto text = pattern(300'000);
    server->append(bytes_of(std::string_view(text).substr(0, 40'000)), {});
    co_await settle();
    server->append(bytes_of(std::string_view(text).substr(40'000)), {});
    std::string all;
    while (all.size() < text.size()) {
      const auto frame = co_await client.next();
      EXPECT_EQ(frame.type, FrameType::data);
      EXPECT_EQ(frame.offset, all.size());
      EXPECT_LE(frame.bytes.size(), kMaxDataBytes);
      all += frame.bytes;
    }
    EXPECT_TRUE(all == text);
  }(*this));
}

// ---- as a ByteStream ----

TEST_F(LinkTest, ACancelledReadSaysSo) {
  for (const bool attached : {true, false}) {
    SCOPED_TRACE(attached);
    std::shared_ptr<Link> server;
    auto client = std::make_shared<RawPeer>(run_async(context, raw_client(server)));
    if (!attached) server->detach("a test");
    asio::cancellation_signal signal;
    std::optional<Result<std::size_t>> got;
    const auto story = [](std::shared_ptr<Link> link,
                          std::optional<Result<std::size_t>>& into) -> asio::awaitable<void> {
      std::array<std::byte, 8> buffer;
      into = co_await link->read(buffer);
    };
    asio::co_spawn(context, story(server, got),
                   asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    run_async(context, settle());
    EXPECT_FALSE(got);
    signal.emit(asio::cancellation_type::terminal);
    run_async(context, settle());
    ASSERT_TRUE(got);
    ASSERT_FALSE(*got);
    EXPECT_EQ(got->error().kind, Kind::cancelled);
  }
}

TEST_F(LinkTest, ReadsIntoAsLittleAsOneByte) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    co_await client.send_data(0, "abc");
    co_await client.send(encode(Ack{0}));
    co_await client.send_data(3, "def");
    std::string all;
    std::array<std::byte, 1> one;
    while (all.size() < 6) {
      const auto got = co_await server->read(one);
      if (!got || *got != 1) co_return ADD_FAILURE();
      all += static_cast<char>(one[0]);
    }
    EXPECT_EQ(all, "abcdef");
  }(*this));
}

TEST_F(LinkTest, RefusesToEndOneDirection) {
  run_async(context, [](LinkTest& test) -> asio::awaitable<void> {
    std::shared_ptr<Link> server;
    auto client = co_await test.raw_client(server);
    EXPECT_FALSE(co_await server->shutdown_write());
    EXPECT_EQ(server->state(), State::attached);
  }(*this));
}

}  // namespace
}  // namespace links
