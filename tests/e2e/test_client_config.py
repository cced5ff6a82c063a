"""Settings of `connect` and `agent`: profiles, the configuration file and `tunnelctl config get|set|list|reset`, the
environment, and who wins."""

import json
import os
import pathlib
import re
import socket
import threading

import pytest

from programs.loopback import free_port, wait_until
from programs.tunnelctl import BAD_INPUT, CONFIG, FAILED, GAVE_UP, OK, USAGE, Tunnelctl
from test_agent import behind, new_agent  # noqa: F401
from test_audit import small_disk  # noqa: F401
from test_connect import Connect, echo, new_connect  # noqa: F401
from test_connect_http import ask

DEFAULTS = {"profile": "stable", "retry": "10", "base_delay": "2s", "request_timeout": "30s", "queue": "100",
            "compression": "off", "log_level": "info"}
PROFILES = {
    "stable": DEFAULTS,
    "unstable": {"profile": "unstable", "retry": "15", "base_delay": "1s", "request_timeout": "60s", "queue": "200",
                 "compression": "off", "log_level": "debug"},
    "low-bandwidth": {"profile": "low-bandwidth", "retry": "10", "base_delay": "3s", "request_timeout": "60s",
                      "queue": "50", "compression": "on", "log_level": "info"},
}


class Client(Tunnelctl):
    """tunnelctl of somebody with a home of their own."""

    @property
    def file(self):
        return self.directory / ".config" / "tunnelctl" / "config.yaml"

    def write(self, text, mode=0o600):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)
        self.file.chmod(mode)

    def values(self, *arguments):
        listed = self.run("config", "list", "--json", *arguments).expect(OK).json()["settings"]
        return {one["key"]: one["value"] for one in listed}

    def setting(self, key):
        return self.run("config", "get", key, "--json").expect(OK).json()

    def set(self, key, value):
        return self.run("config", "set", key, value).expect(OK)


@pytest.fixture
def client(new_directory):
    return Client(new_directory("client"))


@pytest.fixture
def dead_port():
    """Where nobody listens, and nobody will: it is taken."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def gave_up(connect, seconds=60):
    status = connect.end(seconds)
    assert status == GAVE_UP, f"{status}:\n{connect.err}"
    return True


@pytest.fixture
def new_lonely(client, dead_port):
    """`connect` to a port where nobody listens, in the client's home."""
    made = []

    def make(*arguments, **environment):
        made.append(Connect(client.directory, ["-L", f"{free_port()}:echo", *arguments],
                            server=f"wss://127.0.0.1:{dead_port}", token="nobody.reads.this",
                            environment=environment))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def waits(connect):
    """Milliseconds before each attempt."""
    return [int(text) for text in re.findall(r"attempt n=\d+ delay_ms=(\d+)", connect.err)]


# get, set, list, reset ------------------------------------------------------------------------------


@pytest.mark.short_client
def test_without_a_file_everything_is_the_default_and_no_file_is_made(client):
    listed = client.run("config", "list", "-o", "json").expect(OK).json()
    assert {one["key"]: one["value"] for one in listed["settings"]} == DEFAULTS
    assert {one["source"] for one in listed["settings"]} == {"default"}
    assert listed["file"] == str(client.file) and not listed["exists"]
    client.run("config", "reset").expect(OK)
    assert client.run("config", "get", "retry").expect(OK).out == "10\n"
    assert not client.file.parent.exists()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_its_row_of_the_table(client, profile):
    assert client.values("--profile", profile) == PROFILES[profile]
    assert client.set("profile", profile).code == OK
    assert client.values() == PROFILES[profile]
    assert client.setting("queue")["default"] == "100"


@pytest.mark.short_client
def test_what_is_set_is_there_afterwards_for_its_owner_alone(client):
    ended = client.set("queue", "200")
    assert ended.out == "queue: 100 -> 200\n"
    assert client.file.read_text() == "client:\n  queue: 200\n"
    assert client.file.stat().st_mode & 0o7777 == 0o600
    assert client.file.parent.stat().st_mode & 0o7777 == 0o700
    assert client.run("config", "get", "queue").out == "200\n"
    assert client.setting("queue") == {**client.setting("queue"), "value": "200", "default": "100", "source": "file",
                                       "from": f"{client.file}:2"}
    assert "already" in client.set("queue", "200").err
    assert client.run("config", "reset", "queue").expect(OK).out == "queue: 200 -> 100\n"
    assert client.values() == DEFAULTS


