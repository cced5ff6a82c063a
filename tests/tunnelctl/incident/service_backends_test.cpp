// The backends of other services, where their doubles in the end-to-end tests cannot go: exact requests,
// answers that no service should give, and calls whose answer was lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/scripted_api.h"
#include "tunnelctl/incident/github_backend.h"
#include "tunnelctl/incident/grafana_backend.h"
#include "tunnelctl/incident/pagerduty_backend.h"
#include "tunnelctl/incident/redacting_backend.h"
#include "tunnelctl/incident/webhook_backend.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnelctl::incident;
using support::ScriptedApi;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Kind = Error::Kind;

const Time kStart(1'770'000'000'000ms);

Opening opening() {
  return {.dedup_key = "breaker:api",
          .title = "api fails",
          .severity = Severity::error,
          .room_prefix = "room",
          .labels = {{"service", "api"}},
          .attachments = {{"https://grafana.example/d/x", "Dashboard"}},
          .at = kStart,
          .summary = ""};
}

ScriptedApi::Answer says(unsigned status, std::string body) {
  return [=](const ScriptedApi::Asked&) { return ScriptedApi::Says{status, body}; };
}

// Grafana IRM -----------------------------------------------------------------------------------------

const std::string kRpc = "/api/plugins/grafana-irm-app/resources/api/v1/";
const std::string kMade =
    R"({"incident":{"incidentID":"1","title":"api fails","severity":"major","status":"active",)"
    R"("createdTime":"2026-02-02T02:40:00Z","labels":[{"key":"dedup","label":"breaker:api"}]},"error":""})";
const std::string kNone = R"({"incidentPreviews":[],"cursor":{"nextValue":"","hasMore":false},"error":""})";

GrafanaBackend grafana_at(const ScriptedApi& api) {
  auto server = tunnelctl::grafana::Server::make({.url = api.url(), .token = Secret("t"), .timeout = 2s});
  if (!server) throw std::runtime_error(server.error().message);
  return {std::move(*server), "grafana-irm-app"};
}

TEST(GrafanaIrm, IsAskedAsItsOwnClientAsks) {
  Json sent;
  const ScriptedApi api({{kRpc + "IncidentsService.QueryIncidentPreviews", says(200, kNone)},
                         {kRpc + "IncidentsService.CreateIncident", [&](const ScriptedApi::Asked& asked) {
                            sent = Json::parse(asked.body);
                            return ScriptedApi::Says{200, kMade};
                          }}});
  const auto opened = grafana_at(api).open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->made);
  EXPECT_EQ(opened->incident.id, "1");
  EXPECT_EQ(opened->incident.severity, Severity::error);
  EXPECT_EQ(opened->incident.dedup_key, "breaker:api");
  EXPECT_EQ(sent, Json::parse(R"({"title":"api fails","severity":"major","roomPrefix":"room","isDrill":false,
    "status":"active","attachCaption":"Dashboard","attachURL":"https://grafana.example/d/x","alertGroupID":null,
    "labels":[{"key":"service","label":"api","description":"","colorHex":""},
              {"key":"dedup","label":"breaker:api","description":"","colorHex":""}]})"));
}

TEST(GrafanaIrm, TakesNoRefusalForAnEmptyList) {
  struct Row {
    unsigned status;
    const char* body;
    Kind kind;
    const char* says;
  };
  const Row rows[] = {
      {401, R"({"message":"Unauthorized"})", Kind::denied, "Unauthorized"},
      {403, R"({"message":"Permission denied"})", Kind::denied, "Permission denied"},
      {404, R"({"message":"Plugin not found"})", Kind::bad_input, "this Grafana has no incidents"},
      {200, R"({"error":"query is wrong"})", Kind::bad_input, "query is wrong"},
      {500, R"({"error":"broken"})", Kind::unavailable, "broken"},
      {200, "[]", Kind::unavailable, "no JSON"},
      {200, "<html>", Kind::unavailable, "no JSON"},
      {200, R"({"incidentPreviews":7})", Kind::unavailable, "no list"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.body);
    const ScriptedApi api({{kRpc + "IncidentsService.QueryIncidentPreviews", says(row.status, row.body)}});
    const auto listed = grafana_at(api).list({});
    ASSERT_FALSE(listed);
    EXPECT_EQ(listed.error().kind, row.kind) << listed.error().message;
    EXPECT_THAT(listed.error().message, HasSubstr(row.says));
  }
}

TEST(GrafanaIrm, EndsAListWhoseNextPageIsAlwaysTheSame) {
  const ScriptedApi api(
      {{kRpc + "IncidentsService.QueryIncidentPreviews",
        says(200, R"({"incidentPreviews":[],"cursor":{"nextValue":"7","hasMore":true}})")}});
  const auto listed = grafana_at(api).list({});
  ASSERT_FALSE(listed);
  EXPECT_THAT(listed.error().message, HasSubstr("no end"));
  EXPECT_EQ(api.lines().size(), 2U);
}

TEST(GrafanaIrm, SaysThatAnAnswerHasNoIncident) {
  const ScriptedApi api(
      {{kRpc + "IncidentsService.GetIncident", says(200, R"({"incident":{},"error":""})")}});
  const auto read = grafana_at(api).read("9");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, Kind::not_found);
}

