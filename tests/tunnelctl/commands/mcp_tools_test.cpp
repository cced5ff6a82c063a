#include "tunnelctl/commands/mcp_tools.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunnelctl/commands/call.h"
#include "tunnelctl/commands/command_line.h"
#include "tunnelctl/mcp/schema.h"
#include "tunnelctl/mcp/server.h"

namespace tunnelctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const CommandTool& tool(std::string_view name) {
  static const auto all = command_tools();
  for (const auto& one : all)
    if (name == one.name) return one;
  throw std::out_of_range(std::string(name));
}

/// The words for arguments that an assistant gave; what is wrong with them as "wrong: ...".
std::vector<std::string> words(std::string_view name, const char* arguments) {
  const auto checked = mcp::checked_arguments(schema_of(tool(name)), Json::parse(arguments));
  if (!checked) return {"wrong: " + checked.error().message};
  const auto line = command_line_of(tool(name), *checked);
  if (!line) return {"wrong: " + line.error().message};
  return line->all();
}

/// What the parser says of the words; nothing when they make sense.
std::string parser_says(const std::vector<std::string>& line) {
  std::ostringstream out, err;
  Session session(out, err, {}, {});
  Chosen chosen;
  const auto ended = parse(line, session, chosen);
  return ended ? out.str() + err.str() + "." : "";
}

TEST(McpTools, EachMakesACommandLineThatTheCommandsTake) {
  for (const auto& one : command_tools()) {
    SCOPED_TRACE(one.name);
    const auto schema = schema_of(one);
    const auto sample = mcp::checked_arguments(schema, Json::parse(one.sample));
    ASSERT_TRUE(sample) << sample.error().message;
    const auto line = command_line_of(one, *sample);
    ASSERT_TRUE(line) << line.error().message;
    EXPECT_THAT(parser_says(line->all()), IsEmpty()) << testing::PrintToString(line->all());
  }
}

TEST(McpTools, EveryOptionOfTheTableExists) {
  CLI::App app;
  Globals globals;
  Chosen chosen;
  build(app, globals, chosen);
  for (const auto& one : command_tools()) {
    SCOPED_TRACE(one.name);
    const CLI::App* command = &app;
    std::istringstream path{std::string(one.command)};
    for (std::string word; path >> word;) command = command->get_subcommand(word);
    std::vector<std::string> options(one.always.begin(), one.always.end());
    for (const auto& argument : one.arguments)
      if (argument.to != nullptr && *argument.to != '\0') options.emplace_back(argument.to);
    for (const auto& option : options)
      EXPECT_NE(command->get_option_no_throw(option.substr(0, option.find('='))), nullptr) << option;
  }
}

TEST(McpTools, HaveNamesOfTheirOwnAndSayWhatTheyDoInAFewWords) {
  std::set<std::string> names;
  for (const auto& one : command_tools()) {
    SCOPED_TRACE(one.name);
    EXPECT_TRUE(names.insert(one.name).second);
    EXPECT_THAT(one.name, testing::MatchesRegex("[a-z][a-z0-9_]{2,50}"));
    EXPECT_THAT(std::string(one.description), testing::MatchesRegex("[A-Z].*\\."));
    EXPECT_LT(std::string_view(one.description).size(), 120U);
    std::set<std::string> arguments;
    for (const auto& argument : one.arguments) EXPECT_TRUE(arguments.insert(argument.name).second);
  }
}

TEST(McpTools, TheirListStaysSmall) {
  std::vector<mcp::Tool> tools;
  for (const auto& one : command_tools())
    tools.push_back(
        {.name = one.name, .description = one.description, .schema = schema_of(one), .effect = one.effect});
  const mcp::Server server({}, std::move(tools), [](const std::string&) {});
  const auto bytes = server.tool_list().dump().size();
  RecordProperty("bytes", static_cast<int>(bytes));
  EXPECT_LT(bytes, 32U * 1024) << "every assistant pays for it in every conversation";
}

