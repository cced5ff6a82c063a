"""Settings that change while the daemon runs: who may, what is refused whole, what takes effect at once, and
what stays after a restart."""

import concurrent.futures
import json

import pytest

from callers.http import ask, outcome
from callers.operator import Operator
from programs import audit
from programs.loopback import wait_until

LIMIT = "tiers.free.requests_per_minute"


@pytest.fixture
def daemon(new_tunneld):
    return new_tunneld()


@pytest.fixture
def operator(daemon):
    return Operator.of(daemon)


def value_of(operator, key):
    return operator.config()["values"][key]


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.short
def test_every_setting_is_shown_with_its_value_and_where_it_comes_from(daemon, operator):
    reply = operator.get("/api/tunnel/config").expect(200)
    config = reply.json()
    assert reply.value("ETag").strip('"') == config["etag"].strip('"')
    values = config["values"]
    assert values["listen"]["from"].startswith(str(daemon.config)) or "file" in values["listen"]["from"]
    assert values["request.slow"]["hot"] is True and values["listen"]["hot"] is False
    assert "default" in values["request.slow"]["from"]
    assert len(values) > 60
    for key, entry in values.items():
        assert set(entry) >= {"value", "from", "hot"}, key


def test_the_etag_changes_with_the_values_and_only_then(operator):
    first = operator.config()["etag"]
    assert operator.config()["etag"] == first
    operator.configure({"request.slow": "7s"}).expect(200)
    second = operator.config()["etag"]
    assert second != first
    operator.ask("POST", "/api/tunnel/config/reset", {}).expect(200)
    assert operator.config()["etag"] == first


# Who may ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def almost_operators(shared_tunneld):
    """Tokens of scopes that look like the one that counts."""
    return {scope: shared_tunneld.token("eve", "enterprise", scope=scope) for scope in (
        None, "tunnel:metrics", "tunnel:admin:read", "tunnel:administrator", "xtunnel:admin", "TUNNEL:ADMIN")}


@pytest.mark.short
@pytest.mark.parametrize("method,path,body", [
    ("GET", "/api/tunnel/config", None), ("PUT", "/api/tunnel/config", {"request.slow": "7s"}),
    ("POST", "/api/tunnel/config/reset", {}), ("PUT", "/api/tunnel/config/log-level", {"level": "TRACE"}),
    ("POST", "/api/tunnel/drain", {}), ("POST", "/api/tunnel/circuit-breakers/0123456789abcdef/reset", {}),
    ("POST", "/api/tunnel/revocations", {"tokenId": "x"}), ("GET", "/api/tunnel/revocations", None),
    ("DELETE", "/api/tunnel/connections/1", None), ("DELETE", "/api/tunnel/penalties/127.0.0.1", None),
    ("GET", "/api/tunnel/circuit-breakers", None), ("GET", "/api/tunnel/metrics/json", None),
    ("GET", "/api/tunnel/metrics/history?window=1h", None), ("GET", "/api/tunnel/metrics/users", None),
    ("GET", "/api/tunnel/metrics/user/0123456789abcdef", None), ("GET", "/api/tunnel/events", None)])
def test_nobody_without_the_exact_scope(tunneld, almost_operators, method, path, body):
    """On the shared daemon, which must be left as it was: all of it is refused."""
    before = Operator.of(tunneld).config()
    assert Operator(tunneld).ask(method, path, body).status == 401
    assert Operator(tunneld, "nonsense").ask(method, path, body).status == 401
    for scope, token in almost_operators.items():
        reply = Operator(tunneld, token).ask(method, path, body)
        assert (reply.status, reply.code) == (403, "TUNNEL_011"), scope
    for forged in ({"X-Forwarded-User": "root"}, {"X-Tunnel-Scope": "tunnel:admin"}, {"X-Original-URL": "/healthz"},
                   {"X-HTTP-Method-Override": "GET"}, {"Cookie": "token=x"}):
        assert Operator(tunneld).ask(method, path, body, headers=forged).status == 401
    assert Operator.of(tunneld).config() == before
    assert tunneld.admin("/readyz")[0] == 200


# Changing -----------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_hot_setting_takes_effect_with_the_next_request(daemon, operator):
    token = daemon.token("ann", "free")
    assert ask(daemon, token).value("X-RateLimit-Limit") is None
    reply = operator.configure({LIMIT: 6}).expect(200).json()
    assert reply["changes"] == {LIMIT: "0 -> 6"} and reply["etag"] and reply["message"]
    answers = [ask(daemon, token) for _ in range(12)]
    assert [answer.status for answer in answers].count(200) == 10
    assert answers[0].value("X-RateLimit-Limit") == "6"
    entry = value_of(operator, LIMIT)
    assert (entry["value"], entry["from"]) == (6, "admin")
    operator.configure({LIMIT: None}).expect(200)
    assert ask(daemon, token).status == 200, "null goes back to the file's value"
    assert value_of(operator, LIMIT)["value"] == 0


