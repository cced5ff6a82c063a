"""Packs with mistakes: all of them are told at once, with their places, before any server is asked for anything."""

import json
import re

import pytest

from programs.packs import Pack, alert, dashboard, panel
from programs.tunnelctl import BAD_INPUT, CHANGES, OK


def _broken_json(pack):
    pack.write()
    pack.path("dashboards/one.json").write_text('{"uid": "x",\n  "title": "y",\n  "panels": [,]\n}\n')
    return r"dashboards/one\.json:3:\d+: .*JSON"


def _broken_yaml(pack):
    pack.write()
    pack.path("alerts/all.rules.yaml").write_text("groups:\n  - name: a\n    rules: [\n  - x: }\n")
    return r"all\.rules\.yaml:\d+:\d+: "


def _broken_manifest(pack):
    pack.write()
    pack.path("pack.yaml").write_text('apiVersion: tunnelctl/v1\nkind: "Pack\n')
    return r"pack\.yaml:\d+:\d+: "


def _key_twice(pack):
    pack.write()
    text = pack.path("pack.yaml").read_text()
    pack.path("pack.yaml").write_text(text + "title: again\n")
    return r"pack\.yaml:\d+:\d+: .*title.*twice"


def _unknown_key(pack):
    pack.manifest["colour"] = "red"
    pack.write()
    return r"pack\.yaml:\d+:\d+: unknown key \"colour\"; known: .*apiVersion"


def _unknown_key_in_rule(pack):
    pack.groups[0]["rules"][0]["severity"] = "critical"
    pack.write()
    return r"all\.rules\.yaml:\d+:\d+: .*unknown key \"severity\""


def _bad_promql_in_rule(pack):
    pack.groups[0]["rules"][0]["expr"] = "sum(rate(up[5m]) > 1"
    pack.write()
    return r"all\.rules\.yaml:\d+:\d+: E2eDown: expr: "


def _bad_promql_in_panel(pack):
    pack.dashboards["one"]["panels"][1]["targets"][0]["expr"] = "rate(http_requests_total)"
    pack.write()
    return r"one\.json: panel 2 A: .*rate"


def _undefined_variable(pack):
    pack.dashboards["one"]["panels"][0]["targets"][0]["expr"] = 'up{job="$job"}'
    pack.write()
    return r"one\.json: panel 1 A: \$job is no variable"


def _no_datasource(pack):
    content = pack.dashboards["one"]["panels"][0]
    del content["datasource"], content["targets"][0]["datasource"]
    pack.write()
    return r'one\.json: panel 1 "Targets": target A names no data source'


def _duplicate_dashboard_uid(pack):
    pack.dashboards["two"]["uid"] = pack.dashboards["one"]["uid"]
    pack.write()
    return r"two\.json: uid e2e-one is that of .*one\.json"


def _duplicate_alert(pack):
    pack.groups[1]["rules"].append(alert("E2eDown", "up < 1"))
    pack.write()
    return r"E2eDown: another alert of the pack has this name: .*all\.rules\.yaml:\d+"


def _duplicate_panel_id(pack):
    pack.dashboards["one"]["panels"][1]["id"] = 1
    pack.write()
    return r'one\.json: panel 1 "Requests": another panel has the same id'


def _long_uid(pack):
    pack.dashboards["one"]["uid"] = "u" * 41
    pack.write()
    return r"one\.json: uid u{41} is longer than 40"


def _odd_uid(pack):
    pack.dashboards["one"]["uid"] = "a/b"
    pack.write()
    return r"one\.json: uid a/b may hold"


def _no_uid(pack):
    del pack.dashboards["one"]["uid"]
    pack.write()
    return r"one\.json: has no uid"


def _interval_of_15s(pack):
    pack.groups[0]["interval"] = "15s"
    pack.write()
    return r"all\.rules\.yaml:\d+:\d+: .*interval 15s is no multiple of 10s"


def _runbook_to_nowhere(pack):
    pack.groups[0]["rules"][0]["annotations"]["runbook_url"] = "runbooks/Nowhere.md"
    pack.write()
    return r"E2eDown: link runbooks/Nowhere\.md: there is no such runbook"


def _runbook_heading_to_nowhere(pack):
    pack.groups[0]["rules"][0]["annotations"]["runbook_url"] = "runbooks/E2eDown.md#third-look"
    pack.write()
    return r"E2eDown: link runbooks/E2eDown\.md#third-look: the runbook has no heading #third-look"


