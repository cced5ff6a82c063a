"""tests/support/incident_doubles and the Grafana double's IRM: they answer as the services' references say."""
import base64
import hashlib
import hmac
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request

import pytest

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from grafana_double.server import InThread  # noqa: E402
from incident_doubles.github import Github  # noqa: E402
from incident_doubles.pagerduty import Pagerduty  # noqa: E402
from incident_doubles.webhook import Webhook  # noqa: E402


def ask(url, method="GET", body=None, **headers):
    """Status and JSON."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        text = refused.read()
        return refused.code, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()


@pytest.fixture(params=(Github, Pagerduty, Webhook))
def double(request):
    with request.param() as started:
        yield started


def test_a_double_can_act_without_answering_be_away_and_come_back(double):
    double.fault(path="x", close=True, applied=True)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        ask(double.url + "/x")
    assert len(double.log) == 1
    double.down()
    with pytest.raises(urllib.error.URLError):
        ask(double.url + "/x")
    double.up()
    double.fault(path="x", status=503, nth=2)
    assert ask(double.url + "/x")[0] in (401, 404, 405)
    assert ask(double.url + "/x") == (503, {"message": "injected"})
    assert ask(double.url + "/x")[0] in (401, 404, 405)


def event(key="k", action="trigger", **payload):
    return {"routing_key": "0123456789abcdef0123456789abcdef", "event_action": action, "dedup_key": key,
            "payload": {"summary": "s", "source": "h", "severity": "critical", **payload}}


def test_pagerduty_opens_one_incident_of_a_key_until_it_is_resolved():
    with Pagerduty() as pagerduty:
        enqueue = pagerduty.url + "/v2/enqueue"
        taken = 202, {"status": "success", "message": "Event processed", "dedup_key": "k"}
        assert ask(enqueue, "POST", event()) == taken
        assert ask(enqueue, "POST", event()) == taken
        assert len(pagerduty.incidents) == 1
        assert ask(enqueue, "POST", event(action="resolve")) == taken
        assert ask(enqueue, "POST", event()) == taken
        assert [one["status"] for one in pagerduty.incidents] == ["resolved", "triggered"]


def test_pagerduty_says_what_is_wrong_with_an_event():
    with Pagerduty() as pagerduty:
        enqueue = pagerduty.url + "/v2/enqueue"
        wrong = {"status": "invalid event", "message": "Event object is invalid"}
        assert ask(enqueue, "POST", {**event(), "routing_key": "short"}) == (400, {
            **wrong, "errors": ["Length of 'routing_key' is incorrect (should be 32 characters)"]})
        assert ask(enqueue, "POST", event(summary=""))[1] == {
            **wrong, "errors": ["'payload.summary' is missing or blank"]}
        assert ask(enqueue, "POST", event(severity="loud"))[0] == 400
        assert ask(enqueue, "POST", event(source="x" * 600_000))[0] == 413
        assert pagerduty.incidents == []


def test_pagerdutys_rest_api_wants_a_token_and_a_person():
    with Pagerduty() as pagerduty:
        ask(pagerduty.url + "/v2/enqueue", "POST", event())
        token = "Token token=" + pagerduty.token
        assert ask(pagerduty.url + "/incidents") == (401, {"error": {"message": "Unauthorized", "code": 2006}})
        listed = ask(pagerduty.url + "/incidents?incident_key=k", Authorization=token)[1]
        at = pagerduty.url + "/incidents/" + listed["incidents"][0]["id"]
        note = {"note": {"content": "text"}}
        assert ask(at + "/notes", "POST", note, Authorization=token)[0] == 400
        assert ask(at + "/notes", "POST", note, Authorization=token, From="a@b.example")[0] == 200
        assert ask(at + "/notes", Authorization=token)[1]["notes"][0]["content"] == "text"


def test_github_lists_its_issues_in_pages_and_refuses_as_it_does():
    with Github() as github:
        issues, token = f"{github.url}/repos/{github.repository}/issues", {"Authorization": "Bearer " + github.token}
        assert ask(issues)[1]["message"] == "Bad credentials"
        for index in range(3):
            assert ask(issues, "POST", {"title": f"t{index}", "labels": ["incident"]}, **token)[0] == 201
        assert [one["title"] for one in ask(issues + "?per_page=2", **token)[1]] == ["t2", "t1"]
        assert [one["title"] for one in ask(issues + "?per_page=2&page=2", **token)[1]] == ["t0"]
        assert ask(issues + "?labels=other", **token)[1] == []
        status, refused = ask(issues, "POST", {"title": ""}, **token)
        assert (status, refused["errors"][0]["code"]) == (422, "missing_field")
        assert ask(issues, "POST", {"title": "x" * 257}, **token)[0] == 422
        assert ask(issues + "/9", **token)[0] == 404
        closed = ask(issues + "/1", "PATCH", {"state": "closed", "state_reason": "completed"}, **token)[1]
        assert closed["state"] == "closed" and closed["closed_at"]


def test_the_receiver_takes_only_signed_fresh_calls_and_each_once():
    with Webhook() as receiver:
        body, at = json.dumps({"event": "opened", "id": "k"}).encode(), str(int(time.time()))

        def sign(timestamp):
            return "sha256=" + hmac.new(receiver.secret.encode(), timestamp.encode() + b"." + body,
                                        hashlib.sha256).hexdigest()

        good = {"X_Tunnel_Timestamp": at, "X_Tunnel_Signature": sign(at), "Idempotency_Key": "1"}
        first = ask(receiver.url, "POST", body, **good)
        assert first[0] == 200 and ask(receiver.url, "POST", body, **good) == first
        assert len(receiver.calls) == 1
        assert ask(receiver.url, "POST", body + b" ", **good)[0] == 401
        assert ask(receiver.url, "POST", body, **{**good, "X_Tunnel_Timestamp": str(int(at) + 1)})[0] == 401
        old = str(int(at) - 3600)
        assert ask(receiver.url, "POST", body, **{**good, "X_Tunnel_Timestamp": old,
                                                  "X_Tunnel_Signature": sign(old)})[0] == 401


def test_grafana_keeps_incidents_only_with_the_plugin():
    basic = {"Authorization": "Basic " + base64.b64encode(b"admin:admin").decode()}
    with InThread() as grafana:
        api = grafana.url + "/api/plugins/grafana-irm-app"

        def rpc(method, body):
            return ask(f"{api}/resources/api/v1/{method}", "POST", body, **basic)

        assert ask(api + "/settings", **basic)[0] == 404
        assert rpc("IncidentsService.CreateIncident", {"title": "x"}) == (404, {"message": "Plugin not found"})
        assert ask(grafana.url + "/_double/irm", "POST", {})[0] == 200
        assert ask(api + "/settings", **basic)[1]["enabled"] is True
        made = rpc("IncidentsService.CreateIncident", {"title": "x", "severity": "major", "labels": []})
        assert made[0] == 200 and made[1]["error"] == "" and made[1]["incident"]["status"] == "active"
        assert rpc("IncidentsService.CreateIncident", {"title": "x", "severity": "loud"})[1]["error"]
        for _ in range(2):
            rpc("IncidentsService.CreateIncident", {"title": "y", "severity": "minor"})
        page = rpc("IncidentsService.QueryIncidentPreviews", {"query": {"queryString": "status:active"}})[1]
        assert len(page["incidentPreviews"]) == 2 and page["cursor"] == {"nextValue": "2", "hasMore": True}
        page = rpc("IncidentsService.QueryIncidentPreviews", {"query": {}, "cursor": page["cursor"]})[1]
        assert len(page["incidentPreviews"]) == 1 and not page["cursor"]["hasMore"]
        resolved = rpc("IncidentsService.UpdateStatus", {"incidentID": "1", "status": "resolved"})[1]["incident"]
        assert resolved["status"] == "resolved" and resolved["closedTime"]
        assert rpc("IncidentsService.GetIncident", {"incidentID": "99"})[1]["error"] == "incident not found"
