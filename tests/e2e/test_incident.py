"""tunnelctl incident against each backend: local for real, the others as doubles that answer as their originals."""

import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from programs.tunnelctl import BAD_INPUT, CONFIG, DENIED, FAILED, OK, UNAVAILABLE, USAGE, Tunnelctl, binary

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from incident_doubles.github import Github  # noqa: E402
from incident_doubles.pagerduty import Pagerduty  # noqa: E402
from incident_doubles.webhook import Webhook  # noqa: E402

BACKENDS = ("local", "grafana", "pagerduty", "github", "webhook")
#: Those that can be asked what they keep.
READABLE = ("local", "grafana", "pagerduty", "github")


class Place:
    """One backend: tunnelctl set up for it, its double, and what is to be seen there."""

    def __init__(self, name, ctl, double=None):
        self.name, self.ctl, self.double = name, ctl, double

    def run(self, verb, *arguments, timeout=60):
        return self.ctl.run("incident", verb, "--backend", self.name, *arguments, timeout=timeout)

    def json(self, verb, *arguments):
        return self.run(verb, *arguments, "--output", "json").expect(OK).json()

    def create(self, title="api fails", *arguments):
        return self.json("create", "--title", title, *arguments)

    def read(self, id_):
        return self.json("show", id_)

    def opened(self):
        """How many incidents were ever made there, as the service itself counts."""
        if self.name == "local":
            return len(self.json("list", "--limit", "0")["incidents"])
        if self.name == "grafana":
            return len(self.double.control("GET", "irm")["incidents"])
        return len({"pagerduty": lambda: self.double.incidents, "github": lambda: self.double.issues,
                    "webhook": lambda: [call for call in self.double.calls if call["event"] == "opened"]}[self.name]())

    def open_now(self):
        if self.name == "grafana":
            return sum(one["status"] == "active" for one in self.double.control("GET", "irm")["incidents"])
        if self.name == "pagerduty":
            return sum(one["status"] != "resolved" for one in self.double.incidents)
        if self.name == "github":
            return sum(one["state"] == "open" for one in self.double.issues)
        return len(self.json("list", "--status", "active")["incidents"])

    def texts(self):
        """Everything the service was sent."""
        if self.name == "local":
            return json.dumps(self.json("list")) + "".join(
                json.dumps(self.read(one["id"])) for one in self.json("list")["incidents"])
        if self.name == "grafana":
            return json.dumps(self.double.control("GET", "irm"))
        return "".join(body for _, _, body, _ in self.double.log)


def secret_file(directory, name, text):
    file = directory / name
    file.write_text(text + "\n")
    return str(file)


@pytest.fixture
def place_of(new_directory, request):
    """Makes the place of a backend."""
    ended = []

    def make(name):
        directory = new_directory("incidents")
        directory.mkdir(parents=True, exist_ok=True)
        if name == "local":
            return Place(name, Tunnelctl(directory))
        if name == "grafana":
            grafana = request.getfixturevalue("grafana_double")
            grafana.control("POST", "irm", {})
            return Place(name, Tunnelctl(directory, {
                "GRAFANA_URL": grafana.url, "GRAFANA_SERVICE_ACCOUNT_TOKEN": grafana.tokens["editor"]}), grafana)
        double = {"pagerduty": Pagerduty, "github": Github, "webhook": Webhook}[name]()
        double.up()
        ended.append(double)
        prefix = "TUNNELCTL_INCIDENT_"
        environment = {
            "pagerduty": lambda: {
                "PAGERDUTY_URL": double.url, "PAGERDUTY_API_URL": double.url, "PAGERDUTY_FROM": "oncall@example.org",
                "PAGERDUTY_ROUTING_KEY_FILE": secret_file(directory, "routing", double.routing_key),
                "PAGERDUTY_API_TOKEN_FILE": secret_file(directory, "token", double.token)},
            "github": lambda: {
                "GITHUB_URL": double.url, "GITHUB_REPOSITORY": double.repository,
                "GITHUB_TOKEN_FILE": secret_file(directory, "token", double.token)},
            "webhook": lambda: {
                "WEBHOOK_URL": double.url + "/hook",
                "WEBHOOK_SECRET_FILE": secret_file(directory, "secret", double.secret)},
        }[name]()
        secrets = [getattr(double, key, None) for key in ("token", "routing_key", "secret")]
        return Place(name, Tunnelctl(directory, {prefix + key: value for key, value in environment.items()}, secrets),
                     double)

    yield make
    for double in ended:
        double.down()


