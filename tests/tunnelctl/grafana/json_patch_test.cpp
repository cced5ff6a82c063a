#include "tunnelctl/grafana/json_patch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::grafana {
namespace {

using testing::HasSubstr;

const Json kBoard = Json::parse(R"({
  "id": 17, "uid": "board", "version": 3, "title": "Board", "tags": ["x"],
  "panels": [{"id": 1, "title": "One", "targets": [{"refId": "A", "expr": "up"}]},
             {"id": 4, "title": "Four", "panels": []}, {"id": 7, "title": "Seven"}]})");

Operation op(const char* name, const char* path, const char* value = nullptr) {
  return {name, path, value == nullptr ? std::nullopt : std::optional<Json>(Json::parse(value))};
}

/// The document after it, or what went wrong.
std::string outcome(const std::vector<Operation>& operations) {
  auto result = patch(kBoard, operations, {.kept = {"uid", "id", "version"}});
  if (!result) return result.error().message;
  const auto ids = [&] {
    std::string text;
    for (const auto& panel : result->document["panels"])
      text += (text.empty() ? "" : ",") + panel["id"].dump();
    return text;
  };
  return "panels " + ids() + ", " + Json::diff(kBoard, result->document).dump();
}

TEST(JsonPatch, ChangesTheOnePlaceThatAPathMeans) {
  for (const char* path : {"$.title", "title", "/title", "$['title']"})
    EXPECT_EQ(patch(kBoard, {op("replace", path, "\"New\"")})->document["title"], "New") << path;
  for (const char* path :
       {"$.panels[0].targets[0].expr", "/panels/0/targets/0/expr", R"($.panels[0].targets[0]["expr"])",
        "$.panels[?(@.id==1)].targets[?(@.refId=='A')].expr", "$..expr", "panels[-3].targets[-1].expr"})
    EXPECT_EQ(patch(kBoard, {op("replace", path, "\"down\"")})->document["panels"][0]["targets"][0]["expr"],
              "down")
        << path;
}

TEST(JsonPatch, AddsMembersInsertsItemsAndAppends) {
  EXPECT_EQ(patch(kBoard, {op("add", "$.refresh", "\"5s\"")})->document["refresh"], "5s");
  EXPECT_EQ(patch(kBoard, {op("add", "$.title", "\"Set\"")})->document["title"], "Set");
  for (const char* path : {"$.tags/-", "/tags/-", "$.tags[-]", "$.tags[1]", "/tags/1"})
    EXPECT_EQ(patch(kBoard, {op("add", path, "\"y\"")})->document["tags"], Json({"x", "y"})) << path;
  EXPECT_EQ(patch(kBoard, {op("add", "$.tags[0]", "\"y\"")})->document["tags"], Json({"y", "x"}));
  EXPECT_EQ(patch(kBoard, {op("add", "$.panels[1].panels/-", "{}")})->document["panels"][1]["panels"],
            Json::array({Json::object()}));
  EXPECT_EQ(patch(kBoard, {op("add", "$.templating", "{}"), op("add", "$.templating.list", "[]")})
                ->document["templating"]["list"],
            Json::array());
}

// Each of these was taken by the patch tool that people know, and did something else than they meant.
TEST(JsonPatch, RefusesWhatWouldSurprise) {
  struct Case {
    std::vector<Operation> operations;
    const char* message;
  };
  const Case cases[] = {
      // It appended to $.panels.
      {{op("add", "$.panels[1]/-", "{}")},
       "operation 1 (add $.panels[1]/-): $.panels[1] is no list, nothing can be appended to it"},
      // It changed $.title.
      {{op("replace", "$..title", "\"x\"")},
       "means 4 places ($.title, $.panels[0].title, $.panels[1].title, ...); one is needed"},
      // It made a member called "$".
      {{op("replace", "$", "{}")}, "the whole document cannot be replaced"},
      {{op("add", "$", "{}")}, "the whole document cannot be replaced"},
      // It set null.
      {{op("replace", "$.title")},
       "operation 1 (replace $.title): needs a value; an explicit nothing is null"},
      {{op("add", "$.title")}, "needs a value"},
      // It saved an unchanged board.
      {{op("remove", "$.nope")}, "operation 1 (remove $.nope): $ has no member \"nope\""},
      // It was undone without a word.
      {{op("replace", "$.uid", "\"other\"")}, "\"uid\" belongs to the server and cannot be changed"},
      {{op("replace", "$['id']", "1")}, "\"id\" belongs to the server"},
      {{op("remove", "/version")}, "\"version\" belongs to the server"},
      {{op("add", "uid", "\"other\"")}, "\"uid\" belongs to the server"},
      {{op("move", "$.title")}, "there is no such operation; there are replace, add and remove"},
      {{op("replace", "$.nope", "1")}, "$ has no member \"nope\" (new members are added by add)"},
      {{op("replace", "$.panels[99].title", "1")}, "$.panels has 3 items, there is no [99]"},
      {{op("replace", "$.panels[*].title", "1")}, "means 3 places"},
      {{op("add", "$.a.b", "1")}, "$ has no member \"a\""},
      {{op("add", "$.panels.x", "1")}, "$.panels is a list: give an index, or /- to append"},
      {{op("add", "$.panels[4]", "{}")}, "$.panels has 3 items; nothing can be inserted at [4]"},
      {{op("add", "$.panels[-1]", "{}")}, "nothing can be inserted at [-1]"},
      {{op("add", "$.panels[0][1]", "{}")}, "$.panels[0] is no list"},
      {{op("add", "$.title.x", "1")}, "$.title is neither an object nor a list"},
      {{op("add", "$.panels[?(@.id==4)]", "{}")},
       "must end with the name of the new member, an index, or /-"},
      {{op("remove", "$.title", "1")}, "takes no value"},
      {{op("replace", "$.panels[0", "1")},
       "operation 1 (replace $.panels[0): JSONPath, column 11: the ] is missing"},
      {{op("replace", "$.title", "\"x\""), op("remove", "$.nope")}, "operation 2 (remove $.nope)"},
  };
  for (const auto& one : cases) EXPECT_THAT(outcome(one.operations), HasSubstr(one.message));
}

