"""Alerts at hand: silences of Grafana and of a real Alertmanager, the history of alerts, who is on call.

With GRAFANA_URL set the tests that do not make the server misbehave run against that one.
"""

import datetime
import json
import urllib.request

import pytest

from programs.alertmanager import Alertmanager, Inbox
from programs.loopback import wait_until
from programs.tunnelctl import BAD_INPUT, CONFIG, CONFLICT, DENIED, FAILED, OK, UNAVAILABLE, USAGE

NOBODY = "00000000-0000-0000-0000-000000000000"
SILENCE = ("alert", "silence")


def silence(ctl, *arguments):
    return ctl.run(*SILENCE, *arguments)


def asjson(ended):
    return ended.expect(OK).json()


def listed(ctl, *arguments):
    return asjson(silence(ctl, "list", *arguments, "--output", "json"))["silences"]


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.fixture(scope="module")
def inbox():
    opened = Inbox()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def alertmanager(new_directory, inbox):
    started = Alertmanager(new_directory("alertmanager"), inbox).start()
    yield started
    started.stop()


@pytest.fixture(params=["grafana", "alertmanager"])
def ctl(request):
    """tunnelctl with each of the two in turn: all of silences is the same for both."""
    if request.param == "grafana":
        return request.getfixturevalue("tunnelctl")
    straight = request.getfixturevalue("tunnelctl").with_environment(
        GRAFANA_URL=None, GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None,
        ALERTMANAGER_URL=f"http://127.0.0.1:{request.getfixturevalue('alertmanager').port}")
    return straight


@pytest.fixture
def label(unique):
    """A matcher that no other test uses."""
    return f"test={unique}"


# Silences, wherever they are --------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_silence_lives_from_its_making_to_its_end(ctl, label):
    made = silence(ctl, "create", "--matcher", label, "--matcher", "tunnel=~al.*", "--for", "90m",
                   "--comment", "rolling out", "--by", "ann").expect(OK)
    id_ = made.out.strip()
    assert "fits no alert at the moment" in made.err
    shown = asjson(silence(ctl, "show", id_, "--output", "json"))
    assert shown["state"] == "active" and shown["comment"] == "rolling out" and shown["created_by"] == "ann"
    assert {one["text"] for one in shown["matchers"]} == {'%s="%s"' % tuple(label.split("=")), 'tunnel=~"al.*"'}
    assert instant(shown["ends_at"]) - instant(shown["starts_at"]) <= datetime.timedelta(minutes=90)
    assert [one["id"] for one in listed(ctl, "--matcher", label)] == [id_]
    assert id_ in silence(ctl, "list").expect(OK).out

    longer = asjson(silence(ctl, "extend", id_, "--for", "1h", "--output", "json"))
    assert instant(longer["ends_at"]) - instant(shown["ends_at"]) == datetime.timedelta(hours=1)
    assert asjson(silence(ctl, "show", longer["id"], "--output", "json"))["ends_at"] == longer["ends_at"]

    assert "notify again" in silence(ctl, "expire", longer["id"]).expect(OK).err
    assert listed(ctl, "--matcher", label) == [], "what is over is not listed unless asked for"
    assert longer["id"] in [one["id"] for one in listed(ctl, "--state", "expired", "--matcher", label)]
    again = silence(ctl, "expire", longer["id"]).expect(OK)
    assert "had ended already" in again.err
    assert "make a new one" in silence(ctl, "extend", longer["id"], "--for", "1h").expect(CONFLICT).err


def test_a_silence_may_begin_later(ctl, label):
    start = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=5)
    end = start + datetime.timedelta(hours=2)
    made = asjson(silence(ctl, "create", "--matcher", label, "--start", start.isoformat(), "--until", end.isoformat(),
                          "--output", "json"))
    assert made["state"] == "pending"
    assert [one["state"] for one in listed(ctl, "--state", "pending", "--matcher", label)] == ["pending"]
    assert asjson(silence(ctl, "show", made["id"], "--output", "json"))["state"] == "pending"
    silence(ctl, "expire", made["id"]).expect(OK)


