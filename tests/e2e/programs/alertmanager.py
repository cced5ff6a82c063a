"""Alertmanager itself, and the doors it knocks at: Slack's, PagerDuty's and a mail server's, kept in one inbox."""

import http.server
import json
import pathlib
import shutil
import socketserver
import threading
import urllib.request

import yaml

from .loopback import free_port
from .process import Died, Program
from .tunneld import REPOSITORY

SHIPPED = REPOSITORY / "alerts" / "tunnel"


class Inbox:
    """What was sent: `slack` and `pagerduty` as JSON, `mails` as text. `page` is what GET /metrics answers."""

    def __init__(self):
        self.slack, self.pagerduty, self.mails = [], [], []
        self.page = ""
        inbox = self

        class Web(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(200, inbox.page.encode(), "text/plain; version=0.0.4")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/slack":
                    inbox.slack.append(body)
                    self.answer(200, b"ok", "text/plain")
                else:
                    inbox.pagerduty.append(body)
                    self.answer(202, b'{"status":"success"}', "application/json")

            def answer(self, status, body, kind):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Mail(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"220 inbox\r\n")
                while line := self.rfile.readline():
                    verb = line.split()[0].upper() if line.split() else b""
                    if verb == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        text = b""
                        while (line := self.rfile.readline()) not in (b".\r\n", b""):
                            text += line
                        inbox.mails.append(text.decode())
                    elif verb == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    self.wfile.write(b"250 inbox\r\n")

        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web),
                        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)]
        self.web_port, self.mail_port = (server.server_address[1] for server in self.servers)
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()


class Alertmanager:
    """Runs the shipped configuration with the doors of `inbox` and short waits; nothing else is changed."""

    def __init__(self, directory, inbox):
        self.directory = pathlib.Path(directory)
        (self.directory / "secrets").mkdir(parents=True)
        (self.directory / "secrets" / "slack_api_url").write_text(f"http://127.0.0.1:{inbox.web_port}/slack")
        (self.directory / "secrets" / "pagerduty_routing_key").write_text("the routing key")
        (self.directory / "secrets" / "smtp_password").write_text("the password")
        shutil.copytree(SHIPPED / "templates", self.directory / "templates")
        configuration = yaml.safe_load((SHIPPED / "alertmanager.yaml").read_text())
        configuration["global"].update({"pagerduty_url": f"http://127.0.0.1:{inbox.web_port}/pagerduty",
                                        "smtp_smarthost": f"127.0.0.1:{inbox.mail_port}", "smtp_require_tls": False})

        def hasten(route):
            route["group_wait"], route["group_interval"] = "1s", "1s"
            for child in route.get("routes", []):
                hasten(child)

        hasten(configuration["route"])
        self.config = self.directory / "alertmanager.yaml"
        self.config.write_text(yaml.safe_dump(configuration, sort_keys=False))
        self.port = None
        self.program = None

    def start(self):
        for _ in range(5):
            self.port = free_port()
            self.program = Program("alertmanager", [
                "/usr/bin/prometheus-alertmanager", f"--config.file={self.config}",
                f"--storage.path={self.directory}/data", "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{self.port}"], self.directory)
            try:
                self.program.ready_when(self._ready, 30)
                return self
            except Died:
                self.program.forget()
                if "address already in use" not in self.program.output():
                    raise
        raise AssertionError("alertmanager found no free port in five attempts")

    def _ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def alerts(self):
        """(alertname, instance) -> its state: active, or suppressed and by how many it is inhibited."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v2/alerts", timeout=5) as answer:
            return {(alert["labels"]["alertname"], alert["labels"].get("instance")): alert["status"]
                    for alert in json.load(answer)}

    def stop(self):
        self.program.kill()
