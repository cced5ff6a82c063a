"""The circuit breaker of one user and one service: when it opens, what it lets through, when it closes, and
that nobody else feels it."""

import json
import socket

import pytest
import websockets

from callers.http import ask, outcome
from callers.operator import Operator
from callers.raw_http import RawHttp, request
from callers.websocket import stream
from programs.loopback import free_port, wait_until

DOWN = (503, "TUNNEL_001")
OPEN = (503, "TUNNEL_014")
TO_DIE = 5


@pytest.fixture
def flaky(new_origin):
    """A service that can be taken away and brought back on its port."""
    return new_origin()


@pytest.fixture
def daemon(new_tunneld, flaky, origin):
    """Opens after five failures, for so long that only an operator ends it."""
    return guarded(new_tunneld, flaky, origin)


def guarded(new_tunneld, flaky, origin, **breaker):
    return new_tunneld(breaker={"failures": TO_DIE, **breaker}, services=[
        {"name": "flaky", "target": f"127.0.0.1:{flaky.ports['http']}", "allow": ["*"]},
        {"name": "web", "target": f"127.0.0.1:{origin.ports['http']}", "allow": ["*"]},
        {"name": "dead", "target": f"127.0.0.1:{free_port()}", "allow": ["*"]}])


def ask_flaky(daemon, token, path="hello", *fields):
    return ask(daemon, token, f"/t/flaky/{path}", *fields)


def open_it(daemon, token, flaky):
    flaky.stop()
    for _ in range(TO_DIE):
        assert outcome(ask_flaky(daemon, token)) == DOWN
    assert outcome(ask_flaky(daemon, token)) == OPEN


# Opening ------------------------------------------------------------------------------------------


@pytest.mark.short
def test_it_opens_after_five_failures_in_a_row_and_refuses_at_once(daemon, flaky):
    token = daemon.token("ann")
    open_it(daemon, token, flaky)
    answer = ask_flaky(daemon, token)
    assert outcome(answer) == OPEN
    assert 1 <= int(answer.value("Retry-After")) <= 60
    assert json.loads(answer.body)["error"]["retryAfter"] == int(answer.value("Retry-After"))
    assert daemon.metric("tunnel_circuit_breaker_state", service="flaky") == 1
    assert daemon.metric("tunnel_circuit_breaker_state", service="web") == 0
    assert daemon.metric("tunnel_circuit_breakers", state="open") == 1
    assert daemon.metric("tunnel_circuit_breaker_transitions_total", to="open") == 1


@pytest.mark.short
def test_only_that_user_and_that_service_are_shut_out(daemon, flaky):
    ann, ben = daemon.token("ann"), daemon.token("ben")
    open_it(daemon, ann, flaky)
    assert ask(daemon, ann).status == 200, "his other services work"
    assert outcome(ask_flaky(daemon, ben)) == DOWN, "another user finds out for himself"
    assert outcome(ask(daemon, ann, "/t/dead/")) == DOWN
    flaky.start()
    assert ask_flaky(daemon, ben).status == 200
    assert outcome(ask_flaky(daemon, ann)) == OPEN


def test_four_failures_and_a_success_begin_anew(daemon, flaky):
    token = daemon.token("ann")
    for _ in range(3):
        flaky.stop()
        assert [outcome(ask_flaky(daemon, token)) for _ in range(4)] == [DOWN] * 4
        flaky.start()
        assert ask_flaky(daemon, token).status == 200


@pytest.mark.short
@pytest.mark.parametrize("status", [400, 404, 429, 500, 502, 503])
def test_what_the_service_itself_answers_is_no_failure(daemon, status):
    token = daemon.token("ann")
    assert [ask_flaky(daemon, token, f"status/{status}").status for _ in range(8)] == [status] * 8
    assert Operator.of(daemon).breakers() == []


def test_callers_that_leave_are_no_failure(daemon, flaky, unique):
    token = daemon.token("ann")
    for number in range(8):
        with RawHttp(daemon.connect(tls=False)) as connection:
            connection.send(request("GET", f"/t/flaky/slow?gate={unique}{number}", token=token))
            wait_until(lambda: f"GET /slow?gate={unique}{number}" in flaky.requests(), 20, "it is under way")
    assert ask_flaky(daemon, token).status == 200


