#include "tunnelctl/monitor/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::monitor {
namespace {

using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

pack::Pack with_rules(std::vector<pack::Rule> rules) {
  pack::Pack pack;
  pack.name = "p";
  pack.folder_uid = "f";
  pack.datasources = {{.variable = "datasource", .type = "prometheus"}};
  pack.rule_files = {{.groups = {{.name = "g", .interval = seconds(30), .rules = std::move(rules)}}}};
  return pack;
}
pack::Rule alert(const std::string& expr) {
  return {.alert = "A", .expr = expr};
}

struct Made {
  Json rule;
  std::vector<std::string> notes;
};
Made make(const pack::Rule& rule, std::vector<pack::Rule> others = {}) {
  others.insert(others.begin(), rule);
  const auto pack = with_rules(others);
  CompileOptions options;
  options.datasources["datasource"] = {.uid = "prom", .name = "Prometheus", .type = "prometheus"};
  options.grafana_url = "https://g";
  Made made;
  made.rule = grafana_rule(pack, pack.rule_files[0].groups[0], rule, options, made.notes);
  return made;
}

TEST(GrafanaRule, TakesTheComparisonOutOfTheQuery) {
  struct Case {
    const char *expr, *query, *type;
    double number;
  };
  const Case cases[] = {
      {"sum(rate(e[5m])) / sum(rate(r[5m])) > 0.05", "sum(rate(e[5m])) / sum(rate(r[5m]))", "gt", 0.05},
      {"up == 0", "up", "eq", 0},
      {"0.9 <= fill", "fill", "gte", 0.9},
      {"(free < 10)", "free", "lt", 10},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.expr);
    const auto [rule, notes] = make(alert(one.expr));
    const Json& data = rule["data"];
    ASSERT_EQ(data.size(), 3U);
    EXPECT_EQ(data[0]["model"]["expr"], one.query);
    EXPECT_EQ(data[0]["model"]["instant"], true) << "a range cannot be compared";
    EXPECT_EQ(data[0]["datasourceUid"], "prom");
    EXPECT_EQ(data[1]["model"]["type"], "reduce");
    EXPECT_EQ(data[2]["model"]["type"], "threshold");
    EXPECT_EQ(data[2]["model"]["conditions"][0]["evaluator"],
              Json({{"type", one.type}, {"params", {one.number}}}));
    EXPECT_EQ(rule["condition"], "C");
    EXPECT_EQ(rule["noDataState"], "OK");
  }
}

TEST(GrafanaRule, KeepsWhatIsNoComparisonWithANumberAndFiresOnAnyAnswer) {
  const auto [rule, notes] = make(alert("a > 1 and b > 2"));
  EXPECT_EQ(rule["data"][0]["model"]["expr"], "a > 1 and b > 2");
  EXPECT_EQ(rule["data"][2]["model"]["type"], "math");
  EXPECT_EQ(rule["data"][2]["model"]["expression"], "is_null($B) == 0");
  EXPECT_EQ(rule["noDataState"], "OK");
}

TEST(GrafanaRule, RoundsDurationsUpToTheIntervalAndSaysSo) {
  auto rule = alert("up == 0");
  rule.hold = seconds(45);
  const auto made = make(rule);
  EXPECT_EQ(made.rule["for"], "1m");
  EXPECT_THAT(made.notes, ElementsAre(HasSubstr("A: for 45s becomes 60s")));
  rule.hold = seconds(60);
  EXPECT_THAT(make(rule).notes, IsEmpty());
}

TEST(GrafanaRule, WritesTheValueInGrafanasWordsAndLinksToThePanel) {
  auto rule = alert("up == 0");
  rule.annotations = {{"summary", "{{ $value | humanize }} of {{ $values }} {{ $valued }}"},
                      {"dashboard_uid", "d"},
                      {"panel_id", "4"}};
  const Json texts = make(rule).rule["annotations"];
  EXPECT_EQ(texts["summary"], "{{ $values.B.Value | humanize }} of {{ $values }} {{ $valued }}");
  EXPECT_EQ(texts["__dashboardUid__"], "d");
  EXPECT_EQ(texts["__panelId__"], "4");
  EXPECT_EQ(texts["panel_url"], "https://g/d/d?viewPanel=4");
  EXPECT_FALSE(texts.contains("dashboard_uid"));
}

