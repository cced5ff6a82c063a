"""What happened to the daemon, as a numbered sequence that nobody misses: pages, a live stream, and both again
after a restart or a kill."""

import json
import signal

import pytest

from callers.http import ask, outcome
from callers.operator import Operator
from programs.loopback import wait_until


@pytest.fixture
def daemon(new_tunneld):
    """One failure opens a breaker, an operator's reset closes it: two events as often as a test likes."""
    return new_tunneld(breaker={"failures": 1, "reset": "1h", "max_reset": "1h"})


def happen(daemon, operator, times=1, user="ann"):
    """So many times: breaker.opened and breaker.closed."""
    token = daemon.token(user)
    for _ in range(times):
        assert outcome(ask(daemon, token, "/t/dead/")) == (503, "TUNNEL_001")
        for breaker in operator.breakers():
            operator.reset_breaker(breaker["id"]).expect(200)


def wait_for(operator, kind, count=1):
    wait_until(lambda: operator.kinds().count(kind) >= count, 10, f"{count} {kind}")


# Pages --------------------------------------------------------------------------------------------


@pytest.mark.short
def test_events_are_numbered_without_gaps_from_the_start_on(daemon):
    operator = Operator.of(daemon)
    happen(daemon, operator, 3)
    wait_for(operator, "breaker.closed", 3)
    page = operator.get("/api/tunnel/events", after=0, limit=1000).expect(200).json()
    ids = [event["id"] for event in page["events"]]
    assert ids == list(range(page["first"], page["last"] + 1)) and page["first"] == 1
    assert not page["gap"]
    assert page["events"][0]["kind"] == "started"
    for event in page["events"]:
        assert event["time"].endswith("Z") and event["instanceId"] and isinstance(event["data"], dict), event


@pytest.mark.short
def test_a_page_begins_behind_the_id_asked_for_and_ends_at_the_limit(daemon):
    operator = Operator.of(daemon)
    happen(daemon, operator, 3)
    wait_for(operator, "breaker.closed", 3)
    everything = operator.events()
    middle = everything[2]["id"]
    assert operator.events(after=middle) == everything[3:]
    assert operator.events(after=middle, limit=2) == everything[3:5]
    assert operator.events(after=everything[-1]["id"]) == []
    ahead = operator.get("/api/tunnel/events", after=10**12).expect(200).json()
    assert ahead["gap"] and ahead["events"] == everything, "a number that never was: the log is another one, and begins anew"


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=1.5", "limit=0", "limit=x", "limit=-5", "after=99999999999999999999999"])
def test_a_page_that_makes_no_sense_is_refused(daemon, query):
    reply = Operator.of(daemon).ask("GET", f"/api/tunnel/events?{query}")
    assert (reply.status, reply.code) == (400, "TUNNEL_010"), query


@pytest.mark.short
def test_events_are_the_operators_alone(daemon):
    assert Operator(daemon).get("/api/tunnel/events").status == 401
    assert Operator(daemon, "nonsense").get("/api/tunnel/events").status == 401
    for scope in (None, "tunnel:metrics", "tunnel:admin2", "Tunnel:Admin"):
        assert Operator(daemon, daemon.token("eve", "enterprise", scope=scope)).get("/api/tunnel/events").code == "TUNNEL_011"
    assert Operator.of(daemon).ask("POST", "/api/tunnel/events", {}).status == 405


# A live stream ------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_stream_delivers_what_was_and_what_comes(daemon):
    operator = Operator.of(daemon)
    happen(daemon, operator)
    wait_for(operator, "breaker.closed")
    past = operator.events()
    with operator.stream(last_event_id=0) as events:
        assert events.status == 200 and events.content_type.startswith("text/event-stream")
        for event in past:
            number, kind, body = events.next()
            assert (number, kind) == (event["id"], event["kind"])
            assert body == event
        happen(daemon, operator)
        assert [events.next()[1] for _ in range(2)] == ["breaker.opened", "breaker.closed"]


def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(daemon):
    operator = Operator.of(daemon)
    seen = []
    for _ in range(4):
        with operator.stream(last_event_id=seen[-1] if seen else 0) as events:
            turns = operator.kinds().count("breaker.closed")
            happen(daemon, operator)
            wait_for(operator, "breaker.closed", turns + 1)
            wanted = operator.last_event()
            while not seen or seen[-1] < wanted:
                seen.append(events.next()[0])
    assert seen == list(range(1, len(seen) + 1))


def test_without_a_last_id_a_stream_begins_with_what_comes(daemon):
    operator = Operator.of(daemon)
    happen(daemon, operator)
    wait_for(operator, "breaker.closed")
    last = operator.last_event()
    with operator.stream(after=last) as events:
        happen(daemon, operator)
        assert events.next()[0] == last + 1


def test_sixteen_streams_and_no_more(daemon):
    operator = Operator.of(daemon)
    managers = [operator.stream(last_event_id=0) for _ in range(17)]
    streams = [manager.__enter__() for manager in managers]
    try:
        assert sorted(stream.status for stream in streams) == [200] * 16 + [503]
        assert operator.get("/api/tunnel/events").status == 200, "pages are still there"
    finally:
        for manager in managers:
            manager.__exit__(None, None, None)

    def one_more():
        with operator.stream(last_event_id=0) as events:
            return events.status == 200

    happen(daemon, operator)  # what is written to a reader that is gone shows that it is gone
    happen(daemon, operator)
    wait_until(one_more, 20, "a place is free again")


