"""dashboards/tunnel and packs/tunnel: what Grafana, a phone and the person on call need of the files."""
import json
import pathlib
import re
import subprocess

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "dashboards" / "tunnel").glob("*.json"))
PACK = REPOSITORY / "packs" / "tunnel" / "pack.yaml"
DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in FILES}
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"] if panel["type"] != "row"]
SOURCES = {"prometheus": {"type": "prometheus", "uid": "${datasource}"}, "loki": {"type": "loki", "uid": "${loki}"}}
GRAPHS = ("timeseries", "heatmap", "state-timeline", "piechart", "table", "logs", "alertlist")
# Units of Grafana's list that the panels use; any other text would be shown as it is.
UNITS = {"none", "short", "percentunit", "s", "bytes", "Bps", "reqps", "ops", "eps", "cpm"}
TIERED = ("tunnel_active_connections", "tunnel_requests_total", "tunnel_requests_in_flight", "tunnel_rate_limit_violations_total")

each_dashboard = pytest.mark.parametrize("name", DASHBOARDS)
each_panel = pytest.mark.parametrize("panel", [panel for _, panel in PANELS],
                                     ids=[f"{name}-{panel['id']}" for name, panel in PANELS])


def links(value):
    """Every link of a dashboard or panel: of its header, its title, and its values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "links" and isinstance(inner, list):
                yield from inner
            elif key == "properties":
                yield from (link for item in inner if item["id"] == "links" for link in item["value"])
            yield from links(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from links(inner)


def metrics():
    """The names of common/metric_names.h, and those that dashboards may not use."""
    source = (REPOSITORY / "common" / "metric_names.h").read_text()
    names = dict(re.findall(r'constexpr const char\* (k\w+) =\s*"(\w+)";', source))
    old = {names[key] for key, row in re.findall(r"Metric\{\s*(k\w+),(.*?)\}[,}]\s*(?=Metric|\};)", source, re.S) if "Since::compat" in row}
    assert old, "the header is read wrongly: it has no old name"
    return set(names.values()), old


def test_the_three_dashboards_are_there_under_their_names():
    assert {d["uid"]: (d["title"], d["refresh"], d["tags"]) for d in DASHBOARDS.values()} == {
        "tunnel-health": ("Tunnel Health", "30s", ["tunnel", "monitoring", "production"]),
        "tunnel-performance": ("Tunnel Performance", "30s", ["tunnel", "performance", "production"]),
        "tunnel-errors": ("Tunnel Errors", "1m", ["tunnel", "errors", "production"]),
    }


@each_dashboard
def test_the_file_is_written_one_way_only(name):
    text = (REPOSITORY / "dashboards" / "tunnel" / f"{name}.json").read_text()
    assert text == json.dumps(DASHBOARDS[name], indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@each_dashboard
def test_it_is_of_the_schema_that_grafana_9_5_to_13_load(name):
    dashboard = DASHBOARDS[name]
    assert dashboard["schemaVersion"] == 39
    assert dashboard["id"] is None and "version" not in dashboard and "__inputs" not in dashboard
    assert dashboard["timezone"] == "browser" and dashboard["description"]
    for panel in dashboard["panels"]:
        assert panel["type"] != "graph" and "alert" not in panel and "datasourceUid" not in json.dumps(panel)


@each_dashboard
def test_panels_have_ids_of_their_own_and_stand_in_reading_order_without_overlap(name):
    panels = DASHBOARDS[name]["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    places = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in panels]
    assert places == sorted(places)
    taken = {}
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] >= 0 and at["h"] >= 1 and at["x"] + at["w"] <= 24, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken.get(cell)}"
            taken[cell] = panel["title"]
    assert panels[0]["type"] == "row"
    assert all(panel["gridPos"]["w"] == 24 and panel["title"] and panel["panels"] == [] for panel in panels if panel["type"] == "row")


@each_panel
def test_a_panel_says_what_it_shows_what_is_good_and_what_silence_means(panel):
    assert panel["title"] and len(panel["description"]) > 100
    assert "Good:" in panel["description"]
    assert re.search(r"traffic|No line|no line|[Ee]mpty|0 (while|without|throughout)|Without", panel["description"])
    assert panel["fieldConfig"]["defaults"]["noValue"]


@each_panel
def test_a_panel_is_readable_on_a_phone(panel):
    assert panel["gridPos"]["w"] >= (12 if panel["type"] in GRAPHS else 6)


@each_panel
def test_a_panel_has_a_unit_and_thresholds_that_begin_at_the_bottom(panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    steps = [step["value"] for step in defaults["thresholds"]["steps"]]
    assert steps[0] is None and steps[1:] == sorted(steps[1:])


@each_panel
def test_a_panel_asks_its_data_source_by_variable(panel):
    assert panel["datasource"] in SOURCES.values()
    if panel["type"] == "alertlist":
        return  # asks Grafana
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFG")[:len(panel["targets"])] != []
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] and target["editorMode"] == "code"
        if target["datasource"]["type"] == "prometheus":
            assert target["instant"] is not target["range"] and target["legendFormat"]
    if panel["type"] in ("stat", "gauge", "piechart"):
        # Of a range, the last value would be one from before the silence.
        assert all(target["instant"] for target in panel["targets"])
        assert panel["options"]["reduceOptions"] == {"calcs": ["lastNotNull"], "fields": "", "values": False}


@each_panel
def test_every_selector_is_filtered_by_the_variables(panel):
    for target in panel["targets"]:
        expression = target["expr"]
        if target["datasource"]["type"] == "loki":
            assert '{service=~"$service"}' in expression
            continue
        selectors = re.findall(r"\b((?:tunnel|process)_\w+|up)\{([^}]*)\}", expression)
        assert selectors
        for metric, matchers in selectors:
            assert 'job=~"$service", instance=~"$instance"' in matchers
            assert ('user_tier=~"$user_tier"' in matchers) == (metric in TIERED)


@each_panel
def test_queries_use_metrics_that_tunneld_has_under_their_present_names(panel):
    known, old = metrics()
    for target in panel["targets"]:
        if target["datasource"]["type"] == "loki":
            continue
        for metric in re.findall(r"\b(?:tunnel|process)_\w+", re.sub(r'"[^"]*"|\bby \([^)]*\)|\bon \([^)]*\)', "", target["expr"])):
            base = re.sub(r"_(bucket|sum|count)$", "", metric)
            assert metric in known - old or base in known - old, metric


@each_panel
def test_queries_are_the_kind_that_does_not_lie(panel):
    for target in panel["targets"]:
        expression = target["expr"]
        if target["datasource"]["type"] == "loki":
            continue
        for counter in re.findall(r"(\w+\()?\b\w+_(?:total|bucket|sum)\{", expression):
            assert counter in ("rate(", "increase("), f"a counter without rate(): {expression}"
        for window in re.findall(r"\[([^\]]+)\]", expression):
            assert window in ("$__rate_interval", "$__range"), expression
        if "histogram_quantile" in expression:
            assert re.search(r"sum by \([^)]*\ble\)", expression) and "_bucket{" in expression
        if re.search(r"rate\([^/]*\) / .*rate\(", expression) and "on (" not in expression:
            assert re.search(r"/ \(sum.* > 0\)", expression), f"0/0 is NaN without traffic: {expression}"


@each_dashboard
def test_every_variable_is_used_and_every_used_one_is_there(name):
    dashboard = DASHBOARDS[name]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert list(variables)[:5] == ["datasource", "loki", "service", "instance", "user_tier"]
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard["panels"])))
    assert used == set(variables)
    for variable in variables.values():
        assert variable["label"] and variable["description"] and "current" in variable
        if variable["type"] == "query":
            assert variable["datasource"] == SOURCES["prometheus"]
            assert variable["refresh"] == 2 and variable["includeAll"] and variable["multi"]
            assert variable["query"]["query"] == variable["definition"]
            assert variable["definition"].startswith("label_values(")
    # Series without the label must stay; every series has the others; All must not mean other people's jobs.
    assert {name: variables[name]["allValue"] for name in ("service", "instance", "user_tier")} == {
        "service": ".*tunneld.*", "instance": ".+", "user_tier": ".*"}


@each_dashboard
def test_deployments_and_restarts_are_marked(name):
    builtin, deployments, starts = DASHBOARDS[name]["annotations"]["list"]
    assert builtin["builtIn"] == 1
    assert deployments["target"]["tags"] == ["deploy"] and deployments["enable"]
    assert "process_start_time_seconds" in starts["expr"] and starts["useValueForTime"] and starts["enable"]


@each_dashboard
def test_each_dashboard_links_to_the_other_two_and_takes_time_and_variables_along(name):
    header = DASHBOARDS[name]["links"]
    others = {d["uid"] for d in DASHBOARDS.values()} - {DASHBOARDS[name]["uid"]}
    assert {link["url"].split("/")[2] for link in header} == others
    for link in header:
        assert link["type"] == "link" and link["keepTime"] and link["includeVars"] and not link["targetBlank"]


def test_links_lead_to_dashboards_panels_and_runbooks_that_exist():
    ids = {d["uid"]: {panel["id"] for panel in d["panels"]} for d in DASHBOARDS.values()}
    found = [link for dashboard in DASHBOARDS.values() for link in links(dashboard)]
    runbooks = {link["url"] for link in found if link["url"].startswith("runbooks/")}
    assert len(runbooks) > 15
    for link in found:
        url = link["url"]
        assert link["title"]
        if url.startswith("/d/"):
            assert url.split("?")[0].split("/")[2] in ids
            if view := re.search(r"viewPanel=(\d+)", url):
                assert int(view[1]) in ids[url.split("/")[2]]
        elif not url.startswith("/explore?left="):
            assert re.fullmatch(r"runbooks/tunnel/Tunnel\w+\.md", url), url
    missing = sorted(url for url in runbooks if not (REPOSITORY / url).exists())
    assert not missing


def test_panels_of_errors_lead_from_a_spike_to_the_log_lines_of_its_time():
    for name, wanted in {"health": (2, 5, 8, 15, 17, 25, 27, 38, 39), "errors": (2, 5, 6, 7, 8, 9, 10)}.items():
        panels = {panel["id"]: panel for panel in DASHBOARDS[name]["panels"]}
        for id in wanted:
            urls = [link["url"] for link in panels[id]["fieldConfig"]["defaults"]["links"]]
            assert any("${__url_time_range}" in url or "${__from}" in url for url in urls), (name, id)


def test_the_panel_that_an_alert_names_exists_and_links_to_its_runbook():
    by_uid = {d["uid"]: {str(panel["id"]): panel for panel in d["panels"]} for d in DASHBOARDS.values()}
    alerts = [rule for file in sorted((REPOSITORY / "alerts" / "tunnel").glob("*.rules.yaml"))
              for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        notes = alert["annotations"]
        panel = by_uid[notes["dashboard_uid"]][notes["panel_id"]]
        assert notes["runbook_url"] in [link["url"] for link in panel.get("links", [])], f"{alert['alert']}: {panel['title']}"


def test_the_pack_names_files_queries_and_rules_that_exist():
    pack = yaml.safe_load(PACK.read_text())
    for key in ("dashboards", "rules"):
        for pattern in pack["files"][key]:
            assert list(PACK.parent.glob(pattern)), pattern
    for key in ("alertmanager", "runbooks"):
        assert (PACK.parent / pack["files"][key]).exists()
    assert [row["variable"] for row in pack["datasources"]] == ["datasource", "loki"]
    targets = {(d["uid"], str(panel["id"])): [t["refId"] for t in panel.get("targets", [])] for d in DASHBOARDS.values() for panel in d["panels"]}
    rules = "".join(file.read_text() for file in (REPOSITORY / "alerts" / "tunnel").glob("*.rules.yaml"))
    seen = set()
    for entry in pack["verify"]["allow_empty"]:
        query = entry["query"]
        assert entry["reason"] and query not in seen
        seen.add(query)
        if query.startswith("rule/"):
            assert f"alert: {query[5:]}\n" in rules, query
            continue
        uid, panel, *ref = query.split("/")
        assert targets[uid, panel] and (not ref or ref[0] in targets[uid, panel]), query
    for entry in pack["lint"]["ignore"]:
        uid, panel = entry["object"].split("/")
        assert entry["reason"] and (uid, panel) in targets


# What promtool calculates for a minute per sample: counters of healthy, of failing and of no requests.
STATES = {
    "one in ten requests fails": ("0+54x10", "0+6x10"),
    "every request fails": ("0x10", "0+60x10"),
    "no traffic": ("7x10", "3x10"),
}
ANSWERS = {
    "one in ten requests fails": {"health/1/A": 0.9, "health/2/A": 0.1, "errors/5/A": 0.1},
    "every request fails": {"health/1/A": 0, "health/2/A": 1, "errors/5/A": 1},
    "no traffic": {"health/1/A": None, "health/2/A": None, "errors/5/A": None},
}


def query_of(key):
    """The expression of "dashboard/panel/refId" with its variables as Grafana fills them in."""
    name, id, ref = key.split("/")
    panel = next(panel for panel in DASHBOARDS[name]["panels"] if str(panel["id"]) == id)
    expression = next(target["expr"] for target in panel["targets"] if target["refId"] == ref)
    values = {"__rate_interval": "5m", "__interval_ms": "60000", "__range": "10m"}
    values |= {v["name"]: v["allValue"] for v in DASHBOARDS[name]["templating"]["list"] if "allValue" in v}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)


def calculate(tmp_path, series, answers):
    """Fails with promtool's explanation when a query's value at ten minutes is another one; None is no value."""
    (tmp_path / "test.yaml").write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [{
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": query_of(key), "eval_time": "10m",
                              "exp_samples": [] if value is None else [{"labels": labels, "value": value}]}
                             for key, (labels, value) in answers.items()]}]}))
    done = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("state", STATES)
def test_success_and_error_ratio_are_true_in_every_state(tmp_path, state):
    good, bad = STATES[state]
    series = {f'tunnel_requests_total{{job="tunneld", instance="a:9090", status="{status}", user_tier="free", priority="normal"}}': values
              for status, values in (("success", good), ("error", bad))}
    # Another program's series must change nothing.
    series['tunnel_requests_total{job="other", instance="b:1", status="error", user_tier="free", priority="normal"}'] = "0+1000x10"
    calculate(tmp_path, series, {key: ("{}", value) for key, value in ANSWERS[state].items()})


def test_success_is_zero_even_when_no_request_has_ever_succeeded(tmp_path):
    series = {'tunnel_requests_total{job="tunneld", instance="a:9090", status="error", user_tier="free", priority="normal"}': "0+60x10"}
    calculate(tmp_path, series, {"health/1/A": ("{}", 0), "health/2/A": ("{}", 1)})


def test_success_is_one_while_no_series_of_errors_exists(tmp_path):
    series = {'tunnel_requests_total{job="tunneld", instance="a:9090", status="success", user_tier="free", priority="normal"}': "0+60x10"}
    calculate(tmp_path, series, {"health/1/A": ("{}", 1)})


def test_resources_are_shares_of_their_limits_by_instance(tmp_path):
    labels = 'job="tunneld", instance="a:9090"'
    calculate(tmp_path, {
        f"tunnel_sockets{{{labels}}}": "450x10", f"tunnel_sockets_limit{{{labels}}}": "500x10",
        f"process_open_fds{{{labels}}}": "600x10", f"process_max_fds{{{labels}}}": "1000x10",
        f"process_cpu_seconds_total{{{labels}}}": "0+60x10",
        f'tunnel_event_loop_lag_seconds_count{{{labels}, thread="0"}}': "0x10",
        f'tunnel_event_loop_lag_seconds_count{{{labels}, thread="1"}}': "0x10",
        f"tunnel_event_loop_lag_seconds_count{{job=\"tunneld\", instance=\"b:9090\", thread=\"0\"}}": "0x10",
    }, {
        "health/4/A": ('{instance="a:9090"}', 0.9),
        "performance/12/A": ('{instance="a:9090", job="tunneld"}', 0.6),
        "performance/6/A": ('{instance="a:9090"}', 0.5),
    })


def test_a_bar_counts_what_happened_in_its_own_time(tmp_path):
    calculate(tmp_path, {
        'tunnel_errors_total{job="tunneld", instance="a:9090", category="network", code="TUNNEL_001"}': "0+120x10",
        'tunnel_errors_total{job="tunneld", instance="a:9090", category="network", code="TUNNEL_018"}': "0x10",
    }, {"errors/2/A": ('{category="network"}', 120), "errors/6/A": ('{code="TUNNEL_001"}', 120)})


def links_of(instance, ok, expired, refused="0x10"):
    return {f'tunnel_sessions_resumed_total{{job="tunneld", instance="{instance}", result="{result}"}}': values
            for result, values in (("ok", ok), ("expired", expired), ("refused", refused))}


def test_the_share_of_cuts_that_came_back_is_of_all_attempts(tmp_path):
    calculate(tmp_path, links_of("a:9090", "0+180x10", "0+30x10", "0+30x10"),
              {"health/40/A": ("{}", 0.75), "health/40/B": ('{instance="a:9090"}', 0.75)})


def test_the_share_of_cuts_that_came_back_is_zero_when_none_does_and_no_line_when_nobody_tries(tmp_path):
    calculate(tmp_path, links_of("a:9090", "3x10", "0+60x10") | links_of("b:9090", "3x10", "5x10"),
              {"health/40/A": ("{}", 0), "health/40/B": ('{instance="a:9090"}', 0)})
    calculate(tmp_path, links_of("a:9090", "3x10", "0x10"), {"health/40/A": ("{}", None), "health/40/B": ("{}", None)})


def test_agents_and_the_resume_buffer_are_told_by_instance(tmp_path):
    labels = 'job="tunneld", instance="a:9090"'
    calculate(tmp_path, {
        f"tunnel_agents{{{labels}}}": "4x10", 'tunnel_agents{job="other", instance="c:1"}': "9x10",
        f"tunnel_sessions_superseded_total{{{labels}}}": "0+2x10",
        f"tunnel_resume_buffer_bytes{{{labels}}}": "1000x10", f"process_resident_memory_bytes{{{labels}}}": "4000x10",
        f'tunnel_connections_total{{{labels}, role="caller", result="ok"}}': "0+60x10",
        f'tunnel_connections_total{{{labels}, role="agent", result="ok"}}': "0+3x10",
        f'tunnel_connections_total{{{labels}, role="agent", result="TUNNEL_003"}}': "0+6x10",
    }, {
        "health/37/A": ('{instance="a:9090"}', 4), "health/38/A": ('{instance="a:9090"}', 2),
        "health/38/B": ("{}", 3), "health/38/C": ("{}", 6),
        "health/41/A": ('{instance="a:9090"}', 1000), "health/41/B": ('{instance="a:9090"}', 0.25),
    })
