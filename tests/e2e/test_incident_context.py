"""tunnelctl incident enrich and timeline: a real Prometheus and tunneld, Loki and Grafana as doubles, and those
that are dead, slow or something else."""

import http.server
import json
import threading
import time
import urllib.request

import pytest

from callers.http import ask
from programs.loopback import wait_until
from programs.prometheus import Prometheus
from programs.tunnelctl import CONFIG, DENIED, OK, Tunnelctl

KINDS = ("breaker/api", "upstream/home", "agents", "daemon", "audit", "overload/queue", "alert/X", "other")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def prometheus(new_directory, shared_tunneld):
    server = Prometheus(new_directory("prometheus"), f"127.0.0.1:{shared_tunneld.admin_port}").start()
    ask(shared_tunneld, shared_tunneld.token(), "/t/dead/")
    wait_until(lambda: len(server.query("count_over_time(tunnel_requests_total[1m]) > 2")) > 0, 30, "three scrapes")
    ask(shared_tunneld, shared_tunneld.token(), "/t/dead/")  # a series that begins with its first error has not grown
    wait_until(lambda: len(server.query("sum(increase(tunnel_errors_total[1m])) > 0")) > 0, 30, "an error that counts")
    yield server
    server.stop()


@pytest.fixture
def new_server():
    """Answers everything by `answer(path)`: (status, content type, body), or None: never."""
    made, over = [], threading.Event()

    def make(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                said = answer(self.path)
                if said is None:
                    over.wait(30)
                    return
                status, kind, body = said
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.append(server)
        return "http://127.0.0.1:%d" % server.server_address[1]

    yield make
    over.set()
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def desk(new_directory):
    """tunnelctl with the local backend and nobody to ask."""
    return Tunnelctl(new_directory("incidents"), {"TUNNELCTL_INCIDENT_BACKEND": "local"})


def create(ctl, key="breaker/api", *more):
    return ctl.run("incident", "create", "--title", "api fails", "--dedup-key", key, "--label", "service=api",
                   *more, "--output", "json").expect(OK).json()["id"]


def annotate(grafana, text, tag):
    request = urllib.request.Request(
        grafana.url + "/api/annotations", json.dumps({"text": text, "tags": [tag]}).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer " + grafana.tokens["editor"]})
    urllib.request.urlopen(request, timeout=10).close()


def enrich(ctl, id_, *more):
    return ctl.run("incident", "enrich", id_, *more, "--output", "json").expect(OK).json()


def notes(ctl, id_):
    return [note["body"] for note in
            ctl.run("incident", "show", id_, "--output", "json").expect(OK).json()["notes"] if note["kind"] == "note"]


# What is found out ------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_note_says_what_prometheus_and_loki_know(desk, prometheus, loki):
    loki.push({"job": "tunneld"}, [json.dumps({
        "timestamp": "2026-01-02T03:04:05Z", "level": "ERROR", "message": "request", "component": "access",
        "service": "api", "principal": f"p{n % 2}", "code": "TUNNEL_001", "why": f"connection to 10.0.0.{n} refused",
        "password": "hunter2"}) for n in range(20)])
    ctl = desk.with_environment(PROMETHEUS_URL=f"http://127.0.0.1:{prometheus.port}", LOKI_URL=loki.url)
    id_ = create(ctl)
    made = enrich(ctl, id_)
    text = made["markdown"]
    assert made["problems"] == []
    assert "- Error rate: " in text and "**Errors by code**" in text and "TUNNEL_001" in text
    assert "service `api`; in the error lines: 2 callers, 1 service (`api`)" in text
    assert "ERROR access: request code=TUNNEL_001" in text
    assert "Of 20 lines:" in text and "20 × " in text
    assert "**Runbook TunnelCircuitBreakerOpen**" in text
    assert "hunter2" not in text
    assert notes(ctl, id_) == [text]
    enrich(ctl, id_)
    assert len(notes(ctl, id_)) == 2


def test_every_question_is_one_that_prometheus_and_loki_take(desk, prometheus, loki):
    ctl = desk.with_environment(PROMETHEUS_URL=f"http://127.0.0.1:{prometheus.port}", LOKI_URL=loki.url)
    for kind in KINDS:
        made = enrich(ctl, create(ctl, kind), "--dry-run")
        assert made["problems"] == [], kind
        assert "**Numbers**" in made["markdown"], kind


def test_a_dry_run_shows_the_note_and_adds_nothing(desk):
    id_ = create(desk)
    shown = desk.run("incident", "enrich", id_, "--dry-run").expect(OK)
    assert "- **What**: api fails (critical)" in shown.out and "nothing was added" in shown.err
    assert notes(desk, id_) == []


def test_own_questions_are_asked_instead(desk, prometheus):
    (desk.directory / "config.yaml").write_text(
        "incident:\n  questions:\n"
        "    - {name: Daemons, expr: 'sum(up{job=\"tunneld\"})'}\n"
        "    - {name: Never, expr: 'up', kinds: [agent]}\n"
        "    - {name: By service, kind: table, expr: 'label_replace(up, \"x\", \"${service}\", \"\", \"\")'}\n")
    ctl = desk.with_environment(PROMETHEUS_URL=f"http://127.0.0.1:{prometheus.port}",
                                TUNNELCTL_CONFIG=str(desk.directory / "config.yaml"))
    text = enrich(ctl, create(ctl), "--dry-run")["markdown"]
    assert "- Daemons: **1**" in text and "x=api" in text
    assert "Never" not in text and "Error rate" not in text


@pytest.mark.parametrize("question, says", [
    ("{name: a, expr: 'sum(up'}", "incident.questions[0].expr: is no PromQL"),
    ("{name: a, expr: 'up', kind: logs}", "incident.questions[0].expr: is no LogQL"),
    ("{name: a, expr: 'up', unit: miles}", "incident.questions[0].unit: \"miles\" is none"),
    ("{name: a, expr: 'up', kind: riddle}", "must be one of: metric, table, logs, patterns"),
])
def test_a_question_that_cannot_work_is_named_and_nothing_is_done(desk, question, says):
    id_ = create(desk)
    (desk.directory / "config.yaml").write_text(f"incident:\n  questions:\n    - {question}\n")
    ctl = desk.with_environment(TUNNELCTL_CONFIG=str(desk.directory / "config.yaml"))
    assert says in ctl.run("incident", "enrich", id_).expect(CONFIG).err
    assert notes(desk, id_) == []


def test_grafana_knows_what_changed_and_where_to_look(desk, grafana_double, prometheus):
    grafana_double.add_datasource("prom-1", "prometheus", f"http://127.0.0.1:{prometheus.port}", default=True)
    ctl = desk.with_environment(GRAFANA_URL=grafana_double.url,
                                GRAFANA_SERVICE_ACCOUNT_TOKEN=grafana_double.tokens["editor"])
    for text, tag in (("v2 to prod", "deploy"), ("lunch", "people")):
        annotate(grafana_double, text, tag)
    made = enrich(ctl, create(ctl), "--dry-run", "--prometheus-url", f"http://127.0.0.1:{prometheus.port}")
    assert "**What changed**" in made["markdown"] and "v2 to prod" in made["markdown"]
    assert "lunch" not in made["markdown"]
    links = {link["caption"]: link["url"] for link in made["links"]}
    assert "prom-1" in links["Numbers in Explore"]
    assert "Dashboard" not in links  # this Grafana has none of that uid
    assert "type loki" in " ".join(made["problems"])


# When nobody answers ----------------------------------------------------------------------------------


@pytest.mark.short_client
def test_without_anybody_to_ask_the_note_still_says_who_what_since_when_and_the_runbook(desk):
    made = enrich(desk, create(desk))
    assert "**What**: api fails" in made["markdown"] and "**Since**" in made["markdown"]
    assert "**Runbook TunnelCircuitBreakerOpen**" in made["markdown"]
    assert any("no Prometheus is named" in problem for problem in made["problems"])
    assert any("no Loki is named" in problem for problem in made["problems"])


def test_one_dead_server_leaves_the_other(desk, loki):
    loki.push({"job": "tunneld"}, ['{"level":"ERROR","message":"still here"}'])
    made = enrich(desk.with_environment(PROMETHEUS_URL=NOBODY, LOKI_URL=loki.url), create(desk))
    assert "still here" in made["markdown"] and "**Not found out**" in made["markdown"]
    assert any("127.0.0.1:9" in problem for problem in made["problems"])


def test_a_server_that_hangs_does_not_hold_the_note_up(desk, new_server, loki):
    ctl = desk.with_environment(PROMETHEUS_URL=new_server(lambda path: None), LOKI_URL=loki.url,
                                TUNNELCTL_INCIDENT_ENRICHMENT_DEADLINE="1s")
    id_ = create(desk)
    begun = time.monotonic()
    made = enrich(ctl, id_)
    assert time.monotonic() - begun < 6
    assert any("Error rate" in problem for problem in made["problems"])
    assert len(notes(desk, id_)) == 1


def test_a_grafana_that_hangs_leaves_prometheus_and_loki(desk, new_server, prometheus, loki):
    loki.push({"job": "tunneld"}, ['{"level":"ERROR","message":"still here"}'])
    id_ = create(desk)
    ctl = desk.with_environment(
        GRAFANA_URL=new_server(lambda path: None), PROMETHEUS_URL=f"http://127.0.0.1:{prometheus.port}",
        LOKI_URL=loki.url, TUNNELCTL_INCIDENT_ENRICHMENT_DEADLINE="6s")
    begun = time.monotonic()
    made = enrich(ctl, id_)
    assert time.monotonic() - begun < 12
    assert "- Error rate: " in made["markdown"] and "still here" in made["markdown"]
    assert [problem for problem in made["problems"] if "annotations" not in problem] == []
    # Named on the command line nobody asks Grafana for them at all.
    made = enrich(ctl.with_environment(PROMETHEUS_URL=None), id_, "--dry-run",
                  "--prometheus-url", f"http://127.0.0.1:{prometheus.port}")
    assert "- Error rate: " in made["markdown"]


def test_other_answers_are_told_as_text(desk, new_server):
    page = new_server(lambda path: (200, "text/html", b"<html><b>Sign in</b> `here`</html>"))
    made = enrich(desk.with_environment(PROMETHEUS_URL=page, LOKI_URL=page), create(desk))
    assert made["problems"] and "**Not found out**" in made["markdown"]
    assert "**Runbook" in made["markdown"]


# The post-mortem --------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_timeline_is_the_beginning_of_a_post_mortem(desk):
    id_ = create(desk)
    desk.run("incident", "note", id_, "looking at it").expect(OK)
    enrich(desk, id_)
    desk.run("incident", "resolve", id_).expect(OK)
    file = desk.directory / "post-mortem.md"
    assert desk.run("incident", "timeline", id_, "--out", file).expect(OK).out == ""
    text = file.read_text()
    for part in ("# Post-mortem: api fails\n", "## Durations", "## Timeline", "looking at it", "## Action items",
                 "> - **What**: api fails"):
        assert part in text, part
    assert desk.run("incident", "timeline", id_, "--output", "json").expect(OK).json()["markdown"] == text


def test_an_incident_that_is_not_there_is_named(desk):
    for verb in ("enrich", "timeline"):
        assert "inc-999" in desk.run("incident", verb, "inc-999").expect(1).err


def test_a_read_only_context_shows_and_writes_nothing(desk):
    id_ = create(desk)
    (desk.directory / "config.yaml").write_text(
        f"current: prod\ncontexts:\n  - {{name: prod, grafana_url: '{NOBODY}', read_only: true}}\n")
    ctl = desk.with_environment(TUNNELCTL_CONFIG=str(desk.directory / "config.yaml"))
    assert "read-only" in ctl.run("incident", "enrich", id_).expect(DENIED).err
    ctl.run("incident", "enrich", id_, "--dry-run").expect(OK)
    assert notes(desk, id_) == []
