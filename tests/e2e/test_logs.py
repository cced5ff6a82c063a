"""`tunnelctl logs` against the Loki double: straight, and through Grafana's data source proxy."""

import array
import fcntl
import gzip
import json
import os
import select
import signal
import subprocess
import termios
import time

import pytest

from programs.loopback import free_port
from programs.tunnelctl import BAD_INPUT, DENIED, FAILED, INTERRUPTED, OK, UNAVAILABLE, Tunnelctl

UID = "e2e-loki"
SECOND = 10**9
API = {"app": "api"}
#: Nothing of them may be shown; put together so that no scanner takes them for real ones.
SECRETS = ["hunter2" + "hunter2", "glsa_" + "Ab1" * 10 + "Q_12345678",
           "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiJhbm4ifQ." + "c2lnbmF0dXJl"]
SECRET_LINE = f'msg="login" user=ann password={SECRETS[0]} Authorization: Bearer {SECRETS[2]} key {SECRETS[1]}'
pytestmark = pytest.mark.deadline(120)


class Logs:
    """tunnelctl logs, as somebody."""

    def __init__(self, ctl):
        self.ctl = ctl

    def __call__(self, *words, **kwargs):
        return self.ctl.run("logs", *words, **kwargs)

    def json(self, *words):
        return self(*words, "--output", "json").expect(OK).json()

    def texts(self, *words):
        return [line["line"] for line in self.json("query", *words)["lines"]]


@pytest.fixture
def ctl(new_directory, loki):
    """Asks Loki itself; there is no Grafana."""
    return Tunnelctl(new_directory("tunnelctl"), {"LOKI_URL": loki.url})


@pytest.fixture
def logs(ctl):
    return Logs(ctl)


@pytest.fixture
def grafana(grafana_double, loki):
    grafana_double.add_datasource(UID, "loki", loki.url)
    grafana_double.mode(read_only=True)
    yield grafana_double
    assert grafana_double.violations() == [], "queries change nothing"


def viewer(grafana, directory):
    token = grafana.tokens["viewer"]
    return Tunnelctl(directory, {"GRAFANA_URL": grafana.url, "GRAFANA_SERVICE_ACCOUNT_TOKEN": token}, [token])


@pytest.fixture(params=["straight", "through Grafana"])
def either(request, new_directory):
    """The same by both ways."""
    if request.param == "straight":
        return request.getfixturevalue("logs")
    return Logs(viewer(request.getfixturevalue("grafana"), new_directory("tunnelctl")))


def ago(seconds):
    return time.time_ns() - int(seconds * SECOND)


# Lines ------------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_lines_of_all_streams_come_in_the_order_of_time(loki, either):
    start = ago(60)
    loki.push(API, [(start, "first"), (start + 2, "third")])
    loki.push({"app": "web"}, [(start + 1, "second level=error")])
    ended = either("query", '{app=~".+"}').expect(OK)
    assert [line.split("  ")[-1].strip() for line in ended.out.splitlines()] == ["third", "second level=error", "first"]
    assert "3 lines" in ended.err and "more exist" not in ended.err
    assert either("query", '{app=~".+"}', "--forward").expect(OK).out.splitlines()[1].split()[1:] == [
        "error", "second", "level=error"], "with the level that Loki found"


@pytest.mark.short_client
def test_json_has_everything_and_says_when_there_is_more(loki, either):
    start = ago(60)
    loki.push(API, [(start, "old"), (start + 1, '{"user":"ann"}', {"trace": "7"})])
    told = either.json("query", '{app="api"} | json', "--limit", "1")
    (line,) = told.pop("lines")
    assert line == {"time": line["time"], "level": "", "line": '{"user":"ann"}', "labels": API,
                    "metadata": {"trace": "7", "detected_level": "unknown"}, "parsed": {"user": "ann"}}
    fraction = line["time"].rpartition(".")[2]
    assert fraction == f"{(start + 1) % SECOND:09}Z", "to the nanosecond"
    assert told["shown"] == 1 and told["more"] and told["query"] == '{app="api"} | json' and told["warnings"] == []
    assert not either.json("query", '{app="api"}', "--limit", "2")["more"]
    none = either.json("query", '{app="none"}')
    assert none["lines"] == [] and none["shown"] == 0 and not none["more"]


