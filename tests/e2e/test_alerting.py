"""From a metric to the pager: real Prometheus and Alertmanager with the rules, routes and templates that are shipped."""

import re

import pytest

from programs.alertmanager import SHIPPED, Alertmanager, Inbox
from programs.loopback import wait_until
from programs.prometheus import Prometheus


@pytest.fixture
def hastened_rules(new_directory):
    """The shipped rules with seconds for minutes; expressions, thresholds, labels and texts are theirs."""
    directory = new_directory("rules")
    directory.mkdir()
    made = []
    for source in sorted(SHIPPED.glob("*.rules.yaml")):
        text = source.read_text()
        for pattern, short in ((r"\binterval: \d+s", "interval: 1s"), (r"\bfor: \d+m", "for: 3s"),
                               (r"\bkeep_firing_for: \d+m", "keep_firing_for: 1s"), (r"\[\d+m\]", "[6s]")):
            text = re.sub(pattern, short, text)
        made.append(directory / source.name)
        made[-1].write_text(text)
    return made


@pytest.fixture
def inbox():
    opened = Inbox()
    yield opened
    opened.close()


@pytest.fixture
def alertmanager(new_directory, inbox):
    started = Alertmanager(new_directory("alertmanager"), inbox).start()
    yield started
    started.stop()


@pytest.fixture
def watch(new_directory, hastened_rules, alertmanager):
    """Starts a Prometheus that watches that address."""
    made = []

    def start(target):
        made.append(Prometheus(new_directory("prometheus"), target, rules=hastened_rules,
                               alertmanager=f"127.0.0.1:{alertmanager.port}"))
        return made[-1].start()

    yield start
    for prometheus in made:
        prometheus.stop()


def titles(inbox):
    """What each channel was told, as titles."""
    return {"pagerduty": [event["payload"]["summary"] for event in inbox.pagerduty],
            "slack": [message["attachments"][0]["title"] for message in inbox.slack],
            "email": [re.search(r"^Subject: (.*?)\r$", mail, re.M).group(1) for mail in inbox.mails]}


@pytest.mark.deadline(120)
def test_a_daemon_that_ends_and_comes_back_is_told_on_every_channel(new_tunneld, watch, inbox):
    tunneld = new_tunneld()
    prometheus = watch(f"127.0.0.1:{tunneld.admin_port}")
    wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), 30, "every rule was evaluated")
    wait_until(lambda: prometheus.query('up{job="tunneld"} == 1'), 30, "tunneld is scraped")
    wait_until(lambda: not prometheus.query("ALERTS"), 30, "a healthy daemon raises no alert")
    assert inbox.pagerduty == inbox.mails == []

    tunneld.stop()
    name = f"tunneld 127.0.0.1:{tunneld.admin_port} is down"
    told = lambda title: lambda: all(title in channel for channel in titles(inbox).values())
    wait_until(told(f"[CRITICAL] {name}"), 30, "pager, Slack and mail were told that it is down")

    tunneld.launch()
    tunneld.program.ready_when(tunneld.is_ready, 60)
    wait_until(told(f"[RESOLVED] {name}"), 30, "pager, Slack and mail were told that it is back")

    down, back = [next(event for event in inbox.pagerduty if event["event_action"] == action)
                  for action in ("trigger", "resolve")]
    assert down["dedup_key"] == back["dedup_key"]
    assert down["routing_key"] == "the routing key"
    assert (down["payload"]["severity"], down["payload"]["component"]) == ("critical", "process")
    message = next(message for message in inbox.slack if message["attachments"][0]["title"] == f"[CRITICAL] {name}")
    assert "Runbook: runbooks/tunnel/TunnelDown.md" in message["attachments"][0]["text"]
    assert not re.search(r"no value|<nil>|\{\{", str(inbox.slack) + str(inbox.pagerduty) + str(inbox.mails))


SICK = """
tunnel_requests_total{{status="success",user_tier="free",priority="normal"}} 0
tunnel_requests_total{{status="error",user_tier="free",priority="normal"}} {n}
tunnel_log_dropped_total {n}
process_start_time_seconds {n}
"""


@pytest.mark.deadline(120)
def test_what_follows_from_an_alert_is_not_told_and_the_rest_goes_where_its_severity_belongs(
        watch, inbox, alertmanager):
    prometheus = watch(f"127.0.0.1:{inbox.web_port}")
    instance = f"127.0.0.1:{inbox.web_port}"
    rounds = iter(range(100, 100_000, 100))

    def falls_ill():
        inbox.page = SICK.format(n=next(rounds))
        states = alertmanager.alerts()
        ratio = states.get(("TunnelErrorRatioHigh", instance))
        return (ratio and ratio["inhibitedBy"] and ("TunnelLogRecordsDropped", instance) in states
                and ("TunnelRestarted", instance) in states)

    wait_until(falls_ill, 60, "everything fails, the log drops, the process restarts")
    assert alertmanager.alerts()[("TunnelTotalFailure", instance)]["state"] == "active"

    def all_told():
        falls_ill()
        told = titles(inbox)
        return (any("every request" in title for title in told["pagerduty"])
                and any("loses log records" in title for title in told["email"])
                and any("restarted" in title for title in told["slack"]))

    wait_until(all_told, 30, "each was told")
    told = titles(inbox)
    assert {title.split("]")[0] for title in told["pagerduty"]} == {"[CRITICAL"}
    assert {title.split("]")[0] for title in told["email"]} == {"[CRITICAL", "[WARNING"}
    assert {title.split("]")[0] for title in told["slack"]} == {"[CRITICAL", "[WARNING", "[INFO"}
    for channel in told.values():
        assert not [title for title in channel if " of requests through " in title], "what is inhibited was told"
    assert all(rule["health"] == "ok" for rule in prometheus.rules())