@pytest.fixture(params=BACKENDS)
def place(request, place_of):
    return place_of(request.param)


@pytest.fixture(params=READABLE)
def readable(request, place_of):
    return place_of(request.param)


@pytest.fixture
def local(place_of):
    return place_of("local")


# From the beginning to the end ------------------------------------------------------------------------


@pytest.mark.short_client
def test_an_incident_is_opened_noted_and_really_resolved(readable):
    made = readable.create("api fails", "--severity", "error", "--label", "service=api", "--label", "urgent",
                           "--attach", "https://grafana.example/d/x=Dashboard", "--note", "502 for everybody")
    assert made["made"] and made["status"] == "active" and made["severity"] == "error"
    readable.run("note", made["id"], "restarted the origin").expect(OK)
    shown = readable.read(made["id"])
    assert "restarted the origin" in [note["body"] for note in shown["notes"]]
    assert "502 for everybody" in shown["summary"] + json.dumps(shown["notes"])
    assert {"key": "service", "value": "api"} in shown["labels"]
    assert shown["dedup_key"] == "manual:api-fails"
    done = readable.json("resolve", made["id"], "--note", "certificate renewed")
    assert done["status"] == "resolved"
    shown = readable.read(made["id"])
    assert shown["status"] == "resolved" and shown["resolved"]
    assert "certificate renewed" in [note["body"] for note in shown["notes"]]
    assert readable.open_now() == 0


@pytest.mark.short_client
def test_one_key_has_one_open_incident(readable):
    first = readable.create("api fails")
    again = readable.create("API  fails!")
    assert not again["made"] and again["id"] == first["id"]
    other = readable.create("api fails", "--dedup-key", "another")
    assert other["made"]
    assert readable.opened() == 2
    readable.run("resolve", first["id"]).expect(OK)
    assert readable.create("api fails")["made"]
    assert readable.opened() == 3


def test_resolving_twice_is_done_once(readable):
    made = readable.create()
    readable.run("resolve", made["id"], "--note", "gone").expect(OK)
    readable.run("resolve", made["id"], "--note", "gone").expect(OK)
    assert [note["body"] for note in readable.read(made["id"])["notes"]].count("gone") == 1


def test_a_note_for_one_that_is_resolved_already_is_kept(readable):
    made = readable.create()
    readable.run("resolve", made["id"], "--note", "it is back").expect(OK)
    late = readable.run("resolve", made["id"], "--note", "the certificate was old").expect(OK)
    assert "it was resolved already; the note was added" in late.err
    bodies = [note["body"] for note in readable.read(made["id"])["notes"]]
    assert "it is back" in bodies and "the certificate was old" in bodies


def test_lists_are_filtered_and_say_when_there_is_more(readable):
    ids = [readable.create(f"number {index}", *(["--drill"] if index == 2 else []))["id"] for index in range(5)]
    readable.run("resolve", ids[1]).expect(OK)
    assert [one["id"] for one in readable.json("list", "--limit", "0")["incidents"]] == ids[::-1]
    listed = readable.json("list", "--limit", "2")
    assert [one["id"] for one in listed["incidents"]] == ids[:2:-1] and listed["more"]
    assert [one["id"] for one in readable.json("list", "--status", "resolved")["incidents"]] == [ids[1]]
    assert [one["id"] for one in readable.json("list", "--drill")["incidents"]] == [ids[2]]
    assert ids[2] not in [one["id"] for one in readable.json("list", "--no-drill")["incidents"]]
    text = readable.run("list").expect(OK)
    assert text.out.splitlines()[0].split() == ["ID", "STATUS", "SEVERITY", "OPENED", "TITLE", "LABELS"]
    assert "5 incidents" in text.err