TEST(GrafanaIrm, AddsANoteOfAKeyOnceWhenItsAnswerWasLost) {
  std::vector<std::string> notes;
  const ScriptedApi api({{kRpc + "ActivityService.QueryActivity",
                          [&](const ScriptedApi::Asked&) {
                            Json items = Json::array();
                            for (const auto& note : notes)
                              items.push_back({{"activityKind", "userNote"}, {"body", note}});
                            return ScriptedApi::Says{
                                200, Json{{"activityItems", items}, {"cursor", {{"hasMore", false}}}}.dump()};
                          }},
                         {kRpc + "ActivityService.AddActivity", [&](const ScriptedApi::Asked& asked) {
                            notes.push_back(Json::parse(asked.body)["body"]);
                            return ScriptedApi::Says{502, R"({"message":"bad gateway"})"};
                          }}});
  auto grafana = grafana_at(api);
  const Note note{.key = "enriched", .at = kStart, .body = "why"};
  EXPECT_FALSE(grafana.note("1", note));
  EXPECT_TRUE(grafana.note("1", note));
  EXPECT_EQ(notes.size(), 1U);
  EXPECT_THAT(notes[0], HasSubstr("\nwhy"));
}

TEST(GrafanaIrm, KeepsTheOlderOfTwoThatWereMadeAtOnce) {
  const auto preview = [](const char* id, const char* created) {
    return Json{{"incidentID", id},
                {"status", "active"},
                {"createdTime", created},
                {"labels", {{{"key", "dedup"}, {"label", "breaker:api"}}}}};
  };
  std::size_t lists = 0;
  Json resolved;
  const ScriptedApi api(
      {{kRpc + "IncidentsService.QueryIncidentPreviews",
        [&](const ScriptedApi::Asked&) {
          Json list = Json::array();
          if (lists++ > 0)
            list = {preview("2", "2026-02-02T02:40:01Z"), preview("1", "2026-02-02T02:40:00Z")};
          return ScriptedApi::Says{200, Json{{"incidentPreviews", list}}.dump()};
        }},
       {kRpc + "IncidentsService.CreateIncident",
        says(200, R"({"incident":{"incidentID":"2","status":"active"}})")},
       {kRpc + "IncidentsService.GetIncident",
        says(200, R"({"incident":{"incidentID":"2","status":"active"}})")},
       {kRpc + "ActivityService.QueryActivity", says(200, R"({"activityItems":[]})")},
       {kRpc + "ActivityService.AddActivity", says(200, R"({"activityItem":{}})")},
       {kRpc + "IncidentsService.UpdateStatus", [&](const ScriptedApi::Asked& asked) {
          resolved = Json::parse(asked.body);
          return ScriptedApi::Says{200, R"({"incident":{"incidentID":"2","status":"resolved"}})"};
        }}});
  const auto opened = grafana_at(api).open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->incident.id, "1");
  EXPECT_FALSE(opened->made);
  EXPECT_EQ(resolved, (Json{{"incidentID", "2"}, {"status", "resolved"}}));
}

TEST(GrafanaIrm, ResolvesWhatIsOpenTwiceWheneverTheKeyIsOpened) {
  const auto preview = [](const char* id, const char* created) {
    return Json{{"incidentID", id},
                {"status", "active"},
                {"createdTime", created},
                {"labels", {{{"key", "dedup"}, {"label", "breaker:api"}}}}};
  };
  const Json list = {preview("2", "2026-02-02T02:40:01Z"), preview("1", "2026-02-02T02:40:00Z")};
  std::vector<std::string> resolved;
  const ScriptedApi api(
      {{kRpc + "IncidentsService.QueryIncidentPreviews", says(200, Json{{"incidentPreviews", list}}.dump())},
       {kRpc + "IncidentsService.GetIncident",
        says(200, R"({"incident":{"incidentID":"2","status":"active"}})")},
       {kRpc + "ActivityService.QueryActivity", says(200, R"({"activityItems":[]})")},
       {kRpc + "ActivityService.AddActivity", says(200, R"({"activityItem":{}})")},
       {kRpc + "IncidentsService.UpdateStatus", [&](const ScriptedApi::Asked& asked) {
          resolved.push_back(Json::parse(asked.body)["incidentID"]);
          return ScriptedApi::Says{403, R"({"message":"Permission denied"})"};
        }}});
  auto grafana = grafana_at(api);
  for (int i = 0; i < 2; ++i) {
    const auto opened = grafana.open(opening());
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->incident.id, "1");
    EXPECT_FALSE(opened->made);
  }
  EXPECT_THAT(resolved, ElementsAre("2", "2"));
}

TEST(GrafanaIrm, OpensNothingAgainWhoseKeyIsOpen) {
  const ScriptedApi api({{kRpc + "IncidentsService.QueryIncidentPreviews",
                          says(200, R"({"incidentPreviews":[{"incidentID":"2","status":"active","labels":[)"
                                    R"({"key":"dedup","label":"breaker:api"}]}]})")},
                         {kRpc + "IncidentsService.GetIncident",
                          says(200, R"({"incident":{"incidentID":"1","status":"resolved","labels":[)"
                                    R"({"key":"dedup","label":"breaker:api"}]}})")}});
  const auto changed = grafana_at(api).change("1", {.status = Status::active, .at = kStart});
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().kind, Kind::bad_input);
  EXPECT_THAT(changed.error().message,
              HasSubstr("1 cannot be opened again: 2 is open with the same key, breaker:api"));
  EXPECT_THAT(api.lines(), Not(testing::Contains(HasSubstr("UpdateStatus"))));
}

