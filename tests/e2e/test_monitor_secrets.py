"""Secrets of contact points: where they come from, that they arrive, and that nobody else sees them.

Every run here is checked for them on both streams (programs/tunnelctl.py)."""

import json

import pytest

from programs.grafana import PROVISIONING
from programs.monitoring import changes, set_up
from programs.packs import PAGERDUTY, SLACK
from programs.tunnelctl import CHANGES, CONFIG, DENIED, OK


def _stored(double):
    """What the server really keeps, by uid."""
    return {point["uid"]: point["settings"] for point in json.loads(double.state())["contactPoints"]}


def test_they_come_from_the_environment_and_arrive(double, tunnelctl, pack):
    set_up(tunnelctl, pack)
    stored = _stored(double)
    assert stored[pack.pager]["integrationKey"] == PAGERDUTY
    assert stored[pack.chat]["url"] == SLACK


def test_they_come_from_files_and_arrive_without_the_last_line_s_end(double, tunnelctl, pack):
    without = tunnelctl.with_environment(E2E_PAGERDUTY_KEY=None, E2E_SLACK_URL=None)
    (without.directory / "secrets").mkdir()
    (without.directory / "secrets/pagerduty").write_text(PAGERDUTY + "\n")
    (without.directory / "secrets/slack").write_text(SLACK + "\r\n")
    set_up(without, pack)
    stored = _stored(double)
    assert stored[pack.pager]["integrationKey"] == PAGERDUTY
    assert stored[pack.chat]["url"] == SLACK


def test_nothing_shows_them(double, grafana, tunnelctl, pack):
    """The plan before and after, as text and JSON, in full; a failure in the very request that carries one."""
    for output in ("text", "json"):
        tunnelctl.monitor("plan", pack.directory, "--full", "-o", output).expect(CHANGES)
    double.fault(method="POST", path="contact-points", body="pagerduty", nth=1, status=400,
                 answer={"message": f"this one says it back: {PAGERDUTY}"})
    refused = tunnelctl.start("monitor", "setup", str(pack.directory), "--skip-verify")
    refused._by = tunnelctl.with_environment()
    refused._by.secrets = []  # what the server itself says is told as it says it
    assert refused.end().code != OK
    double.no_faults()
    set_up(tunnelctl, pack, "-o", "json")
    tunnelctl.monitor("plan", pack.directory, "--full", "--rotate-secrets", "-o", "json").expect(CHANGES)
    double.mode(keep_bodies=True)
    set_up(tunnelctl, pack, "--rotate-secrets")
    carried = [entry for entry in double.log() if PAGERDUTY in entry.get("body", "")]
    assert {entry["method"] + " " + entry["path"] for entry in carried} == {
        f"PUT {PROVISIONING}/contact-points/{pack.pager}"}


def test_what_the_server_hides_is_no_difference(double, grafana, tunnelctl, pack):
    set_up(tunnelctl, pack)
    assert grafana.contact_point(pack.pager)["settings"]["integrationKey"] == "[REDACTED]"
    double.mode(read_only=True)
    other = tunnelctl.with_environment(E2E_PAGERDUTY_KEY="another-value-that-nobody-can-compare")
    other.monitor("setup", pack.directory, "--skip-verify").expect(OK)


def test_rotate_secrets_sends_them_again(double, tunnelctl, pack):
    set_up(tunnelctl, pack)
    new = "e2e-a-new-routing-key-5567"
    tunnelctl.secrets.append(new)
    rotating = tunnelctl.with_environment(E2E_PAGERDUTY_KEY=new)
    plan = rotating.monitor("plan", pack.directory, "--rotate-secrets", "-o", "json").expect(CHANGES)
    assert {id_ for _, _, id_ in changes(plan)} == {pack.pager, pack.chat}
    assert "secrets are sent again" in rotating.monitor("plan", pack.directory, "--rotate-secrets").out
    set_up(rotating, pack, "--rotate-secrets")
    assert _stored(double)[pack.pager]["integrationKey"] == new


def test_an_update_leaves_the_secrets_alone(double, tunnelctl, pack):
    set_up(tunnelctl, pack)
    pack.change_everything()
    set_up(tunnelctl.with_environment(E2E_PAGERDUTY_KEY="not-asked-for-now", E2E_SLACK_URL=None), pack)
    stored = _stored(double)
    assert stored[pack.pager]["integrationKey"] == PAGERDUTY
    assert stored[pack.chat]["url"] == SLACK


