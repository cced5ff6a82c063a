"""cmake --install: what is installed works from its new place, without the source tree's help."""
import os
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TUNNEL_BIN", REPOSITORY / "build" / "release" / "bin")).resolve().parent


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    if not (BUILD / "cmake_install.cmake").exists() or not (BUILD / "bin" / "tunnelctl").exists():
        pytest.skip(f"{BUILD} holds no build")
    folder = tmp_path_factory.mktemp("prefix")
    done = subprocess.run(["cmake", "--install", BUILD, "--prefix", folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(program, *arguments):
    return subprocess.run([program, *arguments], cwd="/", env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, timeout=60)


def test_the_shipped_pack_is_found_by_its_name_and_complete(prefix):
    done = run(prefix / "bin" / "tunnelctl", "monitor", "lint", "tunnel")
    assert done.returncode == 0, done.stdout + done.stderr
    unknown = run(prefix / "bin" / "tunnelctl", "monitor", "lint", "no-such-pack")
    assert f"{prefix}/share/tunnelctl/packs" in unknown.stderr and "shipped: tunnel" in unknown.stderr


def test_tests_of_rules_stay_in_the_tree(prefix):
    assert not list(prefix.rglob("*.test.yaml"))


def test_the_manual_page_and_the_completions_are_the_programs_own(prefix):
    program = prefix / "bin" / "tunnelctl"
    for path, arguments in {"share/man/man1/tunnelctl.1": ["man"],
                            "share/bash-completion/completions/tunnelctl": ["completion", "bash"],
                            "share/zsh/site-functions/_tunnelctl": ["completion", "zsh"],
                            "share/fish/vendor_completions.d/tunnelctl.fish": ["completion", "fish"]}.items():
        assert (prefix / path).read_text() == run(program, *arguments).stdout != "", path


def test_tunneld_starts_from_there(prefix):
    assert run(prefix / "bin" / "tunneld", "--version").returncode == 0
