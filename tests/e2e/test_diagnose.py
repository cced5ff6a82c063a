"""`tunnelctl diagnose`: each part of the way to tunneld, and the real cause by name when one is broken."""

import contextlib
import email.utils
import json
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest

from programs.loopback import free_port, wait_until
from programs.tunneld import REPOSITORY, is_sanitized
from programs.tunnelctl import CONFIG, FAILED, INTERRUPTED, OK, USAGE, Tunnelctl

STEPS = ["dns", "tcp", "tls", "upgrade", "token", "session", "service", "data", "latency", "throughput"]

pytestmark = pytest.mark.short_client


class Diagnosed:
    """One run with --output json, whose form is checked whatever came of it."""

    def __init__(self, ended):
        self.ended, self.json = ended, ended.json()
        told = self.json
        assert set(told) == {"target", "steps", "quality", "clock", "cause", "explanation", "suggestion", "exit"}
        assert [step["step"] for step in told["steps"]] == STEPS
        assert told["exit"] == ended.code
        self.steps = {step["step"]: step for step in told["steps"]}
        for step in told["steps"]:
            assert step["result"] in ("passed", "failed", "skipped") and step["detail"], step
            assert isinstance(step["ms"], int) and 0 <= step["ms"] <= 10_000, step
        broken = [name for name, step in self.steps.items() if step["result"] == "failed"]
        assert len(broken) == (0 if ended.code == OK else 1), ended
        if broken:
            behind = STEPS[STEPS.index(broken[0]) + 1:]
            assert all(self.steps[name]["result"] == "skipped" for name in behind), ended
            assert told["cause"] and told["explanation"] and told["suggestion"], ended
        else:
            assert told["cause"] is told["explanation"] is told["suggestion"] is None
        self.failed = broken[0] if broken else None
        self.cause = told["cause"]

    def because(self, step, cause, *words):
        assert (self.failed, self.cause) == (step, cause), self.ended
        for word in words:
            assert re.search(word, self.json["explanation"] + " | " + self.json["suggestion"]), self.ended
        return self


@pytest.fixture
def diagnose(new_directory):
    """Runs it with a token that must never show."""

    def run(server, *words, token="not.a.token", ca=None, environment=None, code=None, timeout=70):
        ctl = Tunnelctl(new_directory("diagnose"), {"TUNNEL_TOKEN": token, **(environment or {})}, secrets=[token])
        trust = ["--ca-file", ca] if ca else []
        ended = ctl.run("diagnose", "--server", server, *trust, "--output", "json", *words, timeout=timeout)
        assert ended.seconds < 60
        if code is not None:
            ended.expect(code)
        return Diagnosed(ended)

    return run


def at(daemon):
    return f"wss://127.0.0.1:{daemon.port}"


