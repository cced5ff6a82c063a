#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "common/http_client.h"
#include "tests/support/loopback_server.h"

namespace {

using namespace std::chrono_literals;
using support::http_answer;
using support::Identity;
using support::LoopbackServer;
using support::make_identity;
using support::TemporaryFile;
using testing::HasSubstr;
using testing::Not;
using Kind = Error::Kind;
using Then = LoopbackServer::Then;

http::ClientOptions options() {
  return {.connect_timeout = 5s, .retry = {.attempts = 1}, .proxies = http::Proxies{}};
}

Result<http::Response> get(const std::string& url, http::ClientOptions with) {
  auto client = http::Client::make(std::move(with));
  if (!client) return tl::unexpected(client.error());
  return client->send({.url = url, .headers = {{"Authorization", "Bearer hidden"}}});
}

LoopbackServer::Handler well() {
  return [](const LoopbackServer::Seen&) { return LoopbackServer::Reply{http_answer(200, "well")}; };
}

std::string as_proxy(const LoopbackServer& server, const std::string& user = "") {
  return "http://" + user + "127.0.0.1:" + std::to_string(server.port());
}

TEST(HttpClientProxy, IsAskedForPlainHttp) {
  LoopbackServer proxy(well());
  http::ClientOptions with = options();
  with.allow_plain = true;
  with.proxies->for_http = as_proxy(proxy);
  const auto got = get("http://grafana.example/api/health", with);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_TRUE(proxy.seen().at(0).head.starts_with("GET http://grafana.example/api/health HTTP/1.1\r\n"));
}

TEST(HttpClientProxy, IsTunnelledThroughForHttps) {
  const Identity identity = make_identity("DNS:grafana.example");
  const TemporaryFile ca(identity.certificate);
  LoopbackServer proxy(well(), {.identity = &identity, .after_connect = true});
  http::ClientOptions with = options();
  with.tls.ca = ca.path();
  with.proxies->for_https = as_proxy(proxy, "user:password@");
  const auto got = get("https://grafana.example/api/health", with);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->body, "well");
  EXPECT_EQ(got->header("X-Proxy"), nullptr) << "the proxy's own header";
  const auto seen = proxy.seen();
  EXPECT_TRUE(seen.at(0).head.starts_with("CONNECT grafana.example:443 HTTP/1.1\r\n"));
  EXPECT_THAT(seen.at(0).head, HasSubstr("Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n"));
  EXPECT_THAT(seen.at(0).head, Not(HasSubstr("hidden"))) << "our token is not the proxy's business";
  EXPECT_TRUE(seen.at(1).head.starts_with("GET /api/health HTTP/1.1\r\n"));
  EXPECT_THAT(seen.at(1).head, Not(HasSubstr("Proxy-Authorization")));
}

TEST(HttpClientProxy, IsLeftOutForLoopbackAndForNamesInNoProxy) {
  LoopbackServer proxy(well());
  LoopbackServer server(well());
  http::ClientOptions with = options();
  with.allow_plain = true;
  with.connect_timeout = 100ms;
  with.proxies->for_http = as_proxy(proxy);
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const auto got = get(server.url("/", host), with);
    ASSERT_TRUE(got) << got.error().message;
  }
  EXPECT_EQ(server.seen().size(), 2U);
  // 192.0.2.0/24 is for documentation: nobody answers there, so only the proxy could.
  for (const char* none_for : {"192.0.2.1", "example.org,192.0.2.1", "192.0.2.0/24", "*"}) {
    with.proxies->none_for = none_for;
    EXPECT_FALSE(get("http://192.0.2.1/", with)) << none_for;
  }
  EXPECT_EQ(proxy.seen().size(), 0U);
  with.proxies->none_for = "example.org";
  EXPECT_TRUE(get("http://192.0.2.1/", with));
  EXPECT_EQ(proxy.seen().size(), 1U);
}

