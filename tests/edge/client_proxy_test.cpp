#include "edge/client_proxy.h"

#include <gtest/gtest.h>

namespace edge {
namespace {

TEST(Proxy, IsReadFromAUrl) {
  struct Row {
    const char* url;
    const char* shown;
    const char* user;
    const char* password;
  };
  const Row rows[] = {
      {"http://proxy.example:3128", "http://proxy.example:3128", "", ""},
      {"proxy.example:3128", "http://proxy.example:3128", "", ""},
      {"http://proxy.example", "http://proxy.example:1080", "", ""},
      {"HTTP://proxy.example:80/", "http://proxy.example:80", "", ""},
      {"http://ann:p%40ss%3A@proxy.example:3128", "http://proxy.example:3128", "ann", "p@ss:"},
      {"socks5://ann@[2001:db8::1]:1081", "socks5://[2001:db8::1]:1081", "ann", ""},
      {"socks5h://[2001:db8::1]", "socks5://[2001:db8::1]:1080", "", ""},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.url);
    const auto proxy = parse_proxy(row.url);
    ASSERT_TRUE(proxy) << proxy.error().message;
    EXPECT_EQ(proxy->shown(), row.shown);
    EXPECT_EQ(proxy->user, row.user);
    EXPECT_EQ(proxy->password.reveal(), row.password);
    EXPECT_EQ(proxy->authenticates, std::string_view(row.url).find('@') != std::string_view::npos);
  }
}

TEST(Proxy, IsRefusedWithoutQuotingThePassword) {
  for (const char* url :
       {"https://ann:s3cret@proxy.example:443", "socks4://proxy.example", "ftp://proxy.example",
        "http://ann:s3cret@", "http://", "http://ann:s3cret@proxy.example:0",
        "http://ann:s3cret%zz@proxy.example:3128", "http://pro xy:3128"}) {
    SCOPED_TRACE(url);
    const auto proxy = parse_proxy(url);
    ASSERT_FALSE(proxy);
    EXPECT_EQ(proxy.error().kind, Error::Kind::bad_input);
    EXPECT_EQ(proxy.error().message.find("s3cret"), std::string::npos) << proxy.error().message;
  }
}

TEST(Proxy, IsNotForWhatNoProxyLists) {
  struct Row {
    const char* none_for;
    const char* host;
    bool used;
  };
  const Row rows[] = {
      {"", "tunnel.example", true},
      {"*", "tunnel.example", false},
      {"tunnel.example", "tunnel.example", false},
      {"example", "tunnel.example", false},
      {".example", "Tunnel.EXAMPLE", false},
      {"*.example", "tunnel.example", false},
      {"nel.example", "tunnel.example", true},
      {"other.example, tunnel.example", "tunnel.example", false},
      {"192.0.2.1", "192.0.2.1", false},
      {"192.0.2.0/24", "192.0.2.77", false},
      {"192.0.2.0/24", "192.0.3.77", true},
      {"[2001:db8::1]", "2001:db8::1", false},
      {"2001:db8::/32", "2001:db8::77", false},
      {"", "localhost", false},  // ever
      {"", "127.0.0.1", false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(testing::Message() << row.none_for << " and " << row.host);
    const http::Proxies proxies{"http://proxy.example:3128", "", row.none_for};
    const auto chosen = choose_proxy(proxies, {true, row.host, 443});
    ASSERT_TRUE(chosen);
    EXPECT_EQ(chosen->has_value(), row.used);
  }
}

TEST(Proxy, IsChosenByTheSchemeOfTheTarget) {
  const http::Proxies proxies{"http://secure.example:1", "http://plain.example:2", ""};
  EXPECT_EQ((*choose_proxy(proxies, {true, "a.example", 443}))->host, "secure.example");
  EXPECT_EQ((*choose_proxy(proxies, {false, "a.example", 80}))->host, "plain.example");
  EXPECT_FALSE(choose_proxy({"https://secure.example:1", "", ""}, {true, "a.example", 443}));
}

}  // namespace
}  // namespace edge
