#include "tunnelctl/monitor/repeats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace tunnelctl::monitor;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(LabelValuesQuery, IsTakenApart) {
  struct Case {
    const char* query;
    const char* selector;
    const char* label;
  };
  const Case cases[] = {
      {"label_values(up, job)", "up", "job"},
      {" label_values ( up{a=\"x,y)\", b=~\"$c\"} ,  instance ) ", "up{a=\"x,y)\", b=~\"$c\"}", "instance"},
      {"label_values(job)", "", "job"},
      {"label_values({service=\"t\"}, level)", "{service=\"t\"}", "level"},
  };
  for (const auto& one : cases) {
    const auto parts = parse_label_values(one.query);
    ASSERT_TRUE(parts) << one.query;
    EXPECT_EQ(parts->selector, one.selector);
    EXPECT_EQ(parts->label, one.label);
  }
  for (const char* other : {"", "label_values", "label_values(", "label_values()", "label_values(up,)",
                            "label_values(,job)", "query_result(up)", "metrics(.*)", "label_values(up, a-b)"})
    EXPECT_FALSE(parse_label_values(other)) << other;
}

TEST(Repeats, ComeFromThePanelAndFromItsRow) {
  const Json dashboard = Json::parse(R"({"panels":[
      {"id":1,"type":"stat"},
      {"id":2,"type":"stat","repeat":"instance"},
      {"id":3,"type":"row","repeat":"job","panels":[]},
      {"id":4,"type":"stat"},
      {"id":5,"type":"stat","repeat":"instance"},
      {"id":6,"type":"row","panels":[{"id":7,"type":"stat"}]},
      {"id":8,"type":"row","repeat":"job","panels":[{"id":9,"type":"stat"}]}, 7]})");
  const auto all = repeats(dashboard);
  EXPECT_EQ(all, (std::map<std::int64_t, std::vector<std::string>>{
                     {2, {"instance"}}, {4, {"job"}}, {5, {"job", "instance"}}, {9, {"job"}}}));
  EXPECT_THAT(repeats(Json::parse(R"({"panels":{}})")), IsEmpty());
}

Values values(const std::string& variable) {
  return values_of({{"templating", {{"list", Json::array({Json::parse(variable)})}}}}, "x");
}

TEST(ValuesOfAVariable, AreThoseSelectedElseAskedFor) {
  EXPECT_THAT(values(R"({"name":"x","type":"query","current":{"value":["a","b"]}})").known,
              ElementsAre("a", "b"));
  EXPECT_THAT(values(R"({"name":"x","type":"custom","query":"a, two : 2,,b"})").known,
              ElementsAre("a", "2", "b"));
  const Values asked = values(
      R"json({"name":"x","type":"query","current":{"value":["$__all"]},"datasource":{"uid":"${datasource}"},
      "query":{"query":"label_values(up, job)"},"regex":"/t(.*)/"})json");
  ASSERT_TRUE(asked.ask);
  EXPECT_EQ(asked.ask->label, "job");
  EXPECT_EQ(asked.datasource, "${datasource}");
  EXPECT_EQ(asked.regex, "/t(.*)/");
  EXPECT_TRUE(values(R"json({"name":"x","type":"query","definition":"label_values(job)"})json").ask);
  EXPECT_THAT(values(R"json({"name":"x","type":"query","query":"metrics(.*)"})json").unknown,
              HasSubstr("label_values"));
  EXPECT_THAT(values(R"json({"name":"other"})json").unknown, HasSubstr("no variable x"));
}

TEST(ValuesOfAVariable, PassItsRegex) {
  const std::vector<std::string> all{"a:1", "b:2", "a:3"};
  EXPECT_THAT(filtered(all, ""), ElementsAre("a:1", "b:2", "a:3"));
  EXPECT_THAT(filtered(all, "/^a/"), ElementsAre("a:1", "a:3"));
  EXPECT_THAT(filtered(all, "/^(.*):\\d$/"), ElementsAre("a", "b"));  // each once
  EXPECT_THAT(filtered(all, "/^B/i"), ElementsAre("b:2"));
  EXPECT_THAT(filtered(all, "b"), ElementsAre("b:2"));
  EXPECT_THAT(filtered(all, "/(/"), ElementsAre("a:1", "b:2", "a:3"));
}

}  // namespace