TEST(HttpClientProxy, SaysWhatIsWrongWithIt) {
  std::string gone;
  {
    LoopbackServer server("");
    gone = as_proxy(server);
  }
  http::ClientOptions with = options();
  with.proxies->for_https = gone;
  const std::string start = "GET https://grafana.example/: ";
  const auto refused = get("https://grafana.example/", with);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, start + "connecting to the proxy 127.0.0.1 port " +
                                         gone.substr(gone.rfind(':') + 1) + " failed: Connection refused");

  LoopbackServer asking("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n");
  with.proxies->for_https = as_proxy(asking, "user:hidden@");
  const auto denied = get("https://grafana.example/", with);
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().kind, Kind::denied);
  EXPECT_THAT(denied.error().message, HasSubstr(start + "the proxy answered with status 407"));
  EXPECT_THAT(denied.error().message, Not(HasSubstr("hidden")));

  LoopbackServer forbidding("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
  with.proxies->for_https = as_proxy(forbidding);
  const auto forbidden = get("https://grafana.example/", with);
  ASSERT_FALSE(forbidden);
  EXPECT_EQ(forbidden.error().message, start + "the proxy answered with status 403");

  for (const char* wrong : {"ftp://proxy", "http://", "http://user:hidden@proxy:99999"}) {
    with.proxies->for_https = wrong;
    const auto made = http::Client::make(with);
    ASSERT_FALSE(made) << wrong;
    EXPECT_EQ(made.error().message,
              "HTTPS_PROXY: not the URL of a proxy; expected http://[user:password@]host:port");
  }
}

TEST(HttpClientProxy, ComesFromTheEnvironment) {
  struct Variable {
    Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
    ~Variable() { ::unsetenv(name_); }
    const char* name_;
  };
  const Variable both[] = {{"HTTPS_PROXY", "http://large"}, {"https_proxy", "http://small"}};
  const Variable one("HTTP_PROXY", "http://other");
  const Variable none("NO_PROXY", "a,b");
  const auto proxies = http::Proxies::from_environment();
  EXPECT_EQ(proxies.for_https, "http://small");
  EXPECT_EQ(proxies.for_http, "http://other");
  EXPECT_EQ(proxies.none_for, "a,b");
}

TEST(HttpClientTls, TrustsTheCertificatesItIsGiven) {
  const Identity identity = make_identity("IP:127.0.0.1,DNS:localhost");
  const TemporaryFile ca(identity.certificate);
  LoopbackServer server(well(), {.identity = &identity});
  http::ClientOptions with = options();
  with.tls.ca = ca.path();
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const auto got = get(server.url("/", host), with);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->body, "well");
  }
}

TEST(HttpClientTls, SaysWhyACertificateIsNotTrusted) {
  const Identity good = make_identity("IP:127.0.0.1");
  const Identity other = make_identity("IP:127.0.0.2,DNS:other.example");
  const Identity expired = make_identity("IP:127.0.0.1", -3600);
  struct Row {
    const Identity& identity;
    bool known;
    const char* host;
    const char* cause;
  };
  const Row rows[] = {
      {good, false, "127.0.0.1",
       "self-signed certificate; if this is the right server, put the certificate of its issuer into "
       "tls.ca_file"},
      {other, true, "127.0.0.1",
       "the certificate is for another name than 127.0.0.1; use the name in it, or have it issued for this "
       "one"},
      {other, true, "localhost",
       "the certificate is for another name than localhost; use the name in it, or have it issued for this "
       "one"},
      {expired, true, "127.0.0.1",
       "certificate has expired; renew it on the server, and check the clock here"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.cause);
    const TemporaryFile ca(row.identity.certificate);
    LoopbackServer server(well(), {.identity = &row.identity});
    http::ClientOptions with = options();
    with.tls.ca_setting = "tls.ca_file";
    with.retry.attempts = 4;
    if (row.known) with.tls.ca = ca.path();
    const auto got = get(server.url("/", row.host), with);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, Kind::denied);
    EXPECT_EQ(got.error().message,
              "GET " + server.url("/", row.host) + ": TLS verification failed: " + row.cause);
    EXPECT_EQ(server.connections(), 1U) << "nothing that a second try could mend";
    with.tls.insecure = true;
    EXPECT_TRUE(get(server.url("/", row.host), with));
  }
}

TEST(HttpClientTls, ShowsItsCertificateToServersThatAsk) {
  const Identity identity = make_identity("IP:127.0.0.1");
  const Identity client = make_identity("DNS:client");
  const Identity stranger = make_identity("DNS:stranger");
  const TemporaryFile ca(identity.certificate);
  const TemporaryFile certificate(client.certificate);
  const TemporaryFile key(client.key);
  const TemporaryFile together(client.certificate + client.key);
  const TemporaryFile other(stranger.certificate + stranger.key);
  LoopbackServer server(well(), {.identity = &identity, .client = &client});
  http::ClientOptions with = options();
  with.tls.ca = ca.path();
  const auto without = get(server.url(), with);
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().kind, Kind::denied);
  EXPECT_THAT(without.error().message, HasSubstr("set the client certificate and key"));

  with.tls.certificate = other.path();
  const auto wrong = get(server.url(), with);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().kind, Kind::denied) << wrong.error().message;

  with.tls.certificate = together.path();
  EXPECT_TRUE(get(server.url(), with));
  with.tls.certificate = certificate.path();
  with.tls.key = key.path();
  const auto got = get(server.url(), with);
  EXPECT_TRUE(got) << got.error().message;
}

