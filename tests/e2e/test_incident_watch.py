"""tunnelctl incident watch: incidents that open, are explained and close by themselves, once each, whoever is killed
or away meanwhile; alerts as Alertmanager and Grafana post them."""

import datetime
import hashlib
import hmac
import json
import pathlib
import time
import urllib.request

import pytest
import yaml

from callers.http import ask, outcome
from callers.operator import Operator
from programs.alertmanager import Alertmanager, Inbox
from programs.loopback import wait_until
from programs.tunnelctl import BAD_INPUT, CONFIG, DENIED, OK, USAGE
from programs.watch import Watch
from test_incident import BACKENDS, place_of  # noqa: F401

DOWN = (503, "TUNNEL_001")


@pytest.fixture
def daemon(new_tunneld):
    """One failure opens a breaker, an operator's reset closes it."""
    return new_tunneld(breaker={"failures": 1, "reset": "1h", "max_reset": "1h"})


@pytest.fixture
def new_watch():
    made = []

    def make(place, daemon=None, *arguments, environment=None, start=True):
        made.append(Watch(place.ctl, place.name, daemon, arguments=arguments, environment=environment))
        return made[-1].start() if start else made[-1]

    yield make
    for watch in made:
        if watch.program and watch.program.alive():
            assert watch.stop() == OK, watch.program.output()


def break_it(daemon, user="ann"):
    assert outcome(ask(daemon, daemon.token(user), "/t/dead/")) == DOWN


def mend_it(daemon):
    operator = Operator.of(daemon)
    for breaker in operator.breakers():
        operator.reset_breaker(breaker["id"]).expect(200)


def active(place):
    """Incidents that are open at the backend now."""
    if place.name == "webhook":
        now = {}
        for call in place.double.calls:
            if call["event"] in ("opened", "resolved") or call.get("changes", {}).get("status"):
                now[call["id"] if "id" in call else call["incident"]["id"]] = call["event"] != "resolved"
        return sum(now.values())
    return place.open_now()


# The story --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.deadline(90)
@pytest.mark.short_client
def test_a_breaker_opens_an_incident_that_is_explained_and_resolved(backend, daemon, place_of, new_watch):
    place = place_of(backend)
    watch = new_watch(place, daemon)
    break_it(daemon)
    wait_until(lambda: place.opened() == 1, 5, "there is an incident")
    wait_until(lambda: watch.metric("explained_total") == 1 and watch.metric("outbox_depth") == 0, 10, "it has its context")
    assert "dead" in place.texts()
    assert active(place) == 1
    mend_it(daemon)
    wait_until(lambda: active(place) == 0, 5, "it is resolved")
    watch.wait_until_told()
    assert place.opened() == 1
    assert watch.metric("deliveries_total", result="done") == 3  # open, the context, resolve


@pytest.mark.deadline(90)
def test_a_service_that_recovers_by_itself_closes_its_incident(new_tunneld, new_origin, origin, place_of, new_watch):
    flaky = new_origin()
    daemon = new_tunneld(breaker={"failures": 3, "reset": "300ms"}, services=[
        {"name": "flaky", "target": f"127.0.0.1:{flaky.ports['http']}", "allow": ["*"]}])
    place = place_of("local")
    new_watch(place, daemon)
    token = daemon.token("ann")
    flaky.stop()
    wait_until(lambda: outcome(ask(daemon, token, "/t/flaky/")) == (503, "TUNNEL_014"), 20, "the breaker is open")
    wait_until(lambda: active(place) == 1, 5, "there is an incident")
    flaky.start()
    wait_until(lambda: ask(daemon, token, "/t/flaky/hello").status == 200 and not Operator.of(daemon).breakers(), 20, "it closed")
    wait_until(lambda: active(place) == 0, 5, "it is resolved")
    (incident,) = place.json("list", "--limit", "0")["incidents"]
    shown = place.read(incident["id"])
    bodies = [note["body"] for note in shown["notes"]]
    assert shown["status"] == "resolved" and "flaky" in shown["title"]
    assert sum("refused" in body.lower() for body in bodies) >= 1, bodies


@pytest.mark.deadline(120)
def test_a_pagerduty_that_shows_incidents_late_has_each_note_and_end(daemon, place_of, new_watch):
    place = place_of("pagerduty")
    place.double.lag = 2
    watch = new_watch(place, daemon, "--flap-window", "0s")
    for number in (1, 2):
        break_it(daemon)
        wait_until(lambda: watch.metric("explained_total") == number, 20, "its context is known")
        mend_it(daemon)
        watch.wait_until_told()
        wait_until(lambda: place.opened() == number and active(place) == 0, 10, "it was opened and resolved")
    for one in place.double.incidents:
        notes = [note["content"] for note in place.double.notes if note["incident"] == one["id"]]
        assert sum("ref: context" in note for note in notes) == 1 and len(notes) == 2, notes


