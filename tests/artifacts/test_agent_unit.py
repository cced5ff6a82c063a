"""deploy/systemd/tunnelctl-agent.service: systemd takes it, and it fits what the program does."""

import pathlib
import re
import shutil
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
UNIT = REPOSITORY / "deploy/systemd/tunnelctl-agent.service"
STATUSES = {name: int(value) for name, value in
            re.findall(r"^  (\w+) = (\d+),", (REPOSITORY / "tunnelctl/commands/exit_status.h").read_text(), re.M)}


def setting(name):
    found = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)
    assert len(found) == 1, f"{len(found)} lines {name}"
    return found[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_it(tmp_path):
    program = tmp_path / "tunnelctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/tunnelctl", str(program)))
    (tmp_path / "run").mkdir()
    done = subprocess.run(["systemd-analyze", "--user", "--man=no", "verify", unit], capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")},
                          timeout=60, check=False)
    told = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert done.returncode == 0 and not told, done.stderr


def test_it_is_not_started_again_for_what_stays_wrong():
    prevented = {int(word) for word in setting("RestartPreventExitStatus").split()}
    assert prevented == {STATUSES[name] for name in ("usage", "bad_input", "conflict", "config")}


def test_systemd_waits_until_its_sessions_had_their_time():
    header = (REPOSITORY / "tunnelctl/client/agent.h").read_text()
    farewell = int(re.search(r"farewell\{([\d']+)\}", header)[1].replace("'", "")) / 1000
    assert int(setting("TimeoutStopSec")) > farewell + 5, "and for goodbyes"


def test_it_is_ready_when_tunneld_has_its_services():
    assert setting("Type") == "notify" and setting("NotifyAccess") == "main"
    # Before that it may have to wait for tunneld without an end (--retry forever).
    assert setting("TimeoutStartSec") == "infinity"
    assert int(setting("WatchdogSec")) >= 30


def test_its_sandbox_has_what_the_program_uses():
    # AF_UNIX: the socket pairs of its sshds; AF_NETLINK: news of the network.
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"} == set(setting("RestrictAddressFamilies").split())
