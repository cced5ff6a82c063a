#include "tunnelctl/grafana/annotations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scripted_api.h"

namespace tunnelctl::grafana {
namespace {

using support::ScriptedApi;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kNotes = "/api/annotations";

times::Time at(std::string_view text) {
  return *times::moment(text, times::Time{});
}

ScriptedApi::Answer says(unsigned status, std::string body) {
  return [=](const auto&) { return ScriptedApi::Says{status, body}; };
}

Server server_of(const ScriptedApi& api) {
  return std::move(*Server::make({.url = api.url()}));
}

TEST(Annotations, AreAskedForWithTheirFilters) {
  const ScriptedApi api(
      {{kNotes, says(200, R"([{"id":7,"time":1767225600000,"timeEnd":1767225660000,"text":"out",
    "tags":["deploy"],"dashboardUID":"d","panelId":2,"login":"ann"}])")}});
  auto server = server_of(api);
  const auto found = list_annotations(server, {.range = times::Range{at("2026-01-01"), at("2026-01-02")},
                                               .dashboard_uid = "d",
                                               .panel = 2,
                                               .tags = {"deploy", "a b"},
                                               .any_tag = true,
                                               .type = "annotation",
                                               .limit = 10});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_THAT(api.lines(),
              ElementsAre("GET /api/annotations?limit=11&from=1767225600000&to=1767312000000&dashboardUID=d"
                          "&panelId=2&tags=deploy&tags=a%20b&matchAny=true&type=annotation"));
  ASSERT_EQ(found->items.size(), 1U);
  const auto& one = found->items.front();
  EXPECT_EQ(one.id, 7);
  EXPECT_EQ(one.end, at("2026-01-01T00:01:00Z"));
  EXPECT_EQ(one.by, "ann");
  EXPECT_FALSE(found->more);
}

TEST(Annotations, BeyondTheLimitAreSaidToExist) {
  const ScriptedApi api({{kNotes, says(200, R"([{"id":1},{"id":2},{"id":3}])")}});
  auto server = server_of(api);
  const auto found = list_annotations(server, {.limit = 2});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->items.size(), 2U);
  EXPECT_TRUE(found->more);
}

// The server answers with an empty list.
TEST(Annotations, OfADashboardThatDoesNotExistAreNoEmptyList) {
  const ScriptedApi api({{kNotes, says(200, "[]")}});
  auto server = server_of(api);
  const auto found = list_annotations(server, {.dashboard_uid = "nope"});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, Error::Kind::not_found);
  EXPECT_THAT(found.error().message, HasSubstr("no dashboard has the uid \"nope\""));
}

// Each is taken by the server, or refused with no word about the reason.
TEST(Annotations, ThatMakeNoSenseAreNotSent) {
  struct Case {
    Annotation annotation;
    const char* message;
  };
  const Case cases[] = {
      {{.time = at("2026-01-01")}, "needs a text"},
      {{.time = at("2026-01-02"), .end = at("2026-01-01"), .text = "x"}, "end is before its start"},
      {{.text = "x", .panel = 3}, "needs its dashboard too"},
      {{.text = "x", .tags = {""}}, "tag must not be empty"},
      {{.text = "x", .tags = {std::string(501, 'x')}}, "501 bytes together; Grafana takes 500"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.message);
    const ScriptedApi api({});
    auto server = server_of(api);
    const auto made = create_annotation(server, one.annotation);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(made.error().message, HasSubstr(one.message));
    EXPECT_THAT(api.lines(), IsEmpty());
  }
}

TEST(Annotations, AreMadeInMilliseconds) {
  std::string body;
  const ScriptedApi api({{kNotes, [&](const auto& asked) {
                            body = asked.body;
                            return ScriptedApi::Says{200, R"({"id":42,"message":"Annotation added"})"};
                          }}});
  auto server = server_of(api);
  const auto id = create_annotation(server, {.time = at("2026-01-01"), .text = "x", .tags = {"deploy"}});
  ASSERT_TRUE(id) << id.error().message;
  EXPECT_EQ(*id, 42);
  EXPECT_EQ(Json::parse(body), Json::parse(R"({"text":"x","tags":["deploy"],"time":1767225600000})"));
}

TEST(Annotations, KeepWhatAChangeDoesNotName) {
  std::string body;
  const ScriptedApi api(
      {{"/api/annotations/42", [&](const auto& asked) {
          if (asked.method == "PUT") body = asked.body;
          return ScriptedApi::Says{
              200, R"({"id":42,"time":1767225600000,"timeEnd":1767225600000,"text":"x","tags":["a"]})"};
        }}});
  auto server = server_of(api);
  const auto present = read_annotation(server, 42);
  ASSERT_TRUE(present);
  ASSERT_TRUE(change_annotation(server, *present, {.end = at("2026-01-01T00:00:05Z")}));
  EXPECT_EQ(Json::parse(body),
            Json::parse(R"({"text":"x","tags":["a"],"time":1767225600000,"timeEnd":1767225605000})"));
  ASSERT_TRUE(change_annotation(server, *present, {.time = at("2026-01-02")}));
  EXPECT_EQ(Json::parse(body)["timeEnd"], 1767312000000) << "a moment stays a moment";
  const auto wiped = change_annotation(server, *present, {.text = ""});
  EXPECT_EQ(wiped.error().kind, Error::Kind::bad_input) << "the server would take it";
}

// The server says 200.
TEST(Annotations, ThatDoNotExistCannotBeDeleted) {
  const ScriptedApi api({{"/api/annotations/1", [](const auto& asked) {
                            return asked.method == "GET"
                                       ? ScriptedApi::Says{404, R"({"message":"Annotation not found"})"}
                                       : ScriptedApi::Says{200, "{}"};
                          }}});
  auto server = server_of(api);
  const auto done = delete_annotation(server, 1);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Error::Kind::not_found);
  EXPECT_THAT(api.lines(), ElementsAre("GET /api/annotations/1"));
}

TEST(Annotations, HaveTagsThatCanBeCounted) {
  const ScriptedApi api(
      {{"/api/annotations/tags", says(200, R"({"result":{"tags":[{"tag":"deploy","count":3}]}})")}});
  auto server = server_of(api);
  const auto tags = annotation_tags(server, "dep");
  ASSERT_TRUE(tags);
  ASSERT_EQ(tags->size(), 1U);
  EXPECT_EQ(tags->front().tag, "deploy");
  EXPECT_EQ(tags->front().count, 3);
  EXPECT_THAT(api.lines().front(), HasSubstr("tag=dep"));
}

}  // namespace
}  // namespace tunnelctl::grafana
