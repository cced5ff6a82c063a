"""`tunnelctl connect`: services behind tunneld as ports of this machine, over one connection that mends itself."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import pytest

from programs.faultproxy import FaultProxy
from programs.loopback import accepts, free_port, wait_until
from programs.origin import BLOCK, stream_digest
from programs.tunnelctl import CONFIG, CONFLICT, DENIED, GAVE_UP, INTERRUPTED, OK, UNAVAILABLE, USAGE, binary

MIB = 1 << 20


class Connect:
    """`tunnelctl connect` while it runs; what it says is gathered line by line."""

    def __init__(self, directory, arguments, *, server, token=None, ca=None, environment=None, stdin=subprocess.DEVNULL):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.token_file = self.directory / "token"
        if token is not None:
            self.token_file.write_text(token)
        self.token = token
        words = [str(binary()), "connect", "--server", server, *map(str, arguments)]
        if token is not None:
            words += ["--token-file", str(self.token_file)]
        if ca:
            words += ["--ca-file", str(ca)]
        assert token is None or not any(token in word for word in words)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS")
                if name in os.environ}
        home = {"HOME": str(self.directory), "XDG_RUNTIME_DIR": str(self.directory)}
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *words], cwd=self.directory, stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**kept, **home, **(environment or {})})
        self.said = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line.decode("utf-8", "replace"))

    @property
    def err(self):
        return "".join(self.said)

    def says(self, text, seconds=20):
        def look():
            if text in self.err:
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.err}"
            return False

        wait_until(look, seconds, f"connect says {text!r}; it said:\n{self.err}")
        return self

    def end(self, seconds=30):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"connect still runs after {seconds} s:\n{self.err}") from None
        self.reader.join(10)
        assert not self.token or self.token not in self.err
        return status

    def stop(self, number=signal.SIGTERM, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.end(seconds)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()
        self.reader.join(10)


@pytest.fixture
def new_connect(new_directory):
    made = []

    def make(daemon, *arguments, token=None, port=None, **more):
        server = f"wss://127.0.0.1:{port or daemon.port}"
        made.append(Connect(new_directory("connect"), arguments, server=more.pop("server", server),
                            token=token or daemon.token(), ca=more.pop("ca", daemon.certificate), **more))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def faultproxy(new_directory, tunneld):
    proxy = FaultProxy(new_directory("faultproxy"), tunneld.port).start()
    yield proxy
    proxy.stop()


def call(port, timeout=30):
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.settimeout(timeout)
    return connection


def read_all(connection):
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def echo(port, payload):
    with call(port) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(payload), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        got = read_all(connection)
        sender.join(30)
    return got


# Streams --------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_port_carries_bytes_both_ways_and_says_when_it_is_ready(tunneld, new_connect):
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:echo").says(f"; 127.0.0.1:{port} -> echo")
    assert f"connected to wss://127.0.0.1:{tunneld.port}" in connect.err
    payload = os.urandom(3 * MIB)
    assert echo(port, payload) == payload
    assert connect.stop() == OK


@pytest.mark.short_client
def test_half_close_is_kept(tunneld, new_connect):
    port = free_port()
    new_connect(tunneld, "-L", f"{port}:digest").says("connected to")
    payload = os.urandom(MIB)
    with call(port) as connection:
        connection.sendall(payload)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).decode() == f"{len(payload)} {hashlib.sha256(payload).hexdigest()}\n"


@pytest.mark.short_client
def test_a_hundred_connections_at_once_do_not_mix(tunneld, new_connect):
    port = free_port()
    new_connect(tunneld, "-L", f"{port}:echo").says("connected to")
    payloads = [os.urandom(20_000 + i) for i in range(100)]
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda payload: echo(port, payload), payloads))
    assert answers == payloads


def test_a_slow_reader_does_not_hold_up_others(tunneld, new_connect):
    flood, quick = free_port(), free_port()
    new_connect(tunneld, "-L", f"{flood}:flood", "-L", f"{quick}:echo").says("connected to")
    with call(flood) as stalled:
        stalled.recv(1)
        for _ in range(20):
            assert echo(quick, b"x" * 1000) == b"x" * 1000


# What goes wrong ------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_an_unknown_service_closes_the_connection_and_says_why(tunneld, new_connect):
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:nonesuch").says("connected to")
    with call(port) as connection:
        with pytest.raises(ConnectionResetError):
            while connection.recv(100):
                pass
            raise AssertionError("it ended in good order")
    connect.says("TUNNEL_017")
    assert f"127.0.0.1:{port} -> nonesuch: " in connect.err
    assert "check the service's name" in connect.err
    assert connect.process.poll() is None


@pytest.mark.short_client
def test_a_port_in_use_is_said_before_anything_connects(tunneld, new_connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        connect = new_connect(tunneld, "-L", f"{free_port()}:echo", "-L", f"{port}:web")
        assert connect.end() == CONFLICT
    assert f"127.0.0.1:{port} -> web" in connect.err and "in use" in connect.err
    assert "attempt" not in connect.err


@pytest.mark.short_client
def test_a_wrong_token_ends_it_with_cause_and_next_step(tunneld, new_connect):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", token="wrong.token.here")
    assert connect.end() == DENIED
    assert "TUNNEL_002" in connect.err and "check that the token" in connect.err


@pytest.mark.short_client
def test_nobody_there_is_given_up_after_the_attempts(tunneld, new_connect):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", "--retry", "2", port=free_port())
    assert connect.end() == GAVE_UP
    assert "gave up after 2 attempts" in connect.err
    assert connect.err.count("attempt n=") == 2


def test_nobody_there_without_reconnecting_is_unavailable(tunneld, new_connect):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", "--no-reconnect", port=free_port())
    assert connect.end() == UNAVAILABLE


@pytest.mark.short_client
def test_a_server_that_speaks_something_else_is_not_tried_again(tunneld, new_connect, origin):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", server=f"ws://127.0.0.1:{origin.ports['http']}")
    assert connect.end() == UNAVAILABLE
    assert connect.err.count("attempt n=") == 1


def test_an_untrusted_certificate_is_not_tried_again(tunneld, new_connect):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", ca=None)
    assert connect.end() == UNAVAILABLE
    assert "--ca-file" in connect.err and connect.err.count("attempt n=") == 1


@pytest.mark.short_client
@pytest.mark.parametrize("arguments", [(), ("-L", "8022"), ("-L", "8022:ssh", "--stdio", "ssh"), ("-L", "99999:ssh"),
                                       ("--stdio", "SSH"), ("-L", "8022:ssh", "--retry", "0"),
                                       ("-L", "8022:ssh", "--retry", "often"), ("--stdio", "x", "-o", "json")])
def test_a_command_line_that_makes_no_sense_is_refused(tunneld, new_connect, arguments):
    assert new_connect(tunneld, *arguments).end() == USAGE


def test_no_token_is_a_matter_of_configuration(tunneld, new_directory):
    connect = Connect(new_directory("connect"), ["-L", f"{free_port()}:echo"], server=f"wss://127.0.0.1:{tunneld.port}")
    assert connect.end() == CONFIG
    assert "TUNNEL_TOKEN_FILE" in connect.err
    connect.kill()


# Standard input and output --------------------------------------------------------------------------


def talk(connect, payload, seconds=30):
    timer = threading.Timer(seconds, connect.process.kill)
    timer.start()
    try:
        connect.process.stdin.write(payload)
        connect.process.stdin.close()
        out = connect.process.stdout.read()
    finally:
        timer.cancel()
    return out


@pytest.mark.short_client
def test_stdio_is_one_stream_and_quiet(tunneld, new_connect):
    connect = new_connect(tunneld, "--stdio", "digest", stdin=subprocess.PIPE)
    payload = os.urandom(MIB)
    assert talk(connect, payload).decode() == f"{len(payload)} {hashlib.sha256(payload).hexdigest()}\n"
    assert connect.end() == OK
    assert connect.err == ""


@pytest.mark.short_client
def test_stdio_ends_when_the_service_does_though_input_goes_on(tunneld, new_connect):
    connect = new_connect(tunneld, "--stdio", "source", stdin=subprocess.PIPE)
    connect.process.stdin.write(b"100000\n")
    connect.process.stdin.flush()
    out = connect.process.stdout.read()
    assert hashlib.sha256(out).hexdigest() == stream_digest(100_000)
    assert connect.end() == OK


@pytest.mark.short_client
def test_stdio_to_a_service_that_there_is_not_ends_with_why(tunneld, new_connect):
    connect = new_connect(tunneld, "--stdio", "nonesuch", stdin=subprocess.PIPE)
    assert connect.end() == DENIED
    assert "TUNNEL_017" in connect.err and connect.err.count("\n") == 1


def test_ssh_goes_through_it_as_its_proxy_command(new_tunneld, new_connect, sshd, new_directory):
    daemon = new_tunneld(services=[{"name": "ssh", "target": f"127.0.0.1:{sshd.port}", "allow": ["*"]}])
    folder = new_directory("ssh")
    folder.mkdir()
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    sshd.authorize(key.with_suffix(".pub").read_text())
    (folder / "token").write_text(daemon.token())
    proxy = (f"{binary()} connect --server wss://127.0.0.1:{daemon.port} --ca-file {daemon.certificate} "
             f"--token-file {folder / 'token'} --stdio ssh")
    done = subprocess.run(
        ["ssh", "-F", "none", "-i", str(key), "-o", f"ProxyCommand={proxy}", "-o", "StrictHostKeyChecking=no",
         "-o", f"UserKnownHostsFile={folder / 'known'}", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
         "-o", "IdentitiesOnly=yes", "-W", f"127.0.0.1:{sshd.port}", f"{sshd.user.pw_name}@far"],
        capture_output=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert done.stdout.startswith(b"SSH-2.0-"), done


# Reconnecting ---------------------------------------------------------------------------------------


@pytest.mark.deadline(120)
def test_a_download_goes_on_over_cuts_without_losing_a_byte(tunneld, new_connect, faultproxy):
    size = 100 * MIB
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:source", port=faultproxy.port).says("connected to")
    digest, got, cuts = hashlib.sha256(), 0, 0
    with call(port, timeout=60) as connection:
        connection.sendall(f"{size}\n".encode())
        while part := connection.recv(1 << 18):
            digest.update(part)
            got += len(part)
            if cuts < 3 and got > (cuts + 1) * 20 * MIB:
                faultproxy.cut("rst")
                cuts += 1
    assert (got, digest.hexdigest()) == (size, stream_digest(size))
    connect.says("connected again", 5)
    assert connect.err.count("outcome=resumed") == 3
    assert connect.stop() == OK


@pytest.mark.deadline(120)
def test_an_upload_goes_on_over_a_cut(tunneld, new_connect, faultproxy):
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:digest", port=faultproxy.port).says("connected to")
    blocks = 320  # of 64 KiB: 20 MiB
    with call(port, timeout=60) as connection:
        for number in range(blocks):
            connection.sendall(BLOCK)
            if number == blocks // 2:
                faultproxy.cut("rst")
        connection.shutdown(socket.SHUT_WR)
        size = blocks * len(BLOCK)
        assert read_all(connection).decode() == f"{size} {stream_digest(size)}\n"
    assert "outcome=resumed" in connect.err


def test_a_restarted_server_breaks_the_streams_visibly_and_new_ones_work(new_tunneld, new_connect):
    daemon = new_tunneld()
    port = free_port()
    connect = new_connect(daemon, "-L", f"{port}:echo", "--retry", "forever").says("connected to")
    with call(port) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        daemon.program.kill()
        daemon.launch()
        wait_until(daemon.is_ready, 30, "the daemon is back")
        with pytest.raises(ConnectionResetError):
            assert connection.recv(100) == b"", "bytes from nowhere"
            raise AssertionError("a broken stream ended in good order")
    connect.says("1 stream is broken", 30)
    wait_until(lambda: connect.err.count("connected to") >= 2, 30, "connected again")
    assert echo(port, b"after") == b"after"


def test_what_happens_is_told_to_programs_as_json(tunneld, new_connect, faultproxy):
    connect = new_connect(tunneld, "-L", "0:echo", "--output", "json", port=faultproxy.port)
    states = []

    def next_state():
        states.append(json.loads(connect.process.stdout.readline()))
        return states[-1]

    assert next_state()["state"] == "connecting"
    ready = next_state()
    assert ready["state"] == "connected" and len(ready["sessionId"]) == 32
    [listening] = ready["listening"]
    assert listening["service"] == "echo"
    port = int(listening["address"].rpartition(":")[2])
    assert echo(port, b"hello") == b"hello"
    faultproxy.cut("rst")
    assert next_state()["state"] == "reconnecting"
    again = next_state()
    assert (again["state"], again["resumed"], again["sessionId"]) == ("connected", True, ready["sessionId"])
    assert connect.stop() == OK
    assert json.loads(connect.process.stdout.readline())["state"] == "disconnected"


# The end --------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_stop_lets_what_is_under_way_finish(tunneld, new_connect):
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:echo").says("connected to")
    with call(port) as connection:
        connection.sendall(b"first")
        assert connection.recv(100) == b"first"
        connect.process.send_signal(signal.SIGINT)
        connect.says("stopping: 1 stream left, 10 s")
        wait_until(lambda: not accepts(port), 5, "the port is closed")
        connection.sendall(b"last")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"last"
    assert connect.end(8) == OK


def test_a_stop_does_not_wait_for_ever(tunneld, new_connect):
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:echo").says("connected to")
    with call(port) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        began = time.monotonic()
        assert connect.stop(signal.SIGTERM) == INTERRUPTED
        assert 8 < time.monotonic() - began < 16
    assert "cut off" in connect.err


@pytest.mark.short_client
def test_a_second_ctrl_c_is_obeyed_at_once(tunneld, new_connect):
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:echo").says("connected to")
    with call(port) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        connect.process.send_signal(signal.SIGINT)
        connect.says("stopping")
        began = time.monotonic()
        assert connect.stop(signal.SIGINT) == INTERRUPTED
        assert time.monotonic() - began < 3


def test_a_stop_while_nobody_is_there_is_obeyed(tunneld, new_connect):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", "--retry", "forever", port=free_port())
    connect.says("attempt n=1")
    began = time.monotonic()
    assert connect.stop() == OK
    assert time.monotonic() - began < 5
