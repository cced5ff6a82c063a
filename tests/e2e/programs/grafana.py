"""A Grafana to test against: the double, or a real one when GRAFANA_URL is set.

Both are asked the same way (`api`) and compared by the same `snapshot`, so that one test serves both. With a
real server GRAFANA_USERNAME and GRAFANA_PASSWORD are those of an administrator (default admin, admin); every
test makes objects of its own names and removes them. What needs to make the server misbehave skips there.
"""

import base64
import fcntl
import json
import os
import urllib.error
import urllib.parse
import urllib.request

import pytest

PROVISIONING = "/api/v1/provisioning"
EDITABLE = {"X-Disable-Provenance": "true"}
#: What a server counts, dates and signs, and no client can set.
_VOLATILE = {"id", "version", "updated", "created", "createdBy", "updatedBy"}


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status


class Grafana:
    """What tests do beside tunnelctl, as the server's administrator."""

    is_real = False
    username, password = "admin", "admin"
    url = None

    def environment(self):
        return {"GRAFANA_URL": self.url, "GRAFANA_USERNAME": self.username, "GRAFANA_PASSWORD": self.password}

    def api(self, method, path, body=None, headers=None):
        raise NotImplementedError

    def get(self, path):
        """Its JSON, or None where there is nothing."""
        try:
            return self.api("GET", path)
        except Refused as refused:
            if refused.status in (403, 404):
                return None
            raise

    # Objects --------------------------------------------------------------------------------------

    def folder(self, uid):
        return self.get("/api/folders/" + uid)

    def dashboard(self, uid):
        found = self.get("/api/dashboards/uid/" + uid)
        return found and found["dashboard"]

    def save_dashboard(self, dashboard, folder, **more):
        return self.api("POST", "/api/dashboards/db",
                        {"dashboard": dashboard, "folderUid": folder, "overwrite": True, **more})

    def rules(self):
        return self.get(PROVISIONING + "/alert-rules") or []

    def rule(self, uid):
        return next((rule for rule in self.rules() if rule["uid"] == uid), None)

    def group_path(self, folder, group):
        return f"{PROVISIONING}/folder/{folder}/rule-groups/{urllib.parse.quote(group)}"

    def group(self, folder, group):
        return self.get(self.group_path(folder, group))

    def put_group(self, folder, group, content):
        self.api("PUT", self.group_path(folder, group), content)

    def contact_points(self):
        return self.get(PROVISIONING + "/contact-points") or []

    def contact_point(self, uid):
        return next((point for point in self.contact_points() if point["uid"] == uid), None)

    def policies(self):
        return self.get(PROVISIONING + "/policies")

    def put_policies(self, tree):
        """Leaves their provenance as it is: a tree that the API made is refused when it is to be editable."""
        tree = {key: value for key, value in tree.items() if key != "provenance"}
        self.api("PUT", PROVISIONING + "/policies", tree, {} if self.policies().get("provenance") else EDITABLE)

    def templates(self):
        return self.get(PROVISIONING + "/templates") or []

    def mute_timings(self):
        return self.get(PROVISIONING + "/mute-timings") or []

    def snapshot(self):
        """All that tunnelctl could touch, as canonical JSON, without numeric ids, versions and times."""
        dashboards = []
        for hit in self.api("GET", "/api/search?type=dash-db&limit=5000"):
            found = self.api("GET", "/api/dashboards/uid/" + hit["uid"])
            dashboards.append([found["meta"]["folderUid"], _settled(found["dashboard"])])
        folders = self.api("GET", "/api/search?type=dash-folder&limit=5000")
        return json.dumps({
            "folders": sorted([hit["uid"], hit["title"]] for hit in folders),
            "dashboards": sorted(dashboards, key=json.dumps),
            "groups": [[folder, group, self.group(folder, group)["interval"]] for folder, group in sorted(
                {(rule["folderUID"], rule["ruleGroup"]) for rule in self.rules()})],
            "rules": sorted((_settled(rule) for rule in self.rules()), key=lambda rule: rule["uid"]),
            "contact points": sorted(self.contact_points(), key=lambda point: (point["name"], point["uid"])),
            "templates": sorted((_settled(one) for one in self.templates()), key=json.dumps),
            "mute timings": sorted((_settled(one) for one in self.mute_timings()), key=json.dumps),
            "policies": self.policies(),
        }, sort_keys=True, indent=1)


def _settled(value):
    return {key: part for key, part in value.items() if key not in _VOLATILE}


