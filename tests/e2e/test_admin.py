"""The admin listener: metrics, health and what an operator may change while the daemon runs."""

import json
import re
import subprocess

import pytest
import requests

from callers.raw_http import RawHttp, request
from callers.websocket import stream
from programs.loopback import wait_until
from programs.prometheus import Prometheus

ADMIN_PATHS = ["/metrics", "/api/tunnel/metrics", "/healthz", "/readyz", "/api/tunnel/diagnostics", "/api/tunnel/connections",
               "/api/tunnel/config", "/api/tunnel/config/log-level", "/api/tunnel/config/reset", "/api/tunnel/drain",
               "/api/tunnel/circuit-breakers", "/api/tunnel/metrics/json", "/api/tunnel/metrics/history",
               "/api/tunnel/metrics/user/alice"]
GUARDED = ["/api/tunnel/diagnostics", "/api/tunnel/connections", "/api/tunnel/config/log-level"]


@pytest.fixture(scope="module")
def admin_token(shared_tunneld):
    return shared_tunneld.token("root", "free", scope="tunnel:admin")


# Two listeners ------------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("path", ADMIN_PATHS)
@pytest.mark.parametrize("spelling", ["{}", "{}/", "/{}", "{}?x", "/./{}", "/t/..{}", "/%2e{}"])
def test_admin_paths_do_not_exist_in_public(tunneld, admin_token, path, spelling):
    for method in ("GET", "PUT", "POST"):
        with RawHttp(tunneld.connect()) as connection:
            connection.send(request(method, spelling.format(path), "Content-Length: 0", token=admin_token))
            answer = connection.read_answer()
        assert answer.status in (400, 403, 404), f"{method} {spelling.format(path)}: {answer}"
        assert b"# HELP" not in answer.body
        if spelling == "{}":
            assert answer.status == 404


@pytest.mark.parametrize("path", ["/t/web/hello", "/ws/echo"])
def test_doors_do_not_exist_on_the_admin_listener(tunneld, admin_token, path):
    assert tunneld.admin(path, token=admin_token)[0] == 404


@pytest.mark.short
@pytest.mark.parametrize("path", GUARDED)
def test_admin_pages_need_the_exact_scope(tunneld, admin_token, path):
    assert tunneld.admin(path, token=admin_token)[0] == 200
    assert tunneld.admin(path)[0] == 401
    assert tunneld.admin(path, token="nonsense")[0] == 401
    for scope in (None, "tunnel:admin:read", "tunnel:administrator", "admin", "TUNNEL:ADMIN", "tunnel:metrics"):
        status, body = tunneld.admin(path, token=tunneld.token("eve", "enterprise", scope=scope))
        assert (status, json.loads(body)["error"]["code"]) == (403, "TUNNEL_011"), scope


