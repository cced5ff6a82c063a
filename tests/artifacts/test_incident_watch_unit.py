"""deploy/systemd/tunnelctl-incident-watch.service: systemd takes it, and it fits what the program does."""

import pathlib
import re
import shutil
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
UNIT = REPOSITORY / "deploy/systemd/tunnelctl-incident-watch.service"
MANUAL = (REPOSITORY / "docs/incident-watch.md").read_text()
STATUSES = {name: int(value) for name, value in
            re.findall(r"^  (\w+) = (\d+),", (REPOSITORY / "tunnelctl/commands/exit_status.h").read_text(), re.M)}


def settings(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def setting(name):
    found = settings(name)
    assert len(found) == 1, f"{len(found)} lines {name}"
    return found[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_it(tmp_path):
    program = tmp_path / "tunnelctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/tunnelctl", str(program)))
    done = subprocess.run(["systemd-analyze", "--man=no", "verify", unit], capture_output=True, text=True,
                          timeout=60, check=False)
    told = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert done.returncode == 0 and not told, done.stderr


def test_it_is_not_started_again_for_what_stays_wrong():
    prevented = {int(word) for word in setting("RestartPreventExitStatus").split()}
    assert prevented == {STATUSES[name] for name in ("usage", "bad_input", "conflict", "config")}


def test_it_is_started_again_however_long_trouble_lasts():
    assert setting("Restart") == "on-failure" and setting("StartLimitIntervalSec") == "0"
    assert int(setting("RestartSec")) >= 5


def test_systemd_waits_for_a_call_of_the_backend_that_is_under_way():
    header = (REPOSITORY / "common/http_client.h").read_text()
    call = int(re.search(r"deadline\{([\d']+)\}", header)[1].replace("'", "")) / 1000
    assert int(setting("TimeoutStopSec")) > call + 5


def test_it_says_that_it_is_ready_and_alive():
    assert setting("Type") == "notify" and setting("NotifyAccess") == "main"
    assert int(setting("WatchdogSec")) >= 30


def test_its_state_survives_restarts_and_its_secrets_are_no_arguments():
    assert setting("DynamicUser") == "yes" and setting("StateDirectory") == "tunnelctl-incident-watch"
    assert "TUNNEL_TOKEN_FILE=%d/tunneld" in settings("Environment")
    assert "token" not in setting("ExecStart")


def test_the_manual_shows_it():
    assert "deploy/systemd/tunnelctl-incident-watch.service" in MANUAL
    assert setting("StateDirectory") in MANUAL
