"""tunnelctl's command line as scripts and people meet it: help, manual, completion, JSON, speed."""

import json
import os
import re
import shutil
import subprocess
import time

import pytest

from programs.monitoring import set_up
from programs.tunnelctl import CHANGES, OK, USAGE, Tunnelctl
from programs.tunneld import is_sanitized


@pytest.fixture
def anywhere(new_directory):
    """Without any server."""
    return Tunnelctl(new_directory("tunnelctl"))


def _commands(by, path=()):
    """Every command, groups too, by what --help lists."""
    text = by.run(*path, "--help").expect(OK).out
    yield path, text
    listed = re.split(r"^\s*(?:Subcommands|Commands|SUBCOMMANDS):?\s*$", text, flags=re.M)
    if len(listed) < 2:
        return
    for name in re.findall(r"^  ([a-z][a-z-]*)(?:\s|$)", listed[1].split("\n\n")[0], re.M):
        yield from _commands(by, (*path, name))


def test_every_command_explains_itself_with_two_examples(anywhere):
    found = dict(_commands(anywhere))
    names = {" ".join(path) for path in found}
    assert names >= {"monitor", "monitor plan", "monitor setup", "monitor destroy", "completion", "man", "explain"}
    for path, text in found.items():
        if any(other[:len(path)] == path and other != path for other in found):
            continue  # a group: its commands have the examples
        examples = text.partition("Examples:\n")[2]
        lines = [line for line in examples.splitlines() if "tunnelctl" in line]
        assert len(lines) >= 2, f"tunnelctl {' '.join(path)} --help shows {len(lines)} examples"
        assert all(" ".join(("tunnelctl", *path)) in line for line in lines[:2]), f"of another command: {lines}"


@pytest.mark.parametrize("command", ["plan", "setup", "verify", "destroy", "render", "lint", "guide", "export"])
def test_the_commands_of_monitor(anywhere, command):
    assert "Examples:" in anywhere.monitor(command, "--help").expect(OK).out


def test_the_exit_statuses_are_part_of_the_help(anywhere):
    text = anywhere.run("--help").expect(OK).out
    for number in (0, 1, 2, 64, 65, 69, 73, 75, 77, 78, 130):
        assert re.search(rf"^  {number} +\S", text, re.M), number


@pytest.mark.parametrize("arguments", [[], ["monitor"], ["monitor", "plan", "--nonsense"], ["nonsense"],
                                       ["monitor", "plan", "--target", "moon"], ["monitor", "plan", "--output", "xml"],
                                       ["monitor", "destroy"], ["monitor", "plan", "--parallel", "0"],
                                       ["monitor", "plan", "--timeout", "-1"], ["monitor", "plan", "--org", "zero"]])
def test_a_command_line_that_makes_no_sense(anywhere, arguments):
    ended = anywhere.run(*arguments).expect(USAGE)
    assert ended.out == "" and ended.err


def test_help_is_quick(anywhere):
    if is_sanitized():
        pytest.skip("sanitizers slow the start")
    anywhere.run("--help")
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        anywhere.run("--help").expect(OK)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.1, times  # 20 ms by itself; setpriv, pipes and threads of this test come on top