def test_a_failed_rotation_puts_the_old_ones_back(double, tunnelctl, pack):
    set_up(tunnelctl, pack)
    before = double.state()
    new = "e2e-a-new-routing-key-5567"
    tunnelctl.secrets.append(new)
    double.fault(writes=True, nth=2, status=500)
    ended = tunnelctl.with_environment(E2E_PAGERDUTY_KEY=new, E2E_SLACK_URL=new).monitor(
        "setup", pack.directory, "--skip-verify", "--rotate-secrets")
    assert ended.code != OK
    assert double.state() == before, ended


def test_an_editor_who_cannot_read_the_old_ones_is_told_so(double, tunnelctl, pack):
    set_up(tunnelctl, pack)
    editor = tunnelctl.with_environment(
        GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None, GRAFANA_SERVICE_ACCOUNT_TOKEN=double.tokens["editor"],
        E2E_PAGERDUTY_KEY="e2e-new-1", E2E_SLACK_URL="https://e2e-new-2")
    editor.secrets += ["e2e-new-1", "https://e2e-new-2"]
    double.fault(writes=True, nth=2, status=500)
    ended = editor.monitor("setup", pack.directory, "--skip-verify", "--rotate-secrets")
    assert "NOT put back" in ended.err and "secrets" in ended.err and "cannot be read" in ended.err


# Missing -------------------------------------------------------------------------------------------


def test_a_missing_secret_is_found_before_the_first_write(double, tunnelctl, pack):
    double.mode(read_only=True)
    without = tunnelctl.with_environment(E2E_PAGERDUTY_KEY=None, E2E_SLACK_URL=None)
    for command in ("plan", "setup"):
        ended = without.monitor(command, pack.directory).expect(CONFIG)
        for name in ("E2E_PAGERDUTY_KEY", "E2E_SLACK_URL", "secrets/pagerduty", "secrets/slack"):
            assert name in ended.err, ended
        assert "--notifications available" in ended.err
    assert double.violations() == []


def test_what_the_server_has_needs_no_value_here(double, tunnelctl, pack):
    set_up(tunnelctl, pack)
    without = tunnelctl.with_environment(E2E_PAGERDUTY_KEY=None, E2E_SLACK_URL=None)
    without.monitor("plan", pack.directory).expect(OK)
    pack.change_everything()
    set_up(without, pack)
    assert _stored(double)[pack.pager]["integrationKey"] == PAGERDUTY


def test_available_leaves_out_what_lacks_its_secret_and_says_so(double, grafana, tunnelctl, pack):
    without = tunnelctl.with_environment(E2E_PAGERDUTY_KEY=None)
    ended = set_up(without, pack, "--notifications", "available")
    assert "left out for now" in ended.err and "E2E_PAGERDUTY_KEY" in ended.err
    assert grafana.contact_point(pack.pager) is None
    assert grafana.contact_point(pack.chat)
    without.monitor("plan", pack.directory, "--notifications", "available").expect(OK)
    set_up(tunnelctl, pack)
    assert grafana.contact_point(pack.pager)


def test_available_does_not_remove_what_is_there_already(double, grafana, tunnelctl, pack):
    """A run without the secret, say from another machine, must not take the pager away."""
    set_up(tunnelctl, pack)
    without = tunnelctl.with_environment(E2E_PAGERDUTY_KEY=None, E2E_SLACK_URL=None)
    plan = without.monitor("plan", pack.directory, "--notifications", "available", "-o", "json")
    assert [one for one in changes(plan) if one[0] == "delete"] == [], plan


@pytest.mark.parametrize("editable", [[], ["--editable"]], ids=["provisioned", "editable"])
def test_an_empty_secret_is_a_missing_one(double, tunnelctl, pack, editable):
    tunnelctl.with_environment(E2E_PAGERDUTY_KEY="").monitor("setup", pack.directory, *editable).expect(CONFIG)


def test_a_denied_answer_does_not_show_the_password(double, tunnelctl, pack):
    tunnelctl.secrets.append("e2e-wrong-password-77")
    tunnelctl.with_environment(GRAFANA_PASSWORD="e2e-wrong-password-77").monitor(
        "setup", pack.directory).expect(DENIED)