TEST(GrafanaIrm, GivesUpANoteThatItRefusesAgainAndAgainAndResolvesWithoutIt) {
  std::string status = "active";
  const auto shown = [&](const ScriptedApi::Asked&) {
    return ScriptedApi::Says{200, Json{{"incident", {{"incidentID", "1"}, {"status", status}}}}.dump()};
  };
  const ScriptedApi api(
      {{kRpc + "IncidentsService.GetIncident", shown},
       {kRpc + "ActivityService.QueryActivity", says(200, R"({"activityItems":[]})")},
       {kRpc + "ActivityService.AddActivity", says(500, R"({"error":"body is not allowed"})")},
       {kRpc + "IncidentsService.UpdateStatus", [&](const ScriptedApi::Asked& asked) {
          status = "resolved";
          return shown(asked);
        }}});
  auto grafana = grafana_at(api);
  const Note note{.key = "context", .at = kStart, .body = "why"};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(grafana.note("1", note).error().kind, Kind::unavailable) << i;
  EXPECT_EQ(grafana.note("1", note).error().kind, Kind::bad_input);
  const Note last{.key = "recovered", .at = kStart, .body = "it is back"};
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(grafana.resolve("1", last)) << i;
  const auto resolved = grafana.resolve("1", last);
  ASSERT_TRUE(resolved) << resolved.error().message;
  EXPECT_EQ(resolved->status, Status::resolved);
}

TEST(GrafanaIrm, IsOpenAlsoWithoutAFirstNoteThatItDoesNotTake) {
  const ScriptedApi api({{kRpc + "IncidentsService.QueryIncidentPreviews", says(200, kNone)},
                         {kRpc + "IncidentsService.CreateIncident", says(200, kMade)},
                         {kRpc + "ActivityService.QueryActivity", says(200, R"({"activityItems":[]})")},
                         {kRpc + "ActivityService.AddActivity", says(403, R"({"message":"no"})")}});
  auto noted = opening();
  noted.summary = "why";
  const auto opened = grafana_at(api).open(noted);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->incident.id, "1");
}

// GitHub ----------------------------------------------------------------------------------------------

std::unique_ptr<GithubBackend> github_at(const ScriptedApi& api) {
  auto made = GithubBackend::make(
      {.repository = "o/r", .url = api.url(), .token = Secret("t0ken"), .remote = {.timeout = 2s}});
  if (!made) throw std::runtime_error(made.error().message);
  return std::move(*made);
}

const std::string kIssue7 = R"({"number":7,"state":"open","labels":[{"name":"incident"}]})";

TEST(Github, IsAskedAsItsReferenceSays) {
  Json sent;
  const ScriptedApi api({{"/repos/o/r/issues", [&](const ScriptedApi::Asked& asked) {
                            if (asked.method == "GET") return ScriptedApi::Says{200, "[]"};
                            sent = Json::parse(asked.body);
                            auto issue = sent;
                            issue["number"] = 42;
                            issue["state"] = "open";
                            return ScriptedApi::Says{201, issue.dump()};
                          }}});
  auto drill = opening();
  drill.drill = true;
  drill.summary = "why --> so";
  const auto opened = github_at(api)->open(drill);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->incident.id, "42");
  EXPECT_EQ(opened->incident.dedup_key, "breaker:api");
  EXPECT_EQ(opened->incident.severity, Severity::error);
  EXPECT_TRUE(opened->incident.drill);
  EXPECT_EQ(sent["title"], "[DRILL] api fails");
  EXPECT_EQ(sent["labels"], (Json{"incident", "severity:error", "drill"}));
  EXPECT_THAT(sent["body"].get<std::string>(), testing::StartsWith("<!-- tunnelctl-incident: {"));
  EXPECT_THAT(sent["body"].get<std::string>(), HasSubstr("why --> so"));
  const std::string head = api.server().seen().front().head;
  EXPECT_THAT(head, HasSubstr("Authorization: Bearer t0ken\r\n"));
  EXPECT_THAT(head, HasSubstr("Accept: application/vnd.github+json\r\n"));
  EXPECT_THAT(head, HasSubstr("X-GitHub-Api-Version: 2022-11-28\r\n"));
  EXPECT_THAT(api.lines().front(), HasSubstr("labels=incident&state=open"));
}

TEST(Github, FindsTheIssueWhoseMakingWasNotAnswered) {
  Json issues = Json::array();
  const ScriptedApi api({{"/repos/o/r/issues", [&](const ScriptedApi::Asked& asked) {
                            if (asked.method == "GET") return ScriptedApi::Says{200, issues.dump()};
                            auto issue = Json::parse(asked.body);
                            issue["number"] = 7;
                            issue["state"] = "open";
                            issues.push_back(issue);
                            return ScriptedApi::Says{502, R"({"message":"Server Error"})"};
                          }}});
  auto github = github_at(api);
  EXPECT_FALSE(github->open(opening()));
  const auto again = github->open(opening());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_FALSE(again->made);
  EXPECT_EQ(again->incident.id, "7");
  EXPECT_EQ(issues.size(), 1U);
}

