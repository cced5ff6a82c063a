"""`tunnelctl monitor plan`, `setup` and `destroy` where nothing goes wrong: what they write, and above all what
they leave alone."""

import json

import pytest

from programs.grafana import EDITABLE, PROVISIONING
from programs.monitoring import changes, set_up
from programs.packs import Pack, alert, dashboard, panel
from programs.tunnelctl import CHANGES, CONFLICT, OK, USAGE


def test_a_plan_only_reads_and_names_all_that_it_would_make(double, grafana, tunnelctl, pack):
    double.mode(read_only=True)
    plan = tunnelctl.monitor("plan", pack.directory, "--output", "json").expect(CHANGES)
    assert {entry["method"] for entry in double.log()} == {"GET"}
    assert double.violations() == []
    planned = changes(plan)
    assert len(planned) == pack.objects() and {action for action, _, _ in planned} == {"create"}
    assert [kind for _, kind, _ in planned] == (
        ["folder", "notification template", "mute timing"] + ["contact point"] * 4 + ["notification routes"]
        + ["rule group"] * 2 + ["dashboard"] * 3)
    text = tunnelctl.monitor("plan", pack.directory).expect(CHANGES).out
    assert f"{pack.objects()} to create, 0 to update, 0 to delete, 0 unchanged." in text


@pytest.mark.short_client
def test_the_second_setup_writes_nothing(grafana, tunnelctl, pack):
    first = set_up(tunnelctl, pack)
    assert "Applied." in first.err and f"{grafana.url}/d/{pack.name}-one" in first.out
    before = grafana.snapshot()
    assert grafana.folder(pack.folder)["title"] == f"Folder of {pack.name}"
    assert {rule["uid"] for rule in grafana.rules()} >= {f"{pack.name}-E2eDown", f"{pack.name}-E2eSlow"}
    assert grafana.contact_point(pack.point)["settings"]["url"] == "http://127.0.0.1:9/hook"

    if not grafana.is_real:
        grafana.double.forget_log()
        grafana.double.mode(read_only=True)
    second = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(OK)
    assert "Nothing to do" in second.out
    plan = tunnelctl.monitor("plan", pack.directory).expect(OK)
    assert f"Nothing to do: {pack.objects()} objects are as the packs want them." in plan.out
    assert tunnelctl.monitor("plan", pack.directory, "-o", "json").expect(OK).json()["changes"] == []
    if not grafana.is_real:
        assert grafana.double.writes() == []
    assert grafana.snapshot() == before


def test_each_write_of_the_first_setup_is_one_request_for_each_object(double, grafana, tunnelctl, pack):
    set_up(tunnelctl, pack)
    writes = double.writes()
    assert len(writes) == len(set(writes)) + writes.count("POST /api/dashboards/db") - 1 \
        + writes.count(f"POST {PROVISIONING}/contact-points") - 1
    assert len(writes) == pack.objects()
    kinds = [write.split("/")[-1] if "dashboards" in write else write for write in writes]
    assert kinds[0] == "POST /api/folders" and kinds[-3:] == ["db"] * 3


def test_the_shipped_pack_goes_in_and_stays(grafana, tunnelctl):
    if grafana.is_real:
        pytest.skip("a real Grafana may already hold the shipped pack, and it is not ours to replace")
    arguments = ["tunnel", "--notifications", "available", "--skip-verify"]
    assert "TunnelDown" in json.dumps(grafana.rules()) or tunnelctl.monitor("setup", *arguments).expect(OK)
    assert {hit["uid"] for hit in grafana.get("/api/search?type=dash-db")} >= {
        "tunnel-health", "tunnel-performance", "tunnel-errors"}
    grafana.double.mode(read_only=True)
    assert "Nothing to do" in tunnelctl.monitor("setup", *arguments).expect(OK).out


# Drift --------------------------------------------------------------------------------------------


def _change_dashboard(grafana, pack):
    content = grafana.dashboard(pack.name + "-one")
    content["panels"][0]["title"] = "Renamed by hand"
    grafana.save_dashboard(content, pack.folder)
    return [("update", "dashboard", pack.name + "-one")], "Renamed by hand"


def _delete_dashboard(grafana, pack):
    grafana.api("DELETE", f"/api/dashboards/uid/{pack.name}-two")
    return [("create", "dashboard", pack.name + "-two")], f"+ dashboard Two of {pack.name}"


def _move_dashboard(grafana, pack):
    grafana.save_dashboard(grafana.dashboard(pack.name + "-one"), "")
    return [("update", "dashboard", pack.name + "-one")], "/folderUid"