def test_each_kind_of_value_can_be_set(operator):
    changes = {"request.slow": "250ms", "penalty.enabled": True, "tiers.free.queue": 50, "queue.bytes": "32MiB",
               "log.level": "DEBUG", "allowed_origins": ["https://a.example.com"], "audit.on_error": "refuse"}
    try:
        reply = operator.configure(changes)
        assert reply.status == 200, reply
    finally:
        operator.ask("POST", "/api/tunnel/config/reset", {}).expect(200)
    assert set(reply.json()["changes"]) == set(changes)


@pytest.mark.short
def test_a_change_needs_the_etag_it_was_made_for(daemon, operator):
    assert operator.ask("PUT", "/api/tunnel/config", {"request.slow": "7s"}).status == 428
    for stale in ('"0000"', "*x", '""', "W/" + operator.get("/api/tunnel/config").value("ETag")):
        assert operator.ask("PUT", "/api/tunnel/config", {"request.slow": "7s"}, headers={"If-Match": stale}).status in (400, 412)
    assert value_of(operator, "request.slow")["value"] in ("5s", "5000ms")
    etag = operator.get("/api/tunnel/config").value("ETag")
    operator.configure({"request.slow": "7s"}, etag=etag).expect(200)
    assert operator.configure({"request.slow": "8s"}, etag=etag).status == 412
    assert value_of(operator, "request.slow")["value"] in ("7s", "7000ms")
    assert daemon.admin("/healthz")[0] == 200


def test_of_two_who_change_at_once_one_wins_and_the_other_is_told(daemon, operator):
    for turn in range(10):
        etag = operator.get("/api/tunnel/config").value("ETag")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda n: operator.configure({"request.slow": f"{10 + turn * 4 + n}s"}, etag=etag).status, range(4)))
        assert sorted(statuses) == [200, 412, 412, 412]


REFUSED = [
    ({"no.such.key": 1}, 400), ({"request.slow": "soon"}, 400), ({"request.slow": 5}, 400), ({"request.slow": "-1s"}, 400),
    ({"request.slow": "11m"}, 400), ({"request.slow": "0ms"}, 400), ({LIMIT: -1}, 400), ({LIMIT: 10_000_001}, 400),
    ({LIMIT: 1.5}, 400), ({LIMIT: "many"}, 400), ({LIMIT: True}, 400), ({LIMIT: [1]}, 400), ({LIMIT: {}}, 400),
    ({LIMIT: 1 << 70}, 400), ({"tiers.free.connections": 0}, 400), ({"tiers.free.queue": 9}, 400), ({"tiers.free.queue": 1001}, 400),
    ({"penalty.enabled": "perhaps"}, 400), ({"penalty.enabled": 1}, 400), ({"penalty.throttle_after": 0}, 400),
    ({"penalty.throttle_after": 50, "penalty.block_after": 10}, 400), ({"breaker.reset": "2h"}, 400),
    ({"breaker.reset": "20m"}, 400), ({"queue.bytes": "1KiB"}, 400), ({"queue.bytes": "9EiB"}, 400), ({"log.level": "LOUD"}, 400),
    ({"log.level": ""}, 400), ({"audit.on_error": "panic"}, 400), ({"audit.flush": "2s"}, 400), ({"audit.files": 0}, 400),
    ({"tracing.sample_percent": 101}, 400), ({"allowed_origins": ["not an origin"]}, 400), ({"allowed_origins": "x" * 60_000}, 400),
    ({"listen": ["0.0.0.0:1"]}, 409), ({"admin_listen": "0.0.0.0:9"}, 409), ({"threads": 3}, 409), ({"state_dir": "/etc"}, 409),
    ({"auth.issuer": "https://evil.test/"}, 409), ({"tls.key_file": "/etc/shadow"}, 409), ({"upstreams": []}, 409),
    ({"trusted_proxies": ["0.0.0.0/0"]}, 409), ({"log.output": "/etc/passwd"}, 409), ({"audit.directory": "/"}, 409),
    ({"ssh.max_channels": 1}, 409), ({"tracing.endpoint": "http://169.254.169.254/"}, 409),
]


