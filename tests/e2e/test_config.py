"""Configuration: what starts with nothing, and what one clear line says about everything wrong."""

import os
import re
import signal
import socket
import subprocess

import pytest
import yaml

from callers.raw_http import RawHttp, request
from programs.loopback import accepts, wait_until
from programs.process import Program
from programs.tunneld import Tunneld, binary, run

EX_CONFIG = 78  # sysexits.h; the documented status for everything a configuration can get wrong


@pytest.fixture
def written(new_directory):
    """Writes a configuration file and returns its path."""
    directory = new_directory("config")
    directory.mkdir()

    def write(text, name="tunneld.yaml"):
        path = directory / name
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return path

    return write


def upstream(**changes):
    entry = {"name": "far", "address": ["127.0.0.1:22"], "user": "x", "host_key_fingerprint": ["SHA256:" + "A" * 43],
             "services": [{"name": "web", "target": "127.0.0.1:80", "allow": ["*"]}]}
    entry.update(changes)
    return yaml.safe_dump({"upstreams": [{k: v for k, v in entry.items() if v is not None}]})


def service(**changes):
    entry = {"name": "web", "target": "127.0.0.1:80", "allow": ["*"]}
    entry.update(changes)
    return upstream(services=[{k: v for k, v in entry.items() if v is not None}])


# Wrong files --------------------------------------------------------------------------------------

