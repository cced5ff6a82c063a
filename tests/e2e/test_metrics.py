"""`tunnelctl metrics` against a real Prometheus: straight, and through Grafana's data source routes."""

import csv
import http.server
import io
import json
import re
import threading
import time

import pytest

from programs.loopback import wait_until
from programs.prometheus import Prometheus
from programs.tunnelctl import BAD_INPUT, CONFIG, DENIED, FAILED, OK, UNAVAILABLE, Tunnelctl
from programs.tunneld import is_sanitized

UID = "e2e-metrics"


class Shop:
    """Something to scrape: two counters that stand still, a histogram that grows, odd names and values."""

    def __init__(self):
        self.scrapes = 0
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                shop.scrapes += 1
                text = shop.page(shop.scrapes).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.target = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def page(n):
        return (
            "# HELP shop_orders_total Orders, all of them.\n# TYPE shop_orders_total counter\n"
            'shop_orders_total{shop="north"} 5\nshop_orders_total{shop="south"} 7\n'
            "# HELP shop_wait_seconds How long people wait.\n# TYPE shop_wait_seconds histogram\n"
            f'shop_wait_seconds_bucket{{le="0.1"}} {n * 90}\nshop_wait_seconds_bucket{{le="1"}} {n * 100}\n'
            f'shop_wait_seconds_bucket{{le="+Inf"}} {n * 100}\nshop_wait_seconds_sum {n}\n'
            f"shop_wait_seconds_count {n * 100}\n"
            "shop_nothing NaN\n"
            'shop_note{text="say \\"hi\\", \\\\o/"} 0.25\n'
            + "".join(f'shop_shelf{{shelf="{i:03}"}} {i}\n' for i in range(130)))

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Answers:
    """An HTTP server that says the same to everybody; `heads` are what it was asked with."""

    def __init__(self, status, kind, body):
        heads = self.heads = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                heads.append(dict(self.headers))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # it heard enough

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def answers():
    made = []

    def make(status, kind, body):
        made.append(Answers(status, kind, body))
        return made[-1].url

    make.made = made
    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture(scope="module")
def prometheus(new_directory):
    shop = Shop()
    server = Prometheus(new_directory("prometheus"), shop.target).start()
    server.url = f"http://127.0.0.1:{server.port}"
    wait_until(lambda: any(value >= 4 for _, value in server.query("count_over_time(shop_orders_total[1m])")),
               30, "four scrapes")
    yield server
    server.stop()
    shop.close()


def configure(ctl, *contexts):
    """The configuration file of whoever runs it; the first context is the current one."""
    config = ctl.directory / ".config" / "tunnelctl" / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"current": contexts[0]["name"], "contexts": contexts}))


@pytest.fixture
def straight(new_directory, prometheus):
    """Asks Prometheus itself; there is no Grafana."""
    anywhere = Tunnelctl(new_directory("tunnelctl"), {"PROMETHEUS_URL": prometheus.url, "LANG": "C.UTF-8"})
    return lambda *words, **kwargs: anywhere.run("metrics", *words, **kwargs)


@pytest.fixture
def grafana(grafana_double, prometheus):
    grafana_double.add_datasource(UID, "prometheus", prometheus.url, name="The Prometheus")
    grafana_double.mode(read_only=True)
    yield grafana_double
    assert grafana_double.violations() == [], "queries change nothing"


def of_role(grafana, directory, role="viewer"):
    token = grafana.tokens[role]
    return Tunnelctl(directory, {"GRAFANA_URL": grafana.url, "GRAFANA_SERVICE_ACCOUNT_TOKEN": token}, [token])


@pytest.fixture
def viewer(grafana, new_directory):
    ctl = of_role(grafana, new_directory("tunnelctl"))
    return lambda *words, **kwargs: ctl.run("metrics", *words, **kwargs)


def routes(grafana):
    """Which of the two routes were asked, in their order, and how they answered."""
    return [(re.search("resources|proxy", entry["path"])[0], entry["status"]) for entry in grafana.log()
            if "/resources/" in entry["path"] or "/proxy/" in entry["path"]]


