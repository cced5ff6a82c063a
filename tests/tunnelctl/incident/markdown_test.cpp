#include "tunnelctl/incident/markdown.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::incident::markdown {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(MarkdownText, IsReadAsItIsWritten) {
  struct Row {
    const char* what;
    const char* text;
    const char* written;
  };
  const Row rows[] = {
      {"words", "connection refused", "connection refused"},
      {"codes stay readable", "TUNNEL_001", "TUNNEL_001"},
      {"emphasis", "*all* _of_ it", "\\*all\\* \\_of\\_ it"},
      {"a link", "[x](http://evil)", "\\[x\\](http:\u200B//evil)"},
      {"markup", "<img src=x> & co", "\\<img src=x\\> &amp; co"},
      {"a mention", "@everyone", "@\u200Beveryone"},
      {"a table's bar", "a|b", "a\\|b"},
      {"a heading", "# loud", "\\# loud"},
      {"several lines", "a\n\n- b", "a  - b"},
      {"an escape sequence", "\x1b[2J", " \\[2J"},
  };
  for (const auto& row : rows) EXPECT_EQ(plain(row.text), row.written) << row.what;
}

TEST(MarkdownText, IsCut) {
  EXPECT_EQ(plain("abcdefghij", 6), "abc...");
  EXPECT_LE(plain(std::string(10'000'000, 'x')).size(), 300U);
}

TEST(MarkdownCode, CannotBeBrokenOutOf) {
  EXPECT_EQ(code("refused"), "`refused`");
  EXPECT_EQ(code("a `b` c"), "``a `b` c``");
  EXPECT_EQ(code("``"), "``` `` ```");
  EXPECT_EQ(code("a\nb"), "`a b`");
  EXPECT_EQ(code(" "), "");
  EXPECT_EQ(code(""), "");
}

TEST(MarkdownFence, IsLongerThanAnyFenceInside) {
  EXPECT_EQ(fenced({"a", "b"}), "```text\na\nb\n```\n");
  EXPECT_EQ(fenced({"```", "# out", "````js"}), "`````text\n```\n# out\n````js\n`````\n");
  EXPECT_EQ(fenced({"a\n```\nb"}), "````text\na ``` b\n````\n");
}

TEST(MarkdownLink, TakesOnlyWebAddressesAndEndsWhereItShould) {
  EXPECT_EQ(link("Logs", "https://g/explore?x={\"a\":(1)}"), "[Logs](https://g/explore?x={%22a%22:%281%29})");
  EXPECT_EQ(link("a]b", "http://g"), "[a\\]b](http://g)");
  EXPECT_EQ(link("Click", "javascript:alert(1)"), "Click");
  EXPECT_EQ(link("Click", "file:///etc/passwd"), "Click");
}