TEST(McpTools, NoValueBecomesAnOptionOrAFile) {
  EXPECT_THAT(words("get_dashboard_by_uid", R"({"uid": "--insecure"})"),
              ElementsAre("dashboard", "get", "--meta", "--", "--insecure"));
  EXPECT_THAT(words("list_datasources", R"({"type": "--config=/etc/passwd"})"),
              ElementsAre("datasource", "list", "--type=--config=/etc/passwd", "--limit=50"));
  EXPECT_THAT(words("get_datasource", R"({"uid": "-o"})"), ElementsAre("datasource", "get", "--", "-o"));
  EXPECT_THAT(words("check_datasources_health", R"({"uids": ["--", "--type"]})"),
              ElementsAre("datasource", "check", "--", "--", "--type"));
  EXPECT_THAT(words("find_error_pattern_logs", R"({"logql": "-"})"), ElementsAre(HasSubstr("wrong: ")));
  for (const char* pack : {"../secrets", ".", "/etc", "nonsense"})
    EXPECT_THAT(words("monitor_plan", Json{{"packs", {pack}}}.dump().c_str()),
                ElementsAre(HasSubstr("wrong: packs: there is no pack")));
  EXPECT_THAT(words("explain_error_code", "{\"code\": \"a\\u0000b\"}"), ElementsAre(HasSubstr("zero byte")));
}

TEST(McpTools, ValuesArriveAtTheCommandAsTheyWereSaid) {
  const char* values[] = {"-",  "--", "-h",    "--help", "--type=x", "a b", "[a,b]", "[[]]",
                          "{}", "%%", "\"q\"", "'",      "a\nb",     "=",   "a=b",   "\xc3\xa9"};
  for (const char* value : values) {
    SCOPED_TRACE(value);
    CommandTool explain = tool("explain_error_code");
    const auto line = command_line_of(explain, {{"code", value}});
    ASSERT_TRUE(line);
    const auto ended = support::call(line->all());
    EXPECT_EQ(ended.status, ExitStatus::bad_input) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("no error has the code")) << ended.err;
  }
}

// As guides that were written for Grafana's own server have them.
TEST(McpTools, CallsThatWereWrittenForGrafanasServerAreTaken) {
  const struct {
    const char *tool, *arguments;
    std::vector<std::string> line;
  } rows[] = {
      {"list_prometheus_metric_names",
       R"({"datasourceUid": "p", "regex": "tunnel_.*", "page": 1})",
       {"metrics", "names", "--datasource=p", "--match=tunnel_.*", "--limit=100"}},
      {"query_prometheus",
       R"x({"datasourceUid": "p", "expr": "rate(tunnel_errors_total[5m])", "queryType": "instant", "projectName": "x"})x",
       {"metrics", "query", "--datasource=p", "--limit=50", "--", "rate(tunnel_errors_total[5m])"}},
      {"list_prometheus_label_names",
       R"({"matches": [{"filters": [{"name": "job", "type": "=", "value": "api"},
                                    {"name": "env", "type": "!~", "value": "d'e\"v"}]}]})",
       {"metrics", "labels", R"(--match={job="api", env!~"d'e\"v"})", "--limit=100"}},
      {"query_loki_logs",
       R"({"datasourceUid": "l", "logql": "{service=\"streaming-proxy\"} |= \"error\"", "limit": 100, "format": "full"})",
       {"logs", "query", "--datasource=l", "--limit=100", "--", R"({service="streaming-proxy"} |= "error")"}},
      {"find_error_pattern_logs",
       R"({"name": "Incident Analysis", "labels": {"service": "streaming-proxy"},
           "start": "2026-01-31T09:30:00.000Z", "end": "2026-01-31T10:00:00.000Z"})",
       {"logs", "patterns", "--from=2026-01-31T09:30:00.000Z", "--to=2026-01-31T10:00:00.000Z", "--top=20",
        "--server-patterns=never", "--samples", "--",
        R"({service="streaming-proxy"} |~ "(?i)error|fatal|panic|exception|fail|critical")"}},
      {"create_dashboard",
       R"({"dashboard": {"title": "Tunnel Errors", "tags": ["tunnel"], "panels": []},
           "folderUid": "tunnel-monitoring", "overwrite": true})",
       {"dashboard", "create", "--folder=tunnel-monitoring", "--force", "--uid=tunnel-errors", "--", "-"}},
      {"create_alert_rule",
       R"({"title": "Tunnel Error Rate High", "ruleGroup": "tunnel-alerts", "folderUID": "tunnel-monitoring",
           "condition": "A", "data": [{"refId": "A", "queryType": "range", "datasourceUid": "p",
           "model": {"expr": "rate(tunnel_errors_total[5m]) > 0.05", "interval": "1m"}}],
           "noDataState": "NoData", "execErrState": "Alerting", "for": "5m", "orgID": 1,
           "annotations": {"description": "d"}, "labels": {"severity": "critical"}})",
       {"alert", "create", "--", "-"}},
      {"create_incident",
       R"({"title": "Tunnel Circuit Breaker Open", "severity": "critical", "roomPrefix": "tunnel",
           "status": "active",
           "labels": [{"key": "component", "label": "circuit-breaker"}, {"key": "severity", "label": "critical"},
                      {"key": "auto-created", "label": "true"}],
           "attachUrl": "https://grafana.example.com/d/tunnel-health", "attachCaption": "Tunnel Health Dashboard"})",
       {"incident", "create", "--title=Tunnel Circuit Breaker Open", "--severity=critical",
        "--label=component=circuit-breaker", "--label=severity=critical", "--label=auto-created=true",
        "--room-prefix=tunnel", "--attach=https://grafana.example.com/d/tunnel-health",
        "--attach-caption=Tunnel Health Dashboard"}},
      {"create_incident",
       R"({"title": "t", "severity": "Major", "labels": [{"key": "", "label": "db"}, {"label": "a=b"}, "x=y"],
           "attachUrl": "https://a/?p=95", "attachCaption": "p=95"})",
       {"incident", "create", "--title=t", "--severity=major", "--label=db", "--label=a=b", "--label=x=y",
        "--attach=https://a/?p=95", "--attach-caption=p=95"}},
      {"update_incident",
       R"({"incidentId": "77", "status": "active", "severity": "minor", "title": "T2"})",
       {"incident", "update", "--title=T2", "--severity=minor", "--status=active", "--", "77"}},
      {"add_activity_to_incident",
       R"({"incidentId": "77", "body": "\nCircuit breaker opened\n", "eventTime": "2026-01-31T10:00:00.000Z"})",
       {"incident", "note", "--at=2026-01-31T10:00:00.000Z", "--", "77", "\nCircuit breaker opened\n"}},
      {"list_incidents",
       R"({"status": "active", "limit": 10})",
       {"incident", "list", "--status=active", "--limit=10"}},
      {"list_contact_points", "{}", {"contact-point", "list", "--limit=100"}},
      {"generate_deeplink",
       R"({"resourceType": "dashboard", "dashboardUid": "d", "timeRange": {"from": 1767225600000, "to": "now"}})",
       {"link", "dashboard", "--from=1767225600000", "--to=now", "--", "d"}},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.tool) + " " + row.arguments);
    EXPECT_EQ(words(row.tool, row.arguments), row.line);
    EXPECT_THAT(parser_says(row.line), IsEmpty());
  }
}