# One moment -------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_query_is_a_table_of_values(straight):
    ended = straight("query", "shop_orders_total").expect(OK)
    lines = ended.out.splitlines()
    assert lines[0].split() == ["VALUE", "SERIES"]
    assert re.match(r'5 +shop_orders_total\{instance="127.0.0.1:\d+", job="tunneld", shop="north"\}', lines[1])
    assert "2 series" in ended.err
    assert 'text="say \\"hi\\", \\\\o/"' in straight("query", "shop_note").expect(OK).out


def test_a_query_is_json(straight, prometheus):
    found = straight("query", 'shop_orders_total{shop="north"}', "--output", "json").expect(OK).json()
    assert found["source"] == prometheus.url and found["type"] == "vector"
    assert (found["shown"], found["total"], found["warnings"]) == (1, 1, [])
    assert found["series"][0]["labels"]["shop"] == "north"
    sample = found["series"][0]["samples"][0]
    assert sample["value"] == 5 and re.fullmatch(r"20\d\d-.*Z", sample["time"])
    nothing = straight("query", "shop_nothing", "--output", "json").expect(OK).json()
    assert nothing["series"][0]["samples"][0]["value"] == "NaN"


@pytest.mark.short_client
def test_a_query_is_csv(straight):
    rows = list(csv.DictReader(io.StringIO(straight("query", "shop_note", "--csv").expect(OK).out)))
    assert rows[0]["text"] == 'say "hi", \\o/' and rows[0]["value"] == "0.25"
    assert list(rows[0]) == ["time", "__name__", "instance", "job", "text", "value"]


def test_scalars_and_texts_are_results_too(straight):
    assert straight("query", "1 / 4").expect(OK).out == "0.25\n"
    assert straight("query", "1e5").expect(OK).out == "100000\n"
    assert straight("query", '"hello"').expect(OK).out == "hello\n"
    assert straight("query", '"hello"', "-o", "json").expect(OK).json()["series"][0]["text"] == "hello"


def test_what_is_left_out_is_said(straight):
    ended = straight("query", "shop_shelf").expect(OK)
    assert len(ended.out.splitlines()) == 101 and "shown 100 of 130 series (--limit 0 shows all)" in ended.err
    assert len(straight("query", "shop_shelf", "--limit", "0").expect(OK).out.splitlines()) == 131
    found = straight("query", "shop_shelf", "--limit", "3", "-o", "json").expect(OK)
    assert (found.json()["shown"], found.json()["total"]) == (3, 130) and "shown 3 of 130" in found.err
    assert len(straight("query", "shop_shelf", "-o", "json").expect(OK).json()["series"]) == 130


def test_no_series_is_no_failure_but_is_said(straight):
    ended = straight("query", "no_such_metric").expect(OK)
    assert ended.out == "" and "no series: nothing matches at that time" in ended.err
    assert "metrics names --match" in ended.err
    assert straight("range", "no_such_metric", "-o", "json").expect(OK).json()["series"] == []


@pytest.mark.parametrize("at", ["now", "now-1s", "1s", "-1s", "seconds", "milliseconds", "rfc3339", "offset"])
def test_moments_are_of_one_grammar(straight, at):
    now = time.time()
    at = {"seconds": f"{now:.0f}", "milliseconds": f"{now * 1000:.0f}",
          "rfc3339": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
          "offset": time.strftime("%Y-%m-%dT%H:%M:%S+02:00", time.gmtime(now + 7200))}.get(at, at)
    assert "2 series" in straight("query", "shop_orders_total", "--at", at).expect(OK).err
    assert "no series" in straight("query", "shop_orders_total", "--at", "now-1d").expect(OK).err


def test_a_moment_that_cannot_be_read_says_how_far_it_was(straight):
    ended = straight("query", "up", "--at", "now-1x").expect(BAD_INPUT)
    assert '--at: "now-1x" is no time: understood up to "now-1", then "x": the units are' in ended.err


