#include "tunnelctl/incident/enrichment.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunnelctl/prometheus/transport.h"

namespace tunnelctl::incident {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;
using namespace std::chrono_literals;
using Kind = Question::Kind;

constexpr Time kBegan{std::chrono::seconds(1'767'323'045)};  // 2026-01-02 03:04:05
constexpr Time kNow = kBegan + 15s;

/// A Prometheus or Loki that answers what a test says.
class Scripted : public prometheus::Transport {
 public:
  using Answer = std::function<Result<Json>(const prometheus::Ask&)>;
  explicit Scripted(Answer answer) : answer_(std::move(answer)) {}
  Result<Json> get(const prometheus::Ask& ask) const override {
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back(ask);
    }
    return answer_(ask);
  }
  const std::string& name() const override { return name_; }
  std::vector<prometheus::Ask> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  std::string name_ = "http://scripted";
  Answer answer_;
  mutable std::mutex mutex_;
  mutable std::vector<prometheus::Ask> asked_;
};

std::string parameter(const prometheus::Ask& ask, std::string_view name) {
  for (const auto& [key, value] : ask.parameters)
    if (key == name) return value;
  return "";
}

Json data(const char* type, Json result) {
  return {{"status", "success"}, {"data", {{"resultType", type}, {"result", std::move(result)}}}};
}

/// Samples a minute apart, the last at kNow.
Json matrix(const std::vector<const char*>& values) {
  Json samples = Json::array();
  auto at = std::chrono::floor<std::chrono::seconds>(kNow).time_since_epoch().count() -
            60 * (static_cast<std::int64_t>(values.size()) - 1);
  for (const auto* value : values) {
    samples.push_back({at, value});
    at += 60;
  }
  return data("matrix", Json::array({{{"metric", Json::object()}, {"values", samples}}}));
}

Json row(Json labels, const char* value) {
  return {{"metric", std::move(labels)}, {"value", {1'767'323'060, value}}};
}

/// Lines a second apart, the last at kNow; newest first as Loki sends them.
Json streams(const std::vector<std::string>& lines) {
  Json values = Json::array();
  auto at = std::chrono::nanoseconds(kNow.time_since_epoch());
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    values.push_back({std::to_string(at.count()), *line});
    at -= 1s;
  }
  return data("streams", Json::array({{{"stream", {{"job", "tunneld"}}}, {"values", values}}}));
}

Subject breaker() {
  return {.dedup_key = "breaker/api",
          .kind = "breaker",
          .title = "Circuit breaker of api opened",
          .labels = {{"service", "api"}, {"upstream", "home"}, {"principal", "5b1c"}},
          .at = kBegan,
          .facts = {{"failures", 5}, {"lastErrors", {"timeout", "connection refused"}}}};
}

class Enriched : public testing::Test {
 protected:
  Enriched() { options_.now = kNow; }

  void metrics(Scripted::Answer answer) {
    metrics_way_ = std::make_shared<Scripted>(std::move(answer));
    metrics_.emplace(metrics_way_);
    sources_.metrics = &*metrics_;
  }
  void logs(Scripted::Answer answer) {
    logs_way_ = std::make_shared<Scripted>(std::move(answer));
    logs_.emplace(logs_way_);
    sources_.logs = &*logs_;
  }
  void tell(const char* name, std::function<Result<std::vector<Sources::Change>>(times::Range)> changes) {
    sources_.changes.push_back({.name = name, .ask = std::move(changes)});
  }
  void ask(Question question) { options_.questions = {std::move(question)}; }
  Enrichment enriched() { return enrich(breaker(), options_, sources_); }
  std::string text() { return enriched().markdown; }

  EnrichmentOptions options_{};
  Sources sources_{};
  std::shared_ptr<Scripted> metrics_way_{}, logs_way_{};
  std::optional<prometheus::Server> metrics_{};
  std::optional<prometheus::Loki> logs_{};
};

Result<Json> nothing(const prometheus::Ask& ask) {
  return data(ask.path.ends_with("query_range") ? "matrix" : "vector", Json::array());
}

TEST(SubjectOfAnIncident, HasItsKindFromTheKeyOrTheLabels) {
  struct Row {
    const char* key;
    std::vector<Label> labels;
    const char* kind;
  };
  const Row rows[] = {{"tunneld/breaker/home/api", {}, "breaker"},
                      {"tunneld/upstream/home", {}, "upstream"},
                      {"tunneld/agents", {}, "agent"},
                      {"agent/lab-1", {}, "agent"},
                      {"tunneld/daemon", {}, "daemon"},
                      {"tunneld/audit", {}, "audit"},
                      {"tunneld/overload/queue", {{"what", "queue"}}, "overload"},
                      {"alert/TunnelDown/17", {}, "alert"},
                      {"x", {{"alertname", "TunnelDown"}}, "alert"},
                      {"circuit-breaker", {}, "manual"},
                      {"", {}, "manual"}};
  for (const auto& row : rows)
    EXPECT_EQ(subject_of({.dedup_key = row.key, .labels = row.labels}).kind, row.kind) << row.key;
}

// Without anybody to ask ---------------------------------------------------------------------------

TEST_F(Enriched, WithoutAnySourceStillSaysWhoWhatSinceWhenAndTheRunbook) {
  const auto result = enriched();
  EXPECT_THAT(result.markdown, StartsWith("- **What**: Circuit breaker of api opened (critical)\n"
                                          "- **Since**: 2026-01-02 03:04:05 UTC (15s ago)\n"
                                          "- **Affected**: service `api`, upstream `home`, caller `5b1c`\n"
                                          "- **Failures in a row**: 5\n"
                                          "- **Last failures**: `timeout`, `connection refused`\n"));
  EXPECT_THAT(result.markdown,
              HasSubstr("**Runbook TunnelCircuitBreakerOpen**\n\nA circuit breaker of this"));
  EXPECT_THAT(result.markdown, HasSubstr("\n1. Which breakers, since when"));
  EXPECT_THAT(result.markdown, HasSubstr("```sh\ntunnelctl breakers list --errors\n"));
  EXPECT_THAT(result.markdown,
              HasSubstr("Patterns of error lines, Newest error lines: `no Loki is known`\n"));
  EXPECT_THAT(result.markdown, HasSubstr(": `no Prometheus is known`\n"));
  EXPECT_THAT(result.problems, SizeIs(2));
  EXPECT_THAT(result.attachments, IsEmpty());
}

TEST_F(Enriched, ASubjectOfNothingIsANoteToo) {
  const auto result =
      enrich({.kind = "manual", .at = kBegan, .facts = Json()}, {.questions = {}, .now = kNow}, {});
  EXPECT_EQ(result.markdown, "- **Since**: 2026-01-02 03:04:05 UTC (15s ago)\n");
}

TEST_F(Enriched, WhatIsOverSaysUntilWhen) {
  auto subject = breaker();
  subject.until = kBegan + 5min;
  options_.now = kBegan + 24h;
  ask({.name = "Rate", .expr = "x"});
  metrics(nothing);
  const auto result = enrich(subject, options_, sources_);
  EXPECT_THAT(result.markdown,
              HasSubstr("**Since**: 2026-01-02 03:04:05 UTC, until 2026-01-02 03:09:05 UTC (5m)\n"));
  // Five minutes behind the end are looked at, a sixth of the window; not the whole day.
  EXPECT_EQ(parameter(metrics_way_->asked().at(0), "end"), "1767323645.000");
}

// Numbers ------------------------------------------------------------------------------------------

TEST_F(Enriched, ANumberIsToldAsItIsAndAsItWasBefore) {
  ask({.name = "Error rate", .expr = "x{s=\"${service}\"}[${window}]", .unit = "percent"});
  metrics([](const auto&) { return matrix({"0.01", "0.01", "0.5"}); });
  EXPECT_THAT(text(), HasSubstr("**Numbers**\n\nNow in bold; the line is from 02:34:05 to 03:04:20 UTC.\n\n"
                                "- Error rate: **50 %**, before 1 % `▁▁█`\n\n"));
  const auto asked = metrics_way_->asked();
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(asked[0].path, "/api/v1/query_range");
  EXPECT_EQ(parameter(asked[0], "query"), "x{s=\"api\"}[30m]");
  EXPECT_EQ(parameter(asked[0], "start"), "1767321245.000");
  EXPECT_EQ(parameter(asked[0], "end"), "1767323060.000");
}

TEST_F(Enriched, NumbersHaveTheirUnits) {
  struct Row {
    const char* unit;
    const char* value;
    const char* shown;
  };
  const Row rows[] = {{"", "1234", "**1.23k**"},           {"percent", "0.999", "**99.9 %**"},
                      {"seconds", "0.25", "**250 ms**"},   {"seconds", "2.5", "**2.5 s**"},
                      {"seconds", "300", "**5m**"},        {"bytes", "1048576", "**1 MiB**"},
                      {"per second", "0.5", "**0.5/s**"},  {"", "+Inf", "**infinite**"},
                      {"seconds", "+Inf", "**infinite**"}, {"", "-3", "**-3**"}};
  for (const auto& row : rows) {
    ask({.name = "N", .expr = "x", .unit = row.unit});
    metrics([&](const auto&) { return matrix({row.value}); });
    EXPECT_THAT(text(), HasSubstr(std::string("- N: ") + row.shown)) << row.value << " " << row.unit;
  }
}

TEST_F(Enriched, NoNumberIsSaidAndNoProblem) {
  ask({.name = "N", .expr = "x"});
  struct Row {
    const char* what;
    Json answer;
    const char* shown;
  };
  const Row rows[] = {{"no series", data("matrix", Json::array()), "- N: no data\n"},
                      {"only NaN", matrix({"NaN", "NaN"}), "- N: no data\n"},
                      {"NaN now", matrix({"2", "2", "NaN"}), "- N: no data now, before 2 `██ `\n"}};
  for (const auto& row : rows) {
    metrics([&](const auto&) { return row.answer; });
    const auto result = enriched();
    EXPECT_THAT(result.markdown, HasSubstr(row.shown)) << row.what;
    EXPECT_THAT(result.problems, IsEmpty()) << row.what;
  }
}

TEST_F(Enriched, ANumberFromBeforeItVanishedIsNotTheOneOfNow) {
  ask({.name = "Agents", .expr = "x"});
  metrics([](const auto&) {
    auto ended = matrix({"3", "3", "3", "3"});
    ended["data"]["result"][0]["values"].erase(3);
    ended["data"]["result"][0]["values"].erase(2);
    return ended;
  });
  EXPECT_THAT(text(), HasSubstr("- Agents: no data now, before 3 `██`\n"));
}

TEST_F(Enriched, ATableIsItsLargestRows) {
  ask({.kind = Kind::table, .name = "Errors by code", .expr = "y"});
  options_.max_rows = 2;
  metrics([](const auto&) {
    return data("vector", {row({{"code", "B"}, {"category", "x"}}, "3"), row({{"code", "A"}}, "3"),
                           row({{"code", "C"}}, "NaN"), row({{"code", "D"}}, "40")});
  });
  EXPECT_THAT(text(),
              HasSubstr("**Errors by code**\n\n- `code=D`: 40\n- `category=x, code=B`: 3\n\n… and 1 more\n"));
  EXPECT_EQ(metrics_way_->asked().at(0).path, "/api/v1/query");
}

TEST_F(Enriched, AHundredThousandSeriesAreAFewRows) {
  options_.deadline = std::chrono::minutes(2);  // a sanitizer takes long for so many
  ask({.kind = Kind::table, .name = "T", .expr = "y"});
  metrics([](const auto&) {
    Json rows = Json::array();
    for (int i = 0; i < 100'000; ++i) rows.push_back(row({{"n", std::to_string(i)}}, "1"));
    return data("vector", std::move(rows));
  });
  const auto result = text();
  EXPECT_THAT(result, HasSubstr("… and 99992 more"));
  EXPECT_LT(result.size(), 6'000U);
}

TEST_F(Enriched, OnlyQuestionsOfTheKindAreAsked) {
  options_.questions = {{.name = "A", .expr = "a", .kinds = {"agent"}},
                        {.name = "B", .expr = "b", .kinds = {"breaker"}}};
  metrics(nothing);
  enriched();
  ASSERT_THAT(metrics_way_->asked(), SizeIs(1));
  EXPECT_EQ(parameter(metrics_way_->asked()[0], "query"), "b");
}

TEST_F(Enriched, AQuestionAboutALabelThatIsMissingIsNotAskedAndNamed) {
  ask({.name = "A", .expr = "x{a=\"${agent}\"}"});
  metrics(nothing);
  const auto result = enriched();
  EXPECT_THAT(metrics_way_->asked(), IsEmpty());
  EXPECT_THAT(result.problems, ElementsAre("A: the incident has no label agent"));
}

// Log lines ----------------------------------------------------------------------------------------

const Question kLines{.kind = Kind::logs, .name = "Newest lines", .expr = "${streams} |= \"x\""};
const Question kPatterns{.kind = Kind::patterns, .name = "Patterns", .expr = "${streams}"};

TEST_F(Enriched, LinesAreReadableAndNewestFirst) {
  ask(kLines);
  logs([](const auto&) {
    return streams(
        {R"({"timestamp":"t","level":"ERROR","message":"request","component":"access","instanceId":"vm",)"
         R"("service":"api","code":"TUNNEL_001","why":"connection refused","n":3,"list":["a"],)"
         R"("deep":[[["x"]]]})",
         "plain text"});
  });
  EXPECT_THAT(text(), HasSubstr("**Newest lines**\n\n```text\n03:04:20 plain text\n"
                                "03:04:19 ERROR access: request code=TUNNEL_001 why=\"connection refused\" "
                                "service=api deep=... list=[\"a\"] n=3\n```\n"));
  const auto asked = logs_way_->asked();
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(parameter(asked[0], "query"), "{job=\"tunneld\"} |= \"x\"");
  EXPECT_EQ(parameter(asked[0], "limit"), "10");
}

TEST_F(Enriched, HostileLinesStayInTheirFence) {
  ask(kLines);
  logs([](const auto&) {
    return streams({"```\n# owned\n[x](http://evil)", "\x1b[2J\x1b]0;title\x07", "`````",
                    std::string("zero\0byte", 9), "bad \xFF\xFE utf-8 \xE2\x80\xAE turned"});
  });
  const auto result = text();
  EXPECT_THAT(result, HasSubstr("\n``````text\n"));
  EXPECT_THAT(result, HasSubstr(" ``` # owned [x](http://evil)\n"));
  EXPECT_THAT(result, HasSubstr("\n``````\n"));
  EXPECT_THAT(result, Not(HasSubstr("\x1b")));
  EXPECT_THAT(result, Not(HasSubstr("\xFF")));
}

TEST_F(Enriched, LinesOfMegabytesAreCut) {
  options_.questions = {kLines, kPatterns};
  logs([](const auto&) {
    return streams(
        {std::string(10'000'000, 'x'), "{\"message\":\"" + std::string(10'000'000, 'y') + "\"}",
         std::string(60'000, '['),
         "{\"message\":\"too deep\",\"a\":" + std::string(30'000, '[') + std::string(30'000, ']') + "}",
         "{\"message\":\"deep\",\"a\":" + std::string(500, '[') + std::string(500, ']') + "}"});
  });
  const auto result = text();
  EXPECT_LE(result.size(), options_.max_bytes + 1);
  EXPECT_THAT(result, HasSubstr("xxx...\n"));
  EXPECT_THAT(result, HasSubstr("deep a=...\n"));
}

TEST_F(Enriched, SecretsAreTakenOutEverywhere) {
  options_.questions = {{.kind = Kind::table, .name = "T", .expr = "y"}, kLines, kPatterns};
  metrics([](const auto&) { return data("vector", {row({{"url", "https://ann:hunter2@host/"}}, "1")}); });
  logs([](const auto&) {
    return streams({"Authorization: Bearer hunter2hunter2hunter2hunter2", "-----BEGIN PRIVATE KEY-----",
                    "MIIhunter2hunter2hunter2", "-----END PRIVATE KEY-----",
                    R"({"message":"m","password":"hunter2"})",
                    std::string(20'000, 'a') + " password=hunter2"});
  });
  tell("Changes", [](times::Range) {
    return std::vector<Sources::Change>{{.at = kBegan, .text = "deploy with password=hunter2"}};
  });
  auto subject = breaker();
  subject.title = "password=hunter2";
  subject.labels.push_back({"instance", "https://ann:hunter2@host/"});
  subject.facts = {{"lastErrors", {"token=hunter2"}}, {"why", "secret: hunter2"}};
  const auto result = enrich(subject, options_, sources_);
  EXPECT_THAT(result.markdown, Not(HasSubstr("hunter2")));
  EXPECT_THAT(result.markdown, HasSubstr("[redacted"));
  for (const auto& problem : result.problems) EXPECT_THAT(problem, Not(HasSubstr("hunter2")));
}

TEST_F(Enriched, PatternsAreCountedAndSayWhoIsInTheLines) {
  ask(kPatterns);
  logs([](const auto&) {
    std::vector<std::string> lines;
    for (int i = 0; i < 30; ++i)
      lines.push_back(R"({"level":"ERROR","message":"connection to 10.0.0.)" + std::to_string(i) +
                      R"( refused","principal":"p)" + std::to_string(i % 3) + R"(","service":"api"})");
    return streams(lines);
  });
  const auto result = text();
  EXPECT_THAT(result, HasSubstr("caller `5b1c`; in the error lines: 3 callers, 1 service (`api`)\n"));
  EXPECT_THAT(result, HasSubstr("**Patterns**\n\nOf 30 lines:\n\n- 30 × `connection to "));
  EXPECT_THAT(result, HasSubstr("(100 %)\n"));
  EXPECT_EQ(parameter(logs_way_->asked().at(0), "limit"), "1000");
}

// What changed, and where to look ------------------------------------------------------------------

TEST_F(Enriched, ChangesAreToldWithTheirTimes) {
  ask({});
  times::Range range{};
  tell("Changes", [&](times::Range asked) -> Result<std::vector<Sources::Change>> {
    range = asked;
    return std::vector<Sources::Change>{{.at = kBegan + 1s, .text = "rollback"},
                                        {.at = kBegan - 10min, .text = "deploy of [v2](http://x) by @ann"}};
  });
  EXPECT_THAT(text(),
              HasSubstr("**What changed**\n\n"
                        "- 2026-01-02 02:54:05 UTC: deploy of \\[v2\\](http:\u200B//x) by @\u200Bann\n"
                        "- 2026-01-02 03:04:06 UTC (after it began): rollback\n"));
  EXPECT_EQ(range.from, kBegan - 2h);
  EXPECT_EQ(range.to, kNow);
}

TEST_F(Enriched, ManyChangesAreTheLastOnes) {
  tell("Changes", [](times::Range) {
    std::vector<Sources::Change> changes;
    for (int i = 0; i < 1'000; ++i)
      changes.push_back({.at = kBegan - i * 1s, .text = "c" + std::to_string(i)});
    return changes;
  });
  const auto result = text();
  EXPECT_THAT(result, HasSubstr("c0\n"));
  EXPECT_THAT(result, HasSubstr("c7\n"));
  EXPECT_THAT(result, Not(HasSubstr("c8\n")));
  EXPECT_THAT(result, HasSubstr("… and 992 more"));
}

TEST_F(Enriched, ChangesComeTogetherFromAllWhoKnowThem) {
  tell("Annotations",
       [](times::Range) { return std::vector<Sources::Change>{{.at = kBegan - 1s, .text = "deploy"}}; });
  tell("Events", [](times::Range) {
    return std::vector<Sources::Change>{{.at = kBegan - 2s, .text = "config.changed"}};
  });
  tell("Git",
       [](times::Range) -> Result<std::vector<Sources::Change>> { return fail(Error::Kind::denied, "403"); });
  const auto result = enriched();
  EXPECT_THAT(result.markdown,
              HasSubstr("03:04:03 UTC: config.changed\n- 2026-01-02 03:04:04 UTC: deploy\n"));
  EXPECT_THAT(result.problems, Contains("Git: 403"));
}

TEST_F(Enriched, WhyThereIsNoSourceIsSaid) {
  sources_.metrics_missing = "several data sources: a, b";
  EXPECT_THAT(text(), HasSubstr(": `several data sources: a, b`\n"));
}

TEST_F(Enriched, NoChangesAreSaid) {
  tell("Changes", [](times::Range) { return std::vector<Sources::Change>{}; });
  EXPECT_THAT(text(), HasSubstr("Nothing was told for 2h before.\n"));
}

TEST_F(Enriched, LinksLeadToTheTimeAndTheQueries) {
  options_.questions = {{.name = "N", .expr = "x"}, kLines};
  options_.runbook_url = "https://docs.example/runbooks";
  metrics(nothing);
  logs(nothing);
  sources_.grafana_url = "https://grafana.example/sub";
  sources_.dashboard_uid = "tunnel-health";
  sources_.metrics_uid = "prom";
  sources_.logs_uid = "loki";
  const auto result = enriched();
  ASSERT_THAT(result.attachments, SizeIs(4));
  EXPECT_EQ(result.attachments[0].caption, "Dashboard");
  EXPECT_EQ(result.attachments[0].url,
            "https://grafana.example/sub/d/tunnel-health?from=1767321245000&to=1767323060000");
  EXPECT_THAT(result.attachments[1].url, StartsWith("https://grafana.example/sub/explore?"));
  EXPECT_THAT(result.attachments[2].url, HasSubstr("loki"));
  EXPECT_EQ(result.attachments[3].url, "https://docs.example/runbooks/TunnelCircuitBreakerOpen.md");
  EXPECT_THAT(result.markdown,
              HasSubstr("**Where to look**\n\n- [Dashboard](https://grafana.example/sub/d/"));
  for (const auto& one : result.attachments)
    EXPECT_THAT(result.markdown, HasSubstr("- [" + one.caption + "]("));
}

TEST_F(Enriched, AnAlertsOwnRunbookIsLinkedWhenItIsAnAddress) {
  auto subject = breaker();
  subject.kind = "alert";
  ask({});
  subject.facts = {{"summary", "half of *all* fail"}, {"runbook_url", "javascript:alert(1)"}};
  EXPECT_THAT(enrich(subject, options_, {}).attachments, IsEmpty());
  subject.facts["runbook_url"] = "https://wiki.example/x";
  const auto result = enrich(subject, options_, {});
  ASSERT_THAT(result.attachments, SizeIs(1));
  EXPECT_THAT(result.markdown, HasSubstr("- **Summary**: half of \\*all\\* fail\n"));
}

// When things go wrong -----------------------------------------------------------------------------

TEST_F(Enriched, OneDeadSourceLeavesTheOther) {
  options_.questions = {{.name = "A", .expr = "a"}, {.name = "B", .expr = "b"}, kLines};
  metrics([](const auto&) -> Result<Json> {
    return fail(Error::Kind::unavailable, "http://p: connection `refused`");
  });
  logs([](const auto&) { return streams({"here I am"}); });
  const auto result = enriched();
  EXPECT_THAT(result.markdown, HasSubstr("here I am"));
  EXPECT_THAT(result.markdown, Not(HasSubstr("**Numbers**")));
  EXPECT_THAT(result.markdown,
              HasSubstr("**Not found out**\n\n- A, B: `` http://p: connection `refused` ``\n"));
  EXPECT_THAT(result.problems, ElementsAre("A, B: http://p: connection `refused`"));
}

TEST_F(Enriched, AllDeadSourcesAreAllNamed) {
  metrics([](const auto&) -> Result<Json> { return fail(Error::Kind::timed_out, "no answer"); });
  logs([](const auto&) -> Result<Json> { return fail(Error::Kind::denied, "403: <html>\n<b>no</b>"); });
  tell("Changes", [](times::Range) -> Result<std::vector<Sources::Change>> {
    return fail(Error::Kind::not_found, "no such page");
  });
  const auto result = enriched();
  EXPECT_THAT(result.problems, SizeIs(3));
  EXPECT_THAT(result.markdown, HasSubstr("`403: <html> <b>no</b>`"));
  EXPECT_THAT(result.markdown, HasSubstr("Changes: `no such page`"));
  EXPECT_THAT(result.markdown, HasSubstr("**Runbook TunnelCircuitBreakerOpen**"));
}

TEST_F(Enriched, AnswersOfAnotherShapeAreProblemsNotCrashes) {
  options_.questions = {{.name = "A", .expr = "a"}, kLines};
  for (const Json& answer :
       {Json::object(), Json{{"status", "success"}, {"data", 5}}, Json::array(), Json("x")}) {
    metrics([&](const auto&) { return answer; });
    logs([&](const auto&) { return answer; });
    EXPECT_FALSE(enriched().problems.empty()) << answer;
  }
}

/// Answers nothing until it is told to give up.
class Hanging {
 public:
  Result<Json> wait() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 10s, [&] { return over_; });
    return fail(Error::Kind::cancelled, "stopped");
  }
  void give_up() {
    const std::lock_guard lock(mutex_);
    over_ = true;
    ++times_;
    changed_.notify_all();
  }
  int times() const { return times_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::atomic<int> times_ = 0;
};

TEST_F(Enriched, WhatIsSlowIsGivenUpAtTheDeadlineAndNamed) {
  options_.deadline = 50ms;
  options_.questions.clear();
  for (int i = 0; i < 100; ++i) options_.questions.push_back({.name = "N" + std::to_string(i), .expr = "x"});
  options_.questions.push_back(kLines);
  Hanging hanging;
  metrics([&](const auto&) { return hanging.wait(); });
  logs([](const auto&) { return streams({"in time"}); });
  sources_.give_up = [&] { hanging.give_up(); };
  const auto begun = std::chrono::steady_clock::now();
  const auto result = enriched();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
  EXPECT_EQ(hanging.times(), 1);
  EXPECT_LE(metrics_way_->asked().size(), 32U);  // nobody begins after the deadline
  EXPECT_THAT(result.markdown, HasSubstr("in time"));
  ASSERT_THAT(result.problems, SizeIs(1));
  EXPECT_THAT(result.problems[0], StartsWith("N0, N1, "));
  EXPECT_THAT(result.problems[0], EndsWith(": not answered within 50ms"));
}

TEST_F(Enriched, AStopEndsItAtOnceWithWhatIsThere) {
  options_.deadline = 10min;
  options_.questions = {{.name = "N", .expr = "x"}, kLines};
  Hanging hanging;
  std::stop_source stop;
  metrics([&](const auto&) {
    stop.request_stop();
    return hanging.wait();
  });
  logs(nothing);
  sources_.give_up = [&] { hanging.give_up(); };
  const auto result = enrich(breaker(), options_, sources_, stop.get_token());
  EXPECT_THAT(result.problems, Contains("N: stopped before it was answered"));
  EXPECT_THAT(result.markdown, HasSubstr("**Since**"));
}

TEST_F(Enriched, NobodyIsToldToGiveUpWhenAllAnswered) {
  options_.questions = {{.name = "N", .expr = "x"}};
  metrics(nothing);
  bool told = false;
  sources_.give_up = [&] { told = true; };
  enriched();
  EXPECT_FALSE(told);
}

TEST_F(Enriched, TheNoteFitsAndSaysWhatIsMissing) {
  options_.max_bytes = 2'000;
  options_.questions = {kLines};
  logs([](const auto&) { return streams(std::vector<std::string>(50, std::string(250, 'x'))); });
  const auto result = text();
  EXPECT_LE(result.size(), 2'001U);
  EXPECT_THAT(result, StartsWith("- **What**"));
  EXPECT_THAT(result, HasSubstr("… and "));
  EXPECT_THAT(result, EndsWith("*This note was cut to its size limit.*\n"));
}

TEST_F(Enriched, TheOrderIsThatOfTheQuestionsWhoeverAnswersFirst) {
  options_.questions = {kLines,
                        {.kind = Kind::table, .name = "T", .expr = "t"},
                        {.name = "B", .expr = "b"},
                        {.name = "A", .expr = "a"}};
  metrics([](const prometheus::Ask& ask) {
    return ask.path.ends_with("query_range") ? matrix({"1"}) : data("vector", {row(Json::object(), "1")});
  });
  logs([](const auto&) { return streams({"line"}); });
  const auto first = text();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(text(), first);
  EXPECT_LT(first.find("- B: "), first.find("- A: "));
  EXPECT_LT(first.find("**Newest lines**"), first.find("**T**\n\n- all: 1\n"));
}

}  // namespace
}  // namespace tunnelctl::incident
