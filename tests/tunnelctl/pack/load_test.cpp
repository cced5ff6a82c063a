#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tunnelctl/pack/pack.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::pack {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kManifest = R"(apiVersion: tunnelctl/v1
kind: Pack
name: mine
folder: {uid: mine, title: Mine}
files:
  dashboards: ["dashboards/*.json"]
  rules: [rules.yaml]
  runbooks: runbooks
datasources:
  - {variable: datasource, type: prometheus}
)";
constexpr const char* kDashboard = R"({"uid": "mine-a", "title": "A", "templating": {"list": [
  {"name": "datasource", "type": "datasource", "query": "prometheus"},
  {"name": "instance", "type": "query", "includeAll": true}]},
 "panels": [{"id": 1, "type": "stat", "title": "Up", "datasource": {"type": "prometheus", "uid": "${datasource}"},
   "targets": [{"refId": "A", "expr": "up{instance=~\"$instance\"}", "instant": true}]}]}
)";
constexpr const char* kRules = R"(groups:
  - name: g
    interval: 30s
    rules:
      - alert: Down
        expr: up == 0
        for: 2m
        labels: {severity: critical}
        annotations: {runbook_url: "runbooks/Down.md#checks", dashboard_uid: mine-a, panel_id: "1"}
)";

class PackFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "pack.XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    write("pack.yaml", kManifest);
    write("dashboards/a.json", kDashboard);
    write("rules.yaml", kRules);
    write("runbooks/Down.md", "# Down\n\n## Checks\n");
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  /// With `from` replaced by `to` in that file.
  void change(const std::string& name, const std::string& from, const std::string& to) {
    std::ifstream file(folder_ / name);
    std::string text((std::istreambuf_iterator<char>(file)), {});
    ASSERT_NE(text.find(from), std::string::npos) << from;
    write(name, text.replace(text.find(from), from.size(), to));
  }
  std::vector<std::string> problems() {
    Problems found;
    const auto pack = load(folder_, found);
    std::vector<std::string> result;
    if (!pack) result.push_back(pack.error().message);
    for (const auto& one : found) result.push_back(text(one).substr(folder_.string().size() + 1));
    return result;
  }

  fs::path folder_;
};

TEST_F(PackFolder, AGoodOneHasNoProblemAndIsReadWhole) {
  Problems found;
  const auto pack = load(folder_, found);
  ASSERT_TRUE(pack) << pack.error().message;
  EXPECT_THAT(problems(), IsEmpty());
  EXPECT_EQ(pack->runbook_prefix, "runbooks/");
  ASSERT_EQ(pack->rule_files.size(), 1U);
  EXPECT_EQ(pack->rule_files[0].groups[0].rules[0].hold, std::chrono::minutes(2));
  ASSERT_EQ(pack->dashboards.size(), 1U);
  const auto asked = queries(pack->dashboards[0]);
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].id(), "mine-a/1/A");
  EXPECT_TRUE(asked[0].instant);
}

struct Bad {
  const char *name, *file, *from, *to, *says;
};
void PrintTo(const Bad& bad, std::ostream* out) {
  *out << bad.name;
}
class BadPack : public PackFolder, public testing::WithParamInterface<Bad> {};