# A time -----------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_range_has_a_line_for_each_series(straight):
    ended = straight("range", "shop_orders_total", "--from", "1m", "--step", "1s").expect(OK)
    lines = ended.out.splitlines()
    assert lines[0].split() == ["GRAPH", "MIN", "MEAN", "MAX", "LAST", "SERIES"]
    assert "▄" in lines[1] and lines[1].split()[-7:-3] == ["5", "5", "5", "5"] and 'shop="north"' in lines[1]
    assert "2 series" in ended.err


def test_a_range_has_about_240_points_unless_a_step_is_said(straight):
    for length, step in (("4m", 1), ("1h", 15), ("6h", 120), ("7d", 3600), ("365d", 172800)):
        assert straight("range", "up", "--from", length, "-o", "json").expect(OK).json()["step_seconds"] == step
    found = straight("range", "vector(1)", "--from", "1h", "--step", "1m30s", "-o", "json").expect(OK).json()
    assert found["step_seconds"] == 90 and len(found["series"][0]["samples"]) == 41
    assert all(sample["value"] == 1 for sample in found["series"][0]["samples"])


def test_too_many_points_are_refused_before_they_are_asked_for(straight):
    ended = straight("range", "up", "--from", "1d", "--step", "1s").expect(BAD_INPUT)
    assert "--step 1s makes 86401 points of each series, and Prometheus gives 11000 at most" in ended.err
    assert "say --step 8s or longer" in ended.err
    straight("range", "up", "--from", "1d", "--step", "8s").expect(OK)


def test_a_range_ends_after_it_starts(straight):
    ended = straight("range", "up", "--from", "now", "--to", "now-1h").expect(BAD_INPUT)
    assert '--to "now-1h" (20' in ended.err and 'is not after --from "now"' in ended.err
    assert "--step: " in straight("range", "up", "--step", "0").expect(BAD_INPUT).err


@pytest.mark.short_client
def test_a_chart_is_drawn(straight, new_directory, prometheus):
    chart = straight("range", "vector(1) * (time() % 60)", "--from", "2m", "--step", "5s", "--graph").expect(OK)
    assert re.search("[⠁-⣿]", chart.out) and "┤" in chart.out and "└" in chart.out
    assert "MIN" in chart.out and re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ", chart.out)
    plain = Tunnelctl(new_directory("tunnelctl"), {"LC_ALL": "C", "COLUMNS": "60"})
    ended = plain.run("metrics", "range", "shop_orders_total", "--from", "1m", "--graph",
                      "--prometheus-url", prometheus.url).expect(OK)
    assert ended.out.isascii() and "aaa" in ended.out and "bbb" in ended.out
    rows = ended.out.split("\n\n")[0].splitlines()
    assert max(map(len, rows)) == 60
    assert "--graph is for people" in straight("range", "up", "--graph", "--csv").expect(BAD_INPUT).err


def test_a_range_is_csv_for_every_sample(straight):
    ended = straight("range", "vector(2)", "--from", "1m", "--step", "10s", "--csv").expect(OK)
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert len(rows) == 7 and {row["value"] for row in rows} == {"2"}
    assert "--csv or --output json" in straight("range", "up", "--csv", "-o", "json").expect(BAD_INPUT).err


@pytest.mark.short_client
def test_a_percentile_of_a_histogram(straight):
    ended = straight("histogram", "shop_wait_seconds", "--percentile", "50", "--labels", 'job="tunneld"', "--by",
                     "job", "--rate", "1m", "--from", "1m", "--step", "1s", "-o", "json").expect(OK)
    query = 'histogram_quantile(0.5, sum by (le, job) (rate(shop_wait_seconds_bucket{job="tunneld"}[1m])))'
    assert query in ended.err and ended.json()["query"] == query
    last = ended.json()["series"][0]
    assert last["labels"] == {"job": "tunneld"} and 0 < last["samples"][-1]["value"] < 0.1
    assert "--percentile" in straight("histogram", "x", "--percentile", "101").expect(BAD_INPUT).err


