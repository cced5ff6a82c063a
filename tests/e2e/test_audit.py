"""The audit log: what it holds, that it never lies, and what happens when it cannot be written."""

import contextlib
import json
import socket
import subprocess
import threading

import pytest

from callers.http import ask, outcome
from callers.operator import Operator
from callers.websocket import HALF_CLOSE, stream
from programs import audit
from programs.loopback import wait_until
from programs.tunnelctl import binary as tunnelctl_binary


def directory_of(daemon):
    return daemon.state / "audit"


def entries(daemon, event=None):
    return [entry for entry in audit.lines(directory_of(daemon)) if event in (None, entry["event"])]


def wait_for(daemon, event, count=1):
    """The entries of that event once there are so many; they reach the disk within a second."""
    wait_until(lambda: len(entries(daemon, event)) >= count, 10, f"{count} {event}")
    return entries(daemon, event)


def verify(directory):
    return subprocess.run([tunnelctl_binary(), "audit", "verify", "--directory", directory], capture_output=True,
                          text=True, timeout=30, check=False)


# What it holds ------------------------------------------------------------------------------------


@pytest.mark.short
def test_every_request_is_one_line_that_names_no_path(new_tunneld, unique):
    daemon = new_tunneld()
    token = daemon.token("ann", "free")
    assert ask(daemon, token, f"/t/web/hello?secret-{unique}", "X-Correlation-ID: my-id").status == 200
    assert ask(daemon, token, "/t/web/status/404").status == 404
    assert outcome(ask(daemon, token, "/t/dead/")) == (503, "TUNNEL_001")
    lines = wait_for(daemon, "request", 3)
    assert [line["status"] for line in lines] == [200, 404, 503]
    assert (lines[0]["method"], lines[0]["service"], lines[0]["correlation_id"]) == ("GET", "web", "my-id")
    assert lines[2]["code"] == "TUNNEL_001"
    assert lines[0]["peer"].startswith("127.0.0.1") and lines[0]["bytes_out"] == 6
    text = json.dumps([line for line in entries(daemon) if line["event"] != "auth.accepted"])
    for secret in (token, f"secret-{unique}", "/hello", '"ann"'):
        assert secret not in text, secret


@pytest.mark.short
def test_what_was_refused_and_why_is_there(new_tunneld):
    daemon = new_tunneld(tiers={"free": {"requests_per_minute": 6, "connections": 1}})
    ann, mallory = daemon.token("ann", "premium"), daemon.token("mallory", "free")
    for wrong in ("nonsense", ann[:-6] + "AAAAAA", None):
        assert ask(daemon, wrong).status == 401
    assert outcome(ask(daemon, mallory, "/t/carols/")) == (403, "TUNNEL_017")
    for _ in range(12):
        ask(daemon, mallory)
    failures = wait_for(daemon, "auth.failed", 3)
    assert all(entry["peer"].startswith("127.0.0.1") and entry["reason"] for entry in failures)
    assert "sub" not in json.dumps(failures), "a name that nobody verified is not written down"
    assert len(wait_for(daemon, "auth.accepted", 1)) <= 2, "a token is accepted once, then remembered"
    assert wait_for(daemon, "service.denied")[0]["service"] == "carols"
    assert wait_for(daemon, "limit.exceeded")[0]["scope"] == "user"
    assert audit.broken(directory_of(daemon)) is None


async def test_a_stream_is_two_lines_its_begin_and_its_end(new_tunneld):
    daemon = new_tunneld()
    async with stream(daemon, "echo", daemon.token("ann"), subprotocols=[HALF_CLOSE], tls=False) as ws:
        await ws.send(b"x" * 1000)
        assert len(await ws.recv()) == 1000
    opened, closed = wait_for(daemon, "stream.opened")[0], wait_for(daemon, "stream.closed")[0]
    assert opened["service"] == closed["service"] == "echo"
    assert opened["correlation_id"] == closed["correlation_id"]
    assert (closed["bytes_in"], closed["bytes_out"], closed["close_code"]) == (1000, 1000, 1000)


@pytest.mark.short
def test_what_an_operator_did_and_who_was_turned_away_is_there(new_tunneld):
    daemon = new_tunneld(breaker={"failures": 1})
    operator, token = Operator.of(daemon), daemon.token("ann")
    ask(daemon, token, "/t/dead/")
    (breaker,) = operator.breakers()
    operator.reset_breaker(breaker["id"]).expect(200)
    operator.configure({"request.slow": "7s"}).expect(200)
    operator.ask("POST", "/api/tunnel/config/reset", {}).expect(200)
    operator.ask("PUT", "/api/tunnel/config/log-level", {"level": "DEBUG", "ttl": 60}).expect(200)
    operator.revoke(tokenId="abc", reason="a test").expect(201)
    assert Operator(daemon, token).get("/api/tunnel/config").status == 403
    assert Operator(daemon).ask("POST", "/api/tunnel/drain", {}).status == 401
    for event in ("breaker.reset", "config.changed", "config.reset", "log_level.changed", "token.revoked"):
        assert wait_for(daemon, event), event
    assert wait_for(daemon, "config.changed")[0]["key"] == "request.slow"
    denied = wait_for(daemon, "admin.denied", 2)
    assert [(entry["method"], entry["page"], entry["code"]) for entry in denied] == [
        ("GET", "/api/tunnel/config", "TUNNEL_011"), ("POST", "/api/tunnel/drain", "TUNNEL_002")]
    assert {entry["by"] for event in ("breaker.reset", "config.changed", "config.reset", "log_level.changed", "token.revoked")
            for entry in entries(daemon, event)} == {wait_for(daemon, "admin.call")[0]["principal"]}, "who did it"


