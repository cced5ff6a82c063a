#include "tunnelctl/export/export.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "tests/support/scripted_api.h"
#include "tunnelctl/monitor/compile.h"
#include "tunnelctl/monitor/normalise.h"

namespace tunnelctl::exporting {
namespace {

using monitor::Kind;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "export_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

monitor::CompileOptions compile_options() {
  monitor::CompileOptions result;
  result.grafana_url = "https://grafana.example.com";
  result.datasources = {{"datasource", {"prom-uid", "Prometheus", "prometheus"}},
                        {"loki", {"loki-uid", "Loki", "loki"}}};
  result.secret = [](const pack::SecretSource&) { return ::Secret("x"); };
  return result;
}

Json datasources() {
  return Json::array(
      {{{"uid", "prom-uid"}, {"name", "Prometheus"}, {"type", "prometheus"}, {"isDefault", true}},
       {{"uid", "loki-uid"}, {"name", "Loki"}, {"type", "loki"}},
       {{"uid", "other-uid"}, {"name", "Other"}, {"type", "prometheus"}},
       {{"uid", "influx-uid"}, {"name", "Influx"}, {"type", "influxdb"}}});
}

/// What a server would show that holds these objects.
Snapshot server_with(const std::vector<monitor::Object>& objects) {
  Snapshot seen;
  seen.datasources = datasources();
  seen.policies = {{"receiver", "empty"}, {"routes", Json::array()}};
  for (const auto& object : objects) {
    switch (object.key.kind) {
      case Kind::folder: seen.folders.push_back(object.content); break;
      case Kind::dashboard: {
        Json dashboard = object.content;
        dashboard["id"] = 17;
        dashboard["version"] = 3;
        seen.dashboards.push_back({{"dashboard", dashboard}, {"meta", {{"folderUid", object.folder}}}});
        break;
      }
      case Kind::rule_group: seen.rule_groups.push_back(object.content); break;
      case Kind::contact_point: seen.contact_points.push_back(object.content); break;
      case Kind::template_group: seen.templates.push_back(object.content); break;
      case Kind::mute_timing: seen.mute_timings.push_back(object.content); break;
      case Kind::routes: seen.policies["routes"].push_back(object.content); break;
    }
  }
  return seen;
}

pack::Pack load(const Exported& exported, const fs::path& folder) {
  for (const auto& file : exported.files) {
    fs::create_directories((folder / file.path).parent_path());
    std::ofstream(folder / file.path, std::ios::binary) << file.text;
  }
  pack::Problems problems;
  auto loaded = pack::load(folder, problems);
  for (const auto& problem : problems) ADD_FAILURE() << pack::text(problem);
  if (!loaded) ADD_FAILURE() << loaded.error().message;
  return loaded.value_or(pack::Pack{});
}

std::string file(const Exported& exported, const std::string& path) {
  for (const auto& one : exported.files)
    if (one.path == path) return one.text;
  return {};
}

Exported exported(const Snapshot& seen, const ExportOptions& options) {
  auto result = pack_files(seen, options);
  if (!result) ADD_FAILURE() << result.error().message;
  return result.value_or(Exported{});
}

const ExportOptions kTunnel{.folders = {"tunnel-monitoring"}, .name = "tunnel"};

/// The shipped pack has about everything: text panels, logs, routes, templates, several receivers.
void expect_round_trip(const monitor::CompileOptions& options) {
  const auto folder = pack::find("tunnel");
  ASSERT_TRUE(folder) << folder.error().message;
  pack::Problems problems;
  const auto shipped = pack::load(*folder, problems);
  ASSERT_TRUE(shipped);
  const auto wanted = monitor::compile(*shipped, options);
  ASSERT_THAT(wanted.objects, Not(IsEmpty()));

  Folder temporary;
  const auto result = exported(server_with(wanted.objects), kTunnel);
  const auto again = monitor::compile(load(result, temporary.path()), options);
  ASSERT_EQ(again.objects.size(), wanted.objects.size());
  for (std::size_t i = 0; i < wanted.objects.size(); ++i) {
    const auto &a = wanted.objects[i], &b = again.objects[i];
    SCOPED_TRACE(std::string(monitor::name(a.key.kind)) + " " + a.key.id);
    EXPECT_EQ(a.key, b.key);
    for (const auto& difference : monitor::differences(a.content, b.content))
      ADD_FAILURE() << difference.path << ": " << difference.before.dump() << " -> "
                    << difference.after.dump();
  }
}

TEST(Export, OfACompiledPackCompilesToTheSame) {
  expect_round_trip(compile_options());
}

TEST(Export, OfACompiledPackWithRunbooksElsewhereCompilesToTheSame) {
  auto options = compile_options();
  options.runbook_url = "https://runbooks.example.com";
  expect_round_trip(options);
}

TEST(Export, GivesTheSameBytesEachTime) {
  Snapshot seen = server_with({});
  seen.folders = Json::array({{{"uid", "f"}, {"title", "F"}}});
  const ExportOptions options{.folders = {"f"}, .name = "p"};
  const auto a = exported(seen, options), b = exported(seen, options);
  ASSERT_EQ(a.files.size(), b.files.size());
  for (std::size_t i = 0; i < a.files.size(); ++i) EXPECT_EQ(a.files[i].text, b.files[i].text);
}

TEST(Export, RefusesANameThatNoPackMayHave) {
  EXPECT_FALSE(pack_files({}, {.folders = {"f"}, .name = "My Pack"}));
  EXPECT_FALSE(pack_files({}, {.folders = {}, .name = "p"}));
}

Json dashboard_by_hand() {
  return {
      {"uid", "mine"},
      {"id", 4},
      {"version", 9},
      {"iteration", 1700000000},
      {"title", "Mine"},
      {"tags", Json::array({"x", "tunnelctl:old"})},
      {"templating",
       {{"list", Json::array({{{"name", "job"},
                               {"type", "query"},
                               {"query", "label_values(up, job)"},
                               {"current", {{"value", "prod"}}},
                               {"options", Json::array({{{"value", "prod"}}})},
                               {"datasource", {{"type", "prometheus"}, {"uid", "prom-uid"}}}},
                              {{"name", "how_many"},
                               {"type", "custom"},
                               {"query", "1,2"},
                               {"current", {{"value", "1"}}}}})}}},
      {"panels",
       Json::array(
           {{{"id", 1},
             {"type", "timeseries"},
             {"datasource", "Prometheus"},
             {"targets",
              Json::array({{{"refId", "A"}, {"expr", "up"}, {"datasource", {{"uid", "other-uid"}}}}})}},
            {{"id", 2},
             {"type", "logs"},
             {"datasource", {{"type", "loki"}, {"uid", "loki-uid"}}},
             {"targets", Json::array({{{"refId", "A"}, {"expr", "{a=\"b\"}"}}})}},
            {{"id", 3}, {"type", "stat"}, {"datasource", {{"type", "influxdb"}, {"uid", "influx-uid"}}}},
            {{"id", 4}, {"type", "text"}, {"datasource", {{"type", "datasource"}, {"uid", "grafana"}}}}})}};
}

TEST(Export, LeavesWhatBelongsToOneServerBehind) {
  Snapshot seen = server_with({});
  seen.dashboards.push_back({{"dashboard", dashboard_by_hand()}});
  const auto result = exported(seen, {.folders = {"f"}, .name = "p"});
  const Json json = Json::parse(file(result, "dashboards/mine.json"));
  for (const char* key : {"id", "version", "iteration"}) EXPECT_FALSE(json.contains(key)) << key;
  EXPECT_EQ(json["tags"], Json::array({"x"}));
  const auto variable = [&](const std::string& name) {
    for (const Json& one : json["templating"]["list"])
      if (one["name"] == name) return one;
    return Json();
  };
  EXPECT_FALSE(variable("job").contains("current"));
  EXPECT_FALSE(variable("job").contains("options"));
  EXPECT_TRUE(variable("how_many").contains("current"));  // its author's choice
  EXPECT_EQ(variable("job")["datasource"]["uid"], "${datasource}");
}

TEST(Export, TurnsDataSourcesIntoVariablesAndSaysSo) {
  Snapshot seen = server_with({});
  seen.dashboards.push_back({{"dashboard", dashboard_by_hand()}});
  const auto result = exported(seen, {.folders = {"f"}, .name = "p"});
  const Json json = Json::parse(file(result, "dashboards/mine.json"));
  EXPECT_EQ(json["panels"][0]["datasource"], (Json{{"type", "prometheus"}, {"uid", "${datasource}"}}));
  EXPECT_EQ(json["panels"][0]["targets"][0]["datasource"],
            (Json{{"type", "prometheus"}, {"uid", "${datasource_2}"}}));
  EXPECT_EQ(json["panels"][1]["datasource"], (Json{{"type", "loki"}, {"uid", "${loki}"}}));
  EXPECT_EQ(json["panels"][2]["datasource"]["uid"], "influx-uid");
  EXPECT_EQ(json["panels"][3]["datasource"]["uid"], "grafana");
  EXPECT_THAT(result.notes, Contains(HasSubstr("prom-uid became the variable $datasource")));
  EXPECT_THAT(result.notes, Contains(HasSubstr("influx-uid (influxdb), which stays as it is")));
  Folder temporary;
  const auto loaded = load(result, temporary.path());
  ASSERT_EQ(loaded.datasources.size(), 3U);
  for (const auto& one : loaded.datasources)
    EXPECT_EQ(one.name, one.variable == "datasource_2" ? "Other" : "");
}

Json query_node(const std::string& ref, const std::string& expr, const std::string& uid = "prom-uid",
                bool instant = true) {
  return {{"refId", ref},
          {"datasourceUid", uid},
          {"relativeTimeRange", {{"from", 600}, {"to", 0}}},
          {"model", {{"refId", ref}, {"expr", expr}, {"instant", instant}, {"range", !instant}}}};
}
Json reduce_node(const std::string& of, const std::string& reducer = "last") {
  return {{"refId", "B"},
          {"datasourceUid", "__expr__"},
          {"model", {{"type", "reduce"}, {"expression", of}, {"reducer", reducer}}}};
}
Json threshold_node(const std::string& of, const std::string& type, double number) {
  return {{"refId", "C"},
          {"datasourceUid", "__expr__"},
          {"model",
           {{"type", "threshold"},
            {"expression", of},
            {"conditions",
             Json::array({{{"evaluator", {{"type", type}, {"params", Json::array({number})}}}}})}}}};
}
Json math_node(const std::string& expression) {
  return {{"refId", "C"},
          {"datasourceUid", "__expr__"},
          {"model", {{"type", "math"}, {"expression", expression}}}};
}
Json rule(std::vector<Json> data, const std::string& condition = "C") {
  return {{"uid", "u"},    {"title", "R"},       {"condition", condition}, {"data", std::move(data)},
          {"for", "5m0s"}, {"noDataState", "OK"}};
}

Exported with_rule(const Json& one) {
  Snapshot seen = server_with({});
  seen.rule_groups.push_back(
      {{"title", "My group"}, {"folderUid", "f"}, {"interval", 60}, {"rules", Json::array({one})}});
  return exported(seen, {.folders = {"f"}, .name = "p"});
}

TEST(Export, TurnsRulesIntoExpressions) {
  struct Row {
    Json rule;
    const char* expr;
  };
  const Row rows[] = {
      {rule({query_node("A", "x"), reduce_node("A"), threshold_node("B", "gt", 0.5)}), "x > 0.5"},
      {rule({query_node("A", "x"), threshold_node("A", "lte", -3)}), "x <= -3"},
      {rule({query_node("A", "x", "prom-uid", false), reduce_node("A"), threshold_node("B", "eq", 0)}),
       "x == 0"},
      // `and` binds weaker than `>`.
      {rule({query_node("A", "x and y"), reduce_node("A"), threshold_node("B", "gt", 1)}), "(x and y) > 1"},
      {rule({query_node("A", "x"), reduce_node("A"), math_node("$B > 5")}), "x > 5"},
      {rule({query_node("A", "x"), reduce_node("A"), math_node("${B} <= -1.5")}), "x <= -1.5"},
      {rule({query_node("A", "x > 1 and y"), reduce_node("A"), math_node("is_null($B) == 0")}),
       "x > 1 and y"},
      {rule({query_node("A", "x")}, "A"), "x != 0"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.expr);
    Folder temporary;
    const auto loaded = load(with_rule(row.rule), temporary.path());
    ASSERT_EQ(loaded.rule_files.size(), 1U);
    const auto& group = loaded.rule_files[0].groups.at(0);
    EXPECT_EQ(group.name, "My group");
    EXPECT_EQ(group.interval, std::chrono::seconds(60));
    EXPECT_EQ(group.rules.at(0).alert, "R");
    EXPECT_EQ(group.rules.at(0).expr, row.expr);
    EXPECT_EQ(group.rules.at(0).hold, std::chrono::minutes(5));
  }
}

TEST(Export, NamesTheRulesThatPrometheusCannotSay) {
  auto paused = rule({query_node("A", "x"), threshold_node("A", "gt", 1)});
  paused["isPaused"] = true;
  auto hysteresis = rule({query_node("A", "x"), threshold_node("A", "gt", 1)});
  hysteresis["data"][1]["model"]["conditions"][0]["unloadEvaluator"] = {{"type", "lt"},
                                                                        {"params", Json::array({0})}};
  auto past = rule({query_node("A", "x"), threshold_node("A", "gt", 1)});
  past["data"][0]["relativeTimeRange"]["to"] = 300;
  struct Row {
    Json rule;
    const char* why;
  };
  const Row rows[] = {
      {paused, "is paused"},
      {hysteresis, "recovery threshold"},
      {past, "in the past"},
      {rule({query_node("A", "x", "loki-uid"), threshold_node("A", "gt", 1)}), "no Prometheus (loki)"},
      {rule({query_node("A", "x"), threshold_node("A", "within_range", 1)}), "compares by within_range"},
      {rule(
           {query_node("A", "x", "prom-uid", false), reduce_node("A", "mean"), threshold_node("B", "gt", 1)}),
       "reduces a range by mean"},
      {rule({query_node("A", "x"), query_node("B", "y"), math_node("$A / $B > 5")}),
       "math expression $A/$B>5"},
      {rule({query_node("A", "x"), threshold_node("Z", "gt", 1)}), "names Z"},
      {rule({query_node("A", "x")}, ""), "has no condition"},
      {rule({query_node("A", "sum("), threshold_node("A", "gt", 1)}), "parse error"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.why);
    const auto result = with_rule(row.rule);
    EXPECT_THAT(result.notes, Contains(HasSubstr(row.why)));
    EXPECT_EQ(file(result, "rules/My-group.rules.yaml"), "");
  }
}

TEST(Export, TurnsGrafanasTextsIntoPrometheus) {
  auto one = rule({query_node("A", "x"), reduce_node("A"), threshold_node("B", "gt", 1)});
  one["labels"] = {{"severity", "critical"}, {"tunnelctl_pack", "old"}};
  one["annotations"] = {{"summary", "{{ $values.B.Value | humanize }} of {{ $labels.job }}"},
                        {"__dashboardUid__", "gone"},
                        {"__panelId__", "4"},
                        {"panel_url", "https://g.example/d/gone?viewPanel=4"}};
  one["noDataState"] = "Alerting";
  const auto result = with_rule(one);
  Folder temporary;
  const auto loaded = load(result, temporary.path());
  const auto& read = loaded.rule_files.at(0).groups.at(0).rules.at(0);
  EXPECT_EQ(read.labels, (pack::Texts{{"severity", "critical"}}));
  EXPECT_EQ(read.annotations, (pack::Texts{{"summary", "{{ $value | humanize }} of {{ $labels.job }}"}}));
  EXPECT_THAT(result.notes, Contains(HasSubstr("gone/4 is not exported")));
  EXPECT_THAT(result.notes, Contains(HasSubstr("noDataState Alerting is not kept")));
}

TEST(Export, KeepsNoSecret) {
  Snapshot seen = server_with({});
  seen.contact_points = Json::array(
      {{{"uid", "a"},
        {"name", "chat"},
        {"type", "slack"},
        {"settings", {{"url", "https://hooks.example/S3cr3t"}, {"recipient", "#x"}}}},
       {{"uid", "b"},
        {"name", "chat"},
        {"type", "pagerduty"},
        {"settings", {{"integrationKey", "[REDACTED]"}}}},
       {{"uid", "c"},
        {"name", "chat"},
        {"type", "webhook"},
        {"settings", {{"url", "https://x.example/?token=S3cr3t"}}}},
       {{"uid", "d"}, {"name", "chat"}, {"type", "discord"}, {"settings", {{"url", "S3cr3t"}}}},
       {{"uid", "e"}, {"name", "unused"}, {"type", "email"}, {"settings", {{"addresses", "a@x.example"}}}}});
  seen.policies = {
      {"receiver", "chat"},
      {"group_by", Json::array({"alertname"})},
      {"routes",
       Json::array({{{"receiver", "chat"},
                     {"object_matchers", Json::array({Json::array({"path", "=~", "C:\\\\.*\"x\""})})}}})}};
  const auto result = exported(seen, {.folders = {"f"}, .name = "p"});
  for (const auto& one : result.files) EXPECT_THAT(one.text, Not(HasSubstr("S3cr3t"))) << one.path;
  EXPECT_THAT(result.notes, Contains(HasSubstr("discord has no counterpart")));
  EXPECT_THAT(file(result, "alertmanager.yaml"), Not(HasSubstr("unused")));
  Folder temporary;
  const auto loaded = load(result, temporary.path());
  ASSERT_TRUE(loaded.alertmanager);
  EXPECT_EQ(loaded.secrets.size(), 3U);
  EXPECT_EQ(loaded.alertmanager->root.routes.at(0).matchers.at(0).value, "C:\\\\.*\"x\"");
  EXPECT_EQ(loaded.alertmanager->receivers.at(0).integrations.size(), 3U);
}

TEST(Export, AsksTheServerOnlyForWhatIsWanted) {
  using Api = support::ScriptedApi;
  const auto says = [](const Json& json) {
    return [text = json.dump()](const Api::Asked&) { return Api::Says{200, text}; };
  };
  const Json group{{"title", "g"},
                   {"folderUid", "f"},
                   {"interval", 60},
                   {"rules", Json::array({rule({query_node("A", "x"), threshold_node("A", "gt", 1)})})}};
  Api api({{"/api/datasources", says(datasources())},
           {"/api/folders/f", says({{"uid", "f"}, {"title", "Folder"}})},
           {"/api/search", says(Json::array({{{"uid", "mine"}}}))},
           {"/api/dashboards/uid/mine", says({{"dashboard", dashboard_by_hand()}, {"meta", Json::object()}})},
           {"/api/v1/provisioning/alert-rules",
            says(Json::array(
                {{{"folderUID", "f"}, {"ruleGroup", "g"}}, {{"folderUID", "other"}, {"ruleGroup", "h"}}}))},
           {"/api/v1/provisioning/folder/f/rule-groups/g", says(group)},
           {"/api/v1/provisioning/contact-points", says(Json::array())},
           {"/api/v1/provisioning/templates", says(nullptr)},
           {"/api/v1/provisioning/mute-timings", says(Json::array())},
           {"/api/v1/provisioning/policies", says({{"receiver", "empty"}})}});
  auto server = grafana::Server::make({.url = api.url(), .token = ::Secret("t"), .read_only = true});
  ASSERT_TRUE(server) << server.error().message;
  const auto result = export_pack(*server, {.folders = {"f"}, .name = "p"});
  ASSERT_TRUE(result) << result.error().message;
  std::vector<std::string> paths;
  for (const auto& one : result->files) paths.push_back(one.path);
  EXPECT_THAT(paths,
              ElementsAre("alertmanager.yaml", "dashboards/mine.json", "pack.yaml", "rules/g.rules.yaml"));
  for (const auto& line : api.lines()) {
    EXPECT_TRUE(line.starts_with("GET ")) << line;
    EXPECT_THAT(line, Not(HasSubstr("/h"))) << line;
  }
}

TEST(Export, SaysWhatTheServerRefused) {
  support::ScriptedApi api({{"/api/datasources", [](const auto&) {
                               return support::ScriptedApi::Says{200, "[]"};
                             }}});
  auto server = grafana::Server::make({.url = api.url(), .token = ::Secret("t"), .read_only = true});
  ASSERT_TRUE(server);
  const auto result =
      export_pack(*server, {.folders = {"gone"}, .dashboards = false, .rules = false, .name = "p"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, Error::Kind::not_found);
  EXPECT_THAT(result.error().message, HasSubstr("/api/folders/gone"));
}

}  // namespace
}  // namespace tunnelctl::exporting
