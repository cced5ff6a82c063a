// What Loki refuses: the cases of its own parser test (pkg/logql/syntax/parser_test.go) and more, with place
// and reason. Where Loki gives no place, it is ours.
#include "tunnelctl/logql/parser.h"

#include <gmock/gmock.h>

#include <string>

using namespace tunnelctl::logql;

namespace {

std::string refusal(std::string_view text) {
  const auto query = parse(text);
  if (query) return "accepted";
  EXPECT_EQ(query.error().kind, Error::Kind::bad_input);
  std::string message = query.error().message;
  const std::string_view mark = "parse error: ";
  const auto at = message.find(mark);
  return at == std::string::npos ? message : message.erase(at, mark.size());
}

}  // namespace

TEST(LogqlParser, RefusesWithPlaceAndReason) {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {R"(count_over_time({foo=~`bar\w+`}[12h] |~ `error\`))",
       "1:41: error parsing regexp: trailing backslash at end of expression: ``"},
      {R"(unk({ foo = "bar" }[5m]))", R"(1:1: syntax error: unexpected IDENTIFIER "unk")"},
      {R"(absent_over_time({ foo = "bar" }[5h]) by (foo))",
       "1:1: grouping not allowed for absent_over_time aggregation"},
      {R"(approx_topk(2, count_over_time({ foo = "bar" }[5h])) by (foo))",
       "1:54: grouping not allowed for approx_topk aggregation"},
      {R"(rate({ foo = "bar" }[5minutes]))", R"(1:21: unknown unit "minutes" in duration "5minutes")"},
      {R"(label_replace(rate({ foo = "bar" }[5m]),""))", "1:43: syntax error: unexpected ), expecting ,"},
      {R"(label_replace(rate({ foo = "bar" }[5m]),"foo","$1","bar","^^^^x43\\q"))",
       R"(1:58: invalid regex in label_replace: error parsing regexp: invalid escape sequence: `\q`)"},
      {R"(rate({ foo = "bar" }[5))", "1:21: missing closing ']' in duration"},
      {R"(min({ foo = "bar" }[5m]))", "1:5: syntax error: unexpected log query, expecting a metric query"},
      {"avg(\n\t\t\t\t\tlabel_replace(\n\t\t\t\t\t\tcount_over_time({ foo = \"bar\" }[5h]) or "
       "0,\n\t\t\t\t\t\t\"bar\",\n\t\t\t\t\t\t\"$1$2\",\n\t\t\t\t\t\t\"foo\",\n\t\t\t\t\t\t\"(.*).(.*)"
       "\"\n\t\t\t\t\t)\n\t\t\t\t) by (bar,foo)",
       "3:47: unexpected literal for right leg of logical/set binary operation (or): 0"},
      {"avg(\n\t\t\t\t\tlabel_replace(\n\t\t\t\t\t\tcount_over_time({ foo = \"bar\" }[5h]) or "
       "sum_over_time({ foo = \"bar\" "
       "}[5h]),\n\t\t\t\t\t\t\"bar\",\n\t\t\t\t\t\t\"$1$2\",\n\t\t\t\t\t\t\"foo\",\n\t\t\t\t\t\t\"(.*).(.*)"
       "\"\n\t\t\t\t\t)\n\t\t\t\t) by (bar,foo)",
       "3:47: invalid aggregation sum_over_time without unwrap"},
      {R"({ foo = "bar" }|logfmt|addr>=ip("1.2.3.4"))",
       "1:30: syntax error: unexpected ip, expecting NUMBER, DURATION or BYTES"},
      {R"({ foo = "bar" }|logfmt|addr>ip("1.2.3.4"))",
       "1:29: syntax error: unexpected ip, expecting NUMBER, DURATION or BYTES"},
      {R"({ foo = "bar" }|logfmt|addr<=ip("1.2.3.4"))",
       "1:30: syntax error: unexpected ip, expecting NUMBER, DURATION or BYTES"},
      {R"({ foo = "bar" }|logfmt|addr<ip("1.2.3.4"))",
       "1:29: syntax error: unexpected ip, expecting NUMBER, DURATION or BYTES"},
      {R"(sum(3 ,count_over_time({ foo = "bar" }[5h])))", "1:5: unsupported parameter for operation sum(3,"},
      {R"(topk(count_over_time({ foo = "bar" }[5h])))", "1:1: parameter required for operation topk"},
      {R"(bottomk(he,count_over_time({ foo = "bar" }[5h])))",
       R"(1:9: syntax error: unexpected IDENTIFIER "he")"},
      {R"(bottomk(1.2,count_over_time({ foo = "bar" }[5h])))", "1:9: invalid parameter bottomk(1.2,"},
      {R"(stddev({ foo = "bar" }))", "1:8: syntax error: unexpected log query, expecting a metric query"},
      {R"({foo="bar})", "1:6: literal not terminated"},
      {R"({foo="bar")", "1:11: syntax error: unexpected $end, expecting } or ,"},
      {R"({foo="bar"} |~)", "1:15: syntax error: unexpected $end, expecting STRING or ip"},
      {R"({foo="bar"} "foo")", R"(1:13: syntax error: unexpected STRING "foo")"},
      {R"({foo="bar"} foo)", R"(1:13: syntax error: unexpected IDENTIFIER "foo")"},
      {R"({app="foo"} | logfmt | status_code > 0x10)",
       R"(1:38: unable to parse literal as a float: strconv.ParseFloat: parsing "0x10": invalid syntax)"},
      {"{app=~\"\240\241\"}", "1:8: invalid UTF-8 encoding"},
      {"sum_over_time({app=\"foo\"} |= \"bar\" | json | latency >= 250ms or ( status_code < 500 and "
       "status_code > 200)\n\t\t\t| line_format \"blip{{ .foo }}blop {{.status_code}}\" | label_format "
       "foo=bar,status_code=\"buzz{{.bar}}\"[5m])",
       "1:1: invalid aggregation sum_over_time without unwrap"},
      {R"(count_over_time({app="foo"} |= "foo" | json | unwrap foo [5m]))",
       "1:1: invalid aggregation count_over_time with unwrap"},
      {R"({foo="bar"} + {foo="bar"})",
       "1:1: unexpected type for left leg of binary operation (+): a log query"},
      {R"(sum(count_over_time({foo="bar"}[5m])) by (foo) - {foo="bar"})",
       "1:50: unexpected type for right leg of binary operation (-): a log query"},
      {R"({foo="bar"} / sum(count_over_time({foo="bar"}[5m])) by (foo))",
       "1:1: unexpected type for left leg of binary operation (/): a log query"},
      {R"(sum(count_over_time({foo="bar"}[5m])) by (foo) or 1)",
       "1:51: unexpected literal for right leg of logical/set binary operation (or): 1"},
      {R"(1 unless sum(count_over_time({foo="bar"}[5m])) by (foo))",
       "1:1: unexpected literal for left leg of logical/set binary operation (unless): 1"},
      {R"(sum(count_over_time({foo="bar"}[5m])) by (foo) + 1 or 1)",
       "1:55: unexpected literal for right leg of logical/set binary operation (or): 1"},
      {R"(count_over_time({ foo = "bar" }[12m]) > { foo = "bar" })",
       "1:41: unexpected type for right leg of binary operation (>): a log query"},
      {"bool 1 > 1 > bool 1", "1:1: syntax error: unexpected bool"},
      {R"(sum_over_time({namespace="tns"} |= "level=error" | json |foo>=5,bar<25ms| unwrap latency [5m]) by (foo))",
       "1:1: grouping not allowed for sum_over_time aggregation"},
      {R"(sum_over_time(50,{namespace="tns"} |= "level=error" | json |foo>=5,bar<25ms| unwrap latency [5m]))",
       "1:15: parameter 50 not supported for operation sum_over_time"},
      {R"(quantile_over_time({namespace="tns"} |= "level=error" | json |foo>=5,bar<25ms| unwrap latency [5m]))",
       "1:1: parameter required for operation quantile_over_time"},
      {R"(quantile_over_time(foo,{namespace="tns"} |= "level=error" | json |foo>=5,bar<25ms| unwrap latency [5m]))",
       R"(1:20: syntax error: unexpected IDENTIFIER "foo", expecting {)"},
      {"vector(abc)", R"(1:8: syntax error: unexpected IDENTIFIER "abc", expecting NUMBER)"},
      {R"(#{app="foo"} | json)", "1:20: syntax error: unexpected $end"},
      {R"(count without (rate({namespace="apps"}[15s])))",
       "1:16: syntax error: unexpected rate, expecting IDENTIFIER"},
      {"{app='x'}", R"(1:6: syntax error: unexpected ', strings stand in " or `)"},
      {R"({app="x")", "1:9: syntax error: unexpected $end, expecting } or ,"},
      {R"({app="x",})", "1:10: syntax error: unexpected }, expecting IDENTIFIER"},
      {"{app=x}", R"(1:6: syntax error: unexpected IDENTIFIER "x", expecting STRING)"},
      {R"({app="x"} |= y)", R"(1:14: syntax error: unexpected IDENTIFIER "y", expecting STRING or ip)"},
      {R"({app="x"} |~ "(")", "1:14: error parsing regexp: missing closing ): `(`"},
      {R"({app=~"("})", "1:7: error parsing regexp: missing closing ): `(`"},
      {R"({app="x"} | pattern "<_>")", "1:21: invalid pattern parser: at least one capture is required"},
      {R"({app="x"} | pattern "<a><b>")",
       "1:21: invalid pattern parser: found consecutive capture '<a><b>': invalid expression"},
      {R"({app="x"} | pattern "<a> <a>")",
       "1:21: invalid pattern parser: duplicate capture name (a): invalid expression"},
      {R"({app="x"} | pattern "")", "1:21: invalid pattern parser: empty pattern"},
      {R"({app="x"} |> "<a>")", "1:14: named captures are not allowed: found '<a>'"},
      {R"q({app="x"} | regexp "(a)")q",
       "1:20: invalid regexp parser: at least one named capture must be supplied"},
      {R"({app="x"} | regexp "(?P<a")",
       "1:20: invalid regexp parser: error parsing regexp: invalid named capture: `(?P<a`"},
      {R"({app="x"} | line_format "{{.a")", "1:25: invalid line template: template: unclosed action"},
      {R"({app="x"} | label_format a="{{.b}}",a=c)",
       "1:37: multiple label name 'a' not allowed in a single format operation"},
      {R"({app="x"} | label_format __error__="x")", "1:26: __error__ cannot be formatted"},
      {R"({app="x"} | unwrap a)", "1:13: syntax error: unexpected unwrap"},
      {R"({app="x"} | by="x")", "1:13: syntax error: unexpected by"},
      {R"({app="x"} | json | a > "b")",
       R"(1:24: syntax error: unexpected STRING "b", expecting NUMBER, DURATION or BYTES)"},
      {R"({app="x"} | json | a >)",
       "1:23: syntax error: unexpected $end, expecting NUMBER, DURATION or BYTES"},
      {R"({app="x"} | json |)", "1:19: syntax error: unexpected $end"},
      {R"({app="x"} | nope "x")",
       R"(1:18: syntax error: unexpected STRING "x", expecting = or != or =~ or !~ or a comparison)"},
      {R"({app="x"}[5m])", "1:10: syntax error: unexpected RANGE [5m]"},
      {R"(rate({app="x"}))", "1:15: syntax error: unexpected ), expecting RANGE"},
      {R"(rate({app="x"}[5m])", "1:19: syntax error: unexpected $end, expecting )"},
      {R"(rate({app="x"}[$__interval]))", R"(1:15: not a valid duration string: "$__interval")"},
      {R"(rate({app="x"}[5m]) by (a))", "1:1: grouping not allowed for rate aggregation"},
      {R"(sum by (a (rate({app="x"}[5m])))", "1:11: syntax error: unexpected (, expecting , or )"},
      {R"(sort(sum(rate({app="x"}[5m]))) by (a))", "1:32: sort and sort_desc doesn't allow grouping by "},
      {R"(topk(0, rate({app="x"}[5m])))", "1:6: invalid parameter (must be greater than 0) topk(0"},
      {R"(sum(rate({app="x"}[5m])) and)", "1:29: syntax error: unexpected $end"},
      {R"(bytes_rate({app="x"} | unwrap x [5m]))", "1:1: invalid aggregation bytes_rate with unwrap"},
      {R"(rate({app="x"} | unwrap x |= "y" [5m]))", "1:27: syntax error: unexpected |="},
      {R"(rate(({app="x"})[5m] |= "y"))", "1:22: syntax error: unexpected |=, expecting )"},
      {R"(label_replace(rate({app="x"}[5m]), "a", "$1", "b", "("))",
       "1:52: invalid regex in label_replace: error parsing regexp: missing closing ): `(`"},
      {R"(approx_topk(10, sum(rate({app="x"}[5m]))) by (a))",
       "1:43: grouping not allowed for approx_topk aggregation"},
      {R"({app="x"} $)", "1:11: syntax error: unexpected '$'"},
      {R"("x")", R"(1:1: syntax error: unexpected STRING "x")"},
      {"5m", "1:1: syntax error: unexpected DURATION 5m"},
      {"rate", R"(1:1: syntax error: unexpected IDENTIFIER "rate")"},
  };
  for (const auto& [text, message] : cases) EXPECT_EQ(refusal(text), message) << text;
}

TEST(LogqlParser, WantsOneMatcherThatPicksStreams) {
  struct Case {
    const char* text;
    const char* place;
  };
  const Case cases[] = {
      {R"(count_over_time({foo!="bar"}[5m]))", "1:17"},
      {R"(count_over_time({app=~".*"}[5m]))", "1:17"},
      {R"(count_over_time({app!~"bar|baz"}[5m]))", "1:17"},
      {R"(1 + count_over_time({app=~".*"}[5m]))", "1:21"},
      {R"(1 + count_over_time({app=~".+"}[5m]) + count_over_time({app=~".*"}[5m]))", "1:56"},
      {R"(1 + count_over_time({app=~".+"}[5m]) + count_over_time({app=~".*"}[5m]) + 1)", "1:56"},
      {R"({foo!="bar"})", "1:1"},
      {R"({app=~".*"})", "1:1"},
      {R"({foo!~"bar|baz"})", "1:1"},
      {"{}", "1:1"},
  };
  for (const auto& [text, place] : cases) {
    EXPECT_THAT(refusal(text), testing::StartsWith(std::string(place) + ": queries require at least one"))
        << text;
  }
}
