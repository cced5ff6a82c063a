"""What belongs to somebody else is found in the plan, told clearly, and never touched without --force."""

import pytest

from programs.grafana import EDITABLE, PROVISIONING
from programs.monitoring import set_up
from programs.packs import dashboard, panel
from programs.tunnelctl import CHANGES, CONFLICT, OK


def _rule(uid, title, folder, group, **more):
    return {"uid": uid, "title": title, "folderUID": folder, "ruleGroup": group, "condition": "A", "for": "5m",
            "orgID": 1, "noDataState": "OK", "execErrState": "Error", "labels": {"team": "others"}, "annotations": {},
            "data": [{"refId": "A", "datasourceUid": "e2e-prometheus", "relativeTimeRange": {"from": 600, "to": 0},
                      "model": {"refId": "A", "expr": "theirs > 0", "instant": True}}], **more}


def _dashboard_uid(grafana, pack):
    grafana.save_dashboard(dashboard(pack.name + "-one", "Somebody's own", panel(1, "Theirs", "up")), "")
    return f"dashboard {pack.name}-one", ["Somebody's own", "somebody else's"]


def _contact_point_name(grafana, pack):
    grafana.api("POST", f"{PROVISIONING}/contact-points", {
        "uid": "e2e-theirs", "name": pack.name + "-hook", "type": "webhook",
        "settings": {"url": "http://127.0.0.1:9/theirs"}}, EDITABLE)
    return f"contact point {pack.point}", [pack.name + "-hook", "Rename the receiver"]


def _rule_uid(grafana, pack):
    grafana.api("POST", "/api/folders", {"uid": "e2e-theirs", "title": "Theirs"})
    grafana.api("POST", f"{PROVISIONING}/alert-rules",
                _rule(pack.rule_uid("E2eDown"), "Their rule", "e2e-theirs", "their group"), EDITABLE)
    return f"rule group {pack.folder}/{pack.group_name()}", ["e2e-theirs/their group", pack.rule_uid("E2eDown")]


def _stranger_in_group(grafana, pack):
    grafana.api("POST", "/api/folders", {"uid": pack.folder, "title": f"Folder of {pack.name}"})
    grafana.api("POST", f"{PROVISIONING}/alert-rules",
                _rule("e2e-stranger", "Stranger's rule", pack.folder, pack.group_name()), EDITABLE)
    return f"rule group {pack.folder}/{pack.group_name()}", ["Stranger's rule", "would be deleted"]


def _folder_title(grafana, pack):
    grafana.api("POST", "/api/folders", {"uid": pack.folder, "title": "Of the finance team"})
    return f"folder {pack.folder}", ["Of the finance team", "another uid in pack.yaml"]


CONFLICTS = [_dashboard_uid, _contact_point_name, _rule_uid, _stranger_in_group, _folder_title]


@pytest.mark.parametrize("conflict", CONFLICTS, ids=lambda one: one.__name__.strip("_"))
def test_a_conflict_is_found_in_the_plan_and_nothing_is_written(grafana, tunnelctl, pack, conflict):
    what, words = conflict(grafana, pack)
    before = grafana.snapshot()
    if not grafana.is_real:
        grafana.double.mode(read_only=True)
    for command in ("plan", "setup"):
        more = ["--skip-verify"] if command == "setup" else []
        ended = tunnelctl.monitor(command, pack.directory, *more).expect(CONFLICT)
        assert f"conflict: {what}: " in ended.err and "--force" in ended.err
        assert all(word in ended.err for word in words), ended
        assert "1 in conflict" in ended.out
    shown = tunnelctl.monitor("plan", pack.directory, "-o", "json").expect(CONFLICT).json()
    in_conflict = [one for one in shown["changes"] if "conflict" in one]
    assert [f"{one['kind']} {one['id']}" for one in in_conflict] == [what]
    assert grafana.snapshot() == before
    if not grafana.is_real:
        assert grafana.double.violations() == []


@pytest.mark.parametrize("conflict", [_dashboard_uid, _rule_uid, _stranger_in_group, _folder_title],
                         ids=lambda one: one.__name__.strip("_"))
def test_force_takes_over_and_says_so(grafana, tunnelctl, pack, conflict):
    what, _ = conflict(grafana, pack)
    forced = tunnelctl.monitor("setup", pack.directory, "--skip-verify", "--force").expect(OK)
    assert f"overwriting although in conflict: {what}" in forced.err
    tunnelctl.monitor("plan", pack.directory).expect(OK)


