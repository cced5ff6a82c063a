"""`tunnelctl monitor render`, `lint`, `guide` and `export`: files from packs, and packs from servers."""

import json
import pathlib
import re

import pytest
import yaml

from programs.monitoring import set_up
from programs.packs import PAGERDUTY, SLACK, dashboard, panel
from programs.tunnelctl import BAD_INPUT, CHANGES, CONFLICT, FAILED, OK, USAGE, Tunnelctl

FORMATS = ["grafana-files", "prometheus", "alertmanager", "kubernetes", "grafana-operator", "terraform"]


@pytest.fixture
def anywhere(new_directory):
    """No server, but the secrets are at hand and must not be taken."""
    return Tunnelctl(new_directory("tunnelctl"), {"E2E_PAGERDUTY_KEY": PAGERDUTY, "E2E_SLACK_URL": SLACK},
                     secrets=[PAGERDUTY, SLACK])


def _texts(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(pathlib.Path(folder).rglob("*"))
            if path.is_file()}


# render -----------------------------------------------------------------------------------------------


def test_render_needs_no_server_and_writes_the_same_twice(anywhere, pack, tmp_path):
    for name in ("a", "b"):
        anywhere.monitor("render", pack.directory, "--out", tmp_path / name).expect(OK)
    written = _texts(tmp_path / "a")
    assert written == _texts(tmp_path / "b")
    assert {path.split("/")[0] for path in written} == set(FORMATS)
    for text in written.values():
        assert PAGERDUTY not in text and SLACK not in text


@pytest.mark.parametrize("format_", FORMATS)
def test_one_format_alone_and_each_file_can_be_read(anywhere, pack, tmp_path, format_):
    ended = anywhere.monitor("render", pack.directory, "--format", format_, "--out", tmp_path).expect(OK)
    written = _texts(tmp_path)
    assert written and sorted(ended.out.splitlines()) == sorted(str(tmp_path / name) for name in written)
    for name, text in written.items():
        if name.endswith(".json"):
            json.loads(text)
        elif name.endswith((".yaml", ".yml")):
            assert list(yaml.safe_load_all(text))


def test_an_unknown_format(anywhere, pack, tmp_path):
    ended = anywhere.monitor("render", pack.directory, "--format", "cobol", "--out", tmp_path)
    assert ended.code in (USAGE, BAD_INPUT), ended
    assert "cobol" in ended.err and "prometheus" in ended.err
    assert _texts(tmp_path) == {}


def test_a_pack_with_mistakes_is_not_rendered(anywhere, pack, tmp_path):
    pack.groups[0]["interval"] = "15s"
    pack.write()
    anywhere.monitor("render", pack.directory, "--out", tmp_path / "x").expect(BAD_INPUT)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written(anywhere, pack, tmp_path):
    (tmp_path / "file").write_text("")
    ended = anywhere.monitor("render", pack.directory, "--out", tmp_path / "file")
    assert ended.code != OK and str(tmp_path / "file") in ended.err


def test_what_is_rendered_for_grafana_is_what_setup_makes(grafana, tunnelctl, anywhere, pack, tmp_path):
    set_up(tunnelctl, pack)
    anywhere.monitor("render", pack.directory, "--format", "grafana-files", "--out", tmp_path).expect(OK)
    rules, points, dashboards = {}, set(), {}
    for path in tmp_path.rglob("*"):
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            if "panels" in content:
                dashboards[content["uid"]] = content
        elif path.suffix == ".yaml":
            for document in yaml.safe_load_all(path.read_text()):
                for group in (document or {}).get("groups") or []:
                    rules.update({rule["uid"]: rule for rule in group["rules"]})
                for point in (document or {}).get("contactPoints") or []:
                    points.update(receiver["uid"] for receiver in point["receivers"])
    ours = {rule["uid"]: rule for rule in grafana.rules() if rule["folderUID"] == pack.folder}
    assert set(rules) == set(ours)
    for uid, rule in rules.items():
        assert [node["model"].get("expr") for node in rule["data"]] == [
            node["model"].get("expr") for node in ours[uid]["data"]]
        assert rule["labels"] == ours[uid]["labels"]
    assert points == {point["uid"] for point in grafana.contact_points() if point["uid"].startswith("tctl-e2e--")}
    for uid, content in dashboards.items():
        assert [one["title"] for one in content["panels"]] == [
            one["title"] for one in grafana.dashboard(uid)["panels"]]


# lint -------------------------------------------------------------------------------------------------