def test_several_principals_are_one_incident(daemon, place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place, daemon)
    for user in ("ann", "ben", "cy"):
        break_it(daemon, user)
    wait_until(lambda: watch.metric("events_seen_total") >= 4 and watch.metric("outbox_depth") == 0, 10, "all is told")
    assert place.opened() == 1
    mend_it(daemon)
    wait_until(lambda: active(place) == 0, 5, "it is resolved")
    assert place.opened() == 1


# Flapping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["local", "grafana", "github", "webhook"])
@pytest.mark.deadline(120)
def test_twenty_flaps_are_one_incident(backend, daemon, place_of, new_watch):
    place = place_of(backend)
    watch = new_watch(place, daemon, "--flap-window", "8s")
    for _ in range(20):
        break_it(daemon)
        mend_it(daemon)
    seen = Operator.of(daemon).last_event()
    wait_until(lambda: watch.metric("event_last_id") >= seen and watch.metric("outbox_depth") == 0, 20, "all is told")
    assert place.opened() == 1
    wait_until(lambda: active(place) == 0, 20, "it is resolved when it is quiet")
    assert place.opened() == 1
    assert watch.metric("flapping") == 0


# Whoever is killed ------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_watch_that_is_killed_before_it_could_tell_tells_afterwards(daemon, place_of, new_watch):
    place = place_of("github")
    watch = new_watch(place, daemon)
    place.double.down()
    break_it(daemon)
    wait_until(lambda: watch.metric("outbox_depth") >= 1, 5, "it is written down")
    watch.kill()
    mend_it(daemon)
    place.double.up()
    watch.start()
    watch.wait_until_told()
    assert place.opened() == 1 and active(place) == 0


@pytest.mark.parametrize("method, path", [("POST", "issues$"), ("POST", "comments"), ("PATCH", "issues/")])
@pytest.mark.deadline(120)
def test_a_call_that_took_effect_before_the_kill_is_not_made_twice(method, path, daemon, place_of, new_watch):
    place = place_of("github")
    watch = new_watch(place, daemon)
    place.double.fault(method=method, path=path, close=True, applied=True, count=0)
    break_it(daemon)
    mend_it(daemon)

    def met():
        return any(method == one[0] and path.strip("$/") in one[1] for one in place.double.log)

    wait_until(met, 20, "the double acted and did not answer")
    watch.kill()
    place.double.no_faults()
    watch.start()
    watch.wait_until_told()
    assert place.opened() == 1 and active(place) == 0
    comments = [comment["body"] for comment in place.double.comments]
    assert len(comments) == len(set(comments))


def notes_of(place):
    """The texts of all notes that the backend keeps, of its one incident."""
    if place.name == "webhook":
        return [call["note"]["body"] for call in place.double.calls if call["event"] in ("note", "resolved")]
    (incident,) = place.json("list", "--limit", "0")["incidents"]
    # Grafana tells of changes of its own in notes without a text.
    return [note["body"] for note in place.read(incident["id"])["notes"] if note["body"]]


@pytest.mark.parametrize("backend", [*BACKENDS, "pagerduty without its REST API"])
@pytest.mark.deadline(180)
def test_kills_at_any_moment_leave_one_incident_with_each_note_once(backend, daemon, place_of, new_watch):
    place = place_of(backend.split()[0])
    readable = "without" not in backend
    if not readable:
        for name in ("API_TOKEN_FILE", "FROM"):
            del place.ctl.environment["TUNNELCTL_INCIDENT_PAGERDUTY_" + name]
    watch = new_watch(place, daemon)
    break_it(daemon)
    for number, user in enumerate([None, "ben", "cy", "dan", None, None, None]):
        watch.kill()
        if user:
            break_it(daemon, user)
        if number == 5:
            mend_it(daemon)
        watch.start(ready=number % 2 == 0)
        wait_until(watch.watches, 20, "it watches")
    watch.wait_until_told(60)
    wait_until(lambda: active(place) == 0, 10, "it is resolved")
    assert place.opened() == 1
    if readable:
        notes = notes_of(place)
        assert len(notes) == len(set(notes)), notes
        assert sum("is refused too" in note for note in notes) == 3, notes
        assert sum("**Recovered**" in note for note in notes) == 1, notes
    else:
        # A note is another trigger there, and may come twice: the docs say so.
        told = {event["payload"]["custom_details"].get("note", "") for event in place.double.events
                if event["event_action"] == "trigger"}
        assert sum("is refused too" in note for note in told) == 3, told


