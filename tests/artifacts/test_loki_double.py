"""The Loki double answers as Loki does: shapes, limits, and refusals in Loki's own words."""

import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from loki_double.server import InThread  # noqa: E402

SECOND = 10**9
NOON = 1767268800 * SECOND
CATEGORIZE = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
NEEDS_ONE = ("parse error : queries require at least one regexp or equality matcher that does not have an "
             'empty-compatible value. For instance, app=~".*" does not meet this requirement, but app=~".+" will')


class Client:
    def __init__(self, url):
        self.url = url

    def ask(self, path, headers=None, data=None, **parameters):
        """(status, content type, body)"""
        query = "?" + urllib.parse.urlencode(parameters, doseq=True) if parameters else ""
        request = urllib.request.Request(self.url + path + query, data, headers or {})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as answer:
                return answer.status, answer.headers.get("Content-Type"), answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers.get("Content-Type"), refused.read().decode()

    def get(self, name, headers=None, **parameters):
        status, kind, body = self.ask("/loki/api/v1/" + name, headers, **parameters)
        assert (status, kind) == (200, "application/json; charset=UTF-8"), body
        return json.loads(body)

    def refused(self, name, headers=None, **parameters):
        status, kind, body = self.ask("/loki/api/v1/" + name, headers, **parameters)
        assert status >= 400 and kind == "text/plain; charset=utf-8"
        return status, body

    def range(self, query, headers=None, start=NOON - SECOND, end=NOON + 3600 * SECOND, **more):
        return self.get("query_range", headers, query=query, start=start, end=end, **more)["data"]

    def push(self, labels, *values, headers=None):
        body = json.dumps({"streams": [{"stream": labels, "values": [[str(at), *rest] for at, *rest in values]}]})
        status, _, text = self.ask("/loki/api/v1/push", {"Content-Type": "application/json", **(headers or {})},
                                   body.encode())
        assert status == 204, text

    def control(self, name, body=None):
        status, _, text = self.ask("/_double/" + name, data=None if body is None else json.dumps(body).encode())
        assert status == 200, text
        return json.loads(text)


@pytest.fixture
def loki():
    with InThread() as double:
        yield Client(double.url)


def lines_of(data):
    return [value[1] for stream in data["result"] for value in stream["values"]]


# Queries that Loki refuses: the cases are those of its pkg/logql/syntax/parser_test.go ---------------------


@pytest.mark.parametrize("query, said", [
    ('{foo="bar}', "parse error at line 1, col 6: literal not terminated"),
    ('{foo="bar"', "parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,"),
    ('{foo="bar"} |~', "parse error at line 1, col 15: syntax error: unexpected $end, expecting STRING or ip"),
    ('{foo="bar"} "foo"', "parse error at line 1, col 13: syntax error: unexpected STRING"),
    ('{foo="bar"} foo', "parse error at line 1, col 13: syntax error: unexpected IDENTIFIER"),
    ('unk({ foo = "bar" }[5m])', "parse error at line 1, col 1: syntax error: unexpected IDENTIFIER"),
    ('rate({ foo = "bar" }[5minutes])', 'parse error at line 0, col 21: unknown unit "minutes" in duration "5minutes"'),
    ('rate({ foo = "bar" }[5)', "parse error at line 0, col 21: missing closing ']' in duration"),
    ('min({ foo = "bar" }[5m])', "parse error at line 0, col 20: syntax error: unexpected RANGE"),
    ('count without (rate({namespace="apps"}[15s]))',
     "parse error at line 1, col 16: syntax error: unexpected RATE, expecting IDENTIFIER or )"),
    ('sum(3 ,count_over_time({ foo = "bar" }[5h]))', "parse error : unsupported parameter for operation sum(3,"),
    ('topk(count_over_time({ foo = "bar" }[5h]))', "parse error : parameter required for operation topk"),
    ('rate(bar)', "parse error at line 1, col 6: syntax error: unexpected IDENTIFIER, expecting NUMBER or { or ("),
    ('{foo="bar"} + {foo="bar"}',
     "parse error : unexpected type for left leg of binary operation (+): *syntax.MatchersExpr"),
    ('sum(count_over_time({foo="bar"}[5m])) by (foo) - {foo="bar"}',
     "parse error : unexpected type for right leg of binary operation (-): *syntax.MatchersExpr"),
    ('{foo!="bar"}', NEEDS_ONE), ('{app=~".*"}', NEEDS_ONE), ('{foo!~"bar|baz"}', NEEDS_ONE), ("{}", NEEDS_ONE),
    ('1 + count_over_time({app=~".*"}[5m])', NEEDS_ONE),
    ("", "parse error : syntax error: unexpected $end"),
    ("{", "parse error at line 1, col 2: syntax error: unexpected $end, expecting IDENTIFIER or }"),
    ('{foo "bar"}', "parse error at line 1, col 6: syntax error: unexpected STRING, expecting = or =~ or !~ or !="),
    ('\n {foo="bar"} foo', "parse error at line 2, col 14: syntax error: unexpected IDENTIFIER"),
])
def test_a_query_is_refused_in_lokis_words(loki, query, said):
    assert loki.refused("query_range", query=query) == (400, said)
    assert loki.refused("query", query=query) == (400, said)