# What there is ----------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_names_are_found_by_any_part(straight):
    ended = straight("names", "--match", "orders|shelf").expect(OK)
    assert ended.out.splitlines() == ["shop_orders_total", "shop_shelf"] and "2 metrics" in ended.err
    assert straight("names", "--match", "^shop_orders_total$").expect(OK).out == "shop_orders_total\n"
    everything = straight("names", "--from", "10m", "-o", "json").expect(OK).json()
    assert {"up", "shop_shelf"} <= set(everything["names"])
    cut = straight("names", "--match", "^shop_", "--limit", "2").expect(OK)
    assert len(cut.out.splitlines()) == 2 and re.search(r"shown 2 of \d+ metrics", cut.err)
    assert "none has that in its name" in straight("names", "--match", "nowhere").expect(OK).err
    assert "400" in straight("names", "--match", "(").expect(BAD_INPUT).err


@pytest.mark.short_client
def test_labels_and_their_values(straight):
    labels = straight("labels", "--match", "shop_orders_total").expect(OK)
    assert labels.out.splitlines() == ["__name__", "instance", "job", "shop"]
    assert "shelf" in straight("labels", "-o", "json").expect(OK).json()["labels"]
    assert straight("values", "shop").expect(OK).out.splitlines() == ["north", "south"]
    some = straight("values", "shop", "--match", 'shop_orders_total{shop=~"n.*"}', "--from", "1h", "-o", "json")
    assert some.expect(OK).json()["values"] == ["north"]
    assert "no series has that label" in straight("values", "nowhere").expect(OK).err
    assert "1 values" not in some.err
    assert "no labels" in straight("labels", "--match", "shop_orders_total", "--to", "now-1d").expect(OK).err


@pytest.mark.short_client
def test_metadata(straight):
    ended = straight("metadata", "shop_orders_total").expect(OK)
    assert re.search(r"shop_orders_total +counter +- +Orders, all of them\.", ended.out)
    found = straight("metadata", "-o", "json", "--limit", "1").expect(OK)
    assert found.json()["shown"] == 1 and found.json()["total"] >= 2
    assert "no metadata" in straight("metadata", "nowhere").expect(OK).err


# What goes wrong --------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_bad_promql_is_told_in_prometheus_words(straight, viewer):
    for ask in (straight, viewer):
        ended = ask("query", "sum(up").expect(BAD_INPUT)
        assert "400" in ended.err and re.search(r"1:\d+: parse error: unclosed left parenthesis", ended.err)
        assert "422" in ask("query", "shop_orders_total * on(job) shop_orders_total").expect(BAD_INPUT).err


def test_a_web_page_is_no_prometheus(answers, new_directory):
    ctl = Tunnelctl(new_directory("tunnelctl"))
    page = answers(200, "text/html", b"<!doctype html><html>Sign in</html>")
    ended = ctl.run("metrics", "query", "up", "--prometheus-url", page).expect(UNAVAILABLE)
    assert "answered with a web page, text/html: is this a Prometheus?" in ended.err
    lost = answers(404, "text/html", b"<html>Not here</html>")
    ended = ctl.run("metrics", "query", "up", "--prometheus-url", lost).expect(FAILED)
    assert "404" in ended.err and "is --prometheus-url the root of the server's API?" in ended.err


def test_a_data_source_that_is_a_web_page(grafana, viewer, answers):
    grafana.add_datasource("e2e-page", "prometheus", answers(200, "text/html", b"<html>Sign in</html>"))
    ended = viewer("query", "up", "--datasource", "e2e-page").expect(UNAVAILABLE)
    assert "/api/datasources/uid/e2e-page/resources/api/v1/query: answered with a web page, text/html" in ended.err