@pytest.mark.deadline(90)
def test_a_deployment_of_both_is_no_incident(daemon, place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place, daemon, "--daemon-grace", "6s")
    daemon.stop()
    wait_until(lambda: watch.metric("pending") == 1, 5, "it was seen that tunneld is away")
    since = time.monotonic()
    assert watch.stop() == OK
    daemon.start()
    wait_until(lambda: time.monotonic() - since > 7, 10, "its grace is over")
    watch.start()
    seen = Operator.of(daemon).last_event()
    wait_until(lambda: watch.metric("event_last_id") >= seen and watch.metric("pending") == 0, 10, "all is read")
    assert place.opened() == 0


def test_a_backend_whose_secret_is_renewed_is_told_without_a_restart(daemon, place_of, new_watch):
    place = place_of("github")
    file = pathlib.Path(place.ctl.environment["TUNNELCTL_INCIDENT_GITHUB_TOKEN_FILE"])
    good = file.read_text()
    file.write_text("expired\n")
    watch = new_watch(place, daemon)
    break_it(daemon)
    wait_until(lambda: watch.metric("outbox_parked") == 1, 10, "it is refused")
    file.write_text(good)
    mend_it(daemon)
    wait_until(lambda: watch.metric("settling") == 0 and watch.metric("open") == 0, 5, "it is well")
    break_it(daemon)  # what opens asks anew
    wait_until(lambda: active(place) == 1, 10, "there is an incident")
    assert place.opened() == 1


def test_a_backend_that_refuses_at_the_start_is_no_failed_start(place_of, new_watch):
    grafana = place_of("grafana")
    grafana.ctl.environment["GRAFANA_SERVICE_ACCOUNT_TOKEN"] = "expired"
    watch = new_watch(grafana)
    assert watch.request("POST", "/alertmanager", group(alert()))[0] == 200
    wait_until(lambda: watch.metric("outbox_parked") == 1, 10, "it is parked")
    assert any(record["level"] == "ERROR" and "cannot be used yet" in record["message"] for record in watch.records())
    assert watch.page("/healthz")[0] == 200


def test_what_happened_while_nobody_watched_is_told_later(daemon, place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place, daemon)
    assert watch.stop() == OK
    break_it(daemon)
    watch.start()
    wait_until(lambda: active(place) == 1, 5, "there is an incident")
    assert watch.stop() == OK
    mend_it(daemon)
    watch.start()
    wait_until(lambda: active(place) == 0, 5, "it is resolved")
    assert place.opened() == 1


def test_the_first_start_tells_only_what_lasts(daemon, place_of, new_watch):
    break_it(daemon, "ann")
    mend_it(daemon)
    break_it(daemon, "ben")
    place = place_of("local")
    watch = new_watch(place, daemon)
    watch.wait_until_told()
    wait_until(lambda: active(place) == 1, 5, "what lasts is told")
    assert place.opened() == 1


@pytest.mark.deadline(120)
def test_a_tunneld_that_is_killed_is_an_incident_and_ends_what_it_told(daemon, place_of, new_watch):
    place = place_of("local")
    new_watch(place, daemon, "--daemon-grace", "1s")
    break_it(daemon)
    wait_until(lambda: active(place) == 1, 5, "the breaker's incident")
    daemon.program.kill()
    wait_until(lambda: active(place) == 2, 10, "and one of the daemon")
    daemon.start()
    wait_until(lambda: active(place) == 0, 20, "both are resolved")
    incidents = place.json("list", "--limit", "0")["incidents"]
    assert len(incidents) == 2
    notes = "".join(json.dumps(place.read(one["id"])) for one in incidents)
    assert "without stopping in good order" in notes and "started anew" in notes


def test_it_works_without_tunneld_and_without_the_backend_at_the_start(new_tunneld, place_of, new_watch):
    daemon = new_tunneld(breaker={"failures": 1, "reset": "1h", "max_reset": "1h"})
    place = place_of("github")
    watch = new_watch(place, daemon, "--daemon-grace", "500ms", start=False)
    daemon.stop()
    place.double.down()
    watch.start()
    wait_until(lambda: watch.metric("outbox_depth") >= 1, 10, "tunneld's absence is written down")
    assert watch.page("/readyz")[0] == 200, "that is what it is there for"
    daemon.start()
    place.double.up()
    wait_until(lambda: place.opened() == 1 and active(place) == 0, 30, "told, and over")


