"""The verbs that mirror what assistants do through Grafana's MCP server: annotations, snapshots, plugins, who is
there, any query and any request.

With GRAFANA_URL set the tests that do not make the server misbehave run against that one.
"""

import json
import time

import pytest

from programs.tunnelctl import BAD_INPUT, CONFLICT, DENIED, FAILED, OK, UNAVAILABLE, USAGE


def asjson(ended):
    return ended.expect(OK).json()


@pytest.fixture
def ctl(tunnelctl):
    """`file` writes JSON beside it."""

    def file(name, content):
        (tunnelctl.directory / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return name

    tunnelctl.file = file
    return tunnelctl


@pytest.fixture
def board(grafana):
    grafana.api("POST", "/api/folders", {"uid": "e2e-parity", "title": "E2E parity"})
    grafana.save_dashboard({"uid": "e2e-parity-board", "title": "Parity", "schemaVersion": 39, "panels": [
        {"id": 1, "type": "stat", "title": "Up", "targets": [{"refId": "A", "expr": "up"}]}]}, "e2e-parity")
    return "e2e-parity-board"


@pytest.fixture
def read_only(ctl, grafana):
    """The same server by a context that may only look."""
    (ctl.directory / "password").write_text(grafana.password)
    (ctl.directory / "config.yaml").write_text(json.dumps({"contexts": [{
        "name": "look", "grafana_url": grafana.url, "username": grafana.username,
        "password_file": str(ctl.directory / "password"), "read_only": True}]}))

    def run(*arguments):
        return ctl.run(*arguments, "--config", "config.yaml", "--context", "look")

    return run


# Annotations --------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_an_annotation_lives(ctl, unique):
    id_ = ctl.run("annotation", "create", "rolled out", "--tag", unique, "--at", "now-10m").expect(OK).out.strip()
    listed = asjson(ctl.run("annotation", "list", "--tag", unique, "--output", "json"))["annotations"]
    assert [(str(one["id"]), one["text"], one["end"]) for one in listed] == [(id_, "rolled out", None)]
    assert unique in ctl.run("annotation", "tags", "--tag", unique).expect(OK).out
    changed = asjson(ctl.run("annotation", "update", id_, "--end", "now", "--tag", unique, "--tag", "back",
                             "--output", "json"))
    assert changed["text"] == "rolled out" and changed["end"] and set(changed["tags"]) == {unique, "back"}
    assert asjson(ctl.run("annotation", "list", "--tag", unique, "--tag", "nope", "--output", "json"))["annotations"] == []
    assert asjson(ctl.run("annotation", "list", "--tag", unique, "--tag", "nope", "--any", "--output", "json"))["annotations"]
    ctl.run("annotation", "delete", id_, "--yes").expect(OK)
    assert f"no annotation has the id {id_}" in ctl.run("annotation", "delete", id_, "--yes").expect(FAILED).err


def test_an_annotation_stands_on_its_panel(ctl, board):
    made = asjson(ctl.run("annotation", "create", "here", "--dashboard", board, "--panel", "1", "--output", "json"))
    assert made["dashboard"] == board and made["panel"] == 1
    found = asjson(ctl.run("annotation", "list", "--dashboard", board, "--panel", "1", "--output", "json"))
    assert [one["id"] for one in found["annotations"]] == [made["id"]]
    ended = ctl.run("annotation", "list", "--dashboard", "e2e-nope").expect(FAILED)
    assert 'no dashboard has the uid "e2e-nope"' in ended.err
    assert "no dashboard" in ctl.run("annotation", "create", "x", "--dashboard", "e2e-nope").expect(FAILED).err


@pytest.mark.parametrize("arguments, why", [
    (("create", ""), "needs a text"),
    (("create", "x", "--at", "now", "--end", "now-1h"), "end is before its start"),
    (("create", "x", "--panel", "1"), "needs its dashboard too"),
    (("create", "x", "--at", "teatime"), "--at:"),
    (("create", "x", "--tag", "t" * 501), "501 bytes"),
    (("update", "1"), "nothing says what to change"),
    (("list", "--from", "now", "--to", "now-1h"), "--"),
])
def test_an_annotation_that_makes_no_sense_is_not_sent(ctl, grafana_double, arguments, why):
    grafana_double.forget_log()
    assert why in ctl.run("annotation", *arguments).expect(BAD_INPUT).err
    assert grafana_double.writes() == []


# Snapshots ----------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_snapshot_lives(ctl, grafana, board):
    ctl.file("board.json", grafana.get("/api/dashboards/uid/" + board))
    made = asjson(ctl.run("snapshot", "create", "board.json", "--name", "e2e incident", "--for", "1h",
                          "--output", "json"))
    assert made["url"].endswith(made["key"])
    listed = asjson(ctl.run("snapshot", "list", "--name", "e2e incident", "--output", "json"))["snapshots"]
    assert made["key"] in [one["key"] for one in listed]
    assert asjson(ctl.run("snapshot", "get", made["key"]))["dashboard"]["title"] == "Parity"
    ctl.run("snapshot", "delete", made["key"], "--yes").expect(OK)
    assert "no snapshot has the key" in ctl.run("snapshot", "get", made["key"]).expect(FAILED).err


def test_a_snapshot_needs_a_dashboard_with_a_uid(ctl, grafana):
    ended = ctl.run("snapshot", "create", ctl.file("bare.json", {"title": "x"})).expect(BAD_INPUT)
    assert "bare.json: the dashboard has no uid" in ended.err
    assert "--for" in ctl.run("snapshot", "create", "bare.json", "--for", "soon").expect(BAD_INPUT).err


# Plugins, users -----------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_plugins_are_told_from_those_that_are_not_there(ctl, grafana):
    assert "prometheus" in ctl.run("plugin", "list", "--core", "--type", "datasource").expect(OK).out
    assert asjson(ctl.run("plugin", "get", "prometheus"))["id"] == "prometheus"
    assert "is installed" in ctl.run("plugin", "get", "e2e-nope").expect(FAILED).err


def test_a_server_that_installs_no_plugins_says_how_it_is_done(ctl, grafana_double):
    ended = ctl.run("plugin", "install", "some-panel").expect(DENIED)
    assert "grafana cli plugins install some-panel" in ended.err


@pytest.mark.short_client
def test_who_is_there(ctl, grafana_double):
    grafana_double.control("POST", "teams", [{"id": 1, "uid": "t1", "name": "Platform", "email": "", "memberCount": 2}])
    assert asjson(ctl.run("admin", "users", "--output", "json"))["users"][0]["login"] == "admin"
    assert "Platform" in ctl.run("admin", "teams", "--name", "plat").expect(OK).out
    assert "0 teams" in ctl.run("admin", "teams", "--name", "nobody").expect(OK).err
    assert "editor" in ctl.run("admin", "service-accounts").expect(OK).out


@pytest.mark.parametrize("arguments", [(), ("fixed:x",), ("fixed:x", "--assignments"), ("--user", "1"), ("--team", "1")])
def test_roles_are_said_to_be_enterprises(ctl, grafana_double, arguments):
    assert "Grafana Enterprise and Cloud" in ctl.run("admin", "roles", *arguments).expect(FAILED).err


# Data sources -------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_data_source_lives(ctl, grafana_double):
    (ctl.directory / "pw").write_text("the-data-source-password\n")
    ctl.secrets.append("the-data-source-password")
    made = asjson(ctl.run("datasource", "create", "--type", "loki", "--name", "E2E Loki", "--uid", "e2e-loki",
                          "--url", "http://loki.fake", "--set", "jsonData.maxLines=100", "--set", "basicAuth=true",
                          "--secret", "basicAuthPassword=pw", "--output", "json"))
    assert made["health"]["state"] == "ok"
    assert "the-data-source-password" in grafana_double.state()
    taken = ctl.run("datasource", "create", "--type", "loki", "--name", "E2E Loki").expect(CONFLICT)
    assert "same name" in taken.err and "datasource update" in taken.err
    changed = asjson(ctl.run("datasource", "update", "e2e-loki", "--set", "jsonData.timeout=60", "--output", "json"))
    assert changed["datasource"]["jsonData"] == {"maxLines": 100, "timeout": 60}
    assert "the-data-source-password" in grafana_double.state(), "secrets that are not named stay"
    ctl.run("datasource", "delete", "E2E Loki", "--yes").expect(OK)
    ctl.run("datasource", "get", "e2e-loki").expect(FAILED)


@pytest.mark.parametrize("arguments, why", [
    (("--set", "jsonData"), "NAME=VALUE"), (("--set", "secureJsonData.password=x"), "--secret NAME=FILE"),
    (("--secret", "password"), "NAME=FILE"), (("--secret", "password=/nonexistent"), "/nonexistent"),
    (("--set", "type.x=1"), "holds no members"),
])
def test_settings_of_data_sources_are_checked_first(ctl, grafana_double, arguments, why):
    ended = ctl.run("datasource", "create", "--type", "loki", "--name", "X", *arguments).expect(BAD_INPUT)
    assert why in ended.err and grafana_double.writes() == []


def test_a_provisioned_data_source_is_left_alone(ctl, grafana_double):
    grafana_double.add_datasource("e2e-file", "loki", "http://loki.fake")
    grafana_double.set_provenance("datasource", "e2e-file", "file")
    for words in (("update", "e2e-file", "--url", "http://b"), ("delete", "e2e-file", "--yes")):
        assert "provisioned from a file" in ctl.run("datasource", *words).expect(CONFLICT).err


@pytest.fixture
def lines(grafana_double):
    """A Loki with two lines."""
    grafana_double.add_datasource("e2e-loki", "loki", "http://loki.fake")
    now = time.time_ns()
    grafana_double.control("POST", "loki", [
        {"time": now - 10**9, "labels": {"app": "a"}, "line": 'first, with "quotes"'},
        {"time": now - 2 * 10**9, "labels": {"app": "a"}, "line": "second"}])


@pytest.mark.short_client
def test_any_query_gives_tables_csv_and_json(ctl, lines):
    query = ("datasource", "query", "e2e-loki", "--query", '{"expr": "{app=\\"a\\"}", "queryType": "range"}')
    told = asjson(ctl.run(*query, "--output", "json"))
    assert told["errors"] == [] and told["frames"][0]["rows"] == 2
    assert "second" in ctl.run(*query).expect(OK).out
    csv = ctl.run(*query, "--csv").expect(OK).out
    assert '"first, with ""quotes"""' in csv
    limited = ctl.run(*query, "--limit", "1").expect(OK)
    assert "shown 1 of 2 rows" in limited.err
    ctl.file("queries.json", [{"expr": '{app="a"}', "queryType": "range"}])
    ctl.run("datasource", "query", "e2e-loki", "--query", "queries.json").expect(OK)


def test_csv_is_cut_only_where_that_is_asked_for(ctl, lines, grafana_double):
    now = time.time_ns()
    grafana_double.control("POST", "loki", [
        {"time": now - n * 10**6, "labels": {"app": "a"}, "line": f"line {n}"} for n in range(150)])
    query = ("datasource", "query", "e2e-loki", "--query", '{"expr": "{app=\\"a\\"}", "queryType": "range"}')
    whole = ctl.run(*query, "--csv").expect(OK)
    assert whole.out.count("\r\n") == whole.out.count("\n") == 151 and "150 rows" in whole.err
    assert ctl.run(*query, "--csv", "--limit", "7").expect(OK).out.count("\n") == 8
    assert "shown 100 of 150 rows" in ctl.run(*query).expect(OK).err


def test_a_query_that_fails_says_why(ctl, lines, grafana_double):
    ended = ctl.run("datasource", "query", "e2e-loki", "--query", "{").expect(BAD_INPUT)
    assert "--query" in ended.err
    assert "no-such.json" in ctl.run("datasource", "query", "e2e-loki", "--query", "no-such.json").expect(BAD_INPUT).err
    assert "there are: e2e-loki" in ctl.run("datasource", "query", "nope", "--query", "{}").expect(FAILED).err
    grafana_double.add_datasource("e2e-dead", "prometheus", "http://127.0.0.1:9")
    dead = ctl.run("datasource", "query", "e2e-dead", "--query", '{"expr": "up", "instant": true}')
    assert "connection refused" in dead.expect(UNAVAILABLE).err


# Any request --------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_any_request_can_be_sent(ctl, grafana):
    assert asjson(ctl.run("api", "/api/org"))["id"] == 1
    assert asjson(ctl.run("api", "get", "/api/org"))["id"] == 1
    ctl.file("folder.json", {"uid": "e2e-api", "title": "E2E API"})
    assert asjson(ctl.run("api", "POST", "/api/folders", "--body", "folder.json"))["uid"] == "e2e-api"
    ctl.run("api", "DELETE", "/api/folders/e2e-api").expect(OK)
    ended = ctl.run("api", "/api/folders/e2e-api").expect(FAILED)
    assert "GET" in ended.err and "404" in ended.err


@pytest.mark.parametrize("arguments, why", [
    (("/login",), "must begin with /api/ or /apis/"), (("/apix/y",), "must begin with"),
    (("https://elsewhere.example/api/org",), "must begin with"), (("/api/search?query=a b",), "%20"),
    (("/api/../login",), "climb"), (("FETCH", "/api/org"), "is no method"),
    (("GET", "/api/org", "--body", "folder.json"), "GET takes none"), (("/api/org", "--header", "nonsense"), "--header"),
    (("/api/org", "--header", "Authorization: Bearer x"), "GRAFANA_SERVICE_ACCOUNT_TOKEN"),
    (("/api/org", "--header", "cookie: x=y"), "is a secret"),
])
def test_requests_that_are_none_are_not_sent(ctl, grafana_double, arguments, why):
    ctl.file("folder.json", {})
    grafana_double.forget_log()
    assert why in ctl.run("api", *arguments).expect(BAD_INPUT).err
    assert grafana_double.log() == []


def test_a_login_page_is_no_answer(ctl, grafana_double):
    grafana_double.fault(path="/api/org", status=200, answer="<html><body>Sign in</body></html>",
                         headers={"Content-Type": "text/html; charset=UTF-8"})
    ended = ctl.run("api", "/api/org").expect(UNAVAILABLE)
    assert "web page" in ended.err and ended.out == ""


def test_what_only_looks_may_be_done_read_only(ctl, read_only, grafana, lines):
    ctl.file("body.json", {"uid": "e2e-ro", "title": "x"})
    read_only("api", "/api/org").expect(OK)
    read_only("datasource", "query", "e2e-loki", "--query", '{"expr": "{app=\\"a\\"}", "queryType": "range"}').expect(OK)
    for words in (("api", "POST", "/api/folders", "--body", "body.json"), ("api", "DELETE", "/api/folders/x"),
                  ("annotation", "create", "x"), ("alert", "silence", "create", "--matcher", "a=b"),
                  ("datasource", "create", "--type", "loki", "--name", "x"), ("plugin", "install", "x"),
                  ("snapshot", "create", "body.json"), ("api", "/api/snapshots-delete/x"),
                  ("datasource", "query", "e2e-loki", "--query", '{"rawSql": "drop table x"}')):
        ended = read_only(*words).expect(DENIED)
        assert "read-only" in ended.err, ended
    assert grafana.folder("e2e-ro") is None


def test_methods_and_options_are_checked_by_the_command_line(ctl):
    ctl.run("api").expect(USAGE)
    ctl.run("datasource", "query", "x").expect(USAGE)
    ctl.run("annotation", "update", "not-a-number").expect(USAGE)