WRONG = [
    # (what, file, the key or word the message must name, the line it must name or None)
    ("an unknown key", "listn: ['127.0.0.1:1']\n", "listn", 1),
    ("an unknown nested key", "limits:\n  max_conections: 5\n", "max_conections", 2),
    ("an unknown section", "\n\nlimit:\n  max_connections: 5\n", "limit", 3),
    ("a key twice", "threads: 1\nthreads: 2\n", "threads", 2),
    ("a word where a number is due", "threads: many\n", "threads", 1),
    ("a fraction where a whole number is due", "threads: 1.5\n", "threads", 1),
    ("a number with a tail", "limits:\n  max_connections: 5x\n", "max_connections", 2),
    ("a number with a plus", "limits:\n  max_connections: '+5'\n", "max_connections", 2),
    ("an exponent", "limits:\n  max_connections: 1e3\n", "max_connections", 2),
    ("hexadecimal", "limits:\n  max_connections: 0x10\n", "max_connections", 2),
    ("a number below its range", "limits:\n  max_connections: 0\n", "max_connections", 2),
    ("a negative number", "limits:\n  max_connections: -1\n", "max_connections", 2),
    ("a number above its range", "limits:\n  max_connections: 10000001\n", "max_connections", 2),
    ("a number over 64 bits", "limits:\n  max_connections: 99999999999999999999999\n", "max_connections", 2),
    ("no number at all", "limits:\n  max_connections:\n", "max_connections", 2),
    ("a list where a number is due", "limits:\n  max_connections: [5]\n", "max_connections", 2),
    ("a mapping where a number is due", "limits:\n  max_connections: {a: 5}\n", "max_connections", 2),
    ("a time without unit", "drain_timeout: 30\n", "drain_timeout", 1),
    ("a time of an unknown unit", "drain_timeout: 30 parsecs\n", "drain_timeout", 1),
    ("a negative time", "drain_timeout: -30s\n", "drain_timeout", 1),
    ("a time beyond its range", "drain_timeout: 100h\n", "drain_timeout", 1),
    ("a size in KB", "ws:\n  max_frame: 64KB\n", "max_frame", 2),
    ("a size beyond its range", "ws:\n  max_frame: 1GiB\n", "max_frame", 2),
    ("yes where true is due", "metrics:\n  compat: yes\n", "compat", 2),
    ("a word outside the choices", "log:\n  level: loud\n", "level", 2),
    ("a TLS version of the past", "tls:\n  min_version: '1.0'\n", "min_version", 2),
    ("a listener without port", "listen: ['127.0.0.1']\n", "listen", 1),
    ("a listener by name", "listen: ['localhost:3001']\n", "listen", 1),
    ("a port over 65535", "listen: ['127.0.0.1:65536']\n", "listen", 1),
    ("a negative port", "listen: ['127.0.0.1:-1']\n", "listen", 1),
    ("an IPv6 address without brackets", "listen: ['::1:3001']\n", "listen", 1),
    ("no listener", "listen: []\n", "listen", None),
    ("the same address twice", "listen: ['127.0.0.1:4001']\nadmin_listen: '127.0.0.1:4001'\n", "4001", None),
    ("a plaintext listener for everybody", "plaintext_listen: ['0.0.0.0:3002']\n", "plaintext_listen", None),
    ("an admin listener for everybody", "admin_listen: '0.0.0.0:9090'\n", "admin_listen", None),
    ("an origin with a path", "allowed_origins: ['https://x.test/app']\n", "allowed_origins", 1),
    ("an origin for everybody", "allowed_origins: ['*']\n", "allowed_origins", 1),
    ("a certificate without its key", "tls:\n  certificate_file: /etc/x.pem\n", "tls.key_file", None),
    ("jwks mode without keys", "auth:\n  mode: jwks\n  issuer: a\n  audience: b\n", "jwks", None),
    ("jwks mode without issuer", "auth:\n  mode: jwks\n  audience: b\n  jwks_file: /x\n", "issuer", None),
    ("jwks mode without audience", "auth:\n  mode: jwks\n  issuer: b\n  jwks_file: /x\n", "audience", None),
    ("keys by plain http", "auth:\n  mode: jwks\n  issuer: a\n  audience: b\n  jwks_url: http://x/\n", "jwks_url", None),
    ("two sources of keys", "auth:\n  mode: jwks\n  issuer: a\n  audience: b\n  jwks_url: https://x/\n  jwks_file: /x\n", "jwks", None),
    ("a shared secret beside keys", "auth:\n  mode: jwks\n  issuer: a\n  audience: b\n  jwks_file: /x\n  shared_secret_file: /y\n", "shared_secret", None),
    ("a secret written into the file", "auth:\n  shared_secret: hunter2hunter2hunter2hunter2hunter2\n", "shared_secret", 2),
    ("shared-secret mode without secret", "auth:\n  mode: shared_secret\n  issuer: a\n  audience: b\n", "shared_secret_file", None),
    ("pings slower than death", "ws:\n  ping_interval: 60s\n  dead_after: 30s\n", "dead_after", None),
    ("an upstream without name", upstream(name=None), "name", None),
    ("an upstream without address", upstream(address=None), "address", None),
    ("an upstream without user", upstream(user=None), "user", None),
    ("an upstream without any host key", upstream(host_key_fingerprint=None), "host_key_fingerprint", None),
    ("a fingerprint too short", upstream(host_key_fingerprint=["SHA256:abc"]), "host_key_fingerprint", None),
    ("an MD5 fingerprint", upstream(host_key_fingerprint=["MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48"]), "host_key_fingerprint", None),
    ("a fingerprint and known_hosts", upstream(known_hosts_file="/x"), "host_key_fingerprint", None),
    ("an address without port", upstream(address=["127.0.0.1"]), "address", None),
    ("a user with a space", upstream(user="a b"), "user", None),
    ("a key of an upstream misspelt", upstream(fingerprint="x"), "fingerprint", None),
    ("upstreams that are a mapping", "upstreams:\n  name: x\n", "upstreams", None),
    ("upstreams that are a word", "upstreams: far\n", "upstreams", 1),
    ("a service without name", service(name=None), "name", None),
    ("a service without target", service(target=None), "target", None),
    ("a service name in capitals", service(name="Web"), "name", None),
    ("a service name with a slash", service(name="a/b"), "name", None),
    ("a service name of 64 letters", service(name="a" * 64), "name", None),
    ("a target without port", service(target="127.0.0.1"), "target", None),
    ("a target that is a URL", service(target="http://127.0.0.1:80"), "target", None),
    ("an allow entry of an unknown kind", service(allow=["user:alice"]), "allow", None),
    ("an allow entry with an unknown tier", service(allow=["tier:gold"]), "allow", None),
    ("one service twice", upstream(services=[{"name": "web", "target": "a:1"}, {"name": "web", "target": "b:2"}]), "name", 10),
    ("broken YAML", "listen: [\n", "", None),
    ("a tab in YAML", "limits:\n\tmax_connections: 5\n", "", 2),
    ("a list instead of a mapping", "- a\n- b\n", "", 1),
    ("just a word", "hello\n", "", 1),
    ("an anchor bomb", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n", "", None),
    ("a thousand levels", "a: " + "{a: " * 1000 + "1" + "}" * 1000 + "\n", "", None),
    ("a NUL", "threads: 1\0\n", "", None),
    ("bytes that are not UTF-8", b"listen: ['\xff\xfe']\n".decode("latin-1"), "listen", None),
    ("two documents", "threads: 1\n---\nthreads: 2\n", "", None),
]


@pytest.mark.parametrize("what,text,named,line", WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_file_is_one_clear_refusal(written, what, text, named, line):
    path = written(text)
    for command in ("check-config", "serve"):
        done = run(command, "--config", path)
        assert done.returncode == EX_CONFIG, f"{what}: {command} ended with {done.returncode}: {done.stderr}{done.stdout}"
        said = done.stderr + done.stdout
        assert named in said and str(path) in said, f"{what}: {said}"
        if line:
            assert f"{path}:{line}" in said, f"{what}: {said}"
        assert len(said.splitlines()) <= 3, f"{what}: {said}"
        assert not re.search(r"\b(terminate called|what\(\)|yaml-cpp|exception)\b", said), said
    assert "hunter2" not in said


@pytest.mark.short
def test_a_misspelt_key_is_answered_with_the_right_one(written):
    assert "max_connections" in run("check-config", "--config", written("limits:\n  max_conections: 5\n")).stderr


def test_every_error_is_told_at_once(written):
    said = run("check-config", "--config", written("threads: x\nlog:\n  level: y\nws:\n  max_frame: z\n")).stderr
    assert all(name in said for name in ("threads", "level", "max_frame"))


@pytest.mark.parametrize("what", ["missing", "a directory", "larger than a mebibyte"])
def test_a_file_that_cannot_be_read_is_named(written, what):
    path = written("threads: 1\n")
    if what == "missing":
        path.unlink()
    elif what == "a directory":
        path.unlink()
        path.mkdir()
    else:
        path.write_text("# " + "x" * (1 << 21) + "\n")
    done = run("serve", "--config", path)
    assert done.returncode == EX_CONFIG and str(path) in done.stderr


@pytest.mark.parametrize("variable,value", [("TUNNELD_THREADS", "x"), ("TUNNELD_NO_SUCH_KEY", "1"), ("TUNNELD_LISTEN", "nowhere"),
                                            ("TUNNELD_DRAIN_TIMEOUT", "soon"), ("TUNNELD_LOG_LEVEL", "\x1b[31m")])
def test_a_wrong_environment_variable_is_named(written, variable, value):
    done = run("check-config", "--config", written("threads: 1\n"), env={variable: value})
    assert done.returncode == EX_CONFIG and variable in done.stderr and "\x1b" not in done.stderr


@pytest.mark.short
@pytest.mark.parametrize("arguments", [["nonsense"], ["serve", "--no-such-flag"], ["token"], ["token", "create"],
                                       ["token", "create", "--subject", "x", "--expires", "soon"],
                                       ["token", "create", "--subject", "x", "--tier", "gold"],
                                       ["token", "create", "--subject", ""]])
def test_a_wrong_command_line_is_a_usage_error(written, arguments, new_directory):
    state = new_directory("state")
    done = run(*arguments, env={"TUNNELD_STATE_DIR": str(state)})
    assert done.returncode in (2, 64, EX_CONFIG) and done.stderr, done


# Good files ---------------------------------------------------------------------------------------


@pytest.mark.short
def test_file_environment_and_flags_win_in_this_order(written):
    path = written("log:\n  level: WARN\nthreads: 1\nlimits:\n  max_connections: 5\n")
    shown = run("check-config", "--config", path, "--set", "limits.max_connections=7",
                env={"TUNNELD_THREADS": "2", "TUNNELD_LIMITS_MAX_CONNECTIONS": "6"})
    assert shown.returncode == 0, shown.stderr


@pytest.mark.short
def test_the_reference_names_every_key_with_its_default(written):
    text = run("config-reference").stdout
    for key in ("listen", "admin_listen", "state_dir", "auth.mode", "limits.max_connections", "request.timeout", "ssh.keepalive",
                "upstreams", "drain_timeout", "log.level"):
        assert key in text, key


@pytest.mark.short
@pytest.mark.deadline(60)
def test_with_no_configuration_at_all_it_starts_on_loopback(new_directory):
    """Only the ports are chosen, so that it does not meet another daemon on this machine."""
    directory = new_directory("bare")
    directory.mkdir()
    daemon = Tunneld(directory, {})
    daemon.config.unlink()
    daemon.state = directory / "xdg" / "tunneld"
    daemon.certificate = daemon.state / "tls.crt"
    env = {"XDG_STATE_HOME": str(directory / "xdg"), "HOME": str(directory), "TUNNELD_LISTEN": f"127.0.0.1:{daemon.port}",
           "TUNNELD_ADMIN_LISTEN": f"127.0.0.1:{daemon.admin_port}"}
    if os.geteuid() == 0:
        env["STATE_DIRECTORY"] = str(daemon.state)  # root's default is /var/lib/tunneld, which is not a test's to make
    daemon.program = Program("tunneld", [binary(), "serve"], directory, env=env)
    try:
        daemon.program.ready_when(daemon.is_ready, 60)
        with RawHttp(daemon.connect()) as connection:
            connection.send(request("GET", "/t/web/hello"))
            assert connection.read_answer().status == 401
        token = run("token", "create", "--subject", "me", env=env).stdout.strip()
        with RawHttp(daemon.connect()) as connection:
            connection.send(request("GET", "/t/web/hello", token=daemon.secret(token)))
            assert connection.read_answer().status == 403
        assert oct(daemon.state.stat().st_mode & 0o777) == "0o700"
        for file in daemon.state.rglob("*"):
            if file.is_file() and "key" in file.name and not file.name.endswith(".pub"):
                assert file.stat().st_mode & 0o077 == 0, f"{file} is readable by others"
    finally:
        daemon.stop()


# The world around it ------------------------------------------------------------------------------


def refusal_to_start(daemon, seconds=20):
    """(status, output) of a daemon that must not start."""
    program = daemon.launch()
    status = program.wait(seconds)
    output = program.output()
    program.kill()
    return status, output


@pytest.mark.short
@pytest.mark.parametrize("which", ["port", "plain_port", "admin_port"])
def test_a_port_in_use_stops_the_start_naming_it(new_tunneld, which):
    daemon = new_tunneld(start=False)
    with socket.create_server(("127.0.0.1", getattr(daemon, which))):
        status, output = refusal_to_start(daemon)
    assert status not in (0, None) and status > 0
    assert f"127.0.0.1:{getattr(daemon, which)}" in output
    for other in ("port", "plain_port", "admin_port"):
        if other != which:
            assert not accepts(getattr(daemon, other)), "a half-started daemon stayed behind"


@pytest.mark.parametrize("what", ["missing", "empty", "nonsense", "of another certificate"])
def test_an_unusable_tls_key_stops_the_start_naming_it(new_tunneld, new_directory, what):
    directory = new_directory("tls")
    directory.mkdir()
    certificate, key = directory / "certificate.pem", directory / "key.pem"

    def make(key_file, certificate_file):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                        "2", "-subj", "/CN=x", "-keyout", key_file, "-out", certificate_file], check=True, capture_output=True)

    make(key, certificate)
    key.chmod(0o600)
    if what == "missing":
        key.unlink()
    elif what == "empty":
        key.write_text("")
    elif what == "nonsense":
        key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    else:
        make(key, directory / "other.pem")
        key.chmod(0o600)
    daemon = new_tunneld(start=False, tls={"certificate_file": str(certificate), "key_file": str(key)})
    status, output = refusal_to_start(daemon)
    assert status == EX_CONFIG and str(key) in output, output