@pytest.mark.parametrize("arguments, why", [
    (("--matcher", "severity"), "has no =, !=, =~ or !~"),
    (("--matcher", "a==b"), "== is no comparison"),
    ((), "nothing says which alerts to silence"),
    (("--matcher", "a=b", "--until", "2020-01-01"), "is past"),
    (("--matcher", "a=b", "--until", "2h"), "say --for"),
    (("--matcher", "a=b", "--for", "tomorrow"), "--for:"),
    (("--matcher", "a=b", "--for", "-1h"), "--for:"),
    (("--matcher", "a=b", "--start", "2020-01-01"), "leave it out to begin now"),
    (("--matcher", "a=b", "--comment", ""), "must say why"),
])
def test_a_silence_that_makes_no_sense_is_not_asked_for(tunnelctl, grafana_double, arguments, why):
    grafana_double.forget_log()
    ended = silence(tunnelctl, "create", *arguments).expect(BAD_INPUT)
    assert why in ended.err, ended
    assert grafana_double.writes() == []


def test_what_the_server_refuses_is_said_in_its_words(ctl):
    ended = silence(ctl, "create", "--matcher", "a=~[").expect(BAD_INPUT)
    assert "400" in ended.err


def test_an_unknown_silence_is_not_found(ctl):
    for words in (("show",), ("expire",), ("extend", "--for", "1h")):
        for id_ in (NOBODY, "no-such"):
            ended = silence(ctl, words[0], id_, *words[1:]).expect(FAILED)
            assert f'no silence has the id "{id_}"' in ended.err


def test_nothing_is_ended_when_one_of_several_is_unknown(ctl, label):
    id_ = silence(ctl, "create", "--matcher", label).expect(OK).out.strip()
    silence(ctl, "expire", id_, NOBODY).expect(FAILED)
    assert [one["state"] for one in listed(ctl, "--matcher", label)] == ["active"]
    silence(ctl, "expire", id_).expect(OK)


def test_how_long_is_said_once(tunnelctl):
    silence(tunnelctl, "create", "--matcher", "a=b", "--for", "1h", "--until", "2030-01-01").expect(USAGE)
    silence(tunnelctl, "list", "--state", "sideways").expect(USAGE)


def test_labels_whose_names_need_quotes_are_silenced(tunnelctl, grafana_double, label):
    made = asjson(silence(tunnelctl, "create", "--matcher", label, "--matcher", '"service name"=api',
                          "--output", "json"))
    assert '"service name"="api"' in [one["text"] for one in made["matchers"]]
    asked = [entry["query"] for entry in grafana_double.log() if entry["path"].endswith("/alerts")][-1]
    assert "%22service%20name%22%3D%22api%22" in asked
    silence(tunnelctl, "expire", made["id"]).expect(OK)


def test_a_silence_is_shown_though_its_alerts_cannot_be_read(tunnelctl, grafana_double, label):
    id_ = silence(tunnelctl, "create", "--matcher", label).expect(OK).out.strip()
    grafana_double.fault(path="/api/v2/alerts", status=500, answer='{"message": "no alerts today"}')
    ended = silence(tunnelctl, "show", id_, "--output", "json").expect(OK)
    assert ended.json()["state"] == "active" and ended.json()["alerts"] is None
    assert "which alerts it silences is not known" in ended.err and "no alerts today" in ended.err
    grafana_double.no_faults()
    silence(tunnelctl, "expire", id_).expect(OK)


# Of Grafana's own ---------------------------------------------------------------------------------------


def rule(uid, folder):
    return {"uid": uid, "title": "Rule " + uid, "ruleGroup": "e2e", "folderUID": folder, "condition": "C",
            "noDataState": "OK", "execErrState": "Error", "for": "5m",
            "data": [{"refId": "C", "datasourceUid": "__expr__", "relativeTimeRange": {"from": 600, "to": 0},
                      "model": {"refId": "C", "type": "math", "expression": "1 > 2"}}]}


