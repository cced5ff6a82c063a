"""Fixtures of the tests of `tunnelctl monitor`, and what they have in common."""

import pytest

from .packs import PAGERDUTY, SECRETS, SLACK, Pack
from .tunnelctl import OK, Tunnelctl


@pytest.fixture
def pack(new_directory):
    """A pack with one of everything, on disk; its names begin with e2e."""
    return Pack(new_directory("pack")).write()


@pytest.fixture
def tunnelctl(new_directory, grafana):
    """As the server's administrator, with the pack's secrets in the environment."""
    return Tunnelctl(new_directory("tunnelctl"), {**grafana.environment(), **SECRETS},
                     secrets=[PAGERDUTY, SLACK, *([grafana.password] if len(grafana.password) > 8 else [])])


def set_up(tunnelctl, pack, *more):
    """The first setup, which must work. The queries have no data here, so they are not tried."""
    return tunnelctl.monitor("setup", pack.directory, "--skip-verify", *more).expect(OK)


def changes(plan):
    """(action, kind, id) of each change of a plan as JSON."""
    return [(one["action"], one["kind"], one["id"]) for one in plan.json()["changes"]]
