"""`tunnelctl mcp` as an assistant's program uses it: a child process, JSON-RPC on its standard streams."""

import fcntl
import http.server
import itertools
import json
import os
import queue
import select
import subprocess
import threading

import pytest

from callers.http import ask
from programs.loopback import wait_until
from programs.prometheus import Prometheus
from programs.tunnelctl import OK, UNAVAILABLE, Tunnelctl, binary

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
BOARD = {"uid": "mcp-board", "title": "Board of mcp", "schemaVersion": 39, "tags": ["mcp"],
         "panels": [{"id": 4, "type": "timeseries", "title": "Up", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
                     "targets": [{"refId": "A", "expr": "up{job=\"$job\"}"}]}]}


class Client:
    """The other end of the pipes; whatever is no JSON-RPC message on standard output fails the test."""

    def __init__(self, directory, environment, *options):
        directory.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", str(binary()), "mcp", *options], cwd=directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory), **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._ids = itertools.count(1)
        self._answers = queue.Queue()
        self._errors = []
        self._readers = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=self._read_errors, daemon=True)]
        for reader in self._readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            try:
                answer = json.loads(line)
                assert isinstance(answer, list) or answer["jsonrpc"] == "2.0"
            except Exception as error:  # noqa: BLE001 - told to the test by answer()
                answer = AssertionError(f"no message: {line!r}: {error}")
            self._answers.put(answer)
        self._answers.put(None)

    def _read_errors(self):
        self._errors.append(self.process.stderr.read().decode())

    def write(self, line):
        self.process.stdin.write(line if isinstance(line, bytes) else line.encode())
        self.process.stdin.flush()

    def send(self, method, params=None, **more):
        message = {"jsonrpc": "2.0", "method": method, **more}
        if params is not None:
            message["params"] = params
        self.write(json.dumps(message) + "\n")

    def answer(self):
        """The next one; None at the end."""
        answer = self._answers.get(timeout=30)
        if isinstance(answer, AssertionError):
            raise answer
        return answer

    def ask(self, method, params=None):
        number = next(self._ids)
        self.send(method, params, id=number)
        answer = self.answer()
        assert answer["id"] == number, answer
        return answer

    def shake_hands(self, version="2025-06-18"):
        answer = self.ask("initialize", {"protocolVersion": version, "capabilities": {},
                                         "clientInfo": {"name": "test", "version": "1"}})["result"]
        assert answer["protocolVersion"] == version
        self.send("notifications/initialized")
        return answer

    def tools(self):
        return {tool["name"]: tool for tool in self.ask("tools/list")["result"]["tools"]}

    def call(self, name, **arguments):
        return self.ask("tools/call", {"name": name, "arguments": arguments})

    def told(self, name, **arguments):
        """What a tool answered, which must be JSON, twice."""
        result = self.call(name, **arguments)["result"]
        assert not result.get("isError"), result
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        return result["structuredContent"]

    def refused(self, name, **arguments):
        """Why a tool failed."""
        result = self.call(name, **arguments)["result"]
        assert result["isError"], result
        return "\n".join(part["text"] for part in result["content"])

    def end(self, seconds=20):
        """Closes its input; returns its exit status, what it said on standard error and its last answers."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        rest = []
        while (answer := self.answer()) is not None:
            rest.append(answer)
        return status, self._errors[0], rest


@pytest.fixture
def start(new_directory):
    """Starts a server; keyword arguments are its environment."""
    made = []

    def begin(*options, shake_hands=True, **environment):
        made.append(Client(new_directory("mcp"), environment, *options))
        if shake_hands:
            made[-1].shake_hands()
        return made[-1]

    yield begin
    for client in made:
        if client.process.poll() is None:
            client.process.kill()
            client.process.wait()


def of_role(grafana, role="viewer"):
    return {"GRAFANA_URL": grafana.url, "GRAFANA_SERVICE_ACCOUNT_TOKEN": grafana.tokens[role]}


@pytest.fixture
def board(grafana_double):
    grafana_double.control("POST", "preset", [
        {"method": "POST", "path": "/api/folders", "body": {"uid": "mcp-folder", "title": "Mcp"}},
        {"method": "POST", "path": "/api/dashboards/db", "body": {"dashboard": BOARD, "folderUid": "mcp-folder"}}])
    return BOARD["uid"]


class Slow:
    """An HTTP server that answers when it is told to, and knows how many wait."""

    def __init__(self):
        slow = self
        self.waiting, self.gone, self.let_go = 0, threading.Event(), threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                slow.waiting += 1
                slow.let_go.wait(60)
                body = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass
                slow.gone.set()

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.do_GET()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def slow():
    server = Slow()
    yield server
    server.let_go.set()
    server.server.shutdown()
    server.server.server_close()


# The way of a conversation ------------------------------------------------------------------------------


def test_an_assistant_finds_a_dashboard_and_its_queries(start, grafana_double, board):
    client = start(**of_role(grafana_double))
    found = client.told("search_dashboards", query="board")["dashboards"]
    assert [one["uid"] for one in found] == [board]
    assert client.told("get_dashboard_summary", uid=board)["title"] == "Board of mcp"
    assert client.told("get_dashboard_panel_queries", uid=board, panelId=4, variables={"job": "api"})["queries"][0][
        "processed_query"] == 'up{job="api"}'
    result = client.call("get_dashboard_property", uid=board, jsonPath="$.panels[*].title")["result"]
    assert result["content"][0]["text"] == '["Up"]'
    link = client.told("generate_deeplink", resourceType="panel", dashboardUid=board, panelId=4)["url"]
    assert "viewPanel=" in link
    status, errors, rest = client.end()
    assert status == OK and rest == []
    assert "only those that read" in errors


def test_prometheus_is_asked_straight_and_through_grafana(start, grafana_double, new_directory):
    server = Prometheus(new_directory("prometheus"), "127.0.0.1:9").start()  # nothing is there: up is 0
    url = f"http://127.0.0.1:{server.port}"
    wait_until(lambda: server.query("up"), 30, "something was scraped")
    try:
        grafana_double.add_datasource("mcp-prom", "prometheus", url, name="Prom of mcp")
        for client in (start(PROMETHEUS_URL=url), start(**of_role(grafana_double))):
            now = client.told("query_prometheus", expr="up")
            assert now["series"][0]["labels"]["job"] == "tunneld"
            over = client.told("query_prometheus", expr="up", startTime="now-1m", stepSeconds="1")
            assert over["total"] == 1
            assert "up" in client.told("list_prometheus_metric_names", regex="^up$")["names"]
            assert client.told("list_prometheus_label_values", labelName="job")["values"] == ["tunneld"]
            assert "parse error" in client.refused("query_prometheus", expr="up{")
    finally:
        server.stop()


def test_the_newest_revision_needs_no_handshake(start, grafana_double, board):
    client = start(shake_hands=False, **of_role(grafana_double))
    assert client.ask("server/discover", {"_meta": META})["result"]["supportedVersions"][0] == "2026-07-28"
    result = client.ask("tools/call", {"name": "get_dashboard_summary", "arguments": {"uid": board},
                                       "_meta": META})["result"]
    assert result["resultType"] == "complete" and result["structuredContent"]["uid"] == board
    assert client.ask("tools/list")["error"]["code"] == -32602


def test_the_list_is_small_and_says_what_each_tool_does(start):
    client = start("--allow-writes")
    listed = client.ask("tools/list")["result"]
    assert len(json.dumps(listed, separators=(",", ":"))) < 32 * 1024
    tools = {tool["name"]: tool for tool in listed["tools"]}
    for tool in tools.values():
        assert tool["inputSchema"]["type"] == "object" and not tool["inputSchema"]["additionalProperties"]
    assert tools["query_prometheus"]["annotations"] == {"readOnlyHint": True}
    assert tools["delete_alert_rule"]["annotations"] == {"readOnlyHint": False, "destructiveHint": True}


# Every tool that reads ----------------------------------------------------------------------------------

RULE = {"uid": "mcp-rule", "title": "Rule of mcp", "ruleGroup": "mcp", "folderUID": "mcp-folder", "condition": "C",
        "noDataState": "OK", "execErrState": "Error", "for": "5m",
        "data": [{"refId": "C", "datasourceUid": "__expr__", "relativeTimeRange": {"from": 600, "to": 0},
                  "model": {"refId": "C", "type": "math", "expression": "1 > 2"}}]}
ONCALL = {"schedules": [{"id": "S1", "name": "Primary", "type": "web", "team_id": "T1", "on_call_now": ["U1"]}],
          "users": [{"id": "U1", "username": "ann", "email": "ann@example.org", "role": "admin", "timezone": "UTC"}],
          "teams": [{"id": "T1", "name": "Platform", "email": ""}], "on_call_shifts": [],
          "alert_groups": [{"id": "G1", "title": "Error rate", "state": "new", "created_at": "2026-01-31T10:00:00Z"}]}


@pytest.fixture
def everything(start, grafana_double, board, loki, tunneld, new_directory):
    """A server for whom all is there, and an incident and a silence to ask for."""
    directory = new_directory("everything")
    prometheus = Prometheus(directory / "prometheus", f"127.0.0.1:{tunneld.admin_port}").start()
    token = tunneld.token("root", "free", scope="tunnel:admin")
    assert ask(tunneld, token, "/t/web/hello").status == 200
    wait_until(lambda: prometheus.query("count_over_time(tunnel_requests_total[1m]) > 2"), 30, "three scrapes")
    grafana_double.add_datasource("p", "prometheus", f"http://127.0.0.1:{prometheus.port}", name="Prometheus")
    grafana_double.add_datasource("l", "loki", loki.url, name="Loki")
    loki.settings(patterns=True)
    loki.push({"app": "api", "service": "tunneld"}, [f"error: request {number} failed" for number in range(50)])
    grafana_double.preset(
        ("POST", "/api/v1/provisioning/alert-rules", RULE),
        ("POST", "/api/annotations", {"text": "deployed", "tags": ["deploy"]}))
    grafana_double.control("POST", "changes", [{"rule": "mcp-rule", "previous": "Normal", "current": "Alerting",
                                                "labels": {"tunnel": "alpha"}, "values": {"A": 0.97}}])
    grafana_double.control("POST", "oncall", ONCALL)
    environment = {
        **of_role(grafana_double, "editor"), "TUNNEL_ADMIN_URL": tunneld.admin_url(), "TUNNEL_TOKEN": token,
        "TUNNEL_SERVER": f"wss://127.0.0.1:{tunneld.port}", "TUNNELCTL_INCIDENT_BACKEND": "local",
        "TUNNELCTL_INCIDENT_DATABASE": str(directory / "incidents.db"),
        "TUNNEL_PAGERDUTY_ROUTING_KEY": "0123456789abcdef0123456789abcdef",
        "TUNNEL_SLACK_API_URL": "https://hooks.slack.com/services/T0/B0/x"}
    ctl = Tunnelctl(directory, environment)
    for words in (("set", "request.slow=2s"), ("reset", "request.slow")):  # two events
        ctl.run("settings", *words).expect(OK)
    incident = ctl.run("incident", "create", "--title", "api fails").expect(OK).out.strip()
    silence = ctl.run("alert", "silence", "create", "--matcher", "a=b").expect(OK).out.strip()
    yield start("--ca-file", str(tunneld.certificate), **environment), incident, silence
    prometheus.stop()


def arguments_of_reads(incident, silence):
    """For each tool arguments with which it finds something."""
    logs = {"logql": '{app="api"}'}
    return {
        "list_datasources": {}, "get_datasource": {"uid": "p"}, "check_datasources_health": {},
        "query_prometheus": {"expr": "tunnel_requests_total", "startTime": "now-5m", "stepSeconds": 15},
        "query_prometheus_histogram": {"metric": "tunnel_request_duration_seconds", "percentile": 95},
        "list_prometheus_metric_names": {"regex": "tunnel_.*"},
        "list_prometheus_label_names": {"matches": [{"filters": [{"name": "job", "type": "=", "value": "tunneld"}]}]},
        "list_prometheus_label_values": {"labelName": "job"}, "list_prometheus_metric_metadata": {},
        "query_loki_logs": logs, "query_loki_stats": logs, "query_loki_patterns": logs,
        "find_error_pattern_logs": {"name": "why", "labels": {"app": "api"}, "baseline": "1h"},
        "list_loki_label_names": {}, "list_loki_label_values": {"labelName": "app"},
        "search_dashboards": {"query": "board"}, "get_dashboard_by_uid": {"uid": "mcp-board"},
        "get_dashboard_summary": {"uid": "mcp-board"},
        "get_dashboard_property": {"uid": "mcp-board", "jsonPath": "$.title"},
        "get_dashboard_panel_queries": {"uid": "mcp-board"}, "search_folders": {},
        "generate_deeplink": {"resourceType": "dashboard", "dashboardUid": "mcp-board",
                              "timeRange": {"from": 1767225600000, "to": 1767229200000}},
        "list_alert_rules": {}, "get_alert_rule_by_uid": {"uid": "mcp-rule"}, "get_alert_state": {"uid": "mcp-rule"},
        "list_contact_points": {}, "list_alert_silences": {}, "get_alert_silence": {"silenceId": silence},
        "get_alert_history": {"uid": "mcp-rule"}, "list_incidents": {"status": "active"},
        "get_incident": {"id": incident}, "export_incident": {"incidentId": incident},
        "get_incident_context": {"incidentId": incident}, "get_annotations": {"tags": ["deploy"]},
        "get_current_oncall_users": {"scheduleId": "S1"}, "list_oncall_schedules": {}, "list_oncall_users": {},
        "list_oncall_teams": {}, "list_alert_groups": {"state": "new"}, "get_alert_group": {"alertGroupId": "G1"},
        "tunnel_status": {}, "tunnel_events": {"limit": 5}, "tunnel_breakers": {}, "tunnel_diagnose": {},
        "explain_error_code": {"code": "TUNNEL_015"}, "monitor_plan": {}, "monitor_verify": {}}


@pytest.mark.deadline(180)
@pytest.mark.short_client
def test_every_tool_that_reads_answers_and_is_brief(everything, grafana_double):
    client, incident, silence = everything
    calls = arguments_of_reads(incident, silence)
    assert set(calls) == set(client.tools()), "each tool has a row"
    grafana_double.mode(read_only=True)
    told = {}
    for name, arguments in calls.items():
        result = client.ask("tools/call", {"name": name, "arguments": arguments})["result"]
        assert not result.get("isError"), (name, result)
        size = sum(len(part["text"]) for part in result["content"])
        assert 2 < size < (64 if name == "monitor_verify" else 24) * 1024, (name, size)
        told[name] = result.get("structuredContent")
    assert grafana_double.violations() == [], "reading changes nothing"
    assert told["export_incident"]["markdown"].startswith("# "), told["export_incident"]
    assert not told["get_incident_context"]["noted"] and told["get_incident_context"]["markdown"]
    assert "name: not used" in told["find_error_pattern_logs"]["_warnings"]
    assert told["find_error_pattern_logs"]["patterns"] and told["query_loki_logs"]["lines"]
    assert told["query_prometheus"]["series"] and told["query_prometheus_histogram"]["series"]
    assert told["get_alert_history"]["changes"] and told["list_alert_groups"]["groups"]
    assert told["get_current_oncall_users"]["schedules"][0]["on_call"][0]["username"] == "ann"
    assert told["tunnel_events"]["events"] and told["list_incidents"]["incidents"]
    assert "from=1767225600000" in told["generate_deeplink"]["url"]
    more = client.told("tunnel_events", after=0, limit=1)
    assert "more exist" in more["_warnings"] and len(more["events"]) == 1


# Writes -------------------------------------------------------------------------------------------------


def test_incidents_are_told_as_grafanas_server_has_them(start, new_directory):
    client = start("--allow-writes", TUNNELCTL_INCIDENT_BACKEND="local",
                   TUNNELCTL_INCIDENT_DATABASE=str(new_directory("db").with_suffix(".db")))
    made = client.told("create_incident", title="Tunnel Circuit Breaker Open", severity="Major", roomPrefix="tunnel",
                       status="active", labels=[{"key": "component", "label": "circuit-breaker"}],
                       attachUrl="https://grafana.example.com/d/health?a=b", attachCaption="p95=3 s")
    assert made["severity"] == "error" and made["labels"] == [{"key": "component", "value": "circuit-breaker"}]
    assert made["attachments"] == [{"url": "https://grafana.example.com/d/health?a=b", "caption": "p95=3 s"}]
    client.told("add_activity_to_incident", incidentId=made["id"], body="It opened.",
                eventTime="2026-01-31T10:00:00.000Z")
    assert client.told("enrich_incident", incidentId=made["id"])["noted"]
    notes = client.told("get_incident", id=made["id"])["notes"]
    assert [note["at"][:19] for note in notes if note["body"] == "It opened."] == ["2026-01-31T10:00:00"]
    assert len([note for note in notes if note["kind"] == "note"]) == 2
    assert [one["id"] for one in client.told("list_incidents", status="active", limit=10,
                                             labels={"component": "circuit-breaker"})["incidents"]] == [made["id"]]


def test_nothing_is_written_unless_it_was_allowed(start, grafana_double, board):
    client = start(**of_role(grafana_double, "admin"))
    tools = client.tools()
    assert tools and all(tool["annotations"]["readOnlyHint"] for tool in tools.values())
    for name, arguments in {"create_folder": {"title": "X"}, "delete_alert_rule": {"uid": "x"},
                            "update_dashboard": {"uid": board, "operations": []}}.items():
        assert name not in tools
        error = client.call(name, **arguments)["error"]
        assert error["code"] == -32602 and "--allow-writes" in error["message"]
    assert grafana_double.writes() == []


@pytest.mark.short_client
def test_writes_that_were_allowed_arrive(start, grafana_double, board):
    client = start("--allow-writes", **of_role(grafana_double, "admin"))
    assert client.told("create_folder", title="From an assistant", uid="mcp-new")["uid"] == "mcp-new"
    saved = client.told("update_dashboard", uid=board, message="m",
                        operations=[{"op": "replace", "path": "$.title", "value": "Renamed"}])
    assert saved["version"] == 2
    assert client.told("get_dashboard_property", uid=board, jsonPath="$")["title"] == "Renamed"
    client.told("update_dashboard", dashboard={**BOARD, "uid": "mcp-second"}, folderUid="mcp-new")
    for _ in range(2):  # the same title is the same dashboard
        third = {"title": "Third, of a guide", "panels": []}
        made = client.told("create_dashboard", dashboard=third, folderUid="mcp-new", overwrite=True)
        assert made["uid"] == "third-of-a-guide"
    assert len(client.told("search_dashboards", query="Third")["dashboards"]) == 1
    assert client.told("get_dashboard_summary", uid="mcp-second")["folder"]["uid"] == "mcp-new"
    assert "standard input: " in client.refused("update_dashboard", dashboard={"uid": "x"})
    made = client.told("create_annotation", text="deployed", tags=["deploy"])
    assert client.told("get_annotations", tags=["deploy"])["annotations"][0]["text"] == "deployed", made


def test_a_context_that_only_reads_refuses_writes(start, grafana_double, new_directory):
    folder = new_directory("config")
    folder.mkdir()
    (folder / "token").write_text(grafana_double.tokens["admin"])
    (folder / "token").chmod(0o600)
    (folder / "config.yaml").write_text(
        f"current: prod\ncontexts:\n  - name: prod\n    grafana_url: {grafana_double.url}\n"
        f"    token_file: {folder / 'token'}\n    read_only: true\n")
    client = start("--allow-writes", "--config", str(folder / "config.yaml"))
    assert client.told("list_datasources")["datasources"] == []
    assert "read_only" in client.refused("create_folder", title="X")
    assert grafana_double.writes() == []


# What goes wrong ----------------------------------------------------------------------------------------


def test_failures_are_told_to_the_assistant(start, grafana_double):
    client = start(**of_role(grafana_double))
    assert "exit status 1" in client.refused("get_dashboard_summary", uid="nowhere")
    assert "valid: uid" in client.refused("get_dashboard_summary", dashboard="nowhere")
    assert "exit status 1" in client.refused("get_dashboard_summary", uid="--help")
    nowhere = start(GRAFANA_URL="http://127.0.0.1:9")
    assert "exit status 69" in nowhere.refused("list_datasources")
    assert "exit status 78" in start().refused("list_datasources")


def test_a_secret_stays_where_it_is(start, grafana_double):
    token = grafana_double.tokens["viewer"]
    client = start(**of_role(grafana_double))
    answers = [client.call(name) for name in ("list_datasources", "list_contact_points", "list_alert_rules")]
    answers.append(client.call("get_datasource", uid="nowhere"))
    assert token not in json.dumps(answers)
    assert token not in client.end()[1]


def test_garbage_is_answered_and_survived(start):
    client = start()
    for line, code in (("nonsense\n", -32700), ("{}\n", -32600), ("[]\n", -32600), ("\x00\x01\n", -32700),
                       ('{"jsonrpc":"2.0","id":1,"method":"nonsense"}\n', -32601), (b"\xff\xfe\n", -32700)):
        client.write(line)
        assert client.answer()["error"]["code"] == code, line
    client.write("\n \r\n")
    assert client.ask("ping")["result"] == {}


@pytest.mark.deadline(120)
def test_a_huge_line_is_refused_in_bounded_memory(start):
    client = start()
    peak = memory(client)
    block = b"x" * (1 << 20)
    for _ in range(64):
        client.write(block)
    client.write("\n")
    assert client.answer()["error"]["code"] == -32600
    assert client.ask("ping")["result"] == {}
    assert memory(client) - peak < 32 << 20


def memory(client):
    with open(f"/proc/{client.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


# Several at once ----------------------------------------------------------------------------------------


def test_answers_come_as_calls_end(start, slow):
    client = start(PROMETHEUS_URL=slow.url)
    client.send("tools/call", {"name": "query_prometheus", "arguments": {"expr": "up"}}, id="slow")
    wait_until(lambda: slow.waiting, 20, "the call arrives")
    client.send("tools/call", {"name": "explain_error_code", "arguments": {"code": "TUNNEL_015"}}, id="fast")
    assert client.answer()["id"] == "fast"
    slow.let_go.set()
    assert client.answer()["id"] == "slow"


def test_a_cancelled_call_ends_and_is_not_answered(start, slow):
    client = start(PROMETHEUS_URL=slow.url)
    client.send("tools/call", {"name": "query_prometheus", "arguments": {"expr": "up"}}, id=77)
    wait_until(lambda: slow.waiting, 20, "the call arrives")
    client.send("notifications/cancelled", {"requestId": 77, "reason": "no longer needed"})
    assert client.ask("ping")["result"] == {}
    status, _, rest = client.end(10)
    assert status == OK and rest == [], "though the other side never answered"


def test_a_call_has_a_deadline(start, slow):
    client = start("--deadline", "1", PROMETHEUS_URL=slow.url)
    assert "gave up after 1 s; ask for less" in client.refused("query_prometheus", expr="up")


def test_a_write_that_took_too_long_may_have_been_done(start, grafana_double):
    grafana_double.fault(path="/api/folders", method="POST", delay=4, applied=True, status=200, answer="{}")
    client = start("--allow-writes", "--deadline", "1", **of_role(grafana_double, "admin"))
    assert "it may have been done: look before saying it again" in client.refused("create_folder", title="X")


# The end ------------------------------------------------------------------------------------------------


def test_what_was_asked_before_the_end_is_answered(start, grafana_double, board):
    client = start(**of_role(grafana_double))
    for number in range(10):
        client.send("tools/call", {"name": "get_dashboard_summary", "arguments": {"uid": board}}, id=number)
    status, _, rest = client.end()
    assert status == OK
    assert sorted(answer["id"] for answer in rest) == list(range(10))
    assert not any(answer["result"].get("isError") for answer in rest)


def test_sigterm_ends_it_in_the_middle_of_a_call(start, slow):
    client = start(PROMETHEUS_URL=slow.url)
    client.send("tools/call", {"name": "query_prometheus", "arguments": {"expr": "up"}}, id=1)
    wait_until(lambda: slow.waiting, 20, "the call arrives")
    client.process.terminate()
    assert client.process.wait(10) == OK
    assert client.answer()["result"]["isError"]


def test_sigterm_ends_it_while_its_answers_wait_for_a_reader(new_directory):
    directory = new_directory("mcp")
    directory.mkdir(parents=True)
    theirs, ours = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([str(binary()), "mcp"], cwd=directory, env={"HOME": str(directory)},
                               stdin=subprocess.PIPE, stdout=ours, stderr=subprocess.PIPE)
    try:
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}\n'
                            b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}\n')
        process.stdin.flush()
        # The list is larger than the pipe, which nobody empties.
        wait_until(lambda: not select.select([], [ours], [], 0)[1], 20, "the pipe is full")
        process.terminate()
        assert process.wait(10) == OK
    finally:
        process.kill()
        process.wait()
        for file in (process.stdin, process.stderr):
            file.close()
        os.close(ours)
        os.close(theirs)


def test_it_ends_when_nobody_reads_its_answers(new_directory):
    directory = new_directory("mcp")
    directory.mkdir(parents=True)
    theirs, ours = os.pipe()
    process = subprocess.Popen([str(binary()), "mcp"], cwd=directory, env={"HOME": str(directory)},
                               stdin=subprocess.PIPE, stdout=ours, stderr=subprocess.PIPE)
    os.close(ours)
    os.close(theirs)
    process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    process.stdin.flush()
    errors = process.stderr.read().decode()  # its input stays open
    assert process.wait(10) == UNAVAILABLE
    assert "takes no more answers" in errors
    process.stdin.close()
    process.stderr.close()
