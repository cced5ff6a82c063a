#!/usr/bin/python3
"""Measures `tunnelctl monitor` on packs of two sizes against the Grafana double on loopback.

    tests/bench/bench_monitor.py [--bin build/release/bin] [--small] [--rounds 3]

For plan, first setup, second setup and plan again: requests and writes (the double's own log), wall time, CPU time and
peak memory of tunnelctl. Beside it any of grr, gdg and terraform on PATH that can be used without a download. Method and
figures: tests/bench/README.md. Results: a table on stdout and build/bench/monitor.json. It reports; it never fails
because something is slow. Exit 1: a step did not do what it is for.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOUBLE = ROOT / "tests" / "support" / "grafana_double" / "server.py"
SIZES = {"small": (12, 60), "large": (1000, 5000)}
PANELS, RULES_A_GROUP = 10, 20


class Failed(Exception):
    """A step ended otherwise than it should."""


# --- What is brought to the server -----------------------------------------------------------------

def panel(number):
    return {"id": number, "type": "timeseries", "title": f"Panel {number}", "description": "Requests.",
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"x": 12 * ((number - 1) % 2), "y": 8 * ((number - 1) // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": "reqps", "thresholds": {
                "mode": "absolute", "steps": [{"color": "green", "value": None}, {"color": "red", "value": number}]}},
                "overrides": []},
            "options": {"legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
                        "tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": [{"refId": "A", "datasource": {"type": "prometheus", "uid": "${datasource}"},
                         "expr": f'sum by (status) (rate(requests_total{{panel="{number}"}}[$__rate_interval]))',
                         "legendFormat": "{{status}}"}]}


def dashboard(number):
    return {"uid": f"bench-{number}", "title": f"Bench {number}", "tags": ["bench"], "schemaVersion": 39,
            "timezone": "browser", "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus",
                                     "current": {}, "hide": 0, "refresh": 1}]},
            "annotations": {"list": []}, "panels": [panel(one) for one in range(1, PANELS + 1)]}


def rule(number):
    return {"alert": f"Bench{number}", "expr": f'sum by (job) (rate(errors_total{{kind="{number}"}}[5m])) > {number}',
            "for": "5m", "labels": {"severity": "warning", "component": "bench", "service": "bench"},
            "annotations": {"summary": f"errors of kind {number}", "description": "{{ $value }} a second."}}


def write_pack(folder, dashboards, rules):
    (folder / "dashboards").mkdir(parents=True)
    (folder / "rules").mkdir()
    for number in range(dashboards):
        (folder / "dashboards" / f"{number:04}.json").write_text(json.dumps(dashboard(number), indent=2))
    for at in range(0, rules, RULES_A_GROUP):
        group = {"name": f"bench-{at // RULES_A_GROUP}", "interval": "30s",
                 "rules": [rule(number) for number in range(at, min(at + RULES_A_GROUP, rules))]}
        (folder / "rules" / f"{at:04}.rules.yaml").write_text(json.dumps({"groups": [group]}, indent=1))
    (folder / "pack.yaml").write_text(yaml.safe_dump({
        "apiVersion": "tunnelctl/v1", "kind": "Pack", "name": "bench", "title": "Bench",
        "folder": {"uid": "bench", "title": "Bench"},
        "files": {"dashboards": ["dashboards/*.json"], "rules": ["rules/*.rules.yaml"]},
        "datasources": [{"variable": "datasource", "type": "prometheus"}]}))
    return folder


# --- The server ------------------------------------------------------------------------------------

class Double:
    """An empty Grafana with one data source. tests/support/grafana_double/README.md has its controls."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, DOUBLE, "--port", "0"], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.token = self.control("GET", "tokens")["editor"]
        self.control("POST", "preset", [{"method": "POST", "path": "/api/datasources", "body": {
            "uid": "prom", "name": "Prometheus", "type": "prometheus", "access": "proxy", "url": "http://127.0.0.1:9",
            "isDefault": True}}])

    def control(self, method, name, body=None):
        request = urllib.request.Request(f"{self.url}/_double/{name}", None if body is None else json.dumps(body).encode(),
                                         {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GRAFANA_URL": self.url,
                "GRAFANA_SERVICE_ACCOUNT_TOKEN": self.token}

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


# --- Measuring -------------------------------------------------------------------------------------

def run(command, environment, log, allowed=(0,), cwd=None):
    """Seconds, CPU seconds and peak MiB of one process; what it said goes to `log`."""
    begin = time.perf_counter()
    with open(log, "wb") as output:
        process = subprocess.Popen([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT, cwd=cwd)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    if process.returncode not in allowed:
        raise Failed(f"{' '.join(map(str, command))} ended with {process.returncode}: "
                     f"{pathlib.Path(log).read_text(errors='replace')[-600:]}")
    return {"seconds": wall, "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}


def watched(double, *arguments, **more):
    """run(), and what the server saw meanwhile."""
    double.control("DELETE", "log")
    sample = run(*arguments, **more)
    log = double.control("GET", "log")
    sample["requests"], sample["writes"] = len(log), sum(entry["write"] for entry in log)
    return sample


STEPS = [("plan, empty server", "plan", (2,)), ("first setup", "setup", (0,)), ("second setup", "setup", (0,)),
         ("plan, nothing to do", "plan", (0,))]


def measure_tunnelctl(program, pack, folder):
    double = Double()
    try:
        samples = {}
        for name, verb, allowed in STEPS:
            more = ["--skip-verify"] if verb == "setup" else []
            samples[name] = watched(double, [program, "--quiet", "monitor", verb, pack, *more], double.environment(),
                                    folder / "tunnelctl.log", allowed=allowed)
        if samples["second setup"]["writes"]:
            raise Failed(f"the second setup wrote {samples['second setup']['writes']} times")
        return samples
    finally:
        double.close()


# --- The others ------------------------------------------------------------------------------------

def grizzly(program, pack, _tunnelctl, folder):
    """Dashboards and the folder; it knows no Prometheus rule files, so rules are left out on its side."""
    resources = folder / "grizzly"
    resources.mkdir()
    api = "grizzly.grafana.com/v1alpha1"
    (resources / "folder.json").write_text(json.dumps({
        "apiVersion": api, "kind": "DashboardFolder", "metadata": {"name": "bench"},
        "spec": {"uid": "bench", "title": "Bench"}}))
    for file in sorted((pack / "dashboards").glob("*.json")):
        spec = json.loads(file.read_text())
        (resources / file.name).write_text(json.dumps({
            "apiVersion": api, "kind": "Dashboard", "metadata": {"name": spec["uid"], "folder": "bench"}, "spec": spec}))
    double = Double()
    try:
        environment = {**double.environment(), "GRAFANA_TOKEN": double.token, "HOME": str(folder)}
        return {name: watched(double, [program, "apply", resources], environment, folder / "grr.log")
                for name in ("first setup", "second setup")}
    finally:
        double.close()


def provider_folder():
    """Where terraform keeps providers that were installed by hand; a benchmark downloads nothing."""
    places = [pathlib.Path.home() / ".terraform.d" / "plugins", pathlib.Path("/usr/local/share/terraform/plugins"),
              pathlib.Path("/usr/share/terraform/plugins")]
    if cache := os.environ.get("TF_PLUGIN_CACHE_DIR"):
        places.append(pathlib.Path(cache))
    return next((place for place in places if place.is_dir() and any(place.rglob("terraform-provider-grafana*"))), None)


def terraform(program, pack, tunnelctl, folder):
    """What `render` writes for it: the same dashboards and rules."""
    plugins = provider_folder()
    if plugins is None:
        raise Failed("its provider grafana/grafana is not installed on this machine, and nothing is downloaded")
    double = Double()
    try:
        environment = {**double.environment(), "GRAFANA_AUTH": double.token, "HOME": str(folder)}
        run([tunnelctl, "monitor", "render", pack, "--format", "terraform", "--out", folder], environment,
            folder / "render.log")
        work = folder / "terraform"
        run([program, "init", "-input=false", f"-plugin-dir={plugins}"], environment, folder / "init.log", cwd=work)
        return {name: watched(double, [program, "apply", "-input=false", "-auto-approve"], environment,
                              folder / "apply.log", cwd=work) for name in ("first setup", "second setup")}
    finally:
        double.close()


def gdg(*_):
    raise Failed("it copies dashboards from and to a server; it has no plan and takes no rule files, so nothing compares")


OTHERS = {"grr": grizzly, "terraform": terraform, "gdg": gdg}


# --- The whole -------------------------------------------------------------------------------------

def middle(samples):
    """The median of each number over the rounds."""
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def text(size, who, step, sample, base=None):
    dashboards, rules = SIZES[size]
    ratio = f"{sample['seconds'] / base['seconds']:.1f}" if base else "1"
    return row(f"{dashboards:,}/{rules:,}", who, step, int(sample["requests"]), int(sample["writes"]),
               f"{sample['seconds'] * 1000:,.0f}", f"{sample['cpu'] * 1000:,.0f}", f"{sample['mib']:.0f}", ratio)


def measure(options, program, folder):
    results, lines, remarks = {}, [], []
    for size in ["small"] if options.small else list(SIZES):
        pack = write_pack(folder / size, *SIZES[size])
        rounds = []
        for number in range(options.rounds):
            print(f"bench: {size}, round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            rounds.append(measure_tunnelctl(program, pack, folder))
        results[size] = {"tunnelctl": {step: middle([one[step] for one in rounds]) for step in rounds[0]}}
        for step, sample in results[size]["tunnelctl"].items():
            lines.append(text(size, "tunnelctl", step, sample))
        for name, other in OTHERS.items():
            found = shutil.which(name)
            if not found:
                remarks.append(f"{name}: not on PATH")
                continue
            own = folder / f"{size}-{name}"
            own.mkdir()
            try:
                results[size][name] = other(found, pack, program, own)
                for step, sample in results[size][name].items():
                    lines.append(text(size, name, step, sample, results[size]["tunnelctl"][step]))
            except (Failed, OSError) as why:
                remarks.append(f"{name}: found, not used: {why}")
    helps = [run([program, "--help"], {"PATH": os.environ["PATH"]}, folder / "help.log")["seconds"] for _ in range(21)]
    results["--help"] = {"seconds": statistics.median(helps)}
    return results, lines, list(dict.fromkeys(remarks))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "release" / "bin", metavar="FOLDER",
                        help="holds tunnelctl (default build/release/bin)")
    parser.add_argument("--small", action="store_true", help="only the small pack")
    parser.add_argument("--rounds", type=int, default=3, help="the median of that many is told (default 3)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "bench" / "monitor.json")
    options = parser.parse_args()
    program = options.bin.resolve() / "tunnelctl"
    if not program.exists():
        print(f"bench: {program} is missing: run scripts/build", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-monitor.") as folder:
        try:
            results, lines, remarks = measure(options, program, pathlib.Path(folder))
        except Failed as why:
            print(f"bench: {why}", file=sys.stderr)
            return 1
    print(row("dashboards/rules", "program", "step", "requests", "writes", "ms", "CPU ms", "peak MiB", "time, ratio"))
    print("|---|---|---|--:|--:|--:|--:|--:|--:|")
    print("\n".join(lines))
    print(f"\ntunnelctl --help: {results['--help']['seconds'] * 1000:.1f} ms (median of 21)")
    print("\n".join(remarks))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                                          "remarks": remarks, "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
