#include "tunnelctl/monitor/guide.h"

#include <gmock/gmock.h>

#include "tunnelctl/pack/pack.h"

namespace tunnelctl::monitor {
namespace {

using testing::HasSubstr;
using testing::Not;

pack::Rule alert(const std::string& name, const std::string& severity, const std::string& expr) {
  return {.alert = name,
          .expr = expr,
          .hold = std::chrono::minutes(5),
          .labels = {{"severity", severity}, {"service", "tunneld"}},
          .annotations = {{"summary", "{{ $value | humanizePercentage }} | fail"},
                          {"runbook_url", "runbooks/tunnel/" + name + ".md"},
                          {"dashboard_uid", "tunnel-errors"},
                          {"panel_id", "5"}}};
}

pack::Pack demo() {
  pack::Pack pack;
  pack.name = "tunnel";
  pack.title = "Tunnel Monitoring";
  pack.folder_uid = "tunnel-monitoring";
  pack.folder_title = "Tunnel [Monitoring]";
  pack.runbook_prefix = "runbooks/tunnel/";
  pack.runbooks = {{.name = "Ratio", .title = "Ratio"}, {.name = "Down", .title = "Down"}};
  for (const std::string name : {"health", "performance", "errors"}) {
    pack::Dashboard dashboard{.uid = "tunnel-" + name, .title = "Tunnel " + name};
    dashboard.json = {
        {"time", {{"from", "now-1h"}, {"to", "now"}}},
        {"description", "What it shows."},
        {"templating",
         {{"list", pack::Json::array({{{"type", "datasource"}, {"name", "loki"}, {"query", "loki"}},
                                      {{"type", "query"}, {"name", "user_tier"}, {"query", "x"}}})}}},
        {"panels", pack::Json::array(
                       {{{"id", 1}, {"type", "row"}, {"title", "Row"}},
                        {{"id", 5}, {"type", "timeseries"}, {"title", "Errors | all"}},
                        {{"id", 6},
                         {"type", "logs"},
                         {"title", "Lines"},
                         {"targets",
                          pack::Json::array({{{"refId", "A"},
                                              {"expr", "{service=\"tunneld\"} |= `a b`"},
                                              {"datasource", {{"type", "loki"}, {"uid", "${loki}"}}}}})}}})}};
    pack.dashboards.push_back(std::move(dashboard));
  }
  pack.rule_files = {{.groups = {{.name = "g",
                                  .rules = {alert("Slow", "warning",
                                                  "histogram_quantile(0.9, sum by (le) (x_bucket)) > 0.2"),
                                            alert("Ratio", "critical", "a / b > 0.05"),
                                            alert("Down", "critical", "absent(up{job=\"a|b\"}) > 0"),
                                            {.record = "job:x:y", .expr = "sum(x)"}}}}}};
  pack::Alertmanager all;
  all.path = "alertmanager.yaml";
  all.root.receiver = "team";
  pack::Route critical{
      .receiver = "pager", .matchers = {{"severity", "=", "critical"}}, .repeat_interval = "1h"};
  all.root.routes = {critical};
  all.receivers = {
      {.name = "pager", .integrations = {{.kind = "pagerduty"}, {.kind = "slack"}}},
      {.name = "team", .integrations = {{.kind = "slack", .settings = {{"channel", "#tunnel"}}}}}};
  pack.alertmanager = std::move(all);
  return pack;
}

std::string text(const GuideOptions& options, const std::vector<pack::Pack>& packs = {demo()}) {
  const auto made = guide(packs, options);
  if (!made) ADD_FAILURE() << made.error().message;
  return made.value_or("");
}

const GuideOptions kOptions{
    .grafana_url = "https://grafana.example.com/g", .grafana_version = "12.4.0", .org = 2};

TEST(Guide, LinksEveryDashboardWithARangeThatFits) {
  const auto it = text(kOptions);
  EXPECT_THAT(it, HasSubstr("https://grafana.example.com/g/d/tunnel-health?from=now-1h&to=now&orgId=2"));
  EXPECT_THAT(it, HasSubstr("https://grafana.example.com/g/d/tunnel-performance?from=now-6h&to=now&orgId=2"));
  EXPECT_THAT(it, HasSubstr("https://grafana.example.com/g/d/tunnel-errors?from=now-24h&to=now&orgId=2"));
  EXPECT_THAT(it, HasSubstr("https://grafana.example.com/g/dashboards/f/tunnel-monitoring"));
}

TEST(Guide, LinksEveryPanelButNoRow) {
  const auto it = text(kOptions);
  EXPECT_THAT(
      it,
      HasSubstr("- [Errors \\| all](https://grafana.example.com/g/d/tunnel-errors?viewPanel=5&from=now-24h"));
  EXPECT_THAT(it, Not(HasSubstr("viewPanel=1&")));
}

TEST(Guide, TellsOfEachAlertWhenHowLongWhereAndWho) {
  const auto it = text(kOptions);
  EXPECT_THAT(it, HasSubstr("| Ratio | critical | `a / b` is above 5 % | 5m | [Errors \\| all]("));
  EXPECT_THAT(it, HasSubstr("[what to do](https://grafana.example.com/g/d/tunnel-runbooks?viewPanel=1) | "
                            "pager (pagerduty, slack) |"));
  EXPECT_THAT(it, HasSubstr("team (slack) |"));
  EXPECT_THAT(it, Not(HasSubstr("job:x:y")));
  // What wakes people comes first.
  EXPECT_LT(it.find("| Down | critical"), it.find("| Ratio | critical"));
  EXPECT_LT(it.find("| Ratio | critical"), it.find("| Slow | warning"));
}

TEST(Guide, KeepsTablesWhole) {
  const auto it = text(kOptions);
  for (std::size_t at = 0; at < it.size();) {
    const auto end = it.find('\n', at);
    const std::string line = it.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with("| Down | critical")) continue;
    std::size_t bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i)
      bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\') ? 1 : 0;
    EXPECT_EQ(bars, 8U) << line;
    return;
  }
  FAIL() << "no such line";
}

