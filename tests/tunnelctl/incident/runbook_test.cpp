#include "tunnelctl/incident/runbook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::incident {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string name_for(const Subject& subject) {
  const auto* page = runbook_for(subject);
  return page == nullptr ? "" : std::string(page->name);
}

TEST(Runbook, IsTheAlertsOrThatOfTheKind) {
  struct Row {
    const char* what;
    Subject subject;
    const char* page;
  };
  const Row rows[] = {
      {"a breaker", {.kind = "breaker"}, "TunnelCircuitBreakerOpen"},
      {"an upstream", {.kind = "upstream"}, "TunnelErrorRatioHigh"},
      {"agents", {.kind = "agent"}, "TunnelAgentsLost"},
      {"the daemon", {.kind = "daemon"}, "TunnelDown"},
      {"the audit log", {.kind = "audit"}, "TunnelAuditLogFailing"},
      {"connections", {.kind = "overload", .facts = {{"what", "connections"}}}, "TunnelConnectionsNearLimit"},
      {"a queue", {.kind = "overload", .facts = {{"what", "queue"}}}, "TunnelQueueNearlyFull"},
      {"load without facts", {.kind = "overload", .facts = Json()}, "TunnelConnectionsNearLimit"},
      {"an alert", {.kind = "alert", .labels = {{"alertname", "TunnelLatencyHigh"}}}, "TunnelLatencyHigh"},
      {"an alert of somebody else", {.kind = "alert", .labels = {{"alertname", "../TunnelDown"}}}, ""},
      {"one that says it", {.kind = "manual", .labels = {{"runbook", "TunnelRestarted"}}}, "TunnelRestarted"},
      {"by hand", {.kind = "manual"}, ""},
      {"an alert beats the kind",
       {.kind = "breaker", .labels = {{"alertname", "TunnelTotalFailure"}}},
       "TunnelTotalFailure"},
  };
  for (const auto& row : rows) EXPECT_EQ(name_for(row.subject), row.page) << row.what;
}

TEST(Runbook, ExcerptIsWhatItMeansAndTheFirstChecks) {
  const auto excerpt = excerpt_of(
      "# TunnelX\n\nSeverity: critical.\n\n"
      "## Meaning\n\nIt is broken, see [TUNNEL_001](../../docs/errors/TUNNEL_001.md).\n\nMore of it.\n\n"
      "## Impact\n\nNobody gets in.\n\n"
      "## First checks\n\n"
      "1. Which?\n\n   ```sh\n   tunnelctl breakers list\n   # [a](b) stays\n   ```\n\n"
      "2. Why? See [here](x.md) and sum[5m] (of it).\n\n   ```sh\n   journalctl\n   ```\n\n   Then wait.\n\n"
      "## Likely causes\n\n- Rust\n");
  EXPECT_EQ(excerpt.meaning, "It is broken, see TUNNEL_001.");
  ASSERT_EQ(excerpt.checks.size(), 2U);
  EXPECT_EQ(excerpt.checks[0], "1. Which?\n\n```sh\ntunnelctl breakers list\n# [a](b) stays\n```");
  EXPECT_EQ(excerpt.checks[1],
            "2. Why? See here and sum[5m] (of it).\n\n```sh\njournalctl\n```\n\nThen wait.");
}

TEST(Runbook, ExcerptOfAPageOfAnotherShapeIsEmpty) {
  for (const char* page : {"", "# X", "## Meaning", "text [", "\n## First checks\n\nnone\n"}) {
    const auto excerpt = excerpt_of(page);
    EXPECT_EQ(excerpt.meaning, "") << page;
    EXPECT_TRUE(excerpt.checks.empty()) << page;
  }
}

TEST(Runbook, EveryPageHasAnExcerptWithoutDeadLinks) {
  ASSERT_GE(runbook_pages().size(), 20U);
  for (const auto& page : runbook_pages()) {
    const auto excerpt = excerpt_of(page.text);
    EXPECT_THAT(page.text, StartsWith("# " + std::string(page.name) + "\n"));
    EXPECT_GT(excerpt.meaning.size(), 40U) << page.name;
    EXPECT_THAT(excerpt.meaning, Not(HasSubstr("](")));
    EXPECT_EQ(excerpt.checks.size(), 3U) << page.name;
    for (const auto& check : excerpt.checks) {
      EXPECT_THAT(check, HasSubstr("\n```sh\n")) << page.name;
      EXPECT_THAT(check, Not(HasSubstr("](.."))) << page.name;
    }
  }
}

}  // namespace
}  // namespace tunnelctl::incident
