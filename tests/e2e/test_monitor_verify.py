"""`tunnelctl monitor verify`, and the verification at the end of `setup`: what has data, what has none, and why."""

import json
import threading
import time
import xml.etree.ElementTree

import pytest

from programs.fake_prometheus import FakePrometheus
from programs.loopback import wait_until
from programs.monitoring import set_up
from programs.tunnelctl import BAD_INPUT, CONFIG, FAILED, INTERRUPTED, OK, UNAVAILABLE, Tunnelctl


@pytest.fixture
def prometheus():
    fake = FakePrometheus()
    yield fake
    fake.close()


@pytest.fixture
def watched(double, grafana, tunnelctl, pack, prometheus):
    """The pack is set up on a Grafana whose Prometheus answers, and every rule was evaluated."""
    grafana.api("DELETE", "/api/datasources/uid/e2e-prometheus")
    double.add_datasource("e2e-prometheus", "prometheus", prometheus.url, default=True)
    set_up(tunnelctl, pack)
    evaluated(double, pack)
    double.mode(read_only=True)
    return tunnelctl


def evaluated(double, pack, **states):
    double.control("POST", "rule-state", {
        pack.rule_uid(name): {"lastEvaluation": "2026-01-02T03:04:05Z", **states.get(name, {})}
        for name in ("E2eDown", "E2eFlapping", "E2eSlow")})


@pytest.fixture
def directly(new_directory, pack, prometheus):
    """Asks Prometheus itself; there is no Grafana."""
    prometheus.rules = [(group["name"], rule["alert"], "ok", "") for group in pack.groups for rule in group["rules"]]
    anywhere = Tunnelctl(new_directory("tunnelctl"))
    return lambda *more, **kwargs: anywhere.monitor("verify", pack.directory, "--prometheus-url", prometheus.url,
                                                    *more, **kwargs)


def checks(ended, *statuses):
    return {one["id"]: one for one in ended.json()["checks"] if not statuses or one["status"] in statuses}


def test_all_is_well(double, watched, pack, prometheus):
    ended = watched.monitor("verify", pack.directory, "-o", "json").expect(OK)
    found = checks(ended)
    assert {"e2e-one/1/A", "e2e-one/2/A", "e2e-two/1/A", "rule/E2eDown"} <= set(found)
    assert found["e2e-one/1/A"]["status"] == "data" and found["e2e-one/1/A"]["series"] == 1
    assert ended.json()["good"] is True
    assert any("$instance" in query for query in prometheus.asked) is False, "variables are expanded"
    assert "checks:" in watched.monitor("verify", pack.directory).expect(OK).out
    assert double.violations() == []


def test_a_panel_without_data_fails_and_is_named(watched, pack, prometheus):
    prometheus.empty.add("http_requests_total")
    ended = watched.monitor("verify", pack.directory, "-o", "json").expect(FAILED)
    assert set(checks(ended, "empty")) == {"e2e-one/2/A"}
    assert "e2e-one/2/A" in watched.monitor("verify", pack.directory).expect(FAILED).out


def test_what_may_be_empty_is_accepted_with_its_reason(watched, pack, prometheus):
    prometheus.empty.add("http_requests_total")
    pack.manifest["verify"] = {"allow_empty": [{"query": "e2e-one/2", "reason": "nobody asks at night"}]}
    pack.write()
    ended = watched.monitor("verify", pack.directory, "-o", "json").expect(OK)
    assert checks(ended, "allowed")["e2e-one/2/A"]["reason"] == "nobody asks at night"


def test_a_query_that_fails_tells_the_server_s_words(watched, pack, prometheus):
    prometheus.broken.add("process_resident")
    ended = watched.monitor("verify", pack.directory, "-o", "json").expect(FAILED)
    assert "is broken" in checks(ended, "error")["e2e-two/1/A"]["message"]


def test_a_rule_whose_health_is_bad(double, watched, pack):
    double.mode(read_only=False)
    evaluated(double, pack, E2eDown={"health": "error", "lastError": "no such host: prom"})
    ended = watched.monitor("verify", pack.directory, "-o", "json").expect(FAILED)
    assert any("no such host: prom" in one.get("message", "") for one in checks(ended, "error").values()), ended


def test_what_is_not_on_the_server_is_missing(double, grafana, watched, pack):
    double.mode(read_only=False)
    grafana.api("DELETE", f"/api/v1/provisioning/alert-rules/{pack.rule_uid('E2eSlow')}")
    ended = watched.monitor("verify", pack.directory, "-o", "json").expect(FAILED)
    assert any("E2eSlow" in id_ for id_ in checks(ended, "missing")), ended