TEST(McpTools, WhatWouldBeAnotherCallIsRefused) {
  const struct {
    const char *tool, *arguments, *why;
  } rows[] = {
      {"search_dashboards", R"({"page": 2})", "page is 2 but must be one of: 1"},
      {"list_datasources", R"({"offset": 50})", "offset is 50 but must be one of: 0"},
      {"create_incident", R"({"title": "t", "severity": "info", "status": "resolved"})",
       "status is \"resolved\" but must be one of: active"},
      {"create_incident", R"({"title": "t", "severity": "info", "labels": [{"key": "a"}]})",
       "labels: must be [{\"key\""},
      {"create_incident", R"({"title": "t", "severity": "info", "labels": 5})",
       "--label=5"},  // one word, as a tag
      {"list_prometheus_label_names", R"({"matches": [{"filters": []}]})", "matches: must be"},
      {"list_prometheus_label_names", R"({"matches": [{"filters": [{"name": "a b", "value": "c"}]}]})",
       "matches: must be"},
      {"list_prometheus_label_names",
       R"({"matches": [{"filters": [{"name": "a", "type": "==", "value": "c"}]}]})", "matches: must be"},
      {"generate_deeplink",
       R"({"resourceType": "dashboard", "dashboardUid": "d", "timeRange": {"from": true}})",
       "timeRange: has from and to"},
      {"generate_deeplink",
       R"({"resourceType": "dashboard", "dashboardUid": "d", "timeRange": {"since": "now-1h"}})",
       "timeRange: has from and to"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.tool) + " " + row.arguments);
    EXPECT_THAT(words(row.tool, row.arguments), testing::Contains(HasSubstr(row.why)));
  }
}

TEST(McpTools, WhatIsNotUsedIsSaidAndGoesNowhere) {
  const Json rule{{"title", "t"}, {"orgID", 2}};
  const auto line = command_line_of(tool("create_alert_rule"), rule);
  ASSERT_TRUE(line);
  EXPECT_FALSE(Json::parse(line->input).contains("orgID"));
  EXPECT_EQ(outcome_of(tool("create_alert_rule"), rule, ExitStatus::ok, "{}", "").notes, "orgID: not used");
  EXPECT_EQ(outcome_of(tool("find_error_pattern_logs"), {{"name", "n"}}, ExitStatus::ok, "{}",
                       "tunnelctl: warning: w\n")
                .notes,
            "warning: w\nname: not used");
  EXPECT_EQ(outcome_of(tool("search_dashboards"), {{"page", 1}}, ExitStatus::ok, "{}", "").notes, "")
      << "the first page is what it gets";
}