TEST(Github, KeepsTheOlderOfTwoThatWereMadeAtOnce) {
  const auto issue = [](int number) {
    return Json{{"number", number},
                {"state", "open"},
                {"labels", {{{"name", "incident"}}}},
                {"body", mark("tunnelctl-incident", {{"dedup_key", "breaker:api"}})}};
  };
  std::size_t lists = 0;
  Json closed;
  const ScriptedApi api({{"/repos/o/r/issues",
                          [&](const ScriptedApi::Asked& asked) {
                            if (asked.method == "POST") return ScriptedApi::Says{201, issue(2).dump()};
                            const auto list = lists++ == 0 ? Json::array() : Json{issue(2), issue(1)};
                            return ScriptedApi::Says{200, list.dump()};
                          }},
                         {"/repos/o/r/issues/2",
                          [&](const ScriptedApi::Asked& asked) {
                            if (asked.method == "PATCH") closed = Json::parse(asked.body);
                            return ScriptedApi::Says{200, issue(2).dump()};
                          }},
                         {"/repos/o/r/issues/2/comments", says(200, "[]")}});
  const auto opened = github_at(api)->open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->incident.id, "1");
  EXPECT_FALSE(opened->made);
  EXPECT_EQ(closed["state"], "closed");
}

TEST(Github, AddsANoteOfAKeyOnceWhenItsAnswerWasLost) {
  Json comments = Json::array();
  const ScriptedApi api({{"/repos/o/r/issues/7", says(200, kIssue7)},
                         {"/repos/o/r/issues/7/comments", [&](const ScriptedApi::Asked& asked) {
                            if (asked.method == "GET") return ScriptedApi::Says{200, comments.dump()};
                            comments.push_back(Json::parse(asked.body));
                            return ScriptedApi::Says{502, R"({"message":"Server Error"})"};
                          }}});
  const auto github = github_at(api);
  const Note note{.key = "enriched", .at = kStart, .body = "why"};
  EXPECT_FALSE(github->note("7", note));
  EXPECT_TRUE(github->note("7", note));
  EXPECT_EQ(comments.size(), 1U);
  EXPECT_FALSE(github->note("7", {.key = "other", .at = kStart, .body = "why"}));
  EXPECT_EQ(comments.size(), 2U);
}

TEST(Github, TakesOnlyGoodNamesOfRepositoriesAndIssues) {
  for (const char* wrong : {"", "name", "/name", "owner/", "a/b/c"})
    EXPECT_FALSE(GithubBackend::make({.repository = wrong, .token = Secret("t")})) << wrong;
  EXPECT_FALSE(GithubBackend::make({.repository = "o/r"}));
  const ScriptedApi api({});
  for (const char* wrong : {"", "#", "x", "1/../2", "99999999999999999"})
    EXPECT_EQ(github_at(api)->read(wrong).error().kind, Kind::bad_input) << wrong;
  EXPECT_TRUE(api.lines().empty());
}

TEST(Github, SaysWhenItIsTheRepositoryThatIsNotThere) {
  const ScriptedApi missing({});
  const auto read = github_at(missing)->read("7");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, Kind::denied);
  EXPECT_THAT(read.error().message, HasSubstr("incident.github.repository"));
  EXPECT_EQ(github_at(missing)->resolve("7", {.at = kStart}).error().kind, Kind::denied);
  const ScriptedApi there({{"/repos/o/r", says(200, "{}")}});
  EXPECT_EQ(github_at(there)->read("7").error().kind, Kind::not_found);
}

TEST(Github, LeavesIssuesOfOthersWithoutNotes) {
  const ScriptedApi api({{"/repos/o/r/issues/7", says(200, R"({"number":7,"state":"open","labels":[]})")}});
  EXPECT_EQ(github_at(api)->note("7", {.at = kStart, .body = "x"}).error().kind, Kind::not_found);
  EXPECT_THAT(api.lines(), ElementsAre("GET /repos/o/r/issues/7"));
}

TEST(Github, OpensNothingAgainWhoseKeyIsOpen) {
  const auto issue = [](int number, const char* state) {
    return Json{{"number", number},
                {"state", state},
                {"labels", {{{"name", "incident"}}}},
                {"body", mark("tunnelctl-incident", {{"dedup_key", "breaker:api"}})}};
  };
  const ScriptedApi api({{"/repos/o/r/issues", says(200, Json::array({issue(2, "open")}).dump())},
                         {"/repos/o/r/issues/1", says(200, issue(1, "closed").dump())}});
  const auto changed = github_at(api)->change("1", {.status = Status::active, .at = kStart});
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().kind, Kind::bad_input);
  EXPECT_THAT(changed.error().message, HasSubstr("2 is open with the same key"));
  EXPECT_THAT(api.lines(), Not(testing::Contains(testing::StartsWith("PATCH"))));
}

TEST(Github, ClosesWhatIsOpenTwiceWheneverTheKeyIsOpened) {
  const auto issue = [](int number) {
    return Json{{"number", number},
                {"state", "open"},
                {"labels", {{{"name", "incident"}}}},
                {"body", mark("tunnelctl-incident", {{"dedup_key", "breaker:api"}})}};
  };
  std::size_t closings = 0;
  const ScriptedApi api({{"/repos/o/r/issues", says(200, Json{issue(2), issue(1)}.dump())},
                         {"/repos/o/r/issues/2",
                          [&](const ScriptedApi::Asked& asked) {
                            if (asked.method == "GET") return ScriptedApi::Says{200, issue(2).dump()};
                            ++closings;
                            return ScriptedApi::Says{403, R"({"message":"no"})"};
                          }},
                         {"/repos/o/r/issues/2/comments", says(200, "[]")}});
  const auto github = github_at(api);
  for (int i = 0; i < 2; ++i) {
    const auto opened = github->open(opening());
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->incident.id, "1");
  }
  EXPECT_EQ(closings, 2U);
}