@pytest.mark.short
def test_whatever_is_wrong_is_refused_by_name_and_changes_nothing(daemon, operator):
    before, wrong = operator.config(), []
    for change, status in REFUSED:
        reply = operator.configure({"request.slow": "9s", **change})
        if reply.status != status:
            wrong.append(f"{change}: {reply}")
            continue
        error = reply.json()["error"]
        if status == 400:
            named = any(key in json.dumps(error.get("details")) for key in change) or change == {LIMIT: 1 << 70}  # no JSON number of ours
            if reply.code != "TUNNEL_010" or not named:
                wrong.append(f"{change}: {reply}")
        if operator.config() != before:
            wrong.append(f"{change}: something was changed")
            operator.ask("POST", "/api/tunnel/config/reset", {})
    assert not wrong, "\n".join(wrong)
    assert daemon.metric("tunnel_errors_total", code="TUNNEL_010") > 0


def test_several_faults_are_told_together(operator):
    reply = operator.configure({"breaker.reset": "2h", "request.slow": "soon", LIMIT: -1}).expect(400)
    details = reply.json()["error"]["details"]
    assert len(details) == 3
    for key in ("breaker.reset", "request.slow", LIMIT):
        assert key in json.dumps(details)


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[]", b"null", b'"x"', b"{", b'{"request.slow":"6s","request.slow":"7s"}', b"\xff\xfe",
                                 b"{}" + b" " * 70_000, b"[" * 40_000, b'{"request.slow":"6s"}x', b'{"a":' * 100])
def test_a_body_that_is_no_object_is_refused(operator, raw):
    before = operator.config()
    etag = operator.get("/api/tunnel/config").value("ETag")
    reply = operator.ask("PUT", "/api/tunnel/config", raw=raw, headers={"If-Match": etag, "Content-Type": "application/json"})
    assert reply.status in (400, 413), reply
    assert operator.config() == before


def test_a_change_of_nothing_or_to_the_same_value_is_fine(operator):
    before = operator.config()
    assert operator.configure({}).expect(200).json()["changes"] == {}
    assert operator.configure({LIMIT: before["values"][LIMIT]["value"]}).status == 200
    assert value_of(operator, LIMIT)["value"] == before["values"][LIMIT]["value"]


# Staying ------------------------------------------------------------------------------------------


@pytest.mark.short
def test_changes_outlive_a_restart_and_a_kill_until_they_are_reset(daemon, operator):
    operator.configure({LIMIT: 6, "request.slow": "7s"}).expect(200)
    for end in (daemon.stop, lambda: daemon.program.kill()):
        end()
        daemon.start()
        assert (value_of(operator, LIMIT)["value"], value_of(operator, LIMIT)["from"]) == (6, "admin")
    assert ask(daemon, daemon.token("ann", "free")).value("X-RateLimit-Limit") == "6"
    reply = operator.ask("POST", "/api/tunnel/config/reset", {"keys": [LIMIT]}).expect(200).json()
    assert set(reply["changes"]) == {LIMIT}
    assert value_of(operator, "request.slow")["from"] == "admin"
    operator.ask("POST", "/api/tunnel/config/reset", {}).expect(200)
    assert "admin" not in {entry["from"] for entry in operator.config()["values"].values()}
    daemon.stop()
    daemon.start()
    assert "admin" not in {entry["from"] for entry in operator.config()["values"].values()}


@pytest.mark.parametrize("body", [{"keys": ["no.such.key"]}, {"keys": "x"}, {"keys": [1]}, {"key": [LIMIT]}, [], {"keys": [LIMIT], "x": 1}])
def test_a_reset_of_nothing_known_is_refused(operator, body):
    operator.configure({LIMIT: 6}).expect(200)
    assert operator.ask("POST", "/api/tunnel/config/reset", body).status == 400
    assert value_of(operator, LIMIT)["value"] == 6


def test_sighup_keeps_what_the_operator_set_and_takes_what_the_file_says(daemon, operator):
    operator.configure({LIMIT: 6}).expect(200)
    daemon.configuration = {**daemon.configuration, "request": {"slow": "9s"}}
    daemon.write_config()
    daemon.program.send(1)
    wait_until(lambda: value_of(operator, "request.slow")["value"] in ("9s", "9000ms"), 10, "the file's value is in force")
    assert value_of(operator, LIMIT)["value"] == 6


