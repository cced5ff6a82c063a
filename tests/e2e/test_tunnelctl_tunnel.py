"""tunnelctl's commands for tunneld itself: status, top, events, breakers, settings, log level, drain, audit."""

import base64
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

import pytest

from callers.raw_http import RawHttp, request
from callers.websocket import stream
from programs.loopback import free_port, wait_until
from programs.tunnelctl import BAD_INPUT, CONFIG, CONFLICT, DENIED, INTERRUPTED, OK, UNAVAILABLE, USAGE, Tunnelctl


def admin_of(daemon):
    return daemon.token("root", "free", scope="tunnel:admin")


def operator(new_directory, daemon, token=None):
    """tunnelctl beside that daemon; the token comes by the environment and must never show."""
    environment = {"TUNNEL_ADMIN_URL": daemon.admin_url()}
    if token:
        environment["TUNNEL_TOKEN"] = token
    return Tunnelctl(new_directory("tunnelctl"), environment, secrets=[token])


@pytest.fixture
def ctl(new_directory, tunneld):
    return operator(new_directory, tunneld, admin_of(tunneld))


@pytest.fixture
def own(new_directory, new_tunneld):
    """A daemon of the test's own, and tunnelctl for it."""

    def make(**configuration):
        daemon = new_tunneld(**configuration)
        return daemon, operator(new_directory, daemon, admin_of(daemon))

    return make


def call(daemon, path="/t/web/hello", token=None):
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", path, token=token or daemon.token()))
        return connection.read_answer().status


def break_service(daemon, count=6):
    """Opens the breaker of a service that nobody serves. Each caller has one of its own, so one caller asks."""
    token = daemon.token("bob")
    for _ in range(count):
        assert call(daemon, "/t/dead/", token) == 503


# Status ---------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_status_shows_a_serving_daemon(ctl, tunneld, token):
    assert call(tunneld, token=token) == 200
    told = ctl.run("status", "--interval", "0", "--output", "json").expect(OK).json()
    assert (told["serving"], told["state"], told["withToken"]) == (True, "serving", True)
    assert told["requests"]["total"] >= 1 and told["requests"]["p95Ms"] > 0
    assert {"connections", "queue", "breakers", "ssh", "auditHealthy", "eventsHealthy", "users"} <= set(told)
    shown = ctl.run("status", "--interval", "0").expect(OK)
    assert ": serving, up " in shown.out
    for word in ("connections", "requests", "latency", "queue", "breakers", "ssh", "records", "resources"):
        assert re.search(rf"^  {word} ", shown.out, re.M), shown


@pytest.mark.short_client
def test_without_a_token_status_tells_what_one_would_add(ctl):
    shown = ctl.with_environment(TUNNEL_TOKEN=None).run("status", "--interval", "0").expect(OK)
    assert ": serving" in shown.out and "TUNNEL_TOKEN_FILE" in shown.err


def test_the_token_may_come_from_a_file(ctl, tunneld):
    (ctl.directory / "token").write_text(ctl.environment["TUNNEL_TOKEN"] + "\n")
    bare = ctl.with_environment(TUNNEL_TOKEN=None)
    for run in (bare.with_environment(TUNNEL_TOKEN_FILE="token").run("status", "--interval", "0", "-o", "json"),
                bare.run("status", "--interval", "0", "-o", "json", "--token-file", "token")):
        assert run.expect(OK).json()["withToken"]
    bare.run("status", "--token-file", "missing").expect(CONFIG)


def test_status_ends_by_what_it_found(ctl, tunneld):
    ctl.run("status", "--admin-url", f"http://127.0.0.1:{free_port()}").expect(UNAVAILABLE)
    ctl.with_environment(TUNNEL_TOKEN="nonsense").run("status", "--interval", "0").expect(DENIED)
    plain = tunneld.token("eve", "enterprise", scope="tunnel:metrics")
    refused = ctl.with_environment(TUNNEL_TOKEN=plain).run("status", "--interval", "0").expect(DENIED)
    assert "TUNNEL_011" in refused.err


def test_status_measures_rates(own):
    daemon, ctl = own()
    call(daemon)
    told = ctl.run("status", "--interval", "0.2", "--output", "json").expect(OK).json()
    assert told["requests"]["perSecond"] == 0 and told["requests"]["overSeconds"] >= 0.2


async def test_top_lists_a_stream_and_its_traffic(ctl, tunneld, token):
    async with stream(tunneld, "echo", token) as ws:
        await ws.send(b"x" * 1000)
        await ws.recv()
        told = ctl.run("top", "--iterations", "2", "--interval", "0.2", "--output", "json").expect(OK)
        looks = [json.loads(line) for line in told.out.splitlines()]
        assert len(looks) == 2
        assert any(one["service"] == "echo" for one in looks[1]["connectionList"]), looks[1]
        assert "perSecond" in looks[1]["requests"] and "userList" in looks[1]
        shown = ctl.run("top", "--once").expect(OK)
        assert "echo" in shown.out and "\x1b" not in shown.out