def test_a_profile_that_is_set_tells_all_that_changes(client):
    client.set("queue", "70")
    out = client.set("profile", "unstable").out
    assert "profile: stable -> unstable\n" in out and "retry: 10 -> 15\n" in out
    assert "queue" not in out, "what is set by itself stays"
    assert client.values() == {**PROFILES["unstable"], "queue": "70"}
    changes = client.run("config", "reset", "-o", "json").expect(OK).json()["changes"]
    assert changes["queue"] == "70 -> 100" and changes["profile"] == "unstable -> stable"
    assert client.values() == DEFAULTS


def test_the_file_may_be_elsewhere(client, new_directory):
    away = new_directory("away")
    client.with_environment(XDG_CONFIG_HOME=str(away)).run("config", "set", "retry", "forever").expect(OK)
    assert (away / "tunnelctl" / "config.yaml").read_text() == "client:\n  retry: forever\n"
    client.run("config", "set", "retry", "3", "--config", away / "mine.yaml").expect(OK)
    assert client.run("config", "get", "retry", "--config", away / "mine.yaml").expect(OK).out == "3\n"
    named = client.with_environment(TUNNELCTL_CONFIG=str(away / "third.yaml"))
    named.run("config", "set", "retry", "4").expect(OK)
    assert named.run("config", "get", "retry").expect(OK).out == "4\n"
    assert not client.file.exists()


def test_without_a_home_there_is_nowhere_to_write(client):
    ended = client.with_environment(HOME="").run("config", "set", "retry", "3").expect(CONFIG)
    assert "HOME" in ended.err
    client.with_environment(HOME="").run("config", "list").expect(OK)


@pytest.mark.short_client
@pytest.mark.parametrize("key, value, part", [
    ("retry", "0", "1 to 20"), ("retry", "21", "1 to 20"), ("retry", "ten", "forever"),
    ("request_timeout", "0", "1s to 600s"), ("request_timeout", "601", "1s to 600s"), ("request_timeout", "11m", "600s"),
    ("queue", "9", "10 to 1000"), ("queue", "1001", "10 to 1000"), ("queue", "1e2", "10 to 1000"),
    ("base_delay", "99ms", "100ms to 60s"), ("compression", "maybe", "on or off"),
    ("log_level", "loud", "error, warn, info or debug"), ("profile", "fast", "stable, unstable or low-bandwidth"),
    ("queu", "100", "did you mean queue?"), ("server", "x", "there are: profile, retry"),
])
def test_a_wrong_value_is_refused_before_anything_is_written(client, key, value, part):
    ended = client.run("config", "set", key, value).expect(BAD_INPUT)
    assert part in ended.err and len(ended.err.splitlines()) == 1
    assert not client.file.parent.exists()


def test_a_wrong_value_leaves_the_file_as_it_was(client):
    client.write("client:\n  queue: 20\n")
    before = client.file.stat()
    client.run("config", "set", "queue", "5").expect(BAD_INPUT)
    client.run("config", "reset", "color").expect(BAD_INPUT)
    after = client.file.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("arguments", [("set",), ("set", "queue"), ("set", "queue", "1", "2"), ("get", "a", "b"), ("list", "x")])
def test_half_a_command_is_refused(client, arguments):
    client.run("config", *arguments).expect(USAGE)


# The file that people write too ---------------------------------------------------------------------


def test_what_people_wrote_stays_as_they_wrote_it(client):
    text = ("# mine, by hand\ncurrent: prod\nclient:\n    # the train home\n    queue: 50   # few\n\n"
            "# of work\ncontexts:\n  - name: prod\n    server_url: wss://tunnel.example.org   # queue: 7\n")
    client.write(text, 0o644)
    client.set("queue", "70")
    client.set("request-timeout", "45")
    changed = text.replace("queue: 50 ", "queue: 70 ").replace("# few\n", "# few\n    request_timeout: 45s\n")
    assert client.file.read_text() == changed
    client.run("config", "reset").expect(OK)
    assert client.file.read_text() == text.replace("    queue: 50   # few\n", "")
    assert client.run("config", "contexts", "-o", "json").expect(OK).json()[0]["name"] == "prod"