TEST(McpTools, PacksAreTheShippedOnesAndNeverAFolderThatIsCalledSo) {
  const auto here = std::filesystem::current_path();
  const auto elsewhere = std::filesystem::temp_directory_path() / ("mcp-packs-" + std::to_string(::getpid()));
  std::filesystem::create_directories(elsewhere / "tunnel");
  std::ofstream(elsewhere / "tunnel" / "pack.yaml") << "apiVersion: tunnelctl/v1\n";
  std::filesystem::current_path(elsewhere);
  for (const char* arguments : {"{}", R"({"packs": ["tunnel"]})"}) {
    const auto line = words("monitor_plan", arguments);
    ASSERT_EQ(line.size(), 4U) << testing::PrintToString(line);
    EXPECT_TRUE(std::filesystem::path(line[3]).is_absolute()) << line[3];
    EXPECT_FALSE(std::filesystem::equivalent(line[3], elsewhere / "tunnel"));
  }
  std::filesystem::current_path(here);
  std::filesystem::remove_all(elsewhere);
}

TEST(McpTools, QueriesChooseTheVerb) {
  const struct {
    const char *tool, *arguments;
    std::vector<std::string> line;
  } rows[] = {
      {"query_prometheus", R"({"expr": "up"})", {"metrics", "query", "--limit=50", "--", "up"}},
      {"query_prometheus",
       R"({"expr": "up", "endTime": "now-1d"})",
       {"metrics", "query", "--limit=50", "--at=now-1d", "--", "up"}},
      {"query_prometheus",
       R"({"expr": "up", "startTime": "now-2h"})",
       {"metrics", "range", "--limit=50", "--from=now-2h", "--", "up"}},
      {"query_prometheus",
       R"({"expr": "up", "queryType": "range", "stepSeconds": "60"})",
       {"metrics", "range", "--limit=50", "--step=60", "--", "up"}},
      {"query_prometheus",
       R"({"expr": "up", "queryType": "instant", "stepSeconds": 60})",
       {"wrong: startTime and stepSeconds go with queryType range"}},
      {"query_loki_logs",
       R"({"logql": "{a=\"b\"}", "direction": "forward"})",
       {"logs", "query", "--limit=20", "--forward", "--", "{a=\"b\"}"}},
      {"query_loki_logs",
       R"x({"logql": "rate({a=\"b\"}[1m])", "stepSeconds": 60})x",
       {"logs", "range", "--limit=20", "--step=60", "--", "rate({a=\"b\"}[1m])"}},
      {"query_loki_logs",
       R"x({"logql": "rate({a=\"b\"}[1m])", "queryType": "instant"})x",
       {"logs", "query", "--limit=20", "--", "rate({a=\"b\"}[1m])"}},
      {"find_error_pattern_logs",
       R"({"labels": {"app": "a\"b\\"}})",
       {"logs", "patterns", "--top=20", "--server-patterns=never", "--samples", "--",
        R"({app="a\"b\\"} |~ "(?i)error|fatal|panic|exception|fail|critical")"}},
      {"find_error_pattern_logs",
       R"({"labels": {"a}": "b"}})",
       {"wrong: labels: a name is made of a-z, 0-9 and _"}},
      {"search_dashboards", "{}", {"dashboard", "list", "--limit=50"}},
      {"search_dashboards", R"({"query": "", "tags": []})", {"dashboard", "list", "--limit=50"}},
      {"search_dashboards", R"({"query": "a b"})", {"dashboard", "search", "--limit=50", "--", "a b"}},
      {"list_alert_rules",
       R"({"labels": {"team": "a", "n": 1}})",
       {"alert", "list", "--label=n=1", "--label=team=a", "--limit=100"}},
      {"delete_alert_rule", R"({"uid": "u"})", {"alert", "delete", "--yes", "--", "u"}},
      {"generate_deeplink",
       R"({"resourceType": "explore", "datasourceUid": "p", "queries": [{"refId": "A", "expr": "up"}]})",
       {"link", "explore", "--query=up", "--", "p"}},
      {"generate_deeplink",
       R"({"resourceType": "panel", "dashboardUid": "d"})",
       {"wrong: panelId is required for resourceType panel"}},
      {"update_alert_group",
       R"({"alertGroupId": "I", "state": "unresolved"})",
       {"alert", "ack", "--resolve", "--undo", "--", "I"}},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.tool) + " " + row.arguments);
    EXPECT_EQ(words(row.tool, row.arguments), row.line);
    const bool makes_sense = row.line.size() > 1;
    EXPECT_EQ(makes_sense ? parser_says(row.line) : "", "");
  }
}