@pytest.mark.parametrize("name", ["ssh", "issuer"])
def test_a_damaged_key_in_the_state_directory_is_named_and_never_replaced(new_tunneld, name):
    daemon = new_tunneld(start=False)
    daemon.token()
    damaged = [f for f in daemon.state.rglob("*") if f.is_file() and not f.name.endswith((".pub", "lock")) and f.stat().st_size
               and (("ssh" in str(f.relative_to(daemon.state))) == (name == "ssh")) and not f.name.startswith("tls")]
    assert damaged, list(daemon.state.rglob("*"))
    damaged[0].write_text("damaged\n")
    status, output = refusal_to_start(daemon)
    assert status == EX_CONFIG and str(damaged[0]) in output
    assert damaged[0].read_text() == "damaged\n"


def test_a_state_directory_that_others_may_enter_is_closed_to_them(new_tunneld):
    daemon = new_tunneld(start=False)
    daemon.state.chmod(0o777)
    daemon.start()
    assert daemon.state.stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_cannot_be_made_stops_the_start(new_tunneld, new_directory):
    directory = new_directory("blocked")
    directory.mkdir()
    (directory / "file").write_text("")
    daemon = new_tunneld(start=False)
    daemon.configuration = {**daemon.configuration, "state_dir": str(directory / "file" / "state")}
    daemon.write_config()
    status, output = refusal_to_start(daemon)
    assert status not in (0, None) and str(directory / "file") in output


