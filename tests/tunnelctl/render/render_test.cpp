#include "tunnelctl/render/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/tunnelctl/render/lab.h"
#include "tunnelctl/render/yaml.h"

namespace tunnelctl::render {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

std::map<std::string, std::string> by_path(const std::vector<File>& files) {
  std::map<std::string, std::string> result;
  for (const File& file : files) result[file.path] = file.text;
  return result;
}

RenderOptions golden_options() {
  RenderOptions options = lab::options();
  options.compile.record_in_grafana = true;
  options.kubernetes.name_space = "monitoring";
  options.kubernetes.labels = {{"release", "kube-prometheus-stack"}};
  return options;
}

/// TUNNELCTL_UPDATE_GOLDEN=1 writes them anew; look at the difference before you commit it.
TEST(Render, WritesTheFilesThatAreKept) {
  const fs::path folder = lab::here() / "golden";
  const auto files = lab::files(golden_options());
  if (std::getenv("TUNNELCTL_UPDATE_GOLDEN") != nullptr) {
    fs::remove_all(folder);
    for (const File& file : files) {
      fs::create_directories((folder / file.path).parent_path());
      std::ofstream(folder / file.path, std::ios::binary) << file.text;
    }
  }
  std::map<std::string, std::string> kept;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    kept[entry.path().lexically_relative(folder).generic_string()] = text.str();
  }
  const auto now = by_path(files);
  for (const auto& [path, text] : now) {
    EXPECT_TRUE(kept.contains(path)) << path << " is new";
    EXPECT_EQ(text, kept[path]) << path;
  }
  for (const auto& [path, text] : kept)
    EXPECT_TRUE(now.contains(path)) << path << " is not rendered any more";
}

TEST(Render, GivesTheSameBytesEveryTime) {
  EXPECT_EQ(by_path(lab::files()), by_path(lab::files()));
}

TEST(Render, KnowsNoPlaceOfThisMachine) {
  for (const File& file : lab::files()) {
    EXPECT_THAT(file.text, Not(HasSubstr(lab::here().string()))) << file.path;
    EXPECT_THAT(file.path, Not(testing::StartsWith("/")));
    EXPECT_TRUE(file.text.ends_with('\n')) << file.path;
  }
}

TEST(Render, WritesOnlyTheFormatsThatAreAskedFor) {
  RenderOptions options = lab::options();
  for (const Format format : all_formats()) {
    options.formats = {format, format};
    const auto files = lab::files(options);
    EXPECT_FALSE(files.empty());
    for (const File& file : files)
      EXPECT_THAT(file.path, testing::StartsWith(std::string(name(format)) + "/"));
  }
  options.formats = {Format::prometheus};
  options.format_folders = false;
  EXPECT_EQ(lab::files(options).front().path, "demo/demo.yaml");
}

TEST(Render, KnowsItsFormatsByName) {
  for (const Format one : all_formats()) EXPECT_EQ(format(name(one)).value(), one);
  const auto unknown = format("helm");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("grafana-files, prometheus"));
}

TEST(Render, PutsNoSecretAndNoMarkerIntoAnyFile) {
  // Grafana's formats name where the value is; nowhere stands what compile() shows in its place.
  const auto all = by_path(lab::files());
  for (const auto& [path, text] : all)
    EXPECT_THAT(text, Not(HasSubstr(std::string(monitor::kRedacted)))) << path;
  EXPECT_THAT(all.at("grafana-files/alerting/demo.yaml"), HasSubstr("integrationKey: $DEMO_PAGERDUTY_KEY\n"));
  // pack.yaml has no name for this one.
  EXPECT_THAT(all.at("grafana-files/alerting/demo.yaml"), HasSubstr("url: $DEMO_SLACK_URL\n"));
  EXPECT_THAT(all.at("terraform/demo.tf.json"),
              HasSubstr("\"integration_key\": \"${var.demo_pagerduty_key}\""));
  EXPECT_THAT(all.at("grafana-operator/demo/contact-points.yaml"), HasSubstr("key: pagerduty_key\n"));
}

TEST(Render, AsksForTheDatasourcesThatAreNamed) {
  RenderOptions options = lab::options();
  EXPECT_THAT(lab::text_of(lab::files(options), "grafana-files/alerting/demo.yaml"),
              HasSubstr("datasourceUid: prometheus\n"));
  options.datasource_uids = {{"datasource", "mimir$1"}};
  const auto files = lab::files(options);
  EXPECT_THAT(lab::text_of(files, "grafana-files/alerting/demo.yaml"),
              HasSubstr("datasourceUid: mimir$$1\n"));
  EXPECT_THAT(lab::text_of(files, "grafana-files/dashboards/demo/demo-main.json"),
              HasSubstr("\"value\": \"mimir$1\""));
}

