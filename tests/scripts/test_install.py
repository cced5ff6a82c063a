"""scripts/install, with stand-ins for the package tools: nothing is installed here."""
import os
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(tmp_path):
    """A machine where `installed` says what is there, and `calls` records what apt-get was asked."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tmp_path / "installed").write_text("")
    (tmp_path / "packages").write_text("# c\nbuild: gcc make  # why\nbuild: ninja\ntest: nginx\n")

    def tool(name, script):
        (tools / name).write_text(f"#!/bin/bash\n{script}\n")
        (tools / name).chmod(0o755)

    tool("dpkg-query", f"sed 's/^/installed /' {tmp_path}/installed; exit 1")
    tool("sudo", 'exec "$@"')
    tool("systemctl", f'echo "systemctl $*" >>{tmp_path}/calls')
    tool("apt-get", f'''
        for word; do case $word in update|install) verb=$word;; esac; done
        echo "$verb ${{*##-*}} policy=$([ -x {tmp_path}/policy ] && {tmp_path}/policy; echo $?)" | tr -s ' ' >>{tmp_path}/calls
        [ ! -e {tmp_path}/fail ] || {{ echo "E: no network"; exit 100; }}''')

    class Machine:
        policy = tmp_path / "policy"

        def has(self, *packages):
            (tmp_path / "installed").write_text("".join(f"{package}\n" for package in packages))

        def breaks(self):
            (tmp_path / "fail").touch()

        def calls(self):
            path = tmp_path / "calls"
            return path.read_text().splitlines() if path.exists() else []

        def install(self, *purposes):
            env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "TUNNEL_PACKAGES": str(tmp_path / "packages"),
                   "TUNNEL_POLICY_RC_D": str(self.policy)}
            return subprocess.run([REPOSITORY / "scripts" / "install", *purposes], env=env, text=True,
                                  capture_output=True, timeout=60)
    return Machine()


def test_says_and_does_nothing_when_nothing_is_missing(machine):
    machine.has("gcc", "make", "ninja", "nginx")
    done = machine.install()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls() == []


def test_installs_only_what_is_missing_for_the_purpose(machine):
    machine.has("gcc", "ninja")
    done = machine.install("build")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "install: installing make\n"
    update, install = machine.calls()
    assert update.startswith("update ")
    assert " make " in install and "gcc" not in install and "nginx" not in install


def test_services_are_forbidden_to_start_meanwhile_and_nothing_stays_behind(machine):
    machine.install("test")
    assert machine.calls()[1].endswith("policy=101")
    assert not machine.policy.exists()


def test_a_policy_that_was_there_stays(machine):
    machine.policy.write_text("#!/bin/sh\nexit 104\n")
    machine.policy.chmod(0o755)
    machine.install("test")
    assert machine.calls()[1].endswith("policy=104")
    assert machine.policy.read_text() == "#!/bin/sh\nexit 104\n"


def test_a_failure_shows_what_was_said_names_a_remedy_and_leaves_nothing(machine):
    machine.breaks()
    done = machine.install("build")
    assert done.returncode == 1
    assert "E: no network" in done.stderr and "remedy:" in done.stderr
    assert not machine.policy.exists()


def test_an_unknown_purpose_is_a_usage_error_that_lists_the_known(machine):
    done = machine.install("nonsense")
    assert done.returncode == 2
    assert "there are: build test" in done.stderr
