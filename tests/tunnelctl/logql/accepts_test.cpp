// What Loki accepts: the cases of its own parser test (pkg/logql/syntax/parser_test.go) and more.
#include "tunnelctl/logql/parser.h"

#include <gmock/gmock.h>

#include <string>

using namespace tunnelctl::logql;

namespace {

void expect_kind(const char* text, LogQuery::Kind kind) {
  const auto query = parse(text);
  ASSERT_TRUE(query) << text << ": " << query.error().message;
  EXPECT_EQ(query->kind, kind) << text;
}

}  // namespace

TEST(LogqlParser, TakesLogQueries) {
  const char* const queries[] = {
      R"({ foo = "bar" } | decolorize)",
      R"({foo="bar"})",
      R"({ foo = "bar" })",
      R"({ namespace="buzz", foo != "bar" })",
      R"({ foo =~ "bar" })",
      R"({ namespace="buzz", foo !~ "bar" })",
      R"({ foo = "bar" }|logfmt --strict)",
      R"({ foo = "bar" }|logfmt|rate="a")",
      R"({ foo = "bar" }|logfmt|length>5d)",
      R"({ foo = "bar" }|logfmt --strict --keep-empty|length>5d)",
      R"({ foo = "bar" } | logfmt | msg =~ "`.`" )",
      R"({foo="bar"} |= "baz" |= ip("123.123.123.123"))",
      R"({ foo = "bar" , ip="foo"}|logfmt|= ip("127.0.0.1")|ip="2.3.4.5"|ip="abc"|ipaddr=ip("4.5.6.7")|ip=ip("6.7.8.9"))",
      R"({foo="bar"} |= ip("123.123.123.123"))",
      R"({foo="bar"} |= ip("123.123.123.123")|= "baz")",
      R"({foo="bar"} |= ip("123.123.123.123")|= "baz" |=ip("123.123.123.123"))",
      R"({foo="bar"} != ip("123.123.123.123"))",
      R"({foo="bar"} != ip("123.123.123.123")|= "baz")",
      R"({foo="bar"} != ip("123.123.123.123")|= "baz" !=ip("123.123.123.123"))",
      R"({ foo = "bar" }|logfmt|addr=ip("1.2.3.4"))",
      R"({ foo = "bar" }|logfmt|addr!=ip("1.2.3.4"))",
      R"({ foo = "bar" }|logfmt|level="error"|addr=ip("1.2.3.4"))",
      R"({ foo = "bar" }|logfmt|level="error"|addr!=ip("1.2.3.4"))",
      R"({ foo = "bar" }|logfmt|remote_addr=ip("2.3.4.5")|level="error"|addr=ip("1.2.3.4"))",
      R"({ foo = "bar" }|logfmt|remote_addr!=ip("2.3.4.5")|level="error"|addr!=ip("1.2.3.4"))",
      R"({ foo = "bar" }|logfmt|remote_addr=ip("2.3.4.5")|level="error"|addr!=ip("1.2.3.4"))",
      R"({ foo = "bar" }|logfmt|ip="2.3.4.5")",
      R"({ foo = "bar" }|logfmt|ip="2.3.4.5"|ip="abc")",
      R"({ foo = "bar" }|logfmt|ip="2.3.4.5"|ip="abc"|ipaddr=ip("4.5.6.7"))",
      R"({ foo = "bar" }|logfmt|ip="2.3.4.5"|ip="abc"|ipaddr=ip("4.5.6.7")|ip=ip("6.7.8.9"))",
      R"({ foo = "bar", bar != "baz" })",
      R"({foo="bar"} |= "baz")",
      R"({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap")",
      R"({app="foo"} |= "bar" | json | latency >= 250ms or ( status_code < 500 and status_code > 200))",
      R"({app="foo"} |= "bar" | unpack | json | latency >= 250ms or ( status_code < 500 and status_code > 200))",
      R"({app="foo"} |= "bar" | json | (duration > 1s or status!= 200) and method!="POST")",
      R"({app="foo"} |= "bar" | pattern "<foo> bar <buzz>" | (duration > 1s or status!= 200) and method!="POST")",
      R"({app="foo"} |= "bar" | json | ( status_code < 500 and status_code > 200) or latency >= 250ms )",
      R"({app="foo"} |= "bar" | json | ( status_code < 500 or status_code > 200) and latency >= 250ms )",
      R"({app="foo"} |= "bar" | json |  status_code < 500 or status_code > 200 and latency >= 250ms )",
      "{app=\"foo\"} |= \"bar\" | json | latency >= 250ms or ( status_code < 500 and status_code > "
      "200)\n\t\t\t\t| foo=\"bar\" buzz!=\"blip\", blop=~\"boop\" or fuzz==5",
      R"({app="foo"} |= "bar" | line_format "blip{{ .foo }}blop")",
      "{app=\"foo\"} |= \"bar\" | json | latency >= 250ms or ( status_code < 500 and status_code > "
      "200)\n\t\t\t| line_format \"blip{{ .foo }}blop {{.status_code}}\"",
      "{app=\"foo\"} |= \"bar\" | json | latency >= 250ms or ( status_code < 500 and status_code > "
      "200)\n\t\t\t| line_format \"blip{{ .foo }}blop {{.status_code}}\" | label_format "
      "foo=bar,status_code=\"buzz{{.bar}}\"",
      R"({app="foo"} |= "bar" | json |  status_code < 500 or status_code > 200 and size >= 2.5KiB )",
      "{app=\"foo\"}\n\t\t\t\t\t# |= \"bar\"\n\t\t\t\t\t| json",
      "{app=\"foo\"}\n\t\t\t\t\t#\n\t\t\t\t\t|= \"bar\"\n\t\t\t\t\t| json",
      R"({app="foo"} # |= "bar" | json)",
      R"({app="foo"} | json #)",
      R"({app="#"})",
      R"({app="foo"} |= "#")",
      R"({app="foo"} | bar="#")",
      R"({app="foo"} | json bob="top.sub[\"index\"]")",
      R"({app="foo"} | json bob="top.params[0]")",
      R"({app="foo"} | json response_code="response.code", api_key="request.headers[\"X-API-KEY\"]")",
      R"({app="foo"} | json response_code, api_key="request.headers[\"X-API-KEY\"]", layer7_something_specific="layer7_something_specific")",
      R"({app="foo"} | logfmt message="msg")",
      R"({app="foo"} | logfmt msg)",
      R"({app="foo"} | logfmt --strict msg)",
      R"({app="foo"} | logfmt --keep-empty msg, err )",
      R"({app="foo"} | logfmt msg, err="error")",
      R"({app="foo"} | logfmt --strict --keep-empty msg="message", apiKey="api_key")",
      R"({app="foo"} |= "foo" or "bar" |= "buzz" or "fizz")",
      R"({app="foo"} |= "foo" or "bar" or "baz")",
      R"({app="foo"} |> "foo" or "bar" or "baz")",
      R"({app="baz", foo!="bar"})",
      R"({app=~".+"})",
      R"({foo=~"bar|baz"})",
      R"({variants="a"})",
      R"({of="a"})",
      R"({foo="bar"} | logfmt | of = "a" | variants = "b")",
      R"({app="x"} |> "<_> error <_>")",
      R"({app="x"} !> "<_>" or "y<_>")",
      R"({app="x"} |= "a" or "b" != ip("10.0.0.0/8"))",
      R"({app="x"} | json a="b.c[0]", d | drop a, d="x" | keep e)",
      R"({app="x"} | logfmt --strict --keep-empty a="b")",
      R"({app="x"} // comment)",
      R"({app="x"} /* comment */ |= "y")",
      R"({app="x"} | json | size > 5KB and took <= 1.5s, n != 3 or (a = "b" c != "d"))",
      R"({app="x"} | line_format "{{ printf \"}}\" }} {{/* }} */}}")",
  };
  for (const char* text : queries) expect_kind(text, LogQuery::Kind::log);
}

