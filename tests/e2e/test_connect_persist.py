"""`tunnelctl connect --http --persist`: what the end of one run leaves over reaches its service in the next, and what
may not be sent twice never is, whatever is cut."""

import collections
import concurrent.futures
import http.server
import pathlib
import random
import re
import signal
import subprocess
import threading

import pytest

from callers.http import outcome
from programs.faultproxy import FaultProxy
from programs.loopback import free_port, wait_until
from programs.services import services_of
from programs.tunneld import REPOSITORY
from programs.tunnelctl import CONFIG, CONFLICT, INTERRUPTED, OK, USAGE
from test_connect import new_connect  # noqa: F401
from test_connect_http import DONE, Caller, away, bring_back, execute, executed, lose, wait_until_read  # noqa: F401

HIGH = "X-Tunnel-Priority: high"
STOPPING = (503, "TUNNEL_004")


@pytest.fixture
def state(new_directory):
    return pathlib.Path(new_directory("state")) / "kept"


def kept_files(state):
    return sorted(state.glob("*/*.kept"))


def persisting(state, *more):
    return ("--persist", "--state-dir", str(state), *more)


def high(port, unique, name, *fields, method="PUT", **more):
    return execute(port, f"{unique}-{name}", HIGH, "X-Tunnel-Timeout: 60", *fields, method=method, **more)


def next_run(new_connect, daemon, state, *more, **settings):  # noqa: F811
    return new_connect(daemon, "--http", f"{free_port()}:web", "--retry", "forever", *persisting(state), *more, **settings)


def leave_over(away, state, unique, names):  # noqa: F811
    """A run that has kept PUT requests of these names; its daemon is away."""
    daemon, port, connect = away(*persisting(state))
    callers = [high(port, unique, name, body=name.encode()) for name in names]
    wait_until_read(port)
    assert connect.stop() == INTERRUPTED
    assert {caller.outcome() for caller in callers} <= {STOPPING}
    assert len(kept_files(state)) == len(names)
    return daemon


class Service:
    """Notes the requests that it gets, whole."""

    def __init__(self):
        seen = self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service():
    made = Service()
    yield made
    made.stop()


# From one run to the next -------------------------------------------------------------------------


@pytest.mark.short_client
@pytest.mark.deadline(120)
def test_what_is_left_of_high_priority_reaches_the_service_in_the_next_run(new_tunneld, new_connect, origin, nginx,  # noqa: F811
                                                                           service, state):
    services = [*services_of(origin, nginx), {"name": "mine", "target": f"127.0.0.1:{service.port}", "allow": ["*"]}]
    daemon, port = new_tunneld(services=services), free_port()
    connect = new_connect(daemon, "--http", f"{port}:mine", "--retry", "forever",
                          *persisting(state, "--persist-omit", "X-Session")).says("connected to")
    lose(daemon, connect)
    secrets = ("Authorization: Bearer of-the-service", "Cookie: sid=of-the-service", "X-Api-Key: of-the-service",
               "Proxy-Authorization: Basic of-the-service", "X-Session: of-the-service")
    wait = "X-Tunnel-Timeout: 60"
    kept = {"/put": Caller(port, "PUT", "/put?a=b", HIGH, wait, "X-Other: stays", *secrets, body=b"x" * 100_000),
            "/get": Caller(port, "GET", "/get", HIGH, wait),
            "/delete": Caller(port, "DELETE", "/delete", HIGH, wait),
            "/keyed": Caller(port, "POST", "/keyed", HIGH, wait, "Idempotency-Key: 7", body=b"pay")}
    others = [Caller(port, "POST", "/post", HIGH, wait, body=b"pay"), Caller(port, "GET", "/normal", wait),
              Caller(port, "GET", "/low", wait, "X-Tunnel-Priority: low")]
    wait_until_read(port)
    assert connect.stop() == INTERRUPTED
    assert "4 requests are kept, to be sent when tunnelctl connect --persist runs again" in connect.err
    ids = {}
    for path, caller in kept.items():
        answer = caller.answer()
        assert outcome(answer) == STOPPING and b"keeps this request, without its credentials" in answer.body
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT.*Z", answer.value("X-Tunnel-Kept-Until"))
        ids[path] = answer.value("X-Correlation-ID")
    for caller in others:
        answer = caller.answer()
        assert outcome(answer) == STOPPING and answer.value("X-Tunnel-Kept-Until") is None
    assert service.seen == []
    for place in state.rglob("*"):
        if place.is_file():
            assert place.stat().st_mode & 0o077 == 0
            assert not [word for word in (b"of-the-service", b"/put", b"xxxx", b"pay") if word in place.read_bytes()]

    bring_back(daemon)
    # Another token, and no port for that service.
    again = next_run(new_connect, daemon, state, token=daemon.token("alice", expires="30m"))
    again.says("4 requests are kept from an earlier run, to be sent now")
    wait_until(lambda: not kept_files(state), 30, "all are answered")
    for path, request_id in ids.items():
        again.says(f"mine, request {request_id}: answered with 204")
    assert sorted(path.split("?")[0] for _, path, _, _ in service.seen) == sorted(kept)
    method, path, fields, body = next(seen for seen in service.seen if seen[0] == "PUT")
    assert (path, body, fields["x-other"]) == ("/put?a=b", b"x" * 100_000, "stays")
    assert fields["host"] == "tunnel.test" and fields["x-correlation-id"] == ids["/put"]
    assert not {"authorization", "cookie", "x-api-key", "proxy-authorization", "x-session"} & set(fields)
    assert not [name for name in fields if name.startswith("x-tunnel-")]
    assert again.stop() == OK
    assert next_run(new_connect, daemon, state).says("connected to").stop() == OK
    assert len(service.seen) == 4