@pytest.mark.parametrize("query", [
    '{app="baz", foo!="bar"}', '{app=~".+"}', '{foo=~"bar|baz"}', '({foo="bar"})', '{foo="bar"} |= "a" or "b" != `c`',
    '{foo="bar"} | json | level="error"', '{foo="bar"} # why', 'sum(rate({foo="bar"}[5m])) by (a) > 1',
    'rate({foo="bar"} |= "x" [1h30m])', "vector(1)+vector(1)", 'topk(2, count_over_time({foo="bar"}[5m]))',
    '{rate="1"}',
])
def test_a_good_query_is_answered(loki, query):
    loki.get("query_range", query=query)


def test_what_the_double_does_not_know_is_no_answer_of_lokis(loki):
    assert loki.refused("query_range", query='{a="b"} | line_format "x"') == (
        501, "the double does not know line_format")
    assert loki.refused("query", query='quantile_over_time(0.9, {a="b"} | unwrap x [1m])')[0] == 501


@pytest.mark.parametrize("parameters, said", [
    ({"limit": "0"}, "limit must be a positive value"),
    ({"limit": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
    ({"direction": "up"}, "invalid direction 'up'"),
    ({"step": "0"}, "zero or negative query resolution step widths are not accepted. Try a positive integer"),
    ({"step": "soon"}, 'cannot parse "soon" to a valid duration'),
    ({"start": "2", "end": "1"}, "end timestamp must not be before or equal to start time"),
    ({"start": "0", "end": "1000000", "step": "1"}, "exceeded maximum resolution of 11,000 points per time series. Try "
                                                    "increasing the value of the step parameter"),
    ({"start": "0", "end": str(31 * 86400)},
     "the query time range exceeds the limit (query length: 31d, limit: 30d1h)"),
    ({"limit": "6000"}, "max entries limit per query exceeded, limit > max_entries_limit_per_query (6000 > 5000)"),
    ({"since": "1x"}, "could not parse 'since' parameter: unknown unit \"x\" in duration \"1x\""),
])
def test_parameters_are_refused_in_lokis_words(loki, parameters, said):
    assert loki.refused("query_range", query='{a="b"}', **parameters) == (400, said)


def test_log_queries_are_no_instant_queries(loki):
    assert loki.refused("query", query='{a="b"}') == (
        400, "log queries are not supported as an instant query type, please change your query to a range query type")


def test_statistics_and_labels_are_of_selectors_only(loki):
    for name in ("index/stats", "labels", "label/a/values"):
        assert loki.refused(name, query='{a="b"} |= "x"') == (400, "only label matchers are supported")


def test_unknown_paths_and_tenants(loki):
    assert loki.refused("nope") == (404, "404 page not found\n")
    loki.control("settings", {"multi_tenant": True})
    assert loki.refused("labels") == (401, "no org id\n")
    loki.push({"app": "a"}, [time.time_ns(), "x"], headers={"X-Scope-OrgID": "one"})
    assert loki.get("labels", {"X-Scope-OrgID": "one"}) == {"status": "success", "data": ["app"]}
    assert loki.get("labels", {"X-Scope-OrgID": "two"}) == {"status": "success"}, "an empty list is left out"


# What it gives --------------------------------------------------------------------------------------------


def test_lines_are_those_from_start_up_to_end(loki):
    loki.push({"app": "a"}, *([NOON + number, str(number)] for number in range(5)))
    assert lines_of(loki.range('{app="a"}', start=NOON + 1, end=NOON + 3)) == ["2", "1"]
    assert lines_of(loki.range('{app="a"}', direction="forward", limit=2)) == ["0", "1"]
    assert lines_of(loki.range('{app="a"}', limit=2)) == ["4", "3"]


def test_a_line_of_one_stream_time_and_text_is_kept_once(loki):
    loki.push({"app": "a"}, [NOON, "x"], [NOON, "x"], [NOON, "y"])
    loki.push({"app": "b"}, [NOON, "x"])
    assert sorted(lines_of(loki.range('{app=~".+"}'))) == ["x", "x", "y"]


def test_labels_are_told_apart_only_when_asked_for(loki):
    loki.push({"app": "a"}, [NOON, '{"user":{"id":7},"app":"z","msg":"level=warn"}', {"trace": "1"}],
              [NOON + 1, "no json"])
    told = loki.range('{app="a"} | json', CATEGORIZE, direction="forward")
    assert told["resultType"] == "streams" and told["encodingFlags"] == ["categorize-labels"]
    assert [stream["stream"] for stream in told["result"]] == [{"app": "a"}]
    first, second = told["result"][0]["values"]
    assert first == [str(NOON), '{"user":{"id":7},"app":"z","msg":"level=warn"}', {
        "structuredMetadata": {"trace": "1", "detected_level": "warn"},
        "parsed": {"user_id": "7", "app_extracted": "z", "msg": "level=warn"}}]
    assert second[2]["parsed"] == {"__error__": "JSONParserErr"}
    mixed = loki.range('{app="a"} | json')
    assert len(mixed["result"]) == 2 and "encodingFlags" not in mixed
    assert {"app": "a", "trace": "1", "user_id": "7"}.items() <= mixed["result"][1]["stream"].items()
    plain = loki.range('{app="a"}', CATEGORIZE)["result"][0]["values"]
    assert plain[0][2] == {"structuredMetadata": {"detected_level": "unknown"}}


@pytest.mark.parametrize("query, lines", [
    ('{app="a"} |= "one"', ["one", "one two"]), ('{app="a"} != "two" |= "o"', ["one"]),
    ('{app="a"} |~ "^t"', ["two"]), ('{app="a"} !~ "o$|e$"', []), ('{app="a"} |= "three" or "two"', ["one two", "two"]),
    ('{app="a",host!="h"}', []), ('{app="a"} | logfmt | x="1"', []),
])
def test_filters(loki, query, lines):
    loki.push({"app": "a", "host": "h"}, [NOON, "one"], [NOON + 1, "two"], [NOON + 2, "one two"])
    assert sorted(lines_of(loki.range(query))) == lines


def test_numbers_are_counted_over_the_time_before_each_moment(loki):
    loki.push({"app": "a"}, *([NOON + second * SECOND, "x"] for second in range(60)))
    loki.push({"app": "b"}, [NOON, "yy"])
    at = NOON + 59 * SECOND
    def value(query):
        found = loki.get("query", query=query, time=at)["data"]["result"]
        return {one["metric"].get("app"): one["value"][1] for one in found}
    assert value('count_over_time({app=~".+"}[1m])') == {"a": "60", "b": "1"}
    assert value('rate({app="a"}[30s])') == {"a": "1"}
    assert value('sum(count_over_time({app=~".+"}[1m]))') == {None: "61"}
    assert value('bytes_over_time({app="b"}[1m])') == {"b": "2"}
    assert value('topk(1, count_over_time({app=~".+"}[1m]))') == {"a": "60"}
    assert value('sum by (app) (count_over_time({app=~".+"}[1m])) > 10') == {"a": "60"}
    matrix = loki.range('count_over_time({app="a"}[10s])', step="10s", end=NOON + 60 * SECOND)
    assert matrix["resultType"] == "matrix"
    assert [value for _, value in matrix["result"][0]["values"]] == ["1", "10", "10", "10", "10", "10", "9"]
    loki.control("settings", {"max_query_series": 1})
    status, said = loki.refused("query", query='count_over_time({app=~".+"}[1m])', time=at)
    assert status == 400 and said.startswith("maximum number of series (1) reached for a single query; consider")


def test_the_index_knows_labels_series_and_sizes(loki):
    loki.push({"app": "a", "host": "h"}, [NOON, "12345"], [NOON + 1, "1"])
    loki.push({"app": "b"}, [NOON, "x"])
    time_ = {"start": NOON - SECOND, "end": NOON + SECOND}
    assert loki.get("labels", **time_)["data"] == ["app", "host"]
    assert loki.get("label/app/values", **time_)["data"] == ["a", "b"]
    assert loki.get("label/app/values", query='{host="h"}', **time_)["data"] == ["a"]
    assert loki.get("series", **{"match[]": ['{app="b"}', '{host="h"}']}, **time_)["data"] == [
        {"app": "a", "host": "h"}, {"app": "b"}]
    assert loki.get("index/stats", query='{app="a"}', **time_) == {"streams": 1, "chunks": 1, "entries": 2, "bytes": 6}


def test_patterns_are_served_only_by_who_keeps_them(loki):
    loki.push({"app": "a"}, *([NOON + number * SECOND, f"took {number} ms level=info"] for number in range(20)))
    about = {"query": '{app="a"}', "start": NOON, "end": NOON + 60 * SECOND, "step": "10s"}
    assert loki.refused("patterns", **about) == (404, "")
    loki.control("settings", {"patterns": True})
    assert loki.get("patterns", **about) == {"status": "success", "data": [
        {"pattern": "took <_> ms level=info", "level": "info",
         "samples": [[NOON // SECOND, 10], [NOON // SECOND + 10, 10]]}]}


# Misbehaving ----------------------------------------------------------------------------------------------


def test_the_next_answers_can_be_scripted(loki):
    loki.control("script", [{"status": 429, "body": "too many outstanding requests", "count": 2, "path": "labels"}])
    assert loki.get("index/stats", query='{a="b"}')["streams"] == 0
    assert loki.refused("labels") == loki.refused("labels") == (429, "too many outstanding requests")
    assert loki.get("labels") == {"status": "success"}
    assert [one["status"] for one in loki.control("requests")] == [200, 429, 429, 200]
    assert loki.ask("/_double/script", data=b'{"nonsense": 1}')[0] == 400


def test_an_answer_may_have_no_end(loki):
    loki.control("script", {"endless": True})
    with urllib.request.urlopen(loki.url + "/loki/api/v1/query_range", timeout=20) as answer:
        assert len(answer.read(3_000_000)) == 3_000_000
