"""tunnelctl's direct verbs: dashboards, folders, data sources, alert rules, contact points, links, organisations.

With GRAFANA_URL set the tests that do not make the server misbehave run against that one.
"""

import http.server
import json
import threading

import pytest

from programs.grafana import EDITABLE, PROVISIONING
from programs.tunnelctl import BAD_INPUT, CONFLICT, DENIED, FAILED, OK, UNAVAILABLE, USAGE

FOLDER = "e2e-verbs"


def board(uid="e2e-board", title="Board", **more):
    return {"uid": uid, "title": title, "tags": ["e2e"], "schemaVersion": 39,
            "templating": {"list": [{"name": "job", "type": "custom", "query": "a,b", "current": {"value": "a"}}]},
            "panels": [
                {"id": 1, "type": "timeseries", "title": "Up", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
                 "datasource": {"type": "prometheus", "uid": "e2e-prometheus"},
                 "targets": [{"refId": "A", "expr": "up"}]},
                {"id": 7, "type": "row", "title": "More", "collapsed": True,
                 "gridPos": {"x": 0, "y": 8, "w": 24, "h": 1},
                 "panels": [{"id": 9, "type": "stat", "title": "Folded", "targets": [{"refId": "B", "expr": "b"}],
                             "gridPos": {"x": 0, "y": 9, "w": 6, "h": 4}}]}], **more}


def rule(uid="e2e-rule", **more):
    return {"uid": uid, "title": "Rule " + uid, "ruleGroup": "e2e", "folderUID": FOLDER, "condition": "C",
            "noDataState": "OK", "execErrState": "Error", "for": "5m", "labels": {"severity": "warning", "team": "a"},
            "data": [
                {"refId": "A", "datasourceUid": "e2e-prometheus", "relativeTimeRange": {"from": 600, "to": 0},
                 "model": {"refId": "A", "expr": "up", "instant": True}},
                {"refId": "C", "datasourceUid": "__expr__", "model": {
                    "refId": "C", "type": "threshold", "expression": "A",
                    "conditions": [{"type": "query", "evaluator": {"type": "gt", "params": [0.9]}}]}}], **more}