@pytest.mark.deadline(90)
def test_nothing_is_kept_unless_somebody_asks_for_it(away, new_connect, origin, unique):  # noqa: F811
    daemon, port, connect = away()
    caller = high(port, unique, "x")
    wait_until_read(port)
    assert connect.stop() == INTERRUPTED
    assert caller.outcome() == STOPPING
    assert not list(connect.directory.rglob("*.kept")) and not (connect.directory / ".local").exists()


@pytest.mark.deadline(90)
def test_the_same_request_twice_is_sent_once(away, new_connect, origin, unique, state):  # noqa: F811
    daemon, port, connect = away(*persisting(state))
    callers = [high(port, unique, "x", "Idempotency-Key: k", method="POST", body=b"pay") for _ in range(3)]
    wait_until_read(port)
    assert connect.stop() == INTERRUPTED
    assert [caller.outcome() for caller in callers] == [STOPPING] * 3
    bring_back(daemon)
    next_run(new_connect, daemon, state)
    wait_until(lambda: not kept_files(state), 30, "it is answered")
    assert origin.executions(f"{unique}-x") == 1


@pytest.fixture
def clock_shift(new_directory):
    directory = pathlib.Path(new_directory("clock"))
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", directory / "shift.so",
                    REPOSITORY / "tests/support/clock_shift.c", "-ldl"], check=True)

    def make(seconds):
        (directory / "shift").write_text(str(seconds))
        return {"LD_PRELOAD": str(directory / "shift.so"), "CLOCK_SHIFT": str(directory / "shift")}

    return make


@pytest.mark.deadline(90)
def test_what_is_older_than_five_minutes_is_dropped_and_told(away, new_connect, origin, unique, state, clock_shift):  # noqa: F811
    daemon = leave_over(away, state, unique, ["x"])
    bring_back(daemon)
    late = next_run(new_connect, daemon, state, environment=clock_shift(301))
    late.says("was kept for 5 minutes, is dropped and was not answered").says("connected to")
    assert kept_files(state) == [] and late.stop() == OK
    assert executed(origin, unique) == []