def test_a_read_only_state_directory_still_serves_or_says_why_not(new_tunneld):
    """With everything already made, nothing needs to be written."""
    daemon = new_tunneld()
    daemon.stop()
    before = {f: f.read_bytes() for f in daemon.state.rglob("*") if f.is_file()}
    with read_only(daemon.state):
        status_or_ready = start_or_status(daemon)
        if status_or_ready is not True:
            assert status_or_ready != 0 and str(daemon.state) in daemon.program.output()
            daemon.program.kill()
        else:
            daemon.stop()
    assert {f: f.read_bytes() for f in daemon.state.rglob("*") if f.is_file()} == before


class read_only:
    """Makes a folder read-only: by a bind mount as root, whom modes do not stop, else by its mode."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        if os.geteuid() == 0:
            subprocess.run(["mount", "--bind", self.path, self.path], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", self.path], check=True)
        else:
            self.path.chmod(0o500)

    def __exit__(self, *_):
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", self.path], check=True)
        else:
            self.path.chmod(0o700)


def start_or_status(daemon):
    """True once it serves, or the status it ended with."""
    program = daemon.launch()
    wait_until(lambda: not program.alive() or daemon.is_ready(), 30, "it serves or ends")
    return True if program.alive() else program.wait(5)


@pytest.mark.short
def test_a_full_disk_for_the_log_stops_no_request(new_tunneld):
    """/dev/full takes no byte, as a full disk does."""
    daemon = new_tunneld(log={"output": "/dev/full", "level": "DEBUG"}, start=False)
    started = start_or_status(daemon)
    assert started is True, f"it must serve on without a log, but ended with {started}: {daemon.program.output()}"
    token = daemon.token()
    for _ in range(50):
        with RawHttp(daemon.connect()) as connection:
            connection.send(request("GET", "/t/web/hello", token=token))
            assert connection.read_answer().status == 200
    assert daemon.metric("tunnel_log_dropped_total") > 0


def test_a_log_file_that_cannot_be_opened_stops_the_start_naming_it(new_tunneld):
    daemon = new_tunneld(log={"output": "/nowhere/at/all.log"}, start=False)
    status, output = refusal_to_start(daemon)
    assert status not in (0, None) and "/nowhere/at/all.log" in output


def test_a_log_file_is_opened_anew_on_sighup(new_tunneld, new_directory):
    directory = new_directory("log")
    directory.mkdir()
    file = directory / "tunneld.log"
    daemon = new_tunneld(log={"output": str(file)})
    wait_until(lambda: file.exists() and file.stat().st_size, 10, "the log is written")
    file.rename(directory / "old.log")
    daemon.program.send(signal.SIGHUP)
    wait_until(lambda: file.exists() and file.stat().st_size, 10, "a new log is begun")


@pytest.mark.short
def test_the_limit_of_open_files_is_respected(new_tunneld):
    """With few descriptors it refuses connections rather than fail in the middle of one, and recovers."""
    daemon = new_tunneld(open_files=128, limits={"fd_reserve": 48})
    token = daemon.token()
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", token=token))
        assert connection.read_answer().status == 200
    held = []
    for _ in range(150):
        try:
            held.append(socket.create_connection(("127.0.0.1", daemon.plain_port), 5))
        except OSError:
            break
    assert daemon.admin("/healthz")[0] == 200
    for connection in held:
        connection.close()

    def served():
        try:
            with RawHttp(daemon.connect()) as connection:
                connection.send(request("GET", "/t/web/hello", token=token))
                return connection.read_answer().status == 200
        except (OSError, EOFError):
            return False

    wait_until(served, 20, "requests pass again")