@pytest.mark.parametrize("name", ("local", "grafana", "github"))
def test_what_is_named_of_an_incident_is_changed(place_of, name):
    place = place_of(name)
    made = place.create("api fails", "--label", "service=api", "--label", "team=edge")
    changed = place.json("update", made["id"], "--title", "api is slow", "--severity", "warning", "--add-label",
                         "service=web", "--remove-label", "team")
    assert (changed["title"], changed["severity"], changed["status"]) == ("api is slow", "warning", "active")
    assert changed["labels"] == [{"key": "service", "value": "web"}]
    assert place.json("update", made["id"], "--status", "resolved")["status"] == "resolved"
    assert place.json("list", "--label", "service=web")["incidents"][0]["id"] == made["id"]


def test_pagerduty_changes_titles_and_says_what_it_cannot(place_of):
    place = place_of("pagerduty")
    made = place.create()
    assert place.json("update", made["id"], "--title", "api is slow")["title"] == "api is slow"
    refused = place.run("update", made["id"], "--severity", "warning").expect(FAILED)
    assert "PagerDuty keeps the severity and the labels of the first event" in refused.err
    assert place.read(place.double.incidents[0]["id"])["id"] == made["id"], "its own ids are taken too"


def test_a_webhook_is_told_everything_once_and_signed(place_of):
    place = place_of("webhook")
    made = place.create("api fails", "--label", "service=api", "--note", "why")
    assert made["id"] == "manual:api-fails" and made["url"] == "https://receiver.example/1"
    place.run("note", made["id"], "looking").expect(OK)
    place.run("update", made["id"], "--severity", "warning").expect(OK)
    place.run("resolve", made["id"], "--note", "gone").expect(OK)
    calls = place.double.calls
    assert [call["event"] for call in calls] == ["opened", "note", "changed", "resolved"]
    assert calls[0]["incident"]["labels"] == [{"key": "service", "value": "api"}]
    assert calls[1]["note"]["body"] == "looking" and calls[2]["changes"] == {"severity": "warning"}
    refused = place.run("list").expect(FAILED)
    assert "a webhook only tells" in refused.err


def test_pagerduty_without_a_token_pages_and_resolves_and_says_the_rest(place_of):
    place = place_of("pagerduty")
    place.ctl = place.ctl.with_environment(TUNNELCTL_INCIDENT_PAGERDUTY_API_TOKEN_FILE=None)
    made = place.create("api fails", "--drill")
    assert made["id"] == "manual:api-fails"
    event = place.double.events[0]
    assert event["payload"]["summary"] == "[DRILL] api fails" and event["payload"]["severity"] == "critical"
    for verb in (("note", made["id"], "x"), ("show", made["id"]), ("list",)):
        assert "incident.pagerduty.api_token_file" in place.run(*verb).expect(FAILED).err
    ended = place.run("resolve", made["id"], "--note", "gone").expect(OK)
    assert place.double.incidents[0]["status"] == "resolved"
    assert "whether such an incident was open it does not say" in ended.err
    assert "the note was not added" in ended.err


def test_pagerduty_knows_an_id_of_its_own_that_is_not_there(place_of):
    place = place_of("pagerduty")
    place.create()
    assert "there is no incident \"PT4KHLK\"" in place.run("resolve", "PT4KHLK").expect(FAILED).err
    assert place.open_now() == 1
    place.run("resolve", place.double.incidents[0]["id"]).expect(OK)
    assert place.open_now() == 0


# Failures ---------------------------------------------------------------------------------------------

#: The call that makes an incident, and the one that adds a note, at each service.
MAKING = {"grafana": "CreateIncident", "pagerduty": "enqueue", "github": "issues$", "webhook": "hook"}
NOTING = {"grafana": "AddActivity", "pagerduty": "notes$", "github": "comments$", "webhook": "hook"}
REMOTE = tuple(MAKING)


@pytest.mark.parametrize("name", REMOTE)
def test_an_answer_that_is_lost_doubles_nothing(place_of, name):
    place = place_of(name)
    place.double.fault(method="POST", path=MAKING[name], close=True, applied=True, count=1)
    first = place.run("create", "--title", "api fails")
    place.run("create", "--title", "api fails").expect(OK)
    assert first.code in (OK, UNAVAILABLE)
    if name == "webhook":
        assert len({call["id"] for call in place.double.calls}) == 1  # two runs are two tellings of one incident
    else:
        assert place.opened() == 1