def test_streams_end_with_the_daemon(daemon):
    operator = Operator.of(daemon)
    with operator.stream(last_event_id=operator.last_event()) as events:
        daemon.program.send(signal.SIGTERM)
        kinds = []
        while event := events.next():
            kinds.append(event[1])
    assert daemon.program.wait(30) == 0
    assert "draining" in kinds, "the reader was told why"


# Over restarts ------------------------------------------------------------------------------------


@pytest.mark.short
def test_ids_go_on_after_an_orderly_restart(daemon):
    operator = Operator.of(daemon)
    happen(daemon, operator, 2)
    wait_for(operator, "breaker.closed", 2)
    before = operator.events()
    daemon.stop()
    daemon.start()
    after = operator.events()
    assert after[:len(before)] == before
    assert [event["id"] for event in after] == list(range(1, len(after) + 1))
    kinds = [event["kind"] for event in after[len(before):]]
    assert kinds[-1] == "started" and kinds.index("draining") < kinds.index("stopped") < kinds.index("started")


@pytest.mark.short
def test_a_kill_loses_no_event_that_was_seen_and_a_reader_goes_on_where_it_was(daemon):
    operator = Operator.of(daemon)
    with operator.stream(last_event_id=0) as events:
        happen(daemon, operator, 3)
        wait_for(operator, "breaker.closed", 3)
        wanted = operator.last_event()
        seen = []
        while not seen or seen[-1][0] < wanted:
            seen.append(events.next())
        daemon.program.kill()
    daemon.start()
    assert [(event["id"], event["kind"]) for event in operator.events()[:len(seen)]] == [one[:2] for one in seen]
    with operator.stream(last_event_id=wanted) as events:
        number, kind, _ = events.next()
        assert (number, kind) == (wanted + 1, "started")
        happen(daemon, operator)
        assert [events.next()[:2] for _ in range(2)] == [(wanted + 2, "breaker.opened"), (wanted + 3, "breaker.closed")]


def test_a_torn_last_line_is_survived(daemon):
    operator = Operator.of(daemon)
    happen(daemon, operator)
    wait_for(operator, "breaker.closed")
    before = operator.events()
    daemon.program.kill()
    (newest,) = sorted(daemon.state.rglob("*events*.jsonl"), key=lambda file: file.stat().st_mtime)[-1:]
    with open(newest, "ab") as file:
        file.write(b'{"id":99,"kind":"torn","ti')
    daemon.start()
    after = operator.events()
    assert after[:len(before)] == before and "torn" not in [event["kind"] for event in after]
    assert [event["id"] for event in after] == list(range(1, len(after) + 1))


@pytest.mark.deadline(120)
def test_the_log_stays_within_its_bytes_and_says_when_a_reader_was_away_too_long(new_tunneld):
    daemon = new_tunneld(breaker={"failures": 1, "reset": "1h", "max_reset": "1h"}, events={"bytes": "64KiB"})
    operator = Operator.of(daemon)
    happen(daemon, operator, 150)
    wait_for(operator, "breaker.closed", 1)
    daemon.stop()
    daemon.start()  # so that memory holds nothing of it
    page = operator.get("/api/tunnel/events", after=1, limit=1000).expect(200).json()
    assert page["first"] > 2 and page["gap"]
    size = sum(file.stat().st_size for file in daemon.state.rglob("*events*.jsonl"))
    assert size <= 80 * 1024
    ids = [event["id"] for event in page["events"]]
    assert ids == list(range(page["first"], page["first"] + len(ids)))


# What counts as an event --------------------------------------------------------------------------


@pytest.mark.short
def test_an_upstream_that_goes_and_comes_back_is_two_events(new_tunneld, new_sshd):
    far = new_sshd()
    daemon = new_tunneld(via=far, threads=1)
    operator, token = Operator.of(daemon), daemon.token()
    assert ask(daemon, token).status == 200
    far.kill()
    wait_until(lambda: outcome(ask(daemon, token)) == (503, "TUNNEL_001"), 20, "it is away")
    for _ in range(5):
        ask(daemon, token)
    far.start()
    wait_until(lambda: ask(daemon, token).status == 200, 30, "it is back")
    wait_for(operator, "upstream.back")
    changes = [event for event in operator.events() if event["kind"].startswith("upstream.")]
    assert [event["kind"] for event in changes] == ["upstream.lost", "upstream.back"]
    assert all(event["data"]["upstream"] == "far" for event in changes)


def test_no_event_holds_a_token_a_subject_or_a_path(daemon, unique):
    operator = Operator.of(daemon)
    token = daemon.token(f"subject-{unique}")
    assert outcome(ask(daemon, token, f"/t/dead/path-{unique}?query-{unique}")) == (503, "TUNNEL_001")
    wait_for(operator, "breaker.opened")
    text = json.dumps(operator.events())
    for secret in (token, f"subject-{unique}", f"path-{unique}", f"query-{unique}"):
        assert secret not in text