def test_a_refused_token_is_an_incident_too(daemon, place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place, daemon, "--daemon-grace", "500ms", start=False)
    token = watch.directory / "tunneld.jwt"
    good = token.read_text()
    token.write_text(daemon.token("eve", "free"))
    watch.start(ready=False)
    wait_until(lambda: watch.program.alive() and watch.port and _answers(watch) and active(place) == 1, 20, "there is an incident")
    assert watch.page("/readyz")[0] == 503
    token.write_text(good)
    wait_until(lambda: active(place) == 0, 30, "the new token is read")
    assert watch.page("/readyz")[0] == 200


def _answers(watch):
    try:
        return watch.page("/healthz")[0] == 200
    except OSError:
        return False


def test_a_backend_that_refuses_is_told_of_loudly_and_holds_nobody_else(daemon, place_of, new_watch):
    place = place_of("github")
    watch = new_watch(place, daemon)
    place.double.fault(method="POST", path="issues$", status=401, body={"message": "Bad credentials"})
    break_it(daemon)
    wait_until(lambda: watch.metric("outbox_parked") == 1, 10, "it is parked")
    assert any(record["level"] == "ERROR" and "waits for a person" in record["message"] for record in watch.records())
    assert watch.stop() == OK
    watch.start()
    wait_until(lambda: active(place) == 1, 10, "a new start tries at once")


# Alerts -----------------------------------------------------------------------------------------------


def alert(name="Broken", status="firing", **labels):
    return {"status": status, "labels": {"alertname": name, "severity": "critical", **labels},
            "annotations": {"summary": f"{name} fires"}, "startsAt": "2026-01-02T03:04:05Z",
            "fingerprint": hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16]}


def group(*alerts, status="firing", key="{}:{}"):
    return {"version": "4", "status": status, "groupKey": key, "groupLabels": {}, "commonLabels": {},
            "commonAnnotations": {}, "externalURL": "http://alerts.example", "alerts": list(alerts)}


def secret(directory, text, name="hook.token"):
    file = directory / name
    file.write_text(text + "\n")
    file.chmod(0o600)
    return file


@pytest.mark.short_client
def test_alerts_open_and_resolve(place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place)
    assert watch.request("POST", "/alertmanager", group(alert())) == (200, '{"status":"accepted"}\n')
    wait_until(lambda: active(place) == 1, 5, "there is an incident")
    assert watch.request("POST", "/alertmanager", group(alert()))[0] == 200
    assert watch.request("POST", "/alertmanager", group(alert(status="resolved"), status="resolved"))[0] == 200
    wait_until(lambda: active(place) == 0, 5, "it is resolved")
    assert place.opened() == 1
    assert watch.metric("alerts_received_total", origin="alertmanager", result="taken") == 3


def test_only_who_shows_the_token_may_post(place_of, new_watch):
    place = place_of("local")
    token = "dG9rZW4tb2YtdGhlLXRlc3Q"
    place.ctl.secrets.append(token)
    directory = place.ctl.directory
    watch = new_watch(place, None, "--listen-token-file", secret(directory, token),
                      "--grafana-secret-file", secret(directory, "hmac-key", "hmac"))
    body = json.dumps(group(alert())).encode()
    for fields in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"},
                   {"X-Grafana-Alerting-Signature": "0" * 64}):
        assert watch.request("POST", "/grafana", body, fields)[0] == 401, fields
    signature = hmac.new(b"hmac-key", body, "sha256").hexdigest()
    assert watch.request("POST", "/alertmanager", body, {"X-Grafana-Alerting-Signature": signature})[0] == 401
    stamp = str(int(time.time()))
    timed = hmac.new(b"hmac-key", stamp.encode() + b":" + body, "sha256").hexdigest()
    old = str(int(time.time()) - 3600)
    replayed = hmac.new(b"hmac-key", old.encode() + b":" + body, "sha256").hexdigest()
    header = "X-Grafana-Alerting-Signature"
    assert watch.request("POST", "/grafana", body, {header: replayed, header + "-Timestamp": old})[0] == 401
    assert place.opened() == 0
    assert watch.request("POST", "/grafana", body, {header: signature})[0] == 200
    assert watch.request("POST", "/grafana", body, {header: timed, header + "-Timestamp": stamp})[0] == 200
    assert watch.request("POST", "/alertmanager", body, {"Authorization": f"Bearer {token}"})[0] == 200
    wait_until(lambda: active(place) == 2, 5, "one of each sender")


