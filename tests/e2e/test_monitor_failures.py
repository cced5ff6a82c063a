"""`tunnelctl monitor setup` on servers that fail, hang or die on its way, and runs that are interrupted: either
all of it is there afterwards, or what was there before, and what it says is true."""

import signal
import threading

import pytest

from programs.loopback import wait_until
from programs.grafana import EDITABLE, PROVISIONING
from programs.monitoring import set_up
from programs.tunnelctl import CHANGES, CONFLICT, FAILED, GAVE_UP, INTERRUPTED, OK, UNAVAILABLE

#: How one write fails. What the server says about itself decides the exit status.
FAILURES = {
    "answers 500": ({"status": 500}, UNAVAILABLE),
    "answers 500 and did it": ({"status": 500, "applied": True}, UNAVAILABLE),
    "answers 400": ({"status": 400}, None),
    "cuts the connection": ({"close": True}, UNAVAILABLE),
    "cuts the connection and did it": ({"close": True, "applied": True}, UNAVAILABLE),
}


@pytest.fixture(params=FAILURES)
def failure(request):
    return FAILURES[request.param]


def _first(grafana, tunnelctl, pack):
    """Everything is made, into a server that somebody else uses."""
    return ["setup", pack.directory, "--skip-verify"]


def _update(grafana, tunnelctl, pack):
    """Everything is there and changes."""
    set_up(tunnelctl, pack)
    pack.change_everything()
    return ["setup", pack.directory, "--skip-verify"]


def _removal(grafana, tunnelctl, pack):
    set_up(tunnelctl, pack)
    return ["destroy", pack.directory, "--yes"]


def _strangers(grafana):
    grafana.api("POST", "/api/folders", {"uid": "e2e-strangers", "title": "Strangers"})
    grafana.api("POST", f"{PROVISIONING}/contact-points", {
        "uid": "e2e-others", "name": "e2e others", "type": "webhook", "settings": {"url": "http://127.0.0.1:9/"}},
        EDITABLE)
    grafana.put_policies({**grafana.policies(), "routes": [
        {"receiver": "e2e others", "object_matchers": [["team", "=", "others"]]}]})


@pytest.mark.deadline(120)
@pytest.mark.parametrize("situation", [_first, _update, _removal], ids=lambda one: one.__name__.strip("_"))
def test_a_failure_at_every_single_write_leaves_what_was_before(double, grafana, tunnelctl, pack, situation, failure):
    fault, status = failure
    _strangers(grafana)
    command = situation(grafana, tunnelctl, pack)
    before = double.state()
    number = 0
    while True:
        number += 1
        assert number < 40, "the run never gets through"
        double.no_faults()
        double.forget_log()
        double.fault(writes=True, nth=number, **fault)
        ended = tunnelctl.monitor(*command)
        if ended.code == OK:
            assert all(not one["spoiled"] for one in double.control("GET", "faults"))
            break
        assert ended.code == status or status is None and ended.code not in (OK, CHANGES), ended
        assert "Applied." not in ended.err
        assert double.state() == before, f"write {number}: {ended}\n{double.writes()}"
        assert "NOT put back" not in ended.err, ended
        assert "as it was before this run" in ended.err, ended
    assert number == len(double.writes()) + 1, "each write has had its turn"


@pytest.mark.parametrize("number", [2, 6, 9, 12])
def test_when_putting_back_fails_too_the_state_and_the_commands_are_told(double, grafana, tunnelctl, pack, number):
    double.fault(writes=True, nth=number, count=0, status=500)
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(UNAVAILABLE)
    assert "NOT put back" in ended.err and "as it was before" not in ended.err
    told = ended.err.split("NOT put back")[1]
    # All that the server has now and had not before is named, with a way to look at it.
    assert pack.folder in told and "tunnelctl folder get" in told
    if number > 5:
        assert pack.template in told and pack.mute_timing in told
    assert "tunnelctl monitor" in told or "can be deleted" in told
    double.no_faults()
    set_up(tunnelctl, pack)  # as it says
    tunnelctl.monitor("plan", pack.directory).expect(OK)


def test_the_cause_is_told_with_method_path_status_and_grafana_s_words(double, tunnelctl, pack):
    double.fault(method="PUT", path="policies", status=500, answer={"message": "the tree is locked"})
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(UNAVAILABLE)
    assert f"PUT {double.url}{PROVISIONING}/policies: 500: the tree is locked" in ended.err
    assert "put back as before" in ended.err