def test_junit_for_ci(watched, pack, prometheus, tmp_path):
    prometheus.empty.add("http_requests_total")
    prometheus.broken.add("process_resident")
    watched.monitor("verify", pack.directory, "--junit", tmp_path / "verify.xml").expect(FAILED)
    suites = xml.etree.ElementTree.parse(tmp_path / "verify.xml").getroot()
    assert suites.tag == "testsuites"
    assert int(suites.get("failures")) == 1 and int(suites.get("errors")) == 1
    assert len(suites.findall(".//testcase")) == int(suites.get("tests"))


def test_wait_gives_data_time_to_come(watched, pack, prometheus):
    prometheus.empty.add("http_requests_total")
    threading.Timer(1.2, prometheus.empty.clear).start()
    begun = time.monotonic()
    watched.monitor("verify", pack.directory, "--wait", "30s").expect(OK)
    assert 1 < time.monotonic() - begun < 15


def test_slow_queries_are_called_slow(watched, pack, prometheus):
    prometheus.delay = 0.05
    ended = watched.monitor("verify", pack.directory, "--slow", "10ms", "-o", "json").expect(OK)
    assert "e2e-one/1/A" in checks(ended, "slow")


def test_the_same_queries_are_asked_directly(watched, pack, directly):
    through = checks(watched.monitor("verify", pack.directory, "-o", "json"))
    straight = checks(directly("-o", "json").expect(OK))
    queries = {id_ for id_, one in through.items() if one["kind"] == "query"}
    assert queries == {id_ for id_, one in straight.items() if one["kind"] == "query"}


def test_directly_a_rule_that_prometheus_does_not_have_is_missing(prometheus, directly):
    prometheus.rules.pop()
    ended = directly("-o", "json").expect(FAILED)
    assert "rule/E2eSlow" in checks(ended, "missing")


def test_directly_nobody_answers(directly, prometheus):
    prometheus.close()
    ended = directly("--timeout", "2")
    assert ended.code in (FAILED, UNAVAILABLE), ended


@pytest.mark.parametrize("option, value", [("--wait", "soon"), ("--slow", "-1"), ("--from", "yesterday"),
                                           ("--junit", "/nowhere/x.xml")])
def test_options_that_make_no_sense(directly, option, value):
    ended = directly(option, value)
    assert ended.code in (BAD_INPUT, FAILED), ended
    assert value in ended.err or option in ended.err


def test_no_server_at_all(new_directory, pack):
    ended = Tunnelctl(new_directory("tunnelctl")).monitor("verify", pack.directory).expect(CONFIG)
    assert "GRAFANA_URL" in ended.err and "--prometheus-url" in ended.err


def test_ctrl_c_ends_a_long_wait(watched, pack, prometheus):
    prometheus.empty.add("http_requests_total")
    run = watched.start("monitor", "verify", pack.directory, "--wait", "5m")
    wait_until(lambda: len(prometheus.asked) > 5, 20, "it asks")
    run.interrupt()
    run.end(10).expect(INTERRUPTED)


# At the end of setup ------------------------------------------------------------------------------


def test_setup_verifies_what_it_made(double, grafana, tunnelctl, pack, prometheus):
    grafana.api("DELETE", "/api/datasources/uid/e2e-prometheus")
    double.add_datasource("e2e-prometheus", "prometheus", prometheus.url, default=True)
    ended = tunnelctl.monitor("setup", pack.directory).expect(OK)
    assert "Verified e2e" in ended.err and "data" in ended.err
    assert prometheus.asked


def test_setup_with_a_query_that_fails_stays_and_says_so(double, grafana, tunnelctl, pack, prometheus):
    grafana.api("DELETE", "/api/datasources/uid/e2e-prometheus")
    double.add_datasource("e2e-prometheus", "prometheus", prometheus.url, default=True)
    prometheus.broken.add("process_resident")
    ended = tunnelctl.monitor("setup", pack.directory).expect(FAILED)
    assert "e2e-two/1/A" in ended.err and "monitor verify" in ended.err
    assert grafana.dashboard(pack.name + "-one")


def test_setup_as_json_is_json_with_verification_too(double, grafana, tunnelctl, pack, prometheus):
    grafana.api("DELETE", "/api/datasources/uid/e2e-prometheus")
    double.add_datasource("e2e-prometheus", "prometheus", prometheus.url, default=True)
    json.loads(tunnelctl.monitor("setup", pack.directory, "-o", "json").expect(OK).out)
