"""alerts/: the rules hold, each alert is proved to fire and not to fire, and what fires reaches the right people."""
import json
import pathlib
import re
import subprocess

import pytest
import yaml

from metric_contract import series

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
ALERTS = REPOSITORY / "alerts" / "tunnel"
RULE_FILES = sorted(ALERTS.glob("*.rules.yaml"))
TEST_FILES = sorted(ALERTS.glob("*.test.yaml"))
UNIT_TESTS = [path for path in TEST_FILES if path.name != "routes.test.yaml"]
ALERTMANAGER = ALERTS / "alertmanager.yaml"
TEMPLATES = ALERTS / "templates" / "*.tmpl"
ROUTES = yaml.safe_load((ALERTS / "routes.test.yaml").read_text())
#: What may stand in braces: text that Prometheus and Grafana expand alike.
EXPANSIONS = r"\{\{ \$(labels\.\w+|value( \| (humanize|humanizePercentage|humanizeDuration))?) \}\}"


def groups():
    return [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]


def rules(kind):
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


def alerts():
    found = {rule["alert"]: rule for rule in rules("alert")}
    assert len(found) == len(rules("alert")), "two alerts of one name"
    return found


ALERT_NAMES = sorted(alerts())


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Rules --------------------------------------------------------------------------------------------


def test_promtool_accepts_the_rules():
    assert RULE_FILES
    run("promtool", "check", "rules", "--lint-fatal", *RULE_FILES)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_unit_tests_pass(path):
    run("promtool", "test", "rules", path)


def test_every_rule_file_has_unit_tests():
    assert [path.name.replace(".rules.", ".test.") for path in RULE_FILES] == [path.name for path in UNIT_TESTS]


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_an_alert_is_proved_to_fire_and_not_to_fire(name):
    checks = [check for path in UNIT_TESTS for test in yaml.safe_load(path.read_text())["tests"]
              for check in test.get("alert_rule_test", []) if check["alertname"] == name]
    assert any(check["exp_alerts"] for check in checks), "no test sees it fire"
    assert any(not check["exp_alerts"] for check in checks), "no test sees it silent"


def test_an_idle_tunneld_raises_nothing(tmp_path):
    """One that has just begun to serve, with every series of the contract at 0: no callers, no agents, no links."""
    values = {"up": 1, "tunnel_sockets_limit": 1000, "process_max_fds": 1000, "tunnel_certificate_expiry_timestamp_seconds": 1e10}
    known = series() | {"up": set()}
    (tmp_path / "test.yaml").write_text(json.dumps({
        "rule_files": [str(path) for path in RULE_FILES], "evaluation_interval": "30s", "tests": [{
            "interval": "30s",
            "input_series": [{"series": name + "{" + ", ".join(
                f'{label}="{ {"job": "tunneld", "instance": "a:9090", "le": "+Inf"}.get(label, "any") }"'
                for label in sorted(labels | {"job", "instance"})) + "}", "values": f"{values.get(name, 0)}x250"}
                for name, labels in known.items()],
            "alert_rule_test": [{"alertname": name, "eval_time": time, "exp_alerts": []}
                                for name in ALERT_NAMES for time in ("5m", "45m", "2h")]}]}))
    run("promtool", "test", "rules", tmp_path / "test.yaml")


def test_every_recorded_series_is_tested():
    tested = " ".join(check["expr"] for path in UNIT_TESTS for test in yaml.safe_load(path.read_text())["tests"]
                      for check in test.get("promql_expr_test", []))
    for rule in rules("record"):
        assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"]), "level:metric:operations"
        assert rule["record"] in tested, rule["record"]


