#include "tunneld/live_streams.h"

#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/memory_stream.h"
#include "tests/support/quiet_observer.h"
#include "tests/support/run_async.h"

namespace tunneld {
namespace {

using namespace std::chrono_literals;
using How = tunnel::RelayEnd::How;
using WallClock = std::chrono::system_clock;

/// A caller who listens.
class Told final : public ControlSink {
 public:
  bool post_control(std::string_view text) override {
    messages.push_back(nlohmann::json::parse(text));
    return true;
  }
  std::vector<nlohmann::json> messages;
};

LiveStreams::Token token_of(const std::string& subject, WallClock::duration lifetime = 1h) {
  access::VerifiedToken token;
  token.principal.issuer = "i";
  token.principal.subject = subject;
  token.principal.issued_at = WallClock::now() - 1min;
  token.principal.expires_at = WallClock::now() + lifetime;
  return std::make_shared<const access::VerifiedToken>(std::move(token));
}

struct Streams : testing::Test {
  Streams() {
    directory = std::filesystem::path(testing::TempDir()) /
                (std::string("streams-") + testing::UnitTest::GetInstance()->current_test_info()->name() +
                 std::to_string(::getpid()));
    std::filesystem::create_directories(directory);
    revocations = *access::Revocations::open(directory / "revocations.json", WallClock::now());
    streams.emplace(*revocations);
  }
  ~Streams() override { std::filesystem::remove_all(directory); }

  boost::asio::awaitable<void> relayed(LiveStreams::Stream& live, std::optional<tunnel::RelayEnd>& end) {
    auto [near_caller, caller] = support::memory_streams(context.get_executor(), 1024);
    auto [near_service, service] = support::memory_streams(context.get_executor(), 1024);
    tunnel::RelayOptions options;
    options.control = &live.control;
    options.until = expiry_of(live.token()->principal);
    end = co_await tunnel::relay(*near_caller, *near_service, watch, observer, options);
  }
  /// How the stream's relay ends, between peers that say nothing.
  tunnel::RelayEnd end_of(LiveStreams::Stream& live) {
    std::optional<tunnel::RelayEnd> end;
    support::run_async(context, relayed(live, end));
    return *end;
  }

  boost::asio::io_context context{1};
  tunnel::DeadlineWatch watch{context.get_executor()};
  support::QuietObserver observer;
  std::filesystem::path directory;
  std::unique_ptr<access::Revocations> revocations;
  std::optional<LiveStreams> streams;
  Told alice, bob;
};

TEST_F(Streams, OnlyThePrincipalWhoseQueueItIsHearsOfIt) {
  LiveStreams::Stream first(*streams, watch, token_of("alice"), &alice);
  LiveStreams::Stream second(*streams, watch, token_of("bob"), &bob);
  LiveStreams::Stream third(*streams, watch, token_of("alice"), nullptr);
  streams->tell_flow(token_of("alice")->principal.key(), tunnel::FlowLevel::throttle, 0.82);
  ASSERT_EQ(alice.messages.size(), 1U);
  EXPECT_EQ(alice.messages[0]["type"], "flow");
  EXPECT_EQ(alice.messages[0]["level"], "throttle");
  EXPECT_TRUE(bob.messages.empty());
}

TEST_F(Streams, ADrainTellsAllAndEndsThoseThatPause) {
  LiveStreams::Stream live(*streams, watch, token_of("alice"), &alice);
  streams->drain(WallClock::now() + 30s, "sigterm", 10ms);
  ASSERT_EQ(alice.messages.size(), 1U);
  EXPECT_EQ(alice.messages[0]["type"], "maintenance");
  EXPECT_EQ(end_of(live).how, How::draining);
}

TEST_F(Streams, AStreamThatBeginsInADrainLearnsToo) {
  streams->drain(WallClock::now() + 30s, "sigterm", 10ms);
  LiveStreams::Stream live(*streams, watch, token_of("alice"), &alice);
  EXPECT_EQ(alice.messages.size(), 1U);
  EXPECT_EQ(end_of(live).how, How::draining);
}

TEST_F(Streams, AtTheDrainsEndTheRestEndsAtOnce) {
  LiveStreams::Stream live(*streams, watch, token_of("alice"), &alice);
  streams->end_all("time is over");
  EXPECT_EQ(end_of(live).how, How::draining);
}

TEST_F(Streams, ARevokedTokensStreamEndsAndOthersGoOn) {
  LiveStreams::Stream first(*streams, watch, token_of("alice"), &alice);
  LiveStreams::Stream second(*streams, watch, token_of("bob"), &bob);
  access::Revocations::Entry entry;
  entry.issuer = "i";
  entry.subject = "alice";
  entry.issued_until = WallClock::now();
  ASSERT_TRUE(revocations->add(entry, WallClock::now()));
  streams->check_revocations();
  EXPECT_EQ(end_of(first).how, How::revoked);
  second.control.stop(How::finished, "");
  EXPECT_EQ(end_of(second).how, How::finished) << "nothing else had ended it";
}

TEST_F(Streams, ATokenAboutToEndIsSaidOnceAndEndsTheStream) {
  LiveStreams::Stream live(*streams, watch, token_of("alice", 100ms), &alice);
  EXPECT_EQ(end_of(live).how, How::expired);
  ASSERT_EQ(alice.messages.size(), 1U);
  EXPECT_EQ(alice.messages[0]["type"], "auth.expiring");
}

TEST_F(Streams, ANewerTokenMovesTheEnd) {
  LiveStreams::Stream live(*streams, watch, token_of("alice", 50ms), &alice);
  live.refresh(token_of("alice", 1h));
  boost::asio::steady_timer later(context, 300ms);
  later.async_wait([&](boost::system::error_code) { live.control.stop(How::finished, "still there"); });
  EXPECT_EQ(end_of(live).how, How::finished);
}

TEST_F(Streams, AStreamThatIsOverIsForgotten) {
  {
    LiveStreams::Stream live(*streams, watch, token_of("alice"), &alice);
    EXPECT_EQ(streams->count(), 1U);
  }
  EXPECT_EQ(streams->count(), 0U);
  streams->end_all("nobody is there");
}

}  // namespace
}  // namespace tunneld
