#include "tunneld/admin/me.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tunneld::admin {
namespace {

tunnel::Principal ann() {
  tunnel::Principal who;
  who.issuer = "https://id.example/";
  who.subject = "ann";
  who.tier = tunnel::Tier::premium;
  who.scopes = {"tunnel:use"};
  who.token_id = "secret-ish";
  who.expires_at = std::chrono::system_clock::time_point(std::chrono::seconds(1'772'323'200));
  return who;
}

TEST(Me, TellsACallerWhatItMayDoAndWhatOfItIsUsed) {
  UserTable::Usage usage;
  usage.requests = 4;
  usage.errors = 1;
  usage.total_time = std::chrono::milliseconds(100);
  MeLimits limits;
  limits.requests_per_minute = 500;
  limits.requests_remaining = 80;
  limits.connections = 10;
  limits.connections_open = 2;
  limits.queue = 200;
  limits.queue_waiting = 5;
  limits.flow = "slow_down";
  const auto body = me_body(ann(), usage, limits);
  EXPECT_EQ(body["subject"], "ann");
  EXPECT_EQ(body["principal"], tunnel::principal_hash(ann().key()));
  EXPECT_EQ(body["tier"], "premium");
  EXPECT_EQ(body["tokenExpires"], "2026-03-01T00:00:00.000Z");
  EXPECT_EQ(body["usage"]["requests"], 4);
  EXPECT_EQ(body["usage"]["successRate"], 0.75);
  EXPECT_EQ(body["usage"]["meanMs"], 25.0);
  EXPECT_EQ(body["limits"]["requestsPerMinute"]["limit"], 500);
  EXPECT_EQ(body["limits"]["requestsPerMinute"]["remaining"], 80);
  EXPECT_EQ(body["limits"]["connections"]["open"], 2);
  EXPECT_EQ(body["limits"]["queue"]["level"], "slow_down");
  EXPECT_EQ(body.dump().find("secret-ish"), std::string::npos) << "a token's id revokes it";
}

TEST(Me, HasNoUsageBeforeTheFirstRequestAndNoRateWithoutALimit) {
  const auto body = me_body(ann(), std::nullopt, {});
  EXPECT_TRUE(body["usage"].is_null());
  EXPECT_TRUE(body["limits"]["requestsPerMinute"].is_null());
}

}  // namespace
}  // namespace tunneld::admin