def test_an_answer_that_is_a_web_page_is_told_as_one(double, tunnelctl, pack):
    """A login page or a proxy's: what a wrong URL leads to."""
    double.fault(path="/api/", status=200, answer="<html><title>Sign in</title></html>",
                 headers={"Content-Type": "text/html; charset=utf-8"})
    ended = tunnelctl.monitor("plan", pack.directory)
    assert ended.code in (UNAVAILABLE, FAILED), ended
    assert "web page" in ended.err or "no JSON" in ended.err
    double.no_faults()
    double.fault(path="/api/", status=502, answer="<html><body>Bad Gateway</body></html>")
    ended = tunnelctl.monitor("plan", pack.directory, timeout=30).expect(UNAVAILABLE)
    assert "502" in ended.err


# Changed between plan and apply ------------------------------------------------------------------


def _meanwhile(double, grafana, act, path, method):
    """Runs `act` while the run waits for the answer to its first request of that kind."""
    double.fault(path=path, method=method, nth=1, delay=0.6)

    def watch():
        wait_until(lambda: any(one["spoiled"] for one in double.control("GET", "faults")), 20, "the run has come there")
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def _edit_dashboard(grafana, pack):
    content = grafana.dashboard(pack.name + "-one")
    content["title"] = "Edited in this very moment"
    grafana.save_dashboard(content, pack.folder)


def _edit_own_routes(grafana, pack):
    tree = grafana.policies()
    pack.subtree(tree)["group_wait"] = "7m"
    grafana.put_policies(tree)


def _edit_template(grafana, pack):
    grafana.api("PUT", f"{PROVISIONING}/templates/{pack.template}",
                {"template": '{{ define "e2e.title" }}in this very moment{{ end }}'})


def _edit_mute_timing(grafana, pack):
    grafana.api("PUT", f"{PROVISIONING}/mute-timings/{pack.mute_timing}",
                {"name": pack.mute_timing, "time_intervals": [{"weekdays": ["friday"]}]})


def _edit_rule(grafana, pack):
    group = grafana.group(pack.folder, pack.group_name())
    group["rules"][0]["annotations"]["summary"] = "Edited by hand"
    grafana.put_group(pack.folder, pack.group_name(), group)


def _edit_contact_point(grafana, pack):
    point = grafana.contact_point(pack.point)
    point["settings"]["url"] = "http://127.0.0.1:9/edited"
    grafana.api("PUT", f"{PROVISIONING}/contact-points/{pack.point}", point)


EDITS = {_edit_dashboard: "Edited in this very moment", _edit_own_routes: "7m", _edit_template: "in this very moment",
         _edit_mute_timing: "friday", _edit_rule: "Edited by hand", _edit_contact_point: "127.0.0.1:9/edited"}


@pytest.mark.parametrize("edit", EDITS, ids=lambda one: one.__name__.strip("_"))
def test_what_somebody_changed_since_the_plan_is_not_overwritten(double, grafana, tunnelctl, pack, edit):
    set_up(tunnelctl, pack)
    pack.change_everything()
    # The last read of a plan is that of the permissions; then the first write follows.
    thread = _meanwhile(double, grafana, lambda: edit(grafana, pack), "/api/access-control/user/permissions", "GET")
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(CONFLICT)
    thread.join()
    assert "changed by someone else" in ended.err
    double.no_faults()
    double.forget_log()
    # Theirs is still there, and nothing of ours is left.
    state = double.state()
    assert EDITS[edit] in state
    assert ", changed" not in state
    set_up(tunnelctl, pack)
    tunnelctl.monitor("plan", pack.directory).expect(OK)


def test_two_setups_at_once_end_with_one_that_is_whole(double, grafana, tunnelctl, pack):
    """Either of them may fail; none says it is done while the server holds something else, and the next is quiet."""
    double.mode(delay=0.01)
    runs = [tunnelctl.start("monitor", "setup", pack.directory, "--skip-verify") for _ in range(2)]
    ended = [run.end() for run in runs]
    double.mode(delay=0)
    assert all(one.code in (OK, FAILED, CONFLICT, UNAVAILABLE) for one in ended), "\n".join(map(str, ended))
    set_up(tunnelctl, pack)
    tunnelctl.monitor("plan", pack.directory).expect(OK)


def test_two_updates_at_once_lose_nothing(double, grafana, tunnelctl, pack):
    set_up(tunnelctl, pack)
    pack.change_everything()
    double.mode(delay=0.01)
    runs = [tunnelctl.start("monitor", "setup", pack.directory, "--skip-verify") for _ in range(2)]
    ended = [run.end() for run in runs]
    double.mode(delay=0)
    assert all(one.code in (OK, FAILED, CONFLICT, UNAVAILABLE) for one in ended), "\n".join(map(str, ended))
    set_up(tunnelctl, pack)
    tunnelctl.monitor("plan", pack.directory).expect(OK)


# Slow, busy and dying servers ----------------------------------------------------------------------