class DoubleGrafana(Grafana):
    """`double` steers it (programs/grafana_double.py). What is done by `api` does not stand in its log."""

    def __init__(self, double):
        self.double = double
        self.url = double.url
        self.username, self.password = double.admin

    def api(self, method, path, body=None, headers=None):
        step = {"method": method, "path": path, "headers": headers or {}}
        if body is not None:
            step["body"] = body
        request = urllib.request.Request(self.url + "/_double/preset", json.dumps([step]).encode(),
                                         {"Content-Type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)[0]
        except urllib.error.HTTPError as wrong:
            text = json.loads(wrong.read())["error"]
            # "ValueError: GET /api/x: 404 {...}"
            status = text.split(": ", 2)[2].split(" ", 1)[0] if text.startswith("ValueError: ") else "0"
            raise Refused(int(status) if status.isdigit() else 0, text) from None


class RealGrafana(Grafana):
    is_real = True

    def __init__(self):
        self.url = os.environ["GRAFANA_URL"].rstrip("/")
        self.username = os.environ.get("GRAFANA_USERNAME", "admin")
        self.password = os.environ.get("GRAFANA_PASSWORD", "admin")

    def api(self, method, path, body=None, headers=None):
        login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            self.url + path, None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": "Basic " + login, **(headers or {})},
            method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as wrong:
            raise Refused(wrong.code, f"{method} {path}: {wrong.read().decode('utf-8', 'replace')}") from None
        return json.loads(text) if text.strip() else None

    def remove(self, prefix):
        """Everything a test of that name prefix may have left, in the order in which it can go."""
        tree = self.policies()
        kept = [route for route in tree.get("routes") or [] if prefix not in json.dumps(route)]
        if kept != (tree.get("routes") or []):
            self.put_policies({**tree, "routes": kept})
        for rule in self.rules():
            if rule["uid"].startswith(prefix) or rule["folderUID"].startswith(prefix):
                self._quietly("DELETE", f"{PROVISIONING}/alert-rules/{rule['uid']}")
        for point in self.contact_points():
            if prefix in point["uid"] or prefix in point["name"]:
                self._quietly("DELETE", f"{PROVISIONING}/contact-points/{point['uid']}")
        for kind, listed in (("templates", self.templates()), ("mute-timings", self.mute_timings())):
            for one in listed:
                if prefix in one["name"]:
                    self._quietly("DELETE", f"{PROVISIONING}/{kind}/{one['name']}")
        for hit in self.api("GET", "/api/search?type=dash-db&limit=5000"):
            if hit["uid"].startswith(prefix):
                self._quietly("DELETE", "/api/dashboards/uid/" + hit["uid"])
        for hit in self.api("GET", "/api/search?type=dash-folder&limit=5000"):
            if hit["uid"].startswith(prefix):
                self._quietly("DELETE", f"/api/folders/{hit['uid']}?forceDeleteRules=true")

    def _quietly(self, method, path):
        """As what it is: provisioned by the API, or made in the pages."""
        for headers in ({}, EDITABLE):
            try:
                self.api(method, path, headers=headers)
                return
            except Refused:
                pass


def is_real():
    return bool(os.environ.get("GRAFANA_URL"))


@pytest.fixture
def double(request):
    """The double, for tests that must steer the server; they say so by asking for this."""
    if is_real():
        pytest.skip("makes the server misbehave, which a real Grafana (GRAFANA_URL) cannot be told to")
    return request.getfixturevalue("grafana_double")


@pytest.fixture
def grafana(request, workdir):
    """The double, empty; or the real server, for one test at a time (the routes are one document), cleaned of
    what the test made."""
    if not is_real():
        double = request.getfixturevalue("grafana_double")
        double.add_datasource("e2e-prometheus", "prometheus", "http://127.0.0.1:9", default=True)
        yield DoubleGrafana(double)
        return
    server = RealGrafana()
    with open("/tmp/tunnel-e2e-grafana.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if server.get("/api/datasources/uid/e2e-prometheus") is None:
            server.api("POST", "/api/datasources", {
                "uid": "e2e-prometheus", "name": "e2e-prometheus", "type": "prometheus", "access": "proxy",
                "url": "http://127.0.0.1:9"})
        server.remove("e2e")
        try:
            yield server
        finally:
            server.remove("e2e")
            server._quietly("DELETE", "/api/datasources/uid/e2e-prometheus")
