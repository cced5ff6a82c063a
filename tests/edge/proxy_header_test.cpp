#include "edge/proxy_header.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/support/proxy_header.h"

namespace edge {

namespace test = tunneld::test;

namespace {

using test::proxy_header;
using test::tcp_over_ipv4;
using test::tcp_over_ipv6;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// The size first, as a connection reads it, then the header.
tl::expected<ProxyHeader, std::string_view> parse(const std::string& text) {
  const auto size = proxy_header_size(bytes_of(text.substr(0, kProxyPrologueBytes)));
  if (!size) return tl::unexpected(size.error());
  return parse_proxy_header(bytes_of(text.substr(0, *size)));
}

TEST(ProxyHeaders, NameTheCaller) {
  struct Row {
    const char* what;
    std::string header;
    const char* address;
    unsigned port;
  };
  const Row rows[] = {
      {"IPv4", proxy_header(0x21, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 40'001)), "192.0.2.7", 40'001},
      {"IPv6", proxy_header(0x21, 0x21, tcp_over_ipv6("2001:db8::7", 40'002)), "2001:db8::7", 40'002},
      {"IPv4 within IPv6", proxy_header(0x21, 0x21, tcp_over_ipv6("::ffff:192.0.2.7", 1)), "192.0.2.7", 1},
      {"with type-length-values behind",
       proxy_header(0x21, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 2) + std::string("\x01\x00\x02h2", 5)),
       "192.0.2.7", 2},
      {"as long as one may be",
       proxy_header(0x21, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 3) + std::string(508, 'x')), "192.0.2.7", 3},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const auto parsed = parse(row.header + "and the caller's first bytes");
    ASSERT_TRUE(parsed) << parsed.error();
    EXPECT_EQ(parsed->bytes, row.header.size());
    ASSERT_TRUE(parsed->source);
    EXPECT_EQ(parsed->source->address().to_string(), row.address);
    EXPECT_EQ(parsed->source->port(), row.port);
  }
}

TEST(ProxyHeaders, LeaveTheSocketsPeerWhereTheyNameNoCaller) {
  struct Row {
    const char* what;
    std::string header;
  };
  const Row rows[] = {
      {"LOCAL", proxy_header(0x20, 0x00, "")},
      {"LOCAL with an address", proxy_header(0x20, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 1))},
      {"LOCAL with a family that does not exist", proxy_header(0x20, 0xFF, "xyz")},
      {"unspecified", proxy_header(0x21, 0x00, "")},
      {"unspecified with something", proxy_header(0x21, 0x00, "xyz")},
      {"UDP", proxy_header(0x21, 0x12, tcp_over_ipv4({192, 0, 2, 7}, 1))},
      {"Unix", proxy_header(0x21, 0x31, std::string(216, 'p'))},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const auto parsed = parse(row.header);
    ASSERT_TRUE(parsed) << parsed.error();
    EXPECT_EQ(parsed->bytes, row.header.size());
    EXPECT_FALSE(parsed->source);
  }
}

TEST(ProxyHeaders, AreRefusedWhenTheyAreNotOne) {
  const auto good = proxy_header(0x21, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 1));
  auto wrong_signature = good;
  wrong_signature[11] = '\r';
  struct Row {
    const char* what;
    std::string header;
    const char* why;
  };
  const Row rows[] = {
      {"nothing", "", "too short"},
      {"cut", good.substr(0, 15), "too short"},
      {"HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no PROXY v2 signature"},
      {"version 1 in text", "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n", "no PROXY v2 signature"},
      {"a TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 rest of it", 22),
       "no PROXY v2 signature"},
      {"one byte wrong", wrong_signature, "no PROXY v2 signature"},
      {"version 1", proxy_header(0x11, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 1)), "unknown version"},
      {"version 3", proxy_header(0x31, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 1)), "unknown version"},
      {"command 2", proxy_header(0x22, 0x11, tcp_over_ipv4({192, 0, 2, 7}, 1)), "unknown command"},
      {"family 4", proxy_header(0x21, 0x41, tcp_over_ipv4({192, 0, 2, 7}, 1)), "unknown address family"},
      {"transport 3", proxy_header(0x21, 0x13, tcp_over_ipv4({192, 0, 2, 7}, 1)), "unknown address family"},
      {"no room for IPv4", proxy_header(0x21, 0x11, std::string(11, 'x')), "too short for its addresses"},
      {"no room for IPv6", proxy_header(0x21, 0x21, std::string(35, 'x')), "too short for its addresses"},
      {"no room for Unix", proxy_header(0x21, 0x31, std::string(215, 'x')), "too short for its addresses"},
      {"a byte too long", proxy_header(0x21, 0x11, std::string(521, 'x')), "too long"},
      {"as long as can be said", proxy_header(0x20, 0x00, std::string(65'535, 'x')), "too long"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const auto parsed = parse(row.header);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error(), row.why);
  }
}

TEST(ProxyHeaders, AreNotReadInPart) {
  const auto whole = proxy_header(0x21, 0x21, tcp_over_ipv6("2001:db8::7", 1));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(parse_proxy_header(bytes_of(whole.substr(0, size)))) << size;
  EXPECT_FALSE(parse_proxy_header(bytes_of(whole + "x")));
  EXPECT_TRUE(parse_proxy_header(bytes_of(whole)));
}

}  // namespace
}  // namespace edge
