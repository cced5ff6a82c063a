#include "tunnelctl/patterns/record.h"

#include <gtest/gtest.h>

#include "tunnelctl/patterns/levels.h"

namespace {

using namespace tunnelctl::patterns;

struct Row {
  std::string_view line, text;
  Level level = Level::none;
};

void check(std::initializer_list<Row> rows) {
  RecordReader reader;
  for (const auto& row : rows) {
    const auto record = reader.read(row.line, false);
    EXPECT_EQ(record.text, row.text) << row.line;
    EXPECT_EQ(to_string(record.level), to_string(row.level)) << row.line;
  }
}

TEST(Record, TakesMessageAndLevelOfAJsonObject) {
  check({
      {R"({"level":"error","message":"it failed","n":1})", "it failed", Level::error},
      {R"( { "severity" : "WARNING" , "msg" : "a \"b\"\tc" } )", "a \"b\"\tc", Level::warn},
      {R"({"lvl":"dbug","content":"x","nested":{"message":"no","a":[1,{"b":"}"}]}})", "x", Level::debug},
      {R"({"level":50,"msg":"pino"})", "pino", Level::error},
      {R"({"PRIORITY":"3","MESSAGE":"journald"})", "journald", Level::error},
      {R"({"log.level":"info","log":{"x":"y"},"message":"ecs"})", "ecs", Level::info},
      {R"({"content":"less","msg":"more"})", "more"},
      {R"({"message":"failed","error":"no route"})", "failed: no route"},
      {R"({"message":"failed","why":"no route","level":"warn"})", "failed: no route", Level::warn},
      {R"({"error":"alone"})", "alone"},
      {R"({"error":{"code":1},"message":"m"})", "m"},
      {R"({"message":"\u00e9\ud83d\ude00\ud800"})", "\xC3\xA9\xF0\x9F\x98\x80\xEF\xBF\xBD"},
      {R"({"message":"first\n\tat second"})", "first"},
      {R"({"message":"","msg":"x"})", "x"},
      {R"({"message":12,"msg":"x"})", "x"},
      {R"({"status":200,"path":"/a","agent":"a b","ok":true,"none":null})",
       R"(status=200 path=/a agent="a b" ok=true none=null)"},
      {R"({"level":"info","n":1})", "level=info n=1", Level::info},
  });
}

TEST(Record, ReadsWhatAContainerWrapsOnceMore) {
  check({
      {R"({"log":"{\"level\":\"warn\",\"msg\":\"inner\"}\n","stream":"stderr","time":"2026-01-02T03:04:05Z"})",
       "inner", Level::warn},
      {R"({"log":"level=error msg=\"inner one\"\n","stream":"stderr"})", "inner one", Level::error},
      {R"({"log":"plain text\n","stream":"stdout"})", "plain text"},
  });
}

TEST(Record, TakesMessageAndLevelOfLogfmt) {
  check({
      {R"(ts=2026-01-02T03:04:05Z caller=a.go:1 level=warn msg="it failed" err="no \"route\"")",
       R"(it failed: no "route")", Level::warn},
      {"level=info msg=started", "started", Level::info},
      {"time=1 lvl=eror bare msg=x", "x", Level::error},
      {"level=info status=200 path=/a", "level=info status=200 path=/a", Level::info},
      {R"(a=1 msg="never closed)", R"(a=1 msg="never closed)"},
      {"not logfmt msg=x", "not logfmt msg=x"},
      {"=x msg=y", "=x msg=y"},
  });
}

TEST(Record, TakesMalformedJsonAsText) {
  for (const std::string_view line :
       {"{", "{}", "{\"message\":\"x\"", "{\"message\":\"x\"}}", "{\"message\":\"x\",}", "{message:\"x\"}",
        "{\"message\" \"x\"}", "{\"message\":\"x\" \"a\":1}", "{\"a\":[1,\"message\":\"x\"}",
        "{\"message\":\"x\"} tail", "{\"message\":}", "[\"message\"]", "{\"message\":\"x\\\"}"})
    check({{line, line}});
}

TEST(Record, TakesTheMessageOfAnObjectThatWasCut) {
  RecordReader reader;
  const std::string_view line = R"({"level":"error","message":"boom","stack":"a very long)";
  EXPECT_EQ(reader.read(line, true).text, "boom");
  EXPECT_EQ(reader.read(line, true).level, Level::error);
  EXPECT_EQ(reader.read(line, false).text, line);
  EXPECT_EQ(reader.read(R"({"message":"boo)", true).text, R"({"message":"boo)");
}

TEST(Record, TakesTheFirstLineThatIsNotBlank) {
  check({{"\n  \nfirst\nsecond", "first"}, {"", ""}, {" \n\t", ""}});
}

TEST(Levels, AreToldByTheFirstWordsOfALine) {
  struct {
    std::string_view text;
    Level level;
  } const rows[] = {
      {"<time> ERROR x", Level::error},
      {"<time> [error] x", Level::error},
      {"<time> WARN [main] x", Level::warn},
      {"[<time>] INFO x", Level::info},
      {"<time> host sshd[<num>]: error: kex", Level::error},
      {"panic: runtime error", Level::error},
      {"W<time> <num> a.go:<num>] x", Level::warn},
      {"F<time> x", Level::error},
      {"a=b level=debug x", Level::debug},
      {"TRACE x", Level::trace},
      {"Error: x", Level::error},
      {"<time> |INFO| x", Level::info},
      {"no error here", Level::none},
      {"the alert: fired", Level::none},
      {"ERROR-free /ERROR/ x.ERROR", Level::none},
      {"one two three four five six seven eight nine ten a b c d e f g ERROR", Level::none},
      {"", Level::none},
  };
  for (const auto& row : rows)
    EXPECT_EQ(to_string(level_in_text(row.text)), to_string(row.level)) << row.text;
}

}  // namespace