@pytest.mark.parametrize("name", REMOTE)
@pytest.mark.parametrize("status, code", ((401, DENIED), (403, DENIED), (500, UNAVAILABLE), (503, UNAVAILABLE),
                                          (400, BAD_INPUT), (422, BAD_INPUT)))
def test_a_refusal_is_never_taken_for_success(place_of, name, status, code):
    place = place_of(name)
    place.double.fault(method="POST", path=MAKING[name], status=status, count=0)
    refused = place.run("create", "--title", "api fails").expect(code)
    assert "injected" in refused.err and str(status) in refused.err
    assert refused.out == ""


@pytest.mark.parametrize("name", REMOTE)
def test_a_web_page_is_no_answer(place_of, name):
    place = place_of(name)
    page = {"answer": "<!DOCTYPE html><html>"} if name == "grafana" else {"body": "<!DOCTYPE html><html>"}
    place.double.fault(method="POST", path=MAKING[name], status=200, count=0, **page)
    refused = place.run("create", "--title", "api fails").expect(UNAVAILABLE)
    assert re.search("web page|no JSON", refused.err), refused


@pytest.mark.parametrize("name", REMOTE)
def test_a_service_that_is_away_is_said(place_of, name):
    place = place_of(name)
    if name == "grafana":
        place.ctl = place.ctl.with_environment(GRAFANA_URL="http://127.0.0.1:1")
    else:
        place.double.down()
    away = place.run("create", "--title", "api fails")
    assert away.code == UNAVAILABLE and "127.0.0.1" in away.err, away


@pytest.mark.parametrize("name", REMOTE)
def test_too_many_requests_is_worth_another_try(place_of, name):
    place = place_of(name)
    place.double.fault(method="POST", path=MAKING[name], status=429, count=1)
    place.run("create", "--title", "api fails").expect(OK)
    assert place.opened() == 1


def test_github_says_what_it_says(place_of):
    place = place_of("github")
    double = place.double
    double.remaining = 0
    limited = place.run("create", "--title", "x").expect(UNAVAILABLE)
    assert "API rate limit exceeded" in limited.err
    double.remaining, double.enabled = 5000, False
    assert "Issues has been disabled" in place.run("create", "--title", "x").expect(FAILED).err
    double.enabled = True
    wrong = place.ctl.with_environment(TUNNELCTL_INCIDENT_GITHUB_REPOSITORY="example/other")
    assert "404: Not Found" in wrong.run("incident", "create", "--backend", "github", "--title", "x").expect(FAILED).err
    double.token = "another"
    assert "401: Bad credentials" in place.run("list").expect(DENIED).err


def test_a_github_token_that_may_not_label_leaves_nothing_open(place_of):
    place = place_of("github")
    place.double.may_label = False
    refused = place.run("create", "--title", "api fails").expect(DENIED)
    assert "may not set labels" in refused.err
    assert place.open_now() == 0


def test_issues_of_others_are_no_incidents(place_of):
    place = place_of("github")
    place.double.add(title="a feature")
    assert place.json("list")["incidents"] == []
    assert "no label" in place.run("show", "1").expect(FAILED).err
    assert "no label" in place.run("note", "1", "x").expect(FAILED).err
    assert place.double.comments == []
    for _ in range(120):  # more than a page, and one that only looks like ours
        place.double.add(title="typed by hand", labels=[{"name": "incident"}], body="no mark")
    made = place.create()
    assert not place.create()["made"]
    assert place.run("resolve", made["id"]).expect(OK)


def test_a_viewer_is_refused_by_grafana_and_told_so(place_of):
    place = place_of("grafana")
    place.ctl = place.ctl.with_environment(GRAFANA_SERVICE_ACCOUNT_TOKEN=place.double.tokens["viewer"])
    refused = place.run("create", "--title", "api fails").expect(DENIED)
    assert "403" in refused.err and "Permission denied" in refused.err
    assert place.opened() == 0


def test_a_change_that_was_half_applied_is_said(place_of):
    place = place_of("grafana")
    made = place.create()
    place.double.fault(path="UpdateSeverity", status=403)
    half = place.run("update", made["id"], "--title", "new", "--severity", "warning").expect(DENIED)
    assert "changed already: the title; not changed: the severity" in half.err