def _panel_link_to_nowhere(pack):
    pack.dashboards["one"]["panels"][0]["links"] = [{"title": "Runbook", "url": "runbooks/Nowhere.md"}]
    pack.write()
    return r"one\.json: panel 1: link runbooks/Nowhere\.md"


def _route_to_nobody(pack):
    pack.alertmanager["route"]["routes"][0]["receiver"] = "nobody"
    pack.write()
    return r"alertmanager\.yaml:\d+:\d+: route: no receiver is called \"nobody\""


def _mute_by_nothing(pack):
    pack.alertmanager["route"]["routes"][1]["mute_time_intervals"] = ["never"]
    pack.write()
    return r"alertmanager\.yaml:\d+:\d+: route: no time interval is called \"never\""


def _secret_in_the_file(pack):
    pack.alertmanager["receivers"][0]["pagerduty_configs"][0] = {"routing_key": "e2e-literal-secret"}
    pack.write()
    return r"e2e-page/pagerduty: routing_key must not stand in a file"


def _missing_file(pack):
    pack.manifest["files"]["dashboards"].append("more/*.json")
    pack.write()
    return r"pack\.yaml:\d+:\d+: .*no file is called more/"


def _ambiguous_name(pack):
    """Marks of own objects begin with the name and two dashes."""
    pack.manifest["name"] = "e2e--b"
    pack.write()
    return r"pack\.yaml:\d+:\d+: name \"e2e--b\" must be"


def _exception_for_nothing(pack):
    pack.manifest["verify"] = {"allow_empty": [{"query": "rule/Gone", "reason": "it was there once"}]}
    pack.write()
    return r"pack\.yaml:\d+:\d+: rule/Gone: is an exception for something the pack does not have"


def _schema_v2(pack):
    pack.dashboards["one"] = {"apiVersion": "dashboard.grafana.app/v2beta1", "spec": {"elements": {}}}
    pack.write()
    return r"one\.json: is a dashboard of schema v2"


def _api_answer(pack):
    pack.dashboards["one"] = {"meta": {}, "dashboard": pack.dashboards["one"]}
    pack.write()
    return r"one\.json: is an answer of Grafana's API"


MISTAKES = [_broken_json, _broken_yaml, _broken_manifest, _key_twice, _unknown_key, _unknown_key_in_rule,
            _bad_promql_in_rule, _bad_promql_in_panel, _undefined_variable, _no_datasource, _duplicate_dashboard_uid,
            _duplicate_alert, _duplicate_panel_id, _long_uid, _odd_uid, _no_uid, _interval_of_15s, _runbook_to_nowhere,
            _runbook_heading_to_nowhere, _panel_link_to_nowhere, _route_to_nobody, _mute_by_nothing,
            _secret_in_the_file, _missing_file, _ambiguous_name, _exception_for_nothing, _schema_v2, _api_answer]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: one.__name__.strip("_"))
def test_a_mistake_is_told_with_its_place_and_nothing_is_written(double, tunnelctl, pack, mistake):
    pattern = mistake(pack)
    tunnelctl.secrets.append("e2e-literal-secret")
    double.mode(read_only=True)
    for command, more in (("plan", []), ("setup", ["--skip-verify"])):
        ended = tunnelctl.monitor(command, pack.directory, *more).expect(BAD_INPUT)
        assert re.search(pattern, ended.err), ended
        assert ended.out == ""
        assert not re.search(r"exception|terminate|std::", ended.err.replace("is an exception for", "")), ended
    assert double.writes() == [] and double.violations() == []


def test_all_mistakes_are_told_at_once(double, tunnelctl, pack):
    mistakes = [_unknown_key, _bad_promql_in_rule, _bad_promql_in_panel, _interval_of_15s, _mute_by_nothing,
                _no_datasource, _runbook_heading_to_nowhere]
    patterns = [mistake(pack) for mistake in mistakes]
    patterns.append(_broken_json_beside(pack))
    ended = tunnelctl.monitor("setup", pack.directory).expect(BAD_INPUT)
    for pattern in patterns:
        assert re.search(pattern, ended.err), f"{pattern}: {ended}"
    assert f"{len(patterns)} problems; nothing was changed" in ended.err
    assert double.log() == [], "no server was asked"


def _broken_json_beside(pack):
    pack.path("dashboards/three.json").write_text("{\n")
    return r"three\.json:\d+:\d+: "