TEST(HttpClientTls, RefusesTlsOlderThanOnePointTwo) {
  const Identity identity = make_identity("IP:127.0.0.1");
  const TemporaryFile ca(identity.certificate);
  LoopbackServer server(well(), {.identity = &identity, .only_tls_1_1 = true});
  http::ClientOptions with = options();
  with.tls.ca = ca.path();
  with.retry.attempts = 4;
  const auto got = get(server.url(), with);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, Kind::unavailable);
  EXPECT_THAT(got.error().message, HasSubstr("the TLS handshake failed: "));
  EXPECT_EQ(server.connections(), 1U) << "nothing that a second try could mend";
}

TEST(HttpClientTls, SaysThatTheOtherSideSpeaksNoTls) {
  support::asio::io_context io;
  support::asio::ip::tcp::acceptor acceptor(io, {support::asio::ip::address_v4::loopback(), 0});
  std::thread talker([&] {
    auto socket = acceptor.accept();
    support::asio::write(socket, support::asio::buffer(std::string("220 mail.example ESMTP\r\n")));
  });
  const auto got =
      get("https://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()) + "/", options());
  talker.join();
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().message, HasSubstr("the TLS handshake failed: "));
}

TEST(HttpClientTls, SaysThatTheHandshakeTookTooLong) {
  LoopbackServer silent("");  // waits for the end of a header
  http::ClientOptions with = options();
  with.connect_timeout = 100ms;
  const auto got = get("https" + silent.url().substr(4), with);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, Kind::timed_out);
  EXPECT_THAT(got.error().message, testing::EndsWith(": the TLS handshake took longer than 100 ms"));
}

TEST(HttpClientTls, NamesAFileThatItCannotUse) {
  const Identity client = make_identity("DNS:client");
  const Identity other = make_identity("DNS:other");
  const TemporaryFile nonsense("not a certificate");
  const TemporaryFile certificate(client.certificate);
  const TemporaryFile key(other.key);
  const auto refusal = [](http::TlsFiles files) {
    const auto client_made = http::Client::make({.tls = std::move(files)});
    if (client_made) return std::string("made");
    EXPECT_EQ(client_made.error().kind, Kind::bad_input);
    return client_made.error().message;
  };
  EXPECT_THAT(refusal({.ca = nonsense.path()}),
              HasSubstr(nonsense.path().string() + ": cannot be used as trusted certificates (PEM): "));
  EXPECT_THAT(refusal({.ca = "/nowhere/ca.pem"}), HasSubstr("/nowhere/ca.pem: cannot be used"));
  EXPECT_THAT(refusal({.certificate = nonsense.path()}),
              HasSubstr("cannot be used as client certificate (PEM): "));
  EXPECT_THAT(refusal({.certificate = certificate.path()}),
              HasSubstr("cannot be used as the client certificate's key"));
  EXPECT_THAT(refusal({.certificate = certificate.path(), .key = key.path()}),
              HasSubstr(key.path().string() + ": cannot be used as the client certificate's key"));
  EXPECT_THAT(refusal({.key = key.path()}), HasSubstr("a key without its certificate"));
}

TEST(HttpClientTls, SurvivesAServerThatGoesAwayDuringALargeUpload) {
  // SIGPIPE at its default would end this program.
  const auto before = std::signal(SIGPIPE, SIG_DFL);
  const Identity identity = make_identity("IP:127.0.0.1");
  const TemporaryFile ca(identity.certificate);
  for (const Then then : {Then::close, Then::reset}) {
    LoopbackServer server(
        [&](const LoopbackServer::Seen&) {
          return LoopbackServer::Reply{"", then};
        },
        {.identity = &identity});
    server.read_bodies = false;
    http::ClientOptions with = options();
    with.tls.ca = ca.path();
    const auto client = http::Client::make(with);
    ASSERT_TRUE(client);
    const auto got =
        client->send({.method = "POST", .url = server.url(), .body = std::string(20'000'000, 'x')});
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, Kind::unavailable) << got.error().message;
    EXPECT_THAT(got.error().message, testing::EndsWith("; it may have taken effect"));
  }
  std::signal(SIGPIPE, before);
}

}  // namespace