TEST(Github, ShowsInItsTextWhatWasChanged) {
  Json issue;
  const auto keep = [&](const ScriptedApi::Asked& asked) {
    if (!asked.body.empty()) issue.update(Json::parse(asked.body));
    if (asked.method == "GET" && asked.path == "/repos/o/r/issues") return ScriptedApi::Says{200, "[]"};
    issue["number"] = 7;
    issue["state"] = "open";
    return ScriptedApi::Says{200, issue.dump()};
  };
  const ScriptedApi api({{"/repos/o/r/issues", keep},
                         {"/repos/o/r/issues/7", keep},
                         {"/repos/o/r/issues/7/comments", says(200, "[]")}});
  const auto github = github_at(api);
  auto noted = opening();
  noted.summary = "why\n\nso";
  const auto opened = github->open(noted);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->incident.summary, "why\n\nso");
  // As GitHub's own editor leaves it.
  auto& text = issue["body"].get_ref<std::string&>();
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.insert(at, 1, '\r');
  const auto changed =
      github->change("7", {.severity = Severity::warning, .add_labels = {{"service", "web"}}, .at = kStart});
  ASSERT_TRUE(changed) << changed.error().message;
  const auto body = issue["body"].get<std::string>();
  EXPECT_THAT(body, HasSubstr("Severity: warning\n\n- service: `web`\n"));
  EXPECT_THAT(body, Not(HasSubstr("Severity: error")));
  EXPECT_THAT(body, testing::EndsWith("\nwhy\n\nso"));
  EXPECT_EQ(changed->summary, "why\n\nso");
}

// PagerDuty -------------------------------------------------------------------------------------------

std::unique_ptr<PagerdutyBackend> pagerduty_at(const ScriptedApi& api) {
  auto made = PagerdutyBackend::make({.routing_key = Secret(std::string(32, 'k')),
                                      .url = api.url(),
                                      .source = "edge-1",
                                      .remote = {.timeout = 2s}});
  if (!made) throw std::runtime_error(made.error().message);
  return std::move(*made);
}

