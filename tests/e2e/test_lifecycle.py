"""Starting, reloading and ending the daemon while people use it."""

import asyncio
import itertools
import json
import signal
import socket
import ssl
import subprocess
import threading
import time

import aiohttp
import pytest
import requests
import websockets

from callers.raw_http import RawHttp, request
from callers.websocket import stream
from programs.loopback import accepts, wait_until
from programs.tunneld import run

MIB = 1 << 20


def get(daemon, token, path="/t/web/hello"):
    return requests.get(daemon.url(path), headers={"Authorization": f"Bearer {token}"},
                        verify=str(daemon.certificate), timeout=30)


class Load:
    """Callers that post one request after another until told to stop; every outcome is kept.

    No failure: a refused connect once the daemon stopped accepting (nothing was taken on), a 503 that
    says it is draining, and a keep-alive connection closed between two requests (RFC 9112 §9.3.1 has
    callers send such a request again) - but only if the service never saw that request.
    """

    def __init__(self, daemon, token, origin, name, callers=8):
        self.daemon, self.token, self.origin, self.name = daemon, token, origin, name
        self.statuses, self.failures, self.unanswered = [], [], []
        self.numbers = itertools.count()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._call, daemon=True) for _ in range(callers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.statuses) > 50 or self.failures, 30, "the load runs")
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(40)
        self.failures += [f"{one} was executed and not answered" for one in self.unanswered
                          if self.origin.executions(one)]

    def _connect(self):
        try:
            return RawHttp(self.daemon.connect())
        except OSError:
            if self.daemon.program.alive() and accepts(self.daemon.port):
                self.failures.append("a connect failed while the daemon accepts")
            self.stopping.wait(0.05)
            return None

    def _call(self):
        connection = None
        while not self.stopping.is_set():
            connection = connection or self._connect()
            if connection is None:
                continue
            one = f"{self.name}-{next(self.numbers)}"
            connection.send(request("POST", f"/t/web/execute?id={one}", "Content-Length: 5", token=self.token, body=b"hello"))
            try:
                answer = connection.read_answer()
            except EOFError as ended:
                if connection.buffer:
                    self.failures.append(f"an answer was cut: {ended}")
                self.unanswered.append(one)
                connection = None
                continue
            except OSError as error:
                self.failures.append(repr(error))
                connection = None
                continue
            self.statuses.append(answer.status)
            draining = answer.status == 503 and json.loads(answer.body)["error"]["code"] == "TUNNEL_004"
            if not draining and (answer.status, answer.body) != (200, b"done\n"):
                self.failures.append(repr(answer))
            if (answer.value("Connection") or "").lower() == "close":
                connection.close()
                connection = None


# Ending -------------------------------------------------------------------------------------------


@pytest.mark.short
def test_sigterm_ends_an_idle_daemon_quickly_with_status_0(new_tunneld):
    daemon = new_tunneld()
    assert get(daemon, daemon.token()).status_code == 200
    started = time.monotonic()
    daemon.program.send(signal.SIGTERM)
    assert daemon.program.wait(15) == 0
    assert time.monotonic() - started < 10


def test_sigint_is_the_same(new_tunneld):
    daemon = new_tunneld()
    daemon.program.send(signal.SIGINT)
    assert daemon.program.wait(15) == 0


@pytest.mark.short
def test_sigterm_finishes_what_is_in_flight_and_takes_nothing_new(new_tunneld, origin, unique):
    """Sixty requests wait at the service when the daemon is told to go; the service answers later."""
    daemon = new_tunneld()
    token = daemon.token()

    async def scenario():
        connector = aiohttp.TCPConnector(limit=0, ssl=daemon.tls_context())
        async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {token}"}) as session:
            async def one(number):
                async with session.post(daemon.url(f"/t/web/execute?id={unique}{number}&gate={unique}")) as answer:
                    return answer.status, await answer.text()

            posts = [asyncio.ensure_future(one(number)) for number in range(60)]
            while sum(origin.executions(f"{unique}{n}") for n in range(60)) < 60:
                assert not any(post.done() for post in posts), "a post was answered before its time"
                await asyncio.sleep(0.02)
            daemon.program.send(signal.SIGTERM)
            while await asyncio.to_thread(accepts, daemon.port):
                await asyncio.sleep(0.02)
            for _ in range(60):
                origin.open_gate(unique)
            return await asyncio.gather(*posts)

    assert asyncio.run(scenario()) == [(200, "done\n")] * 60
    assert daemon.program.wait(30) == 0