def _change_rule(grafana, pack):
    group = grafana.group(pack.folder, pack.group_name())
    group["rules"][0]["data"][0]["model"]["expr"] = "changed_by_hand"
    grafana.put_group(pack.folder, pack.group_name(), group)
    return [("update", "rule group", f"{pack.folder}/{pack.group_name()}")], "changed_by_hand"


def _pause_rule(grafana, pack):
    group = grafana.group(pack.folder, pack.group_name())
    group["rules"][1]["isPaused"] = True
    grafana.put_group(pack.folder, pack.group_name(), group)
    return [("update", "rule group", f"{pack.folder}/{pack.group_name()}")], "isPaused"


def _delete_rule(grafana, pack):
    grafana.api("DELETE", f"{PROVISIONING}/alert-rules/{pack.rule_uid('E2eFlapping')}")
    return [("update", "rule group", f"{pack.folder}/{pack.group_name()}")], "E2eFlapping"


def _delete_group(grafana, pack):
    grafana.api("DELETE", grafana.group_path(pack.folder, pack.group_name(1)))
    return [("create", "rule group", f"{pack.folder}/{pack.group_name(1)}")], "+ rule group"


def _change_interval(grafana, pack):
    group = grafana.group(pack.folder, pack.group_name())
    group["interval"] = 120
    grafana.put_group(pack.folder, pack.group_name(), group)
    return [("update", "rule group", f"{pack.folder}/{pack.group_name()}")], "/interval: 120 -> 30"


def _change_contact_point(grafana, pack):
    point = grafana.contact_point(pack.point)
    point["settings"]["url"] = "http://127.0.0.1:9/elsewhere"
    grafana.api("PUT", f"{PROVISIONING}/contact-points/{pack.point}", point)
    return [("update", "contact point", pack.point)], "/settings/url"


def _edit_route(grafana, pack):
    tree = grafana.policies()
    pack.subtree(tree)["routes"][0]["group_wait"] = "3m"
    grafana.put_policies(tree)
    return [("update", "notification routes", pack.name)], "group_wait"


def _remove_route(grafana, pack):
    tree = grafana.policies()
    tree["routes"].remove(pack.subtree(tree))
    grafana.put_policies(tree)
    return [("create", "notification routes", pack.name)], "+ notification routes"


def _change_template(grafana, pack):
    grafana.api("PUT", f"{PROVISIONING}/templates/{pack.template}",
                {"template": '{{ define "e2e.title" }}by hand{{ end }}'})
    return [("update", "notification template", pack.template)], "by hand"


def _change_mute_timing(grafana, pack):
    grafana.api("PUT", f"{PROVISIONING}/mute-timings/{pack.mute_timing}",
                {"name": pack.mute_timing, "time_intervals": [{"weekdays": ["monday"]}]})
    return [("update", "mute timing", pack.mute_timing)], "monday"


@pytest.mark.parametrize("drift", [
    _change_dashboard, _delete_dashboard, _move_dashboard, _change_rule, _pause_rule, _delete_rule, _delete_group,
    _change_interval, _change_contact_point, _edit_route, _remove_route, _change_template, _change_mute_timing],
    ids=lambda drift: drift.__name__.strip("_"))
def test_what_drifted_is_named_and_only_that_is_put_right(grafana, tunnelctl, pack, drift):
    set_up(tunnelctl, pack)
    before = grafana.snapshot()
    expected, text = drift(grafana, pack)
    assert grafana.snapshot() != before

    plan = tunnelctl.monitor("plan", pack.directory, "--output", "json").expect(CHANGES)
    assert changes(plan) == expected
    assert text in tunnelctl.monitor("plan", pack.directory, "--full").expect(CHANGES).out
    if not grafana.is_real:
        grafana.double.forget_log()
    set_up(tunnelctl, pack)
    if not grafana.is_real:
        assert len(grafana.double.writes()) == 1
    assert grafana.snapshot() == before


def test_an_editor_s_own_defaults_are_no_drift(grafana, tunnelctl, pack):
    """Opening a dashboard and saving it unchanged adds what the editor always writes."""
    set_up(tunnelctl, pack)
    content = grafana.dashboard(pack.name + "-one")
    content.update(fiscalYearStartMonth=0, graphTooltip=0, liveNow=False, preload=False, weekStart="", links=[],
                   timepicker={})
    for one in content["panels"]:
        one.update(transparent=False, pluginVersion="12.4.0", links=[], transformations=[])
        one["targets"][0]["hide"] = False
    for variable in content["templating"]["list"]:
        variable.update(skipUrlSync=False, options=[])
        if variable["type"] == "query":
            variable["current"] = {"selected": True, "text": ["All"], "value": ["$__all"]}
        else:
            variable["current"]["selected"] = True
    content["tags"] = list(reversed(content["tags"]))
    grafana.save_dashboard(content, pack.folder)
    assert tunnelctl.monitor("plan", pack.directory, "-o", "json").expect(OK).json()["changes"] == []