def test_all_conflicts_are_told_at_once(grafana, tunnelctl, pack):
    told = [conflict(grafana, pack)[0] for conflict in (_dashboard_uid, _contact_point_name, _rule_uid)]
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(CONFLICT)
    assert all(f"conflict: {what}" in ended.err for what in told)
    assert "3 in conflict" in ended.out


def test_a_conflict_is_told_once_for_each_object_and_force_alone_does_not_plan_nothing(grafana, tunnelctl, pack):
    _dashboard_uid(grafana, pack)
    tunnelctl.monitor("plan", pack.directory, "--force").expect(CHANGES)


# Provisioned from files -----------------------------------------------------------------------------


def _drift(grafana, pack, kind):
    """Something to change, so that the file's claim on it matters."""
    if kind == "dashboard":
        pack.dashboards["one"]["panels"][0]["title"] = "Another title"
    elif kind == "rule":
        pack.groups[0]["rules"][0]["expr"] = "up < 1"
    elif kind == "contact-point":
        pack.alertmanager["receivers"][2]["webhook_configs"][0]["url"] = "http://127.0.0.1:9/another"
    elif kind == "policies":
        pack.alertmanager["route"]["group_wait"] = "50s"
    elif kind == "mute-timing":
        pack.alertmanager["time_intervals"][0]["time_intervals"][0]["weekdays"] = ["monday"]
    elif kind == "template":
        pack.templates[pack.name] = '{{ define "e2e.title" }}another{{ end }}'
    pack.write()


@pytest.mark.parametrize("kind", ["dashboard", "rule", "contact-point", "policies", "mute-timing", "template"])
def test_what_comes_from_files_is_not_changed(double, grafana, tunnelctl, pack, kind):
    set_up(tunnelctl, pack)
    names = {"dashboard": pack.name + "-one", "rule": pack.rule_uid("E2eDown"), "contact-point": pack.point,
             "policies": None, "mute-timing": pack.mute_timing, "template": pack.template}
    double.set_provenance(kind, names[kind], "file" if kind != "dashboard" else "dashboards/one.json")
    tunnelctl.monitor("plan", pack.directory).expect(OK)  # as long as it says the same
    _drift(grafana, pack, kind)
    double.mode(read_only=True)
    before = double.state()
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(CONFLICT)
    assert "file" in ended.err and "1 in conflict" in ended.out
    assert double.state() == before and double.violations() == []


def test_routes_cannot_be_added_to_policies_from_files(double, grafana, tunnelctl, pack):
    double.set_provenance("policies", None, "file")
    double.mode(read_only=True)
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(CONFLICT)
    assert "notification routes" in ended.err and "--notifications none" in ended.err
    double.mode(read_only=False)
    set_up(tunnelctl, pack, "--notifications", "none")


@pytest.mark.parametrize("kind", ["dashboard", "rule", "contact-point", "mute-timing", "template"])
def test_destroy_does_not_delete_what_comes_from_files(double, grafana, tunnelctl, pack, kind):
    set_up(tunnelctl, pack)
    names = {"dashboard": pack.name + "-one", "rule": pack.rule_uid("E2eDown"), "contact-point": pack.point,
             "mute-timing": pack.mute_timing, "template": pack.template}
    double.set_provenance(kind, names[kind], "file" if kind != "dashboard" else "dashboards/one.json")
    double.mode(read_only=True)
    tunnelctl.monitor("destroy", pack.directory, "--yes").expect(CONFLICT)
    assert double.violations() == []


# Editable ---------------------------------------------------------------------------------------


def test_what_is_set_up_as_editable_has_no_provenance(grafana, tunnelctl, pack):
    set_up(tunnelctl, pack, "--editable")
    assert not grafana.rule(pack.rule_uid("E2eDown")).get("provenance")
    assert not grafana.contact_point(pack.point).get("provenance")
    tunnelctl.monitor("plan", pack.directory, "--full").expect(OK)


def test_the_policies_stay_as_editable_as_they_were(grafana, tunnelctl, pack):
    """They are everybody's: setting up a pack must not lock the others' routes in Grafana's pages."""
    before = grafana.policies().get("provenance")
    set_up(tunnelctl, pack)
    assert grafana.policies().get("provenance") == before