@pytest.fixture
def alert_rule(grafana):
    grafana.api("POST", "/api/folders", {"uid": "e2e-hand", "title": "E2E at hand"})
    grafana.api("POST", "/api/v1/provisioning/alert-rules", rule("e2e-hand-rule", "e2e-hand"))
    return "e2e-hand-rule"


def test_a_rule_is_silenced_by_its_uid(tunnelctl, alert_rule):
    made = asjson(silence(tunnelctl, "create", "--rule", alert_rule, "--output", "json"))
    assert made["rule_uid"] == alert_rule
    assert [one["text"] for one in made["matchers"]] == [f'__alert_rule_uid__="{alert_rule}"']
    assert [one["id"] for one in listed(tunnelctl, "--rule", alert_rule)] == [made["id"]]
    silence(tunnelctl, "expire", made["id"]).expect(OK)


def test_a_rule_that_does_not_exist_is_not_silenced(tunnelctl, alert_rule, grafana):
    ended = silence(tunnelctl, "create", "--rule", "e2e-nope").expect(FAILED)
    assert 'no alert rule has the uid "e2e-nope"' in ended.err
    assert listed(tunnelctl, "--rule", "e2e-nope", "--state", "all") == []


def test_only_grafana_knows_its_rules(tunnelctl, alertmanager):
    ended = silence(tunnelctl, "create", "--rule", "x", "--alertmanager-url",
                    f"http://127.0.0.1:{alertmanager.port}").expect(BAD_INPUT)
    assert "--matcher alertname=NAME" in ended.err


def test_a_viewer_may_look_and_not_silence(grafana_double, tunnelctl):
    viewer = tunnelctl.with_environment(GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None,
                                        GRAFANA_SERVICE_ACCOUNT_TOKEN=grafana_double.tokens["viewer"])
    silence(viewer, "list").expect(OK)
    ended = silence(viewer, "create", "--matcher", "a=b").expect(DENIED)
    assert "alert.silences:create" in ended.err


# Of a plain Alertmanager --------------------------------------------------------------------------------