def test_intervals_and_waits_are_multiples_that_grafana_takes():
    """Grafana evaluates every 10 s, and waits in whole intervals of the group."""
    seconds = lambda text: int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]
    for group in groups():
        assert seconds(group["interval"]) % 10 == 0, group["name"]
        for rule in group["rules"]:
            for wait in ("for", "keep_firing_for"):
                assert seconds(rule.get(wait, "0s")) % seconds(group["interval"]) == 0, rule
    assert len({group["name"] for group in groups()}) == len(groups())


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_an_alert_says_who_what_and_where(name):
    rule = alerts()[name]
    assert name.startswith("Tunnel")
    assert set(rule["labels"]) == {"severity", "component", "service"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["labels"]["service"] == "tunneld"
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_uid", "panel_id"}
    assert annotations["runbook_url"] == f"runbooks/tunnel/{name}.md"
    assert (REPOSITORY / annotations["runbook_url"]).is_file()
    for text in (annotations["summary"], annotations["description"]):
        assert "{" not in re.sub(EXPANSIONS, "", text), "only $labels and $value work in both worlds"
        for label in re.findall(r"\$labels\.(\w+)", text):
            assert re.search(rf"\b{label}\b", rule["expr"]) or label in ("job", "instance"), label
    assert len(annotations["summary"]) < 120


def test_one_aggregation_keeps_what_inhibition_and_grouping_need():
    """All `by` of alerts keep job and instance; without them a missing label would equal a missing label."""
    for name, rule in alerts().items():
        for labels in re.findall(r"\bby \(([^)]*)\)", rule["expr"]):
            assert {"job", "instance"} <= set(labels.split(", ")), name
        # A rule's label wins over a series', and two series that differ only there make the evaluation fail.
        outermost = re.match(r"(?:max|sum) by \(([^)]*)\)", rule["expr"])
        if "tunnel_circuit_breaker_state" in rule["expr"]:
            assert outermost and "service" not in outermost.group(1), name


def test_rules_use_only_metrics_and_labels_that_tunneld_has():
    known = series() | {"up": set()}
    for rule in rules("expr"):
        selectors = re.findall(r"\b((?:tunnel|process)_\w+|up)\b(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', rule["expr"]))
        assert selectors
        for metric, matchers in selectors:
            assert metric in known, metric
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
                assert label in known[metric] | {"job", "instance"}, f"{metric}: {label}"


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_an_alert_leads_to_a_panel_that_exists(name):
    annotations = alerts()[name]["annotations"]
    boards = {board["uid"]: board for board in map(json.loads, (
        path.read_text() for path in (REPOSITORY / "dashboards" / "tunnel").glob("*.json")))}
    assert annotations["dashboard_uid"] in boards
    panels = boards[annotations["dashboard_uid"]]["panels"]
    ids = {inner["id"] for panel in panels for inner in [panel, *panel.get("panels", [])]}
    assert int(annotations["panel_id"]) in ids


# Routing ------------------------------------------------------------------------------------------


def configuration():
    return yaml.safe_load(ALERTMANAGER.read_text())


def test_amtool_accepts_the_configuration():
    assert "FAILED" not in run("amtool", "check-config", ALERTMANAGER)


def assert_routed(labels, receivers):
    run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}",
        f"--verify.receivers={','.join(receivers)}", *[f"{name}={value}" for name, value in labels.items()])


@pytest.mark.parametrize("row", ROUTES["routes"], ids=lambda row: "-".join(row["labels"].values()))
def test_labels_reach_their_receivers(row):
    assert_routed(row["labels"], row["receivers"])


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_every_alert_reaches_the_receiver_of_its_severity(name):
    labels = alerts()[name]["labels"]
    assert_routed({"alertname": name, "job": "tunneld", **labels}, [f"tunnel-{labels['severity']}"])


def test_a_receiver_has_the_channels_it_is_said_to_have():
    channels = {receiver["name"]: sorted(key.removesuffix("_configs") for key in receiver if key != "name")
                for receiver in configuration()["receivers"]}
    assert channels == {name: sorted(kinds) for name, kinds in ROUTES["receivers"].items()}


