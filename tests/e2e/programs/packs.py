"""Small packs that have one of everything, made for a test and changed by it."""

import copy
import json
import pathlib

import yaml

PAGERDUTY = "e2e-routing-key-7f3a91c05be24d68"
SLACK = "https://hooks.slack.example/services/e2e-8c1d44f7"
#: Where the secrets of a pack come from.
SECRETS = {"E2E_PAGERDUTY_KEY": PAGERDUTY, "E2E_SLACK_URL": SLACK}


def panel(number, title, expr, **more):
    return {"id": number, "title": title, "type": "timeseries", "description": f"What {title} means.",
            "gridPos": {"x": (number - 1) % 2 * 12, "y": (number - 1) // 2 * 8, "w": 12, "h": 8},
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "fieldConfig": {"defaults": {"unit": "short", "thresholds": {"mode": "absolute", "steps": [
                {"color": "green", "value": None}, {"color": "red", "value": 80}]}}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}},
            "targets": [{"refId": "A", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "expr": expr,
                         "legendFormat": "{{instance}}"}], **more}


def dashboard(uid, title, *panels):
    return {"uid": uid, "title": title, "tags": ["e2e"], "schemaVersion": 39, "refresh": "30s", "editable": True,
            "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
            "templating": {"list": [{"name": "datasource", "label": "Prometheus", "type": "datasource",
                                     "query": "prometheus", "current": {}, "hide": 0},
                                    {"name": "instance", "label": "Instance", "type": "query", "multi": True,
                                     "includeAll": True, "refresh": 2, "sort": 1, "current": {},
                                     "datasource": {"type": "prometheus", "uid": "${datasource}"},
                                     "query": {"query": "label_values(up, instance)", "refId": "instances"}}]},
            "annotations": {"list": []}, "panels": list(panels)}


def alert(name, expr, severity="warning", **more):
    return {"alert": name, "expr": expr, "for": "5m", "labels": {"severity": severity, "service": "e2e"},
            "annotations": {"summary": f"{name} on {{{{ $labels.instance }}}}", "description": "It is {{ $value }}.",
                            "runbook_url": f"runbooks/{name}.md"}, **more}