@pytest.mark.deadline(90)
def test_damaged_files_are_put_aside_and_the_others_sent(away, new_connect, origin, unique, state):  # noqa: F811
    daemon = leave_over(away, state, unique, ["a", "b", "c"])
    damaged = kept_files(state)[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    bring_back(daemon)
    again = next_run(new_connect, daemon, state).says("2 requests are kept from an earlier run")
    again.says(f"{damaged}: does not open with this key").says(f"put aside as {damaged.parent}/quarantine/{damaged.name}")
    wait_until(lambda: not kept_files(state), 30, "the others are answered")
    assert again.stop() == OK
    quiet = next_run(new_connect, daemon, state).says("connected to")
    assert quiet.stop() == OK and "quarantine" not in quiet.err
    assert len(executed(origin, unique)) == 2
    assert bytes(content) == (damaged.parent / "quarantine" / damaged.name).read_bytes()


@pytest.fixture
def small_disk(new_directory):
    path = pathlib.Path(new_directory("disk"))
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", path], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.deadline(120)
def test_a_full_disk_promises_nothing_that_it_does_not_hold(away, new_connect, origin, unique, small_disk):  # noqa: F811
    daemon, port, connect = away(*persisting(small_disk))
    callers = {str(n): high(port, unique, str(n), body=bytes(15_000)) for n in range(10)}
    wait_until_read(port)
    assert connect.stop() == INTERRUPTED
    answers = {name: caller.answer() for name, caller in callers.items()}
    assert {outcome(answer) for answer in answers.values()} == {STOPPING}
    told = {name for name, answer in answers.items() if answer.value("X-Tunnel-Kept-Until")}
    assert 0 < len(told) < 10
    assert connect.err.count("is not kept") == 10 - len(told) and "No space left on device" in connect.err
    for name, answer in answers.items():
        assert (b"could not be kept" in answer.body) == (name not in told)
    bring_back(daemon)
    again = next_run(new_connect, daemon, small_disk)
    wait_until(lambda: not kept_files(small_disk), 30, "what is there is answered")
    assert again.stop() == OK and "quarantine" not in again.err
    assert set(executed(origin, unique)) == told and list(small_disk.glob("*/*.kept*")) == []


# Who is killed ------------------------------------------------------------------------------------


@pytest.mark.deadline(120)
def test_a_kill_between_request_and_answer_loses_nothing(away, new_connect, origin, unique, state):  # noqa: F811
    daemon, port, connect = away(*persisting(state))
    caller = Caller(port, "PUT", f"/execute?id={unique}-x&gate={unique}", HIGH, "X-Tunnel-Timeout: 60", body=b"x")
    wait_until_read(port)
    assert connect.stop() == INTERRUPTED and caller.outcome() == STOPPING
    bring_back(daemon)
    killed = next_run(new_connect, daemon, state)
    wait_until(lambda: origin.executions(f"{unique}-x") == 1, 30, "it is at the service")
    killed.kill()
    assert len(kept_files(state)) == 1
    for _ in range(2):
        origin.open_gate(unique)
    again = next_run(new_connect, daemon, state)
    wait_until(lambda: not kept_files(state), 30, "it is answered")
    assert origin.executions(f"{unique}-x") == 2 and again.stop() == OK
    assert next_run(new_connect, daemon, state).says("connected to").stop() == OK
    assert origin.executions(f"{unique}-x") == 2


@pytest.mark.deadline(240)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whoever_was_told_that_a_request_is_kept_finds_it_sent_though_the_program_was_killed(away, new_connect, origin,  # noqa: F811
                                                                                            unique, state, seed):
    daemon, port, connect = away(*persisting(state))
    callers = {str(n): high(port, unique, str(n), body=bytes(10_000)) for n in range(40)}
    wait_until_read(port)
    connect.process.send_signal(signal.SIGTERM)
    wait_until(lambda: len(list(state.glob("*/*.kept*"))) >= random.Random(seed).randrange(1, 30), 30, "it writes")
    connect.process.kill()
    connect.process.wait(10)
    told = set()
    for name, caller in callers.items():
        try:
            answer = caller.answer()
        except (AssertionError, OSError, ValueError, EOFError, IndexError):
            continue  # cut off
        assert outcome(answer) == STOPPING
        if answer.value("X-Tunnel-Kept-Until"):
            told.add(name)
    on_disk = len(kept_files(state))
    assert on_disk >= len(told)
    bring_back(daemon)
    again = next_run(new_connect, daemon, state)
    wait_until(lambda: not kept_files(state), 60, "all are answered")
    assert again.stop() == OK and "quarantine" not in again.err
    seen = executed(origin, unique)
    assert told <= set(seen) and len(seen) == len(set(seen)) == on_disk


# Two at a time, and the command line --------------------------------------------------------------


@pytest.mark.short_client
def test_a_second_one_with_the_same_folder_is_refused(tunneld, new_connect, state):  # noqa: F811
    first = next_run(new_connect, tunneld, state).says("connected to")
    second = next_run(new_connect, tunneld, state)
    assert second.end() == CONFLICT
    assert "another tunnelctl connect keeps its requests in" in second.err and "--state-dir" in second.err
    assert "attempt" not in second.err
    elsewhere = next_run(new_connect, tunneld, state.with_name("elsewhere")).says("connected to")
    assert elsewhere.stop() == OK and first.stop() == OK
    assert next_run(new_connect, tunneld, state).says("connected to").stop() == OK


@pytest.mark.short_client
def test_the_folder_is_that_of_the_user_unless_another_is_named(tunneld, new_connect):  # noqa: F811
    connect = new_connect(tunneld, "--http", f"{free_port()}:web", "--persist").says("connected to")
    key, = connect.directory.glob(".local/state/tunnelctl/connect/*/key")
    assert key.stat().st_mode & 0o777 == 0o600 and key.parent.stat().st_mode & 0o777 == 0o700
    assert connect.stop() == OK


@pytest.mark.short_client
@pytest.mark.parametrize("arguments", [("--persist", "-L", "8080:web"), ("--persist", "--stdio", "web"),
                                       ("--http", "8080:web", "--persist-omit", "X-A"),
                                       ("--http", "8080:web", "--state-dir", "x")])
def test_a_command_line_that_makes_no_sense_is_refused(tunneld, new_connect, arguments):  # noqa: F811
    assert new_connect(tunneld, *arguments).end() == USAGE


@pytest.mark.short_client
def test_a_key_that_is_none_is_told_and_nothing_touched(tunneld, new_connect, state):  # noqa: F811
    assert next_run(new_connect, tunneld, state).says("connected to").stop() == OK
    key, = state.glob("*/key")
    key.write_bytes(b"short")
    connect = next_run(new_connect, tunneld, state)
    assert connect.end() == CONFIG
    assert f"{key}: is no key of tunnelctl" in connect.err
    assert key.read_bytes() == b"short"


# At most once -------------------------------------------------------------------------------------


@pytest.mark.deadline(240)
@pytest.mark.parametrize("window", ["0s", "60s"])
def test_posts_are_done_at_most_once_through_cuts_at_random_moments(new_tunneld, new_connect, new_directory, origin,  # noqa: F811
                                                                    unique, state, window):
    """With a window of 0 s every cut ends the link for good, and what was under way with it."""
    daemon, port = new_tunneld(link={"resume_window": window}), free_port()
    proxy = FaultProxy(new_directory("faultproxy"), daemon.port).start()
    proxy.rules(both={"delay_ms": 2, "jitter_ms": 2})
    connect = new_connect(daemon, "--http", f"{port}:web", "--retry", "forever", "--base-delay", "200ms",
                          *persisting(state), port=proxy.port).says("connected to")
    dice, over, cuts = random.Random(5), threading.Event(), []

    def cut():
        while not over.is_set():
            before = connect.err.count("connected")
            over.wait(dice.uniform(0.0, 0.15))
            proxy.cut(dice.choice(["rst", "fin"]))
            cuts.append(1)
            while connect.err.count("connected") == before and not over.wait(0.02):
                pass

    def post(number):
        # Some go out together, some wait for the next connection, so that cuts meet all kinds of moments.
        if number % 16 == 0:
            wait_until(lambda: len(cuts) >= number // 16, 60, "there was another cut")
        return execute(port, f"{unique}-{number}", "X-Tunnel-Timeout: 60", body=b"pay").outcome()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(post, range(200)))
    finally:
        over.set()
        cutter.join(20)
        proxy.stop()
    assert len(cuts) >= 10
    counts = collections.Counter(executed(origin, unique))
    for number, result in enumerate(outcomes):
        count = counts[str(number)]
        assert count <= 1, f"{number} was done {count} times"
        if result == DONE:
            assert count == 1
        elif result != (502, "TUNNEL_013"):
            assert result in {STOPPING, (503, "TUNNEL_006"), (504, "TUNNEL_007")} and count == 0, f"{number}: {result}"
    assert outcomes.count(DONE) > 100
    if window != "0s":
        assert outcomes.count(DONE) == 200, "a link that is resumed loses none"
    assert connect.stop() in (OK, INTERRUPTED) and kept_files(state) == []
