"""The commands on the runbook pages, pasted: against a real daemon that has had some trouble, and a real Prometheus."""

import os
import re
import subprocess

import pytest

from callers.raw_http import RawHttp, request
from programs.loopback import wait_until
from programs.prometheus import Prometheus
from programs.tunnelctl import binary as tunnelctl
from programs.tunneld import REPOSITORY, binary

PAGES = sorted((REPOSITORY / "runbooks" / "tunnel").glob("*.md"))


def commands(page):
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", page.read_text(), re.M | re.S)
    return [line.strip() for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def machine(shared_tunneld, new_directory, token):
    """A machine such as the pages expect: the daemon has refused a token and lost a service; Prometheus watches it."""
    directory = new_directory("machine")
    directory.mkdir()
    for answer, sent in ((503, request("GET", "/t/dead/", token=token)), (401, request("GET", "/t/web/hello"))):
        with RawHttp(shared_tunneld.connect()) as connection:
            connection.send(sent)
            assert connection.read_answer().status == answer
    admin = shared_tunneld.token("root", "free", scope="tunnel:admin")
    (directory / "authorization").write_text(f"Authorization: Bearer {admin}\n")
    prometheus = Prometheus(new_directory("prometheus"), f"127.0.0.1:{shared_tunneld.admin_port}").start()
    wait_until(lambda: prometheus.query("tunnel_build_info"), 30, "Prometheus has scraped the daemon")
    with RawHttp(shared_tunneld.connect()) as held:  # somebody is connected
        held.send(request("GET", "/t/web/hello", token=token))
        held.read_answer()

        def paste(command):
            for shown, here in (("127.0.0.1:9090", f"127.0.0.1:{shared_tunneld.admin_port}"),
                                ("127.0.0.1:3001", f"127.0.0.1:{shared_tunneld.port}"),
                                ("/etc/tunneld/tunneld.yaml", str(shared_tunneld.config)),
                                ("/var/lib/tunneld", str(shared_tunneld.state)),
                                ("$(pidof tunneld)", str(shared_tunneld.program.pid))):
                command = command.replace(shown, here)
            command = re.sub(r"^tunneld ", f"{binary()} ", command)
            command = re.sub(r"^tunnelctl ", f"{tunnelctl()} --admin-url {shared_tunneld.admin_url()} ", command)
            command = re.sub(r"^journalctl -u tunneld -o cat (--since=\S+|-n \d+)", f"cat {shared_tunneld.program.log}", command)
            return subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=directory, capture_output=True, text=True,
                                  timeout=60, env={**os.environ, "PROMETHEUS_URL": f"http://127.0.0.1:{prometheus.port}",
                                               "TUNNEL_TOKEN": admin})

        yield paste
    prometheus.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_asks_the_daemon_is_answered(machine, page):
    for command in commands(page):
        if re.match(r"tunneld |curl .*127\.0\.0\.1:9090|openssl s_client|(top|ls) .*pidof", command):
            done = machine(command)
            assert done.returncode == 0 and done.stdout.strip(), f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_tunnelctl_is_asked_works(machine, page):
    for command in commands(page):
        if command.startswith("tunnelctl "):
            done = machine(command)
            assert done.returncode == 0 and done.stdout + done.stderr, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_asks_prometheus_is_evaluated(machine, page):
    for command in commands(page):
        if command.startswith("promtool query"):
            done = machine(command)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_searches_the_log_finds_what_happened(machine, page):
    """Only searches for what the daemon here has gone through: requests that failed, and its start."""
    happened = r'"code":"TUNNEL_(\'|00[12])|"message":"(request|serving)"'
    for command in commands(page):
        if command.startswith("journalctl -u tunneld") and re.search(happened, command):
            done = machine(command)
            assert done.returncode == 0 and done.stdout.strip(), f"{command}\n{done.stdout}{done.stderr}"