def test_the_shipped_pack_has_no_finding_that_is_not_accepted(anywhere):
    ended = anywhere.monitor("lint", "--strict").expect(OK)
    assert "0 errors, 0 warnings" in ended.err
    assert not any(line.startswith(":") for line in ended.out.splitlines()), "each line begins with a place"
    assert {one["severity"] for one in anywhere.monitor("lint", "-o", "json").expect(OK).json()} <= {"info"}


def test_lint_tells_what_would_mislead(anywhere, pack):
    pack.dashboards["one"]["panels"][1]["targets"][0]["expr"] = "sum(http_requests_total)"  # a counter without rate
    pack.dashboards["one"]["panels"][0]["type"] = "graph"
    pack.write()
    ended = anywhere.monitor("lint", pack.directory, "--strict").expect(FAILED)
    assert re.search(r"one\.json.*: (error|warning): .*\[[a-z-]+\]", ended.out), ended
    found = anywhere.monitor("lint", pack.directory, "-o", "json").json()
    assert {"check", "severity", "place", "object", "message"} <= set(found[0])


def test_the_checks_are_listed(anywhere):
    listed = anywhere.monitor("lint", "--list", "-o", "json").expect(OK).json()
    assert len(listed) > 20 and len({one["check"] for one in listed}) == len(listed)
    assert all(one["about"] for one in listed)


# guide ------------------------------------------------------------------------------------------------


def test_the_guide_without_and_with_a_server(anywhere, grafana, tunnelctl, pack, tmp_path):
    text = anywhere.monitor("guide", pack.directory).expect(OK).out
    assert "/d/e2e-one" in text and all(alert in text for alert in ("E2eDown", "E2eFlapping", "E2eSlow"))
    whole = tunnelctl.monitor("guide", pack.directory).expect(OK).out
    assert f"{grafana.url}/d/e2e-one" in whole
    tunnelctl.monitor("guide", pack.directory, "--file", tmp_path / "guide.md").expect(OK)
    assert (tmp_path / "guide.md").read_text() == whole


# export -----------------------------------------------------------------------------------------------


def test_what_is_exported_is_a_pack_that_changes_nothing(grafana, tunnelctl, pack, tmp_path):
    """There and back: the same dashboards and rules, without the server's ids and secrets."""
    set_up(tunnelctl, pack)
    before = grafana.snapshot()
    tunnelctl.monitor("export", "--folder", pack.folder, "--name", pack.name, "--title", pack.manifest["title"],
                      "--out", tmp_path / "copy").expect(OK)
    assert grafana.snapshot() == before
    written = _texts(tmp_path / "copy")
    assert "pack.yaml" in written
    for name, text in written.items():
        assert PAGERDUTY not in text and SLACK not in text
        if name.endswith(".json"):
            content = json.loads(text)
            assert content.get("id") is None and "version" not in content
    alerts = {rule["alert"] for name, text in written.items() if name.endswith(".rules.yaml")
              for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}
    assert alerts == {"E2eDown", "E2eFlapping", "E2eSlow"}
    plan = tunnelctl.monitor("plan", tmp_path / "copy", "-o", "json")
    assert plan.code in (OK, CHANGES), plan
    changed = [one for one in plan.json()["changes"] if one["kind"] in ("folder", "dashboard", "rule group")]
    assert changed == [], json.dumps(changed, indent=1)


def test_what_was_made_by_hand_is_exported_as_a_pack_that_can_be_set_up(grafana, tunnelctl, tmp_path):
    grafana.api("POST", "/api/folders", {"uid": "e2e-hand", "title": "By hand"})
    grafana.save_dashboard({**dashboard("e2e-hand-made", "Made by hand", panel(1, "Up", "up")), "id": None}, "e2e-hand")
    tunnelctl.monitor("export", "--folder", "e2e-hand", "--name", "e2e-hand", "--no-notifications", "--out",
                      tmp_path / "copy").expect(OK)
    other = tmp_path / "copy"
    # The dashboard is not marked as the pack's yet: taking it over is what --force is for.
    tunnelctl.monitor("plan", other).expect(CONFLICT)
    tunnelctl.monitor("setup", other, "--force", "--skip-verify").expect(OK)
    tunnelctl.monitor("plan", other).expect(OK)


@pytest.mark.parametrize("arguments, code", [(["--folder", "e2e-nowhere", "--name", "e2e-x"], None),
                                             (["--folder", "e2e-nowhere", "--name", "a--b"], None),
                                             (["--name", "e2e-x"], USAGE)])
def test_an_export_that_cannot_be(grafana, tunnelctl, tmp_path, arguments, code):
    ended = tunnelctl.monitor("export", *arguments, "--out", tmp_path / "copy")
    assert ended.code not in (OK, CHANGES) and code in (None, ended.code), ended
    assert ended.err and not (tmp_path / "copy").exists()