TEST(GrafanaRule, PutsARecordedSeriesExpressionInItsPlace) {
  const pack::Rule recorded{.record = "job:e:rate5m", .expr = "sum by (job) (rate(e[5m]))"};
  EXPECT_EQ(make(alert("job:e:rate5m > 1"), {recorded}).rule["data"][0]["model"]["expr"],
            "(sum by (job) (rate(e[5m])))");
  const auto narrowed = make(alert("job:e:rate5m{job=\"x\"} > 1"), {recorded});
  EXPECT_EQ(narrowed.rule["data"][0]["model"]["expr"], "job:e:rate5m{job=\"x\"}");
  EXPECT_THAT(narrowed.notes, Contains(HasSubstr("Prometheus must have the pack's recording rules")));
}

TEST(GrafanaRule, CarriesThePacksMarkAndItsOwnUid) {
  const auto made = make(alert("up == 0"));
  EXPECT_EQ(made.rule["uid"], "p-A");
  EXPECT_EQ(made.rule["labels"]["tunnelctl_pack"], "p");
}

TEST(RunbookLink, LeadsToTheBaseOrToTheRunbookDashboard) {
  pack::Pack pack = with_rules({});
  pack.runbook_prefix = "runbooks/p/";
  pack.runbooks = {{.name = "A", .text = "# A\n"}, {.name = "B", .text = "# B\n"}};
  CompileOptions options;
  options.grafana_url = "https://g";
  EXPECT_EQ(runbook_link(pack, "runbooks/p/B.md#x", options), "https://g/d/p-runbooks?viewPanel=2");
  options.runbook_url = "https://docs";
  EXPECT_EQ(runbook_link(pack, "runbooks/p/B.md#x", options), "https://docs/B.md#x");
  EXPECT_EQ(runbook_link(pack, "https://elsewhere/B", options), "https://elsewhere/B");
}

TEST(Compile, SecretsAreNeverInTheContent) {
  pack::Pack pack = with_rules({});
  pack.secrets = {{.file = "secrets/key", .environment = "KEY"}};
  pack.alertmanager.emplace();
  pack.alertmanager->document = Json::object();
  pack.alertmanager->root.receiver = "ops";
  pack.alertmanager->receivers = {
      {.name = "ops",
       .integrations = {{.kind = "pagerduty", .settings = {{"routing_key_file", "secrets/key"}}}}}};
  CompileOptions options;
  options.secret = [](const pack::SecretSource& source) -> std::optional<Secret> {
    EXPECT_EQ(source.environment, "KEY");
    return Secret("s3cret");
  };
  const auto compiled = compile(pack, options);
  bool found = false;
  for (const auto& object : compiled.objects) {
    EXPECT_EQ(object.content.dump().find("s3cret"), std::string::npos);
    if (object.key.kind != Kind::contact_point) continue;
    found = true;
    EXPECT_EQ(object.key.id, "tctl-p--ops-pagerduty");
    EXPECT_EQ(object.content["settings"]["integrationKey"], "[REDACTED]");
    EXPECT_EQ(object.secrets.at("integrationKey").reveal(), "s3cret");
  }
  EXPECT_TRUE(found);
}

TEST(Compile, WithoutTheSecretItIsAnErrorOrLeftOutOrKept) {
  pack::Pack pack = with_rules({});
  pack.alertmanager.emplace();
  pack.alertmanager->document = Json::object();
  pack.alertmanager->root.receiver = "ops";
  pack.alertmanager->receivers = {
      {.name = "ops",
       .integrations = {{.kind = "pagerduty", .settings = {{"routing_key_file", "secrets/key"}}},
                        {.kind = "webhook", .settings = {{"url", "http://127.0.0.1/"}}}}}};
  const auto points = [&](const CompileOptions& options) {
    std::size_t count = 0, missing = 0;
    for (const auto& object : compile(pack, options).objects) {
      count += object.key.kind == Kind::contact_point ? 1 : 0;
      missing += object.missing.size();
    }
    return std::pair(count, missing);
  };
  CompileOptions options;
  EXPECT_EQ(points(options), std::pair(2UL, 1UL));
  options.notifications = Notifications::available;
  EXPECT_EQ(points(options), std::pair(1UL, 0UL));
  options.contact_points = {"tctl-p--ops-pagerduty"};
  EXPECT_EQ(points(options).first, 2U) << "what the server has needs no value here";
}

}  // namespace
}  // namespace tunnelctl::monitor