# Completion and manual --------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse(anywhere, shell, tmp_path):
    script = tmp_path / f"tunnelctl.{shell}"
    script.write_text(anywhere.run("completion", shell).expect(OK).out)
    # zsh takes bash's by bashcompinit, so bash must understand its body, too.
    checker = shutil.which(shell) or (shutil.which("bash") if shell == "zsh" else None)
    if checker is None:
        pytest.skip(f"{shell} is not installed")
    checked = subprocess.run([checker, "-n", script], capture_output=True, text=True, timeout=20, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def _completed(script, line):
    """What bash offers for the last word of that line."""
    words = line.split(" ")
    program = (f'source {script}; COMP_WORDS=({" ".join(repr(word) for word in words)}); '
               f'COMP_CWORD={len(words) - 1}; _tunnelctl; printf "%s\\n" "${{COMPREPLY[@]}}"')
    done = subprocess.run(["bash", "--norc", "-c", "compopt() { :; }; " + program], capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.stderr == "", done.stderr
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_their_words(anywhere, tmp_path):
    script = tmp_path / "completion"
    script.write_text(anywhere.run("completion", "bash").expect(OK).out)
    assert {"monitor", "explain"} <= _completed(script, "tunnelctl ")
    assert _completed(script, "tunnelctl monitor pl") == {"plan"}
    assert {"--force", "--full", "--output"} <= _completed(script, "tunnelctl monitor plan --")
    assert _completed(script, "tunnelctl monitor plan --target ") == {"grafana", "prometheus", "all"}


def test_the_manual_page_has_no_mistakes(anywhere, tmp_path):
    page = tmp_path / "tunnelctl.1"
    page.write_text(anywhere.run("man").expect(OK).out)
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    shown = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-z", page], capture_output=True, text=True, timeout=20,
                           check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    text = subprocess.run(["groff", "-man", "-Tascii", "-P-c", "-P-b", "-P-u", page], capture_output=True, text=True,
                          timeout=20, check=True).stdout
    assert "monitor setup" in text and "EXIT STATUS" in text and "--notifications" in text
    if shutil.which("mandoc"):
        lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True,
                              timeout=20, check=False)
        assert lint.stdout == ""


# Output -----------------------------------------------------------------------------------------------


def test_json_stands_alone_on_standard_output(grafana, tunnelctl, pack):
    plan = tunnelctl.monitor("plan", pack.directory, "-o", "json").expect(CHANGES).json()
    assert set(plan) >= {"changes", "unchanged", "missing_permissions", "missing_secrets", "notes"}
    applied = set_up(tunnelctl, pack, "--output", "json")
    assert len(applied.json()["changes"]) == pack.objects()
    again = set_up(tunnelctl, pack, "--output", "json").json()
    assert (again["changes"], again["unchanged"]) == ([], pack.objects())
    for one in plan["changes"]:
        assert set(one) >= {"action", "kind", "id", "title", "pack", "differences"}
    gone = tunnelctl.monitor("destroy", pack.directory, "--yes", "-o", "json").expect(OK).json()
    assert {one["action"] for one in gone["changes"]} == {"delete"}


def test_quiet_says_nothing_but_results(grafana, tunnelctl, pack):
    assert tunnelctl.monitor("setup", pack.directory, "--skip-verify", "--quiet").expect(OK).err == ""


def test_colour_only_where_it_is_asked_for(grafana, tunnelctl, pack):
    assert "\x1b" not in tunnelctl.monitor("plan", pack.directory).out
    assert "\x1b[32m" in tunnelctl.monitor("plan", pack.directory, "--colour", "always").out


def test_output_that_cannot_be_written_is_no_success(grafana, tunnelctl, pack):
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(Tunnelctl.program()), "monitor", "plan", str(pack.directory)], stdout=full,
                              stderr=subprocess.PIPE, env={**os.environ, **tunnelctl.environment}, timeout=30,
                              check=False)
    assert done.returncode == 1 and b"could not be written" in done.stderr


def test_a_reader_that_leaves_early_breaks_nothing(grafana, tunnelctl, pack):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([str(Tunnelctl.program()), "monitor", "plan", str(pack.directory), "-o", "json"],
                          stdout=write, stderr=subprocess.PIPE, env={**os.environ, **tunnelctl.environment},
                          timeout=30, check=False)
    os.close(write)
    assert done.returncode in (1, 2), done


def test_the_plan_of_a_small_pack_is_quick(double, tunnelctl, pack):
    if is_sanitized():
        pytest.skip("sanitizers slow it")
    set_up(tunnelctl, pack)
    times = [tunnelctl.monitor("plan", pack.directory).expect(OK).seconds for _ in range(3)]
    assert min(times) < 1, times  # 200 ms against a quick server; the double and this test come on top


def test_the_same_input_gives_the_same_plan(grafana, tunnelctl, pack):
    plans = {json.dumps(tunnelctl.monitor("plan", pack.directory, "-o", "json").json()) for _ in range(3)}
    assert len(plans) == 1