def samples(series, points):
    """A range's answer with so many of them, as Prometheus writes it; about 27 bytes each."""
    start = 1_700_000_000
    values = ",".join('[%d.123,"%.3f"]' % (start + 15 * i, i % 997 + 0.125) for i in range(points))
    return ('{"status":"success","data":{"resultType":"matrix","result":['
            + ",".join('{"metric":{"n":"%d"},"values":[%s]}' % (n, values) for n in range(series))
            + "]}}").encode()


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer takes memory of its own")
@pytest.mark.parametrize("series, points", [(60, 10_000), (1, 600_000)], ids=["many", "one"])
def test_a_large_answer_takes_little_more_memory_than_it_must(grafana, answers, new_directory, series, points):
    body = samples(series, points)
    url = answers(200, "application/json", body)
    grafana.add_datasource("e2e-large", "prometheus", url)
    query = ("range", "x", "--from", "1700000000", "--to", "1700150000", "--step", "15s", "-o", "json")
    for ctl, source in ((Tunnelctl(new_directory("tunnelctl")), ("--prometheus-url", url)),
                        (of_role(grafana, new_directory("tunnelctl")), ("--datasource", "e2e-large"))):
        code, out, _, peak = ctl.weigh("metrics", *query, *source)
        with open(out) as lines:
            assert (code, sum('"time": "' in line for line in lines)) == (OK, series * points)
        assert peak < 10 * len(body), f"{peak / len(body):.1f} times as much, {source[0]}"


def test_a_huge_answer_through_grafana_is_refused_too(grafana, viewer, answers):
    huge = answers(200, "application/json", b'{"status":"success","data":[' + b" " * (65 * 1024 * 1024) + b"]}")
    grafana.add_datasource("e2e-huge", "prometheus", huge)
    ended = viewer("query", "up", "--datasource", "e2e-huge").expect(BAD_INPUT)
    assert "larger than 67108864 bytes" in ended.err and "; ask for a shorter time, a longer --step" in ended.err


def test_a_huge_answer_is_refused(answers, new_directory):
    huge = answers(200, "application/json", b'{"status":"success","data":[' + b" " * (65 * 1024 * 1024) + b"]}")
    code, _, err, peak = Tunnelctl(new_directory("tunnelctl")).weigh("metrics", "labels", "--prometheus-url", huge)
    assert code == BAD_INPUT and "/api/v1/labels: " in err and "67108864 bytes" in err
    assert peak < 300 * 1024 * 1024


def test_nobody_there_or_nobody_named(new_directory):
    ctl = Tunnelctl(new_directory("tunnelctl"))
    ended = ctl.run("metrics", "query", "up").expect(CONFIG)
    assert "say --prometheus-url URL or set PROMETHEUS_URL; or name a Grafana" in ended.err
    ended = ctl.run("metrics", "query", "up", "--prometheus-url", "http://127.0.0.1:9", "--timeout", "1")
    assert "127.0.0.1:9" in ended.expect(UNAVAILABLE).err


def test_a_token_goes_to_the_server_it_was_set_for(new_directory, prometheus, answers):
    ctl = Tunnelctl(new_directory("tunnelctl"))
    (ctl.directory / "token").write_text("abc\n")
    ctl = ctl.with_environment(PROMETHEUS_TOKEN_FILE=str(ctl.directory / "token"), PROMETHEUS_URL=prometheus.url)
    ctl.run("metrics", "query", "up").expect(OK)
    refused = answers(401, "text/plain", b"Unauthorized")
    ended = ctl.run("metrics", "query", "up", "--prometheus-url", refused).expect(DENIED)
    assert "the credentials are not accepted: check PROMETHEUS_TOKEN_FILE" in ended.err
    # Named by hand beside a variable it is the server that the variable's token is for. A context's is not.
    assert answers.made[-1].heads[-1]["Authorization"] == "Bearer abc"
    configure(ctl, {"name": "prod", "prometheus_url": refused},
              {"name": "own", "prometheus_url": refused, "prometheus_token_file": "~/own"})
    ended = ctl.run("metrics", "query", "up", "--context", "prod").expect(DENIED)
    assert "no credentials were sent: set prometheus_token_file" in ended.err
    assert "Authorization" not in answers.made[-1].heads[-1]
    (ctl.directory / "own").write_text("of-the-context\n")
    ctl.run("metrics", "query", "up", "--context", "own").expect(DENIED)
    assert answers.made[-1].heads[-1]["Authorization"] == "Bearer of-the-context"