def test_what_is_left_out_is_said(loki, logs):
    loki.push(API, [f"line {number}" for number in range(150)])
    ended = logs("query", '{app="api"}').expect(OK)
    assert len(ended.out.splitlines()) == 100 and "shown 100 lines, more exist (--limit 0 shows all)" in ended.err
    assert len(logs("query", '{app="api"}', "--limit", "0").expect(OK).out.splitlines()) == 150
    empty = logs("query", '{app="none"}').expect(OK)
    assert empty.out == "" and "no lines in that time" in empty.err


def test_all_lines_come_once_though_the_server_gives_few_at_a_time(loki, either):
    """12,000 lines, thirty of them in each moment, by pages of 5,000 at most."""
    start = ago(600)
    for app in ("a", "b", "c"):
        loki.push({"app": app}, [(start + number // 10 * 1000, f"{app} {number}") for number in range(4000)])
    lines = either.texts('{app=~"a|b|c"}', "--limit", "0", "--forward")
    assert len(lines) == len(set(lines)) == 12000
    assert lines[0].endswith(" 0") and [line for line in lines if line.startswith("a ")] == [
        f"a {number}" for number in range(4000)]
    newest = either.texts('{app=~"a|b|c"}', "--limit", "7000")
    assert len(newest) == len(set(newest)) == 7000
    asked = [int(one["query"]["limit"]) for one in loki.requests("query_range")]
    assert max(asked) <= 5000


def test_pages_are_as_large_as_the_server_allows(loki, logs):
    loki.settings(max_entries_limit=100)
    loki.push(API, [f"line {number}" for number in range(1000)])
    assert len(logs.texts('{app="api"}', "--limit", "950")) == 950


def test_a_loki_that_does_not_tell_labels_apart_will_do(loki, logs):
    loki.settings(categorize=False)
    loki.push(API, [(ago(5), "x level=warn", {"trace": "7"})])
    (line,) = logs.json("query", '{app="api"}')["lines"]
    assert line["labels"] == {"app": "api", "trace": "7", "detected_level": "warn"} and line["metadata"] == {}
    assert line["level"] == "warn"


def test_times_are_those_of_every_command(loki, logs):
    loki.push(API, [(ago(7200), "two hours"), (ago(60), "a minute")])
    assert logs.texts('{app="api"}') == ["a minute"]
    assert logs.texts('{app="api"}', "--from", "3h", "--to", "now-1h") == ["two hours"]
    ended = logs("query", '{app="api"}', "--from", "now", "--to", "now-1h").expect(BAD_INPUT)
    assert "--from" in ended.err
    assert "--to" in logs("query", '{app="api"}', "--to", "soon").expect(BAD_INPUT).err


def test_a_day_has_its_last_millisecond(loki, either):
    midnight = time.time_ns() // (86400 * SECOND) * 86400 * SECOND
    loki.push(API, [(midnight - 500_000, "last"), (midnight, "next day")])
    assert either.texts('{app="api"}', "--from", "now-1d/d", "--to", "now-1d/d") == ["last"]
    told = either.json("patterns", '{app="api"}', "--from", "now-1d/d", "--to", "now-1d/d")
    assert [one["pattern"] for one in told["patterns"]] == ["last"]


# Numbers ----------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_numbers_at_one_moment_and_over_a_time(loki, either):
    loki.push(API, [(ago(30 + number), "x") for number in range(10)])
    told = either.json("query", 'sum by (app) (count_over_time({app="api"}[5m]))')
    assert told["type"] == "vector" and told["series"][0]["labels"] == API
    assert told["series"][0]["samples"][0]["value"] == 10
    over = either.json("range", 'sum(count_over_time({app="api"}[5m]))', "--from", "10m", "--step", "60s")
    assert over["type"] == "matrix" and over["step_seconds"] == 60
    assert max(sample["value"] for sample in over["series"][0]["samples"]) == 10
    assert either("range", 'sum(rate({app="api"}[5m]))', "--csv").expect(OK).out.startswith("time,")


def test_lines_and_numbers_are_not_taken_for_each_other(logs):
    ended = logs("range", '{app="api"}').expect(BAD_INPUT)
    assert "tunnelctl logs query" in ended.err and "count_over_time" in ended.err
    assert "must give lines" in logs("tail", 'rate({app="api"}[1m])').expect(BAD_INPUT).err
    assert "must give lines" in logs("patterns", 'rate({app="api"}[1m])').expect(BAD_INPUT).err


# What there is ----------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_labels_values_and_sizes(loki, either):
    loki.push({"app": "api", "pod/name": "x"}, ["12345"])
    loki.push({"app": "web"}, ["1", "2"])
    assert either("labels").expect(OK).out.splitlines() == ["app", "pod/name"]
    assert either.json("labels", "--match", '{app="web"}')["labels"] == ["app"]
    assert either("values", "app").expect(OK).out.splitlines() == ["api", "web"]
    assert either.json("values", "none")["values"] == []
    stats = either.json("stats", '{app="web"}')
    assert (stats["streams"], stats["entries"], stats["bytes"]) == (1, 2, 2)
    heading = either("stats", '{app=~".+"}').expect(OK).out.splitlines()[0]
    assert heading.split() == ["STREAMS", "CHUNKS", "LINES", "BYTES"]


# What goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words, said", [
    (("query", '{app="api"'), "parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,"),
    (("query", '{app=~".*"}'), "queries require at least one regexp or equality matcher"),
    (("query", "rate(bar)"), "parse error at line 1, col 6: syntax error: unexpected IDENTIFIER"),
    (("range", 'rate({app="x"}[5minutes])'), 'unknown unit "minutes" in duration "5minutes"'),
    (("stats", '{app="api"} |= "x"'), "only label matchers are supported"),
    (("query", '{app="api"}', "--from", "now-40d"), "the query time range exceeds the limit"),
    (("tail", '{app="api"'), "parse error at line 1, col 11"),
    (("patterns", '{app="api"', "--server-patterns", "never"), "parse error at line 1, col 11"),
])
def test_bad_queries_are_told_in_lokis_words(either, words, said):
    ended = either(*words).expect(BAD_INPUT)
    assert said in ended.err and ended.out == ""


def test_a_busy_loki_is_asked_again_and_then_told_of(loki, logs):
    loki.push(API, ["x"])
    loki.script({"status": 429, "body": "too many outstanding requests", "count": 2})
    assert logs.texts('{app="api"}') == ["x"]
    loki.script({"status": 429, "body": "too many outstanding requests", "count": 0})
    assert "429: too many outstanding requests" in logs("query", '{app="api"}').expect(UNAVAILABLE).err
    loki.no_script()
    loki.script({"status": 500, "body": "rpc error: code = Code(500) desc = empty ring", "count": 0})
    assert "500: rpc error: code = Code(500) desc = empty ring" in logs("query", '{app="api"}').expect(UNAVAILABLE).err


def test_what_is_no_loki_is_said_to_be_none(loki, logs, grafana, new_directory):
    page = "<!DOCTYPE html><html><body>Please sign in</body></html>"
    loki.script({"status": 200, "body": page, "content_type": "text/html", "count": 0})
    ended = logs("query", '{app="api"}').expect(UNAVAILABLE)
    assert "web page" in ended.err and "is this a Loki?" in ended.err and "sign in" not in ended.err
    by_grafana = Logs(viewer(grafana, new_directory("tunnelctl")))("query", '{app="api"}').expect(UNAVAILABLE)
    assert "web page" in by_grafana.err
    loki.no_script()
    loki.script({"status": 200, "body": '{"status":"success","data":{}}', "count": 0})
    assert "no result" in logs("query", '{app="api"}').expect(UNAVAILABLE).err


def test_nobody_listens(new_directory):
    ctl = Tunnelctl(new_directory("tunnelctl"), {"LOKI_URL": f"http://127.0.0.1:{free_port()}"})
    assert "refused" in Logs(ctl)("query", '{app="api"}').expect(UNAVAILABLE).err


def test_an_answer_without_end_is_refused_in_little_memory(loki, ctl):
    loki.script({"endless": True, "count": 0})
    for words in (("query", '{app="api"}'), ("patterns", '{app="api"}', "--server-patterns", "never")):
        code, _, err, peak = ctl.weigh("logs", *words)
        assert code == BAD_INPUT and "the answer is larger than 67108864 bytes" in err
        assert peak < 256 * 1024 * 1024


def test_tenants_are_kept_apart(new_loki, grafana_double, new_directory):
    loki = new_loki("--multi-tenant")
    loki.push(API, ["of one"], tenant="one")
    loki.push(API, ["of two"], tenant="two")
    ctl = Tunnelctl(new_directory("tunnelctl"), {"LOKI_URL": loki.url})
    ended = Logs(ctl)("query", '{app="api"}').expect(DENIED)
    assert "401: no org id" in ended.err and "LOKI_ORG_ID" in ended.err
    assert Logs(ctl.with_environment(LOKI_ORG_ID="two")).texts('{app="api"}') == ["of two"]
    # Through Grafana the data source says which.
    grafana_double.preset(("POST", "/api/datasources", {
        "uid": UID, "name": UID, "type": "loki", "access": "proxy", "url": loki.url,
        "jsonData": {"httpHeaderName1": "X-Scope-OrgID"}, "secureJsonData": {"httpHeaderValue1": "one"}}))
    assert Logs(viewer(grafana_double, new_directory("tunnelctl"))).texts('{app="api"}') == ["of one"]


# What is shown ----------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_no_secret_of_a_line_is_shown(loki, logs):
    loki.push({**API, "token": SECRETS[0]}, [(ago(5), SECRET_LINE, {"password": SECRETS[0]})])
    for words in (("query", '{app="api"}', "--labels"), ("query", '{app="api"} | logfmt', "--output", "json"),
                  ("patterns", '{app="api"}', "--samples"), ("patterns", '{app="api"}', "--output", "json")):
        ended = logs(*words).expect(OK)
        assert ended.out.strip()
        for secret in SECRETS:
            assert secret not in ended.out + ended.err, ended
    assert "[redacted" in logs("query", '{app="api"}').expect(OK).out
    raw = logs("query", '{app="api"}', "--raw").expect(OK).out
    assert all(secret in raw for secret in SECRETS)


def test_addresses_are_hidden_if_wanted(loki, logs):
    loki.push(API, ["peer 192.0.2.7 left"])
    assert "192.0.2.7" in logs("query", '{app="api"}').expect(OK).out
    assert "192.0.2.7" not in logs("query", '{app="api"}', "--redact-addresses").expect(OK).out


def test_no_line_steers_the_terminal(loki, logs):
    loki.push({**API, "evil": "\x1b]0;title\x07"}, ["\x1b[31mred\x1b[0m\r\nsecond\u202eline\x9b\u2028 end"])
    for more in ((), ("--raw",), ("--labels",)):
        out = logs("query", '{app="api"}', *more).expect(OK).out
        assert len(out.splitlines()) == 1
        assert not [letter for letter in out if letter < " " and letter != "\n" or letter in "\x7f\x9b\u202e\u2028"]
    out = logs("patterns", '{app="api"}', "--samples").expect(OK).out
    assert not [letter for letter in out if letter < " " and letter != "\n" or letter in "\x7f\x9b\u202e\u2028"]


def test_levels_have_colours(loki, logs):
    loki.push(API, ["level=error a", "level=warn b", "level=info c"])
    out = logs("query", '{app="api"}', "--forward", "--color", "always").expect(OK).out.splitlines()
    assert "\x1b[31merror\x1b" in out[0] and "\x1b[33mwarn " in out[1] and "info" in out[2]


# Following --------------------------------------------------------------------------------------------


class Tail:
    """tunnelctl logs tail on its way, read as it comes."""

    def __init__(self, ctl, *words):
        self.errors = open(ctl.directory / "tail.err", "wb+")
        self.process = subprocess.Popen(
            [str(ctl.program()), "logs", "tail", *words, "--every", "100ms", "--output", "json"], cwd=ctl.directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
            env={"PATH": os.environ["PATH"], "HOME": str(ctl.directory), **ctl.environment})
        self.text = b""

    @property
    def lines(self):
        return [json.loads(line)["line"] for line in self.text.splitlines(keepends=True) if line.endswith(b"\n")]

    def said(self):
        return (self.errors.seek(0), self.errors.read().decode())[1]

    def wait_for(self, condition, what, seconds=60):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until and self.process.poll() is None, f"no {what}: {self.lines} {self.said()}"
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                self.text += os.read(self.process.stdout.fileno(), 65536)

    def shows(self, *lines):
        self.wait_for(lambda: set(lines) <= set(self.lines), lines)

    def looks_again(self, loki):
        """Two polls that began later are over."""
        count = len(loki.requests("query_range"))
        self.wait_for(lambda: len(loki.requests("query_range")) >= count + 3, "further polls")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        with self.process.stdout, self.errors:
            self.text += self.process.stdout.read()
            self.status = self.process.wait(20)


@pytest.mark.short_client
def test_tail_begins_with_the_newest_lines_and_ends_by_ctrl_c(loki, ctl):
    loki.push(API, [(ago(600 - number), f"old {number}") for number in range(5)])
    loki.push(API, [(ago(5), "new 1"), (ago(4), "new 2")])
    with Tail(ctl, '{app="api"}', "--lines", "4") as tail:
        tail.shows("new 2")
        assert tail.lines == ["old 3", "old 4", "new 1", "new 2"]
        loki.push(API, ["now"])
        tail.shows("now")
        tail.looks_again(loki)
        assert tail.lines == ["old 3", "old 4", "new 1", "new 2", "now"], "each once"
    assert tail.status == INTERRUPTED


def test_tail_of_nothing_so_far(loki, ctl):
    loki.push(API, ["before"])
    with Tail(ctl, '{app="api"}', "--lines", "0") as tail:
        tail.looks_again(loki)
        loki.push(API, ["after"])
        tail.shows("after")
        assert tail.lines == ["after"]


def test_tail_shows_lines_that_come_late_out_of_order_and_from_fast_clocks(loki, ctl):
    with Tail(ctl, '{app=~"api|web"}') as tail:
        tail.looks_again(loki)
        same = ago(1)
        loki.push(API, [(same, "one")])
        tail.shows("one")
        loki.push(API, [(same, "two"), (same, "one"), (ago(20), "late")])
        loki.push({"app": "web"}, [(same, "one"), (ago(-120), "fast")])
        tail.shows("two", "late", "fast")
        tail.looks_again(loki)
        assert sorted(tail.lines) == ["fast", "late", "one", "one", "two"]


def test_tail_asks_for_little_most_of_the_time(loki, ctl):
    with Tail(ctl, '{app="api"}') as tail:
        tail.wait_for(lambda: len(loki.requests("query_range")) >= 25, "polls")
    asked = [one["query"] for one in loki.requests("query_range") if one["query"]["direction"] == "forward"]
    spans = [(int(one["end"]) - int(one["start"])) / SECOND for one in asked]
    whole = [span for span in spans if span > 620]
    assert 600 < min(spans) < 610 and 2 <= len(whole) <= len(spans) / 6, spans


def test_tail_says_each_warning_once(loki, ctl):
    loki.settings(max_entries_limit=2)
    moment = ago(3)
    loki.push(API, [(moment, f"line {number}") for number in range(5)])
    with Tail(ctl, '{app="api"}') as tail:
        tail.wait_for(lambda: len(loki.requests("query_range")) >= 60, "polls")
        assert tail.said().count("lines have the time") == 1, tail.said()


def test_tail_survives_a_restart_of_loki_without_loss_or_doubles(new_loki, new_directory):
    loki = new_loki()
    ctl = Tunnelctl(new_directory("tunnelctl"), {"LOKI_URL": loki.url})
    with Tail(ctl, '{app="api"}') as tail:
        tail.looks_again(loki)
        first = [(ago(2), "first"), (ago(1), "second")]
        loki.push(API, first)
        tail.shows("first", "second")
        loki.stop()
        tail.wait_for(lambda: "again in" in tail.said(), "word of the loss")
        kept = [(time.time_ns(), "written while it was away")]
        loki.start()
        loki.push(API, [*first, *kept, (time.time_ns(), "written after")])  # agents send again what they kept
        tail.shows("written while it was away", "written after")
        tail.looks_again(loki)
        assert tail.lines == ["first", "second", "written while it was away", "written after"]
    assert tail.status == INTERRUPTED


def test_tail_goes_on_through_grafana_and_ends_when_it_may_not(loki, grafana, new_directory):
    ctl = viewer(grafana, new_directory("tunnelctl"))
    with Tail(ctl, '{app="api"}') as tail:
        tail.looks_again(loki)
        loki.script({"path": "query_range", "status": 503, "body": "Service Unavailable", "count": 2})
        tail.wait_for(lambda: "again in" in tail.said(), "word of the loss")
        loki.push(API, ["through"])
        tail.shows("through")
        loki.script({"status": 400, "body": "parse error : changed its mind", "count": 0})
        assert tail.process.wait(30) == BAD_INPUT
        assert "changed its mind" in tail.said()


# Patterns ---------------------------------------------------------------------------------------------


def common(count, begin, text="connection from 10.0.0.{} closed after {} ms"):
    return [(begin + number * 1000, text.format(number % 250, number)) for number in range(count)]


@pytest.mark.short_client
def test_many_lines_make_few_patterns(loki, either):
    loki.push(API, common(300, ago(300)) + common(7, ago(200), "level=error disk {} is full: {} bytes left"))
    told = either.json("patterns", '{app="api"}')
    assert told["source"] == "lines" and told["lines"] == 307 and not told["more"] and not told["more_lines"]
    first, second = told["patterns"]
    assert first["count"] == 300 and "connection from" in first["pattern"] and "10.0.0.1" not in first["pattern"]
    assert second["count"] == 7 and second["level"] == "error" and second["samples"]
    assert first["first"] < second["first"] < second["last"]
    ended = either("patterns", '{app="api"}', "--top", "1").expect(OK)
    assert len(ended.out.splitlines()) == 2 and "shown 1 of 2 patterns of 307 lines (--top 0 shows all)" in ended.err
    only = either.json("patterns", '{app="api"}', "--min-count", "10")
    assert [one["count"] for one in only["patterns"]] == [300]


@pytest.mark.short_client
def test_a_baseline_tells_what_is_new_or_grown(loki, logs):
    loki.push(API, common(400, ago(5000)) + common(20, ago(4000), "cache miss for key {} of shard {}"))
    loki.push(API, common(400, ago(1000)) + common(200, ago(900), "cache miss for key {} of shard {}") +
              common(30, ago(800), "upstream {} refused the connection, attempt {}"))
    told = logs.json("patterns", '{app="api"}', "--from", "now-1h", "--baseline", "1h")
    changes = {one["pattern"].split()[0]: (one["change"], one["before"], one["count"]) for one in told["patterns"]}
    assert changes == {"upstream": ("new", 0, 30), "cache": ("grown", 20, 200), "connection": ("same", 400, 400)}
    assert [one["change"] for one in told["patterns"]][:2] in (["new", "grown"], ["grown", "new"])
    out = logs("patterns", '{app="api"}', "--baseline", "1h").expect(OK).out
    assert "CHANGE" in out.splitlines()[0] and "new" in out and "grown x" in out


def test_only_so_many_lines_are_read(loki, logs):
    loki.push(API, common(500, ago(100)))
    ended = logs("patterns", '{app="api"}', "--lines", "200").expect(OK)
    assert "of 200 lines" in ended.err and "only the newest lines were read, more exist" in ended.err
    assert logs.json("patterns", '{app="api"}', "--lines", "200")["more_lines"]


def test_lokis_own_patterns_are_used_where_it_has_some(loki, either):
    loki.push(API, [(ago(100 - number), f"took {number} ms level=info") for number in range(50)])
    never = either.json("patterns", '{app="api"}')
    assert never["source"] == "lines"
    refused = either("patterns", '{app="api"}', "--server-patterns", "only").expect(FAILED)
    assert "does not look for patterns" in refused.err
    loki.settings(patterns=True)
    told = either.json("patterns", '{app="api"}')
    assert told["source"] == "loki" and told["lines"] == 50
    (one,) = told["patterns"]
    assert (one["pattern"], one["count"], one["level"], one["share"]) == ("took <_> ms level=info", 50, "info", 1)
    # Of a time of which Loki has no patterns, perhaps since it was restarted, everything would seem new.
    compared = either.json("patterns", '{app="api"}', "--baseline", "30m", "--from", "30m")
    assert compared["source"] == "lines" and compared["patterns"][0]["change"] == "new"
    refused = either("patterns", '{app="api"}', "--baseline", "30m", "--from", "30m", "--server-patterns", "only")
    assert "no patterns of the baseline" in refused.expect(OK).err
    loki.push(API, [(ago(2400 + number), f"took {number} ms level=info") for number in range(50)])
    compared = either.json("patterns", '{app="api"}', "--baseline", "30m", "--from", "30m")
    assert compared["source"] == "loki" and compared["patterns"][0]["change"] == "same"
    # They come without lines.
    told = either.json("patterns", '{app="api"}', "--samples", "--from", "30m")
    assert told["source"] == "lines" and told["patterns"][0]["samples"]
    refused = either("patterns", '{app="api"}', "--samples", "--server-patterns", "only").expect(BAD_INPUT)
    assert "no --samples" in refused.err
    # They are of whole streams, and of the last hours.
    assert either.json("patterns", '{app="api"} |= "7"')["source"] == "lines"
    assert either.json("patterns", '{app="api"}', "--from", "now-1d")["source"] == "lines"
    assert either.json("patterns", '{app="api"}', "--server-patterns", "never")["source"] == "lines"
    refused = either("patterns", '{app="api"} |= "7"', "--server-patterns", "only").expect(BAD_INPUT)
    assert "without filters" in refused.err


def test_lines_are_read_where_lokis_own_patterns_fail(loki, logs):
    loki.push(API, common(10, ago(100)))
    loki.settings(patterns=True)
    loki.script({"path": "/patterns", "status": 500, "body": "empty ring", "count": 0})
    ended = logs("patterns", '{app="api"}', "--output", "json").expect(OK)
    assert ended.json()["source"] == "lines" and ended.json()["lines"] == 10
    assert "empty ring" in ended.err and "lines are read instead" in ended.err
    assert "empty ring" in logs("patterns", '{app="api"}', "--server-patterns", "only").expect(UNAVAILABLE).err
    loki.no_script()
    loki.script({"path": "/patterns", "status": 400, "body": "parse error : no", "count": 0})
    assert "parse error : no" in logs("patterns", '{app="api"}').expect(BAD_INPUT).err


def test_json_says_what_the_baseline_was(loki, ctl, logs):
    loki.push(API, common(30, ago(5000)) + common(20, ago(100)))
    told = logs.json("patterns", '{app="api"}', "--baseline", "2h", "--lines", "25")
    assert not told["more_lines"] and told["lines"] == 20
    baseline = told["baseline"]
    assert (baseline["lines"], baseline["empty"], baseline["given_up"], baseline["more_lines"]) == (25, 0, 0, True)
    assert 1000 < baseline["span_seconds"] < 7200, "the time that was really read"
    assert "baseline" not in logs.json("patterns", '{app="api"}')
    words = [a + b for a in "abcdef" for b in "klmno"]
    before = [" ".join([word] + ["x"] * count) for count in range(1, 61) for word in words]
    (ctl.directory / "before.log").write_text("\n".join(before))
    (ctl.directory / "now.log").write_text("out of memory\n" * 50 + "all is well here\n" * 1000)
    words = ("--file", "now.log", "--baseline-file", "before.log")
    told = logs.json("patterns", *words, "--top", "0")
    assert told["baseline"]["given_up"] >= 800 and told["baseline"]["span_seconds"] is None
    changes = {one["pattern"]: one["change"] for one in told["patterns"]}
    assert changes["out of memory"] == "unknown", "it may be among what the baseline gave up"
    ended = logs("patterns", *words, "--top", "0").expect(OK)
    assert "in the baseline" in ended.err and "are in no pattern" in ended.err


def test_of_a_long_line_of_a_file_it_is_known_that_it_goes_on(ctl, logs):
    line = json.dumps({"message": "disk is full", "stack": "x" * 20_000})
    (ctl.directory / "long.log").write_text(line + "\n")
    (one,) = logs.json("patterns", "--file", "long.log")["patterns"]
    assert one["pattern"] == "disk is full"


def test_packed_files_are_refused_with_the_remedy(ctl, logs):
    (ctl.directory / "a.log.gz").write_bytes(gzip.compress(b"x\n" * 100))
    ended = logs("patterns", "--file", "a.log.gz").expect(BAD_INPUT)
    assert "a.log.gz: is compressed" in ended.err and "zcat a.log.gz | tunnelctl logs patterns -" in ended.err


def _unread(pipe):
    """How many bytes nobody has taken from the pipe yet."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_waiting_for_standard_input_ends_by_ctrl_c(ctl):
    with subprocess.Popen([str(ctl.program()), "logs", "patterns", "-"], cwd=ctl.directory, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={"PATH": os.environ["PATH"], "HOME": str(ctl.directory)}) as process:
        process.stdin.write(b"one line\n")
        process.stdin.flush()
        until = time.monotonic() + 30
        while _unread(process.stdin) and time.monotonic() < until:
            time.sleep(0.02)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == INTERRUPTED


@pytest.mark.short_client
def test_files_and_standard_input_are_read_too(ctl, logs):
    lines = [text for _, text in common(100, 0)]
    (ctl.directory / "one.log").write_text("\n".join(lines[:60]) + "\n\n")
    (ctl.directory / "two.log").write_bytes("\r\n".join(lines[60:]).encode())
    told = logs.json("patterns", "--file", "one.log", "--file", "two.log")
    assert told["lines"] == 101 and told["empty"] == 1 and [one["count"] for one in told["patterns"]] == [100]
    assert told["patterns"][0]["first"] is None
    for words in (("-",), ("--file", "-")):
        ended = subprocess.run([ctl.program(), "logs", "patterns", *words, "--output", "json"], cwd=ctl.directory,
                               input="\n".join(lines).encode(), capture_output=True, timeout=60,
                               env={"PATH": os.environ["PATH"], "HOME": str(ctl.directory)})
        assert ended.returncode == OK, ended.stderr
        assert json.loads(ended.stdout)["lines"] == 100
    (ctl.directory / "before.log").write_text("\n".join(lines) + "\n")
    (ctl.directory / "now.log").write_text("\n".join(lines + ["out of memory in worker"] * 50) + "\n")
    told = logs.json("patterns", "--file", "now.log", "--baseline-file", "before.log")
    assert {one["pattern"].split()[0]: one["change"] for one in told["patterns"]}["out"] == "new"


def test_a_large_file_takes_little_memory(ctl):
    """Half of it is one line."""
    with open(ctl.directory / "large.log", "wb") as file:
        block = b"".join(f"{text}\n".encode() for _, text in common(10_000, 0))
        for _ in range(100 * 1024 * 1024 // len(block)):
            file.write(block)
        for _ in range(100):
            file.write(b"x" * 1024 * 1024)
    code, out, err, peak = ctl.weigh("logs", "patterns", "--file", "large.log", "--output", "json")
    assert code == OK, err
    assert json.loads(out.read_text())["lines"] > 1_000_000
    assert peak < 64 * 1024 * 1024


@pytest.mark.parametrize("words, said", [
    ((), "name a query"),
    (('{app="x"}', "--file", "a.log"), "either a query or --file"),
    (("--file", "none.log"), "none.log: cannot be read"),
    (("--file", "."), ".: cannot be read"),
    (("--file", "a.log", "--baseline", "1h"), "--baseline-file"),
    (('{app="x"}', "--baseline-file", "a.log"), "--baseline"),
    (('{app="x"}', "--baseline", "soon"), "--baseline"),
    (("--file", "a.log", "--from", "now-1h"), "--from, --to, --lines and --server-patterns are for queries"),
    (("-", "--to", "now"), "are for queries to Loki"),
    (("-", "--lines", "100000"), "are for queries to Loki"),
    (("--file", "a.log", "--server-patterns", "auto"), "are for queries to Loki"),
])
def test_words_that_make_no_sense_are_refused(logs, words, said):
    assert said in logs("patterns", *words).expect(BAD_INPUT).err