def test_a_broken_overlay_stops_the_start_and_names_the_file(daemon, operator):
    operator.configure({LIMIT: 6}).expect(200)
    daemon.stop()
    overlay = daemon.state / "config_overlay.json"
    assert overlay.stat().st_mode & 0o777 == 0o600
    good = overlay.read_text()
    for broken in ("nonsense", '{"no.such.key":1}', good[:-3]):
        overlay.write_text(broken)
        program = daemon.launch()
        assert program.wait(20) == 78, broken
        assert "config_overlay.json" in program.output()
        program.kill()
    overlay.write_text(good)
    daemon.start()
    assert value_of(operator, LIMIT)["value"] == 6


@pytest.mark.short
def test_every_change_is_audited_and_an_event(daemon, operator):
    operator.configure({LIMIT: 6}).expect(200)

    def written():
        return [entry for entry in audit.lines(daemon.state / "audit") if entry["event"] == "config.changed"]

    wait_until(written, 10, "the audit line is there")
    (entry,) = written()
    assert (entry["key"], str(entry["from"]), str(entry["to"])) == (LIMIT, "0", "6") and entry["by"]
    assert "root" not in json.dumps(entry), "who it was is a hash"
    wait_until(lambda: "config.changed" in operator.kinds(), 10, "the event is there")


# The log level ------------------------------------------------------------------------------------


def test_a_log_level_with_a_time_limit_goes_back_by_itself(daemon, operator):
    operator.ask("PUT", "/api/tunnel/config/log-level", {"level": "DEBUG", "ttl": 1}).expect(200)
    assert operator.get("/api/tunnel/config/log-level").json()["level"] == "DEBUG"
    wait_until(lambda: operator.get("/api/tunnel/config/log-level").json()["level"] == "INFO", 10, "it is back")
    assert daemon.admin("/healthz")[0] == 200


# Other calls that make no sense -------------------------------------------------------------------


@pytest.mark.short
def test_admin_calls_that_make_no_sense_are_4xx_and_change_nothing(daemon, operator):
    before, wrong = operator.config(), []
    calls = [
        ("DELETE", "/api/tunnel/config"), ("PATCH", "/api/tunnel/config"), ("GET", "/api/tunnel/config/reset"),
        ("GET", "/api/tunnel/drain"), ("PUT", "/api/tunnel/drain"), ("POST", "/api/tunnel/events"),
        ("DELETE", "/api/tunnel/connections"), ("DELETE", "/api/tunnel/connections/x"), ("DELETE", "/api/tunnel/connections/-1"),
        ("DELETE", "/api/tunnel/connections/99999999999999999999999"), ("DELETE", "/api/tunnel/connections/1/2"),
        ("GET", "/api/tunnel/connections/1"), ("POST", "/api/tunnel/circuit-breakers/reset"),
        ("POST", "/api/tunnel/circuit-breakers//reset"), ("POST", "/api/tunnel/circuit-breakers/x/open"),
        ("GET", "/api/tunnel/circuit-breakers/0123456789abcdef/reset"), ("DELETE", "/api/tunnel/circuit-breakers/0123456789abcdef"),
        ("GET", "/api/tunnel/metrics/history?window=1y"), ("GET", "/api/tunnel/metrics/history?aggregation=never&window=1h"),
        ("GET", "/api/tunnel/metrics/json?window=-5m"), ("GET", "/api/tunnel/metrics/json?window=x"),
        ("GET", "/api/tunnel/metrics/users?limit=-1"), ("GET", "/api/tunnel/metrics/users?limit=x"),
        ("GET", "/api/tunnel/metrics/user/"), ("GET", "/api/tunnel/metrics/user/nobody"), ("GET", "/api/tunnel/metrics/user/%2e%2e"),
        ("PUT", "/api/tunnel/revocations"), ("DELETE", "/api/tunnel/penalties"), ("DELETE", "/api/tunnel/penalties/300.1.1.1"),
        ("GET", "/api/tunnel"), ("GET", "/api/tunnel/"), ("GET", "/api/tunnel/nosuch"), ("GET", "/api/tunnel/config/../config"),
    ]
    for method, path in calls:
        reply = operator.ask(method, path)
        if not 400 <= reply.status < 500 or not reply.code.startswith("TUNNEL_0"):
            wrong.append(f"{method} {path}: {reply}")
    for body in ({"level": "LOUD"}, {"level": 5}, {}, {"level": "INFO", "ttl": -1}, {"level": "INFO", "ttl": "x"}, []):
        reply = operator.ask("PUT", "/api/tunnel/config/log-level", body)
        if reply.status != 400:
            wrong.append(f"log-level {body}: {reply}")
    assert not wrong, "\n".join(wrong)
    assert operator.config() == before
    assert outcome(ask(daemon, daemon.token())) == (200, None)