def test_a_storm_of_429_is_waited_out(double, tunnelctl, pack):
    double.fault(path="/api/", nth=3, count=3, status=429, headers={"Retry-After": "0"})
    double.fault(writes=True, nth=5, count=2, status=429)
    set_up(tunnelctl, pack)
    tunnelctl.monitor("plan", pack.directory).expect(OK)


def test_a_429_that_never_ends_is_told_and_everything_put_back(double, grafana, tunnelctl, pack):
    _strangers(grafana)
    before = double.state()
    double.fault(method="POST", path="/api/dashboards/db", status=429)
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify").expect(UNAVAILABLE)
    assert "429" in ended.err and "--parallel" in ended.err
    assert double.state() == before


def test_a_retry_after_of_an_hour_is_not_waited_for(double, tunnelctl, pack):
    double.fault(path="/api/search", status=429, headers={"Retry-After": "3600"})
    ended = tunnelctl.monitor("plan", pack.directory, timeout=20).expect(UNAVAILABLE)
    assert "429" in ended.err and ended.seconds < 10


def test_reads_that_fail_once_are_made_again(double, tunnelctl, pack):
    double.fault(method="GET", path="/api/v1/provisioning", nth=1, count=2, status=503)
    double.fault(method="GET", path="/api/folders", nth=1, count=1, close=True)
    set_up(tunnelctl, pack)


def test_a_server_that_does_not_answer_is_given_up(double, tunnelctl, pack):
    double.fault(method="PUT", path="policies", delay=5)
    ended = tunnelctl.monitor("setup", pack.directory, "--skip-verify", "--timeout", "0.5")
    assert ended.code in (GAVE_UP, UNAVAILABLE), ended
    assert ended.seconds < 20
    assert "policies" in ended.err
    assert "may have taken effect" in ended.err  # nobody can know


@pytest.mark.parametrize("number", [1, 4, 10])
def test_a_server_that_dies_in_mid_apply(new_grafana_double, tunnelctl, pack, number, double):
    dying = new_grafana_double()
    dying.add_datasource("e2e-prometheus", "prometheus", "http://127.0.0.1:9", default=True)
    dying.fault(writes=True, nth=number, exit=3)
    ended = tunnelctl.with_environment(GRAFANA_URL=dying.url).monitor(
        "setup", pack.directory, "--skip-verify", "--timeout", "2").expect(UNAVAILABLE)
    assert dying.program.wait(10) == 3
    assert "NOT put back" in ended.err
    assert pack.folder in ended.err.split("NOT put back")[1]


def test_nobody_listens(tunnelctl, pack, double):
    ended = tunnelctl.with_environment(GRAFANA_URL="http://127.0.0.1:9").monitor("plan", pack.directory)
    ended.expect(UNAVAILABLE)
    assert "127.0.0.1:9" in ended.err


# Interrupted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 5, 8, 11])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=lambda by: by.name)
def test_an_interrupted_setup_puts_back_what_it_did(double, grafana, tunnelctl, pack, by, number):
    _strangers(grafana)
    before = double.state()
    double.fault(writes=True, nth=number, delay=0.4)
    run = tunnelctl.start("monitor", "setup", pack.directory, "--skip-verify")
    wait_until(lambda: any(one["spoiled"] for one in double.control("GET", "faults")), 20, "it is in the midst")
    run.interrupt(by)
    ended = run.end().expect(INTERRUPTED)
    assert "as it was before this run" in ended.err
    # A write that was on its way may reach the server after all; it must have been put back, too.
    wait_until(lambda: all(entry["status"] for entry in double.log()), 5, "the double has answered all")
    assert double.state() == before


def test_an_interrupted_update_puts_back_what_it_did(double, tunnelctl, pack):
    set_up(tunnelctl, pack)
    pack.change_everything()
    before = double.state()
    double.fault(method="POST", path="/api/dashboards/db", nth=2, delay=0.4)
    run = tunnelctl.start("monitor", "setup", pack.directory, "--skip-verify")
    wait_until(lambda: any(one["spoiled"] for one in double.control("GET", "faults")), 20, "it is in the midst")
    run.interrupt()
    run.end().expect(INTERRUPTED)
    wait_until(lambda: all(entry["status"] for entry in double.log()), 5, "the double has answered all")
    assert double.state() == before


def test_an_interrupted_plan_ends_at_once(double, tunnelctl, pack):
    double.fault(path="/api/search", delay=10)
    run = tunnelctl.start("monitor", "plan", pack.directory)
    wait_until(lambda: any(one["spoiled"] for one in double.control("GET", "faults")), 20, "it reads")
    run.interrupt()
    ended = run.end(5).expect(INTERRUPTED)
    assert ended.out == ""