TEST(JsonPatch, RemovalsThatFollowEachOtherMeanTheDocumentBeforeThem) {
  EXPECT_THAT(outcome({op("remove", "$.panels[0]"), op("remove", "$.panels[2]")}), HasSubstr("panels 4,"));
  EXPECT_THAT(outcome({op("remove", "$.panels[2]"), op("remove", "$.panels[0]")}), HasSubstr("panels 4,"));
  EXPECT_THAT(
      outcome({op("remove", "$.panels[0]"), op("remove", "$.panels[0]")}),
      HasSubstr("operation 2 (remove $.panels[0]): $.panels[0] goes away or is taken apart by operation 1"));
  EXPECT_THAT(outcome({op("remove", "$.panels[0]"), op("remove", "$.panels[0].title")}),
              HasSubstr("operation 2"));
  EXPECT_THAT(outcome({op("remove", "$.panels[0].title"), op("remove", "$.panels[0]")}),
              HasSubstr("operation 2"));
  EXPECT_THAT(
      outcome({op("remove", "$.panels[1].panels"), op("remove", "$.panels[0]"), op("remove", "tags")}),
      HasSubstr("panels 4,7,"));
}

TEST(JsonPatch, AnIndexBehindAGapIsRefusedAndANameIsNot) {
  EXPECT_THAT(
      outcome({op("remove", "$.panels[1]"), op("replace", "$.panels[1].title", "\"x\"")}),
      HasSubstr("an operation before it removed an item of $.panels, so [1] may mean another one now"));
  EXPECT_THAT(outcome({op("remove", "$.panels[1]"), op("add", "$.panels[2]", "{}")}),
              HasSubstr("may mean another one now"));
  EXPECT_THAT(outcome({op("remove", "$.panels[1]"), op("replace", "$.panels[0].title", "\"x\"")}),
              HasSubstr("panels 1,7,"));
  EXPECT_THAT(outcome({op("remove", "$.panels[1]"), op("replace", "$.panels[?(@.id==7)].title", "\"x\"")}),
              HasSubstr("panels 1,7,"));
  EXPECT_THAT(outcome({op("remove", "$.panels[1]"), op("add", "$.panels/-", "{\"id\":9}")}),
              HasSubstr("panels 1,7,9,"));
}

TEST(JsonPatch, TellsWhatItDid) {
  const auto result = patch(kBoard, {op("replace", "$.title", "\"New\""), op("remove", "$.panels[1]"),
                                     op("add", "/tags/-", "\"y\"")});
  ASSERT_TRUE(result);
  EXPECT_THAT(result->done,
              testing::ElementsAre("replaced $.title: \"Board\" -> \"New\"",
                                   "removed $.panels[1]: id 4, \"Four\"", "added $.tags[1]: \"y\""));
}

TEST(JsonPatch, ReadsOperationsFromAList) {
  const auto read = operations_of(
      Json::parse(R"([{"op": "replace", "path": "$.a", "value": null}, {"op": "remove", "path": "/b"}])"));
  ASSERT_TRUE(read);
  EXPECT_TRUE((*read)[0].value && (*read)[0].value->is_null());
  EXPECT_FALSE((*read)[1].value);
  EXPECT_EQ(operations_of(Json::object()).error().message,
            "a patch must be a list: [{\"op\": ..., \"path\": ..., \"value\": ...}]");
  EXPECT_EQ(operations_of(Json::parse(R"([{"op": "add", "pth": "x"}])")).error().message,
            "operation 1: \"pth\" is unknown here or no text; there are op, path and value");
  EXPECT_EQ(operations_of(Json::parse(R"([{"op": "add"}])")).error().message,
            "operation 1: needs op and path");
}

TEST(JsonPatch, ATypedValueIsJsonWhereItReadsAsJson) {
  EXPECT_EQ(*typed_value("30s"), "30s");
  EXPECT_EQ(*typed_value("30"), 30);
  EXPECT_EQ(*typed_value("\"30\""), "30");
  EXPECT_EQ(*typed_value("true"), true);
  EXPECT_EQ(*typed_value("null"), nullptr);
  EXPECT_EQ(*typed_value("12 monkeys"), "12 monkeys");
  EXPECT_EQ(*typed_value("[1,2]"), Json({1, 2}));
  EXPECT_EQ(*typed_value("up{job=\"a\"}"), "up{job=\"a\"}");
  // What was meant as JSON is not taken for text because of a comma.
  EXPECT_THAT(typed_value("{\"a\": 1,}").error().message, HasSubstr("the value:1:9: is not valid JSON"));
  EXPECT_FALSE(typed_value("[1,"));
  EXPECT_FALSE(typed_value("\"open"));
}

}  // namespace
}  // namespace tunnelctl::grafana
