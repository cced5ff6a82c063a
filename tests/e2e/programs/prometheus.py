"""Prometheus itself, scraping one address every second."""

import json
import pathlib
import urllib.parse
import urllib.request

from .loopback import free_port
from .process import Died, Program


class Prometheus:
    def __init__(self, directory, target, path="/metrics"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / "prometheus.yml"
        self.config.write_text(json.dumps({  # JSON is YAML
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
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

    def query(self, expression):
        """The instant vector: a list of ({label: value}, number)."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=5) as answer:
            body = json.load(answer)
        return [(row["metric"], float(row["value"][1])) for row in body["data"]["result"]]

    def stop(self):
        self.program.kill()