def test_every_receiver_is_used_and_tells_the_end_as_well():
    def used(route):
        return {route["receiver"]} | set().union(*map(used, route.get("routes", [])), set())

    receivers = configuration()["receivers"]
    assert used(configuration()["route"]) == {receiver["name"] for receiver in receivers}
    for receiver in receivers:
        for key, entries in receiver.items():
            for entry in entries if key != "name" else []:
                assert entry["send_resolved"] is True, f"{receiver['name']}: {key}"


def test_one_subtree_holds_all_of_ours():
    children = configuration()["route"]["routes"]
    assert [child["matchers"] for child in children] == [['service="tunneld"']]


def test_secrets_are_files():
    for key, value in re.findall(r"^\s*-?\s*([a-z_]+): *(\S+)", ALERTMANAGER.read_text(), re.M):
        assert key not in ("routing_key", "service_key", "api_url", "slack_api_url", "auth_password",
                           "smtp_auth_password", "url"), key
        assert not key.endswith("_file") or value.startswith("secrets/"), key
    assert not (ALERTS / "secrets").exists()


# Inhibition ---------------------------------------------------------------------------------------


def names_in(matchers):
    (named,) = [m for m in matchers if m.startswith("alertname=")]
    return set(named.split('"')[1].split("|"))


def test_inhibition_cannot_silence_the_wrong_thing():
    rules_ = configuration()["inhibit_rules"]
    sources = set().union(*(names_in(rule["source_matchers"]) for rule in rules_))
    targets = set().union(*(names_in(rule["target_matchers"]) for rule in rules_))
    assert sources | targets <= set(ALERT_NAMES), "an alert of that name does not exist"
    assert not sources & targets, "an alert that is source and target can hide a hidden one's reason"
    for rule in rules_:
        assert {"job", "instance"} <= set(rule["equal"])
        for side in ("source_matchers", "target_matchers"):  # a missing label would equal a missing one
            assert 'instance=~".+"' in rule[side] and 'service="tunneld"' in rule[side]
            for name in names_in(rule[side]):
                assert "absent(" not in alerts()[name]["expr"], f"{name} has no instance"
        worst = {alerts()[name]["labels"]["severity"] for name in names_in(rule["source_matchers"])}
        assert worst == {"critical"}, "a lesser alert must not hide another"
    # What is not a mere consequence of another alert, or must be heard whatever else is wrong.
    assert not targets & {"TunnelDown", "TunnelTargetAbsent", "TunnelTotalFailure", "TunnelAuditLogFailing",
                          "TunnelAuthFailures", "TunnelAuthFailureSurge", "TunnelConnectionStorm",
                          "TunnelFileDescriptorsNearLimit", "TunnelConnectionsNearLimit"}


# Templates ----------------------------------------------------------------------------------------


def notification(firing=1, resolved=0, severity="critical", common=True, **annotations):
    """As Alertmanager hands it to templates (template.Data)."""
    def alert(number, status):
        return {"status": status, "labels": {"alertname": "TunnelDown", "instance": f"a{number}:9090"},
                "annotations": {"summary": f"tunneld a{number}:9090 is down", "description": "It does <not> answer.",
                                **annotations},
                "startsAt": "2026-03-01T10:00:00Z", "endsAt": "2026-03-01T11:00:00Z",
                "generatorURL": "http://prometheus/graph?g0.expr=up"}

    listed = [alert(n, "firing") for n in range(firing)] + [alert(n, "resolved") for n in range(firing, firing + resolved)]
    return {"receiver": "tunnel-critical", "status": "firing" if firing else "resolved", "alerts": listed,
            "groupLabels": {"alertname": "TunnelDown", "job": "tunneld"}, "commonLabels": {"severity": severity},
            "commonAnnotations": listed[0]["annotations"] if common else annotations, "externalURL": "http://alertmanager"}