def post_alert(alertmanager, **labels):
    body = json.dumps([{"labels": labels}]).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{alertmanager.port}/api/v2/alerts", body,
                                     {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()


def test_a_silence_really_silences(tunnelctl, alertmanager, unique):
    url = ("--alertmanager-url", f"http://127.0.0.1:{alertmanager.port}")
    post_alert(alertmanager, alertname="E2eSilenced", instance=unique)
    wait_until(lambda: ("E2eSilenced", unique) in alertmanager.alerts(), 10, "the alert is there")
    made = silence(tunnelctl, "create", "--matcher", f"instance={unique}", *url).expect(OK)
    assert "fits 1 alert now" in made.err
    wait_until(lambda: alertmanager.alerts()["E2eSilenced", unique]["state"] == "suppressed", 10, "it is silenced")
    shown = asjson(silence(tunnelctl, "show", made.out.strip(), *url, "--output", "json"))
    assert [one["labels"]["alertname"] for one in shown["alerts"]] == ["E2eSilenced"]
    silence(tunnelctl, "expire", made.out.strip(), *url).expect(OK)
    wait_until(lambda: alertmanager.alerts()["E2eSilenced", unique]["state"] == "active", 10, "it is active again")


def test_an_alertmanager_that_is_not_there_is_unavailable(tunnelctl):
    ended = silence(tunnelctl, "list", "--alertmanager-url", "http://127.0.0.1:9").expect(UNAVAILABLE)
    assert "127.0.0.1:9/api/v2/silences" in ended.err


def test_plain_http_to_another_machine_is_refused_for_what_it_is(tunnelctl):
    url = ("--alertmanager-url", "http://alertmanager.example:9093")
    bare = silence(tunnelctl, "list", *url).expect(CONFIG)
    assert "is plain http to another machine" in bare.err and "--allow-plain-http" in bare.err
    (tunnelctl.directory / "am.token").write_text("am-secret-token\n")
    with_token = silence(tunnelctl, "list", *url, "--alertmanager-token-file", "am.token").expect(CONFIG)
    assert "would send the token unprotected" in with_token.err


def test_a_certificate_that_is_not_trusted_names_the_option(tunnelctl, tunneld):
    ended = silence(tunnelctl, "list", "--alertmanager-url", f"https://127.0.0.1:{tunneld.port}").expect(DENIED)
    assert "--ca-file" in ended.err, ended


def test_the_alertmanagers_token_never_goes_to_grafana(tunnelctl, grafana_double, new_directory):
    token = tunnelctl.directory / "am.token"
    token.write_text("am-secret-token\n")
    tunnelctl.secrets.append("am-secret-token")
    grafana_double.mode(keep_bodies=True)
    silence(tunnelctl, "list", "--alertmanager-token-file", token).expect(OK)
    assert all(entry["role"] == "server" for entry in grafana_double.log())


# History ------------------------------------------------------------------------------------------------


@pytest.fixture
def changes(grafana_double, alert_rule):
    """The rule fired for a minute, an hour ago."""
    hour_ago = int((datetime.datetime.now().timestamp() - 3600) * 1000)
    grafana_double.control("POST", "changes", [
        {"rule": alert_rule, "previous": "Normal", "current": "Alerting", "time": hour_ago,
         "labels": {"tunnel": "alpha"}, "values": {"A": 0.97}},
        {"rule": alert_rule, "previous": "Alerting", "current": "Normal", "time": hour_ago + 60_000,
         "labels": {"tunnel": "alpha"}}])
    return hour_ago


@pytest.mark.parametrize("which, source", [(("--rule", "e2e-hand-rule"), "history"), ((), "annotations")])
@pytest.mark.short_client
def test_the_history_shows_changes_newest_first(tunnelctl, changes, which, source):
    told = asjson(tunnelctl.run("alert", "history", *which, "--output", "json"))
    assert told["source"] == source and not told["more"]
    assert [(one["previous"], one["current"]) for one in told["changes"]] == [
        ("Alerting", "Normal"), ("Normal", "Alerting")]
    assert told["changes"][1]["labels"]["tunnel"] == "alpha"
    assert told["changes"][1]["values"] == {"A": 0.97}
    assert instant(told["changes"][1]["time"]).timestamp() * 1000 == pytest.approx(changes, abs=1)
    text = tunnelctl.run("alert", "history", *which).expect(OK)
    assert "Normal" in text.out and "2 changes" in text.err


def test_the_history_keeps_to_its_range_and_limit(tunnelctl, changes):
    one = tunnelctl.run("alert", "history", "--rule", "e2e-hand-rule", "--limit", "1").expect(OK)
    assert "shown 1 change, more exist" in one.err
    none = asjson(tunnelctl.run("alert", "history", "--rule", "e2e-hand-rule", "--from", "now-30m", "--output", "json"))
    assert none["changes"] == []
    upside_down = tunnelctl.run("alert", "history", "--from", "now", "--to", "now-1h").expect(BAD_INPUT)
    assert "--from" in upside_down.err or "--to" in upside_down.err


def test_a_rule_that_does_not_exist_has_no_empty_history(tunnelctl, alert_rule):
    ended = tunnelctl.run("alert", "history", "--rule", "e2e-nope").expect(FAILED)
    assert 'no alert rule has the uid "e2e-nope"' in ended.err


# On call ------------------------------------------------------------------------------------------------

ONCALL = {
    "schedules": [{"id": f"S{n}", "name": f"Schedule {n}", "type": "web", "team_id": None,
                   "on_call_now": ["U1"] if n < 3 else []} for n in range(1, 4)],
    "users": [{"id": "U1", "username": "ann", "email": "ann@example.org", "role": "admin", "timezone": "UTC"}],
    "teams": [{"id": "T1", "name": "Platform", "email": ""}],
    "on_call_shifts": [{"id": "O1", "name": "Days", "type": "rolling_users", "start": "2026-01-01T08:00:00"}],
    "alert_groups": [{"id": "G1", "title": "Error rate", "state": "new", "created_at": "2026-01-31T10:00:00Z"},
                     {"id": "G2", "title": "Old", "state": "resolved", "created_at": "2026-01-30T10:00:00Z"}],
}


@pytest.fixture
def engineer(tunnelctl, grafana_double):
    """tunnelctl with an Editor's token, and a Grafana that has OnCall."""
    grafana_double.control("POST", "oncall", ONCALL)
    return tunnelctl.with_environment(GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None,
                                      GRAFANA_SERVICE_ACCOUNT_TOKEN=grafana_double.tokens["editor"])


@pytest.mark.short_client
def test_who_is_on_call(engineer):
    told = asjson(engineer.run("oncall", "who", "--output", "json"))
    assert [(one["name"], [who["email"] for who in one["on_call"]]) for one in told["schedules"]] == [
        ("Schedule 1", ["ann@example.org"]), ("Schedule 2", ["ann@example.org"]), ("Schedule 3", [])], "all pages"
    text = engineer.run("oncall", "who", "Schedule 3").expect(OK).out
    assert "nobody" in text and "ann" not in text
    ended = engineer.run("oncall", "who", "Nights").expect(FAILED)
    assert "Schedule 1 (S1)" in ended.err


@pytest.mark.parametrize("kind, ids", [("schedules", ["S1", "S2", "S3"]), ("users", ["U1"]), ("teams", ["T1"]),
                                       ("shifts", ["O1"]), ("groups", ["G1", "G2"])])
@pytest.mark.short_client
def test_what_oncall_knows_is_listed(engineer, kind, ids):
    told = asjson(engineer.run("oncall", "list", "--kind", kind, "--output", "json"))
    assert [one["id"] for one in told[kind]] == ids and not told["more"]
    assert ids[0] in engineer.run("oncall", "list", "--kind", kind).expect(OK).out
    assert asjson(engineer.run("oncall", "list", "--kind", kind, "--id", ids[0]))["id"] == ids[0]


def test_oncall_lists_are_filtered_and_limited(engineer):
    told = asjson(engineer.run("oncall", "list", "--kind", "groups", "--state", "resolved", "--output", "json"))
    assert [one["id"] for one in told["groups"]] == ["G2"]
    assert "more exist" in engineer.run("oncall", "list", "--limit", "1").expect(OK).err
    engineer.run("oncall", "list", "--state", "new").expect(BAD_INPUT)


@pytest.mark.short_client
def test_a_group_of_alerts_is_acknowledged_and_taken_back(engineer, grafana_double):
    def state():
        return [group["state"] for group in grafana_double.control("GET", "oncall")["alert_groups"]][0]

    for arguments, after in (((), "acknowledged"), (("--undo",), "new"), (("--resolve",), "resolved")):
        ended = engineer.run("alert", "ack", "G1", *arguments).expect(OK)
        assert state() == after and after in ended.err
    ended = engineer.run("alert", "ack", "G1").expect(BAD_INPUT)
    assert "Can't acknowledge a resolved alert group" in ended.err
    assert 'no alert group has the id "G9"' in engineer.run("alert", "ack", "G9").expect(FAILED).err


def test_without_oncall_that_is_said_and_what_to_do_instead(tunnelctl, grafana_double):
    for words in (("oncall", "who"), ("oncall", "list"), ("alert", "ack", "G1")):
        ended = tunnelctl.run(*words).expect(FAILED)
        assert "has no OnCall" in ended.err
    assert "tunnelctl alert silence create" in ended.err


def test_oncall_takes_tokens_only(tunnelctl, engineer):
    ended = tunnelctl.run("oncall", "who")
    assert ended.code == CONFIG or ended.code == BAD_INPUT
    assert "GRAFANA_SERVICE_ACCOUNT_TOKEN" in ended.err
