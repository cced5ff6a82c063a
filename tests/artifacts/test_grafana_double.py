"""tests/support/grafana_double: it answers as the recorded Grafana did, and it does what tests tell it to.

Each file of recordings/ is one story told to a fresh double. Compared are the status and the body, after
what differs on every run (ids, times, generated uids, content hashes) is replaced by its kind.
"""
import asyncio
import base64
import concurrent.futures
import http.client
import http.server
import json
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
import yaml

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from grafana_double.access import token_of  # noqa: E402
from grafana_double.call import Call  # noqa: E402
from grafana_double.server import InThread  # noqa: E402

RECORDINGS = sorted((SUPPORT / "grafana_double" / "recordings").glob("*.json"))
BASIC = "Basic " + base64.b64encode(b"admin:admin").decode()


# A Prometheus that knows two metrics ------------------------------------------------------------


def _vector(name):
    labels = {"__name__": name, "instance": "127.0.0.1:9100", "job": "tunnels"}
    if name == "up":
        return [(labels, "1")]
    if name == "tunnel_connection_pool_usage":
        return [({**labels, "tunnel": "alpha"}, "0.42"), ({**labels, "tunnel": "beta"}, "0.21")]
    return []


class _Prometheus(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        at = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        asked = urllib.parse.parse_qs(at.query + "&" + self.rfile.read(length).decode())
        status, body = self._answer(at.path, {name: values[0] for name, values in asked.items()})
        text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET

    @staticmethod
    def _answer(path, asked):
        def refused(message):
            return 400, {"status": "error", "errorType": "bad_data", "error": message}

        def found(data):
            return 200, {"status": "success", "data": data}

        if path.endswith("/labels"):
            return found(["__name__", "instance", "job", "le", "status", "tunnel"])
        if path.endswith("/values"):
            return found(["alpha", "beta"])
        if path.endswith("/series"):
            labels = {"__name__": "tunnel_active_connections", "instance": "127.0.0.1:9100", "job": "tunnels"}
            return found([{**labels, "tunnel": name} for name in ("alpha", "beta")])
        query = asked.get("query", "")
        if query == "rate(":
            return refused('invalid parameter "query": 1:6: parse error: unclosed left parenthesis')
        if path.endswith("/query_range"):
            start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
            if end < start:
                return refused('invalid parameter "end": end timestamp must not be before start time')
            times = [start + step * index for index in range(int((end - start) // step) + 1)]
            return found({"resultType": "matrix", "result": [
                {"metric": labels, "values": [[at, value] for at in times]} for labels, value in _vector(query)]})
        if path.endswith("/query"):
            at = float(asked.get("time", time.time()))
            if query in ("1", "1+1"):
                return found({"resultType": "scalar", "result": [at, query]})
            return found({"resultType": "vector", "result": [
                {"metric": labels, "value": [at, value]} for labels, value in _vector(query)]})
        return 404, "404 page not found\n"

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def prometheus():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def dead():
    """An address that is taken, so that nobody else listens there, and refuses."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


# Calling ----------------------------------------------------------------------------------------


class Client:
    def __init__(self, url, authorization=BASIC):
        self.address = url.removeprefix("http://")
        self.authorization = authorization

    def call(self, method, path, body=None, *, raw=None, headers=None):
        """Status, headers, body bytes."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            sent = {"Content-Type": "application/json", "Authorization": self.authorization, **(headers or {})}
            data = raw.encode() if raw is not None else None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {k: v for k, v in sent.items() if v is not None})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def ask(self, method, path, body=None, **how):
        status, _, text = self.call(method, path, body, **how)
        return status, json.loads(text) if text else None

    def control(self, method, name, body=None):
        status, answer = self.ask(method, "/_double/" + name, body)
        assert status == 200, answer
        return answer

    def state(self):
        return self.call("GET", "/_double/state")[2]


@pytest.fixture
def double():
    with InThread() as running:
        yield running


@pytest.fixture
def grafana(double):
    return Client(double.url)


# What the recorded server did -------------------------------------------------------------------

_KINDS = (
    (re.compile(r"\b[a-g]g4y[a-z0-9]{10}\b"), "UID"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "HASH"),
    (re.compile(r"\bACE\d{10}\b"), "ERROR"),
    (re.compile(r"\b\d{16}\b"), "NUMBER"),
    (re.compile(r"UID g1 version \d+"), "UID g1 version N"),
)
_NUMBERS = {"id", "dashboardId", "folderId", "created", "updated", "calculatedMinStep"}
#: Lists whose order the recorded server took from its search index.
_UNORDERED = ("/api/search", "/api/folders", "/api/plugins")


def ordinary(value, key=None):
    """`value` without what differs between two runs."""
    if isinstance(value, dict):
        if key == "meta" and "canSave" in value:  # who made a dashboard follows rules of its own
            value = {**value, "createdBy": "", "updatedBy": ""}
        kept = {name: ordinary(part, name) for name, part in value.items()}
        if "values" in kept and isinstance(kept["values"], list):
            kept["values"] = [[_point(number) for number in column] for column in kept["values"]]
        return kept
    if isinstance(value, list):
        return [ordinary(part) for part in value]
    if isinstance(value, str):
        if key == "continueToken":
            return bool(value)
        for pattern, kind in _KINDS:
            value = pattern.sub(kind, value)
        return value
    if key in _NUMBERS and isinstance(value, (int, float)) and value > 0:
        return "NUMBER"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _point(value)
    return value


def _point(number):
    """Moments, in seconds or milliseconds since 1970, are any moment."""
    return "MOMENT" if isinstance(number, (int, float)) and number > 1_700_000_000 else number


def spread(value, shared):
    """What the recording names once and uses often, put in its places."""
    if isinstance(value, dict):
        return {name: spread(part, shared) for name, part in value.items()}
    if isinstance(value, list):
        return [spread(part, shared) for part in value]
    if isinstance(value, str) and value.startswith("$") and value[1:] in shared:
        return spread(shared[value[1:]], shared)
    return value


class Replay:
    def __init__(self, recording, url, places):
        text = recording.read_text()
        for name, place in {**places, "url": url}.items():
            text = text.replace("{" + name + "}", place)
        self.story = json.loads(text)
        self.url = url
        self.ids = {}

    def _client(self, who):
        if who is not None and who.startswith("Authorization: "):
            return Client(self.url, who.removeprefix("Authorization: "))
        return Client(self.url, BASIC if who == "server" else who and "Bearer " + token_of(who))

    def _aside(self, steps, last):
        for step in steps:
            path = step["path"].replace("@uid", str((last or {}).get("uid")))
            status, answer = Client(self.url).ask(step["method"], path, spread(step.get("body"), self.story["shared"]))
            assert status < 300, f"{step['method']} {path}: {status} {answer}"

    def run(self):
        """One line for each exchange that came out differently."""
        shared = self.story["shared"]
        for number, said in enumerate(self.story["exchanges"]):
            self._aside(said.get("prepare", ()), None)
            path, body = said["path"], spread(said.get("body"), shared)
            path = re.sub(r"(?<=[/=])\d{6,}|(?<=/annotations/)\d+$", lambda m: self.ids.get(m[0], m[0]), path)
            path = re.sub(r"[a-g]g4y[a-z0-9]{10}", lambda m: self.ids.get(m[0], m[0]), path)
            if body is not None:  # versions of mute timings and templates
                body = json.loads(re.sub(r'"([0-9a-f]{16})"', lambda m: f'"{self.ids.get(m[1], m[1])}"',
                                         json.dumps(body)))
            raw = said.get("raw")
            status, headers, text = self._client(said.get("auth")).call(
                said["method"], path, body, raw=raw, headers=said.get("headers"))
            where = f"{number} {said['label']}: {said['method']} {path}"
            if status != said["status"]:
                yield f"{where}\n  recorded {said['status']}\n  double   {status} {text[:300]!r}"
            elif "answer" in said:
                got, wanted = json.loads(text) if text else None, spread(said["answer"], shared)
                self._remember(got, wanted)
                got, wanted = ordinary(got), ordinary(wanted)
                if isinstance(got, list) and path.startswith(_UNORDERED):
                    got, wanted = (sorted(part, key=lambda item: json.dumps(item, sort_keys=True))
                                   for part in (got, wanted))
                if got != wanted:
                    yield f"{where}\n  recorded {json.dumps(wanted, sort_keys=True)}\n  double   " \
                          f"{json.dumps(got, sort_keys=True)}"
            elif "text" in said and not self._same_text(text.decode(), said["text"]):
                yield f"{where}\n  recorded {said['text']!r}\n  double   {text.decode()!r}"
            self._aside(said.get("cleanup", ()), json.loads(text) if text.startswith(b"{") else None)

    def _same_text(self, got, wanted):
        if wanted.startswith("apiVersion"):  # YAML: the same lines
            return yaml.safe_load(got) == yaml.safe_load(wanted) and got.split() == wanted.split()
        return ordinary(got.strip()) == ordinary(wanted.strip())

    def _remember(self, got, wanted):
        if isinstance(got, dict) and isinstance(wanted, dict):
            for name in ("id", "uid", "version"):
                if name in got and name in wanted:
                    self.ids[str(wanted[name])] = str(got[name])


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_it_answers_as_the_recorded_server_did(recording, prometheus, dead, double):
    different = list(Replay(recording, double.url, {
        "prometheus": prometheus, "dead": dead, "webhook": "127.0.0.1:9100"}).run())
    assert not different, f"{len(different)} differ:\n" + "\n".join(different)


def test_there_are_recordings_of_every_area():
    assert len(RECORDINGS) >= 15
    assert sum(len(json.loads(path.read_text())["exchanges"]) for path in RECORDINGS) >= 600


# What tests tell it -----------------------------------------------------------------------------

RULE = {"title": "Full", "condition": "A", "noDataState": "OK", "execErrState": "Error", "for": "1m", "data": [
    {"refId": "A", "datasourceUid": "prom", "relativeTimeRange": {"from": 300, "to": 0}, "model": {"expr": "up"}}]}
GROUP = "/api/v1/provisioning/folder/f/rule-groups/g"


def folder(uid, title="Folder"):
    return "POST", "/api/folders", {"uid": uid, "title": title}


def test_a_fault_meets_the_nth_write_only_and_reads_never(grafana):
    grafana.control("POST", "faults", {"writes": True, "nth": 2, "status": 503})
    assert grafana.ask("GET", "/api/folders")[0] == 200
    statuses = [grafana.ask(*folder(f"f{number}"))[0] for number in range(3)]
    assert statuses == [200, 503, 200]
    assert set(json.loads(grafana.state())["folders"]) == {"f0", "f2"}


@pytest.mark.parametrize("applied", (False, True))
@pytest.mark.parametrize("how", ({"close": True}, {"status": 500}))
def test_a_failed_write_took_effect_or_not_as_told(grafana, how, applied):
    grafana.control("POST", "faults", {"path": "/api/folders", "nth": 1, "applied": applied, **how})
    if "close" in how:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            grafana.ask(*folder("f"))
    else:
        assert grafana.ask(*folder("f"))[0] == 500
    assert bool(json.loads(grafana.state())["folders"]) == applied
    assert [entry["applied"] for entry in grafana.control("GET", "log")] == [applied]


def test_a_storm_of_429_ends_and_may_say_when(grafana):
    grafana.control("POST", "faults", {"count": 2, "status": 429, "headers": {"Retry-After": "1"},
                                       "answer": {"message": "too many requests"}})
    answers = [grafana.call("GET", "/api/org") for _ in range(3)]
    assert [(status, headers.get("Retry-After")) for status, headers, _ in answers] == [
        (429, "1"), (429, "1"), (200, None)]


def test_it_can_be_slow(grafana):
    grafana.control("POST", "mode", {"delay": 0.2})
    before = time.monotonic()
    grafana.ask("GET", "/api/org")
    assert time.monotonic() - before >= 0.2


def test_it_can_die_at_a_write():
    server = subprocess.Popen([sys.executable, SUPPORT / "grafana_double" / "server.py", "--port", "0"],
                              stdout=subprocess.PIPE)
    try:
        grafana = Client(server.stdout.readline().decode().strip())
        grafana.control("POST", "faults", {"writes": True, "nth": 2, "exit": 9})
        assert grafana.ask(*folder("one"))[0] == 200
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            grafana.ask(*folder("two"))
        assert server.wait(10) == 9
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_read_only_mode_names_every_write(grafana, prometheus):
    grafana.ask("POST", "/api/datasources", {"name": "p", "uid": "p", "type": "prometheus", "access": "proxy",
                                             "url": "http://" + prometheus})
    grafana.control("POST", "mode", {"read_only": True})
    query = {"queries": [{"refId": "A", "datasource": {"uid": "p"}, "expr": "up", "instant": True}],
             "from": "now-5m", "to": "now"}
    assert grafana.ask("POST", "/api/ds/query", query)[0] == 200, "that one reads"
    assert grafana.ask(*folder("f"))[0] == 599
    assert grafana.ask("DELETE", "/api/folders/f")[0] == 599
    assert [f"{entry['method']} {entry['path']}" for entry in grafana.control("GET", "violations")] == [
        "POST /api/folders", "DELETE /api/folders/f"]


def test_state_is_equal_after_undoing_and_differs_meanwhile(grafana):
    grafana.ask(*folder("f"))
    grafana.ask("PUT", GROUP, {"interval": 60, "rules": [{**RULE, "uid": "r"}]})
    save = {"folderUid": "f", "overwrite": True}
    grafana.ask("POST", "/api/dashboards/db", {**save, "dashboard": {"uid": "d", "title": "One"}})
    before = grafana.state()
    grafana.ask("POST", "/api/dashboards/db", {**save, "dashboard": {"uid": "d", "title": "Two"}})
    grafana.ask("PUT", GROUP, {"interval": 120, "rules": [{**RULE, "uid": "r"}]})
    assert grafana.state() != before
    grafana.ask("POST", "/api/dashboards/db", {**save, "dashboard": {"uid": "d", "title": "One"}})
    grafana.ask("PUT", GROUP, {"interval": 60, "rules": [{**RULE, "uid": "r"}]})
    assert grafana.state() == before


def test_the_log_says_who_did_what(double, grafana):
    Client(double.url, "Bearer " + token_of("viewer")).ask(*folder("f"))
    Client(double.url, "Bearer wrong").ask("GET", "/api/org")
    grafana.ask(*folder("f"))
    assert [(e["method"], e["path"], e["role"], e["status"], e["write"], e["applied"])
            for e in grafana.control("GET", "log")] == [
        ("POST", "/api/folders", "viewer", 403, True, False),
        ("GET", "/api/org", "", 401, False, False),
        ("POST", "/api/folders", "server", 200, True, True)]


def test_what_files_provision_no_client_may_change(grafana):
    grafana.ask(*folder("f"))
    grafana.ask("PUT", GROUP, {"interval": 60, "rules": [{**RULE, "uid": "r"}]})
    grafana.ask("POST", "/api/dashboards/db", {"dashboard": {"uid": "d", "title": "D"}})
    for kind, id_ in (("rule", "r"), ("dashboard", "d"), ("policies", None)):
        grafana.control("POST", "provenance", {"kind": kind, "id": id_, "provenance": "file"})
    before = grafana.state()
    assert grafana.ask("GET", "/api/v1/provisioning/alert-rules/r")[1]["provenance"] == "file"
    assert grafana.ask("GET", "/api/dashboards/uid/d")[1]["meta"]["provisioned"] is True
    assert grafana.ask("PUT", GROUP, {"interval": 60, "rules": [{**RULE, "uid": "r"}]})[0] == 500
    assert grafana.ask("POST", "/api/dashboards/db", {"overwrite": True, "dashboard": {
        "uid": "d", "title": "E"}}) == (400, {"message": "Cannot save provisioned dashboard"})
    assert grafana.ask("PUT", "/api/v1/provisioning/policies", {"receiver": "empty"})[0] == 403
    assert grafana.state() == before


def test_a_token_can_be_given_another_role_or_end(double, grafana):
    viewer = Client(double.url, "Bearer " + token_of("viewer"))
    grafana.control("POST", "token", {"token": token_of("viewer"), "role": "editor"})
    assert viewer.ask(*folder("f"))[0] == 200
    grafana.control("POST", "token", {"token": token_of("viewer"), "role": "editor", "state": "expired"})
    assert viewer.ask("GET", "/api/org")[1]["messageId"] == "api-key.expired"


def test_parallel_writes_to_one_blob_are_refused_when_asked_for(grafana):
    grafana.control("POST", "mode", {"racy": True})

    def create(number):
        return grafana.ask("POST", "/api/v1/provisioning/contact-points", {
            "uid": f"cp{number}", "name": f"cp{number}", "type": "webhook", "settings": {"url": "http://x"}})[0]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(create, range(8)))
    kept = len(grafana.ask("GET", "/api/v1/provisioning/contact-points")[1])
    assert set(statuses) == {202, 500} and kept == statuses.count(202)
    assert create(99) == 202, "alone, a write is never refused"


def test_its_loki_answers_from_the_lines_it_was_given(grafana):
    grafana.ask("POST", "/api/datasources", {"name": "l", "uid": "l", "type": "loki", "access": "proxy",
                                             "url": "http://loki.fake"})
    grafana.control("POST", "loki", [{"time": time.time_ns(), "labels": {"service": "tunneld"}, "line": "hello"}])
    query = {"queries": [{"refId": "A", "datasource": {"uid": "l"}, "expr": '{service="tunneld"}'}],
             "from": "now-5m", "to": "now"}
    frame = grafana.ask("POST", "/api/ds/query", query)[1]["results"]["A"]["frames"][0]
    assert frame["data"]["values"][2] == ["hello"]
    assert grafana.ask("GET", "/api/datasources/uid/l/health")[1]["status"] == "OK"


def test_without_apis_it_is_an_older_server(double, grafana):
    assert grafana.ask("GET", "/apis/dashboard.grafana.app")[0] == 200
    grafana.control("POST", "mode", {"apis": False})
    assert grafana.call("GET", "/apis/dashboard.grafana.app")[::2] == (404, b"404 page not found\n")


def test_a_thousand_dashboards_and_five_thousand_rules_stay_quick(double, grafana):
    grafana.control("POST", "fill", {"dashboards": 1000, "rules": 5000})
    assert len(grafana.ask("GET", "/api/v1/provisioning/alert-rules")[1]) == 5000
    assert len(grafana.ask("GET", "/api/search?limit=5000&type=dash-db")[1]) == 1000
    call = double.double.answer

    async def read_all():
        for number in range(1000):
            got = await call(Call(double.double.world, "GET", f"/api/dashboards/uid/filled-{number}",
                                  {"Authorization": BASIC}, b""))
            assert got.status == 200

    asyncio.run(read_all())  # fills the cache
    before = time.process_time()
    asyncio.run(read_all())
    assert time.process_time() - before < 0.5, "half a millisecond for each, ten times what it takes"
