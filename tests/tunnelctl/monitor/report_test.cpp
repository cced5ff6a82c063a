#include "tunnelctl/monitor/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace tunnelctl::monitor;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

Verified of(std::vector<Check> checks) {
  Verified result{.checks = std::move(checks), .counts = {}, .good = true};
  for (const auto& check : result.checks) {
    ++result.counts[check.status];
    result.good = result.good && is_good(check.status);
  }
  return result;
}

const Verified kSample = of({
    {.kind = Check::Kind::datasource, .id = "datasource", .title = "prometheus", .datasource = "Main"},
    {.id = "d/1/A",
     .title = "Rate",
     .datasource = "Main",
     .expr = "up",
     .status = Status::data,
     .series = 3,
     .took = milliseconds(12)},
    {.id = "d/2/A",
     .title = "Überall",
     .status = Status::allowed,
     .took = milliseconds(1234),
     .reason = "planned"},
    {.id = "d/3/A",
     .title = "Bad",
     .expr = "a < \"b\"",
     .status = Status::error,
     .message = "parse <error>\x1B[31m & \xFF"},
    {.kind = Check::Kind::rule,
     .id = "rule/X",
     .title = "X",
     .status = Status::pending,
     .message = "not evaluated yet"},
    {.id = "d/4/A", .status = Status::skipped, .message = "no Loki"},
});

TEST(VerifyReport, AsText) {
  EXPECT_EQ(
      to_text(kSample),
      "STATUS   KIND         ID          TITLE       SERIES    MS  REMARKS\n"
      "ok       data source  datasource  prometheus\n"
      "data     query        d/1/A       Rate             3    12\n"
      "allowed  query        d/2/A       Überall          0  1234  allowed: planned\n"
      "error    query        d/3/A       Bad              0     0  parse <error>\\x1B[31m & \xEF\xBF\xBD\n"
      "pending  rule         rule/X      X                         not evaluated yet\n"
      "skipped  query        d/4/A                        0     0  no Loki\n"
      "6 checks: 1 data, 1 ok, 1 allowed, 1 skipped, 1 pending, 1 error\n");
}

TEST(VerifyReport, AsJson) {
  const Json json = to_json(kSample);
  EXPECT_EQ(json["good"], false);
  EXPECT_EQ(json["counts"],
            Json::parse(R"({"data":1,"ok":1,"allowed":1,"skipped":1,"pending":1,"error":1})"));
  EXPECT_EQ(json["checks"][1],
            Json::parse(R"({"kind":"query","id":"d/1/A","title":"Rate","datasource":"Main","expr":"up",)"
                        R"("status":"data","series":3,"milliseconds":12})"));
  EXPECT_EQ(
      json["checks"][4],
      Json::parse(
          R"({"kind":"rule","id":"rule/X","title":"X","status":"pending","message":"not evaluated yet"})"));
  EXPECT_NO_THROW(json.dump());  // it would throw on broken UTF-8
}

TEST(VerifyReport, AsJUnit) {
  const std::string xml = to_junit(kSample);
  EXPECT_THAT(
      xml, HasSubstr("<testsuites name=\"tunnelctl monitor verify\" tests=\"6\" failures=\"1\" errors=\"1\" "
                     "skipped=\"1\" time=\"1.246\">"));
  EXPECT_THAT(xml,
              HasSubstr("<testsuite name=\"query\" tests=\"4\" failures=\"0\" errors=\"1\" skipped=\"1\""));
  EXPECT_THAT(xml, HasSubstr("<testcase classname=\"query\" name=\"d/1/A\" time=\"0.012\"/>"));
  EXPECT_THAT(xml, HasSubstr("<system-out>allowed: planned</system-out>"));
  EXPECT_THAT(xml, HasSubstr("<failure type=\"pending\" message=\"not evaluated yet\">X</failure>"));
  EXPECT_THAT(xml, HasSubstr("message=\"parse &lt;error&gt;\\x1B[31m &amp; \xEF\xBF\xBD\">"));
  EXPECT_THAT(xml, HasSubstr(">Bad: a &lt; &quot;b&quot;</error>"));
  EXPECT_THAT(xml, HasSubstr("<skipped message=\"no Loki\"/>"));
}

TEST(VerifyReport, HoldsNothingThatXmlOrATerminalCannotTake) {
  std::string all;
  for (int byte = 1; byte < 256; ++byte) all += static_cast<char>(byte);
  all += "\xC2\x9B\xEF\xBF\xBF";
  const Verified bad = of({{.id = all, .title = all, .expr = all, .status = Status::error, .message = all}});
  for (const std::string& text : {to_junit(bad), to_text(bad), to_json(bad).dump()}) {
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      EXPECT_TRUE(byte >= 0x20 || c == '\n') << static_cast<int>(byte);
      EXPECT_NE(byte, 0x7F);
    }
    EXPECT_THAT(text, Not(HasSubstr("\xC2\x9B")));
    EXPECT_THAT(text, Not(HasSubstr("\xEF\xBF\xBF")));
  }
}

TEST(VerifyReport, CutsLongTitles) {
  const std::string text = to_text(of({{.id = "x", .title = std::string(100, 'y'), .status = Status::data}}));
  EXPECT_THAT(text, HasSubstr(std::string(37, 'y') + "...  "));
}

}  // namespace