TEST(LogqlParser, TakesMetricQueries) {
  const char* const queries[] = {
      R"(count_over_time({foo="bar"}[12h] |= "error"))",
      R"(count_over_time({foo="bar"} |= "error" [12h]))",
      R"(count_over_time({ foo = "bar" }[12m]))",
      R"(bytes_over_time({ foo = "bar" }[12m]))",
      R"(bytes_rate({ foo = "bar" }[12m]))",
      R"(rate({ foo = "bar" }[5h]))",
      R"(rate({ foo = "bar" }[5d]))",
      R"(count_over_time({ foo = "bar" }[1w]))",
      R"(absent_over_time({ foo = "bar" }[1w]))",
      R"(sum(rate({ foo = "bar" }[5h])))",
      R"(sum(rate({ foo ="bar" }[1y])))",
      R"(avg(count_over_time({ foo = "bar" }[5h])) by (bar,foo))",
      "avg(\n\t\t\t\t\tlabel_replace(\n\t\t\t\t\t\tcount_over_time({ foo = \"bar\" "
      "}[5h]),\n\t\t\t\t\t\t\"bar\",\n\t\t\t\t\t\t\"$1$2\",\n\t\t\t\t\t\t\"foo\",\n\t\t\t\t\t\t\"(.*).(.*)"
      "\"\n\t\t\t\t\t)\n\t\t\t\t) by (bar,foo)",
      R"(avg(count_over_time({ foo = "bar" }[5h])) by ())",
      R"(max without (bar) (count_over_time({ foo = "bar" }[5h])))",
      R"(max without () (count_over_time({ foo = "bar" }[5h])))",
      R"(topk(10,count_over_time({ foo = "bar" }[5h])) without (bar))",
      R"(bottomk(30 ,sum(rate({ foo = "bar" }[5h])) by (foo)))",
      R"(max( sum(count_over_time({ foo = "bar" }[5h])) without (foo,bar) ) by (foo))",
      R"(count_over_time(({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap")[5m]))",
      R"(bytes_over_time(({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap")[5m]))",
      R"(bytes_over_time(({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap" | unpack)[5m]))",
      "\n\t\t\tlabel_replace(\n\t\t\t\tbytes_over_time(({foo=\"bar\"} |= \"baz\" |~ \"blip\" != \"flip\" !~ "
      "\"flap\")[5m]),\n\t\t\t\t\"buzz\",\n\t\t\t\t\"$2\",\n\t\t\t\t\"bar\",\n\t\t\t\t\"(.*):(.*)\"\n\t\t\t)"
      "\n\t\t\t",
      R"(sum(count_over_time(({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap")[5m])) by (foo))",
      R"(sum(bytes_rate(({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap")[5m])) by (foo))",
      R"(topk(5,count_over_time(({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap")[5m])) without (foo))",
      R"(topk(5,sum(rate(({foo="bar"} |= "baz" |~ "blip" != "flip" !~ "flap")[5m])) by (app)))",
      R"(count_over_time({foo="bar"}[5m] |= "baz" |~ "blip" != "flip" !~ "flap"))",
      R"(sum(count_over_time({foo="bar"}[5m] |= "baz" |~ "blip" != "flip" !~ "flap")) by (foo))",
      R"(topk(5,count_over_time({foo="bar"}[5m] |= "baz" |~ "blip" != "flip" !~ "flap")) without (foo))",
      R"(topk(5,sum(rate({foo="bar"}[5m] |= "baz" |~ "blip" != "flip" !~ "flap")) by (app)))",
      "\n\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo) "
      "/\n\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo) "
      "/\n\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo)\n\t\t\t",
      "\n\t\t\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo) "
      "^\n\t\t\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo) "
      "/\n\t\t\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo)\n\t\t\t\t\t",
      "\n\t\t\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo) "
      "+\n\t\t\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo) "
      "/\n\t\t\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) by (foo)\n\t\t\t\t\t",
      "sum by (job) (\n\t\t\t\t\t\t\tcount_over_time({namespace=\"tns\"} |= "
      "\"level=error\"[5m])\n\t\t\t\t\t\t/"
      "\n\t\t\t\t\t\t\tcount_over_time({namespace=\"tns\"}[5m])\n\t\t\t\t\t\t)",
      "sum by (job) (\n\t\t\t\t\t\t\tcount_over_time({namespace=\"tns\"} |= "
      "\"level=error\"[5m])\n\t\t\t\t\t\t/"
      "\n\t\t\t\t\t\t\tcount_over_time({namespace=\"tns\"}[5m])\n\t\t\t\t\t\t) * 100",
      R"(sum(count_over_time({foo="bar"}[5m])) by (foo) + 1 / 2)",
      "1 + -2 / 1",
      "1 + 1 - -1",
      "count_over_time({app=\"foo\"} |= \"bar\" | json | latency >= 250ms or ( status_code < 500 and "
      "status_code > 200)\n\t\t\t| line_format \"blip{{ .foo }}blop {{.status_code}}\" | label_format "
      "foo=bar,status_code=\"buzz{{.bar}}\"[5m])",
      R"(sum_over_time({namespace="tns"} |= "level=error" | json |foo>=5,bar<25ms| unwrap bytes(foo) [5m]))",
      R"(sum_over_time({namespace="tns"} |= "level=error" | json |foo>=5,bar<25ms| unwrap bytes(foo) [5m] offset 5m))",
      R"(sum_over_time({namespace="tns"} |= "level=error" | json |foo>=5,bar<25ms| unwrap latency [5m]))",
      R"(sum_over_time({namespace="tns"} |= "level=error" | json |foo==5,bar<25ms| unwrap latency [5m]))",
      R"(stddev_over_time({app="foo"} |= "bar" | unwrap bar [5m]))",
      R"(min_over_time({app="foo"} | unwrap bar [5m]))",
      R"(min_over_time({app="foo"} | unwrap bar [5m]) by ())",
      R"(max_over_time({app="foo"} | unwrap bar [5m]) without ())",
      R"(max_over_time({app="foo"} | unwrap bar [5m]) without (foo,bar))",
      R"(max_over_time({app="foo"} | unwrap bar [5m] offset 5m) without (foo,bar))",
      R"(max_over_time({app="foo"} | unwrap bar [5m] offset -5m) without (foo,bar))",
      "\n\t\t\tsum by (app,machine) (count_over_time({app=\"foo\"}[1m])) > bool on () group_right (app) sum "
      "by (app) (count_over_time({app=\"foo\"}[1m]))\n\t\t\t\t\t",
      "\n\t\t\tsum by (app,machine) (count_over_time({app=\"foo\"}[1m])) > bool on () group_right sum by "
      "(app) (count_over_time({app=\"foo\"}[1m]))\n\t\t\t\t\t",
      "1 + 1 + 1",
      "1 == 1",
      "1 != 1",
      "1 > 1",
      "1 >= 1",
      "1 < 1",
      "1 <= 1",
      "1 >= 1 > 1",
      R"(count_over_time({ foo ="bar" }[12m]) > count_over_time({ foo = "bar" }[12m]))",
      R"(count_over_time({ foo = "bar" }[12m]) > 1)",
      R"(count_over_time({ foo = "bar" }[12m]) or count_over_time({ foo = "bar" }[12m]) > 1)",
      "1 > 1 < 1",
      "1 > 1 > bool 1",
      "vector(1)",
      R"(label_replace(vector(0), "foo", "bar", "", ""))",
      "sum(vector(0))",
      R"(count_over_time({ foo ="bar" } | json layer7_something_specific="layer7_something_specific" [12m]))",
      "\n\t\t\tsum(count_over_time({foo=\"bar\"}[5m])) or vector(1)\n\t\t\t",
      R"(count_over_time({foo="bar"}[5m]))",
      R"(count_over_time({app="baz", foo!="bar"}[5m]))",
      R"(count_over_time({app=~".+"}[5m]))",
      R"(count_over_time({app=~"bar|baz"}[5m]))",
      R"(1 + count_over_time({app=~".+"}[5m]) + count_over_time({app=~".+"}[5m]))",
      R"(1 + count_over_time({app=~".+"}[5m]) + count_over_time({app=~".+"}[5m]) + 1)",
      R"(sum by (variants, of) (count_over_time({foo="bar"}[5m])))",
      R"(sum(rate({app="x"}[1h30m] offset -5m)))",
      R"(sum by (level) (count_over_time({service="tunneld"} | json | level=~"error|warn" [5m])))",
      R"(topk(10, sum by (code) (count_over_time({service="tunneld"} | json | code != "" [1h]))))",
      R"(rate_counter({app="x"} | json | unwrap bytes(size) [5m]))",
      R"(quantile_over_time(0.99, {app="x"} | json | unwrap duration(took) | __error__="" [5m]) by (path))",
      "-1 + vector(2)",
      "1 + 1 > bool 2",
      R"(sum(rate({app="x"}[5m])) / on(a) group_left(b) sum(rate({app="y"}[5m])))",
      R"(rate(({app="x"})[5m]))",
      R"(rate(({app="x"} |= "y")[5m] offset 1h))",
      R"(sum_over_time(({app="x"})[5m] | unwrap x))",
  };
  for (const char* text : queries) expect_kind(text, LogQuery::Kind::metric);
}
