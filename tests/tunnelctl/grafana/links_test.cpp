#include "tunnelctl/grafana/links.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace tunnelctl::grafana {
namespace {

using Json = nlohmann::json;
constexpr const char* kBase = "http://127.0.0.1:35000";

TEST(LinkTime, TakesWhatGrafanaTakesAndTurnsTheRestIntoIt) {
  struct Row {
    const char* given;
    const char* taken;  // "" if refused
  };
  const Row rows[] = {
      {"now", "now"},
      {"now-1h", "now-1h"},
      {"now-1d/d", "now-1d/d"},
      {"now/fQ", "now/fQ"},
      {"now-7d/w+1h", "now-7d/w+1h"},
      {"2026-01-01T00:00:00Z", "1767225600000"},
      {"2026-01-01T00:00:00+02:00", "1767218400000"},
      {"2026-01-01T00:00:00-05:30", "1767245400000"},
      {"2026-01-01T00:00:00.123Z", "1767225600123"},
      {"2026-01-01T00:00:00.1Z", "1767225600100"},
      {"2026-01-01T00:00:00.123456789Z", "1767225600123"},
      {"2026-01-01 00:00:00Z", "1767225600000"},
      {"2026-01-01", "1767225600000"},
      {"2026-01-01T00:00:00", "1767225600000"},
      {"15m", "now-15m"},
      {"-1h30m", "now-1h-30m"},
      {"1767225600000", "1767225600000"},
      {"1767225600", "1767225600000"},  // seconds
      {"", ""},
      {"yesterday", ""},
      {"now-", ""},
      {"now-1", ""},
      {"now-1x", ""},
      {"now-h", ""},
      {"nowadays", ""},
      {"500ms", ""},
      {"now-500ms", ""},
      {"1h30", ""},
      {"1969-12-31T23:59:59Z", ""},
      {"2026-02-30", ""},
      {"2026-13-01T00:00:00Z", ""},
      {"2026-01-01T25:00:00Z", ""},
      {"2026-01-01T00:00:00Zulu", ""},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.given);
    const auto taken = link_time(row.given);
    if (*row.taken == '\0') {
      ASSERT_FALSE(taken);
      EXPECT_EQ(taken.error().kind, Error::Kind::bad_input);
    } else {
      ASSERT_TRUE(taken) << taken.error().message;
      EXPECT_EQ(*taken, row.taken);
    }
  }
}

/// As the Grafana MCP server makes them, where those are right.
TEST(Links, LeadToDashboards) {
  struct Row {
    LinkOptions options;
    const char* tail;
  };
  const Row rows[] = {
      {{}, ""},
      {{.from = "now-1h", .to = "now"}, "?from=now-1h&to=now"},
      {{.from = "2026-01-01T00:00:00Z", .to = "2026-01-01T01:00:00Z"},
       "?from=1767225600000&to=1767229200000"},
      {{.from = "1767225600000", .to = "2026-01-01"}, "?from=1767225600000&to=1767225600000"},
      {{.vars = {{"job", "api server/α"}, {"env", "$__all"}}, .org = 2, .kiosk = true, .refresh = "10s"},
       "?kiosk&orgId=2&refresh=10s&var-env=%24__all&var-job=api+server%2F%CE%B1"},
      {{.from = "now-6h", .to = "now", .vars = {{"q", "a&b=c+d%20#x?"}}, .more = {{"theme", "light"}}},
       "?from=now-6h&to=now&theme=light&var-q=a%26b%3Dc%2Bd%2520%23x%3F"},
      {{.vars = {{"tier", "b"}, {"tier", "a"}}, .timezone = "utc"}, "?timezone=utc&var-tier=b&var-tier=a"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.tail);
    EXPECT_EQ(dashboard_link(kBase, "dash-1", row.options).value(),
              std::string(kBase) + "/d/dash-1" + row.tail);
  }
}

TEST(Links, EscapeUidsKeepSubPathsAndSlugs) {
  EXPECT_EQ(dashboard_link(kBase, "a b/c?d#e%f").value(), std::string(kBase) + "/d/a%20b%2Fc%3Fd%23e%25f");
  EXPECT_EQ(dashboard_link("https://public.example.com/grafana/", "dash-1").value(),
            "https://public.example.com/grafana/d/dash-1");
  EXPECT_EQ(dashboard_link(kBase, "dash-1", {}, "my-slug").value(), std::string(kBase) + "/d/dash-1/my-slug");
  EXPECT_EQ(dashboard_link("", "dash-1").value(), "/d/dash-1");
}

TEST(Links, LeadToPanels) {
  EXPECT_EQ(panel_link(kBase, "dash-1", 5).value(), std::string(kBase) + "/d/dash-1?viewPanel=5");
  EXPECT_EQ(
      panel_link(kBase, "dash-1", 5,
                 {.from = "2026-01-01T00:00:00Z", .to = "2026-01-01T01:00:00Z", .vars = {{"job", "api"}}})
          .value(),
      std::string(kBase) + "/d/dash-1?viewPanel=5&from=1767225600000&to=1767229200000&var-job=api");
}