@pytest.fixture
def ctl(tunnelctl):
    """tunnelctl as the administrator; `file` writes JSON beside it."""

    def file(name, content):
        (tunnelctl.directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return name

    tunnelctl.file = file
    return tunnelctl


@pytest.fixture
def folder(grafana):
    grafana.api("POST", "/api/folders", {"uid": FOLDER, "title": "E2E verbs"})
    return FOLDER


@pytest.fixture
def dashboard(grafana, folder):
    grafana.save_dashboard(board(), folder)
    return "e2e-board"


def asjson(ended):
    return ended.expect(OK).json()


# Dashboards: reading ----------------------------------------------------------------------------------


def test_lists_say_when_there_is_more(grafana, ctl, folder):
    for number in range(4):
        grafana.save_dashboard(board(f"e2e-{number}", f"Verbs {number}"), folder)
    listed = ctl.run("dashboard", "list", "--folder", folder, "--limit", "3").expect(OK)
    assert "shown 3 dashboards, more exist" in listed.err
    assert len(listed.out.splitlines()) == 4  # and the heading
    everything = ctl.run("dashboard", "list", "--folder", folder, "--limit", "4").expect(OK)
    assert "4 dashboards" in everything.err and "more exist" not in everything.err
    found = asjson(ctl.run("dashboard", "search", "verbs", "2", "--tag", "e2e", "--output", "json"))
    assert [one["uid"] for one in found["dashboards"]] == ["e2e-2"]
    assert not found["more"]
    assert found["dashboards"][0]["url"].startswith(grafana.url)
    assert "more" in asjson(ctl.run("dashboard", "list", "--limit", "1", "--output", "json"))


def test_a_list_of_a_folder_that_does_not_exist_is_no_empty_list(grafana, ctl):
    for group in ("dashboard", "alert"):
        ended = ctl.run(group, "list", "--folder", "e2e-nowhere").expect(FAILED)
        assert "/api/folders/e2e-nowhere: 404" in ended.err


def test_a_dashboard_goes_into_a_file_that_can_be_put_back(grafana, ctl, dashboard):
    ended = ctl.run("dashboard", "get", dashboard, "--file", "board.json").expect(OK)
    assert ended.out == "" and "version 1, folder e2e-verbs: written to board.json" in ended.err
    saved = json.loads((ctl.directory / "board.json").read_text())
    assert saved["panels"] == board()["panels"]
    ctl.run("dashboard", "create", "board.json", "--force").expect(OK)
    assert grafana.get("/api/dashboards/uid/" + dashboard)["meta"]["folderUid"] == FOLDER, "it stays in its folder"


def test_parts_are_named_by_what_does_not_move(grafana, ctl, dashboard):
    assert asjson(ctl.run("dashboard", "get", dashboard, "--panel", "Folded", "--query", "B")) == {
        "refId": "B", "expr": "b"}
    assert asjson(ctl.run("dashboard", "get", dashboard, "--var", "job"))["query"] == "a,b"
    ended = ctl.run("dashboard", "get", dashboard, "--panel", "Nope").expect(FAILED)
    assert 'there are: 1 "Up", 9 "Folded"' in ended.err
    grafana.save_dashboard(board(panels=[{"id": 1, "title": "Same"}, {"id": 2, "title": "Same"}]), FOLDER)
    ended = ctl.run("dashboard", "get", dashboard, "--panel", "Same").expect(BAD_INPUT)
    assert "names 2 panels" in ended.err


def test_the_summary_counts_folded_panels(grafana, ctl, dashboard):
    summary = asjson(ctl.run("dashboard", "summary", dashboard, "--output", "json"))
    assert [panel["title"] for panel in summary["panels"]] == ["Up", "Folded"]
    assert summary["panels"][1]["row"] == "More"
    assert summary["version"] == 1 and summary["folder"]["uid"] == FOLDER
    text = ctl.run("dashboard", "summary", dashboard).expect(OK).out
    assert "A: up" in text and "E2E verbs (e2e-verbs)" in text


def test_properties_by_jsonpath(grafana, ctl, dashboard):
    def property_of(path, *more):
        return ctl.run("dashboard", "property", dashboard, path, *more).expect(OK).out

    assert property_of("$.title") == "Board\n"
    assert property_of("$..expr") == "up\nb\n"
    assert property_of("$.panels[?(@.type=='row')].id") == "7\n"
    assert property_of("expr", "--panel", "1", "--query", "A") == "up\n"
    assert json.loads(property_of("$..expr", "--output", "json")) == ["up", "b"]
    assert json.loads(property_of("$.tags", "--output", "json")) == ["e2e"]
    assert "$ has no member \"nope\"" in ctl.run("dashboard", "property", dashboard, "$.nope").expect(FAILED).err
    assert "JSONPath, column 10" in ctl.run("dashboard", "property", dashboard, "$.panels[").expect(BAD_INPUT).err


def test_versions_and_what_an_old_one_was(grafana, ctl, dashboard):
    grafana.save_dashboard(board(title="Newer"), FOLDER, message="renamed")
    versions = asjson(ctl.run("dashboard", "versions", dashboard, "--output", "json"))["versions"]
    assert [one["version"] for one in versions] == [2, 1]
    assert versions[0]["message"] == "renamed" and "data" not in versions[0]
    assert "more exist" in ctl.run("dashboard", "versions", dashboard, "--limit", "1").expect(OK).err
    assert asjson(ctl.run("dashboard", "get", dashboard, "--version", "1"))["title"] == "Board"
    assert "has no version 99" in ctl.run("dashboard", "get", dashboard, "--version", "99").expect(FAILED).err


# Dashboards: changing ---------------------------------------------------------------------------------


def test_create_never_replaces_unless_forced(grafana, ctl, folder):
    ctl.file("board.json", board())
    made = ctl.run("dashboard", "create", "board.json", "--folder", folder).expect(OK)
    assert made.out.startswith(grafana.url + "/d/e2e-board")
    ended = ctl.run("dashboard", "create", "board.json").expect(CONFLICT)
    assert "exists already" in ended.err and "--force" in ended.err
    ctl.file("other.json", {"dashboard": board(title="Other"), "meta": {}})
    assert asjson(ctl.run("dashboard", "create", "other.json", "--force", "--output", "json"))["version"] == 2
    assert grafana.dashboard("e2e-board")["title"] == "Other"


@pytest.mark.parametrize("content, message", [
    ('{"title": "x",\n "panels": ]}', "board.json:2:12: is not valid JSON"),
    ("", "board.json:1:1: is not valid JSON"),
    ("[]", "board.json: a dashboard must be a JSON object"),
    ('{"title": "x"}', "has no uid, so that each run would make another one"),
    ('{"uid": "a b/ü", "title": "x"}', "has other characters than letters, digits, - and _"),
    ('{"uid": "' + "u" * 41 + '", "title": "x"}', "has 41 characters; 40 are allowed"),
    ('{"uid": "u"}', "has no title"),
])
def test_what_cannot_be_a_dashboard_is_told_before_anything_is_sent(double, tunnelctl, content, message):
    (tunnelctl.directory / "board.json").write_text(content)
    ended = tunnelctl.run("dashboard", "create", "board.json").expect(BAD_INPUT)
    assert message in ended.err
    assert double.log() == []


def test_a_patch_changes_what_it_names_and_nothing_else(grafana, ctl, dashboard):
    ended = ctl.run("dashboard", "patch", dashboard, "--op", "replace", "$.title", "New", "--op", "add", "$.tags/-", "prod",
                    "--op", "add", "$.refresh", "30s", "--op", "remove", "$.panels[1]", "--message", "why").expect(OK)
    assert 'replaced $.title: "Board" -> "New"' in ended.err
    assert 'removed $.panels[1]: id 7, "More"' in ended.err
    now = grafana.get("/api/dashboards/uid/" + dashboard)
    wanted = {**board(title="New", refresh="30s"), "tags": ["e2e", "prod"]}
    wanted["panels"] = wanted["panels"][:1]
    assert {key: now["dashboard"][key] for key in wanted} == wanted
    assert now["meta"]["folderUid"] == FOLDER and now["meta"]["version"] == 2
    versions = asjson(ctl.run("dashboard", "versions", dashboard, "--output", "json"))["versions"]
    assert versions[0]["message"] == "why"


def test_a_patch_inside_a_panel_from_a_file_and_from_a_list(grafana, ctl, dashboard):
    ctl.file("target.json", {"refId": "Z", "expr": "z"})
    ctl.run("dashboard", "patch", dashboard, "--panel", "Folded", "--op", "add", "targets/-", "@target.json").expect(OK)
    ctl.file("ops.json", [{"op": "replace", "path": "/title", "value": "Renamed"}])
    ctl.run("dashboard", "patch", dashboard, "--panel", "9", "--ops", "ops.json").expect(OK)
    folded = grafana.dashboard(dashboard)["panels"][1]["panels"][0]
    assert folded["title"] == "Renamed" and [one["refId"] for one in folded["targets"]] == ["B", "Z"]
    ctl.run("dashboard", "patch", dashboard, "--panel", "9", "--query", "Z", "--op", "remove", "$").expect(OK)
    assert len(grafana.dashboard(dashboard)["panels"][1]["panels"][0]["targets"]) == 1


def test_a_patch_that_changes_nothing_saves_nothing(grafana, ctl, dashboard):
    ended = ctl.run("dashboard", "patch", dashboard, "--op", "replace", "$.title", "Board", "--output", "json")
    assert asjson(ended)["changed"] is False
    ended = ctl.run("dashboard", "patch", dashboard, "--op", "replace", "$.title", "X", "--dry-run").expect(OK)
    assert "not saved" in ended.err
    assert grafana.dashboard(dashboard)["version"] == 1


@pytest.mark.parametrize("words, message", [
    (["--op", "replace", "$.nope", "1"], '$ has no member "nope"'),
    (["--op", "replace", "$.title"], "needs a value"),
    (["--op", "replace", "$..title", "x"], "means 4 places"),
    (["--op", "replace", "$.uid", "other"], '"uid" belongs to the server'),
    (["--op", "replace", "$", "{}"], "the whole dashboard is not replaced by a patch"),
    (["--op", "add", "$.panels[0]/-", "{}"], "is no list"),
    (["--op", "add", "$.x", '{"a": 1,}'], "the value:1:9: is not valid JSON"),
    (["--op", "add", "$.x", "@nowhere.json"], "nowhere.json: "),
    (["--op", "move", "$.a", "$.b"], "there is no such operation"),
])
def test_a_patch_that_cannot_be_done_changes_nothing(grafana, ctl, dashboard, words, message):
    ended = ctl.run("dashboard", "patch", dashboard, *words).expect(BAD_INPUT)
    assert message in ended.err
    assert grafana.dashboard(dashboard)["version"] == 1


def test_a_patch_without_operations_is_a_wrong_command_line(grafana, ctl, dashboard):
    ctl.run("dashboard", "patch", dashboard).expect(USAGE)
    ctl.run("dashboard", "patch", dashboard, "--op", "replace").expect(USAGE)


def test_somebody_else_s_change_in_between_is_found(double, tunnelctl):
    double.preset(("POST", "/api/dashboards/db", {"dashboard": board()}))
    double.fault(method="POST", path="/api/dashboards/db", nth=1, status=412,
                 answer={"message": "The dashboard has been changed by someone else", "status": "version-mismatch"})
    ended = tunnelctl.run("dashboard", "patch", "e2e-board", "--op", "replace", "$.title", "Mine").expect(CONFLICT)
    assert "changed by someone else" in ended.err and "--force" in ended.err
    double.mode(keep_bodies=True)
    double.forget_log()
    tunnelctl.run("dashboard", "patch", "e2e-board", "--op", "replace", "$.title", "Mine").expect(OK)
    sent = json.loads(next(entry["body"] for entry in double.log() if entry["method"] == "POST"))
    assert sent["overwrite"] is False and sent["dashboard"]["version"] == 1
    double.forget_log()
    tunnelctl.run("dashboard", "patch", "e2e-board", "--op", "replace", "$.title", "Again", "--force").expect(OK)
    assert json.loads(next(entry["body"] for entry in double.log() if entry["method"] == "POST"))["overwrite"] is True


def test_a_save_under_another_uid_is_a_failure(double, tunnelctl):
    double.preset(("POST", "/api/dashboards/db", {"dashboard": board()}))
    double.fault(method="POST", path="/api/dashboards/db", nth=1, status=200,
                 answer={"uid": "cloned", "version": 1, "url": "/d/cloned/x"})
    ended = tunnelctl.run("dashboard", "patch", "e2e-board", "--op", "replace", "$.title", "Mine").expect(FAILED)
    assert "under another uid: cloned" in ended.err


def test_what_a_file_provisions_is_left_alone(double, tunnelctl):
    double.preset(("POST", "/api/dashboards/db", {"dashboard": board()}))
    double.set_provenance("dashboard", "e2e-board", "board.json")
    patched = tunnelctl.run("dashboard", "patch", "e2e-board", "--op", "replace", "$.title", "Mine").expect(CONFLICT)
    assert "provisioned from a file" in patched.err
    assert "provisioned" in tunnelctl.run("dashboard", "delete", "e2e-board", "--yes").expect(CONFLICT).err
    assert double.writes() == []


def test_nothing_is_deleted_unasked(grafana, ctl, dashboard):
    grafana.api("POST", PROVISIONING + "/alert-rules", rule(), EDITABLE)
    for words in (["dashboard", "delete", dashboard], ["alert", "delete", "e2e-rule"],
                  ["folder", "delete", FOLDER, "--recursive", "--with-rules"]):
        assert "--yes" in ctl.run(*words).expect(USAGE).err
    assert grafana.dashboard(dashboard) and grafana.rule("e2e-rule")
    assert asjson(ctl.run("dashboard", "delete", dashboard, "--yes", "--output", "json"))["title"] == "Board"
    assert grafana.dashboard(dashboard) is None
    assert "404" in ctl.run("dashboard", "delete", dashboard, "--yes").expect(FAILED).err


# Folders ----------------------------------------------------------------------------------------------


def test_a_folder_s_life(grafana, ctl):
    assert ctl.run("folder", "create", "Ünï & <b>", "--uid", FOLDER).expect(OK).out == FOLDER + "\n"
    assert "exists already" in ctl.run("folder", "create", "Again", "--uid", FOLDER).expect(CONFLICT).err
    ctl.run("folder", "create", "Sub", "--uid", "e2e-sub", "--parent", FOLDER).expect(OK)
    assert [one["uid"] for one in asjson(ctl.run("folder", "list", "--parent", FOLDER, "--output", "json"))["folders"]] == [
        "e2e-sub"]
    assert asjson(ctl.run("folder", "get", "e2e-sub", "--output", "json"))["path"] == ["Ünï & <b>", "Sub"]
    found = asjson(ctl.run("folder", "search", "sub", "--output", "json"))["folders"]
    assert "e2e-sub" in [one["uid"] for one in found]
    ctl.run("folder", "update", "e2e-sub", "--title", "Moved", "--parent", "").expect(OK)
    moved = grafana.folder("e2e-sub")
    assert moved["title"] == "Moved" and not moved.get("parentUid")
    ctl.run("folder", "update", "e2e-sub").expect(USAGE)
    ctl.run("folder", "delete", "e2e-sub", "--yes").expect(OK)
    assert grafana.folder("e2e-sub") is None


def test_a_folder_in_a_missing_one_is_no_orphan(grafana, ctl):
    assert "404" in ctl.run("folder", "create", "Lost", "--uid", "e2e-lost", "--parent", "e2e-nowhere").expect(FAILED).err
    assert grafana.folder("e2e-lost") is None


def test_a_folder_goes_with_its_contents_only_when_told(grafana, ctl, dashboard):
    grafana.api("POST", PROVISIONING + "/alert-rules", rule(), EDITABLE)
    ended = ctl.run("folder", "delete", FOLDER, "--yes", "--recursive").expect(CONFLICT)
    assert "1 dashboards, 0 folders, 1 alert rules" in ended.err and "--with-rules" in ended.err
    assert grafana.folder(FOLDER) and grafana.dashboard(dashboard)
    ctl.run("folder", "delete", FOLDER, "--yes", "--with-rules").expect(OK)
    assert grafana.folder(FOLDER) is None and grafana.rule("e2e-rule") is None


# Data sources -----------------------------------------------------------------------------------------


def test_data_sources_by_type_and_name(grafana, ctl):
    listed = asjson(ctl.run("datasource", "list", "--type", "Prometheus", "--name", "E2E-", "--output", "json"))
    assert [one["uid"] for one in listed["datasources"]] == ["e2e-prometheus"]
    assert asjson(ctl.run("datasource", "list", "--type", "prom", "--output", "json"))["datasources"] == []
    assert asjson(ctl.run("datasource", "get", "e2e-prometheus"))["type"] == "prometheus"
    assert "no data source has the uid or name" in ctl.run("datasource", "get", "a/b ü").expect(FAILED).err


def test_a_check_tells_which_data_source_does_not_answer(grafana, ctl):
    ended = ctl.run("datasource", "check", "e2e-prometheus", "--output", "json").expect(FAILED)
    found = ended.json()["datasources"][0]
    assert found["state"] == "failed" and "health 400" in found["message"]


def test_passwords_in_a_data_source_s_address_are_not_shown(double, tunnelctl):
    double.add_datasource("e2e-secret", "prometheus", "http://me:hunter2@127.0.0.1:9/p@th")
    for words in (["list"], ["list", "--output", "json"], ["get", "e2e-secret"]):
        out = tunnelctl.run("datasource", *words).expect(OK).out
        assert "hunter2" not in out and "***@127.0.0.1:9/p@th" in out


@pytest.mark.parametrize("kind, refused, works", [
    ("prometheus", ["/health$"], "resources"),
    ("prometheus", ["/health$", "/resources/"], "proxy"),
    ("prometheus", ["/health$", "/resources/", "/proxy/"], "query"),
    ("loki", ["/health$"], "proxy"),
    ("loki", ["/health$", "/proxy/"], "resources"),
])
def test_another_route_is_tried_where_one_is_closed(double, tunnelctl, kind, refused, works):
    double.add_datasource("e2e-source", kind, "http://127.0.0.1:9")
    answers = {"resources": "/resources/", "proxy": "/proxy/", "query": "/api/ds/query"}
    for path in refused:
        double.fault(path=path, status=403, answer={"message": "closed"})
    double.fault(path=answers[works], status=200, answer={"status": "success", "data": []})
    found = asjson(tunnelctl.run("datasource", "check", "e2e-source", "--output", "json"))["datasources"][0]
    assert found["state"] == "ok" and f"by the route {works}" in found["message"]
    assert [route["status"] for route in found["tried"]] == [403] * len(refused) + [200]


def test_a_check_says_which_verbs_work_where_only_queries_are_open(double, tunnelctl):
    double.add_datasource("e2e-source", "prometheus", "http://127.0.0.1:9")
    double.fault(path="/health$|/resources/|/proxy/", status=403, answer={"message": "closed"})
    double.fault(path="/api/ds/query", status=200, answer={"results": {}})
    message = asjson(tunnelctl.run("datasource", "check", "--output", "json"))["datasources"][0]["message"]
    assert "by the route query alone: tunnelctl datasource query works, tunnelctl metrics does not" in message


@pytest.mark.parametrize("status", [404, 501])
def test_a_check_goes_by_what_queries_go_by(double, tunnelctl, status):
    double.add_datasource("e2e-source", "prometheus", "http://127.0.0.1:9")
    double.fault(path="/health$", status=status, answer={"message": "no such"})
    double.fault(path="/resources/", status=status, answer={"message": "no such"})
    double.fault(path="/proxy/|/api/ds/query", status=200, answer={"status": "success", "data": []})
    ended = tunnelctl.run("datasource", "check", "e2e-source", "--output", "json").expect(FAILED)
    assert [route["route"] for route in ended.json()["datasources"][0]["tried"]] == ["health", "resources"]


def test_a_check_names_each_route_that_failed(double, tunnelctl):
    double.add_datasource("e2e-source", "prometheus", "http://127.0.0.1:9")
    double.fault(path="/health$|/resources/|/proxy/|/ds/query", status=403, answer={"message": "closed"})
    out = tunnelctl.run("datasource", "check").expect(FAILED).out
    assert "health 403 (closed), resources 403 (closed), proxy 403 (closed), query 403 (closed)" in out


def test_a_plugin_without_health_check_is_no_failure(double, tunnelctl):
    double.add_datasource("e2e-odd", "odd-plugin", "http://127.0.0.1:9")
    double.fault(path="/health$", status=404, answer={"message": "Not found"})
    found = asjson(tunnelctl.run("datasource", "check", "e2e-odd", "--output", "json"))["datasources"][0]
    assert found["state"] == "unknown" and "no health check" in found["message"]


def test_who_may_not_list_data_sources_gets_those_of_the_settings(double, tunnelctl):
    double.add_datasource("e2e-source", "prometheus", "http://127.0.0.1:9")
    double.fault(path="^/api/datasources$", status=403, answer={"message": "no"})
    ended = tunnelctl.run("datasource", "list").expect(OK)
    assert "e2e-source" in ended.out and "may not list data sources" in ended.err


# Alert rules ------------------------------------------------------------------------------------------


def test_an_alert_rule_s_life(grafana, ctl, folder):
    ctl.file("rule.json", rule())
    assert ctl.run("alert", "create", "rule.json").expect(OK).out == "e2e-rule\n"
    assert not grafana.rule("e2e-rule").get("provenance"), "it can be changed in the pages"
    assert "exists already" in ctl.run("alert", "create", "rule.json").expect(CONFLICT).err
    ctl.file("change.json", {"for": "10m", "labels": {"team": None, "new": "x"}})
    ctl.run("alert", "update", "e2e-rule", "change.json").expect(OK)
    changed = asjson(ctl.run("alert", "get", "e2e-rule"))
    assert changed["for"] == "10m" and changed["labels"] == {"severity": "warning", "new": "x"}
    assert [query["refId"] for query in changed["data"]] == ["A", "C"], "what is not named stays"
    listed = asjson(ctl.run("alert", "list", "--label", "new=x", "--output", "json"))["rules"]
    assert [one["uid"] for one in listed] == ["e2e-rule"]
    ctl.run("alert", "delete", "e2e-rule", "--yes").expect(OK)
    assert "no alert rule has the uid" in ctl.run("alert", "delete", "e2e-rule", "--yes").expect(FAILED).err
    assert "no alert rule has the uid" in ctl.run("alert", "get", "a/b ü").expect(FAILED).err or "403" in ctl.last.err


def test_an_update_keeps_the_provenance_of_the_rule(grafana, ctl, folder):
    grafana.api("POST", PROVISIONING + "/alert-rules", rule())
    ctl.file("change.json", {"for": "10m"})
    ctl.run("alert", "update", "e2e-rule", "change.json").expect(OK)
    assert grafana.rule("e2e-rule")["for"] == "10m" and grafana.rule("e2e-rule")["provenance"] == "api"


def test_a_rule_that_can_never_work_is_not_sent(double, tunnelctl):
    wrong = rule()
    wrong["condition"] = "X"
    del wrong["data"][0]["relativeTimeRange"]
    wrong["fro"] = "5m"
    (tunnelctl.directory / "rule.json").write_text(json.dumps(wrong))
    ended = tunnelctl.run("alert", "create", "rule.json").expect(BAD_INPUT)
    assert 'rule.json: condition: "X" names no query' in ended.err
    assert "rule.json: data[0].relativeTimeRange: is missing" in ended.err
    assert "rule.json: fro: is no member of an alert rule" in ended.err
    assert double.log() == []


def test_an_update_that_breaks_the_rule_is_not_sent(grafana, ctl, folder):
    grafana.api("POST", PROVISIONING + "/alert-rules", rule(), EDITABLE)
    before = grafana.rule("e2e-rule")
    ctl.file("change.json", {"condition": "Z"})
    assert 'condition: "Z" names no query' in ctl.run("alert", "update", "e2e-rule", "change.json").expect(BAD_INPUT).err
    ctl.file("other.json", {"uid": "e2e-other"})
    assert "the rule to update is e2e-rule" in ctl.run("alert", "update", "e2e-rule", "other.json").expect(BAD_INPUT).err
    assert grafana.rule("e2e-rule") == before


def test_a_rule_from_a_file_on_the_server_is_left_alone(double, tunnelctl):
    double.preset(("POST", "/api/folders", {"uid": FOLDER, "title": "x"}), ("POST", PROVISIONING + "/alert-rules", rule()))
    double.set_provenance("rule", "e2e-rule", "file")
    (tunnelctl.directory / "change.json").write_text('{"for": "10m"}')
    tunnelctl.run("alert", "update", "e2e-rule", "change.json").expect(CONFLICT)
    tunnelctl.run("alert", "delete", "e2e-rule", "--yes").expect(CONFLICT)
    assert double.writes() == []


def test_the_state_shows_what_inactive_hides(double, tunnelctl):
    double.preset(("POST", "/api/folders", {"uid": FOLDER, "title": "x"}),
                  ("POST", PROVISIONING + "/alert-rules", rule()),
                  ("POST", PROVISIONING + "/alert-rules", rule("e2e-firing")))
    double.control("POST", "rule-state", {
        "e2e-rule": {"state": "inactive", "health": "error", "lastError": "looks like time series data"},
        "e2e-firing": {"state": "firing", "health": "ok", "alerts": [
            {"state": "Alerting", "labels": {"instance": "x"}, "activeAt": "2026-01-01T00:00:00Z", "value": "1"}]}})
    ended = tunnelctl.run("alert", "state").expect(OK)
    assert "looks like time series data" in ended.out
    assert "1 firing, 0 pending, 1 with errors, 0 without data, of 2" in ended.err
    one = tunnelctl.run("alert", "state", "e2e-firing").expect(OK)
    assert "instance=x" in one.out and "looks like" not in one.out
    as_json = asjson(tunnelctl.run("alert", "state", "--health", "error", "--output", "json"))["rules"]
    assert [rule["uid"] for rule in as_json] == ["e2e-rule"]
    assert as_json[0]["last_error"] == "looks like time series data"
    tunnelctl.run("alert", "state", "nope").expect(FAILED)


# Contact points ---------------------------------------------------------------------------------------


@pytest.fixture
def hook():
    """Takes webhooks: 200 for /ok, 500 for anything else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200 if self.path == "/ok" else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_contact_point_is_tested_by_each_of_its_ways(grafana, ctl, hook):
    for way in ("ok", "broken"):
        grafana.api("POST", PROVISIONING + "/contact-points", {
            "uid": "e2e-" + way, "name": "e2e-hook", "type": "webhook",
            "settings": {"url": f"{hook}/{way}", "username": "u", "password": "hunter2"}}, EDITABLE)
    listed = ctl.run("contact-point", "list", "--output", "json")
    point = next(one for one in asjson(listed)["contact_points"] if one["name"] == "e2e-hook")
    assert sorted(one["uid"] for one in point["integrations"]) == ["e2e-broken", "e2e-ok"]
    assert hook not in listed.out and "hunter2" not in listed.out
    ended = ctl.run("contact-point", "test", "e2e-hook", "--output", "json").expect(FAILED)
    results = {one["uid"]: one["delivered"] for one in ended.json()["integrations"]}
    assert results == {"e2e-ok": True, "e2e-broken": False}
    grafana.api("DELETE", PROVISIONING + "/contact-points/e2e-broken", headers=EDITABLE)
    assert "1 of 1 delivered" in ctl.run("contact-point", "test", "e2e-hook").expect(OK).err
    assert "no contact point is called" in ctl.run("contact-point", "test", "e2e-nope").expect(FAILED).err


# Links and organisations ------------------------------------------------------------------------------


def test_links_lead_to_what_exists(grafana, ctl, dashboard):
    link = ctl.run("link", "dashboard", dashboard, "--from", "2026-01-01T00:00:00Z", "--to", "now", "--var", "job=a b/ü",
                   "--org", "1").expect(OK).out.strip()
    assert link == grafana.url + "/d/e2e-board?from=1767225600000&to=now&orgId=1&var-job=a+b%2F%C3%BC"
    panel = ctl.run("link", "panel", dashboard, "Folded", "--from", "now-1h").expect(OK).out.strip()
    assert panel == grafana.url + "/d/e2e-board?viewPanel=9&from=now-1h"
    assert "no variable \"nope\"" in ctl.run("link", "dashboard", dashboard, "--var", "nope=1").expect(OK).err
    assert "404" in ctl.run("link", "dashboard", "e2e-nowhere").expect(FAILED).err
    assert ctl.run("link", "dashboard", "e2e-nowhere", "--unchecked").expect(OK).out.strip() == grafana.url + "/d/e2e-nowhere"
    ctl.run("link", "dashboard", dashboard, "--var", "job").expect(BAD_INPUT)
    ctl.run("link", "dashboard", dashboard, "--from", "yesterday").expect(BAD_INPUT)
    short = asjson(ctl.run("link", "panel", dashboard, "1", "--short", "--output", "json"))["url"]
    assert short.startswith(grafana.url + "/goto/")


def test_explore_links_carry_their_queries(grafana, ctl):
    link = ctl.run("link", "explore", "e2e-prometheus", "--query", 'up{job="a"}').expect(OK).out
    assert link.startswith(grafana.url + "/explore?panes=") and "e2e-prometheus" in link and "schemaVersion=1" in link
    ctl.run("link", "explore", "e2e-nowhere").expect(FAILED)


def test_open_prints_and_starts_no_browser_where_nobody_sits(grafana, ctl, dashboard):
    assert ctl.run("dashboard", "open", dashboard, "--panel", "Up").expect(OK).out == (
        grafana.url + "/d/e2e-board?viewPanel=1\n")
    assert ctl.run("dashboard", "open", dashboard, "--browser").expect(USAGE).out == grafana.url + "/d/e2e-board\n"


def test_the_own_organisation_is_marked(grafana, ctl):
    orgs = asjson(ctl.run("org", "list", "--output", "json"))["orgs"]
    assert [one["id"] for one in orgs if one["current"]] == [1]


# A world that is wrong --------------------------------------------------------------------------------

READS = [["dashboard", "list"], ["dashboard", "get", "x"], ["folder", "list"], ["datasource", "list"], ["alert", "list"],
         ["contact-point", "list"], ["org", "list"], ["link", "dashboard", "x"], ["alert", "state"]]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_a_wrong_token_is_told_as_such(double, tunnelctl, words):
    stranger = tunnelctl.with_environment(GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None,
                                          GRAFANA_SERVICE_ACCOUNT_TOKEN="glsa_nobodynobodynobodynobodynobody00_1a2b3c4d")
    for mode in ("text", "json"):
        ended = stranger.run(*words, "--output", mode).expect(DENIED)
        assert "401" in ended.err and "GRAFANA_SERVICE_ACCOUNT_TOKEN" in ended.err
        assert ended.out == "", "standard output is for results"


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_a_web_page_instead_of_an_answer_is_told_as_such(double, tunnelctl, words):
    double.fault(path="^/api/", status=200, answer="<html>sign in</html>", headers={"Content-Type": "text/html"})
    ended = tunnelctl.run(*words).expect(UNAVAILABLE)
    assert ended.out == "" and "/api/" in ended.err


def test_a_viewer_reads_and_may_not_write(double, tunnelctl):
    double.preset(("POST", "/api/folders", {"uid": FOLDER, "title": "x"}),
                  ("POST", "/api/dashboards/db", {"dashboard": board(), "folderUid": FOLDER}),
                  ("POST", PROVISIONING + "/alert-rules", rule()))
    before = double.state()
    viewer = tunnelctl.with_environment(GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None,
                                        GRAFANA_SERVICE_ACCOUNT_TOKEN=double.tokens["viewer"])
    for words in (["dashboard", "summary", "e2e-board"], ["folder", "get", FOLDER], ["alert", "get", "e2e-rule"],
                  ["contact-point", "list"], ["link", "dashboard", "e2e-board", "--short"]):
        viewer.run(*words).expect(OK)
    (tunnelctl.directory / "new.json").write_text(json.dumps(board("e2e-new")))
    (tunnelctl.directory / "rule.json").write_text(json.dumps(rule("e2e-new")))
    for words in (["dashboard", "patch", "e2e-board", "--op", "replace", "$.title", "x"],
                  ["dashboard", "create", "new.json"], ["dashboard", "delete", "e2e-board", "--yes"],
                  ["folder", "create", "y"], ["folder", "update", FOLDER, "--title", "y"],
                  ["folder", "delete", FOLDER, "--with-rules", "--yes"], ["alert", "create", "rule.json"],
                  ["alert", "delete", "e2e-rule", "--yes"]):
        ended = viewer.run(*words).expect(DENIED)
        assert "403" in ended.err and "Editor" in ended.err
    assert json.loads(double.state())["dashboards"] == json.loads(before)["dashboards"]
    assert json.loads(double.state())["rules"] == json.loads(before)["rules"]


def test_uids_of_any_letters_stay_one_part_of_the_path(double, tunnelctl):
    for words in (["dashboard", "get"], ["folder", "get"], ["alert", "get"], ["dashboard", "delete", "--yes"]):
        tunnelctl.run(*words, "a/../b ü?x=1#y").expect(FAILED)
    asked = [entry["path"] for entry in double.log() if entry["path"] != "/api/frontend/settings"]
    assert asked and all(path.endswith("/a%2F..%2Fb%20%C3%BC%3Fx%3D1%23y") for path in asked), asked
    assert double.writes() == []


def test_a_server_that_is_not_there(tunnelctl, grafana):
    nobody = tunnelctl.with_environment(GRAFANA_URL="http://127.0.0.1:9")
    assert "127.0.0.1:9" in nobody.run("dashboard", "list").expect(UNAVAILABLE).err


@pytest.mark.parametrize("group, verbs", [
    ("dashboard", "list get search create patch summary property versions delete open"),
    ("folder", "list get search create update delete"), ("datasource", "list get check"),
    ("alert", "list get create update delete state"), ("contact-point", "list test"),
    ("link", "dashboard panel explore"), ("org", "list")])
def test_every_verb_shows_two_examples(tunnelctl, group, verbs):
    for verb in verbs.split():
        out = tunnelctl.run(group, verb, "--help").expect(OK).out
        examples = out.partition("Examples:\n")[2]
        assert examples.count("tunnelctl ") >= 2 and f"tunnelctl {group} {verb}" in examples, out
