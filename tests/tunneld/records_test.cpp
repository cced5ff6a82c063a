#include "tunneld/records.h"

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tunneld/admin/user_table.h"

namespace tunneld {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

struct WrittenDown : testing::Test {
  WrittenDown() {
    directory = std::filesystem::path(testing::TempDir()) /
                (std::string("records-") + testing::UnitTest::GetInstance()->current_test_info()->name() +
                 std::to_string(::getpid()));
    std::filesystem::create_directories(directory);
    records = *Records::open(config, directory, "here", metrics);
  }
  ~WrittenDown() override {
    records.reset();
    std::filesystem::remove_all(directory);
  }

  /// The kinds of all events, once so many are there.
  std::vector<nlohmann::json> events(std::size_t wanted) {
    const auto give_up = std::chrono::steady_clock::now() + 10s;
    std::vector<nlohmann::json> found;
    while (found.size() < wanted && std::chrono::steady_clock::now() < give_up) {
      found.clear();
      for (const auto& event : records->events().after(0, 100).events)
        found.push_back(nlohmann::json::parse(event.json));
    }
    return found;
  }
  static admin::Metrics::Options limited_to_ten() {
    admin::Metrics::Options options;
    options.max_connections = 10;
    return options;
  }
  static tunnel::Principal alice() {
    tunnel::Principal principal;
    principal.issuer = "i";
    principal.subject = "alice";
    return principal;
  }

  admin::Metrics metrics{limited_to_ten()};
  Config config;
  std::filesystem::path directory;
  std::unique_ptr<Records> records;
};

TEST_F(WrittenDown, AnUpstreamIsLostOnceForAllThreadsAndBackWhenTheLastThreadHasIt) {
  records->upstream_changed(0, "office", true, "connection refused");
  records->upstream_changed(1, "office", true, "connection refused");
  records->upstream_changed(0, "office", false, "");
  records->upstream_changed(1, "office", false, "");
  records->upstream_changed(0, "lab", true, "no route");
  const auto told = events(3);
  ASSERT_EQ(told.size(), 3U);
  EXPECT_EQ(told[0]["kind"], "upstream.lost");
  EXPECT_EQ(told[0]["data"]["why"], "connection refused");
  EXPECT_EQ(told[1]["kind"], "upstream.back");
  EXPECT_TRUE(told[1]["data"].contains("awayMs"));
  EXPECT_EQ(told[2]["data"]["upstream"], "lab");
}

TEST_F(WrittenDown, AQueueThatIsNearlyFullIsToldWithItsEndAndNamesNobody) {
  const auto key = alice().key();
  records->queue_level(key, tunnel::FlowLevel::throttle, 0.8);
  records->queue_level(key, tunnel::FlowLevel::pause, 0.9);
  records->queue_level(key, tunnel::FlowLevel::drop_low, 0.95);
  records->queue_level(key, tunnel::FlowLevel::throttle, 0.8);
  const auto told = events(2);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0]["data"]["level"], "pause");
  EXPECT_EQ(told[1]["data"]["level"], "throttle");
  EXPECT_EQ(told[0]["data"]["principal"], tunnel::principal_hash(key));
  EXPECT_EQ(told[0].dump().find("alice"), std::string::npos);
}

TEST_F(WrittenDown, ConnectionsNearTheirLimitAreAnEventOfTheirOwn) {
  for (int i = 0; i < 9; ++i) metrics.socket_opened();
  records->tick();
  records->tick();
  for (int i = 0; i < 9; ++i) metrics.socket_closed();
  records->tick();
  const auto told = events(2);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0]["data"]["what"], "connections");
  EXPECT_EQ(told[0]["data"]["level"], "pause");
  EXPECT_EQ(told[1]["data"]["level"], "open");
}

TEST_F(WrittenDown, ABreakersChangeIsAnEventWithWhatIsKnownOfIt) {
  access::CircuitBreakers::Change change{.from = access::BreakerState::closed, .breaker = {}, .open_for = {}};
  change.breaker.id = "0123456789abcdef";
  change.breaker.principal = alice().key();
  change.breaker.service = "web";
  change.breaker.upstream = "office";
  change.breaker.state = access::BreakerState::open;
  change.breaker.failures_in_a_row = 5;
  change.breaker.last_errors = {"TUNNEL_001: connection refused"};
  change.breaker.next_probe = std::chrono::steady_clock::now() + 60s;
  records->breaker_changed(change);
  change.from = access::BreakerState::half_open;
  change.breaker.state = access::BreakerState::closed;
  change.open_for = 61s;
  change.breaker.successes_in_a_row = 2;
  records->breaker_changed(change);
  const auto told = events(2);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0]["kind"], "breaker.opened");
  EXPECT_EQ(told[0]["data"]["failures"], 5);
  EXPECT_EQ(told[0]["data"]["principal"], tunnel::principal_hash(alice().key()));
  EXPECT_EQ(told[1]["kind"], "breaker.closed");
  EXPECT_EQ(told[1]["data"]["openForMs"], 61'000);
  EXPECT_EQ(told[1]["data"]["successes"], 2);
}

TEST_F(WrittenDown, LimitsThatAreMetAreOneLineASecondWithTheNumberThatIsNotTold) {
  for (int i = 0; i < 100; ++i) records->limit_met("user", alice(), "192.0.2.1");
  std::this_thread::sleep_until(std::chrono::steady_clock::now() + 1100ms);
  records->limit_met("user", alice(), "192.0.2.1");
  records.reset();  // writes what waits
  std::vector<std::uint64_t> untold;
  for (const auto& file : std::filesystem::directory_iterator(directory / "audit")) {
    if (file.path().extension() != ".jsonl") continue;
    const auto text = config::read_file(file.path());
    ASSERT_TRUE(text);
    std::size_t begin = 0;
    for (auto end = text->find('\n'); end != std::string::npos; end = text->find('\n', begin)) {
      const auto line = nlohmann::json::parse(text->substr(begin, end - begin));
      if (line["event"] == "limit.exceeded") untold.push_back(line["untold_before"]);
      begin = end + 1;
    }
  }
  EXPECT_THAT(untold, ElementsAre(0U, 99U));
}

}  // namespace
}  // namespace tunneld