class Listening:
    """Serves connections of a loopback port, each by `serve(socket)` in a thread of its own."""

    def __init__(self, serve, context=None):
        self.serve, self.context = serve, context
        self.heads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                raw = self.listener.accept()[0]
                self.open.append(raw)
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        with contextlib.suppress(OSError):
            connection = self.context.wrap_socket(raw, server_side=True) if self.context else raw
            self.serve(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.open:
            one.close()


@pytest.fixture
def listening():
    made = []

    def make(serve, context=None):
        made.append(Listening(serve, context))
        return made[-1]

    yield make
    for one in made:
        one.close()


def head_of(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(4096)
        if not part:
            raise OSError("gone")
        head += part
    return head


def answering(status, *fields, body=""):
    """Serves every request with that."""

    def serve(connection):
        while True:
            head_of(connection)
            lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", body]
            connection.sendall("\r\n".join(lines).encode())

    return serve


def refusal(code):
    return json.dumps({"error": {"code": code, "message": "no"}})


@pytest.fixture(scope="session")
def certificate_for(workdir):
    """A server's TLS context and its certificate's file, for that name and those days."""

    def make(name, days="1"):
        stem = workdir / f"certificate-{re.sub('[^a-z0-9]', '-', name)}{days}"
        key, certificate = stem.with_suffix(".key"), stem.with_suffix(".crt")
        config = stem.with_suffix(".cnf")
        kind = "IP" if name[0].isdigit() else "DNS"
        config.write_text(f"[req]\ndistinguished_name=n\nx509_extensions=e\nprompt=no\n[n]\nCN={name}\n"
                          f"[e]\nsubjectAltName={kind}:{name}\nbasicConstraints=critical,CA:true\n")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", days, "-keyout", key, "-out", certificate, "-config", config], check=True,
                       capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context, certificate

    return make


# All is well ------------------------------------------------------------------------------------------


def test_every_step_passes_and_the_way_is_measured(tunneld, token, diagnose):
    done = diagnose(at(tunneld), "--service", "echo", "--echo", token=token, ca=tunneld.certificate, code=OK)
    assert all(step["result"] == "passed" for step in done.steps.values()), done.ended
    assert done.steps["dns"]["a"] == ["127.0.0.1"] and done.steps["dns"]["aaaa"] == []
    assert done.steps["tcp"]["address"] == f"127.0.0.1:{tunneld.port}"
    assert done.steps["tls"]["version"] == "TLSv1.3" and done.steps["tls"]["verified"]
    assert done.steps["tls"]["notAfter"] > time.strftime("%Y-%m-%d")
    assert (done.steps["token"]["subject"], done.steps["token"]["tier"]) == ("alice", "premium")
    assert re.fullmatch("[0-9a-f]{32}", done.steps["session"]["sessionId"])
    assert done.steps["data"]["bytes"] == 1 << 20
    assert done.steps["throughput"]["bytesPerSecond"] > 1 << 20 and 4_900 < done.steps["throughput"]["ms"] < 7_000
    quality = done.json["quality"]
    assert quality["pings"] == 20 and quality["missedPongRatio"] == 0 and quality["retransmitRatio"] < 0.5
    assert 0 < quality["p50Ms"] <= quality["p95Ms"] and quality["jitterMs"] >= 0
    assert quality["word"] in ("excellent", "good") and quality["throughputBytesPerSecond"] > 1 << 20
    assert done.json["clock"] is None


def test_without_a_service_what_needs_one_is_skipped_and_says_why(tunneld, token, diagnose):
    done = diagnose(at(tunneld), token=token, ca=tunneld.certificate, code=OK)
    skipped = {name: step["detail"] for name, step in done.steps.items() if step["result"] == "skipped"}
    assert set(skipped) == {"service", "data", "throughput"}
    assert "--service" in skipped["service"] and "--echo" in skipped["data"]
    assert done.json["quality"]["throughputBytesPerSecond"] is None


def test_a_plain_connection_to_loopback_has_no_tls_step(tunneld, token, diagnose):
    done = diagnose(f"ws://127.0.0.1:{tunneld.plain_port}", "--service", "web", token=token, code=OK)
    assert done.steps["tls"]["result"] == "skipped" and done.steps["service"]["result"] == "passed"


def test_people_get_a_table(tunneld, token, new_directory):
    ctl = Tunnelctl(new_directory("diagnose"), {"TUNNEL_TOKEN": token}, secrets=[token])
    good = ctl.run("diagnose", "--server", at(tunneld), "--ca-file", tunneld.certificate).expect(OK)
    for step in STEPS:
        assert re.search(rf"^{step} +(passed|skipped) ", good.out, re.M), good
    assert re.search(r"^Quality: (excellent|good) \(p50 ", good.out, re.M) and "Cause:" not in good.out
    bad = ctl.run("diagnose", "--server", f"wss://127.0.0.1:{free_port()}").expect(FAILED)
    assert bad.out.count("Cause: ") == bad.out.count("Do: ") == 1 and "\x1b" not in bad.out


def test_a_session_that_was_looked_at_ends_in_good_order(new_tunneld, diagnose):
    daemon = new_tunneld()
    diagnose(at(daemon), "--service", "echo", token=daemon.token(), ca=daemon.certificate, code=OK)
    wait_until(lambda: any(one["message"] == "link ended" for one in daemon.log_records()), 10, "the link is over")
    (ended,) = [one for one in daemon.log_records() if one["message"] == "link ended"]
    assert ended["close_code"] == 1000, ended


# The command line -------------------------------------------------------------------------------------


def test_a_command_line_without_sense_is_refused(tunneld, token, new_directory):
    ctl = Tunnelctl(new_directory("diagnose"), {"TUNNEL_TOKEN": token}, secrets=[token])
    ctl.run("diagnose", "--server", at(tunneld), "--echo").expect(USAGE)
    ctl.run("diagnose", "--server", at(tunneld), "--service", "No Name").expect(USAGE)
    ctl.run("diagnose", "--nonsense").expect(USAGE)
    ctl.run("diagnose").expect(CONFIG)


def test_ctrl_c_ends_it(new_directory, listening):
    silent = listening(lambda connection: connection.recv(1) and time.sleep(60))
    ctl = Tunnelctl(new_directory("diagnose"), {"TUNNEL_TOKEN": "not.a.token"})
    run = ctl.start("diagnose", "--server", f"ws://127.0.0.1:{silent.port}")
    wait_until(lambda: len(silent.open) >= 2, 10, "the upgrade is on its way")
    run.interrupt()
    ended = run.end().expect(INTERRUPTED)
    assert ended.seconds < 8


# Names and connections --------------------------------------------------------------------------------


def test_an_unknown_host_is_named(diagnose):
    done = diagnose("wss://nobody.invalid", code=FAILED)
    assert done.failed == "dns" and done.cause in ("dns_failed", "dns_unavailable"), done.ended
    assert "nobody.invalid" in done.json["explanation"]


def test_a_port_where_nobody_listens_is_refused(diagnose):
    port = free_port()
    diagnose(f"wss://127.0.0.1:{port}", code=FAILED).because("tcp", "refused", f"127.0.0.1:{port}", "listen")


@pytest.mark.deadline(90)
def test_a_silent_firewall_is_told_by_its_silence(diagnose):
    # Linux drops connections to a full backlog, as a firewall would.
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        done = diagnose(f"wss://127.0.0.1:{listener.getsockname()[1]}", code=FAILED)
    done.because("tcp", "timed_out", "firewall")
    assert 9_000 <= done.steps["tcp"]["ms"] <= 10_000 and done.ended.seconds < 12


@pytest.mark.deadline(90)
@pytest.mark.parametrize("scheme, step", [("wss", "tls"), ("ws", "upgrade")])
def test_a_tarpit_holds_a_step_for_ten_seconds_at_most(diagnose, listening, scheme, step):
    tarpit = listening(lambda connection: time.sleep(60))
    done = diagnose(f"{scheme}://127.0.0.1:{tarpit.port}", code=FAILED).because(step, "timed_out")
    assert 9_000 <= done.steps[step]["ms"] <= 10_000 and done.ended.seconds < 12


@pytest.mark.deadline(90)
def test_a_server_that_is_silent_after_tls_fails_the_upgrade(diagnose, listening, certificate_for):
    context, certificate = certificate_for("127.0.0.1")
    tarpit = listening(lambda connection: time.sleep(60), context)
    done = diagnose(f"wss://127.0.0.1:{tarpit.port}", ca=certificate, code=FAILED).because("upgrade", "timed_out")
    assert done.steps["tls"]["result"] == "passed" and done.ended.seconds < 12


# Proxies ----------------------------------------------------------------------------------------------


def by_proxy(proxy):
    return {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}


def test_a_proxy_that_wants_a_password_is_named(diagnose, listening):
    proxy = listening(answering("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"'))
    done = diagnose("wss://tunnel.test", environment=by_proxy(proxy), code=FAILED)
    done.because("tcp", "proxy_authentication", f"127.0.0.1:{proxy.port}", "HTTPS_PROXY")
    assert done.steps["dns"]["result"] == "passed" and "proxy" in done.steps["dns"]["detail"]


def test_a_proxy_that_does_not_connect_is_named(diagnose, listening):
    proxy = listening(answering("403 Forbidden"))
    done = diagnose("wss://tunnel.test", environment=by_proxy(proxy), code=FAILED)
    done.because("tcp", "proxy_refused", "403", "NO_PROXY")


def test_the_way_through_a_proxy_is_tested(diagnose, listening, tunneld, token):
    """The name is the proxy's to look up; the certificate does not hold it, which is as far as this goes."""

    def serve(connection):
        head_of(connection)
        with socket.create_connection(("127.0.0.1", tunneld.port)) as far:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            relay(connection, far)

    proxy = listening(serve)
    done = diagnose("wss://tunnel.test", token=token, ca=tunneld.certificate, environment=by_proxy(proxy), code=FAILED)
    done.because("tls", "certificate_name")
    assert done.steps["tcp"]["proxy"] == f"http://127.0.0.1:{proxy.port}"


def relay(one, other):
    def copy(source, sink):
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                sink.sendall(part)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(10)


@pytest.mark.parametrize("dropped", [("upgrade", "connection"), ("sec-websocket-protocol",)])
def test_a_proxy_that_drops_the_upgrade_is_named(diagnose, listening, tunneld, token, dropped):
    def serve(connection):
        while True:
            lines = head_of(connection).decode().split("\r\n")
            kept = [line for line in lines if line.split(":")[0].lower() not in dropped]
            with socket.create_connection(("127.0.0.1", tunneld.plain_port)) as far:
                far.sendall("\r\n".join(kept).encode())
                connection.sendall(far.recv(1 << 16))

    proxy = listening(serve)
    done = diagnose(f"ws://127.0.0.1:{proxy.port}", token=token, code=FAILED)
    done.because("upgrade", "upgrade_stripped", "on its way|on the way", "proxy_set_header Upgrade")


def test_a_proxy_that_answers_the_upgrade_itself_is_told_from_a_wrong_address(diagnose, listening, tunneld):
    def serve(connection):
        while True:
            head = head_of(connection)
            if b"/ws" in head.split(b"\r\n")[0]:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nVia: 1.1 middlebox\r\nContent-Length: 0\r\n\r\n")
                continue
            with socket.create_connection(("127.0.0.1", tunneld.plain_port)) as far:
                far.sendall(head)
                connection.sendall(far.recv(1 << 16))

    proxy = listening(serve)
    done = diagnose(f"ws://127.0.0.1:{proxy.port}", code=FAILED)
    done.because("upgrade", "upgrade_stripped", "a tunneld is there", "middlebox")


def test_a_sign_in_page_of_the_network_is_named(diagnose, listening):
    portal = listening(answering("302 Found", "Location: http://login.hotel.test/"))
    done = diagnose(f"ws://127.0.0.1:{portal.port}", code=FAILED)
    done.because("upgrade", "captive_portal", "login.hotel.test", "sign in")


def test_a_gateway_without_its_tunneld_is_named(diagnose, listening):
    gateway = listening(answering("502 Bad Gateway", "Server: nginx/1.22.1"))
    diagnose(f"ws://127.0.0.1:{gateway.port}", code=FAILED).because("upgrade", "gateway", "502", "nginx/1.22.1")


# Certificates and clocks ------------------------------------------------------------------------------


def test_a_certificate_of_an_unknown_issuer_is_named(tunneld, token, diagnose, certificate_for):
    _, other = certificate_for("127.0.0.1")
    for ca in (other, None):
        done = diagnose(at(tunneld), token=token, ca=ca, code=FAILED)
        done.because("tls", "certificate_untrusted", "--ca-file")
        assert done.steps["tls"]["issuer"], done.ended


def test_a_certificate_for_another_name_is_named(diagnose, listening, certificate_for):
    context, certificate = certificate_for("other.test")
    server = listening(answering("404 Not Found"), context)
    done = diagnose(f"wss://127.0.0.1:{server.port}", ca=certificate, code=FAILED)
    done.because("tls", "certificate_name", "other.test")


@pytest.fixture
def clock_off_by(new_directory):
    """What makes a program's wall clock differ by that many seconds."""

    def make(seconds):
        if is_sanitized():
            pytest.skip("sanitizers want to be first to preload")
        directory = new_directory("clock")
        directory.mkdir()
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", directory / "shift.so",
                        REPOSITORY / "tests/support/clock_shift.c", "-ldl"], check=True)
        (directory / "shift").write_text(str(seconds))
        return {"LD_PRELOAD": str(directory / "shift.so"), "CLOCK_SHIFT": str(directory / "shift")}

    return make


def dated(offset):
    return f"Date: {email.utils.formatdate(time.time() + offset, usegmt=True)}"


def test_a_certificate_that_has_ended_is_told_from_a_clock_that_is_wrong(
        diagnose, listening, certificate_for, clock_off_by):
    month = 30 * 86_400
    context, certificate = certificate_for("127.0.0.1")
    right = listening(answering("401 Unauthorized", dated(0)), context)
    done = diagnose(f"wss://127.0.0.1:{right.port}", ca=certificate, environment=clock_off_by(month), code=FAILED)
    done.because("tls", "clock_skew", "^this machine's clock is (29|30) days ahead of the server's", "timedatectl")
    assert "ahead" in done.json["clock"]
    agreeing = listening(answering("401 Unauthorized", dated(month)), context)
    done = diagnose(f"wss://127.0.0.1:{agreeing.port}", ca=certificate, environment=clock_off_by(month), code=FAILED)
    done.because("tls", "certificate_time", "renewed")
    assert done.json["clock"] is None


def test_a_wrong_clock_is_told_even_where_it_does_no_harm(tunneld, token, diagnose, clock_off_by):
    done = diagnose(at(tunneld), token=token, ca=tunneld.certificate, environment=clock_off_by(7_200), code=OK)
    assert re.search("(119 min|2 h 0 min) ahead of", done.json["clock"]), done.ended


def test_the_token_is_not_shown_to_a_server_whose_certificate_is_refused(tunneld, diagnose, listening, certificate_for):
    heads = []

    def serve(connection):
        heads.append(head_of(connection))

    context, _ = certificate_for("127.0.0.1")
    server = listening(serve, context)
    diagnose(f"wss://127.0.0.1:{server.port}", ca=tunneld.certificate, code=FAILED)
    assert not heads


def test_a_clock_that_is_an_hour_off_is_said_first(diagnose, listening):
    for offset, way in ((3_600, "behind"), (-3_600, "ahead of")):
        server = listening(answering("401 Unauthorized", dated(offset), "Content-Type: application/json",
                                     body=refusal("TUNNEL_003")))
        done = diagnose(f"ws://127.0.0.1:{server.port}", code=FAILED)
        done.because("token", "clock_skew", f"^this machine's clock is (59|60) min {way} the server's", "timedatectl")
        assert way in done.json["clock"]


def test_a_clock_that_is_off_by_seconds_is_nobodys_fault(diagnose, listening):
    server = listening(answering("401 Unauthorized", dated(45), "Content-Type: application/json",
                                 body=refusal("TUNNEL_003")))
    done = diagnose(f"ws://127.0.0.1:{server.port}", code=FAILED).because("token", "token_expired")
    assert done.json["clock"] is None


# Tokens -----------------------------------------------------------------------------------------------


def test_an_expired_token_is_named(new_tunneld, diagnose):
    daemon = new_tunneld(auth={"leeway": "0s"})
    token = daemon.token(expires="1s")
    ends = time.monotonic() + 1.2
    while time.monotonic() < ends:
        time.sleep(0.1)  # the token's own time
    done = diagnose(at(daemon), token=token, ca=daemon.certificate, code=FAILED)
    done.because("token", "token_expired", "expired", "new token", "TUNNEL_003")
    assert done.steps["upgrade"]["result"] == "passed"


def test_a_token_for_another_server_is_named(tunneld, diagnose):
    for audience in ("elsewhere", "https://elsewhere.example.org/"):
        token = tunneld.secret(tunneld.command("token", "create", "--subject", "alice", "--audience", audience))
        done = diagnose(at(tunneld), token=token, ca=tunneld.certificate, code=FAILED)
        done.because("token", "wrong_audience", re.escape(f'for the audience "{audience}"'), "auth.audience")


def test_what_is_no_token_is_named(tunneld, diagnose):
    done = diagnose(at(tunneld), token="just-some-text", ca=tunneld.certificate, code=FAILED)
    done.because("token", "token_malformed", "no JWT")


def test_a_token_of_another_key_is_refused_with_its_claims(tunneld, new_tunneld, diagnose):
    other = new_tunneld()
    done = diagnose(at(tunneld), token=other.token(), ca=tunneld.certificate, code=FAILED)
    done.because("token", "token_refused", 'audience "tunneld"', "audit search")


# What else may be there -------------------------------------------------------------------------------


def test_nginx_is_no_tunneld(nginx, diagnose):
    done = diagnose(f"ws://127.0.0.1:{nginx.port}", code=FAILED)
    done.because("upgrade", "not_a_tunneld", "404", "nginx")


def test_sshd_is_no_tunneld(sshd, diagnose):
    diagnose(f"ws://127.0.0.1:{sshd.port}", code=FAILED).because("upgrade", "not_http", "SSH-2.0", "no tunneld")
    diagnose(f"wss://127.0.0.1:{sshd.port}", code=FAILED).because("tls", "not_a_tunneld", "SSH-2.0")


def test_a_port_without_tls_is_named(tunneld, token, diagnose):
    done = diagnose(f"wss://127.0.0.1:{tunneld.plain_port}", token=token, ca=tunneld.certificate, code=FAILED)
    done.because("tls", "no_tls", "HTTP/1.1", "TLS port")


# Services ---------------------------------------------------------------------------------------------


def test_a_service_that_is_not_there_is_told_from_one_that_does_not_answer(tunneld, token, diagnose):
    missing = diagnose(at(tunneld), "--service", "nothing", token=token, ca=tunneld.certificate, code=FAILED)
    missing.because("service", "TUNNEL_017", "the way to tunneld is good", "name")
    dead = diagnose(at(tunneld), "--service", "dead", token=token, ca=tunneld.certificate, code=FAILED)
    assert dead.failed == "service" and dead.cause.startswith("TUNNEL_0") and dead.cause != "TUNNEL_017", dead.ended


def test_a_service_that_is_no_echo_fails_the_data_step(tunneld, token, diagnose):
    done = diagnose(at(tunneld), "--service", "digest", "--echo", token=token, ca=tunneld.certificate, code=FAILED)
    done.because("data", "no_echo", "digest", "--echo")