TEST(MarkdownTimes, AreInUtc) {
  const Time time{std::chrono::seconds(1'767'323'045)};
  EXPECT_EQ(utc(time), "2026-01-02 03:04:05 UTC");
  EXPECT_EQ(clock(time), "03:04:05");
}

Section list(const char* heading, std::size_t items, std::size_t length) {
  Section section{.heading = heading, .lead = {}, .form = Section::Form::list};
  for (std::size_t i = 0; i < items; ++i)
    section.items.push_back(std::to_string(i) + std::string(length, 'x'));
  return section;
}

TEST(MarkdownNote, IsItsSectionsInOrder) {
  Section table{.heading = "Codes", .lead = "Since 03:00:", .form = Section::Form::table};
  table.items = {"code | count", "TUNNEL_001 | 3"};
  Section lines{.heading = "Lines", .lead = {}, .form = Section::Form::code};
  lines.items = {"a", "b"};
  lines.more = 5;
  EXPECT_EQ(note({list("First", 1, 1), table, lines, Section{}}, 1'000),
            "**First**\n\n- 0x\n\n"
            "**Codes**\n\nSince 03:00:\n\n| code | count |\n|---|---|\n| TUNNEL_001 | 3 |\n\n"
            "**Lines**\n\n```text\na\nb\n```\n\n… and 5 more\n");
}

TEST(MarkdownNote, LosesItemsOfTheLongestSectionFirstAndSaysSo) {
  auto kept = list("Kept", 5, 100);
  kept.keep = true;
  const auto text = note({kept, list("Short", 2, 10), list("Long", 100, 100)}, 3'000);
  EXPECT_LE(text.size(), 3'000U);
  EXPECT_THAT(text, HasSubstr("- 4xxx"));
  EXPECT_THAT(text, HasSubstr("**Short**\n\n- 0xxxxxxxxxx\n- 1xxxxxxxxxx\n\n**Long**\n\n- 0xxx"));
  EXPECT_THAT(text, HasSubstr(" more\n"));
  EXPECT_THAT(text, EndsWith("*This note was cut to its size limit.*\n"));
}

TEST(MarkdownNote, IsNeverLongerThanItMayBe) {
  auto kept = list("Grüße", 50, 100);
  kept.keep = true;
  for (const std::size_t most : {10, 60, 100, 1'000}) {
    const auto text = note({kept}, most);
    EXPECT_LE(text.size(), most + 1) << most;  // the line's end
  }
  EXPECT_THAT(note({kept}, 1'000), EndsWith("*This note was cut to its size limit.*\n"));
}

TEST(MarkdownNote, KeepsAFenceWholeWhenItIsShortened) {
  Section lines{.heading = "Lines", .lead = {}, .form = Section::Form::code};
  for (int i = 0; i < 100; ++i) lines.items.push_back(std::string(100, 'x'));
  const auto text = note({lines}, 2'000);
  EXPECT_THAT(text, HasSubstr("\n```\n\n… and "));
}

}  // namespace
}  // namespace tunnelctl::incident::markdown

namespace tunnelctl::incident {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr Time kBegan{std::chrono::seconds(1'767'323'045)};

Subject breaker() {
  return {.dedup_key = "breaker/api",
          .kind = "breaker",
          .title = "Circuit breaker of api opened",
          .labels = {{"service", "api"}, {"upstream", "home"}},
          .at = kBegan};
}

TEST(RecoveryNote, SaysHowLongItTookAndWhatWasCounted) {
  EXPECT_EQ(recovery_note(breaker(), kBegan + std::chrono::seconds(303),
                          {{"openForMs", 61'000},
                           {"successes", 2},
                           {"refusedRequests", 1'200},
                           {"times", 3},
                           {"lastErrors", {"timeout", "connection refused"}}}),
            "**Recovered** after 5m 3s: The circuit breaker of service `api` is closed.\n\n"
            "- From 2026-01-02 03:04:05 UTC to 2026-01-02 03:09:08 UTC\n"
            "- As the daemon measured it: 1m 1s\n"
            "- Tries in a row that succeeded: 2\n"
            "- Requests that were refused meanwhile: 1.2k\n"
            "- It came 3 times in that time\n"
            "- The last failure: `connection refused`\n");
}

TEST(RecoveryNote, SaysWhenAnOperatorClosedTheBreaker) {
  EXPECT_THAT(recovery_note(breaker(), kBegan, {{"successes", 0}}), HasSubstr("- An operator closed it\n"));
}

TEST(RecoveryNote, NamesWhateverItWas) {
  struct Row {
    const char* kind;
    std::vector<Label> labels;
    const char* says;
  };
  const Row rows[] = {
      {"upstream", {{"upstream", "home"}}, "Upstream `home` can be reached again."},
      {"agent", {{"agent", "lab-1"}}, "Agent `lab-1` is connected again."},
      {"daemon", {}, "tunneld serves again."},
      {"audit", {}, "The audit log can be written again."},
      {"overload", {}, "The load is under its limit again."},
      {"alert", {{"alertname", "TunnelDown"}}, "Alert `TunnelDown` does not fire any more."},
      {"manual", {}, "It is over."},
      {"something new", {}, "It is over."},
      {"breaker", {}, "The circuit breaker is closed."},
  };
  for (const auto& row : rows)
    EXPECT_THAT(recovery_note({.kind = row.kind, .labels = row.labels, .at = kBegan}, kBegan),
                HasSubstr(row.says));
}

TEST(RecoveryNote, StandsWithFactsOfOtherShapes) {
  for (const Json& facts :
       {Json(), Json("x"), Json::array({1}), Json{{"successes", "two"}, {"lastErrors", 7}},
        Json{{"lastErrors", Json::array()}}, Json{{"openForMs", nullptr}, {"why", 3}}})
    EXPECT_EQ(recovery_note(breaker(), kBegan, facts),
              "**Recovered**: The circuit breaker of service `api` is closed.\n\n"
              "- From 2026-01-02 03:04:05 UTC to 2026-01-02 03:04:05 UTC\n")
        << facts;
}

TEST(RecoveryNote, LeaksNoSecretAndNoMarkup) {
  const auto text = recovery_note(breaker(), kBegan,
                                  {{"lastErrors", {"`@all` Authorization: Bearer abcdefghijklmnop.qrstuv"}},
                                   {"why", "password=hunter2"}});
  EXPECT_THAT(text, Not(HasSubstr("abcdefghijklmnop")));
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  EXPECT_THAT(text, HasSubstr("`` `@all`"));
}

}  // namespace
}  // namespace tunnelctl::incident