TEST(Links, RefuseWhatLeadsNowhere) {
  EXPECT_FALSE(dashboard_link(kBase, ""));
  EXPECT_FALSE(dashboard_link(kBase, "x", {.from = "yesterday"}));
  EXPECT_FALSE(panel_link(kBase, "x", 1, {.to = "1x"}));
  EXPECT_FALSE(explore_link(kBase, "", {}));
  EXPECT_FALSE(alert_link(kBase, ""));
  EXPECT_FALSE(folder_link(kBase, ""));
}

/// The value of one parameter, decoded.
std::string parameter(const std::string& link, const std::string& key) {
  auto at = link.find("?" + key + "=");
  if (at == std::string::npos) at = link.find("&" + key + "=");
  if (at == std::string::npos) return {};
  at += key.size() + 2;
  std::string result;
  for (; at < link.size() && link[at] != '&'; ++at) {
    if (link[at] == '+')
      result += ' ';
    else if (link[at] == '%')
      result += static_cast<char>(std::stoi(link.substr(at + 1, 2), nullptr, 16)), at += 2;
    else
      result += link[at];
  }
  return result;
}

TEST(Links, LeadToExplore) {
  const ExploreTarget target{
      .datasource_uid = "loki-uid",
      .datasource_type = "loki",
      .queries = {{"A", "{app=\"api\"} |= `err & <b> é 日本`"}, {"B", "rate({a=\"b\"}[1m])"}}};
  const LinkOptions range{.from = "2026-01-01T00:00:00Z", .to = "2026-01-01T01:00:00Z", .org = 3};
  const auto link = explore_link(kBase, "12.4.0", target, range).value();
  EXPECT_TRUE(link.starts_with(std::string(kBase) + "/explore?panes=%7B%22a%22%3A")) << link;
  EXPECT_EQ(parameter(link, "schemaVersion"), "1");
  EXPECT_EQ(parameter(link, "orgId"), "3");
  EXPECT_EQ(link.find_first_of(" <>`\"{}|"), std::string::npos);
  const Json source{{"type", "loki"}, {"uid", "loki-uid"}};
  const Json pane{{"datasource", "loki-uid"},
                  {"queries", Json::array({{{"refId", "A"},
                                            {"expr", "{app=\"api\"} |= `err & <b> é 日本`"},
                                            {"datasource", source},
                                            {"queryType", "range"}},
                                           {{"refId", "B"},
                                            {"expr", "rate({a=\"b\"}[1m])"},
                                            {"datasource", source},
                                            {"queryType", "range"}}})},
                  {"range", {{"from", "1767225600000"}, {"to", "1767229200000"}}}};
  EXPECT_EQ(Json::parse(parameter(link, "panes")), (Json{{"a", pane}}));
}

TEST(Links, LeadToExploreAsTheVersionReadsIt) {
  struct Row {
    const char* version;
    const char* parameter;
  };
  const Row rows[] = {{"9.5.0", "left"},   {"10.1.5", "left"}, {"10.2.0", "panes"}, {"10.2.0-pre", "panes"},
                      {"12.4.0", "panes"}, {"", "panes"},      {"main", "panes"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.version);
    const auto link = explore_link(kBase, row.version, {"prom-uid", "prometheus", {{"A", "up"}}}).value();
    Json pane = Json::parse(parameter(link, row.parameter));
    if (std::string(row.parameter) == "panes") pane = pane["a"];
    EXPECT_EQ(pane["queries"][0]["expr"], "up");
    EXPECT_EQ(pane["queries"][0]["datasource"], (Json{{"type", "prometheus"}, {"uid", "prom-uid"}}));
    EXPECT_FALSE(pane.contains("range"));
    EXPECT_EQ(link.find("orgId"), std::string::npos);
  }
}

TEST(Links, GiveExploreBothEndsOfTheRange) {
  const auto link = explore_link(kBase, "", {"u", "", {}}, {.from = "now-6h"}).value();
  EXPECT_EQ(Json::parse(parameter(link, "panes"))["a"]["range"], (Json{{"from", "now-6h"}, {"to", "now"}}));
}

TEST(Links, LeadToRulesFoldersAndSilences) {
  EXPECT_EQ(alert_link(kBase, "r/1").value(), std::string(kBase) + "/alerting/grafana/r%2F1/view");
  EXPECT_EQ(folder_link(kBase, "f").value(), std::string(kBase) + "/dashboards/f/f");
  EXPECT_EQ(silence_link(kBase, {{"alertname", "Too Many"}, {"job", "a"}}),
            std::string(kBase) +
                "/alerting/silence/new?alertmanager=grafana&matcher=alertname%3DToo+Many&matcher=job%3Da");
}

TEST(Links, GiveThePathThatTheShortenerWants) {
  EXPECT_EQ(short_path("https://x.example/grafana", "https://x.example/grafana/d/a?from=now-1h").value(),
            "d/a?from=now-1h");
  EXPECT_FALSE(short_path("https://x.example/grafana", "https://y.example/d/a"));
}

}  // namespace
}  // namespace tunnelctl::grafana