def test_mistakes_of_several_packs_are_told_together(double, tunnelctl, pack, new_directory):
    other = Pack(new_directory("pack"), "e2e-b")
    other.groups[0]["interval"] = "7s"
    other.write()
    _unknown_key(pack)
    ended = tunnelctl.monitor("plan", pack.directory, other.directory).expect(BAD_INPUT)
    assert "colour" in ended.err and "7s" in ended.err


def test_two_packs_may_not_share_a_dashboard_or_a_name(double, tunnelctl, pack, new_directory):
    other = Pack(new_directory("pack"), "e2e-b")
    other.dashboards["one"]["uid"] = pack.dashboards["one"]["uid"]
    other.write()
    ended = tunnelctl.monitor("plan", pack.directory, other.directory).expect(BAD_INPUT)
    assert "is one of pack e2e" in ended.err
    copy = Pack(new_directory("pack")).write()
    assert "another pack is called e2e" in tunnelctl.monitor("plan", pack.directory, copy.directory).expect(
        BAD_INPUT).err


def test_a_pack_that_does_not_exist(double, tunnelctl, pack):
    ended = tunnelctl.monitor("plan", "tunel").expect(BAD_INPUT)
    assert 'there is no pack "tunel"' in ended.err and "shipped: tunnel" in ended.err
    ended = tunnelctl.monitor("plan", "./nowhere").expect(BAD_INPUT)
    assert "nowhere/pack.yaml" in ended.err
    assert double.log() == []


def test_a_pack_by_name_by_folder_and_by_manifest(double, tunnelctl, pack):
    tunnelctl.monitor("plan", pack.path("pack.yaml"), "-o", "json").expect(CHANGES)
    tunnelctl.monitor("plan", "tunnel", "--notifications", "none", "-q").expect(CHANGES)
    named = tunnelctl.with_environment(TUNNELCTL_PACKS=str(pack.directory.parent))
    assert named.monitor("plan", pack.directory.name, "-o", "json").expect(CHANGES).json()["changes"]


@pytest.mark.parametrize("text", [
    "", "null", "[]", "x", "apiVersion: tunnelctl/v2\nkind: Pack\n", "kind: [Pack]\n", "\t\n",
    "a: &a [*a]\n", "apiVersion: tunnelctl/v1\nkind: Pack\nname: ../x\nfolder: {uid: x, title: y}\nfiles: {}\n"],
    ids=["empty", "null", "list", "text", "version", "kind", "tab", "cycle", "name"])
def test_a_manifest_that_is_none(double, tunnelctl, pack, text):
    pack.path("pack.yaml").write_text(text)
    ended = tunnelctl.monitor("plan", pack.directory).expect(BAD_INPUT)
    assert "pack.yaml" in ended.err
    assert double.log() == []


def test_json_as_deep_as_it_likes_is_refused_and_not_followed(double, tunnelctl, pack):
    pack.path("dashboards/one.json").write_text('{"a":' * 200000 + "1" + "}" * 200000)
    ended = tunnelctl.monitor("plan", pack.directory).expect(BAD_INPUT)
    assert "one.json" in ended.err


def test_what_is_printed_cannot_steer_the_terminal(double, tunnelctl, pack):
    pack.dashboards["one"]["title"] = "Evil \x1b]0;owned\x07 \x1b[2J"
    pack.dashboards["one"]["panels"][0]["title"] = "\x1b[31mred"
    pack.write()
    for arguments in ([], ["--full"]):
        ended = tunnelctl.monitor("plan", pack.directory, *arguments).expect(CHANGES)
        assert "\x1b" not in ended.out + ended.err


def test_a_dashboard_with_every_odd_character_stays_as_it_is(double, grafana, tunnelctl, pack):
    pack.dashboards["one"]["title"] = "Zoë's ‹dash› 🚇 \" \\ <script> & % \u2028 \u0001"
    pack.write()
    tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(OK)
    assert grafana.dashboard(pack.name + "-one")["title"] == pack.dashboards["one"]["title"]
    assert json.loads(tunnelctl.monitor("plan", pack.directory, "-o", "json").expect(OK).out)["changes"] == []


def test_the_same_pack_is_good_without_its_mistakes(double, tunnelctl, pack):
    """So that the mistakes above are what is refused."""
    pack.dashboards["three"] = dashboard(pack.name + "-three", "Three", panel(1, "More", "up"))
    pack.write()
    tunnelctl.monitor("plan", pack.directory).expect(CHANGES)
