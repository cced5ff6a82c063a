"""What every part of a soak runs against: real programs, started for it alone, and a record of what was
measured. The programs are those of the end-to-end tests."""

import datetime
import json
import math
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from programs import process  # noqa: E402
from programs.faultproxy import FaultProxy  # noqa: E402
from programs.origin import Origin  # noqa: E402
from programs.services import services_of, upstream_to  # noqa: E402
from programs.sshd import Sshd  # noqa: E402
from programs.tunneld import Tunneld, binary, merged  # noqa: E402

#: More handshakes at once than an sshd of the tests expects.
CROWDED = ("MaxStartups 10000", "PerSourceMaxStartups none", "MaxSessions 10000", "LogLevel ERROR")


class Site:
    """A temporary folder and everything started in it; gone at the end of the `with`."""

    def __init__(self, results, seed):
        self.results, self.seed = pathlib.Path(results), seed

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tunnel-soak-"))
        self.folder.chmod(0o755)
        self.count = 0
        return self

    def __exit__(self, *_):
        for program in reversed(list(process.running)):
            program.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def directory(self, kind):
        self.count += 1
        return self.folder / f"{kind}-{self.count}"

    def sshd(self):
        return Sshd(self.directory("sshd"), extra=CROWDED).start()

    def origin(self):
        return Origin(self.directory("origin")).start()

    def proxy(self, port):
        return FaultProxy(self.directory("faultproxy"), port, seed=self.seed).start()

    def bench_target(self):
        """(program, ports) of bench_load serve: a service that costs little."""
        started = process.Program("target", [bench_load(), "serve"], self.made("target"), stdout=subprocess.PIPE)
        return started, json.loads(started.process.stdout.readline())

    def made(self, kind):
        folder = self.directory(kind)
        folder.mkdir()
        return folder

    def tunneld(self, via, services, *, address=None, **configuration):
        entry = upstream_to(via, services, **({"address": [f"127.0.0.1:{address}"]} if address else {}))
        directory = self.directory("tunneld")
        log = {"log": {"output": str(directory / "tunneld.log"), "format": "json"}}
        daemon = Tunneld(directory, merged({"upstreams": [entry], **log}, configuration))
        via.authorize(daemon.ssh_key())
        return daemon.start()

    def record(self, name, value, unit, **more):
        """One figure: printed, and appended to the results."""
        figure = {"id": name, "value": value, "unit": unit, "seed": self.seed, **more, "commit": commit(), "machine": machine(),
                  "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
        self.results.parent.mkdir(parents=True, exist_ok=True)
        with open(self.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(figure) + "\n")
        shown = f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        print(f"  {name}: {shown} {unit}" + "".join(f"  {key} {more[key]}" for key in more), flush=True)
        return value


def bench_load():
    """Built by scripts/build release bench_load; $TUNNEL_BENCH_LOAD names another."""
    found = pathlib.Path(os.environ.get("TUNNEL_BENCH_LOAD", binary().with_name("bench_load")))
    if not found.exists():
        sys.exit(f"soak: {found} is missing: scripts/build release bench_load")
    return found


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="ascii") if line.startswith("model name")), "?")
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def slope(samples):
    """Least squares over (seconds, value): growth an hour."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


def percentile(values, share):
    """By nearest rank: a value that was seen."""
    values = sorted(values)
    return values[max(1, math.ceil(share * len(values))) - 1] if values else 0.0


def install_signals():
    def ended(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)


__all__ = ["Site", "bench_load", "install_signals", "machine", "percentile", "services_of", "slope"]
