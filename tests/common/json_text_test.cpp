#include "common/json_text.h"

#include <gtest/gtest.h>

namespace {

std::string nested(std::size_t levels) {
  return std::string(levels, '[') + std::string(levels, ']');
}

TEST(JsonText, IsReadAsItIs) {
  const auto json = parse_json(R"({"a":[1,"[[[{",{"b":"\"]"}]})");
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["a"][1], "[[[{");
  EXPECT_EQ(json["a"][2]["b"], "\"]");
  EXPECT_EQ(parse_json<nlohmann::ordered_json>(R"({"z":1,"a":2})").dump(), R"({"z":1,"a":2})");
}

TEST(JsonText, ThatIsNoneIsDiscarded) {
  for (const auto* text : {"", "<html>", "{", "[1,]", "\"", "\"\\", "]]]]", "nul"})
    EXPECT_TRUE(parse_json(text).is_discarded()) << text;
}

TEST(JsonText, NestsOnlySoDeeply) {
  EXPECT_TRUE(parse_json(nested(kMostJsonLevels)).is_array());
  EXPECT_TRUE(parse_json(nested(kMostJsonLevels + 1)).is_discarded());
  EXPECT_TRUE(parse_json(nested(5'000'000)).is_discarded());
  EXPECT_TRUE(parse_json("[" + nested(3) + "," + nested(3) + "]").is_array()) << "beside each other";
  EXPECT_TRUE(parse_json("\"" + std::string(9'999, '[') + "\"").is_string()) << "in a text";
}

}  // namespace
