#include "common/http_url.h"

#include <gtest/gtest.h>

#include <string>

namespace {

using http::parse_url;
using http::percent_encode;
using http::shown_url;

TEST(HttpUrl, TakesApartWhatItUnderstands) {
  struct Row {
    const char* url;
    bool tls;
    const char* host;
    unsigned port;
  };
  const Row rows[] = {
      {"https://a", true, "a", 443},
      {"http://a", false, "a", 80},
      {"https://a.b:8443/c?d=e:f@g", true, "a.b", 8443},
      {"https://[::1]:3000/", true, "::1", 3000},
      {"http://127.0.0.1:1", false, "127.0.0.1", 1},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.url);
    const auto url = parse_url(row.url);
    ASSERT_TRUE(url) << url.error().message;
    EXPECT_EQ(url->tls, row.tls);
    EXPECT_EQ(url->host, row.host);
    EXPECT_EQ(url->port, row.port);
  }
}

TEST(HttpUrl, RefusesUrlsItCannotMean) {
  struct Row {
    const char* url;
    const char* message;
  };
  const Row rows[] = {
      {"", "the URL must start with https:// or http://"},
      {"ftp://a/", "the URL must start with https:// or http://"},
      {"https://", "the URL's host name is malformed"},
      {"https:///a", "the URL's host name is malformed"},
      {"https://a b/", "the URL contains spaces or other characters that must be percent-encoded"},
      {"https://a/\r\nX: y", "the URL contains spaces or other characters that must be percent-encoded"},
      {"https://a:0/", "the URL's port is malformed; allowed: 1 to 65535"},
      {"https://a:65536/", "the URL's port is malformed; allowed: 1 to 65535"},
      {"https://a:/", "the URL's port is malformed; allowed: 1 to 65535"},
      {"https://a:1:2/", "the URL's port is malformed; allowed: 1 to 65535"},
      {"https://[::1/", "the URL's IPv6 address lacks its ]"},
      {"https://[::1]x1/", "the URL's port is malformed; allowed: 1 to 65535"},
      {"https://[zz]/", "the URL's IPv6 address is malformed"},
      {"https://a/#b", "the URL must not have a #fragment"},
      {"https://user:pass@a/b@c?d",
       "the URL must not contain a user or password; give them by environment variable or file instead"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.url);
    const auto url = parse_url(row.url);
    ASSERT_FALSE(url);
    EXPECT_EQ(url.error().kind, Error::Kind::bad_input);
    EXPECT_EQ(url.error().message, row.message);
  }
}

TEST(HttpUrl, ShowsNoSecrets) {
  EXPECT_EQ(shown_url("https://user:pass@a/b@c?token=d"), "https://***@a/b@c");
  EXPECT_EQ(shown_url("https://a/b#access_token=d"), "https://a/b");
  EXPECT_EQ(shown_url("user@a"), "***@a");
  EXPECT_EQ(shown_url("https://a/\r\n"), "https://a/??");
  EXPECT_EQ(shown_url("https://" + std::string(300, 'a')), "https://" + std::string(248, 'a') + "...");
}

TEST(HttpUrl, KnowsLoopback) {
  for (const char* host : {"localhost", "LocalHost", "grafana.localhost", "127.0.0.1", "127.9.9.9", "::1"})
    EXPECT_TRUE(http::is_loopback(host)) << host;
  for (const char* host : {"localhost.example", "notlocalhost", "128.0.0.1", "::2", "0.0.0.0", "", "127"})
    EXPECT_FALSE(http::is_loopback(host)) << host;
}

TEST(HttpUrl, EncodesAllButUnreservedCharacters) {
  EXPECT_EQ(percent_encode("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(percent_encode("a b/c?d&e=%\xC3\xA9"), "a%20b%2Fc%3Fd%26e%3D%25%C3%A9");
}

}  // namespace