class Terminal:
    """tunnelctl on a terminal of its own."""

    def __init__(self, ctl, *arguments):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (30, 100))
        self.slave, self.before = slave, termios.tcgetattr(slave)
        environment = {"PATH": os.environ["PATH"], "HOME": str(ctl.directory), "TERM": "xterm", **ctl.environment}
        self.process = subprocess.Popen([str(ctl.program()), *arguments], stdin=slave, stdout=slave, stderr=slave,
                                        env=environment, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.shown = b""

    def wait_for(self, text, seconds=20):
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until, f"{text} never came: {self.shown!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 65536)

    def press(self, keys):
        os.write(self.master, keys)

    def end(self, seconds=20):
        """Its status, once everything it wrote was read and the terminal is as before."""
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < until, f"still runs: {self.shown!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0.1)[0]:
            self.shown += os.read(self.master, 65536)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is not as it was"
        assert self.shown.count(b"\x1b[?1049h") == self.shown.count(b"\x1b[?1049l") == 1, self.shown
        assert self.shown.rindex(b"\x1b[?25h") > self.shown.rindex(b"\x1b[?25l")
        os.close(self.master)
        os.close(self.slave)
        return self.process.returncode


@pytest.mark.short_client
@pytest.mark.parametrize("command", [("top",), ("status", "--watch")])
@pytest.mark.parametrize("keys, status", [(b"q", OK), (b"\x03", INTERRUPTED)])
def test_the_terminal_is_put_back(ctl, command, keys, status):
    terminal = Terminal(ctl, *command)
    terminal.wait_for(b"tunneld ")
    terminal.wait_for(b"\x1b[J")
    terminal.press(b"x\x1a")  # nothing to it
    terminal.press(keys)
    assert terminal.end() == status


class Lines:
    """tunnelctl on its way, whose output is read as it comes."""

    def __init__(self, ctl, *arguments):
        self.process = subprocess.Popen([str(ctl.program()), *arguments], cwd=ctl.directory, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env={"PATH": os.environ["PATH"], "HOME": str(ctl.directory), **ctl.environment})
        self.text = b""

    @property
    def events(self):
        return [json.loads(line) for line in self.text.splitlines(keepends=True) if line.endswith(b"\n")]

    def wait_for(self, condition, what, seconds=60):
        until = time.monotonic() + seconds
        while not condition(self.events):
            assert time.monotonic() < until and self.process.poll() is None, f"no {what}: {self.text!r}"
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                self.text += os.read(self.process.stdout.fileno(), 65536)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        with self.process.stdout:
            self.status = self.process.wait(20)


# Events and breakers ----------------------------------------------------------------------------------


def test_a_breaker_is_seen_followed_and_reset(own):
    daemon, ctl = own(breaker={"failures": 5})
    with Lines(ctl, "events", "--follow", "--limit", "0", "--output", "json") as following:
        break_service(daemon)
        following.wait_for(lambda events: any(one["kind"] == "breaker.opened" for one in events), "opening")
        breakers = ctl.run("breakers", "list", "--output", "json").expect(OK).json()["breakers"]
        (one,) = [one for one in breakers if one["state"] == "open"]
        assert one["service"] == "dead" and one["failures"] >= 5 and one["lastErrors"]
        told = ctl.run("status", "--interval", "0", "-o", "json").expect(OK).json()
        assert told["breakers"]["open"] == [one["id"]]
        assert one["id"] in ctl.run("top", "--once").expect(OK).out
        ctl.run("breakers", "reset", one["id"]).expect(OK)
        following.wait_for(lambda events: events[-1]["kind"] == "breaker.closed", "closing")
    assert following.status == INTERRUPTED
    ctl.run("breakers", "reset", "0" * 16).expect(BAD_INPUT)
    left = ctl.run("breakers", "list", "-o", "json").expect(OK).json()["breakers"]
    assert all(now["state"] == "closed" for now in left if now["id"] == one["id"])


@pytest.mark.deadline(120)
def test_events_are_followed_over_a_restart(own):
    daemon, ctl = own(breaker={"failures": 5})
    with Lines(ctl, "events", "--follow", "--limit", "0", "--output", "json") as following:
        following.wait_for(lambda events: events, "what happened before")
        daemon.stop()
        daemon.start()
        break_service(daemon)
        following.wait_for(lambda events: events[-1]["kind"] == "breaker.opened", "what happened since")
        numbers = [one["id"] for one in following.events]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "each once, in order"


def test_events_need_a_token(ctl):
    ctl.with_environment(TUNNEL_TOKEN=None).run("events").expect(DENIED)
    ctl.with_environment(TUNNEL_TOKEN=None).run("events", "--follow").expect(DENIED)


# Settings, log level, drain, revocations ------------------------------------------------------------------


def hot_duration(ctl):
    settings = ctl.run("settings", "get", "--hot", "--output", "json").expect(OK).json()["values"]
    assert "request.slow" in settings, "the documented example is hot"
    return settings["request.slow"]


def test_settings_are_changed_and_taken_back(own):
    daemon, ctl = own()
    before = hot_duration(ctl)
    changed = ctl.run("settings", "set", "request.slow=2s").expect(OK)
    assert changed.out.startswith("request.slow: ")
    assert hot_duration(ctl)["value"] == "2s" and hot_duration(ctl)["from"] == "admin"
    ctl.run("settings", "reset", "request.slow").expect(OK)
    assert hot_duration(ctl) == before
    assert daemon.program.alive()


def test_a_wrong_setting_changes_nothing_and_says_why(own):
    _, ctl = own()
    before = ctl.run("settings", "get").expect(OK).out
    assert "request.slow" in ctl.run("settings", "set", "request.slow=never").expect(BAD_INPUT).err
    ctl.run("settings", "set", "no.such.key=1").expect(BAD_INPUT)
    ctl.run("settings", "set", "request.slow=2s", "no.such.key=1").expect(BAD_INPUT)
    ctl.run("settings", "set", "state_dir=/tmp").expect(CONFLICT)
    ctl.run("settings", "set", "nonsense").expect(BAD_INPUT)
    ctl.run("settings", "reset").expect(USAGE)
    assert ctl.run("settings", "get").expect(OK).out == before


def test_the_log_level_is_set_for_a_time(own):
    _, ctl = own(log={"level": "INFO"})
    assert ctl.run("log-level", "get").expect(OK).out == "INFO\n"
    assert ctl.run("log-level", "set", "debug", "--ttl", "1h").expect(OK).out == "INFO -> DEBUG for 1h\n"
    assert ctl.run("log-level", "get").expect(OK).out == "DEBUG\n"


@pytest.mark.short_client
def test_drain_ends_the_daemon(own):
    daemon, ctl = own()
    ctl.run("drain").expect(USAGE)
    ctl.run("drain", "--yes").expect(OK)
    assert daemon.program.wait(60) == 0
    ctl.run("status", "--interval", "0").expect(UNAVAILABLE)


def test_an_address_that_failed_too_often_is_pardoned(own):
    daemon, ctl = own(penalty={"enabled": True, "throttle_after": 2, "block_after": 3})
    for _ in range(3):
        call(daemon, token="not.a.token")
    assert ctl.run("status", "--interval", "0", "-o", "json").expect(OK).json()["addressesBlocked"] == 1
    ctl.run("pardon", "127.0.0.1").expect(OK)
    assert ctl.run("status", "--interval", "0", "-o", "json").expect(OK).json()["addressesBlocked"] == 0
    ctl.run("pardon", "127.0.0.1").expect(BAD_INPUT)


def test_a_revoked_token_is_refused(own):
    daemon, ctl = own()
    token = daemon.token("mallory")
    assert call(daemon, token=token) == 200
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    ctl.run("revoke", "--issuer", claims["iss"], "--subject", "mallory", "--reason", "laptop stolen").expect(OK)
    wait_until(lambda: call(daemon, token=token) == 401, 10, "the token is refused")
    assert call(daemon, token=daemon.token("alice")) == 200
    ctl.run("revoke").expect(USAGE)
    assert "mallory" in ctl.run("revocations").expect(OK).out


async def test_a_connection_is_closed_from_afar(ctl, tunneld, token):
    async with stream(tunneld, "echo", token) as ws:
        await ws.send(b"x")
        await ws.recv()
        listed = json.loads(ctl.run("top", "--once", "--output", "json").expect(OK).out)["connectionList"]
        (one,) = [one for one in listed if one["service"] == "echo"]
        ctl.run("connection", "close", one["id"]).expect(OK)
        await ws.wait_closed()
    ctl.run("connection", "close", "no-such-id").expect(BAD_INPUT)


# Audit ------------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_the_audit_log_verifies_and_is_searched(own):
    daemon, ctl = own()
    assert call(daemon) == 200
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", token="not.a.token"))
        assert connection.read_answer().status == 401
    daemon.stop()
    directory = daemon.state / "audit"
    told = ctl.run("audit", "verify", "--directory", directory, "--output", "json").expect(OK).json()
    assert told["intact"] and told["firstSeq"] == 1 and told["lines"] >= 4
    found = ctl.run("audit", "search", "--directory", directory, "--event", "auth.failed", "-o", "json").expect(OK)
    assert json.loads(found.out.splitlines()[0])["event"] == "auth.failed"
    assert ctl.run("audit", "search", "--directory", directory, "--since", "1h", "--event", "request").expect(OK).out
    anchor = f"{told['lastSeq']}:{told['lastHash']}"
    ctl.run("audit", "verify", "--directory", directory, "--from", anchor).expect(OK)

    # One changed character.
    (file,) = sorted(directory.glob("*.jsonl"))
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"time":"2', b'"time":"1', 1)
    file.write_bytes(b"".join(lines))
    broken = ctl.run("audit", "verify", "--directory", directory).expect(BAD_INPUT)
    assert f"{file}:2: " in broken.err


def test_an_audit_log_that_is_not_there_is_said_so(ctl, new_directory):
    empty = new_directory("empty")
    empty.mkdir()
    for command in ("verify", "search"):
        for words in ((), ("--directory", empty), ("--directory", empty / "none")):
            ended = ctl.run("audit", command, *words).expect(BAD_INPUT)
            assert ended.err and not ended.out