class Pack:
    """`name` begins its folder's, dashboards' and rules' uids, so that nothing collides on a shared server.

    What the attributes hold is what write() writes; tests change them and write again.
    """

    def __init__(self, directory, name="e2e"):
        self.directory = pathlib.Path(directory)
        self.name = name
        self.folder = name + "-folder"
        self.manifest = {
            "apiVersion": "tunnelctl/v1", "kind": "Pack", "name": name, "title": f"Pack {name}",
            "folder": {"uid": self.folder, "title": f"Folder of {name}"},
            "files": {"dashboards": ["dashboards/*.json"], "rules": ["alerts/*.rules.yaml"],
                      "alertmanager": "alerts/alertmanager.yaml", "runbooks": "runbooks"},
            "datasources": [{"variable": "datasource", "type": "prometheus", "uid": "e2e-prometheus"}],
            "secrets": [{"file": "secrets/pagerduty", "environment": "E2E_PAGERDUTY_KEY"},
                        {"file": "secrets/slack", "environment": "E2E_SLACK_URL"}]}
        self.dashboards = {
            "one": dashboard(name + "-one", f"One of {name}", panel(1, "Targets", "up{instance=~\"$instance\"}"),
                             panel(2, "Requests", "sum(rate(http_requests_total{instance=~\"$instance\"}[5m]))")),
            "two": dashboard(name + "-two", f"Two of {name}", panel(1, "Memory", "process_resident_memory_bytes"))}
        self.groups = [
            {"name": name + "-up", "interval": "30s",
             "rules": [alert("E2eDown", "up == 0", "critical"), alert("E2eFlapping", "changes(up[10m]) > 4")]},
            {"name": name + "-load", "interval": "1m",
             "rules": [alert("E2eSlow", "http_request_duration_seconds > 2", "info")]}]
        self.alertmanager = {
            "templates": ["templates/*.tmpl"],
            "time_intervals": [{"name": name + "-nights", "time_intervals": [
                {"times": [{"start_time": "22:00", "end_time": "24:00"}], "weekdays": ["saturday", "sunday"]}]}],
            "route": {"receiver": name + "-chat", "group_by": ["alertname"], "routes": [
                {"matchers": ['severity="critical"'], "receiver": name + "-page", "group_wait": "10s",
                 "repeat_interval": "1h"},
                {"matchers": ['severity="info"'], "receiver": name + "-hook",
                 "mute_time_intervals": [name + "-nights"]}]},
            "receivers": [
                {"name": name + "-page", "pagerduty_configs": [
                    {"routing_key_file": "secrets/pagerduty", "severity": "critical", "send_resolved": True}]},
                {"name": name + "-chat", "slack_configs": [
                    {"api_url_file": "secrets/slack", "channel": "#e2e", "send_resolved": True,
                     "title": '{{ template "e2e.title" . }}'}],
                 "email_configs": [{"to": "a@example.com, b@example.com", "send_resolved": True}]},
                {"name": name + "-hook", "webhook_configs": [{"url": "http://127.0.0.1:9/hook"}]}]}
        self.templates = {name: '{{ define "e2e.title" }}{{ .CommonLabels.alertname }}{{ end }}\n'}
        self.runbooks = {rule: f"# {rule}\n\nWhat it means.\n\n## First look\n\nLook.\n"
                         for rule in ("E2eDown", "E2eFlapping", "E2eSlow")}

    # Names on the server ---------------------------------------------------------------------------

    def own(self, rest):
        """The uid or name of an own contact point, template or mute timing."""
        return f"tctl-{self.name}--{rest}"

    @property
    def point(self):
        """The contact point that most tests look at; it has no secret."""
        return self.own("hook-webhook")

    @property
    def pager(self):
        return self.own("page-pagerduty")

    @property
    def chat(self):
        return self.own("chat-slack")

    @property
    def mute_timing(self):
        return self.own("nights")

    @property
    def template(self):
        return self.own(self.name)

    def group_name(self, at=0):
        return self.groups[at]["name"]

    def rule_uid(self, alert_name):
        return f"{self.name}-{alert_name}"

    def subtree(self, tree):
        """Its part of the notification policies, or None."""
        return next((route for route in tree.get("routes") or []
                     if route.get("object_matchers") == [["tunnelctl_pack", "=", self.name]]), None)

    def objects(self):
        """How many objects it makes: the folder, template, mute timing, 4 contact points, routes, groups and
        dashboards with that of the runbooks."""
        return 1 + 1 + 1 + 4 + 1 + len(self.groups) + len(self.dashboards) + 1

    # Files -------------------------------------------------------------------------------------------

    def write(self):
        for kind in ("dashboards", "alerts/templates", "runbooks"):
            (self.directory / kind).mkdir(parents=True, exist_ok=True)
        for old in [*self.directory.glob("dashboards/*"), *self.directory.glob("alerts/*.yaml"),
                    *self.directory.glob("alerts/templates/*"), *self.directory.glob("runbooks/*")]:
            old.unlink()
        self._yaml("pack.yaml", self.manifest)
        for name, content in self.dashboards.items():
            (self.directory / "dashboards" / f"{name}.json").write_text(json.dumps(content, indent=2))
        self._yaml("alerts/all.rules.yaml", {"groups": self.groups})
        self._yaml("alerts/alertmanager.yaml", self.alertmanager)
        for name, text in self.templates.items():
            (self.directory / "alerts/templates" / f"{name}.tmpl").write_text(text)
        for name, text in self.runbooks.items():
            (self.directory / "runbooks" / f"{name}.md").write_text(text)
        return self

    def _yaml(self, name, content):
        (self.directory / name).write_text(yaml.safe_dump(copy.deepcopy(content), sort_keys=False, width=10000))

    def path(self, name):
        return self.directory / name

    def change_everything(self):
        """Another wish for each of its objects."""
        self.templates[self.name] = self.templates[self.name].replace("alertname", "severity")
        self.alertmanager["time_intervals"][0]["time_intervals"][0]["weekdays"] = ["sunday"]
        self.alertmanager["route"]["group_by"] = ["alertname", "instance"]
        for receiver in self.alertmanager["receivers"]:
            for kind, settings in receiver.items():
                if kind.endswith("_configs"):
                    settings[0]["send_resolved"] = not settings[0].get("send_resolved", True)
        for group in self.groups:
            group["rules"][0]["expr"] = group["rules"][0]["expr"] + "1"
        for content in self.dashboards.values():
            content["panels"][0]["title"] += ", changed"
        for name in self.runbooks:
            self.runbooks[name] += "\nAnd look again.\n"
        return self.write()