@pytest.mark.parametrize("name", READABLE)
def test_incidents_that_are_not_there_are_not_found(place_of, name):
    place = place_of(name)
    missing = {"local": "inc-99", "grafana": "99", "pagerduty": "nothing", "github": "99"}[name]
    for verb in (("show", missing), ("note", missing, "x"), ("export", missing)):
        ended = place.run(*verb)
        assert ended.code == FAILED and ended.out == "", ended


# Which backend ----------------------------------------------------------------------------------------


def test_auto_takes_the_first_that_there_is_and_says_why(place_of, grafana_double):
    place = place_of("github")
    auto = place.ctl.run("incident", "list").expect(OK)
    assert "backend github: it is configured" in auto.err
    with_grafana = place.ctl.with_environment(
        GRAFANA_URL=grafana_double.url, GRAFANA_SERVICE_ACCOUNT_TOKEN=grafana_double.tokens["editor"])
    assert "backend github" in with_grafana.run("incident", "list").expect(OK).err
    grafana_double.control("POST", "irm", {"plugin": "grafana-incident-app"})
    assert "the server has the plugin grafana-incident-app" in with_grafana.run("incident", "list").expect(OK).err
    grafana_double.control("POST", "irm", {"enabled": False})
    assert "backend github" in with_grafana.run("incident", "list").expect(OK).err
    away = with_grafana.with_environment(GRAFANA_URL="http://127.0.0.1:1").run("incident", "list").expect(OK)
    assert "cannot be asked" in away.err and "backend github" in away.err


def test_without_anything_incidents_are_kept_here(local):
    made = local.ctl.run("incident", "create", "--title", "api fails").expect(OK)
    assert made.out == "inc-1\n"
    assert "backend local: nothing else is configured" in made.err
    file = local.ctl.directory / ".local/state/tunnelctl/incidents.db"
    assert oct(file.stat().st_mode)[-3:] == "600" and oct(file.parent.stat().st_mode)[-3:] == "700"
    elsewhere = local.run("create", "--title", "x", "--database", "other.db").expect(OK)
    assert elsewhere.out == "inc-1\n" and (local.ctl.directory / "other.db").exists()


def test_a_backend_that_is_not_configured_says_what_to_set(local):
    for name, setting in (("pagerduty", "ROUTING_KEY"), ("github", "REPOSITORY"), ("webhook", "WEBHOOK_URL"),
                          ("grafana", "GRAFANA_URL")):
        refused = local.ctl.run("incident", "list", "--backend", name).expect(BAD_INPUT)
        assert setting in refused.err
    local.ctl.run("incident", "list", "--backend", "jira").expect(USAGE)


def test_local_needs_nothing_of_other_services(local):
    ctl = local.ctl.with_environment(
        TUNNELCTL_INCIDENT_GITHUB_REPOSITORY="a/b", TUNNELCTL_INCIDENT_GITHUB_TOKEN_FILE="/nonexistent/token",
        TUNNELCTL_INCIDENT_PAGERDUTY_ROUTING_KEY_FILE="/nonexistent/key", GRAFANA_URL="http://127.0.0.1:1",
        GRAFANA_EXTRA_HEADERS="nonsense")
    made = ctl.run("incident", "create", "--backend", "local", "--title", "api fails").expect(OK)
    assert made.out == "inc-1\n" and "incidents are not drawn in Grafana: environment GRAFANA_EXTRA_HEADERS" in made.err
    for backend in ("github", "pagerduty"):
        assert "/nonexistent/" in ctl.run("incident", "list", "--backend", backend).expect(BAD_INPUT).err


def test_the_configuration_file_says_where(place_of):
    place = place_of("github")
    token = place.ctl.environment["TUNNELCTL_INCIDENT_GITHUB_TOKEN_FILE"]
    file = place.ctl.directory / "config.yaml"
    good = (f"incident:\n  backend: github\n  github:\n    repository: {place.double.repository}\n"
            f"    token_file: {token}\n    url: {place.double.url}\n")
    file.write_text(good)
    ctl = Tunnelctl(place.ctl.directory, secrets=place.ctl.secrets)
    made = ctl.run("--config", file, "incident", "create", "--title", "x").expect(OK)
    assert made.out == "1\n"
    file.write_text(good + "    tokn: x\n")
    wrong = ctl.run("--config", file, "incident", "list").expect(CONFIG)
    assert "config.yaml:7: incident.github.tokn" in wrong.err
    file.write_text(good)
    # The file's token is for the file's address.
    redirected = ctl.with_environment(TUNNELCTL_INCIDENT_GITHUB_URL="http://127.0.0.1:1")
    assert "no GitHub token" in redirected.run("--config", file, "incident", "list").expect(BAD_INPUT).err
    bad = ctl.with_environment(TUNNELCTL_INCIDENT_BACKEND="jira").run("--config", file, "incident", "list")
    assert "TUNNELCTL_INCIDENT_BACKEND" in bad.expect(CONFIG).err