def test_a_service_that_hangs_counts_by_its_timeouts(daemon, unique):
    token = daemon.token("ann")
    answers = [outcome(ask_flaky(daemon, token, f"slow?gate={unique}", "X-Tunnel-Timeout: 1")) for _ in range(TO_DIE)]
    assert answers == [(504, "TUNNEL_007")] * TO_DIE
    assert outcome(ask_flaky(daemon, token)) == OPEN


async def test_streams_and_requests_share_the_breaker(daemon, flaky):
    token = daemon.token("ann")
    flaky.stop()
    for _ in range(TO_DIE):
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            await stream(daemon, "flaky", token, tls=False)
        assert refused.value.status_code == 503
    assert outcome(ask_flaky(daemon, token)) == OPEN
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        await stream(daemon, "flaky", token, tls=False)
    assert refused.value.status_code == 503
    assert int(refused.value.headers["Retry-After"]) >= 1


def test_a_denied_service_never_opens_a_breaker(daemon):
    token = daemon.token("mallory", "free")
    for _ in range(10):
        assert outcome(ask(daemon, token, "/t/nosuch/")) == (403, "TUNNEL_017")
    assert Operator.of(daemon).breakers() == []


# Closing ------------------------------------------------------------------------------------------


@pytest.mark.short
def test_after_its_time_two_good_probes_close_it(new_tunneld, flaky, origin):
    daemon = guarded(new_tunneld, flaky, origin, reset="300ms")
    token = daemon.token("ann")
    open_it(daemon, token, flaky)
    flaky.start()
    wait_until(lambda: ask_flaky(daemon, token).status == 200, 20, "a probe comes through")
    # A probe counts when its answer has left: who asks at once may find it still out.
    wait_until(lambda: ask_flaky(daemon, token).status == 200, 20, "another comes through")
    wait_until(lambda: Operator.of(daemon).breakers() == [], 10, "the second closes it")
    assert [ask_flaky(daemon, token).status for _ in range(5)] == [200] * 5
    transitions = {to: daemon.metric("tunnel_circuit_breaker_transitions_total", to=to) for to in ("open", "half_open", "closed")}
    assert transitions["closed"] == 1 and transitions["open"] >= 1 and transitions["half_open"] >= 1
    assert daemon.metric("tunnel_circuit_breaker_state", service="flaky") == 0


def test_while_one_probe_is_out_nobody_else_passes(new_tunneld, flaky, origin, unique):
    daemon = guarded(new_tunneld, flaky, origin, reset="200ms", max_reset="1h")
    token = daemon.token("ann")
    open_it(daemon, token, flaky)
    flaky.start()
    probes = []

    def probing():
        connection = RawHttp(daemon.connect(tls=False))
        connection.send(request("POST", f"/t/flaky/execute?id={unique}&gate={unique}", "Content-Length: 0", token=token))
        probes.append(connection)
        connection.socket.settimeout(0.3)
        try:
            connection.read_head()
        except TimeoutError:
            return True  # not refused: it is the probe
        return False

    wait_until(probing, 20, "a probe is out")
    probe = probes[-1]
    assert [outcome(ask_flaky(daemon, token)) for _ in range(10)] == [OPEN] * 10
    (breaker,) = Operator.of(daemon).breakers()
    assert breaker["state"] == "half_open"
    assert daemon.metric("tunnel_circuit_breaker_state", service="flaky") == 2
    flaky.open_gate(unique)
    probe.socket.settimeout(20)
    assert probe.read_answer("POST").status == 200
    assert flaky.executions(unique) == 1
    assert ask_flaky(daemon, token).status == 200, "the second probe"
    assert [ask_flaky(daemon, token).status for _ in range(5)] == [200] * 5


