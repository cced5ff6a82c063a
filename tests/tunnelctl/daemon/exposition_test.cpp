#include "tunnelctl/daemon/exposition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using tunnelctl::daemon::Exposition;

constexpr const char* kPage = R"(# HELP tunnel_requests_total Finished requests.
# TYPE tunnel_requests_total counter
tunnel_requests_total{status="success",user_tier="free"} 10
tunnel_requests_total{status="success",user_tier="premium"} 5
tunnel_requests_total{status="error",user_tier="free"} 1 1700000000000
tunnel_drain_state 0
odd{a="x\"y\\z\n}, b",c=""} 2.5e3
nonsense
{no="name"} 1
cut{a="
valueless{a="b"}
wrong 12x
)";

TEST(Exposition, AddsUpTheSamplesWithThoseLabels) {
  const auto page = Exposition::parse(kPage);
  EXPECT_EQ(page.sum("tunnel_requests_total"), 16);
  EXPECT_EQ(page.sum("tunnel_requests_total", {{"status", "success"}}), 15);
  EXPECT_EQ(page.sum("tunnel_requests_total", {{"status", "success"}, {"user_tier", "free"}}), 10);
  EXPECT_EQ(page.sum("tunnel_requests_total", {{"status", "other"}}), std::nullopt);
  EXPECT_EQ(page.sum("tunnel_drain_state"), 0);
  EXPECT_EQ(page.sum("tunnel_requests"), std::nullopt);
}

TEST(Exposition, ReadsEscapedLabels) {
  const auto page = Exposition::parse(kPage);
  EXPECT_EQ(page.sum("odd", {{"a", "x\"y\\z\n}, b"}}), 2500);
  EXPECT_THAT(page.values("tunnel_requests_total", "user_tier"), ElementsAre("free", "premium"));
  EXPECT_THAT(page.values("tunnel_requests_total", "other"), IsEmpty());
}

TEST(Exposition, PassesOverWhatIsNoSample) {
  const auto page = Exposition::parse(kPage);
  for (const char* name : {"nonsense", "cut", "valueless", "wrong", "", "#"})
    EXPECT_EQ(page.sum(name), std::nullopt) << name;
  EXPECT_EQ(Exposition::parse("").sum("x"), std::nullopt);
  EXPECT_EQ(Exposition::parse("x 1").sum("x"), 1);
  EXPECT_EQ(Exposition::parse("x 1\r\ny 2\r\n").sum("y"), 2);
}

TEST(Exposition, EstimatesQuantilesAsPrometheusDoes) {
  const auto page = Exposition::parse(R"(h_bucket{le="0.1"} 10
h_bucket{le="0.2"} 60
h_bucket{le="1"} 90
h_bucket{le="+Inf"} 100
two_bucket{kind="a",le="1"} 0
two_bucket{kind="a",le="+Inf"} 0
two_bucket{kind="b",le="1"} 4
two_bucket{kind="b",le="+Inf"} 4
empty_bucket{le="+Inf"} 0
)");
  EXPECT_NEAR(*page.quantile("h", 0.5), 0.18, 1e-9);
  EXPECT_NEAR(*page.quantile("h", 0.05), 0.05, 1e-9);
  EXPECT_NEAR(*page.quantile("h", 0.9), 1, 1e-9);
  EXPECT_EQ(page.quantile("h", 0.99), 1);  // in the last bucket: what is known
  EXPECT_NEAR(*page.quantile("two", 0.5), 0.5, 1e-9);
  EXPECT_EQ(page.quantile("empty", 0.5), std::nullopt);
  EXPECT_EQ(page.quantile("none", 0.5), std::nullopt);
}

}  // namespace
