#include "tunnelctl/grafana/silences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_api.h"

namespace tunnelctl::grafana {
namespace {

using namespace std::chrono_literals;
using support::ScriptedApi;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kId = "46aaa4e7-d0f1-4a77-b7af-24c612f53a51";
constexpr const char* kSilence = R"({"id":"46aaa4e7-d0f1-4a77-b7af-24c612f53a51","comment":"maintenance",
  "createdBy":"lab","startsAt":"2026-11-21T11:23:04.760Z","endsAt":"2026-11-21T12:23:04.000Z",
  "updatedAt":"2026-11-21T11:23:04.760Z","status":{"state":"active"},
  "matchers":[{"isEqual":true,"isRegex":false,"name":"tunnel","value":"alpha"},
              {"isRegex":true,"name":"instance","value":"edge-.*"}]})";

times::Time at(std::string_view text) {
  return *times::moment(text, times::Time{});
}

Alertmanager straight_to(const ScriptedApi& api) {
  return std::move(*Alertmanager::straight({.url = api.url()}));
}

TEST(SilenceMatcher, IsReadAsItIsPrinted) {
  struct Case {
    const char* text;
    Matcher matcher;
    const char* printed;
  };
  const Case cases[] = {
      {"severity=critical", {.name = "severity", .value = "critical"}, "severity=\"critical\""},
      {" a = b ", {.name = "a", .value = "b"}, "a=\"b\""},
      {"a!=b", {.name = "a", .value = "b", .is_equal = false}, "a!=\"b\""},
      {"a=~b|c", {.name = "a", .value = "b|c", .is_regex = true}, "a=~\"b|c\""},
      {"a!~b", {.name = "a", .value = "b", .is_equal = false, .is_regex = true}, "a!~\"b\""},
      {"a=", {.name = "a", .value = ""}, "a=\"\""},
      {"a=b=c", {.name = "a", .value = "b=c"}, "a=\"b=c\""},
      {R"(a="b \"c\" \\ d")", {.name = "a", .value = R"(b "c" \ d)"}, R"(a="b \"c\" \\ d")"},
      {R"(a=~"edge-\d+")", {.name = "a", .value = R"(edge-\d+)", .is_regex = true}, R"(a=~"edge-\\d+")"},
      {"team=größe", {.name = "team", .value = "größe"}, "team=\"größe\""},
      {R"("my label"=b)", {.name = "my label", .value = "b"}, R"("my label"="b")"},
      {R"("a=\"b\"" != "c=d")",
       {.name = "a=\"b\"", .value = "c=d", .is_equal = false},
       R"("a=\"b\""!="c=d")"},
      {"größe=1", {.name = "größe", .value = "1"}, "\"größe\"=\"1\""},
      {"service.name=api", {.name = "service.name", .value = "api"}, R"("service.name"="api")"},
      {R"("a:b"=~c)", {.name = "a:b", .value = "c", .is_regex = true}, R"(a:b=~"c")"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.text);
    const auto read = matcher(one.text);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, one.matcher);
    EXPECT_EQ(text(*read), one.printed);
    EXPECT_EQ(*matcher(text(*read)), one.matcher) << "what is printed can be read";
  }
}

TEST(SilenceMatcher, ThatMakesNoSenseIsRefusedWithTheForm) {
  struct Case {
    const char* text;
    const char* why;
  };
  const Case cases[] = {{"severity", "has no =, !=, =~ or !~"},
                        {"", "has no ="},
                        {"=critical", "names no label"},
                        {"a!b", "a lone ! is no comparison"},
                        {"a==b", "== is no comparison"},
                        {"a b=c", "\"a b\" is no label's name"},
                        {"{a=b}", "is no label's name"},
                        {"a=\"b", "quotes are not closed"},
                        {"a=\"b\" or", "quotes are not closed"},
                        {"\"a=b", "quotes are not closed"},
                        {"\"\"=b", "names no label"},
                        {"\"a\"b=c", "between its label and the comparison"}};
  for (const auto& one : cases) {
    SCOPED_TRACE(one.text);
    const auto read = matcher(one.text);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(read.error().message, AllOf(HasSubstr(one.why), HasSubstr("e.g. severity=critical")));
  }
}

TEST(Silences, AreReadWithTheirTimesAndMatchers) {
  const ScriptedApi api({{"/api/v2/silences", [](const auto&) {
                            return ScriptedApi::Says{200, std::string("[") + kSilence + "]"};
                          }}});
  const auto found = straight_to(api).silences();
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 1U);
  const auto& one = found->front();
  EXPECT_EQ(one.id, kId);
  EXPECT_EQ(one.state, "active");
  EXPECT_EQ(one.starts, at("2026-11-21T11:23:04.760Z"));
  EXPECT_EQ(one.ends, at("2026-11-21T12:23:04Z"));
  EXPECT_EQ(one.created_by, "lab");
  EXPECT_EQ(one.comment, "maintenance");
  EXPECT_THAT(one.matchers, ElementsAre(Matcher{.name = "tunnel", .value = "alpha"},
                                        Matcher{.name = "instance", .value = "edge-.*", .is_regex = true}));
  EXPECT_EQ(one.rule_uid(), "");
}

