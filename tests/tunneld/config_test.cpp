#include "tunneld/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tunneld {
namespace {

using testing::HasSubstr;

struct Configured : testing::Test {
  Configured() {
    std::string pattern = "/tmp/tunneld-config-XXXXXX";
    directory = ::mkdtemp(pattern.data());
  }
  ~Configured() override { std::filesystem::remove_all(directory); }
  Result<std::unique_ptr<Configuration>> load(const std::string& yaml,
                                              std::vector<std::string> overrides = {}) {
    std::ofstream(directory / "t.yaml") << yaml;
    return load_config(directory / "t.yaml", overrides);
  }
  std::filesystem::path directory;
};

constexpr const char* kUpstream = R"(
upstreams:
  - name: office
    address: [10.0.0.5:22, "[2001:db8::5]:22"]
    user: tunnel
    host_key_fingerprint: [SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKZIDTMczCvj3tD2s]
    services:
      - {name: web, target: "127.0.0.1:8080", allow: ["*"]}
      - {name: db, target: "db.internal:5432", allow: ["sub:alice", "tier:enterprise"]}
)";

TEST_F(Configured, NothingAtAllMeansLoopback) {
  const auto loaded = load_config(std::nullopt, {});
  ASSERT_TRUE(loaded) << loaded.error().message;
  const auto& config = (*loaded)->values;
  EXPECT_EQ(config.listen, std::vector<std::string>{"127.0.0.1:3001"});
  EXPECT_EQ(config.admin_listen, "127.0.0.1:9090");
  EXPECT_TRUE(config.plaintext_listen.empty());
  EXPECT_EQ(config.drain_timeout, std::chrono::seconds(30));
  EXPECT_EQ(config.auth.issuer, "tunneld");
}

TEST_F(Configured, UpstreamsBecomeServices) {
  const auto loaded = load(kUpstream, {"ssh.max_channels=7", "listen=0.0.0.0:3001,[::]:3001"});
  ASSERT_TRUE(loaded) << loaded.error().message;
  const auto services = services_of((*loaded)->values);
  ASSERT_EQ(services.size(), 2U);
  EXPECT_EQ(services[1].name, "db");
  EXPECT_EQ(services[1].upstream, "office");
  EXPECT_EQ(services[1].target_host, "db.internal");
  EXPECT_EQ(services[1].target_port, 5432);
  EXPECT_EQ((*loaded)->values.ssh.max_channels, 7U);
  EXPECT_EQ((*loaded)->values.listen.size(), 2U);
}

TEST_F(Configured, ContradictionsAreRefusedByName) {
  struct Row {
    const char* yaml;
    const char* says;
  };
  const std::string upstream = kUpstream;
  const auto doubled =
      upstream +
      "  - {name: home, address: [10.0.0.6:22], user: t, trust_on_first_use: true, services: "
      "[{name: web, target: \"127.0.0.1:1\"}]}\n";
  const Row rows[] = {
      {"admin_listen: 0.0.0.0:9090\n", "admin_listen: 0.0.0.0:9090 is not loopback"},
      {"plaintext_listen: [\"0.0.0.0:80\"]\n", "plaintext_listen: 0.0.0.0:80 is not loopback"},
      {"listen: []\n", "nobody could connect"},
      {"listen: [localhost:3001]\n", "must name an IP address"},
      {"listen: [\"127.0.0.1:9090\"]\n", "is used by listen already"},
      {"listen: [\"127.0.0.1:70000\"]\n", "t.yaml:1"},
      {"tls: {certificate_file: /x.crt}\n", "set it together with tls.key_file"},
      {"auth: {mode: jwks}\n", "auth."},
      {"auth: {mode: shared_secret, issuer: i, audience: a}\n", "shared_secret_file"},
      {"ws: {ping_interval: 60s}\n", "ws.dead_after"},
      {"allowed_origins: [\"https://a.example/path\"]\n", "origin without a path"},
      {"listne: [\"127.0.0.1:1\"]\n", "listen"},
      {"upstreams: [{name: o, address: [\"10.0.0.5:22\"], user: t}]\n",
       "neither this nor host_key_fingerprint"},
      {"upstreams: [{name: o, address: [\"10.0.0.5\"], user: t, trust_on_first_use: true}]\n", "host:port"},
      {"upstreams: [{name: O_1, address: [\"10.0.0.5:22\"], user: t, trust_on_first_use: true}]\n",
       "a-z 0-9"},
      {"upstreams: [{name: o, address: [\"10.0.0.5:22\"], user: t, trust_on_first_use: true, services: "
       "[{name: w, target: \"a:1\", allow: [everybody]}]}]\n",
       "upstreams.o.services.w.allow"},
      {doubled.c_str(), "web is a service of upstream office already"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.yaml);
    const auto loaded = load(row.yaml);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(loaded.error().message, HasSubstr(row.says));
  }
}

TEST_F(Configured, EveryContradictionIsToldAtOnce) {
  const auto loaded = load("admin_listen: 0.0.0.0:9090\nws: {ping_interval: 60s}\n");
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr("admin_listen"));
  EXPECT_THAT(loaded.error().message,
              HasSubstr("\n" + (directory / "t.yaml").string() + ":2: ws.dead_after"));
}

TEST_F(Configured, AMissingFileIsNamed) {
  const auto loaded = load_config(directory / "none.yaml", {});
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr("none.yaml"));
}

TEST_F(Configured, EveryKeyIsDocumentedWithAnExample) {
  const Configuration defaults;
  const auto reference = defaults.schema.reference();
  for (const auto* key :
       {"listen", "admin_listen", "auth.jwks_url", "limits.max_connections", "drain_timeout"})
    EXPECT_THAT(reference, HasSubstr(key));
}

TEST(HostPort, TakesWhatNamesOnePlace) {
  struct Row {
    const char* text;
    const char* host;  // nullptr: refused
    std::uint16_t port;
  };
  const Row rows[] = {
      {"127.0.0.1:80", "127.0.0.1", 80},
      {"[::1]:0", "::1", 0},
      {"db.internal:5432", "db.internal", 5432},
      {"::1:80", nullptr, 0},
      {"[host]:80", nullptr, 0},
      {"host", nullptr, 0},
      {":80", nullptr, 0},
      {"host:", nullptr, 0},
      {"host:65536", nullptr, 0},
      {"host:+80", nullptr, 0},
      {"host:80 ", nullptr, 0},
      {"user@host:80", nullptr, 0},
      {"http://host:80", nullptr, 0},
      {"ho st:80", nullptr, 0},
      {"", nullptr, 0},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.text);
    const auto parsed = parse_host_port(row.text);
    ASSERT_EQ(parsed.has_value(), row.host != nullptr);
    if (!parsed) continue;
    EXPECT_EQ(parsed->host, row.host);
    EXPECT_EQ(parsed->port, row.port);
  }
}

TEST(Loopback, IsTheWholeBlockAndItsNames) {
  for (const auto* host : {"127.0.0.1", "127.9.9.9", "::1", "localhost"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const auto* host : {"0.0.0.0", "::", "10.0.0.1", "localhost.example.com"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

}  // namespace
}  // namespace tunneld