def test_a_read_only_context_refuses_to_write(local):
    file = local.ctl.directory / "config.yaml"
    file.write_text("current: look\ncontexts:\n  - name: look\n    read_only: true\n")
    for verb in (("create", "--title", "x"), ("note", "inc-1", "x"), ("update", "inc-1", "--title", "y"),
                 ("resolve", "inc-1")):
        refused = local.run(*verb, "--config", str(file)).expect(DENIED)
        assert "read-only" in refused.err
    local.run("list", "--config", str(file)).expect(OK)


def test_incidents_of_local_are_drawn_in_grafana(place_of, grafana_double):
    place = place_of("local")
    place.ctl = place.ctl.with_environment(GRAFANA_URL=grafana_double.url,
                                           GRAFANA_SERVICE_ACCOUNT_TOKEN=grafana_double.tokens["editor"])
    made = place.create("api fails", "--severity", "error")
    place.run("resolve", made["id"]).expect(OK)
    drawn = grafana_double.preset(("GET", "/api/annotations?tags=incident", None))[0]
    assert len(drawn) == 1
    assert drawn[0]["text"] == "api fails" and drawn[0]["timeEnd"] > drawn[0]["time"]
    assert {"incident", "severity:error", "incident:inc-1"} <= set(drawn[0]["tags"])
    grafana_double.fault(path="annotations", status=500)
    made = place.run("create", "--title", "two").expect(OK)
    assert made.out == "inc-2\n" and "Grafana has no annotation of it" in made.err


def test_an_end_that_grafana_did_not_take_is_drawn_with_the_next_incident(place_of, grafana_double):
    place = place_of("local")
    place.ctl = place.ctl.with_environment(GRAFANA_URL=grafana_double.url,
                                           GRAFANA_SERVICE_ACCOUNT_TOKEN=grafana_double.tokens["editor"])
    first = place.create("one")
    grafana_double.fault(method="PATCH", path="annotations", status=500)
    assert "Grafana has no annotation" in place.run("resolve", first["id"]).expect(OK).err
    grafana_double.no_faults()
    place.create("two")
    drawn = grafana_double.preset(("GET", "/api/annotations?tags=incident:inc-1", None))[0]
    assert drawn[0]["timeEnd"] > drawn[0]["time"]


# Bad input --------------------------------------------------------------------------------------------


def test_bad_arguments_are_named(local):
    for arguments, says in (
            (("--title", " "), "--title: must not be empty"), (("--title", "a\nb"), "--title: must be one line"),
            (("--title", "x", "--severity", "loud"), "--severity: \"loud\" is no severity"),
            (("--title", "x", "--label", "a b=c"), "label \"a b=c\""),
            (("--title", "x", "--attach", "ftp://x=y"), "must begin with https://"),
            (("--title", "x", "--attach", "https://x/?from=now"), "caption or a parameter"),
            (("--title", "x" * 1025), "longer than 1024")):
        refused = local.run("create", *arguments).expect(BAD_INPUT)
        assert says in refused.err
    local.run("create").expect(USAGE)
    assert "nothing says what to change" in local.run("update", "inc-1").expect(BAD_INPUT).err
    assert "is no id of an incident here" in local.run("show", "abc").expect(BAD_INPUT).err


def piped(ctl, text, *arguments):
    return subprocess.run([binary(), "incident", *arguments], input=text, cwd=ctl.directory, capture_output=True,
                          env={"HOME": str(ctl.directory), "PATH": os.environ["PATH"]}, timeout=60)