TEST(Silences, AreSentAsTheApiHasThem) {
  std::string body;
  const ScriptedApi api({{"/api/v2/silences", [&](const auto& asked) {
                            body = asked.body;
                            return ScriptedApi::Says{200, R"({"silenceID":"new"})"};
                          }}});
  const auto id = straight_to(api).save({.matchers = {{.name = "a", .value = "b", .is_equal = false}},
                                         .starts = at("2026-01-31T10:00:00Z"),
                                         .ends = at("2026-01-31T12:00:00Z"),
                                         .created_by = "ann",
                                         .comment = "why"});
  ASSERT_TRUE(id) << id.error().message;
  EXPECT_EQ(*id, "new");
  EXPECT_EQ(Json::parse(body),
            Json::parse(R"({"matchers":[{"name":"a","value":"b","isEqual":false,"isRegex":false}],
    "startsAt":"2026-01-31T10:00:00.000Z","endsAt":"2026-01-31T12:00:00.000Z","createdBy":"ann","comment":"why"})"));
}

TEST(Silences, OfARuleGoByGrafanasOwnLabel) {
  const Silence silence{.matchers = {{.name = kRuleLabel, .value = "r1"}}};
  EXPECT_EQ(silence.rule_uid(), "r1");
}

TEST(Silences, ThatAreRefusedSayWhatTheServerSays) {
  struct Case {
    unsigned status;
    const char* answer;
    Error::Kind kind;
    const char* message;
  };
  const Case cases[] = {
      {400,
       R"({"statusCode":400,"messageId":"x","message":"invalid silence: end time can't be in the past"})",
       Error::Kind::bad_input, "400: invalid silence: end time can't be in the past"},
      {400, R"("bad matcher format: ==")", Error::Kind::bad_input, "400: bad matcher format: =="},
      {401, "", Error::Kind::denied, "no credentials were sent: say --alertmanager-token-file"},
      {403, "", Error::Kind::denied, "whoever guards that Alertmanager"},
      {500, "", Error::Kind::unavailable, "500"},
      {200, "<html>", Error::Kind::unavailable, "the answer names no silence: <html>"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.message);
    const ScriptedApi api({{"/api/v2/silences", [&](const auto&) {
                              return ScriptedApi::Says{one.status, one.answer};
                            }}});
    const auto id = straight_to(api).save({});
    ASSERT_FALSE(id);
    EXPECT_EQ(id.error().kind, one.kind);
    EXPECT_THAT(id.error().message, HasSubstr(one.message));
    EXPECT_EQ(api.lines().size(), 1U) << "a silence is not made twice";
  }
}

// 404 without a word is one that is not there; 422 is what is no UUID.
TEST(Silences, ThatNobodyKnowsAreNotFound) {
  for (const unsigned status : {404U, 422U}) {
    const ScriptedApi api({{std::string("/api/v2/silence/x"), [&](const auto&) {
                              return ScriptedApi::Says{status, ""};
                            }}});
    const auto found = straight_to(api).silence("x");
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().kind, Error::Kind::not_found);
    EXPECT_THAT(found.error().message, HasSubstr("no silence has the id \"x\""));
  }
}

TEST(Silences, ShowWhichAlertsTheyFit) {
  const ScriptedApi api({{"/api/v2/alerts", [](const auto&) {
                            return ScriptedApi::Says{200, R"([{"labels":{"alertname":"Up"},
      "startsAt":"2026-01-31T10:00:00Z","status":{"state":"suppressed","silencedBy":["s1"]}}])"};
                          }}});
  const auto alerts = straight_to(api).alerts({{.name = "a", .value = "b c"}});
  ASSERT_TRUE(alerts) << alerts.error().message;
  EXPECT_EQ(api.lines().front(), "GET /api/v2/alerts?filter=a%3D%22b%20c%22");
  ASSERT_EQ(alerts->size(), 1U);
  EXPECT_EQ(alerts->front().state, "suppressed");
  EXPECT_THAT(alerts->front().silenced_by, ElementsAre("s1"));
}

TEST(Silences, OfGrafanaStandBelowItsOwnPath) {
  const ScriptedApi api({{std::string("/api/alertmanager/grafana/api/v2/silence/") + kId, [](const auto&) {
                            return ScriptedApi::Says{200, kSilence};
                          }}});
  auto server = Server::make({.url = api.url()});
  ASSERT_TRUE(server);
  const auto alertmanager = Alertmanager::of(*server);
  EXPECT_TRUE(alertmanager.is_grafana());
  EXPECT_TRUE(alertmanager.silence(kId));
}

TEST(Silences, AreNotTouchedByAReadOnlyContext) {
  const ScriptedApi api({});
  const auto alertmanager = std::move(*Alertmanager::straight({.url = api.url(), .read_only = true}));
  EXPECT_EQ(alertmanager.save({}).error().kind, Error::Kind::denied);
  EXPECT_EQ(alertmanager.expire(kId).error().kind, Error::Kind::denied);
  EXPECT_THAT(api.lines(), testing::IsEmpty());
}

TEST(Silences, SayWhichSettingIsWrong) {
  const auto address = Alertmanager::straight({.url = "ftp://x"});
  ASSERT_FALSE(address);
  EXPECT_THAT(address.error().message, HasSubstr("--alertmanager-url, ALERTMANAGER_URL"));
  const auto token = Alertmanager::straight({.url = "http://127.0.0.1:1", .token_file = "/nonexistent"});
  ASSERT_FALSE(token);
  EXPECT_THAT(token.error().message, HasSubstr("--alertmanager-token-file"));
}

}  // namespace
}  // namespace tunnelctl::grafana