TEST(Pagerduty, IsSentEventsAsItsReferenceSays) {
  std::vector<Json> events;
  const ScriptedApi api(
      {{"/v2/enqueue", [&](const ScriptedApi::Asked& asked) {
          events.push_back(Json::parse(asked.body));
          return ScriptedApi::Says{
              202, R"({"status":"success","message":"Event processed","dedup_key":"breaker:api"})"};
        }}});
  auto pagerduty = pagerduty_at(api);
  auto drill = opening();
  drill.drill = true;
  drill.title = std::string(2000, 'x');
  ASSERT_TRUE(pagerduty->open(drill));
  ASSERT_TRUE(pagerduty->note("breaker:api", {.key = "k", .at = kStart, .body = "why"}));
  ASSERT_TRUE(pagerduty->resolve("breaker:api", {.at = kStart + 5s, .body = "gone"}));
  ASSERT_EQ(events.size(), 3U);
  const auto& payload = events[0]["payload"];
  EXPECT_EQ(events[0]["event_action"], "trigger");
  EXPECT_EQ(events[0]["dedup_key"], "breaker:api");
  EXPECT_EQ(events[0]["routing_key"], std::string(32, 'k'));
  EXPECT_EQ(events[0]["links"],
            Json::parse(R"([{"href":"https://grafana.example/d/x","text":"Dashboard"}])"));
  EXPECT_EQ(payload["severity"], "error");
  EXPECT_EQ(payload["source"], "edge-1");
  EXPECT_EQ(payload["component"], "api");
  EXPECT_EQ(payload["custom_details"]["drill"], true);
  EXPECT_EQ(payload["summary"].get<std::string>().size(), 1024U);
  EXPECT_THAT(payload["summary"].get<std::string>(), testing::StartsWith("[DRILL] "));
  EXPECT_EQ(events[1]["payload"]["custom_details"]["note"], "why");
  EXPECT_EQ(events[2]["event_action"], "resolve");
  // After the end a trigger would page people again.
  EXPECT_EQ(pagerduty->note("breaker:api", {.at = kStart, .body = "late"}).error().kind, Kind::bug);
  EXPECT_EQ(events.size(), 3U);
}

TEST(Pagerduty, AddsANoteOfAKeyOnceWhenItsAnswerWasLost) {
  Json notes = Json::array();
  const ScriptedApi api(
      {{"/incidents", says(200, R"({"incidents":[{"id":"P1","incident_key":"breaker:api"}]})")},
       {"/incidents/P1/notes", [&](const ScriptedApi::Asked& asked) {
          if (asked.method == "GET") return ScriptedApi::Says{200, Json{{"notes", notes}}.dump()};
          notes.push_back(Json::parse(asked.body)["note"]);
          return ScriptedApi::Says{502, R"({"error":{"message":"Server Error"}})"};
        }}});
  auto made = PagerdutyBackend::make({.routing_key = Secret("k"),
                                      .api_token = Secret("t"),
                                      .from = "a@b.example",
                                      .url = api.url(),
                                      .api_url = api.url(),
                                      .remote = {.timeout = 2s}});
  ASSERT_TRUE(made) << made.error().message;
  const Note note{.key = "enriched", .at = kStart, .body = "why"};
  EXPECT_FALSE((*made)->note("breaker:api", note));
  EXPECT_TRUE((*made)->note("breaker:api", note));
  EXPECT_EQ(notes.size(), 1U);
  EXPECT_THAT(api.server().seen().front().head, HasSubstr("From: a@b.example\r\n"));
}

TEST(Pagerduty, CutsAnEventThatIsTooLarge) {
  std::string body;
  const ScriptedApi api({{"/v2/enqueue", [&](const ScriptedApi::Asked& asked) {
                            body = asked.body;
                            return ScriptedApi::Says{202, R"({"status":"success"})"};
                          }}});
  auto large = opening();
  large.summary = std::string(900'000, '"');
  ASSERT_TRUE(pagerduty_at(api)->open(large));
  EXPECT_LE(body.size(), 512U * 1024U);
  EXPECT_THAT(Json::parse(body)["payload"]["custom_details"]["summary"].get<std::string>(),
              HasSubstr("[...]"));
}

TEST(Pagerduty, NeedsAWholeSuccess) {
  struct Row {
    unsigned status;
    const char* body;
    Kind kind;
  };
  const Row rows[] = {
      {200, "<html>", Kind::unavailable},
      {202, "{}", Kind::unavailable},
      {400,
       R"({"status":"invalid event","message":"Event object is invalid","errors":["Invalid routing key"]})",
       Kind::bad_input},
      {429,
       R"({"status":"throttle exceeded","message":"Requests for this service are arriving too quickly."})",
       Kind::unavailable},
  };
  for (const auto& row : rows) {
    const ScriptedApi api({{"/v2/enqueue", says(row.status, row.body)}});
    const auto opened = pagerduty_at(api)->open(opening());
    ASSERT_FALSE(opened) << row.body;
    EXPECT_EQ(opened.error().kind, row.kind) << opened.error().message;
    EXPECT_THAT(opened.error().message, Not(HasSubstr("kkkk")));
  }
}

TEST(Pagerduty, SendsNoNoteLongAfterItsTrigger) {
  std::size_t events = 0;
  const ScriptedApi api({{"/v2/enqueue", [&](const ScriptedApi::Asked&) {
                            ++events;
                            return ScriptedApi::Says{202, R"({"status":"success"})"};
                          }}});
  Time now = kStart;
  auto pagerduty = PagerdutyBackend::make({.routing_key = Secret("k"),
                                           .url = api.url(),
                                           .source = "edge-1",
                                           .remote = {.timeout = 2s},
                                           .now = [&] { return now; }});
  ASSERT_TRUE(pagerduty) << pagerduty.error().message;
  ASSERT_TRUE((*pagerduty)->open(opening()));
  now += 6min;
  EXPECT_EQ((*pagerduty)->note("breaker:api", {.key = "k", .at = now, .body = "late"}).error().kind,
            Kind::bug);
  EXPECT_EQ(events, 1U);
}

/// PagerDuty with a REST token, as it shows itself: an earlier incident of the key, and `shown` from when on.
struct LateToShow : testing::Test {
  Json incidents = Json::parse(R"([{"id":"P1","incident_key":"breaker:api","status":"resolved",
    "created_at":"2026-02-01T00:00:00Z","resolved_at":"2026-02-01T00:10:00Z"}])");
  std::map<std::string, std::vector<std::string>> notes{{"P1", {"earlier\n\nref: context"}}};
  std::vector<std::string> events{};
  Time now = kStart;

  ScriptedApi::Answer notes_of(const std::string& id) {
    return [this, id](const ScriptedApi::Asked& asked) {
      if (asked.method == "POST") notes[id].push_back(Json::parse(asked.body)["note"]["content"]);
      Json list = Json::array();
      for (const auto& one : notes[id]) list.push_back({{"content", one}});
      return ScriptedApi::Says{200, Json{{"notes", list}}.dump()};
    };
  }
  ScriptedApi api{{{"/v2/enqueue",
                    [this](const ScriptedApi::Asked& asked) {
                      events.push_back(Json::parse(asked.body)["event_action"]);
                      return ScriptedApi::Says{202, R"({"status":"success"})"};
                    }},
                   {"/incidents",
                    [this](const ScriptedApi::Asked&) {
                      return ScriptedApi::Says{200, Json{{"incidents", incidents}}.dump()};
                    }},
                   {"/incidents/P1/notes", notes_of("P1")},
                   {"/incidents/P2/notes", notes_of("P2")},
                   {"/incidents/P2/alerts",
                    says(200, R"({"alerts":[{"alert_key":"breaker:api","severity":"warning"}]})")}}};

  std::unique_ptr<PagerdutyBackend> pagerduty() {
    auto made = PagerdutyBackend::make({.routing_key = Secret("k"),
                                        .api_token = Secret("t"),
                                        .from = "a@b.example",
                                        .url = api.url(),
                                        .api_url = api.url(),
                                        .source = "edge-1",
                                        .remote = {.timeout = 2s},
                                        .now = [this] { return now; }});
    if (!made) throw std::runtime_error(made.error().message);
    return std::move(*made);
  }
  void show(const char* status = "triggered") {
    incidents.insert(incidents.begin(), Json{{"id", "P2"},
                                             {"incident_key", "breaker:api"},
                                             {"status", status},
                                             {"created_at", "2026-02-02T02:40:00Z"}});
  }
};
const Note kContext{.key = "context", .at = kStart + 1s, .body = "why"};
const Note kRecovered{.key = "recovered", .at = kStart + 2s, .body = "it is back"};

TEST_F(LateToShow, ANoteWaitsForItsIncidentAndLeavesTheEarlierOneAlone) {
  auto service = pagerduty();
  ASSERT_TRUE(service->open(opening()));
  const auto early = service->note("breaker:api", kContext);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().kind, Kind::unavailable) << early.error().message;
  show();
  EXPECT_TRUE(service->note("breaker:api", kContext));
  EXPECT_TRUE(service->note("breaker:api", kContext));
  EXPECT_THAT(notes["P2"], ElementsAre("why\n\nref: context"));
  EXPECT_THAT(notes["P1"], testing::SizeIs(1));
}

