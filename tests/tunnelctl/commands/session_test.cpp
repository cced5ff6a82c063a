#include "tunnelctl/commands/session.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <stdlib.h>

#include "tunnelctl/commands/sources.h"
#include "tunnelctl/daemon/admin.h"

namespace tunnelctl {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr const char* kContexts = R"(current: home
contexts:
  - name: home
    grafana_url: https://home.example
  - name: prod
    grafana_url: https://prod.example
    token_file: ~/prod.token
    username: me
    org: 7
    headers: ["X-Access: secret"]
    ca_file: /prod/ca.pem
    certificate_file: /prod/me.pem
    read_only: true
    admin_url: https://admin.example
    admin_token_file: ~/admin.token
    prometheus_url: https://prometheus.example
    prometheus_token_file: ~/prometheus.token
  - name: straight
    loki_url: https://loki.example
)";

/// A session on that configuration, without the environment of whoever runs the test.
class Story {
 public:
  explicit Story(Environment environment = {}) {
    std::string name = (std::filesystem::temp_directory_path() / "session-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
    folder_ = name;
    std::ofstream(folder_ / "config.yaml") << kContexts;
    environment.emplace_back("TUNNELCTL_CONFIG", (folder_ / "config.yaml").string());
    environment.emplace_back("HOME", "/home/me");
    session_.emplace(out_, out_, std::move(environment), std::stop_token());
  }
  ~Story() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Story(const Story&) = delete;
  Story& operator=(const Story&) = delete;

  Session* operator->() { return &*session_; }
  Session& operator*() { return *session_; }

 private:
  std::filesystem::path folder_;
  std::ostringstream out_;
  std::optional<Session> session_;
};

TEST(Session, KeepsAContextsSecretsForItsOwnGrafana) {
  for (const char* same : {"", "https://prod.example", "https://prod.example/"}) {
    Story story;
    story->globals.context = "prod";
    story->globals.grafana_url = same;
    const auto own = story->connection();
    ASSERT_TRUE(own) << own.error().message;
    EXPECT_EQ(own->url, "https://prod.example");
    EXPECT_EQ(own->token_file, "/home/me/prod.token");
    EXPECT_THAT(own->headers, ElementsAre(Pair("X-Access", "secret")));
  }
  Story story;
  story->globals.context = "prod";
  story->globals.grafana_url = "http://other.example";
  const auto other = story->connection();
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(other->url, "http://other.example");
  EXPECT_THAT(other->token_file.string(), IsEmpty());
  EXPECT_THAT(other->username, IsEmpty());
  EXPECT_TRUE(other->password.empty());
  EXPECT_THAT(other->headers, IsEmpty());
  EXPECT_FALSE(other->tls.certificate);
  EXPECT_FALSE(other->org);
  EXPECT_TRUE(other->read_only) << "that is no secret";
  story->globals.token_file = "said";
  EXPECT_EQ(story->connection()->token_file, "said");
}

TEST(Session, KeepsAContextsSecretsForItsOwnTunneld) {
  Story story;
  story->globals.context = "prod";
  EXPECT_EQ(story->tunnel_connection()->token_file, "/home/me/admin.token");
  story->globals.admin_url = "https://admin.example/";
  EXPECT_EQ(story->tunnel_connection()->token_file, "/home/me/admin.token");
  story->globals.admin_url = "http://127.0.0.1:1";
  const auto other = story->tunnel_connection();
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(other->url, "http://127.0.0.1:1");
  EXPECT_THAT(other->token_file.string(), IsEmpty());
}

TEST(Session, NamesAGrafanaOnlyWhereItWouldAskOne) {
  struct Row {
    Environment environment;
    const char *context, *flag;
    bool names;
  };
  const Row rows[] = {
      {{}, "", "", true},
      {{}, "prod", "", true},
      {{}, "straight", "", false},
      {{}, "straight", "https://a.example", true},
      {{{"GRAFANA_URL", "https://a.example"}}, "", "", true},
      {{{"GRAFANA_URL", "https://a.example"}}, "straight", "", false},
  };
  for (const auto& row : rows) {
    Story story(row.environment);
    story->globals.context = row.context;
    story->globals.grafana_url = row.flag;
    EXPECT_EQ(story->names_grafana(), row.names) << row.context << " " << row.flag;
    const auto connection = story->connection();
    EXPECT_EQ(connection && !connection->url.empty(), row.names);
  }
}

TEST(Sources, TakeTokenAndCertificatesFromWhereTheAddressComesFrom) {
  const Environment token = {{"PROMETHEUS_TOKEN_FILE", "/env/token"}};
  Story by_context(token);
  by_context->globals.context = "prod";
  const auto own = straight_to_prometheus(*by_context);
  ASSERT_TRUE(own && *own);
  EXPECT_EQ((*own)->url, "https://prometheus.example");
  EXPECT_EQ((*own)->token_file, "/home/me/prometheus.token");
  EXPECT_EQ((*own)->token_setting, "prometheus_token_file");
  EXPECT_EQ((*own)->tls.ca, "/prod/ca.pem");
  EXPECT_EQ((*own)->tls.certificate, "/prod/me.pem");
  by_context->globals.prometheus_url = "https://other.example";
  const auto other = straight_to_prometheus(*by_context);
  ASSERT_TRUE(other && *other);
  EXPECT_EQ((*other)->token_file, "/env/token");
  EXPECT_EQ((*other)->token_setting, "PROMETHEUS_TOKEN_FILE");
  EXPECT_FALSE((*other)->tls.ca);
  Story none;
  none->globals.context = "straight";
  const auto loki = straight_to_loki(*none);
  ASSERT_TRUE(loki && *loki);
  EXPECT_THAT((*loki)->token_file.string(), IsEmpty());
  EXPECT_EQ((*loki)->token_setting, "loki_token_file");
}

}  // namespace
}  // namespace tunnelctl