TEST(Guide, ShowsTheRoutesAndHowToSilence) {
  const auto it = text(kOptions);
  EXPECT_THAT(
      it,
      HasSubstr(
          "- everything goes to **team**\n  - `severity=\"critical\"` goes to **pager**; again after 1h\n"));
  EXPECT_THAT(it, HasSubstr("- **team**: slack `#tunnel`"));
  EXPECT_THAT(
      it,
      HasSubstr(
          "/alerting/silence/new?alertmanager=grafana&matcher=alertname%3DRatio&matcher=service%3Dtunneld"));
  EXPECT_THAT(it, HasSubstr("amtool silence add --duration=1h"));
}

TEST(Guide, OpensLogsInExploreWhereTheDataSourceIsKnown) {
  EXPECT_THAT(text(kOptions), Not(HasSubstr("/explore")));
  auto options = kOptions;
  options.datasources = {{"loki", {"uid-of-loki", "Loki", "loki"}}};
  EXPECT_THAT(text(options), HasSubstr("[Lines in Explore](https://grafana.example.com/g/explore?panes="));
  options.grafana_version = "9.5.0";
  EXPECT_THAT(text(options), HasSubstr("[Lines in Explore](https://grafana.example.com/g/explore?left="));
}

TEST(Guide, SaysHowLinksWithVariablesAreMade) {
  EXPECT_THAT(text(kOptions), HasSubstr("/d/tunnel-health?from=now-1h&to=now&orgId=2&var-user_tier=VALUE\n"));
}

TEST(Guide, LeadsToRunbooksElsewhere) {
  auto options = kOptions;
  options.runbook_url = "https://runbooks.example.com/tunnel";
  EXPECT_THAT(text(options), HasSubstr("[what to do](https://runbooks.example.com/tunnel/Ratio.md)"));
}

TEST(Guide, IsTheSameEachTime) {
  EXPECT_EQ(text(kOptions), text(kOptions));
}

TEST(Guide, TellsOfSeveralPacks) {
  auto other = demo();
  other.title = "Other";
  const auto it = text(kOptions, {demo(), other});
  EXPECT_THAT(it, HasSubstr("\n# Tunnel Monitoring\n"));
  EXPECT_THAT(it, HasSubstr("\n# Other\n"));
}

TEST(Guide, RefusesARangeThatLeadsNowhere) {
  auto options = kOptions;
  options.ranges["tunnel-health"] = "6 hours";
  const auto made = guide({demo()}, options);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().kind, Error::Kind::bad_input);
}

TEST(Guide, PutsConditionsIntoWords) {
  struct Row {
    const char* expr;
    const char* summary;
    const char* words;
  };
  const Row rows[] = {
      {"x > 0.05", "{{ $value | humanizePercentage }}", "`x` is above 5 %"},
      {"x >= 0.2", "{{ $value | humanizeDuration }}", "`x` is at least 200 ms"},
      {"x - time() < 1209600", "{{ $value | humanizeDuration }}", "`x - time()` is below 14 days"},
      {"100 < x", "", "`x` is above 100"},
      {"up == 0", "", "`up` is equal to 0"},
      {"absent(up) > 0", "", "there is no such series: `absent(up)`"},
      {"a and b > 1", "", "`a and b > 1`"},
      {"(\n  a\n    + b\n) > 1", "", "`( a + b )` is above 1"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.expr);
    EXPECT_EQ(condition_in_words({.alert = "A", .expr = row.expr, .annotations = {{"summary", row.summary}}}),
              row.words);
  }
}

}  // namespace
}  // namespace tunnelctl::monitor