TEST_F(LateToShow, ANoteWaitsForTheVeryFirstIncidentToo) {
  incidents = Json::array();
  auto service = pagerduty();
  ASSERT_TRUE(service->open(opening()));
  EXPECT_EQ(service->note("breaker:api", kContext).error().kind, Kind::unavailable);
  EXPECT_EQ(pagerduty()->note("breaker:api", kContext).error().kind, Kind::unavailable) << "started anew";
  // A person's, of a key that was mistyped.
  EXPECT_EQ(pagerduty()->note("breaker:apy", {.at = now, .body = "x"}).error().kind, Kind::not_found);
  now += 3min;
  EXPECT_EQ(service->note("breaker:api", kContext).error().kind, Kind::bad_input) << "it never comes";
}

TEST_F(LateToShow, AKeyIsResolvedAtOnceWhateverIsShown) {
  auto service = pagerduty();
  ASSERT_TRUE(service->open(opening()));
  const auto early = service->resolve("breaker:api", kRecovered);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().kind, Kind::unavailable) << early.error().message;
  EXPECT_THAT(events, ElementsAre("trigger", "resolve"));
  show("resolved");
  const auto resolved = service->resolve("breaker:api", kRecovered);
  ASSERT_TRUE(resolved) << resolved.error().message;
  EXPECT_EQ(resolved->status, Status::resolved);
  EXPECT_THAT(notes["P2"], ElementsAre("it is back\n\nref: recovered"));
  EXPECT_THAT(events, ElementsAre("trigger", "resolve")) << "not again: the key may be open anew by then";
}

TEST_F(LateToShow, WhatWasJustEndedAndIsStillShownAsOpenIsOpenedAnew) {
  show();
  auto service = pagerduty();
  ASSERT_TRUE(service->resolve("breaker:api", {.at = kStart}));
  const auto opened = service->open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->made);
  EXPECT_THAT(events, ElementsAre("resolve", "trigger"));
}

TEST_F(LateToShow, AnIncidentOfAlertsHasTheirKey) {
  show();
  incidents.front().erase("incident_key");
  const auto read = pagerduty()->read("breaker:api");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->dedup_key, "breaker:api");
  EXPECT_EQ(read->severity, Severity::warning);
  const auto listed = pagerduty()->list({.dedup_key = "breaker:api"});
  ASSERT_TRUE(listed) << listed.error().message;
  EXPECT_EQ(listed->incidents.front().id, "breaker:api");
}

TEST_F(LateToShow, AnIdOfItsOwnThatThereIsNotIsNotFound) {
  incidents = Json::array();
  const auto resolved = pagerduty()->resolve("PT4KHLK", {.at = kStart});
  ASSERT_FALSE(resolved);
  EXPECT_EQ(resolved.error().kind, Kind::not_found);
  EXPECT_THAT(events, testing::IsEmpty());
}

// Webhook ---------------------------------------------------------------------------------------------

TEST(Webhook, SignsTimeAndBody) {
  // Computed with: printf '1770000000.{}' | openssl dgst -sha256 -hmac secret
  EXPECT_EQ(webhook_signature(Secret("secret"), "1770000000", "{}"),
            "sha256=4cc6a24ed570128294ad1e1a574ee8f2b4234eb69faa12f0e705eb178ec38325");
}

