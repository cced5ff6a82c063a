"""A thousand dashboards and five thousand rules: how many requests, how much memory."""

import collections
import copy

import pytest

from programs.packs import Pack, alert, dashboard, panel
from programs.tunnelctl import CHANGES, OK
from programs.tunneld import is_sanitized

DASHBOARDS, RULES, PER_GROUP = 1000, 5000, 50


@pytest.fixture(scope="module")
def large_pack(new_directory):
    pack = Pack(new_directory("pack"), "e2e")
    panels = [panel(number, f"Panel {number}", f"sum(rate(metric_{number}{{instance=~\"$instance\"}}[5m]))")
              for number in range(1, 11)]
    template = dashboard("", "", *panels)
    pack.dashboards = {}
    for number in range(DASHBOARDS):
        one = copy.copy(template)
        one.update(uid=f"e2e-d{number}", title=f"Dashboard {number}")
        pack.dashboards[f"d{number}"] = one
    pack.groups = [{"name": f"e2e-group-{first}", "interval": "1m", "rules": [
        alert(f"E2eRule{number}", f"metric_{number} > {number}") for number in range(first, first + PER_GROUP)]}
        for first in range(0, RULES, PER_GROUP)]
    for group in pack.groups:
        for rule in group["rules"]:
            del rule["annotations"]["runbook_url"]
    del pack.manifest["files"]["alertmanager"], pack.manifest["files"]["runbooks"]
    return pack.write()


@pytest.mark.slow
@pytest.mark.deadline(300)
def test_a_thousand_dashboards_and_five_thousand_rules(double, grafana, tunnelctl, large_pack):
    objects = 1 + DASHBOARDS + RULES // PER_GROUP
    first = tunnelctl.monitor("setup", large_pack.directory, "--skip-verify", timeout=180).expect(OK)
    assert len(double.writes()) == objects
    assert len(grafana.rules()) == RULES

    double.forget_log()
    double.mode(read_only=True)
    second = tunnelctl.monitor("setup", large_pack.directory, "--skip-verify", timeout=120).expect(OK)
    assert "Nothing to do" in second.out
    log = double.log()
    assert double.violations() == []
    # At most one read for each object, and the few lists.
    reads = collections.Counter(entry["path"] for entry in log)
    assert max(reads.values()) <= 3, reads.most_common(5)
    assert len(log) <= objects + 15, len(log)
    plan = tunnelctl.monitor("plan", large_pack.directory, timeout=120).expect(OK)
    print(f"first {first.seconds:.1f} s, {first.peak_bytes >> 20} MiB; second {second.seconds:.1f} s, "
          f"{second.peak_bytes >> 20} MiB; plan {plan.seconds:.1f} s; {len(log)} requests")
    if not is_sanitized():
        assert max(one.peak_bytes for one in (first, second, plan)) < 450 << 20

    double.mode(read_only=False)
    double.forget_log()
    large_pack.dashboards["d7"]["title"] = "Changed"
    large_pack.groups[3]["rules"][5]["expr"] += "1"
    large_pack.write()
    text = tunnelctl.monitor("plan", large_pack.directory, timeout=120).expect(CHANGES).out
    assert f"0 to create, 2 to update, 0 to delete, {objects - 2} unchanged." in text
    tunnelctl.monitor("setup", large_pack.directory, "--skip-verify", timeout=120).expect(OK)
    assert len(double.writes()) == 2


@pytest.mark.slow
@pytest.mark.deadline(300)
def test_a_failure_among_a_thousand_is_put_back(double, tunnelctl, large_pack):
    before = double.state()
    double.fault(method="POST", path="/api/dashboards/db", nth=700, status=500)
    ended = tunnelctl.monitor("setup", large_pack.directory, "--skip-verify", timeout=240)
    assert "as it was before this run" in ended.err
    assert double.state() == before