def test_the_daemons_own_life_is_there(new_tunneld):
    daemon = new_tunneld()
    assert wait_for(daemon, "started")
    daemon.stop()
    events = [entry["event"] for entry in entries(daemon)]
    assert events[0] == "started" and events[-1] == "stopped" and "drain" in events


def test_decisions_and_changes_are_kept_without_the_requests_too(new_tunneld):
    daemon = new_tunneld(audit={"requests": False})
    assert ask(daemon, daemon.token()).status == 200
    assert ask(daemon, "nonsense").status == 401
    wait_for(daemon, "auth.failed")
    assert entries(daemon, "request") == []


def test_the_files_are_for_the_owner_and_his_group(new_tunneld):
    daemon = new_tunneld()
    wait_for(daemon, "started")
    assert {file.stat().st_mode & 0o777 for file in audit.files(directory_of(daemon))} == {0o640}
    assert directory_of(daemon).stat().st_mode & 0o007 == 0


def test_hostile_text_stays_inside_its_line(new_tunneld):
    daemon = new_tunneld()
    for field in (b"X-Correlation-ID: a\xff\xfe", b'X-Correlation-ID: "},{"seq":1', b"X-Correlation-ID: \xe2\x80\xa8",
                  b"User-Agent: \xff\"\\n{}"):
        with socket.create_connection(("127.0.0.1", daemon.plain_port), 10) as raw:
            raw.sendall(b"GET /t/web/hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \"}\\\r\n" + field + b"\r\n\r\n")
            assert raw.recv(100)
    wait_for(daemon, "auth.failed", 3)
    assert audit.broken(directory_of(daemon)) is None


# That it never lies -------------------------------------------------------------------------------


