#include "tunnelctl/grafana/oncall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_api.h"
#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

using support::ScriptedApi;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kSettings = "/api/plugins/grafana-irm-app/settings";

ScriptedApi::Answer says(unsigned status, std::string body) {
  return [=](const auto&) { return ScriptedApi::Says{status, body}; };
}

/// A Grafana whose app says that OnCall is at that address.
class OnCallTest : public testing::Test {
 protected:
  Result<OnCall> find(const std::string& oncall_url, Connection connection = {.token = Secret("the-token")}) {
    grafana_ = std::make_unique<ScriptedApi>(std::map<std::string, ScriptedApi::Answer>{
        {kSettings, says(200, R"({"jsonData":{"onCallApiUrl":")" + oncall_url + "\"}}")}});
    connection.url = grafana_->url();
    auto server = Server::make(connection);
    return OnCall::find(*server, connection);
  }
  std::unique_ptr<ScriptedApi> grafana_;
};

TEST_F(OnCallTest, IsAskedWithTheBareTokenAndNotWithGrafanasHeaders) {
  std::string head;
  const ScriptedApi api({{"/prefix/api/v1/users/U1/", [&](const auto& asked) {
                            head = asked.head;
                            return ScriptedApi::Says{200, R"({"id":"U1","username":"ann","email":"ann@x"})"};
                          }}});
  auto oncall =
      find(api.url() + "/prefix/", {.token = Secret("the-token"), .headers = {{"X-Proxy-Secret", "s"}}});
  ASSERT_TRUE(oncall) << oncall.error().message;
  const auto user = oncall->get("users", "U1");
  ASSERT_TRUE(user) << user.error().message;
  EXPECT_EQ(oncall_user_of(*user).username, "ann");
  EXPECT_THAT(head, AllOf(HasSubstr("Authorization: the-token\r\n"),
                          HasSubstr("X-Grafana-URL: " + grafana_->url()), Not(HasSubstr("X-Proxy-Secret"))));
}

TEST_F(OnCallTest, PagesAreTurnedWithoutFollowingAddresses) {
  const ScriptedApi api(
      {{"/api/v1/schedules/", [](const auto& asked) {
          const bool first = asked.query == "page=1&name=a%20b";
          return ScriptedApi::Says{
              200, first ? R"({"next":"http://elsewhere.example/steal","results":[{"id":"S1"},{"id":"S2"}]})"
                         : R"({"next":null,"results":[{"id":"S3","on_call_now":["U1"]}]})"};
        }}});
  auto oncall = find(api.url());
  const auto found = oncall->list("schedules", 0, {{"name", "a b"}, {"team_id", ""}});
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->items.size(), 3U);
  EXPECT_THAT(schedule_of(found->items[2]).on_call_now, ElementsAre("U1"));
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/v1/schedules/?page=1&name=a%20b",
                                       "GET /api/v1/schedules/?page=2&name=a%20b"));
  const auto two = oncall->list("schedules", 2, {{"name", "a b"}});
  EXPECT_EQ(two->items.size(), 2U);
  EXPECT_TRUE(two->more);
}

TEST_F(OnCallTest, ThatIsNotThereIsSaidSo) {
  for (const auto& [status, body] : {std::pair{404U, R"({"message":"Plugin not found"})"},
                                     std::pair{200U, R"({"jsonData":{}})"}, std::pair{200U, "{}"}}) {
    const ScriptedApi api({{kSettings, says(status, body)}});
    const Connection connection{.url = api.url(), .token = Secret("t")};
    auto server = Server::make(connection);
    const auto oncall = OnCall::find(*server, connection);
    ASSERT_FALSE(oncall) << body;
    EXPECT_EQ(oncall.error().kind, Error::Kind::not_found);
    EXPECT_THAT(oncall.error().message, HasSubstr("has no OnCall"));
  }
}

TEST_F(OnCallTest, IsFoundByTheAppThatWasBeforeIrm) {
  const ScriptedApi api(
      {{"/api/plugins/grafana-oncall-app/settings",
        says(200, R"({"enabled":true,"jsonData":{"onCallApiUrl":"http://127.0.0.1:9/oncall"}})")}});
  const Connection connection{.url = api.url(), .token = Secret("t")};
  auto server = Server::make(connection);
  const auto oncall = OnCall::find(*server, connection);
  ASSERT_TRUE(oncall) << oncall.error().message;
  EXPECT_EQ(oncall->url(), "http://127.0.0.1:9/oncall");
}

TEST_F(OnCallTest, ThatIsDisabledIsSaidSo) {
  const ScriptedApi api(
      {{kSettings,
        says(200, R"({"enabled":false,"jsonData":{"onCallApiUrl":"http://127.0.0.1:9/oncall"}})")}});
  const Connection connection{.url = api.url(), .token = Secret("t")};
  auto server = Server::make(connection);
  const auto oncall = OnCall::find(*server, connection);
  ASSERT_FALSE(oncall);
  EXPECT_EQ(oncall.error().kind, Error::Kind::not_found);
  EXPECT_THAT(oncall.error().message, HasSubstr("has no OnCall (the app grafana-irm-app is disabled)"));
}

TEST_F(OnCallTest, AWebPageIsNoSignThatItIsMissing) {
  const ScriptedApi api({{kSettings, says(200, "<html>Sign in</html>")}});
  const Connection connection{.url = api.url(), .token = Secret("t")};
  auto server = Server::make(connection);
  const auto oncall = OnCall::find(*server, connection);
  ASSERT_FALSE(oncall);
  EXPECT_EQ(oncall.error().kind, Error::Kind::unavailable) << oncall.error().message;
}

TEST_F(OnCallTest, TakesNoUserAndPassword) {
  const ScriptedApi api({});
  const auto oncall = find(api.url(), {.username = "admin", .password = Secret("admin")});
  ASSERT_FALSE(oncall);
  EXPECT_EQ(oncall.error().kind, Error::Kind::bad_input);
  EXPECT_THAT(oncall.error().message, HasSubstr("GRAFANA_SERVICE_ACCOUNT_TOKEN"));
}

TEST_F(OnCallTest, NeverSendsTheTokenUnprotected) {
  const auto oncall = find("http://oncall.example");
  ASSERT_FALSE(oncall);
  EXPECT_THAT(oncall.error().message, HasSubstr("would send the token unprotected"));
}

TEST_F(OnCallTest, StepsAreTakenOnceAndRefusedInTheServersWords) {
  const ScriptedApi api({{"/api/v1/alert_groups/G1/acknowledge/",
                          says(400, R"({"detail":"Can't acknowledge a resolved alert group"})")},
                         {"/api/v1/alert_groups/G1/resolve/", says(200, "")}});
  auto oncall = find(api.url());
  const auto refused = oncall->step("G1", GroupStep::acknowledge);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::bad_input);
  EXPECT_THAT(refused.error().message, HasSubstr("Can't acknowledge a resolved alert group"));
  EXPECT_TRUE(oncall->step("G1", GroupStep::resolve));
  const auto unknown = oncall->step("G2", GroupStep::resolve);
  EXPECT_EQ(unknown.error().kind, Error::Kind::not_found);
  EXPECT_EQ(api.lines().size(), 3U);
}

TEST_F(OnCallTest, AReadOnlyContextAcknowledgesNothing) {
  const ScriptedApi api({});
  auto oncall = find(api.url(), {.token = Secret("t"), .read_only = true});
  ASSERT_TRUE(oncall);
  EXPECT_EQ(oncall->step("G1", GroupStep::acknowledge).error().kind, Error::Kind::denied);
}

}  // namespace
}  // namespace tunnelctl::grafana