@pytest.mark.short
@pytest.mark.deadline(120)
def test_no_request_fails_when_sigterm_comes_under_load(new_tunneld, origin, unique):
    daemon = new_tunneld()
    with Load(daemon, daemon.token(), origin, unique) as load:
        daemon.program.send(signal.SIGTERM)
        assert daemon.program.wait(45) == 0
    assert load.failures == []
    assert load.statuses.count(200) > 50


def test_a_large_download_in_flight_is_finished_before_the_end(new_tunneld):
    daemon = new_tunneld()
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", f"/t/web/download?bytes={64 * MIB}", token=daemon.token()))
        assert connection.read_head().status == 200
        received = len(connection.read_exactly(MIB))
        daemon.program.send(signal.SIGTERM)
        received += len(connection.read_exactly(63 * MIB))
    assert received == 64 * MIB
    assert daemon.program.wait(45) == 0


def test_open_streams_are_closed_with_1012_at_the_drain_limit(new_tunneld):
    daemon = new_tunneld(drain_timeout="2s")

    async def scenario():
        async with stream(daemon, "echo", daemon.token()) as ws:
            await ws.send(b"x")
            await ws.recv()
            daemon.program.send(signal.SIGTERM)
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 20)
            return ws.close_code

    assert asyncio.run(scenario()) == 1012
    assert daemon.program.wait(20) == 0


@pytest.mark.short
def test_a_second_sigterm_ends_it_at_once(new_tunneld, origin, unique):
    daemon = new_tunneld()
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", f"/t/web/slow?gate={unique}", "X-Tunnel-Timeout: 60", token=daemon.token()))
        wait_until(lambda: f"GET /slow?gate={unique}" in origin.requests(), 20, "the request is in flight")
        daemon.program.send(signal.SIGTERM)
        wait_until(lambda: not accepts(daemon.port), 10, "it drains")
        assert daemon.program.alive()
        started = time.monotonic()
        daemon.program.send(signal.SIGTERM)
        daemon.expected_status = 1  # documented: ended at once by a second signal
        assert daemon.program.wait(10) == 1
        assert time.monotonic() - started < 2


def test_readyz_says_503_while_draining_and_healthz_stays_alive(new_tunneld, origin, unique):
    daemon = new_tunneld()
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", f"/t/web/slow?gate={unique}", "X-Tunnel-Timeout: 60", token=daemon.token()))
        wait_until(lambda: f"GET /slow?gate={unique}" in origin.requests(), 20, "the request is in flight")
        daemon.program.send(signal.SIGTERM)
        wait_until(lambda: daemon.admin("/readyz")[0] == 503, 10, "readiness is withdrawn")
        assert daemon.admin("/healthz")[0] == 200
        assert daemon.metric("tunnel_drain_state") == 1
        origin.open_gate(unique)
        assert connection.read_answer().body == b"at last\n"
    assert daemon.program.wait(30) == 0


def test_the_end_is_logged_with_its_reason(new_tunneld):
    daemon = new_tunneld()
    daemon.program.send(signal.SIGTERM)
    daemon.program.wait(15)
    assert any("sigterm" in json.dumps(record).lower() for record in daemon.log_records())


# Killed -------------------------------------------------------------------------------------------


@pytest.mark.short
def test_after_kill_9_it_starts_again_with_the_same_identity(new_tunneld):
    daemon = new_tunneld()
    token, key, certificate = daemon.token(), daemon.ssh_key(), daemon.certificate.read_bytes()
    daemon.program.kill()
    daemon.start()
    assert (daemon.ssh_key(), daemon.certificate.read_bytes()) == (key, certificate)
    assert get(daemon, token).status_code == 200


# Reloading ----------------------------------------------------------------------------------------


def new_certificate(directory):
    """A certificate for loopback by openssl, with its key beside it."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "7", "-subj", "/CN=reloaded", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                    "-keyout", directory / "private_key.pem", "-out", directory / "certificate.pem"],
                   check=True, capture_output=True)
    (directory / "private_key.pem").chmod(0o600)


def serial_of(daemon):
    """The serial number served now, or None while it is not the file's."""
    try:
        with daemon.connect() as tls:
            return tls.getpeercert()["serialNumber"]
    except ssl.SSLError:
        return None