def test_routes_of_others_survive_byte_for_byte(grafana, tunnelctl, pack):
    grafana.api("POST", f"{PROVISIONING}/contact-points",
                {"uid": "e2e-others", "name": "e2e others", "type": "webhook",
                 "settings": {"url": "http://127.0.0.1:9/"}}, EDITABLE)
    theirs = [{"receiver": "e2e others", "object_matchers": [["team", "=", "e2e other"]], "group_wait": "45s",
               "routes": [{"receiver": "e2e others", "object_matchers": [["severity", "=~", "a|b"]],
                           "continue": True}]},
              {"receiver": "e2e others", "object_matchers": [["tunnelctl_pack", "=", "e2e-another"]]}]
    tree = grafana.policies()
    grafana.put_policies({**tree, "routes": (tree.get("routes") or []) + theirs})
    before = grafana.policies()

    set_up(tunnelctl, pack)
    during = grafana.policies()
    assert pack.subtree(during)
    during["routes"].remove(pack.subtree(during))
    during["routes"] = during["routes"] or []
    assert {**during, "provenance": None} == {**before, "provenance": None}

    tunnelctl.monitor("destroy", pack.directory, "--yes").expect(OK)
    after = grafana.policies()
    assert {**after, "provenance": None} == {**before, "provenance": None}
    grafana.put_policies(tree)


# Pruning ------------------------------------------------------------------------------------------


def _shrink(pack):
    del pack.dashboards["two"]
    del pack.groups[1]
    del pack.runbooks["E2eSlow"]
    pack.alertmanager["receivers"].pop()
    pack.alertmanager["route"]["routes"].pop()
    pack.alertmanager["time_intervals"] = []
    pack.alertmanager["templates"] = []
    pack.alertmanager["receivers"][1]["slack_configs"][0].pop("title")
    pack.write()


def test_what_a_pack_no_longer_wants_is_removed(grafana, tunnelctl, pack):
    set_up(tunnelctl, pack)
    _shrink(pack)
    plan = tunnelctl.monitor("plan", pack.directory, "-o", "json").expect(CHANGES)
    removed = {(kind, id_) for action, kind, id_ in changes(plan) if action == "delete"}
    assert removed == {("dashboard", pack.name + "-two"), ("rule group", f"{pack.folder}/{pack.name}-load"),
                       ("contact point", pack.point), ("mute timing", pack.mute_timing),
                       ("notification template", pack.template)}
    kept = tunnelctl.monitor("plan", pack.directory, "-o", "json", "--no-prune").expect(CHANGES)
    assert [one for one in changes(kept) if one[0] == "delete"] == []

    set_up(tunnelctl, pack, "--no-prune")
    assert grafana.dashboard(pack.name + "-two") and grafana.rule(pack.rule_uid("E2eSlow"))
    set_up(tunnelctl, pack)
    assert not grafana.dashboard(pack.name + "-two") and not grafana.rule(pack.rule_uid("E2eSlow"))
    assert not grafana.contact_point(pack.point)
    tunnelctl.monitor("plan", pack.directory).expect(OK)


def test_a_rule_may_move_to_another_group_of_the_pack(grafana, tunnelctl, pack):
    set_up(tunnelctl, pack)
    pack.groups[1]["rules"].append(pack.groups[0]["rules"].pop())
    pack.write()
    set_up(tunnelctl, pack)
    assert grafana.rule(pack.rule_uid("E2eFlapping"))["ruleGroup"] == pack.group_name(1)
    tunnelctl.monitor("plan", pack.directory).expect(OK)


# Destroying ---------------------------------------------------------------------------------------


def test_destroy_shows_first_and_deletes_only_with_yes(grafana, tunnelctl, pack):
    before = grafana.snapshot()
    set_up(tunnelctl, pack)
    during = grafana.snapshot()
    shown = tunnelctl.monitor("destroy", pack.directory).expect(USAGE)
    assert f"{pack.objects()} to delete" in shown.out and "--yes" in shown.err
    assert grafana.snapshot() == during
    tunnelctl.monitor("destroy", pack.directory, "--yes").expect(OK)
    after = json.loads(grafana.snapshot())
    before = json.loads(before)
    for one in (after, before):
        one["policies"].pop("provenance", None)
        one["policies"]["routes"] = one["policies"].get("routes") or []
    assert after == before
    assert "Nothing of these packs" in tunnelctl.monitor("destroy", pack.directory, "--yes").expect(OK).out


