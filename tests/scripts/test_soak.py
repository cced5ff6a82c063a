"""scripts/soak: its command line and its arithmetic; that the parts work is seen by running `scripts/soak --quick`."""
import importlib.util
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ground():
    spec = importlib.util.spec_from_file_location("ground", REPOSITORY / "tests/soak/ground.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def soak(*arguments):
    return subprocess.run([REPOSITORY / "scripts/soak", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_part():
    done = soak("--help")
    assert done.returncode == 0
    for part in ("load", "connections", "agents", "links", "cuts", "starts", "campaign", "churn", "addresses", "slow", "reloads"):
        assert part in done.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["load", "--rate"], ["--seconds", "x"], ["--no-such"]])
def test_a_wrong_command_line_is_a_usage_error_and_starts_nothing(arguments):
    assert soak(*arguments).returncode == 2


@pytest.mark.parametrize("samples,growth", [
    ([], 0), ([(0, 5)], 0), ([(0, 5), (10, 5), (20, 5)], 0), ([(0, 0), (3600, 100)], 100), ([(0, 0), (1, 1), (2, 2)], 3600),
    ([(0, 100), (1800, 50), (3600, 0)], -100)])
def test_the_slope_is_growth_an_hour(ground, samples, growth):
    assert ground.slope(samples) == pytest.approx(growth)


def test_percentiles_are_values_that_were_seen(ground):
    values = list(range(1, 101))
    assert (ground.percentile(values, 0.5), ground.percentile(values, 0.95), ground.percentile(values, 1)) == (50, 95, 100)
    assert ground.percentile([], 0.5) == 0
