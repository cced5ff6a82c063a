#include "tunnelctl/grafana/json_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::grafana {
namespace {

/// Two panels, a row with a folded one, and names that need quotes.
const Json kBoard = Json::parse(R"({
  "title": "Board", "a b": {"c.d": 1}, "tags": ["x", "y", "z"],
  "panels": [
    {"id": 1, "type": "stat", "title": "Up", "targets": [{"refId": "A", "expr": "up"}]},
    {"id": 4, "type": "timeseries", "title": "It's late", "targets": [{"refId": "A", "expr": "a"}, {"refId": "B", "expr": "b"}]},
    {"id": 7, "type": "row", "title": "More", "panels": [{"id": 9, "type": "stat", "title": "Folded"}]}
  ]})");

std::string found(const char* path) {
  const auto parsed = JsonPath::parse(path);
  if (!parsed) return parsed.error().message;
  Json list = Json::array();
  for (const auto& match : parsed->select(kBoard)) list.push_back(*match.value);
  return list.dump();
}

TEST(JsonPath, FindsWhatItsUsersWrite) {
  struct Case {
    const char* path;
    const char* values;
  };
  const Case cases[] = {
      {"$.title", R"(["Board"])"},
      {"title", R"(["Board"])"},
      {".title", R"(["Board"])"},
      {"$['title']", R"(["Board"])"},
      {R"($["title"])", R"(["Board"])"},
      {"$['a b']['c.d']", "[1]"},
      {"$.panels[0].targets[0].expr", R"(["up"])"},
      {"panels[-1].title", R"(["More"])"},
      {"$.panels[*].title", R"(["Up","It's late","More"])"},
      {"$.panels[1:3].id", "[4,7]"},
      {"$.panels[:1].id", "[1]"},
      {"$.panels[-2:].id", "[4,7]"},
      {"$.tags[::2]", R"(["x","z"])"},
      {"$.tags[0,2]", R"(["x","z"])"},
      {"$.panels[1]['id','type']", R"([4,"timeseries"])"},
      {"$..expr", R"(["up","a","b"])"},
      {"$..panels[*].id", "[1,4,7,9]"},
      {"$.panels[?(@.id==4)].title", R"(["It's late"])"},
      {"$.panels[?@.id==4].title", R"(["It's late"])"},
      {"$.panels[?(@.type=='row')].id", "[7]"},
      {R"($.panels[?(@.type=="row")].id)", "[7]"},
      {R"($.panels[?(@.title=='It\'s late')].id)", "[4]"},
      {"$.panels[?(@.id>1 && @.id<=7)].id", "[4,7]"},
      {"$.panels[?(@.id==1 || @.type=='row')].id", "[1,7]"},
      {"$.panels[?(!@.targets)].id", "[7]"},
      {"$.panels[?(!(@.id==1))].id", "[4,7]"},
      {"$.panels[?(@.targets[1])].id", "[4]"},
      {"$.panels[?(@.targets[?(@.refId=='B')])].id", "[4]"},
      {"$.panels[?(@.title==$.title)].id", "[]"},
      {"$..[?(@.refId=='B')].expr", R"(["b"])"},
      {"$.panels[9].title", "[]"},
      {"$.nope", "[]"},
      {"$.panels[?(@.id=='4')].id", "[]"},  // text is no number
      {"$.panels[?(@.title>3)].id", "[]"},
      {"$.tags[5:2]", "[]"},
      {"$.tags[::9223372036854775807]", R"(["x"])"},
  };
  for (const auto& one : cases) EXPECT_EQ(found(one.path), one.values) << one.path;
}

TEST(JsonPath, SaysWhereAPathIsWrong) {
  struct Case {
    const char* path;
    const char* message;
  };
  const Case cases[] = {
      {"", "JSONPath, column 1: the path is empty"},
      {"$.", "JSONPath, column 3: a name is missing behind the dot"},
      {"$.panels[",
       "JSONPath, column 10: in brackets stand 'names' in quotes, numbers, [1:3], * or ?(filters)"},
      {"$.panels[0", "JSONPath, column 11: the ] is missing"},
      {"$.panels[title]",
       "JSONPath, column 10: in brackets stand 'names' in quotes, numbers, [1:3], * or ?(filters)"},
      {"$.panels['title]", "JSONPath, column 17: the closing quote is missing"},
      {"$.panels[(@.length-1)]",
       "JSONPath, column 10: there are no scripts such as [(@.length-1)]; the last item is [-1]"},
      {"$.panels.length()", "JSONPath, column 16: there are no functions such as .length()"},
      {"$.panels[?(@.id=4)]", "JSONPath, column 16: equality is written ==; there is no =~"},
      {"$.panels[?(@.id==)]",
       "JSONPath, column 18: here must stand @, a number, 'text', true, false or null"},
      {"$.panels[?(@.type==row)]",
       "JSONPath, column 23: \"row\" is unknown here; text stands in quotes, members are written @.row"},
      {"$.panels[?(4)]", "JSONPath, column 13: here must stand a comparison such as @.id == 4"},
      {"$.panels[?(@.id==4].title", "JSONPath, column 19: the ) is missing"},
      {"$.a b", "JSONPath, column 5: there is something behind the path: \"b\""},
      {"$.tags[::0]", "JSONPath, column 11: the step of [from:to:step] must be 1 or more"},
      {"$.tags[99999999999999999999]", "JSONPath, column 28: no number that an index can be"},
  };
  for (const auto& one : cases) EXPECT_EQ(found(one.path), one.message) << one.path;
}

TEST(JsonPath, SurvivesNestingThatNobodyWrites) {
  const std::string deep = "$" + std::string(5000, '[');
  EXPECT_FALSE(JsonPath::parse(deep));
  EXPECT_FALSE(JsonPath::parse("$[?" + std::string(5000, '(') + "@"));
  EXPECT_FALSE(JsonPath::parse("$[?" + std::string(5000, '!') + "@.a]"));
}

TEST(JsonPath, ExplainsWhyADefinitePathFindsNothing) {
  struct Case {
    const char* path;
    const char* why;
  };
  const Case cases[] = {
      {"$.panels[9].title", "$.panels has 3 items, there is no [9]"},
      {"$.panels[0].targets[0].legend", "$.panels[0].targets[0] has no member \"legend\""},
      {"$.title.x", "$.title is no object, so it has no member \"x\""},
      {"$.title[0]", "$.title is no list, so there is no [0]"},
      {"$['a b'].z", "$['a b'] has no member \"z\""},
  };
  for (const auto& one : cases) {
    const auto path = JsonPath::parse(one.path);
    ASSERT_TRUE(path) << one.path;
    EXPECT_TRUE(path->definite());
    EXPECT_EQ(path->why_nothing(kBoard), one.why);
  }
  EXPECT_FALSE(JsonPath::parse("$.panels[*]")->definite());
  EXPECT_FALSE(JsonPath::parse("$..expr")->definite());
  EXPECT_FALSE(JsonPath::parse("$.panels[0:1]")->definite());
}

TEST(JsonPath, ReadsPointersWhoseNumbersAreItemsOrNames) {
  const auto values = [](const char* pointer, const Json& document) {
    const auto found = JsonPath::of_pointer(pointer).select(document);
    return found.size() == 1 ? found[0].value->dump() : std::to_string(found.size()) + " found";
  };
  EXPECT_EQ(values("panels/1/title", kBoard), "\"It's late\"");
  EXPECT_EQ(values("7", Json{{"7", "seven"}}), "\"seven\"");
  EXPECT_EQ(values("a~1b/c~0d", Json{{"a/b", {{"c~d", 1}}}}), "1");
  EXPECT_EQ(values("panels/9", kBoard), "0 found");
}

TEST(JsonPath, WritesPlacesSoThatTheyCanBeReadAgain) {
  const Json odd = Json::parse(R"({"it's": {"a b": [{"": 1, "x-y": 2}]}})");
  const auto all = JsonPath::parse("$..*")->select(odd);
  ASSERT_EQ(all.size(), 5U);
  for (const auto& one : all) {
    const auto again = JsonPath::parse(written(one.location));
    ASSERT_TRUE(again) << written(one.location);
    ASSERT_EQ(again->select(odd).size(), 1U) << written(one.location);
    EXPECT_EQ(again->select(odd)[0].location, one.location);
  }
}

}  // namespace
}  // namespace tunnelctl::grafana
