#include "tunnelctl/client/network_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>

#include <gtest/gtest.h>
#include <boost/asio/post.hpp>

#include "common/file_descriptor.h"
#include "tests/support/run_async.h"
#include "tunnelctl/client/pace.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;

/// Adds an address to loopback, or takes it away again. False without the privilege to.
bool change_loopback(std::uint16_t type) {
  const FileDescriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  struct {
    nlmsghdr head;
    ifaddrmsg body;
    rtattr attribute;
    unsigned char address[4];
  } request{};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = type;
  request.head.nlmsg_flags =
      NLM_F_REQUEST | NLM_F_ACK | (type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0);
  request.body.ifa_family = AF_INET;
  request.body.ifa_prefixlen = 32;
  request.body.ifa_index = 1;
  request.attribute.rta_len = RTA_LENGTH(4);
  request.attribute.rta_type = IFA_LOCAL;
  const unsigned char address[] = {192, 0, 2, 99};
  std::memcpy(request.address, address, sizeof address);
  if (::send(socket.get(), &request, sizeof request, 0) < 0) return false;
  struct {
    nlmsghdr head;
    nlmsgerr error;
    char rest[256];
  } answer{};
  return ::recv(socket.get(), &answer, sizeof answer, 0) > 0 && answer.head.nlmsg_type == NLMSG_ERROR &&
         answer.error.error == 0;
}

TEST(NetworkWatch, TellsOfAnAddressThatComesAndGoesOnceEach) {
  asio::io_context io{1};
  unsigned told = 0;
  NetworkWatch watch(
      io, [&] { ++told; }, 20ms);
  if (!watch.works()) GTEST_SKIP() << "no rtnetlink here";
  if (!change_loopback(RTM_NEWADDR)) GTEST_SKIP() << "not allowed to change addresses here";
  EXPECT_TRUE(has_address(asio::ip::make_address("192.0.2.99")));
  io.run_for(200ms);
  // An address brings routes with it: several messages, one piece of news.
  EXPECT_EQ(told, 1U);
  EXPECT_TRUE(change_loopback(RTM_DELADDR));
  io.restart();
  io.run_for(200ms);
  EXPECT_EQ(told, 2U);
  EXPECT_FALSE(has_address(asio::ip::make_address("192.0.2.99")));
}

TEST(NetworkWatch, IsSilentWhenItHasGone) {
  asio::io_context io{1};
  bool told = false;
  {
    NetworkWatch watch(
        io, [&] { told = true; }, 1ms);
  }
  io.run_for(20ms);
  EXPECT_FALSE(told);
}

TEST(Addresses, AreHereOrNot) {
  EXPECT_TRUE(has_address(asio::ip::make_address("127.0.0.1")));
  EXPECT_FALSE(has_address(asio::ip::make_address("192.0.2.1")));
}

class PaceTest : public testing::Test {
 protected:
  static Backoff::Options slow() {
    Backoff::Options options;
    options.base = options.cap = options.quick_cap = 60'000ms;
    options.between_hurried = 0ms;
    options.max_attempts = 3;
    return options;
  }
  std::optional<Pace::Turn> turn(Advice advice = {}) { return support::run_async(io, pace.turn(advice)); }

  asio::io_context io{1};
  Pace pace{io, slow(), Backoff::First::at_once, [] { return 0.0; }};
};

TEST_F(PaceTest, AChangeOfTheNetworkCutsTheWaitShort) {
  ASSERT_TRUE(turn());
  asio::post(io, [&] { pace.network_changed(); });
  const auto second = turn();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->attempt, 2U);
  EXPECT_TRUE(second->network_changed);
  EXPECT_LT(second->waited, 5s);
}

TEST_F(PaceTest, AChangeDuringTheLastTryCountsForTheNext) {
  ASSERT_TRUE(turn());
  pace.network_changed();
  const auto second = turn();
  ASSERT_TRUE(second);
  EXPECT_TRUE(second->network_changed);
}

TEST_F(PaceTest, AChangeDoesNotOverruleTheServer) {
  ASSERT_TRUE(turn());
  pace.network_changed();
  const auto second = turn({.hint = 30ms});
  ASSERT_TRUE(second);
  EXPECT_FALSE(second->network_changed);
  EXPECT_GE(second->waited, 30ms);
}

TEST_F(PaceTest, CancellingEndsTheWait) {
  ASSERT_TRUE(turn());
  asio::steady_timer timer(io, 5ms);
  timer.async_wait([&](const boost::system::error_code&) { pace.cancel(); });
  EXPECT_FALSE(turn());
}

}  // namespace
}  // namespace tunnelctl::client