TEST(Render, PassesAlertmanagersFilesOnAsTheyAre) {
  const auto files = lab::files();
  EXPECT_EQ(lab::text_of(files, "alertmanager/demo/alertmanager.yml"), lab::demo().alertmanager->text);
  EXPECT_EQ(lab::text_of(files, "alertmanager/demo/templates/demo.tmpl"),
            lab::demo().alertmanager->templates.front().text);
}

TEST(Render, LeavesRunbooksAPathWhereNoServerIsKnown) {
  RenderOptions options;
  std::vector<std::string> notes;
  const auto files = render(lab::demo(), options, &notes);
  ASSERT_TRUE(files);
  EXPECT_THAT(lab::text_of(*files, "prometheus/demo/demo.yaml"),
              HasSubstr("runbook_url: runbooks/DemoDown.md\n"));
  EXPECT_THAT(notes, testing::Contains(HasSubstr("runbook_url stays a path")));
  options.compile.runbook_url = "https://docs.example.com";
  EXPECT_THAT(lab::text_of(lab::files(options), "prometheus/demo/demo.yaml"),
              HasSubstr("runbook_url: https://docs.example.com/DemoDown.md\n"));
}

TEST(Render, RefusesAPackThatCannotBeExpressed) {
  pack::Pack pack = lab::demo();
  pack.alertmanager->receivers[0].integrations[1].settings["api_url"] = "https://hooks.example.com/secret";
  const auto refused = render(pack, lab::options());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::bad_input);
  EXPECT_THAT(refused.error().message, HasSubstr("must not stand in a file"));

  pack = lab::demo();
  pack.alertmanager->templates[0].path = pack.alertmanager->path.parent_path() / "../elsewhere/x.tmpl";
  const auto outside = render(pack, lab::options());
  ASSERT_FALSE(outside);
  EXPECT_THAT(outside.error().message, HasSubstr("lies outside of its folder"));
}

/// A rule as large as about 4 KiB.
pack::RuleGroup large_group(const std::string& name, int rules) {
  pack::RuleGroup group{.name = name};
  for (int i = 0; i < rules; ++i)
    group.rules.push_back({.alert = name + std::to_string(i),
                           .expr = "up == 0",
                           .annotations = {{"text", std::string(4000, 'x')}}});
  return group;
}

TEST(RenderKubernetes, SplitsRulesThatAreTooLargeForOneObject) {
  RenderOptions options = lab::options();
  options.formats = {Format::kubernetes};
  pack::Pack pack = lab::demo();
  pack.rule_files = {{.groups = {large_group("A", 80), large_group("B", 60), large_group("C", 10)}}};
  const auto documents =
      lab::documents(lab::text_of(lab::files(options, pack), "kubernetes/demo/prometheusrule.yaml"));
  ASSERT_EQ(documents.size(), 2U);
  std::vector<std::string> groups;
  for (const auto& document : documents) {
    EXPECT_LT(yaml(document["spec"]).size(), 512U * 1024);
    for (const auto& group : document["spec"]["groups"]) groups.push_back(group["name"]);
  }
  EXPECT_THAT(groups, testing::ElementsAre("A", "B", "C"));
  EXPECT_NE(documents[0]["metadata"]["name"], documents[1]["metadata"]["name"]);

  pack.rule_files = {{.groups = {large_group("A", 130)}}};
  const auto refused = render(pack, options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("rule group A"));
}

TEST(RenderKubernetes, RefusesADashboardThatNoConfigMapHolds) {
  pack::Pack pack = lab::demo();
  pack.dashboards[0].json["description"] = std::string(1100 * 1024, 'x');
  RenderOptions options = lab::options();
  options.formats = {Format::kubernetes};
  const auto refused = render(pack, options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("dashboard demo-main"));
}

TEST(RenderKubernetes, PointsFilesOfSecretsToWhereTheOperatorMountsThem) {
  const auto secret =
      lab::documents(lab::text_of(lab::files(), "kubernetes/demo/alertmanager-secret.yaml")).at(0);
  const auto alertmanager = lab::parsed(secret["stringData"]["alertmanager.yaml"]);
  EXPECT_EQ(alertmanager["receivers"][0]["pagerduty_configs"][0]["routing_key_file"],
            "/etc/alertmanager/secrets/demo-notifications/pagerduty_key");
  // An absolute path is somebody's decision.
  EXPECT_EQ(alertmanager["global"]["smtp_auth_password_file"], "/run/secrets/smtp");
  EXPECT_EQ(alertmanager["templates"], Json::array({"/etc/alertmanager/config/demo.tmpl"}));
  EXPECT_EQ(secret["stringData"]["demo.tmpl"], lab::demo().alertmanager->templates[0].text);
}

}  // namespace
}  // namespace tunnelctl::render