TEST(McpTools, JsonGoesInAsStandardInput) {
  const auto line = command_line_of(tool("update_dashboard"),
                                    {{"dashboard", {{"uid", "u"}, {"title", "T"}}}, {"overwrite", true}});
  ASSERT_TRUE(line);
  EXPECT_THAT(line->all(), ElementsAre("dashboard", "create", "--force", "--", "-"));
  EXPECT_EQ(Json::parse(line->input), Json({{"uid", "u"}, {"title", "T"}}));
  const auto change = command_line_of(tool("update_alert_rule"), {{"uid", "u"}, {"for", "10m"}});
  ASSERT_TRUE(change);
  EXPECT_THAT(change->all(), ElementsAre("alert", "update", "--", "u", "-"));
  EXPECT_EQ(Json::parse(change->input), Json({{"for", "10m"}}));
}

TEST(McpTools, OutcomesTellFailuresFromAnswers) {
  const struct {
    const char* tool;
    ExitStatus status;
    const char *out, *err;
    const char *text, *notes;
    bool failed;
  } rows[] = {
      {"list_datasources", ExitStatus::ok, "{}\n", "", "{}", "", false},
      {"list_datasources", ExitStatus::ok, "{}\n", "tunnelctl: warning: only some\n", "{}",
       "warning: only some", false},
      {"list_datasources", ExitStatus::unavailable, "", "tunnelctl: https://g: refused\n",
       "https://g: refused\nexit status 69", "", true},
      {"list_datasources", ExitStatus::failure, "{}\n", "", "{}", "exit status 1", true},
      {"tunnel_status", ExitStatus::failure, "{\"ready\": false}\n", "", "{\"ready\": false}", "", false},
      {"tunnel_status", ExitStatus::failure, "", "tunnelctl: no\n", "no\nexit status 1", "", true},
      {"monitor_plan", ExitStatus::changes, "{\"changes\": 3}", "", "{\"changes\": 3}", "", false},
      {"tunnel_events", ExitStatus::ok, "{\"id\":1}\n{\"id\":2}\n", "",
       "{\"events\":[{\"id\":1},{\"id\":2}]}", "", false},
      {"tunnel_events", ExitStatus::ok, "", "", "{\"events\":[]}", "", false},
      {"tunnel_events", ExitStatus::unavailable, "", "tunnelctl: http://d: refused\n",
       "http://d: refused\nexit status 69", "", true},
      {"delete_alert_rule", ExitStatus::ok, "", "", "done", "", false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.tool) + " " + row.out + row.err);
    const auto outcome = outcome_of(tool(row.tool), Json::object(), row.status, row.out, row.err);
    EXPECT_EQ(outcome.text, row.text);
    EXPECT_EQ(outcome.notes, row.notes);
    EXPECT_EQ(outcome.failed, row.failed);
  }
}

TEST(McpTools, PanelQueriesHaveVariablesFilledIn) {
  const char* summary = R"({"title": "Board", "panels": [
    {"id": "4", "title": "Up", "queries": [{"ref": "A", "query": "up{job=\"$job\", x=\"${job}\", y=\"[[job]]\", z=\"$jobs\"}"}]},
    {"id": "5", "title": "Other", "queries": [{"ref": "A", "query": "down"}, {"ref": "B", "query": "b"}]}]})";
  const auto shaped = [&](const Json& arguments) {
    return Json::parse(outcome_of(tool("get_dashboard_panel_queries"), arguments, ExitStatus::ok, summary, "")
                           .text)["queries"];
  };
  EXPECT_EQ(shaped({{"uid", "u"}}).size(), 3U);
  EXPECT_EQ(shaped({{"uid", "u"}, {"panelId", "5"}}).size(), 2U);
  const auto filled = shaped({{"panelId", "4"}, {"variables", {{"job", "$job$job"}}}});
  ASSERT_EQ(filled.size(), 1U);
  EXPECT_EQ(filled[0]["panel_id"], "4");
  EXPECT_EQ(filled[0]["processed_query"], R"(up{job="$job$job", x="$job$job", y="$job$job", z="$jobs"})");
}

}  // namespace
}  // namespace tunnelctl