def test_a_context_s_secrets_stay_with_its_grafana(new_directory, answers):
    home = answers(403, "application/json", b"{}")
    other = answers(403, "application/json", b"{}")
    ctl = Tunnelctl(new_directory("tunnelctl"), secrets=["of-prod"])
    (ctl.directory / "token").write_text("of-prod\n")
    configure(ctl, {"name": "prod", "grafana_url": home, "token_file": "~/token", "headers": ["X-Access: of-prod"]})
    ctl.run("metrics", "query", "up", "--context", "prod").expect(DENIED)
    ctl.run("metrics", "query", "up", "--context", "prod", "--grafana-url", other).expect(DENIED)
    (to_home, to_other) = (one.heads for one in answers.made)
    assert to_home[0]["Authorization"] == "Bearer of-prod" and to_home[0]["X-Access"] == "of-prod"
    assert to_other and "of-prod" not in str(to_other)


def test_a_context_without_a_grafana_needs_none(new_directory, prometheus):
    ctl = Tunnelctl(new_directory("tunnelctl"), {"GRAFANA_URL": "http://127.0.0.1:9"})
    configure(ctl, {"name": "straight", "prometheus_url": prometheus.url})
    found = ctl.run("metrics", "query", "up", "--context", "straight", "-o", "json").expect(OK).json()
    assert found["source"] == prometheus.url


def test_plain_http_to_another_machine_must_be_allowed(new_directory):
    ctl = Tunnelctl(new_directory("tunnelctl"))
    configure(ctl, {"name": "prod", "prometheus_url": "http://192.0.2.1:9090"})
    ended = ctl.run("metrics", "query", "up", "--context", "prod").expect(CONFIG)
    assert "prometheus_url: http://192.0.2.1:9090: would send" in ended.err
    assert "--allow-plain-http" in ended.err and "allow_plain_http: true" in ended.err


# Through Grafana --------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_viewer_asks_through_grafana(grafana, viewer):
    found = viewer("query", "shop_orders_total", "-o", "json").expect(OK).json()
    assert found["source"] == f"data source {UID} of {grafana.url}"
    assert sorted(series["samples"][0]["value"] for series in found["series"]) == [5, 7]
    assert routes(grafana) == [("resources", 200)], "the only data source of the type needs no name"
    assert viewer("values", "shop", "--datasource", "The Prometheus").expect(OK).out == "north\nsouth\n"
    viewer("range", "up", "--from", "5m").expect(OK)
    viewer("metadata", "shop_orders_total").expect(OK)
    viewer("labels", "--match", "up").expect(OK)
    assert {route for route, _ in routes(grafana)} == {"resources"}


@pytest.mark.parametrize("status", [401, 403, 500])
def test_the_proxy_is_asked_where_the_resources_are_closed(grafana, viewer, status):
    grafana.fault(path="/resources/", status=status)
    assert "2 series" in viewer("query", "shop_orders_total").expect(OK).err
    assert routes(grafana)[-1] == ("proxy", 200)
    assert {route for route, _ in routes(grafana)} == {"resources", "proxy"}


def test_both_ways_closed_are_told_together(grafana, viewer):
    grafana.fault(path="/(resources|proxy)/", status=403, answer={"message": "no permission"})
    ended = viewer("query", "up").expect(DENIED)
    assert "/proxy/uid/" in ended.err and "; before, resources: 403" in ended.err
    assert "role Viewer" in ended.err


def test_a_get_data_source_is_asked_by_get(grafana, viewer, prometheus):
    grafana.preset(("POST", "/api/datasources", {
        "uid": "e2e-get", "name": "get", "type": "prometheus", "access": "proxy", "url": prometheus.url,
        "jsonData": {"httpMethod": "GET"}}))
    viewer("query", "up", "--datasource", "e2e-get").expect(OK)
    viewer("query", "up", "--datasource", UID).expect(OK)
    asked = [entry["method"] for entry in grafana.log() if "/resources/" in entry["path"]]
    assert asked == ["GET", "POST"]