def test_destroy_needs_no_secrets_and_no_datasource(grafana, tunnelctl, pack):
    set_up(tunnelctl, pack)
    pack.manifest["datasources"][0]["uid"] = "no-longer-there"
    pack.write()
    tunnelctl.with_environment(E2E_PAGERDUTY_KEY=None, E2E_SLACK_URL=None).monitor(
        "destroy", pack.directory, "--yes").expect(OK)
    assert not grafana.folder(pack.folder)


@pytest.mark.parametrize("what", ["dashboard", "rule", "folder"])
def test_destroy_leaves_a_folder_with_things_of_others(grafana, tunnelctl, pack, what):
    set_up(tunnelctl, pack)
    if what == "dashboard":
        grafana.save_dashboard(dashboard("e2e-stranger", "Stranger", panel(1, "Theirs", "up")), pack.folder)
    elif what == "folder":
        grafana.api("POST", "/api/folders", {"uid": "e2e-inner", "title": "Inner", "parentUid": pack.folder})
    else:
        rule = grafana.rule(pack.rule_uid("E2eDown"))
        kept = {key: value for key, value in rule.items() if key not in ("id", "provenance", "updated")}
        grafana.api("POST", f"{PROVISIONING}/alert-rules", {
            **kept, "uid": "e2e-stranger-rule", "title": "Theirs", "ruleGroup": "theirs", "labels": {"team": "x"}},
            EDITABLE)
    ended = tunnelctl.monitor("destroy", pack.directory, "--yes").expect(OK)
    assert "stays" in ended.err
    assert grafana.folder(pack.folder)
    assert not grafana.dashboard(pack.name + "-one") and not grafana.rule(pack.rule_uid("E2eDown"))
    survivor = {"dashboard": lambda: grafana.dashboard("e2e-stranger"),
                "folder": lambda: grafana.folder("e2e-inner"),
                "rule": lambda: grafana.rule("e2e-stranger-rule")}[what]
    assert survivor()
    if what == "rule":
        grafana.api("DELETE", f"{PROVISIONING}/alert-rules/e2e-stranger-rule", headers=EDITABLE)


def test_destroy_does_not_take_a_folder_that_was_never_ours(grafana, tunnelctl, pack):
    """Same uid by chance, another title, empty: somebody else's."""
    grafana.api("POST", "/api/folders", {"uid": pack.folder, "title": "Private notes"})
    ended = tunnelctl.monitor("destroy", pack.directory, "--yes")
    assert ended.code in (OK, CONFLICT), ended
    assert grafana.folder(pack.folder)["title"] == "Private notes"


# Several packs ------------------------------------------------------------------------------------


def test_packs_live_side_by_side(grafana, tunnelctl, pack, new_directory):
    other = Pack(new_directory("pack"), "e2e-b")
    other.groups = [{"name": "e2e-b-group", "rules": [alert("E2eDown", "up == 0")]}]
    other.runbooks = {"E2eDown": other.runbooks["E2eDown"]}
    other.write()
    tunnelctl.monitor("setup", pack.directory, other.directory, "--skip-verify").expect(OK)
    tunnelctl.monitor("plan", pack.directory).expect(OK)
    tunnelctl.monitor("plan", other.directory).expect(OK)
    tree = grafana.policies()
    assert pack.subtree(tree) and other.subtree(tree)
    tunnelctl.monitor("destroy", other.directory, "--yes").expect(OK)
    tunnelctl.monitor("plan", pack.directory).expect(OK)
    assert not grafana.folder(other.folder)


# Where rules live ---------------------------------------------------------------------------------


def test_rules_that_prometheus_keeps_are_not_made_in_grafana(grafana, tunnelctl, pack):
    planned = changes(tunnelctl.monitor("plan", pack.directory, "--target", "prometheus", "-o", "json").expect(CHANGES))
    assert {kind for _, kind, _ in planned} == {"folder", "dashboard"}


def test_without_notifications_the_routes_are_left_alone(grafana, tunnelctl, pack):
    before = grafana.policies()
    planned = changes(tunnelctl.monitor("plan", pack.directory, "--notifications", "none", "-o", "json"))
    assert {kind for _, kind, _ in planned} == {"folder", "rule group", "dashboard"}
    set_up(tunnelctl, pack, "--notifications", "none")
    assert grafana.policies() == before