class Traffic:
    """Requests from several threads until told to stop; `served` counts the 200s."""

    def __init__(self, daemon, threads=4):
        self.daemon, self.token = daemon, daemon.token("ann")
        self.stopping, self.served = threading.Event(), []
        self.threads = [threading.Thread(target=self._call, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def _call(self):
        while not self.stopping.is_set():
            with contextlib.suppress(OSError, EOFError):
                if ask(self.daemon, self.token).status == 200:
                    self.served.append(1)


@pytest.mark.short_client
def test_the_chain_holds_under_load_and_every_request_is_in_it_once(new_tunneld):
    daemon = new_tunneld(audit={"max_file_bytes": "64KiB"})
    with Traffic(daemon) as traffic:
        wait_until(lambda: len(traffic.served) > 500, 40, "500 requests are served")
    served = len(traffic.served)
    wait_for(daemon, "request", served)
    daemon.stop()
    assert len(entries(daemon, "request")) == served
    assert len(audit.files(directory_of(daemon))) > 1, "it was rotated meanwhile"
    assert audit.broken(directory_of(daemon)) is None
    done = verify(directory_of(daemon))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.short_client
@pytest.mark.deadline(120)
def test_kills_in_the_midst_of_writing_leave_a_chain_that_verifies(new_tunneld):
    daemon = new_tunneld()
    with Traffic(daemon) as traffic:
        for _ in range(5):
            count = len(traffic.served)
            wait_until(lambda: len(traffic.served) > count + 50, 30, "it serves")
            daemon.program.kill()
            daemon.start()
    daemon.stop()
    assert audit.broken(directory_of(daemon)) is None
    assert len(entries(daemon, "started")) == 6
    assert verify(directory_of(daemon)).returncode == 0


@pytest.mark.parametrize("spoil", ["change a byte", "take a line away", "swap two lines", "repeat a line", "add a line"])
def test_whoever_changes_it_is_found_out(new_tunneld, spoil):
    daemon = new_tunneld()
    for _ in range(20):
        ask(daemon, daemon.token())
    daemon.stop()
    (file,) = audit.files(directory_of(daemon))
    lines = file.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    if spoil == "change a byte":
        lines[middle] = lines[middle].replace(b'"status":200', b'"status":201').replace(b'"event":"', b'"event":"x', 1)
    elif spoil == "take a line away":
        del lines[middle]
    elif spoil == "swap two lines":
        lines[middle], lines[middle + 1] = lines[middle + 1], lines[middle]
    elif spoil == "repeat a line":
        lines.insert(middle, lines[middle])
    else:
        lines.insert(middle, b'{"seq":1,"event":"admin.call"}\n')
    file.write_bytes(b"".join(lines))
    assert audit.broken(directory_of(daemon)) is not None
    done = verify(directory_of(daemon))
    assert done.returncode == 65 and f"{file.name}:" in done.stdout + done.stderr


def test_two_daemons_never_write_one_log(new_tunneld, new_directory):
    shared = new_directory("audit")
    first = new_tunneld(audit={"directory": str(shared)})
    second = new_tunneld(start=False, audit={"directory": str(shared)})
    program = second.launch()
    status = program.wait(20)
    assert status not in (0, -6, -11) and str(shared) in program.output()
    program.kill()
    assert ask(first, first.token()).status == 200


# A full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(new_directory):
    """A file system of 1 MiB; `fill` takes what is left of it, `free` gives it back."""
    path = new_directory("disk")
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a file system of its own: {done.stderr.strip()}")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


class SmallDisk:
    def __init__(self, path):
        self.path, self.filler = path, path / "filler"

    def fill(self):
        with open(self.filler, "ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self):
        self.filler.unlink()


@pytest.mark.short_client
@pytest.mark.deadline(120)
def test_a_full_disk_costs_audit_lines_and_nothing_else_and_heals_without_a_restart(new_tunneld, small_disk):
    daemon = new_tunneld(audit={"directory": str(small_disk.path / "audit")})
    token = daemon.token("ann")
    log = small_disk.path / "audit"
    assert ask(daemon, token).status == 200
    wait_until(lambda: [entry for entry in audit.lines(log) if entry["event"] == "request"], 10, "the first line is there")
    small_disk.fill()

    def failing():
        assert ask(daemon, token).status == 200, "traffic goes on"
        return daemon.metric("tunnel_audit_write_errors_total") > 0

    wait_until(failing, 60, "lines are lost and counted")
    operator = Operator.of(daemon)
    assert operator.diagnostics()["audit"]["healthy"] is False
    wait_until(lambda: "audit.failing" in operator.kinds(), 10, "the event is there")
    assert daemon.admin("/readyz")[0] == 200
    before = daemon.metric("process_cpu_seconds_total")
    assert [ask(daemon, token).status for _ in range(20)] == [200] * 20
    small_disk.free()
    wait_until(lambda: operator.diagnostics()["audit"]["healthy"], 30, "it is written again")
    assert daemon.metric("process_cpu_seconds_total") - before < 5, "nobody span meanwhile"
    assert ask(daemon, token).status == 200
    wait_until(lambda: any(entry["event"] == "audit.gap" for entry in audit.lines(log)), 20, "the gap is written down")
    gaps = [entry for entry in audit.lines(log) if entry["event"] == "audit.gap"]
    # Lines wait in memory, so that few or none need be lost: then `lines` is 0.
    assert all(entry["lines"] >= 0 and entry["why"] for entry in gaps)
    wait_until(lambda: "audit.recovered" in operator.kinds(), 10, "the event is there")
    daemon.stop()
    assert audit.broken(log) is None
    assert verify(log).returncode == 0


@pytest.mark.deadline(120)
def test_in_refuse_mode_nothing_is_served_that_cannot_be_written_down(new_tunneld, small_disk):
    daemon = new_tunneld(audit={"directory": str(small_disk.path / "audit"), "on_error": "refuse"})
    token = daemon.token("ann")
    assert ask(daemon, token).status == 200
    small_disk.fill()

    def refused():
        answer = outcome(ask(daemon, token))
        assert answer in ((200, None), (503, "TUNNEL_004")), answer
        return answer == (503, "TUNNEL_004")

    wait_until(refused, 60, "requests are refused")
    assert daemon.admin("/healthz")[0] == 200, "a restart would not help"
    small_disk.free()
    wait_until(lambda: ask(daemon, token).status == 200, 30, "it serves again by itself")
    daemon.stop()
    assert audit.broken(small_disk.path / "audit") is None


def test_a_directory_that_cannot_be_written_stops_the_start(new_tunneld, new_directory):
    file = new_directory("not-a-directory")
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    daemon = new_tunneld(start=False, audit={"directory": str(file)})
    program = daemon.launch()
    assert program.wait(20) in (69, 77, 78)
    assert str(file) in program.output()
    program.kill()


def test_old_files_are_deleted_and_the_rest_still_verifies(new_tunneld):
    daemon = new_tunneld(audit={"max_file_bytes": "64KiB", "files": 2})
    with Traffic(daemon) as traffic:
        wait_until(lambda: entries(daemon) and entries(daemon)[0]["seq"] > 1, 60, "the oldest file is gone")
    assert traffic.served
    daemon.stop()
    assert len(audit.files(directory_of(daemon))) <= 3
    assert audit.broken(directory_of(daemon)) is None
    assert verify(directory_of(daemon)).returncode == 0


def test_a_torn_last_line_is_set_aside_and_said(new_tunneld):
    daemon = new_tunneld()
    assert ask(daemon, daemon.token()).status == 200
    wait_for(daemon, "request")
    daemon.program.kill()
    newest = audit.files(directory_of(daemon))[-1]
    with open(newest, "ab") as file:
        file.write(b'{"seq":99,"time":"2026')
    daemon.start()
    daemon.stop()
    assert audit.broken(directory_of(daemon)) is None
