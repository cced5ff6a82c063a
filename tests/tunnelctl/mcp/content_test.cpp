#include "tunnelctl/mcp/content.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/utf8.h"

namespace tunnelctl::mcp {
namespace {

using testing::HasSubstr;

std::string text(const Json& result, std::size_t at) {
  return result["content"][at]["text"];
}

TEST(CallResult, IsTextAndTheSameAsStructuredContent) {
  const struct {
    const char* out;
    Structured structured;
    const char* text;
    bool has_structure;
  } rows[] = {
      {"{\n  \"a\": [1, 2]\n}\n", Structured::objects, R"({"a":[1,2]})", true},
      {"{\n  \"a\": [1, 2]\n}\n", Structured::unknown, R"({"a":[1,2]})", false},
      {"[1, 2]", Structured::objects, "[1,2]", false},
      {"[1, 2]", Structured::anything, "[1,2]", true},
      {"plain words", Structured::anything, "plain words", false},
      {"7", Structured::anything, "7", false},
      {"", Structured::anything, "", false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.out);
    const auto result = call_result({.text = row.out}, 1000, "", row.structured);
    ASSERT_EQ(result["content"].size(), 1U);
    EXPECT_EQ(result["content"][0]["type"], "text");
    EXPECT_EQ(text(result, 0), row.text);
    ASSERT_EQ(result.contains("structuredContent"), row.has_structure);
    EXPECT_EQ(result.value("structuredContent", Json()), row.has_structure ? Json::parse(row.text) : Json());
    EXPECT_FALSE(result.contains("isError"));
  }
}

TEST(CallResult, OfAFailureIsTheErrorAndItsNotes) {
  const auto result = call_result({.text = "{\"found\": 1}", .notes = "exit status 1", .failed = true}, 1000,
                                  "", Structured::anything);
  EXPECT_EQ(result["isError"], true);
  EXPECT_EQ(text(result, 0), "{\"found\":1}");
  EXPECT_EQ(text(result, 1), "exit status 1");
  EXPECT_FALSE(result.contains("structuredContent"));
}

TEST(CallResult, ThatIsTooLargeLosesTheLastItemsOfItsLongestListAndSaysSo) {
  Json large{{"more", false}, {"data", {{"series", Json::array()}, {"few", {1, 2, 3}}}}};
  for (int i = 0; i < 1000; ++i) large["data"]["series"].push_back({{"number", i}});
  const auto result = call_result({.text = large.dump()}, 1024, "limit", Structured::objects);
  EXPECT_LE(text(result, 0).size(), 1024U);
  const auto kept = Json::parse(text(result, 0));
  const auto count = kept["data"]["series"].size();
  EXPECT_GT(count, 40U);
  EXPECT_EQ(kept["data"]["series"].back()["number"], count - 1);
  EXPECT_EQ(kept["data"]["few"], Json({1, 2, 3}));
  EXPECT_EQ(result["structuredContent"], kept);
  EXPECT_EQ(kept["_truncated"], "truncated: the answer has 15 KiB, the first " + std::to_string(count) +
                                    " of 1000 items of data.series are shown; to get less: limit");
  EXPECT_EQ(result["content"].size(), 1U);
  const auto older = call_result({.text = large.dump()}, 1024, "limit", Structured::unknown);
  EXPECT_THAT(text(older, 1), HasSubstr("to get less: limit"));
  EXPECT_FALSE(Json::parse(text(older, 0)).contains("_truncated"));
}

TEST(CallResult, ThatIsReadAsAStructureAloneHidesNoWarning) {
  const auto object =
      call_result({.text = R"({"a": 1})", .notes = "only some"}, 1000, "", Structured::objects);
  EXPECT_EQ(object["structuredContent"], Json::parse(R"({"a": 1, "_warnings": "only some"})"));
  EXPECT_EQ(Json::parse(text(object, 0)), object["structuredContent"]);
  Json many = Json::array();
  for (int i = 0; i < 1000; ++i) many.push_back(i);
  for (const auto& outcome : {Outcome{.text = "[1]", .notes = "only some"}, Outcome{.text = many.dump()}}) {
    const auto list = call_result(outcome, 1000, "", Structured::anything);
    EXPECT_FALSE(list.contains("structuredContent"));
    EXPECT_EQ(list["content"].size(), 2U);
  }
}

TEST(CallResult, WithoutAListIsCutAsTextBetweenCharacters) {
  std::string words = "x";
  for (int i = 0; i < 1000; ++i) words += "\xe2\x82\xac";  // the euro sign
  for (const auto& out : {words, Json{{"all", words}}.dump()}) {
    const auto result = call_result({.text = out}, 100, "", Structured::objects);
    EXPECT_LE(text(result, 0).size(), 100U);
    EXPECT_GE(text(result, 0).size(), 97U);
    EXPECT_TRUE(utf8::valid(text(result, 0)));
    EXPECT_THAT(text(result, 1), HasSubstr("truncated: the answer has 3 KiB, the first 1 KiB are shown"));
    EXPECT_FALSE(result.contains("structuredContent"));
  }
}

TEST(CallResult, ThatFitsExactlyIsWhole) {
  const auto result = call_result({.text = std::string(100, 'a')}, 100, "", Structured::objects);
  EXPECT_EQ(result["content"].size(), 1U);
}

TEST(CallResult, MakesForeignBytesPrintable) {
  const auto result = call_result({.text = "a\xff"
                                           "b\xe2\x82"},
                                  100, "", Structured::objects);
  EXPECT_EQ(text(result, 0),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(CallResult, DoesNotFollowJsonOfAnyDepth) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  const auto result = call_result({.text = deep}, 1000, "", Structured::anything);
  EXPECT_FALSE(result.contains("structuredContent"));
  EXPECT_EQ(text(result, 0).size(), 1000U);
}

}  // namespace
}  // namespace tunnelctl::mcp