@pytest.mark.short
@pytest.mark.parametrize("path", ["/metrics", "/api/tunnel/metrics", "/healthz", "/readyz", "/api/tunnel/health"])
def test_what_machines_poll_is_open_on_loopback(tunneld, path):
    assert tunneld.admin(path)[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/../metrics", "//metrics", "/METRICS", "/favicon.ico"])
def test_other_paths_are_404(tunneld, path):
    assert tunneld.admin(path)[0] in (400, 404)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/api/tunnel/diagnostics"])
def test_pages_to_read_take_no_other_method(tunneld, admin_token, path):
    for method in ("POST", "PUT", "DELETE"):
        assert tunneld.admin(path, method=method, token=admin_token)[0] == 405


# Metrics ------------------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("path", ["/metrics", "/api/tunnel/metrics"])
def test_promtool_finds_nothing_to_complain_about(tunneld, token, path):
    exercise(tunneld, token)
    text = tunneld.admin(path)[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    complaints = (checked.stdout + checked.stderr).strip()
    if path == "/api/tunnel/metrics":
        # The older names keep their shape for the dashboards that use them, milliseconds included.
        complaints = "\n".join(line for line in complaints.splitlines() if not re.match(
            r"tunnel_(request_latency_ms|ssh_connection_time_ms)\b", line))
        assert complaints == ""
    else:
        assert (checked.returncode, complaints) == (0, "")


def exercise(tunneld, token):
    """A little of everything that is counted."""
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", token=token))
        connection.read_answer()
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/t/web/hello"))
        connection.read_answer()


@pytest.mark.short
@pytest.mark.deadline(90)
def test_prometheus_scrapes_it(tunneld, token, new_directory):
    exercise(tunneld, token)
    prometheus = Prometheus(new_directory("prometheus"), f"127.0.0.1:{tunneld.admin_port}").start()
    try:
        wait_until(lambda: prometheus.query('up{job="tunneld"}') and prometheus.query("up")[0][1] == 1, 30, "up is 1")
        assert prometheus.query('sum(tunnel_requests_total{status="success"})')[0][1] >= 1
        assert prometheus.query("tunnel_build_info")[0][1] == 1
        assert prometheus.query("process_resident_memory_bytes")[0][1] > 1 << 20
    finally:
        prometheus.stop()


def test_every_family_has_help_and_type_and_no_family_names_a_person(tunneld, token):
    tunneld.token("very-personal-subject")
    exercise(tunneld, tunneld.token("very-personal-subject"))
    text = tunneld.admin("/metrics")[1]
    helped = set(re.findall(r"^# HELP (\S+) \S", text, re.M))
    typed = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    assert helped == typed and helped
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name = re.match(r"[a-zA-Z_:]+", line).group()
            assert name in typed or re.sub(r"_(bucket|sum|count)$", "", name) in typed, line
    assert "very-personal-subject" not in text


def test_openmetrics_is_served_when_asked_for(tunneld):
    answer = requests.get(tunneld.admin_url("/metrics"), timeout=10, headers={
        "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert "# UNIT" in answer.text


@pytest.mark.short
def test_the_counters_agree_with_what_was_done(new_tunneld):
    daemon = new_tunneld()
    token = daemon.token()
    good, bad = 7, 3
    for _ in range(good):
        with RawHttp(daemon.connect()) as connection:
            connection.send(request("POST", "/t/web/echo", "Content-Length: 1000", token=token, body=b"x" * 1000))
            assert connection.read_answer().status == 200
    for _ in range(bad):
        with RawHttp(daemon.connect()) as connection:
            connection.send(request("GET", "/t/dead/", token=token))
            assert connection.read_answer().status == 503
    wait_until(lambda: daemon.metric("tunnel_requests_total") == good + bad, 10, "every request is counted")
    assert daemon.metric("tunnel_requests_total", status="success") == good
    assert daemon.metric("tunnel_requests_total", status="error") == bad
    assert daemon.metric("tunnel_errors_total", code="TUNNEL_001") == bad
    assert daemon.metric("tunnel_request_duration_seconds_count") == good + bad
    assert daemon.metric("tunnel_auth_attempts_total") >= good + bad
    assert daemon.metric("tunnel_bytes_received_total", side="client") == good * 1000
    assert daemon.metric("tunnel_bytes_sent_total", side="client") == good * 1000


# Health and insight -------------------------------------------------------------------------------


@pytest.mark.short
async def test_an_open_stream_is_listed_without_its_owners_name(tunneld, token, admin_token):
    async with stream(tunneld, "echo", token) as ws:
        await ws.send(b"x")
        await ws.recv()
        listed = tunneld.admin("/api/tunnel/connections", token=admin_token)[1]
        assert "echo" in listed
        assert token not in listed and "alice" not in listed
    json.loads(listed)


def test_diagnostics_sum_up_what_happened(tunneld, token, admin_token):
    exercise(tunneld, token)
    told = json.loads(tunneld.admin("/api/tunnel/diagnostics", token=admin_token)[1])
    assert {"timestamp", "service", "connections", "requests", "errors", "resources"} <= set(told)
    assert told["requests"]["total"] >= 1
    assert token not in json.dumps(told)


def test_a_lost_upstream_makes_the_daemon_neither_dead_nor_unready(new_tunneld, new_sshd):
    far = new_sshd()
    daemon = new_tunneld(via=far)
    far.kill()
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", token=daemon.token()))
        assert connection.read_answer().status == 503
    assert daemon.admin("/healthz")[0] == 200
    assert daemon.admin("/readyz")[0] == 200


# Log ----------------------------------------------------------------------------------------------


@pytest.mark.short
def test_every_log_line_is_json_with_the_promised_fields(new_tunneld):
    daemon = new_tunneld(log={"level": "DEBUG"})
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", "X-Correlation-ID: find-me-42", token=daemon.token()))
        connection.read_answer()
    wait_until(lambda: "find-me-42" in daemon.program.output(), 10, "the request is logged under its correlation id")
    for record in daemon.log_records():
        assert {"timestamp", "level", "message", "component"} <= set(record), record
        assert record["level"] in ("ERROR", "WARN", "INFO", "DEBUG", "TRACE")


@pytest.mark.short
def test_the_log_level_changes_while_it_runs(new_tunneld):
    daemon = new_tunneld(log={"level": "WARN"})
    admin, token = daemon.token("root", scope="tunnel:admin"), daemon.token()
    path = "/api/tunnel/config/log-level"
    assert json.loads(daemon.admin(path, token=admin)[1])["level"] == "WARN"

    def call(correlation):
        with RawHttp(daemon.connect()) as connection:
            connection.send(request("GET", "/t/web/hello", f"X-Correlation-ID: {correlation}", token=token))
            connection.read_answer()

    call("while-quiet")
    # What is to be said of it is said when its connection has gone, not when its answer has come.
    wait_until(lambda: json.loads(daemon.admin("/api/tunnel/connections", token=admin)[1])["total"] == 0, 10, "nobody is there")
    assert daemon.admin(path, method="PUT", token=admin, body={"level": "DEBUG"})[0] == 200
    call("while-loud")
    wait_until(lambda: "while-loud" in daemon.program.output(), 10, "the request is logged")
    assert "while-quiet" not in daemon.program.output()


def test_a_log_level_with_a_ttl_goes_back_by_itself(new_tunneld):
    daemon = new_tunneld(log={"level": "INFO"})
    admin = daemon.token("root", scope="tunnel:admin")
    path = "/api/tunnel/config/log-level"
    assert daemon.admin(path, method="PUT", token=admin, body={"level": "TRACE", "ttl": 1})[0] == 200
    assert json.loads(daemon.admin(path, token=admin)[1])["level"] == "TRACE"
    wait_until(lambda: json.loads(daemon.admin(path, token=admin)[1])["level"] == "INFO", 10, "the level is back")


@pytest.mark.parametrize("body", [{}, {"level": "LOUD"}, {"level": "debug"}, {"level": 5}, {"level": "INFO", "ttl": 0},
                                  {"level": "INFO", "ttl": "x"}, {"level": "INFO", "more": 1}, [], "INFO", None])
def test_a_nonsense_log_level_is_refused_with_details(tunneld, admin_token, body):
    status, text = tunneld.admin("/api/tunnel/config/log-level", method="PUT", token=admin_token, body=body)
    assert (status, json.loads(text)["error"]["code"]) == (400, "TUNNEL_010")


def test_trace_shows_no_payload_and_no_credentials(new_tunneld):
    daemon = new_tunneld(log={"level": "TRACE"})
    token = daemon.token()
    canaries = [daemon.secret(f"canary-{name}-5f3a9c") for name in ("body", "cookie", "query", "password", "answer")]
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("POST", f"/t/web/echo?q={canaries[2]}", f"Cookie: s={canaries[1]}", f"X-Api-Key: {canaries[3]}",
                                f"Content-Length: {len(canaries[0])}", token=token, body=canaries[0].encode()))
        assert connection.read_answer().body.decode() == canaries[0]
    daemon.check_secrets()