@pytest.mark.parametrize("body, status", [
    (b"", 400), (b"garbage", 400), (b"\xff\xfe\x00", 400), (b"[]", 400), (b"{}", 400), (b"[" * 100_000, 400),
    (b'{"status":"firing","alerts":[{"status":"firing","labels":{"a":["b"]}}]}', 400),
    (b'{"status":"firing","groupKey":"\\u0000\\u001b[31m","alerts":[]}', 200), (b" " * (1 << 20), 400), (b" " * ((1 << 20) + 1), 413)], ids=[str(number) for number in range(10)])
def test_wrong_bodies_are_refused_with_the_reason(body, status, place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place)
    answered, text = watch.request("POST", "/alertmanager", body)
    assert answered == status
    assert status == 200 or json.loads(text)["error"]
    assert watch.page("/healthz")[0] == 200
    assert place.opened() == 0


@pytest.mark.deadline(120)
def test_alertmanager_itself_opens_and_resolves(new_directory, place_of, new_watch):
    place = place_of("local")
    token = "alertmanagers-own-token"
    file = secret(place.ctl.directory, token)
    watch = new_watch(place, None, "--listen-token-file", file)
    inbox = Inbox()
    manager = Alertmanager(new_directory("alertmanager"), inbox)
    manager.config.write_text(yaml.safe_dump({
        "route": {"receiver": "watch", "group_by": ["alertname"], "group_wait": "100ms", "group_interval": "1s"},
        "receivers": [{"name": "watch", "webhook_configs": [{
            "url": f"http://127.0.0.1:{watch.port}/alertmanager",
            "http_config": {"authorization": {"credentials_file": str(file)}}}]}]}))
    manager.start()
    try:
        def post(ends_in):
            ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=ends_in)
            alerts = [{"labels": {"alertname": "TunnelDown", "instance": instance, "severity": "critical"},
                       "annotations": {"summary": "nobody comes through"}, "endsAt": ends.isoformat()}
                      for instance in ("a", "b")]
            asked = urllib.request.Request(f"http://127.0.0.1:{manager.port}/api/v2/alerts", json.dumps(alerts).encode(),
                                           {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=10) as answer:
                assert answer.status == 200

        post(600)
        wait_until(lambda: active(place) == 1, 20, "there is an incident")
        post(-1)
        wait_until(lambda: active(place) == 0, 30, "it is resolved")
        (incident,) = place.json("list", "--limit", "0")["incidents"]
        assert incident["title"] == "TunnelDown: nobody comes through"
    finally:
        manager.stop()
        inbox.close()


# What makes no sense ----------------------------------------------------------------------------------


def test_a_second_watch_in_the_same_folder_is_refused(place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place)
    second = place.run("watch", "--no-events", "--listen", "127.0.0.1:0", "--state-dir", watch.state)
    second.expect(DENIED)
    assert "another tunnelctl incident watch works in" in second.err


def test_a_folder_of_another_daemon_or_backend_is_refused(place_of, new_watch):
    place = place_of("local")
    watch = new_watch(place)
    watch.stop()
    common = ("--no-events", "--listen", "127.0.0.1:0", "--state-dir", watch.state)
    other = place.run("watch", *common, "--name", "elsewhere").expect(BAD_INPUT)
    assert "another source" in other.err
    other = place.run("watch", *common, "--database", place.ctl.directory / "other.db").expect(BAD_INPUT)
    assert "another backend" in other.err


@pytest.mark.parametrize("arguments, code, says", [
    (["--no-events"], USAGE, "nothing to watch"),
    ([], CONFIG, "TUNNEL_TOKEN_FILE"),
    (["--no-events", "--listen", "0.0.0.0:0"], BAD_INPUT, "--listen-token-file"),
    (["--no-events", "--listen", "9465"], BAD_INPUT, "127.0.0.1:9465"),
    (["--no-events", "--listen", "127.0.0.1:0", "--quiet-for", "soon"], BAD_INPUT, "--quiet-for"),
    (["--no-events", "--listen", "127.0.0.1:0", "--listen-token-file", "/nonexistent"], BAD_INPUT, "--listen-token-file"),
])
def test_settings_that_make_no_sense_are_named(arguments, code, says, place_of):
    ended = place_of("local").run("watch", *arguments)
    ended.expect(code)
    assert says in ended.err