def test_a_link_into_a_folder_of_dotfiles_stays_one(client):
    real = client.directory / "dotfiles" / "tunnelctl.yaml"
    real.parent.mkdir()
    real.write_text("client:\n  queue: 20\n")
    client.file.parent.mkdir(parents=True)
    client.file.symlink_to(real)
    client.set("queue", "30")
    assert client.file.is_symlink() and "queue: 30" in real.read_text()


@pytest.mark.parametrize("text", ["client: {queue: 20}\n", "\"client\":\n  queue: 20\n", "client:\n  \"queue\": 20\n",
                                  "client:\n  queue: 20\n...\n"])
def test_what_cannot_be_changed_alone_is_left_to_whoever_wrote_it(client, text):
    client.write(text)
    assert client.run("config", "get", "queue").expect(OK).out == "20\n"
    for arguments in (("set", "queue", "30"), ("set", "retry", "3")):
        ended = client.run("config", *arguments)
        if ended.code != OK:
            assert ended.code == CONFIG and "by hand" in ended.err
            assert client.file.read_text() == text
    assert client.values()["queue"] in ("20", "30")


@pytest.mark.short_client
@pytest.mark.parametrize("text, part", [
    ("client:\n  queu: 20\n", ":2: client.queu: unknown key; did you mean client.queue?"),
    ("cilent:\n  queue: 20\n", ":1: cilent: unknown key"),
    ("client:\n  queue: 20\n  retry: 21\n", ":3: client.retry: \"21\" must be a number from 1 to 20, or forever"),
    ("client:\n  queue: 20\n  queue: 30\n", ":3: client.queue: is set twice"),
    ("client:\n  queue:\n", "client.queue"),
    ("client: 5\n", ":1: client"),
    ("client:\n\tqueue: 5\n", ":2: "),
    ("\0", ":1: "),
])
def test_a_file_with_a_fault_is_refused_by_whoever_needs_it(client, new_lonely, text, part):
    client.write(text)
    for arguments in (("list",), ("get", "queue"), ("set", "retry", "3"), ("reset",)):
        ended = client.run("config", *arguments).expect(CONFIG)
        assert str(client.file) in ended.err and part in ended.err
    assert client.file.read_text() == text
    connect = new_lonely()
    assert connect.end() == CONFIG and part in connect.err and "attempt" not in connect.err


@pytest.mark.short_client
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_believed(client, new_lonely, mode):
    client.write("client:\n  queue: 20\n", mode)
    for arguments in (("list",), ("get",), ("set", "queue", "30"), ("reset",)):
        ended = client.run("config", *arguments).expect(CONFIG)
        assert f"chmod 600 {client.file}" in ended.err
    connect = new_lonely()
    assert connect.end() == CONFIG and "chmod 600" in connect.err and "attempt" not in connect.err
    assert "queue: 20" in client.file.read_text()
    client.file.chmod(0o644)
    assert client.values()["queue"] == "20"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_believed(client):
    client.write("client:\n  queue: 20\n")
    os.chown(client.file, 12345, 12345)
    for arguments in (("list",), ("set", "queue", "30")):
        assert "uid 12345" in client.run("config", *arguments).expect(CONFIG).err


