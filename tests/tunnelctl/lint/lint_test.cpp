#include "tunnelctl/lint/lint.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/tunnelctl/lint/lint_support.h"

namespace tunnelctl::lint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Lint, FindsNothingInAGoodPack) {
  EXPECT_THAT(found(good_pack()), IsEmpty());
}

TEST(Lint, ListsItsChecksSortedEachOnceAndWithALine) {
  std::set<std::string_view> seen;
  std::string_view before;
  for (const auto& check : list_checks()) {
    SCOPED_TRACE(check.id);
    EXPECT_LT(before, check.id);
    EXPECT_FALSE(check.about.empty());
    EXPECT_TRUE(seen.insert(check.id).second);
    before = check.id;
  }
  EXPECT_GT(seen.size(), 60U);
}

TEST(Lint, OnlyReportsChecksThatAreListed) {
  auto pack = good_pack();
  panel_of(pack)["type"] = "graph";
  rule_of(pack).expr = "tunnel_requests_total";
  for (const auto& finding : lint(pack)) {
    SCOPED_TRACE(finding.check);
    EXPECT_TRUE(std::any_of(list_checks().begin(), list_checks().end(), [&](const Check& one) {
      return one.id == finding.check && one.severity == finding.severity;
    }));
  }
}

TEST(Lint, SaysWhatWhereAndHowBad) {
  auto pack = good_pack();
  rule_of(pack).labels["severity"] = "urgent";
  const auto all = lint(pack);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].check, "alert-severity");
  EXPECT_EQ(all[0].severity, Severity::error);
  EXPECT_EQ(pack::text(all[0].place), "a.rules.yaml:7:9");
  EXPECT_EQ(all[0].object, "rule/TooMany");
  EXPECT_THAT(all[0].message, HasSubstr("critical, warning, info"));
}

TEST(Lint, AcceptsWhatThePackAcceptsAndSaysWhy) {
  auto pack = good_pack();
  panel_of(pack)["fieldConfig"]["defaults"].erase("unit");
  pack.lint_ignore = {{.check = "panel-units", .object = "health/1", .reason = "counts of many things"}};
  EXPECT_THAT(found(pack), IsEmpty());
  EXPECT_EQ(of(pack, "panel-units").at(0).suppressed, "counts of many things");
}

TEST(Lint, AcceptsAWholeDashboardAtOnce) {
  auto pack = good_pack();
  panel_of(pack)["fieldConfig"]["defaults"].erase("unit");
  pack.lint_ignore = {{.check = "panel-units", .object = "health", .reason = "r"}};
  EXPECT_THAT(found(pack), IsEmpty());
}

TEST(Lint, KnowsTheNamesOfOtherLinters) {
  auto pack = good_pack();
  panel_of(pack)["fieldConfig"]["defaults"].erase("unit");
  pack.lint_ignore = {{.check = "panel-units-rule", .object = "health/1", .reason = "r"}};
  EXPECT_THAT(found(pack), IsEmpty());
}

TEST(Lint, FindsSuppressionsThatSuppressNothing) {
  auto pack = good_pack();
  pack.lint_ignore = {{.check = "panel-units", .object = "health/1", .reason = "r"},
                      {.check = "no-such-check", .object = "health/1", .reason = "r"}};
  const auto all = of(pack, "unused-suppression");
  ASSERT_EQ(all.size(), 2U);
  EXPECT_THAT(all[0].message, HasSubstr("suppresses nothing"));
  EXPECT_THAT(all[1].message, HasSubstr("no such check"));
}

TEST(Lint, LetsAPackAcceptFindingsOfRoutesRunbooksAndTheContract) {
  std::string name = (std::filesystem::temp_directory_path() / "lint_XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  const std::filesystem::path folder = name;
  std::ofstream(folder / "pack.yaml")
      << "apiVersion: tunnelctl/v1\n"
         "kind: Pack\n"
         "name: demo\n"
         "folder: {uid: demo, title: Demo}\n"
         "files: {}\n"
         "contract: metrics.yaml\n"
         "lint:\n"
         "  ignore:\n"
         "    - {check: metric-unused, object: contract/x_total, reason: r}\n"
         "    - {check: runbook-orphan, object: runbook/Gone, reason: r}\n"
         "    - {check: route-repeat, object: alertmanager/route, reason: r}\n";
  std::ofstream(folder / "metrics.yaml") << "metrics: [{name: x_total, type: counter}]\n";
  pack::Problems problems;
  const auto loaded = pack::load(folder, problems);
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(loaded);
  for (const auto& problem : problems) ADD_FAILURE() << pack::text(problem);
  EXPECT_THAT(found(*loaded), ElementsAre("unused-suppression pack", "unused-suppression pack"));
}

TEST(Lint, ListsMetricsThatNothingUses) {
  auto pack = good_pack();
  pack.contract.push_back({"tunnel_sockets", "gauge", {}});
  pack.contract.push_back({"tunnel_request_duration_seconds", "histogram", {"outcome"}});
  EXPECT_THAT(found(pack), ElementsAre("metric-unused contract/tunnel_sockets",
                                       "metric-unused contract/tunnel_request_duration_seconds"));
  EXPECT_EQ(of(pack, "metric-unused").at(0).severity, Severity::info);
  rule_of(pack).expr =
      "histogram_quantile(0.9, sum by (le, instance) (rate(tunnel_request_duration_seconds_bucket[5m]))) "
      "> 1 and on (instance) tunnel_sockets > 0";
  EXPECT_THAT(found(pack), IsEmpty());
}

TEST(Lint, FindsMetricsAndLabelsThatAreNotExposed) {
  auto pack = good_pack();
  rule_of(pack).expr = "sum by (instance, tier) (rate(tunnel_requests_total{status=\"error\"}[5m])) > 7";
  EXPECT_THAT(found(pack), ElementsAre("unknown-label rule/TooMany"));
  rule_of(pack).expr = "sum by (instance) (rate(tunnel_refusals_total[5m])) > 7";
  EXPECT_THAT(found(pack), ElementsAre("unknown-metric rule/TooMany"));
}

TEST(Lint, FindsNothingInTheShippedPack) {
  const auto folder = pack::find("tunnel");
  ASSERT_TRUE(folder) << folder.error().message;
  pack::Problems problems;
  const auto shipped = pack::load(*folder, problems);
  ASSERT_TRUE(shipped) << shipped.error().message;
  for (const auto& finding : lint(*shipped))
    if (finding.suppressed.empty() && finding.severity != Severity::info)
      ADD_FAILURE() << pack::text(finding.place) << ": " << finding.object << ": " << finding.message << " ("
                    << finding.check << ")";
}

/// Measured, not judged: 50 ms in a release build is what a person does not notice.
TEST(Lint, PrintsHowLongAThousandPanelsTake) {
  auto pack = good_pack();
  std::vector<Json> panels;
  for (int i = 1; i <= 1000; ++i) panels.push_back(panel(i));
  pack.dashboards[0] = dashboard(std::move(panels));
  const auto start = std::chrono::steady_clock::now();
  const auto all = lint(pack);
  const auto took = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start);
  RecordProperty("milliseconds", std::to_string(took.count()));
  std::printf("1000 panels: %.1f ms, %zu findings\n", took.count(), all.size());
}

}  // namespace
}  // namespace tunnelctl::lint