TEST_P(BadPack, IsRefusedWithItsPlace) {
  change(GetParam().file, GetParam().from, GetParam().to);
  EXPECT_THAT(problems(), Contains(HasSubstr(GetParam().says)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadPack,
    testing::Values(Bad{"JsonSyntax", "dashboards/a.json", "\"title\": \"A\",", "\"title\": \"A\"",
                        "dashboards/a.json:1:"},
                    Bad{"YamlSyntax", "rules.yaml", "    rules:", "   rules:", "rules.yaml:4:"},
                    Bad{"UnknownKey", "rules.yaml", "        for: 2m", "        fro: 2m",
                        "rules.yaml:7:9: g: unknown key \"fro\""},
                    Bad{"UnknownManifestKey", "pack.yaml",
                        "files:", "colour: red\nfiles:", "pack.yaml:5:1: unknown key \"colour\""},
                    Bad{"Promql", "rules.yaml", "up == 0", "up == (0", "rules.yaml:5:9: Down: expr: "},
                    Bad{"PanelPromql", "dashboards/a.json", "up{instance", "sum(up{instance", "panel 1 A: "},
                    Bad{"PanelVariable", "dashboards/a.json", "$instance", "$who",
                        "$who is no variable of the dashboard"},
                    Bad{"NoDatasource", "dashboards/a.json",
                        "\"datasource\": {\"type\": \"prometheus\", \"uid\": \"${datasource}\"},", "",
                        "names no data source"},
                    Bad{"LongUid", "dashboards/a.json", "mine-a",
                        "mine-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "longer than 40 characters"},
                    Bad{"Interval", "rules.yaml", "30s", "15s",
                        "rules.yaml:2:5: groups: g: interval 15s is no multiple of 10s"},
                    Bad{"Duration", "rules.yaml", "2m", "soon", "\"soon\" is no duration"},
                    Bad{"RunbookMissing", "rules.yaml", "runbooks/Down.md#checks", "runbooks/Up.md",
                        "there is no such runbook"},
                    Bad{"RunbookAnchor", "rules.yaml", "#checks", "#cheks", "has no heading #cheks"},
                    Bad{"RunbookElsewhere", "rules.yaml", "runbooks/Down.md#checks", "docs/Down.md",
                        "leads nowhere"},
                    Bad{"PanelMissing", "rules.yaml", "panel_id: \"1\"", "panel_id: \"7\"",
                        "no dashboard mine-a with a panel 7"},
                    Bad{"AlertAndRecord", "rules.yaml", "alert: Down", "alert: Down\n        record: x",
                        "either \"alert\" or \"record\""},
                    Bad{"NoFile", "pack.yaml", "[rules.yaml]", "[other.yaml]", "other.yaml: cannot be read"},
                    Bad{"ApiAnswer", "dashboards/a.json", "{\"uid\"", "{\"dashboard\": {}, \"uid\"",
                        "is an answer of Grafana's API"}),
    [](const auto& one) { return one.param.name; });

TEST_F(PackFolder, EverythingThatIsWrongIsToldAtOnce) {
  change("rules.yaml", "30s", "15s");
  change("rules.yaml", "up == 0", "up ==");
  write("dashboards/b.json", kDashboard);
  const auto found = problems();
  EXPECT_GE(found.size(), 3U);
  EXPECT_THAT(found, Contains(HasSubstr("uid mine-a is that of")));
}

TEST_F(PackFolder, AnExceptionForNothingIsAProblem) {
  write("pack.yaml",
        std::string(kManifest) + "verify:\n  allow_empty:\n    - {query: mine-a/9, reason: because}\n");
  EXPECT_THAT(problems(), Contains(HasSubstr("exception for something the pack does not have")));
}

TEST(Duration, ReadsAndWritesPrometheusSpelling) {
  EXPECT_EQ(duration("1h30m").value(), std::chrono::minutes(90));
  EXPECT_EQ(duration("0").value().count(), 0);
  EXPECT_FALSE(duration("5"));
  EXPECT_FALSE(duration("1.5m"));
  EXPECT_EQ(duration_text(std::chrono::seconds(90)), "1m30s");
  EXPECT_EQ(duration_text(std::chrono::seconds(0)), "0s");
}

TEST(Covering, NamesADashboardAPanelOrATarget) {
  const std::vector<Exception> list{{.object = "d/1", .reason = "x"}};
  EXPECT_NE(covering(list, "d/1/A"), nullptr);
  EXPECT_NE(covering(list, "d/1"), nullptr);
  EXPECT_EQ(covering(list, "d/10/A"), nullptr);
  EXPECT_EQ(covering(list, "d"), nullptr);
}

}  // namespace
}  // namespace tunnelctl::pack