@pytest.mark.deadline(120)
def test_many_at_once_lose_no_change(client):
    wanted = PROFILES["low-bandwidth"]
    for _ in range(3):
        failed = []

        def change(key, value):
            ended = client.run("config", "set", key, value)
            if ended.code != OK:
                failed.append(str(ended))

        threads = [threading.Thread(target=change, args=pair) for pair in wanted.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        assert client.values() == wanted
        assert {one["source"] for one in client.run("config", "list", "--json").json()["settings"]} == {"file"}
        client.run("config", "reset").expect(OK)
    assert client.values() == DEFAULTS


def test_a_full_disk_leaves_the_old_file(client, small_disk):  # noqa: F811
    home = client.with_environment(XDG_CONFIG_HOME=str(small_disk.path))
    home.run("config", "set", "queue", "20").expect(OK)
    folder = pathlib.Path(small_disk.path) / "tunnelctl"
    text = (folder / "config.yaml").read_text() + "#" * 4000  # more than the last block may still take
    (folder / "config.yaml").write_text(text)
    small_disk.fill()
    ended = home.run("config", "set", "queue", "30").expect(FAILED)
    assert "config.yaml" in ended.err and "No space left" in ended.err
    assert (folder / "config.yaml").read_text() == text
    assert sorted(one.name for one in folder.iterdir()) == [".config.yaml.lock", "config.yaml"]
    assert home.run("config", "get", "queue").expect(OK).out == "20\n"


# Who wins -------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_the_nearer_source_wins(client):
    client.write("client:\n  profile: low-bandwidth\n  queue: 60\n")
    assert client.setting("retry")["from"] == "profile low-bandwidth"
    assert client.setting("queue")["from"] == f"{client.file}:3"
    near = Client(client.directory, {"TUNNEL_QUEUE": "80", "TUNNEL_PROFILE": "unstable"})
    assert near.values() == {**PROFILES["unstable"], "queue": "80"}
    assert near.setting("queue")["from"] == "environment TUNNEL_QUEUE"
    assert near.values("--profile", "stable") == {**DEFAULTS, "queue": "80"}
    assert "TUNNEL_QUEUE=80 in the environment wins" in near.set("queue", "90").err
    table = near.run("config", "list").expect(OK).out
    assert re.search(r"^queue +80 +100 +environment TUNNEL_QUEUE$", table, re.MULTILINE), table


def test_a_wrong_variable_is_named(client, new_lonely):
    ended = client.with_environment(TUNNEL_RETRY="often").run("config", "list").expect(CONFIG)
    assert "environment TUNNEL_RETRY: \"often\" must be" in ended.err
    connect = new_lonely(TUNNEL_RETRY="often")
    assert connect.end() == CONFIG and "TUNNEL_RETRY" in connect.err


@pytest.mark.short_client
@pytest.mark.parametrize("arguments", [("--profile", "fast"), ("--base-delay", "1h"), ("--compression", "gzip"),
                                       ("--log-level", "loud"), ("--request-timeout", "500ms")])
def test_an_option_that_makes_no_sense_is_refused(new_lonely, arguments):
    connect = new_lonely(*arguments)
    assert connect.end() == USAGE and "must be" in connect.err


# connect goes by it ---------------------------------------------------------------------------------


@pytest.mark.short_client
def test_connect_takes_attempts_from_file_environment_and_option(client, new_lonely):
    client.write("client:\n  retry: 3\n  base_delay: 100ms\n")
    connect = new_lonely()
    assert gave_up(connect) and "gave up after 3 attempts" in connect.err
    assert connect.err.count("attempt n=") == 3
    connect = new_lonely(TUNNEL_RETRY="2")
    assert gave_up(connect) and "gave up after 2 attempts" in connect.err
    connect = new_lonely("--retry", "1", TUNNEL_RETRY="2")
    assert gave_up(connect) and "gave up after 1 attempt:" in connect.err


@pytest.mark.parametrize("profile, least_ms", [("stable", 1400), ("unstable", 700), ("low-bandwidth", 2100)])
def test_a_profile_changes_the_wait_before_the_second_attempt(new_lonely, profile, least_ms):
    connect = new_lonely("--profile", profile, "--retry", "2")
    assert gave_up(connect)
    first, second = waits(connect)
    assert first < least_ms <= second, "the base delay, times 0.7 to 1.3"
    if profile == "unstable":
        assert "settings profile=unstable retry=2 base_delay=1s request_timeout=60s queue=200" in connect.err


@pytest.mark.slow
@pytest.mark.deadline(200)
def test_the_profile_unstable_gives_up_after_fifteen(new_lonely):
    connect = new_lonely("--profile", "unstable", "--base-delay", "100ms")
    assert gave_up(connect, 180)
    assert "gave up after 15 attempts" in connect.err and len(waits(connect)) == 15


def test_the_log_level_says_how_much_is_told(new_lonely):
    quick = ("--retry", "2", "--base-delay", "100ms", "--log-level")
    told = {}
    for level in ("error", "warn", "info", "debug"):
        connect = new_lonely(*quick, level)
        assert gave_up(connect)
        told[level] = connect.err
    for text in told.values():
        assert "gave up after 2 attempts" in text
    assert "attempt n=" not in told["error"] and "attempt n=" not in told["warn"]
    assert told["info"].count("attempt n=2") == 1 and "DEBUG" not in told["info"]
    assert "DEBUG tunnel: settings profile=stable" in told["debug"] and told["debug"].count("DEBUG tunnel: connecting") == 2


def test_requests_wait_as_long_as_the_file_says(client, dead_port):
    client.write("client:\n  request_timeout: 1\n  retry: forever\n  base_delay: 60s\n")
    port = free_port()
    connect = Connect(client.directory, ["--http", f"{port}:web"], server=f"wss://127.0.0.1:{dead_port}",
                      token="nobody.reads.this")
    try:
        connect.says("attempt n=1")
        answer = ask(port, "/hello")
        assert answer.status == 504 and "TUNNEL_007" in answer.body.decode()
        assert len(waits(connect)) == 1, "a base delay of a minute is kept to from the beginning"
    finally:
        connect.kill()


def compressed(daemon):
    """Bytes of messages that were compressed, as the services see them."""
    return {direction: daemon.metric("tunnel_compression_bytes_total", direction=direction, stage=stage)
            for direction, stage in (("received", "after"), ("sent", "before"))}


@pytest.mark.short_client
def test_low_bandwidth_compresses_both_ways_where_tunneld_agrees(new_tunneld, new_connect):  # noqa: F811
    daemon = new_tunneld(ws={"compression": True})
    payload = b"".join(b"line %d of a text that shrinks\n" % number for number in range(30_000))
    plain = free_port()
    new_connect(daemon, "-L", f"{plain}:echo").says("connected to")
    assert echo(plain, payload) == payload
    assert compressed(daemon) == {"received": 0, "sent": 0}, "nobody asked for it"
    port = free_port()
    connect = new_connect(daemon, "-L", f"{port}:echo", "--profile", "low-bandwidth", "--log-level", "debug")
    connect.says("connected to")
    assert re.search(r"websocket opened .*compression=true", connect.err)
    assert echo(port, payload) == payload
    wait_until(lambda: all(count >= len(payload) / 2 for count in compressed(daemon).values()), 10,
               f"both are counted: {daemon.metrics()}")
    assert connect.stop() == OK


def test_low_bandwidth_works_where_tunneld_does_not_compress(tunneld, new_connect):  # noqa: F811
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:echo", "--profile", "low-bandwidth", "--log-level", "debug")
    connect.says("connected to")
    payload = os.urandom(1 << 20) + b"x" * (1 << 20)
    assert echo(port, payload) == payload
    assert re.search(r"websocket opened .*compression=false", connect.err)
    assert connect.stop() == OK


# agent goes by it -----------------------------------------------------------------------------------


@pytest.fixture
def lonely_agent(tunneld, new_agent, behind, dead_port):  # noqa: F811
    def make(*arguments, **environment):
        agent = new_agent(tunneld, behind, arguments=arguments, start=False)
        agent.port = dead_port
        agent.environment = environment
        return agent.launch()

    return make


def test_an_agent_takes_its_attempts_from_the_environment(lonely_agent):
    agent = lonely_agent("--base-delay", "100ms", TUNNEL_RETRY="2")
    assert agent.status(60) == GAVE_UP
    assert agent.log().count("agent: attempt ") == 2


def test_an_agent_under_systemd_gives_up_only_when_told_so_itself(lonely_agent):
    agent = lonely_agent("--profile", "unstable", INVOCATION_ID="1")
    wait_until(lambda: "agent: attempt " in agent.log(), 30, "it has tried")
    assert "settings profile=unstable retry=forever base_delay=1s" in agent.log()
    agent.stop()
    agent = lonely_agent("--base-delay", "100ms", INVOCATION_ID="1", TUNNEL_RETRY="2")
    assert agent.status(60) == GAVE_UP


def test_an_agent_tells_as_much_as_the_level_says(lonely_agent):
    agent = lonely_agent("--retry", "1", "--log-level", "error")
    assert agent.status(60) == GAVE_UP
    assert "agent: attempt" not in agent.log() and "gave up" in agent.log()


def test_the_help_and_the_reference_name_every_setting(client):
    connect = client.run("connect", "--help").expect(OK).out
    reference = client.run("config", "reference").expect(OK).out
    for one in json.loads(client.run("config", "list", "--json").out)["settings"]:
        assert one["option"] in connect and one["variable"] in connect
        assert f"client.{one['key']}" in reference