TEST(Webhook, RepeatsWithTheSameKeyAndBody) {
  std::vector<support::LoopbackServer::Seen> calls;
  const support::LoopbackServer server([&](const auto& seen) -> support::LoopbackServer::Reply {
    calls.push_back(seen);
    if (seen.number == 0) return {"", support::LoopbackServer::Then::close};
    return {support::http_answer(200, R"({"id":"77","url":"https://r.example/77"})")};
  });
  auto hook = WebhookBackend::make(
      {.url = server.url("/hook"), .secret = Secret("secret"), .remote = {.timeout = 2s}, .now = [] {
         return kStart;
       }});
  ASSERT_TRUE(hook) << hook.error().message;
  const auto opened = (*hook)->open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->incident.id, "77");
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(calls[0].body, calls[1].body);
  const auto key = [](const std::string& head) { return head.substr(head.find("Idempotency-Key: "), 81); };
  EXPECT_EQ(key(calls[0].head), key(calls[1].head));
  EXPECT_THAT(calls[0].head, HasSubstr("X-Tunnel-Timestamp: 1770000000\r\n"));
  EXPECT_THAT(calls[0].head,
              HasSubstr("X-Tunnel-Signature: " +
                        webhook_signature(Secret("secret"), "1770000000", calls[0].body) + "\r\n"));
  EXPECT_THAT(calls[0].head, HasSubstr("POST /hook HTTP"));
  EXPECT_EQ((*hook)->list({}).error().kind, Kind::bug);
  EXPECT_EQ((*hook)->read("77").error().kind, Kind::bug);
  EXPECT_FALSE(WebhookBackend::make({.url = server.url("/hook")}));
}

TEST(Webhook, ALaterIncidentOfAKeyHasNotesAndAnEndOfItsOwn) {
  std::vector<std::string> keys;
  const support::LoopbackServer server([&](const auto& seen) -> support::LoopbackServer::Reply {
    keys.push_back(seen.head.substr(seen.head.find("Idempotency-Key: "), 81));
    return {support::http_answer(200, "{}")};
  });
  auto hook = WebhookBackend::make(
      {.url = server.url("/hook"), .secret = Secret("secret"), .remote = {.timeout = 2s}, .now = [] {
         return kStart;
       }});
  ASSERT_TRUE(hook) << hook.error().message;
  for (const auto at : {kStart, kStart, kStart + 1h}) {
    ASSERT_TRUE((*hook)->note("breaker:api", {.key = "context", .at = at, .body = "why"}));
    ASSERT_TRUE((*hook)->resolve("breaker:api", {.key = "recovered", .at = at, .body = "it is back"}));
  }
  ASSERT_EQ(keys.size(), 6U);
  EXPECT_EQ(keys[0], keys[2]);
  EXPECT_EQ(keys[1], keys[3]);
  EXPECT_NE(keys[0], keys[4]);
  EXPECT_NE(keys[1], keys[5]);
}

TEST(Webhook, AnAddressThatIsNotThereIsWorthAnotherTry) {
  const ScriptedApi api({});
  auto hook =
      WebhookBackend::make({.url = api.url() + "/hook", .secret = Secret("s"), .remote = {.timeout = 2s}});
  ASSERT_TRUE(hook);
  EXPECT_EQ((*hook)->resolve("breaker:api", {.at = kStart}).error().kind, Kind::unavailable);
}

// Redaction -------------------------------------------------------------------------------------------

TEST(Redacting, TakesSecretsOutOfAllThatLeaves) {
  std::string sent;
  const ScriptedApi api({{"/hook", [&](const ScriptedApi::Asked& asked) {
                            sent += asked.body;
                            return ScriptedApi::Says{200, "{}"};
                          }}});
  auto hook =
      WebhookBackend::make({.url = api.url() + "/hook", .secret = Secret("s"), .remote = {.timeout = 2s}});
  ASSERT_TRUE(hook);
  const auto backend = redacting(std::move(*hook));
  const std::string token = "ghp_" + std::string("0123456789abcdefghijABCDEFGHIJ012345");
  auto leaking = opening();
  leaking.dedup_key = "key " + token;
  leaking.title = "title " + token;
  leaking.summary = "summary " + token;
  leaking.labels = {{"label", token}};
  leaking.attachments = {{"https://x.example/?token=" + token, "caption " + token}};
  const auto opened = backend->open(leaking);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(backend->note(leaking.dedup_key, {.at = kStart, .body = token}));
  EXPECT_TRUE(
      backend->change(leaking.dedup_key, {.title = token, .add_labels = {{"a", token}}, .at = kStart}));
  EXPECT_TRUE(backend->resolve(leaking.dedup_key, {.at = kStart, .body = token}));
  EXPECT_THAT(sent, Not(HasSubstr(token)));
  EXPECT_THAT(sent, HasSubstr("[redacted"));
  auto other = leaking;
  other.dedup_key.back() = '9';
  EXPECT_NE(backend->open(other)->incident.id, opened->incident.id) << "keys stay different";
}

TEST(Redacting, TakesSecretsOutOfLabelsWhoseKeysSayThatTheyAre) {
  std::string sent;
  const ScriptedApi api({{"/hook", [&](const ScriptedApi::Asked& asked) {
                            sent += asked.body;
                            return ScriptedApi::Says{200, "{}"};
                          }}});
  auto hook =
      WebhookBackend::make({.url = api.url() + "/hook", .secret = Secret("s"), .remote = {.timeout = 2s}});
  ASSERT_TRUE(hook);
  const auto backend = redacting(std::move(*hook));
  auto leaking = opening();
  leaking.labels = {{"password", "hunter2"}, {"service", "api"}};
  leaking.room_prefix = "password=hunter2";
  ASSERT_TRUE(backend->open(leaking));
  ASSERT_TRUE(backend->change("breaker:api", {.add_labels = {{"password", "hunter2"}}, .at = kStart}));
  EXPECT_THAT(sent, Not(HasSubstr("hunter2")));
  EXPECT_THAT(sent, HasSubstr(R"({"key":"service","value":"api"})"));
}

}  // namespace
