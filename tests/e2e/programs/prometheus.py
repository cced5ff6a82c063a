"""Prometheus itself, scraping one address every second, with rules and an Alertmanager where a test gives them."""

import json
import pathlib
import urllib.parse
import urllib.request

from .loopback import free_port
from .process import Died, Program


class Prometheus:
    def __init__(self, directory, target, path="/metrics", *, rules=(), alertmanager=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / "prometheus.yml"
        self.config.write_text(json.dumps({  # JSON is YAML
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []},
            "scrape_configs": [{"job_name": "tunneld", "metrics_path": path,
                                "static_configs": [{"targets": [target]}]}],
        }))
        self.port = None
        self.program = None

    def start(self):
        for _ in range(5):
            self.port = free_port()
            self.program = Program("prometheus", [
                "/usr/bin/prometheus", f"--config.file={self.config}",
                f"--storage.tsdb.path={self.directory}/data",
                f"--web.listen-address=127.0.0.1:{self.port}"], self.directory)
            try:
                self.program.ready_when(self._ready, 30)
                return self
            except Died:
                self.program.forget()
                if "address already in use" not in self.program.output():
                    raise
        raise AssertionError("prometheus found no free port in five attempts")

    def _ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """The instant vector: a list of ({label: value}, number)."""
        found = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        return [(row["metric"], float(row["value"][1])) for row in found["result"]]

    def rules(self):
        """Every rule with its `health`, `lastError` and, of an alert, its `state`."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def stop(self):
        self.program.kill()
