#include "tunnelctl/promql/variables.h"

#include <gmock/gmock.h>

using namespace tunnelctl::promql;
using testing::ElementsAre;
using testing::IsEmpty;

namespace {

const Variables kVariables = {
    {"job", {.values = {"tunneld"}, .all_value = {}, .multi = false}},
    {"one", {.values = {"10.0.0.1:90"}, .all_value = {}, .multi = true}},
    {"many", {.values = {"a.b", "c"}, .all_value = {}, .multi = true}},
    {"all", {.values = {"$__all"}, .all_value = {}, .multi = true}},
    {"own", {.values = {"$__all"}, .all_value = "free|premium", .multi = true}},
    {"__rate_interval", {.values = {"1m"}, .all_value = {}, .multi = false}},
    {"sly", {.values = {"$job"}, .all_value = {}, .multi = false}},
};

}  // namespace

TEST(PromqlVariables, PutsValuesInAsGrafanaDoes) {
  struct Case {
    const char* text;
    const char* expanded;
  };
  const Case cases[] = {
      {"up{job=\"$job\"}", "up{job=\"tunneld\"}"},
      {"up{job=\"${job}\"}", "up{job=\"tunneld\"}"},
      {"up{job=\"[[job]]\"}", "up{job=\"tunneld\"}"},
      {"${job.text} ${job.a.b:raw}", "tunneld tunneld"},
      {"rate(x[$__rate_interval])", "rate(x[1m])"},
      {"x{i=~\"$one\"}", R"(x{i=~"10\\.0\\.0\\.1:90"})"},
      {"x{i=~\"$many\"}", R"q(x{i=~"(a\\.b|c)"})q"},
      {"x{i=~\"$all\"}", "x{i=~\".+\"}"},
      {"x{i=~\"${own:regex}\"}", "x{i=~\"free|premium\"}"},
      {"${many:regex}", R"((a\.b|c))"},
      {"${one:regex}", R"(10\.0\.0\.1:90)"},
      {"${many:pipe} ${many:csv} ${many:raw} ${many:glob} ${many:text}", "a.b|c a.b,c a.b,c {a.b,c} a.b + c"},
      {"[[many:pipe]]", "a.b|c"},
      {"${many:doublequote} ${many:singlequote} ${many:json}", R"("a.b","c" 'a.b','c' ["a.b","c"])"},
      {"$sly", "$job"},  // once only
      {"$jobs $ ${ $$job [[ [[job", "$jobs $ ${ $tunneld [[ [[job"},
      {"label_replace(x, \"a\", \"$1-${2}\", \"b\", \"(.*)-(.*)$\")",
       "label_replace(x, \"a\", \"$1-${2}\", \"b\", \"(.*)-(.*)$\")"},
  };
  for (const auto& [text, expanded] : cases) EXPECT_EQ(expand(text, kVariables).text, expanded) << text;
}

TEST(PromqlVariables, NamesTheUndefinedOnce) {
  const auto out = expand("$nope + ${nope:csv} + $job + $1", kVariables);
  EXPECT_THAT(out.undefined, ElementsAre("nope"));
  EXPECT_EQ(out.text, "$nope + ${nope:csv} + tunneld + $1");
}

TEST(PromqlVariables, ListsEveryUseWithItsPlace) {
  const std::string text = "x{a=~\"$a\",b=\"${b:regex}\"}[[c]]";
  const auto uses = variables_used(text);
  ASSERT_EQ(uses.size(), 3u);
  EXPECT_EQ(uses[0].name, "a");
  EXPECT_EQ(uses[1].format, "regex");
  EXPECT_EQ(text.substr(uses[1].span.begin, uses[1].span.end - uses[1].span.begin), "${b:regex}");
  EXPECT_EQ(uses[2].name, "c");
  EXPECT_THAT(variables_used("foo[5m] =~ \"x$\""), IsEmpty());
}

TEST(PromqlVariables, KnowsGrafanasOwn) {
  EXPECT_TRUE(is_builtin_variable("__rate_interval"));
  EXPECT_TRUE(is_builtin_variable("timeFilter"));
  EXPECT_FALSE(is_builtin_variable("service"));
}