def test_a_probe_that_fails_opens_it_again_for_longer(new_tunneld, flaky, origin):
    daemon = guarded(new_tunneld, flaky, origin, reset="200ms", max_reset="1h")
    operator, token = Operator.of(daemon), daemon.token("ann")
    open_it(daemon, token, flaky)
    seen = []

    def reopened():
        answer = outcome(ask_flaky(daemon, token))
        if answer == DOWN:
            seen.append(answer)
        return len(seen) >= 3

    wait_until(reopened, 30, "three probes have failed")
    (breaker,) = operator.breakers()
    assert breaker["state"] == "open"
    assert ask_flaky(daemon, token).value("Retry-After") in ("1", "2"), "200 ms doubled three times"
    flaky.start()
    operator.reset_breaker(breaker["id"]).expect(200)
    assert ask_flaky(daemon, token).status == 200


@pytest.mark.short
def test_an_operator_may_reset_it(daemon, flaky):
    operator, token = Operator.of(daemon), daemon.token("ann")
    open_it(daemon, token, flaky)
    (breaker,) = operator.breakers()
    assert (breaker["state"], breaker["service"], breaker["upstream"], breaker["failures"]) == ("open", "flaky", "far", TO_DIE)
    assert len(breaker["lastErrors"]) == 5 and all("TUNNEL_001" in error for error in breaker["lastErrors"])
    assert breaker["refused"] >= 1
    assert "ann" not in json.dumps(breaker["principal"]), "the principal is a hash"
    flaky.start()
    assert outcome(ask_flaky(daemon, token)) == OPEN
    reply = operator.reset_breaker(breaker["id"]).expect(200)
    assert (reply.json()["id"], reply.json()["state"]) == (breaker["id"], "closed")
    assert ask_flaky(daemon, token).status == 200
    assert operator.reset_breaker(breaker["id"]).status == 404
    assert operator.reset_breaker("0" * 16).status == 404
    assert operator.reset_breaker("../../x").status in (400, 404)


# Told ---------------------------------------------------------------------------------------------


@pytest.mark.short
def test_each_change_is_an_event_with_what_somebody_needs_to_act(new_tunneld, flaky, origin):
    daemon = guarded(new_tunneld, flaky, origin, reset="300ms")
    operator, token = Operator.of(daemon), daemon.token("zoe-of-the-test")
    open_it(daemon, token, flaky)
    flaky.start()

    def closed():
        ask_flaky(daemon, token)
        return "breaker.closed" in operator.kinds()

    wait_until(closed, 20, "it closed")
    events = [event for event in operator.events() if event["kind"].startswith("breaker.")]
    assert events[0]["kind"] == "breaker.opened" and events[-1]["kind"] == "breaker.closed"
    assert "breaker.half_open" in [event["kind"] for event in events]
    opened, closed = events[0]["data"], events[-1]["data"]
    assert (opened["service"], opened["upstream"], opened["failures"]) == ("flaky", "far", TO_DIE)
    assert len(opened["lastErrors"]) == TO_DIE and opened["nextProbe"]
    assert closed["breaker"] == opened["breaker"]
    assert closed["refusedRequests"] >= 1 and closed["openForMs"] >= 300
    assert closed["successes"] >= 1
    assert "zoe-of-the-test" not in json.dumps(events)


def test_an_open_breaker_turns_neither_liveness_nor_readiness(daemon, flaky):
    open_it(daemon, daemon.token("ann"), flaky)
    assert daemon.admin("/healthz")[0] == daemon.admin("/readyz")[0] == 200
    assert Operator.of(daemon).diagnostics()["circuitBreaker"]["state"] == "open"


@pytest.mark.deadline(120)
def test_a_thousand_services_that_were_asked_for_and_failed_stay_bounded(new_tunneld):
    """Each user's failures cost memory only up to a bound, and the last ones still work."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        daemon = new_tunneld(breaker={"failures": 1}, services=[
            {"name": f"dead{n}", "target": f"127.0.0.1:{nobody.getsockname()[1]}", "allow": ["*"]} for n in range(100)])
        before = daemon.program.resident_bytes()
        for user in range(5):
            token = daemon.token(f"user{user}")
            with RawHttp(daemon.connect(tls=False)) as connection:
                for number in range(100):
                    connection.send(request("GET", f"/t/dead{number}/", token=token))
                    assert outcome(connection.read_answer()) == DOWN
        operator = Operator.of(daemon)
        assert len({one["id"] for one in operator.breakers()}) == 500
        assert daemon.program.resident_bytes() - before < 16 << 20
