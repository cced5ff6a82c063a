#include "tunnel/client_address.h"

#include <gmock/gmock.h>

#include <unordered_set>

namespace tunnel {
namespace {

using testing::HasSubstr;

TEST(Address, IsAnIpv4AddressOrTheNetworkOfAnIpv6One) {
  struct Row {
    const char* text;
    const char* is;
  };
  const Row rows[] = {
      {"192.0.2.1", "192.0.2.1"},
      {"0.0.0.0", "0.0.0.0"},
      {"255.255.255.255", "255.255.255.255"},
      {"::ffff:192.0.2.1", "192.0.2.1"},
      {"::ffff:c000:201", "192.0.2.1"},
      {"2001:db8::1", "2001:db8::/64"},
      {"2001:DB8:0:0:1::", "2001:db8::/64"},
      {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
      {"::1", "::/64"},
      {"::", "::/64"},
      {"2001:db8:1:2:3:4:255.255.255.255", "2001:db8:1:2::/64"},
  };
  for (const auto& row : rows) {
    const auto address = Address::parse(row.text);
    ASSERT_TRUE(address) << row.text;
    EXPECT_EQ(address->text(), row.is) << row.text;
  }
}

TEST(Address, IsNothingElse) {
  using namespace std::string_view_literals;
  for (const auto text : {""sv,
                          "localhost"sv,
                          "192.0.2"sv,
                          "192.0.2.256"sv,
                          "192.0.2.01"sv,
                          "0x7f.1"sv,
                          "2130706433"sv,
                          "192.0.2.1:80"sv,
                          "[2001:db8::1]"sv,
                          "fe80::1%eth0"sv,
                          "2001:db8::1/64"sv,
                          "2001::db8::1"sv,
                          ":::"sv,
                          " 192.0.2.1"sv,
                          "192.0.2.1 "sv,
                          "192.0.2.1\n"sv,
                          "192.0.2.1\0"sv,
                          "192.0.2.1\0.evil"sv,
                          "-1.0.0.1"sv,
                          "1111:2222:3333:4444:5555:6666:7777:8888:9999"sv,
                          "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"sv})
    EXPECT_FALSE(Address::parse(text)) << text;
}

TEST(Address, DiffersBetweenIpv4AndIpv6OfTheSameBits) {
  const auto v4 = *Address::parse("0.0.0.1");
  const auto v6 = *Address::parse("0:0:0:1::");
  EXPECT_NE(v4, v6);
  EXPECT_NE(v4.hash(), v6.hash());
}

TEST(Address, HashesSpreadOverEveryPartOfTheWord) {
  std::unordered_set<std::size_t> whole, low, high;
  for (int i = 0; i < 256; ++i) {
    const auto hash = Address::parse("10.0.0." + std::to_string(i))->hash();
    whole.insert(hash);
    low.insert(hash & 0xff);
    high.insert(hash >> 56U);
  }
  EXPECT_EQ(whole.size(), 256U);
  // 256 balls in 256 urns leave about 162 urns used; far fewer would be no hash.
  EXPECT_GT(low.size(), 120U);
  EXPECT_GT(high.size(), 120U);
}

TEST(TrustedProxies, ContainTheMembersOfTheirNetworks) {
  struct Row {
    const char* network;
    const char* address;
    bool member;
  };
  const Row rows[] = {
      {"10.0.0.0/8", "10.255.0.1", true},
      {"10.0.0.0/8", "11.0.0.1", false},
      {"10.1.2.3/8", "10.9.9.9", true},  // what lies beyond the length does not matter
      {"192.0.2.64/26", "192.0.2.127", true},
      {"192.0.2.64/26", "192.0.2.128", false},
      {"192.0.2.1", "192.0.2.1", true},
      {"192.0.2.1", "192.0.2.2", false},
      {"192.0.2.1/32", "192.0.2.1", true},
      {"0.0.0.0/0", "198.51.100.7", true},
      {"0.0.0.0/0", "2001:db8::1", false},
      {"10.0.0.0/8", "::ffff:10.0.0.1", true},
      {"::ffff:10.0.0.0/104", "10.0.0.1", true},
      {"::ffff:10.0.0.0/104", "11.0.0.1", false},
      {"2001:db8::/32", "2001:db8:ffff::1", true},
      {"2001:db8::/33", "2001:db8:8000::1", false},
      {"2001:db8::1", "2001:db8::1", true},
      {"2001:db8::1", "2001:db8::2", false},
      {"::/0", "2001:db8::1", true},
      {"::/0", "192.0.2.1", false},  // all of IPv6 is not IPv4
      {"10.0.0.0/8", "no address", false},
      {"10.0.0.0/8", "", false},
  };
  for (const auto& row : rows) {
    const auto proxies = TrustedProxies::parse({row.network});
    ASSERT_TRUE(proxies) << row.network;
    EXPECT_EQ(proxies->contains(row.address), row.member) << row.network << " " << row.address;
  }
}

TEST(TrustedProxies, MayBeNone) {
  const auto none = TrustedProxies::parse({});
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->empty());
  EXPECT_FALSE(none->contains("127.0.0.1"));
}

TEST(TrustedProxies, AreRefusedByNameWhenTheyAreNoNetwork) {
  for (const auto* entry : {"", "/", "/8", "proxy.example", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
                            "10.0.0.0/+8", "10.0.0.0/8 ", "10.0.0.0/8/8", "10.0.0/8", "2001:db8::/129",
                            "2001:db8::/", "[2001:db8::1]", "10.0.0.0/4294967304", "10.0.0.1:80", "*"}) {
    const auto parsed = TrustedProxies::parse({"192.0.2.1", entry});
    ASSERT_FALSE(parsed) << entry;
    EXPECT_EQ(parsed.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(parsed.error().message, HasSubstr('"' + std::string(entry) + '"'));
  }
}

TEST(ClientAddress, IsTheRightmostHopThatIsNoTrustedProxy) {
  const auto trusted = *TrustedProxies::parse({"10.0.0.0/8", "2001:db8:f::/48"});
  struct Row {
    const char* story;
    const char* peer;
    std::vector<std::string_view> lines;
    const char* client;
  };
  const Row rows[] = {
      {"a stranger's word counts nothing", "192.0.2.9", {"198.51.100.1"}, "192.0.2.9"},
      {"a proxy that says nothing", "10.0.0.1", {}, "10.0.0.1"},
      {"one proxy", "10.0.0.1", {"198.51.100.1"}, "198.51.100.1"},
      {"two proxies", "10.0.0.1", {"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
      {"a forged entry on the left", "10.0.0.1", {"203.0.113.1, 198.51.100.1"}, "198.51.100.1"},
      {"a forged trusted address on the left",
       "10.0.0.1",
       {"10.9.9.9, 198.51.100.1, 10.0.0.2"},
       "198.51.100.1"},
      {"lines count in order",
       "10.0.0.1",
       {"203.0.113.1", "198.51.100.1,10.0.0.3", "10.0.0.2"},
       "198.51.100.1"},
      {"spaces and empty elements", "10.0.0.1", {" \t198.51.100.1 ,, ,", "", " ", ","}, "198.51.100.1"},
      {"a port", "10.0.0.1", {"198.51.100.1:4711"}, "198.51.100.1"},
      {"brackets", "10.0.0.1", {"[2001:db8::7]"}, "2001:db8::7"},
      {"brackets and port", "10.0.0.1", {"[2001:db8::7]:4711"}, "2001:db8::7"},
      {"IPv6 bare", "2001:db8:f::1", {"2001:DB8::0007"}, "2001:db8::7"},
      {"an IPv4 address in IPv6 clothes", "10.0.0.1", {"::ffff:198.51.100.1"}, "198.51.100.1"},
      {"a trusted proxy in IPv6 clothes",
       "::ffff:10.0.0.1",
       {"198.51.100.1, ::ffff:10.0.0.2"},
       "198.51.100.1"},
      {"only proxies", "10.0.0.1", {"10.0.0.3, 10.0.0.2"}, "10.0.0.1"},
      {"no address", "10.0.0.1", {"unknown"}, "10.0.0.1"},
      {"what is left of no address is nobody's word", "10.0.0.1", {"198.51.100.1, unknown"}, "10.0.0.1"},
      {"no address left of the caller", "10.0.0.1", {"<script>, 198.51.100.1"}, "198.51.100.1"},
      {"a bad port", "10.0.0.1", {"198.51.100.1:99999"}, "10.0.0.1"},
      {"an empty port", "10.0.0.1", {"198.51.100.1:"}, "10.0.0.1"},
      {"an open bracket", "10.0.0.1", {"[2001:db8::7"}, "10.0.0.1"},
      {"something after the bracket", "10.0.0.1", {"[2001:db8::7]4711"}, "10.0.0.1"},
      {"an empty port after the bracket", "10.0.0.1", {"[2001:db8::7]:"}, "10.0.0.1"},
      {"IPv4 in brackets", "10.0.0.1", {"[198.51.100.1]"}, "10.0.0.1"},
      {"a peer without an address", "", {"198.51.100.1"}, ""},
  };
  for (const auto& row : rows)
    EXPECT_EQ(client_address(row.peer, row.lines, trusted), row.client) << row.story;
}

TEST(ClientAddress, IsThePeerWhereNobodyIsTrusted) {
  const std::vector<std::string_view> lines{"198.51.100.1"};
  EXPECT_EQ(client_address("127.0.0.1", lines, {}), "127.0.0.1");
}

}  // namespace
}  // namespace tunnel
