#include "tunnelctl/incident/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::incident {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using namespace std::chrono_literals;

constexpr Time kBegan{std::chrono::seconds(1'767'323'045)};  // 2026-01-02 03:04:05

Incident incident() {
  return {
      .id = "17",
      .backend = "local",
      .title = "Circuit breaker of api opened",
      .status = Status::resolved,
      .labels = {{"service", "api"}, {"upstream", "home"}},
      .attachments = {{.url = "https://g/d/x", .caption = "Dashboard"}},
      .opened = kBegan,
      .resolved = kBegan + 303s,
      .summary = "- **What**: it broke\n",
      .notes = {
          {.at = kBegan + 1s, .body = "Circuit breaker of api opened", .author = "watch", .kind = "opened"},
          {.at = kBegan + 60s, .body = "looking at it", .author = "ann"},
          {.at = kBegan + 70s, .body = "- **What**: many\n\n```text\n# lines\n```\n", .author = "watch"},
          {.at = kBegan + 303s, .body = "**Recovered** after 5m 3s", .author = "watch", .kind = "resolved"}}};
}

TEST(Timeline, IsAPostMortemWithWhatIsKnownFilledIn) {
  EXPECT_EQ(timeline(incident(), kBegan + 1h),
            "# Post-mortem: Circuit breaker of api opened\n\n"
            "| | |\n|---|---|\n"
            "| Incident | 17 (local) |\n"
            "| Severity | critical |\n"
            "| Status | resolved |\n"
            "| Began | 2026-01-02 03:04:05 UTC |\n"
            "| Resolved | 2026-01-02 03:09:08 UTC |\n"
            "| Took | 5m 3s |\n"
            "| Labels | service=api, upstream=home |\n"
            "\n## Summary\n\n"
            "*What happened, in three sentences that somebody outside the team understands.*\n\n"
            "As it was opened:\n\n> - **What**: it broke\n"
            "\n## Impact\n\n*Who could not do what, and how many were they?*\n"
            "\n## Durations\n\n| | |\n|---|---|\n"
            "| Detection: from its beginning to the first line below | 1s |\n"
            "| Response: to the first line behind the opening | 1m |\n"
            "| Resolution: to its end | 5m 3s |\n"
            "\n## Timeline\n\n"
            "| UTC | After | What | Who |\n|---|---|---|---|\n"
            "| 2026-01-02 03:04:06 | 1s | opened: Circuit breaker of api opened | watch |\n"
            "| 2026-01-02 03:05:05 | 1m | looking at it | ann |\n"
            "| 2026-01-02 03:05:15 | 1m 10s | What: many (note 3) | watch |\n"
            "| 2026-01-02 03:09:08 | 5m 3s | resolved: Recovered after 5m 3s | watch |\n"
            "\n## Contributing factors\n\n"
            "*What had to come together? Ask why until the answer is something to change.*\n"
            "\n## What went well\n\n*What limited it, and should stay?*\n"
            "\n## What went badly\n\n*What took longer than it had to, and where were you lucky?*\n"
            "\n## Action items\n\n| Action | Owner | Due |\n|---|---|---|\n| | | |\n"
            "\n## Links\n\n- [Dashboard](https://g/d/x)\n"
            "\n## Notes\n\n### Note 3, 2026-01-02 03:05:15 UTC\n\n"
            "> - **What**: many\n>\n> ```text\n> # lines\n> ```\n");
}

TEST(Timeline, OfOneThatIsStillOpenSaysSo) {
  auto open = incident();
  open.status = Status::active;
  open.resolved.reset();
  open.notes.clear();
  open.summary.clear();
  open.attachments.clear();
  open.drill = true;
  const auto text = timeline(open, kBegan + 2h);
  EXPECT_THAT(text, HasSubstr("| Status | active, a drill |\n"));
  EXPECT_THAT(text, HasSubstr("| Resolved | not yet |\n| Takes | 2h |\n"));
  EXPECT_THAT(text, HasSubstr("below | not known |\n"));
  EXPECT_THAT(text, HasSubstr("end | not yet |\n"));
  EXPECT_THAT(text, HasSubstr("## Timeline\n\n*Nothing was written down.*\n"));
  EXPECT_THAT(text, Not(HasSubstr("As it was opened")));
  EXPECT_THAT(text, Not(HasSubstr("## Links")));
  EXPECT_THAT(text, Not(HasSubstr("## Notes")));
}

TEST(Timeline, IsInTheOrderOfTimeAndTellsWhatCameBefore) {
  auto mixed = incident();
  mixed.notes = {{.at = kBegan + 9s, .body = "later"}, {.at = kBegan - 5s, .body = "deploy"}};
  const auto text = timeline(mixed, kBegan);
  EXPECT_LT(text.find("| -5s | deploy |"), text.find("| 9s | later |"));
}

TEST(Timeline, TheFirstAnswerIsAPersonsAndNoProgramsNote) {
  auto watched = incident();
  watched.notes = {{.key = "opened", .at = kBegan + 1s, .body = "api fails", .kind = "opened"},
                   {.at = kBegan + 1s, .body = "", .kind = "incidentCreated"},
                   {.key = "context", .at = kBegan + 4s, .body = "**What**: many"}};
  EXPECT_THAT(timeline(watched, kBegan), HasSubstr("behind the opening | not known |\n"));
  watched.notes.push_back({.at = kBegan + 90s, .body = "looking at it", .author = "ann"});
  EXPECT_THAT(timeline(watched, kBegan), HasSubstr("behind the opening | 1m 30s |\n"));
}

TEST(Timeline, WhatOthersWroteBreaksNeitherTableNorPage) {
  auto hostile = incident();
  hostile.title = "a | b\n# c @all";
  hostile.notes = {{.at = kBegan, .body = "a | b <script>", .author = "x|y"},
                   {.at = kBegan, .body = "# one\n```\n## two\x1b[2J"},
                   {.at = kBegan, .body = "\n \n"}};
  const auto text = timeline(hostile, kBegan);
  EXPECT_THAT(text, StartsWith("# Post-mortem: a \\| b # c @\u200Ball\n"));
  EXPECT_THAT(text, HasSubstr("| a \\| b \\<script\\> | x\\|y |\n"));
  EXPECT_THAT(text, HasSubstr("| one (note 2) |  |\n"));
  EXPECT_THAT(text, HasSubstr("| (nothing) |  |\n"));
  EXPECT_THAT(text, HasSubstr("> # one\n> ```\n> ## two [2J\n"));
}

TEST(Timeline, LeaksNoSecret) {
  auto leaky = incident();
  leaky.title = "password=hunter2";
  leaky.summary = "token=hunter2";
  leaky.labels = {{"password", "hunter2"}};
  leaky.notes = {{.at = kBegan, .body = "password=hunter2\npassword=hunter2", .author = "x"}};
  EXPECT_THAT(timeline(leaky, kBegan), Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace tunnelctl::incident