def test_a_note_comes_from_standard_input_and_has_a_limit(local):
    made = local.create()
    assert piped(local.ctl, b"one\ntwo\n\n", "note", made["id"], "-").returncode == OK
    assert local.read(made["id"])["notes"][-1]["body"] == "one\ntwo"
    large = piped(local.ctl, b"x" * (64 * 1024 + 1), "note", made["id"], "-")
    assert large.returncode == BAD_INPUT and b"larger than 64 KiB" in large.stderr
    assert piped(local.ctl, b"", "note", made["id"], "-").returncode == BAD_INPUT
    assert piped(local.ctl, b"\xff\xfe", "note", made["id"], "-").returncode == OK
    local.read(made["id"])


def test_secrets_do_not_leave(place):
    token = "glsa_" + "a1B2" * 8 + "_0a1b2c3d"
    made = place.create(f"login with {token}", "--note", f"password=hunter2-{token}", "--label", f"key={token}",
                        "--label", "password=hunter2")
    assert "[redacted" in made["title"]
    noted = place.run("note", made["id"], f"Authorization: Bearer {token}")
    assert noted.code == OK, noted
    assert token not in place.texts() and "hunter2" not in place.texts()


def test_what_others_wrote_steers_no_terminal(place_of):
    place = place_of("github")
    place.double.add(title="\x1b[2Jboo\u202e", labels=[{"name": "incident"}], body="\x1b]0;x\x07 text")
    for verb in (("list",), ("show", "1")):
        out = place.run(*verb).expect(OK).out
        assert "\x1b" not in out and "\u202e" not in out and "\x07" not in out


def test_an_incident_is_exported(local):
    made = local.create("api fails", "--note", "why")
    local.run("note", made["id"], "looking").expect(OK)
    exported = local.run("export", made["id"]).expect(OK).out
    assert exported.startswith("# ") and "api fails" in exported and "looking" in exported
    assert local.run("export", made["id"], "--format", "json").expect(OK).json()["id"] == made["id"]


# Processes and disks ----------------------------------------------------------------------------------


def test_of_two_at_once_one_makes_the_incident(local):
    runs = [local.ctl.start("incident", "create", "--backend", "local", "--title", "api fails", "--output", "json")
            for _ in range(6)]
    ended = [run.end() for run in runs]
    assert [one.code for one in ended] == [OK] * 6, "\n".join(map(str, ended))
    assert sum(one.json()["made"] for one in ended) == 1
    assert local.opened() == 1


@pytest.mark.parametrize("name", ("grafana", "github"))
def test_of_two_at_once_one_stays_open_where_the_service_knows_no_keys(place_of, name):
    place = place_of(name)
    for run in [place.ctl.start("incident", "create", "--backend", name, "--title", "api fails") for _ in range(3)]:
        run.end().expect(OK)
    assert place.open_now() == 1


def test_killed_anywhere_there_is_one_incident(local):
    for index in range(12):
        run = local.ctl.start("incident", "create", "--backend", "local", "--title", "api fails")
        time.sleep(0.002 * index)  # the fault itself: the kill falls anywhere
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
    local.run("create", "--title", "api fails").expect(OK)
    assert local.opened() == 1


def test_files_that_are_no_database_are_left_alone(local):
    text = local.ctl.directory / "notes.txt"
    text.write_text("not a database " * 500)
    refused = local.run("list", "--database", str(text)).expect(BAD_INPUT)
    assert "is no database" in refused.err and text.read_text() == "not a database " * 500
    foreign = local.ctl.directory / "foreign.db"
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE x (y)")
    other.close()
    assert "something else" in local.run("list", "--database", str(foreign)).expect(BAD_INPUT).err
    newer = local.ctl.directory / "newer.db"
    local.run("create", "--title", "x", "--database", str(newer)).expect(OK)
    with sqlite3.connect(newer) as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    assert "newer version" in local.run("list", "--database", str(newer)).expect(BAD_INPUT).err


def test_help_has_examples_of_each_verb(local):
    for verb in ("create", "list", "show", "note", "update", "resolve", "export"):
        out = local.ctl.run("incident", verb, "--help").expect(OK).out
        examples = out.split("Examples:\n")[1].strip().splitlines()
        assert len(examples) in (2, 3) and all("tunnelctl incident " + verb in line for line in examples)