def test_a_data_source_that_grafana_does_not_reach(grafana, viewer):
    grafana.add_datasource("e2e-dead", "prometheus", "http://127.0.0.1:9")
    ended = viewer("query", "up", "--datasource", "e2e-dead", "--timeout", "5").expect(UNAVAILABLE)
    assert "502" in ended.err and "tunnelctl datasource check e2e-dead" in ended.err
    assert {route for route, _ in routes(grafana)} == {"resources"}, "what the data source says is final"


def test_which_data_source_must_be_clear(grafana, viewer, prometheus):
    grafana.add_datasource("e2e-logs", "loki", "http://127.0.0.1:9")
    assert "2 series" in viewer("query", "shop_orders_total").expect(OK).err, "the only one of its type"
    ended = viewer("query", "up", "--datasource", "e2e-logs").expect(BAD_INPUT)
    assert "is of type loki, not prometheus" in ended.err
    ended = viewer("query", "up", "--datasource", "e2e-nowhere").expect(FAILED)
    assert 'no data source has the uid or name "e2e-nowhere"' in ended.err and "The Prometheus" in ended.err
    grafana.add_datasource("e2e-second", "prometheus", prometheus.url)
    ended = viewer("query", "up").expect(BAD_INPUT)
    assert "several data sources of type prometheus" in ended.err and "e2e-second" in ended.err
    grafana.add_datasource("e2e-third", "prometheus", prometheus.url, default=True)
    assert viewer("query", "up", "-o", "json").expect(OK).json()["source"].startswith("data source e2e-third ")
    ended = viewer("query", "up", "--datasource", UID, "--prometheus-url", prometheus.url).expect(BAD_INPUT)
    assert "either --datasource or --prometheus-url" in ended.err
    straight = viewer("query", "up", "--prometheus-url", prometheus.url, "-o", "json").expect(OK).json()
    assert straight["source"] == prometheus.url, "an address on the command line says what is meant"


def test_a_grafana_without_a_prometheus(grafana_double, new_directory):
    ended = of_role(grafana_double, new_directory("tunnelctl"), "admin").run("metrics", "query", "up").expect(FAILED)
    assert "has no data source of type prometheus" in ended.err and "--prometheus-url" in ended.err


def test_a_grafana_without_a_prometheus_leaves_the_context_s_own(grafana_double, new_directory, prometheus):
    grafana_double.add_datasource("e2e-victoria", "victoriametrics-metrics-datasource", "http://127.0.0.1:9")
    ctl = Tunnelctl(new_directory("tunnelctl"))
    (ctl.directory / "token").write_text(grafana_double.tokens["admin"])
    grafana = {"name": "prod", "grafana_url": grafana_double.url, "token_file": "~/token"}
    configure(ctl, grafana)
    ended = ctl.run("metrics", "query", "up", "--context", "prod").expect(FAILED)
    assert "ask it with: tunnelctl datasource query e2e-victoria" in ended.err and "--prometheus-url" in ended.err
    ended = ctl.run("metrics", "query", "up", "--context", "prod", "--datasource", "e2e-victoria").expect(BAD_INPUT)
    assert "ask it with: tunnelctl datasource query e2e-victoria" in ended.err
    configure(ctl, {**grafana, "prometheus_url": prometheus.url})
    ended = ctl.run("metrics", "query", "shop_orders_total", "--context", "prod").expect(OK)
    assert f"asking prometheus_url itself: {prometheus.url}" in ended.err and "2 series" in ended.err
    # A Grafana that does not answer is a failure, not a reason to ask another server.
    configure(ctl, {**grafana, "grafana_url": "http://127.0.0.1:9", "prometheus_url": prometheus.url})
    ctl.run("metrics", "query", "up", "--context", "prod", "--timeout", "2").expect(UNAVAILABLE)


def test_a_read_only_context_may_ask(grafana, new_directory):
    ctl = Tunnelctl(new_directory("tunnelctl"), secrets=[grafana.tokens["viewer"]])
    (ctl.directory / "token").write_text(grafana.tokens["viewer"])
    configure(ctl, {"name": "prod", "grafana_url": grafana.url, "token_file": "~/token", "read_only": True})
    assert "2 series" in ctl.run("metrics", "query", "shop_orders_total").expect(OK).err