@pytest.mark.deadline(120)
def test_sighup_takes_a_new_certificate_under_load_without_failing_a_request(new_tunneld, new_directory, origin, unique):
    directory = new_directory("certificate")
    directory.mkdir()
    new_certificate(directory)
    daemon = new_tunneld(tls={"certificate_file": str(directory / "certificate.pem"),
                              "key_file": str(directory / "private_key.pem")}, start=False)
    daemon.certificate = directory / "certificate.pem"
    daemon.start()
    with Load(daemon, daemon.token(), origin, unique) as load:
        for _ in range(3):
            before = serial_of(daemon)
            new_certificate(directory)
            daemon.program.send(signal.SIGHUP)
            wait_until(lambda: serial_of(daemon) not in (None, before), 20, "the new certificate is served")
            count = len(load.statuses)
            wait_until(lambda: len(load.statuses) > count + 50 or load.failures, 20, "old connections go on")
    assert load.failures == []


def test_sighup_with_a_broken_certificate_keeps_the_old_one(new_tunneld, new_directory):
    directory = new_directory("certificate")
    directory.mkdir()
    new_certificate(directory)
    daemon = new_tunneld(tls={"certificate_file": str(directory / "certificate.pem"),
                              "key_file": str(directory / "private_key.pem")}, start=False)
    daemon.certificate = directory / "certificate.pem"
    daemon.start()
    token, good = daemon.token(), daemon.certificate.read_bytes()
    daemon.certificate.write_text("nonsense")
    daemon.program.send(signal.SIGHUP)
    wait_until(lambda: daemon.metric("tunnel_config_reloads_total", result="error") >= 1, 10, "the reload failed")
    daemon.certificate.write_bytes(good)
    assert get(daemon, token).status_code == 200


@pytest.mark.short
def test_sighup_with_a_broken_configuration_keeps_serving_as_before(new_tunneld):
    daemon = new_tunneld()
    token = daemon.token()
    good = daemon.config.read_text()
    daemon.config.write_text(good + "\nno_such_key: 1\n")
    daemon.program.send(signal.SIGHUP)
    wait_until(lambda: daemon.metric("tunnel_config_reloads_total", result="error") >= 1, 10, "the reload failed")
    assert "no_such_key" in daemon.program.output()
    assert get(daemon, token).status_code == 200
    daemon.config.write_text(good)
    daemon.program.send(signal.SIGHUP)
    wait_until(lambda: daemon.metric("tunnel_config_reloads_total", result="ok") >= 1, 10, "the reload is done")


def test_a_hundred_sighups_in_a_row_are_survived(new_tunneld):
    daemon = new_tunneld()
    token = daemon.token()
    for _ in range(100):
        daemon.program.send(signal.SIGHUP)
    assert get(daemon, token).status_code == 200


# With nothing at all, and as a service ------------------------------------------------------------


@pytest.mark.short
def test_systemd_is_told_when_it_is_ready_and_when_it_stops(new_tunneld, new_directory):
    directory = new_directory("notify")
    directory.mkdir()
    path = directory / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20)
        daemon = new_tunneld(env={"NOTIFY_SOCKET": str(path)})
        assert b"READY=1" in notify.recv(4096)
        daemon.program.send(signal.SIGTERM)
        received = notify.recv(4096)
        while b"STOPPING=1" not in received:
            received = notify.recv(4096)
    assert daemon.program.wait(20) == 0


def test_two_daemons_never_share_a_state_directory(new_tunneld):
    first = new_tunneld()
    second = new_tunneld(start=False, state_dir=str(first.state))
    program = second.launch()
    status = program.wait(20)
    output = program.output()
    program.kill()
    assert status != 0 and str(first.state) in output
    assert first.program.alive()


@pytest.mark.short
def test_version_names_every_dependency(new_tunneld):
    done = run("--version", "--deps")
    assert done.returncode == 0
    for name in ("tunneld", "libssh2", "OpenSSL", "Boost"):
        assert name.lower() in done.stdout.lower(), name