def rendered(tmp_path, name, data, kind="text"):
    file = tmp_path / "data.json"
    file.write_text(json.dumps(data))
    return run("amtool", "template", "render", f"--template.glob={TEMPLATES}", f"--template.type={kind}",
               f'--template.text={{{{ template "{name}" . }}}}', f"--template.data={file}").strip()


LINKS = {"runbook_url": "https://runbooks/TunnelDown", "dashboard_url": "https://grafana/d/tunnel-health",
         "panel_url": "https://grafana/d/tunnel-health?viewPanel=9"}


@pytest.mark.parametrize("data, title", [
    (notification(), "[CRITICAL] tunneld a0:9090 is down"),
    (notification(firing=3, common=False), "[CRITICAL x3] TunnelDown: tunneld"),
    (notification(severity="warning"), "[WARNING] tunneld a0:9090 is down"),
    (notification(firing=0, resolved=1), "[RESOLVED] tunneld a0:9090 is down"),
    (notification(firing=0, resolved=2, common=False), "[RESOLVED] TunnelDown: tunneld"),
])
def test_a_title_is_one_short_line(tmp_path, data, title):
    assert rendered(tmp_path, "tunnel.title", data) == title


def test_a_text_holds_every_link_there_is_and_no_empty_one(tmp_path):
    text = rendered(tmp_path, "tunnel.text", notification(firing=2, resolved=1, **LINKS))
    for link in LINKS.values():
        assert text.count(f": {link}\n") == 2
    assert "Since: 2026-03-01 10:00:00 UTC" in text
    assert text.endswith("Resolved:\ntunneld a2:9090 is down (over since 2026-03-01 11:00:00 UTC)")
    bare = rendered(tmp_path, "tunnel.text", notification())
    assert not re.search(r"Runbook|Dashboard|Panel|no value", bare)


def test_the_link_is_the_nearest_place_there_is(tmp_path):
    assert rendered(tmp_path, "tunnel.link", notification(**LINKS)) == LINKS["panel_url"]
    assert rendered(tmp_path, "tunnel.link", notification(dashboard_url="https://d")) == "https://d"
    assert rendered(tmp_path, "tunnel.link", notification()) == "http://prometheus/graph?g0.expr=up"


def test_a_mail_escapes_what_alerts_say(tmp_path):
    page = rendered(tmp_path, "tunnel.html", notification(**LINKS), kind="html")
    assert "&lt;not&gt;" in page and "<not>" not in page
    assert f'<a href="{LINKS["runbook_url"]}">Runbook</a>' in page


@pytest.mark.parametrize("severity, firing, color", [
    ("critical", 1, "danger"), ("warning", 1, "warning"), ("info", 1, "#439FE0"), ("critical", 0, "good")])
def test_a_colour_says_how_bad_it_is(tmp_path, severity, firing, color):
    data = notification(firing=firing, resolved=1 - firing, severity=severity)
    assert rendered(tmp_path, "tunnel.color", data) == color


def test_every_template_that_is_named_is_defined():
    """amtool check-config does not look."""
    defined = {name for path in ALERTS.glob("templates/*.tmpl") for name in re.findall(r'define "([^"]+)"', path.read_text())}
    named = {name for path in [ALERTMANAGER, *ALERTS.glob("templates/*.tmpl")]
             for name in re.findall(r'template "([^"]+)"', path.read_text())}
    assert named and named <= defined
    assert defined <= named, "nothing uses it"


def test_templates_use_only_what_alertmanager_and_grafana_both_have():
    for path in ALERTS.glob("templates/*.tmpl"):
        text = re.sub(r"\{\{/\*.*?\*/\}\}", "", path.read_text(), flags=re.S)
        for action in re.findall(r"\{\{-? ?(.*?) ?-?\}\}", text):
            words = re.findall(r"(?<![\w.$\"])[a-z]\w*", re.sub(r'"[^"]*"', '""', action))
            assert set(words) <= {"define", "end", "if", "else", "with", "range", "template", "eq", "gt", "len",
                                  "index", "toUpper"}, action
