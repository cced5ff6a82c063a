"""scripts/run: the demonstration works, says what it did, and leaves nothing behind."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from programs.loopback import wait_until
from programs.process import Program
from programs.tunneld import REPOSITORY, binary

SCRIPT = REPOSITORY / "scripts" / "run"


def environment(directory):
    # Without a Grafana, whatever the caller of the tests has set.
    return {"TMPDIR": str(directory), "TUNNEL_BIN": str(binary().parent), "GRAFANA_URL": ""}


def processes_of(directory):
    """Command lines of every process that names a file of the demonstration."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(directory) in command:
            found.append(command)
    return found


@pytest.fixture
def directory(new_directory):
    path = new_directory("run")
    path.mkdir()
    path.chmod(0o755)
    return path


@pytest.mark.deadline(180)
def test_once_tells_the_story_and_leaves_nothing_behind(directory):
    done = subprocess.run([SCRIPT, "--once"], env={**os.environ, **environment(directory)}, capture_output=True,
                          text=True, timeout=170, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("GET ", "PUT ", "stream ", "401 TUNNEL_002", "up{job=\"tunneld\"} = 1", "status 0"):
        assert part in done.stdout, f"{part} is missing in:\n{done.stdout}"
    for row in (r"^data +query +tunnel-health/1/A ", r"^ok +rule +rule/TunnelDown ", r"^\d+ checks: \d+ data"):
        assert re.search(row, done.stdout, re.M), f"verify's table lacks {row} in:\n{done.stdout}"
    for row in (r"-> 5 x 503$", r"^ +\| status +active$", r"^ +\| .*\*\*Numbers\*\*$", r"^ +\| .*Runbook TunnelCircuitBreakerOpen",
                r"^ +\| inc-1 +resolved +critical .*Circuit breaker open: web via demo"):
        assert re.search(row, done.stdout, re.M), f"the story of the incident lacks {row} in:\n{done.stdout}"
    assert list(directory.iterdir()) == []
    wait_until(lambda: processes_of(directory) == [], 10, "its processes are gone")


@pytest.mark.deadline(180)
def test_with_a_grafana_it_sets_the_monitoring_up_there(directory, grafana_double):
    grafana_double.add_datasource("prom", "prometheus", "http://127.0.0.1:9", default=True)
    grafana = {"GRAFANA_URL": grafana_double.url, "GRAFANA_SERVICE_ACCOUNT_TOKEN": grafana_double.tokens["editor"]}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFANA_", "TUNNEL_"))}
    done = subprocess.run([SCRIPT, "--once"], env={**clean, **environment(directory), **grafana}, capture_output=True,
                          text=True, timeout=170, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for uid in ("tunnel-health", "tunnel-performance", "tunnel-errors"):
        assert f"{grafana_double.url}/d/{uid}" in done.stdout
        assert f'"{uid}"' in grafana_double.state()
    assert grafana["GRAFANA_SERVICE_ACCOUNT_TOKEN"] not in done.stdout + done.stderr
    assert list(directory.iterdir()) == []


@pytest.mark.deadline(180)
def test_it_stays_until_ctrl_c_and_its_curl_line_works_when_pasted(directory):
    program = Program("run", [SCRIPT], directory.parent, env=environment(directory))
    program.ready_when(lambda: "Ctrl-C" in program.printed(), 150)
    line = re.search(r"^  (curl .*/t/web/)$", program.printed(), re.M).group(1)
    assert "eyJ" not in line, "the token is in the command line"
    pasted = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert pasted.stdout.startswith("Hello from behind the tunnel."), pasted
    file = re.search(r"-H @(\S+)", line).group(1)
    assert os.stat(file).st_mode & 0o077 == 0
    os.killpg(program.pid, signal.SIGINT)  # as the terminal does
    assert program.wait(60) == 130
    assert list(directory.iterdir()) == []
    wait_until(lambda: processes_of(directory) == [], 10, "its processes are gone")
    program.kill()


@pytest.mark.deadline(60)
def test_a_failing_step_is_told_with_its_reason_and_a_status(directory, new_directory):
    broken = new_directory("broken")
    broken.mkdir()
    (broken / "tunneld").write_text("#!/bin/sh\necho 'tunneld: out of order' >&2\nexit 78\n")
    (broken / "tunneld").chmod(0o755)
    done = subprocess.run([SCRIPT, "--once"], env={**os.environ, **environment(directory), "TUNNEL_BIN": str(broken)},
                          capture_output=True, text=True, timeout=50, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1 and "FAILED: tunneld ssh-key" in done.stderr and "out of order" in done.stderr
    assert list(directory.iterdir()) == []
    wait_until(lambda: processes_of(directory) == [], 10, "its processes are gone")


def test_an_unknown_argument_is_a_usage_error():
    done = subprocess.run([SCRIPT, "--twice"], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 2 and "--once" in done.stderr
