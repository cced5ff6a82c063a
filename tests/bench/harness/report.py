"""From samples to medians, ratios, a Markdown table and the verdict on each bar.

A ratio is the median of the ratios within each round, because the variants of one round saw the same
machine; the ratio of two medians would compare different minutes.
"""

from statistics import median

REFERENCES = ("direct", "ssh -L", "chisel:tls", "wstunnel+ssh:tls")

HTTP = (1, 32, 256)
BULKS = [f"bulk {direction} {streams}" for streams in (1, 16) for direction in ("down", "up")]
SECTIONS = {
    "Throughput and rates (ratios below)":
        [f"{bulk} MiB/s" for bulk in BULKS] + [f"http {n} req/s" for n in HTTP] +
        ["new stream 1 per s", "new stream 16 per s"],
    "Latency":
        [f"http {n} {p} ms" for n in HTTP for p in ("p50", "p95", "p99")] +
        [f"http {n} added {p} ms" for n in HTTP for p in ("p50", "p95")] +
        ["new stream 1 p50 ms", "new stream 1 p95 ms", "new stream 16 p50 ms",
         "echo beside bulk p50 ms", "echo beside bulk p95 ms", "echo beside bulk p99 ms",
         "echo beside bulk, its MiB/s", "new stream 1 round trips", "setup ms", "setup round trips"],
    "CPU":
        [f"{bulk} CPU s/GiB {role}" for bulk in BULKS
         for role in ("client", "daemon", "sshd", "without sshd", "load tool")] +
        [f"http {n} CPU us/request {role}" for n in HTTP for role in ("client", "daemon", "sshd")],
    "Memory":
        [f"{kind} {count} {what} MiB {role}" for kind in ("idle streams", "idle connections")
         for count in (0, 100, 1000) for role in ("client", "daemon", "sshd") for what in ("RSS", "PSS")] +
        [f"{kind} RSS KiB each {role}" for kind in ("idle streams", "idle connections")
         for role in ("client", "daemon")],
    "System calls":
        [f"system calls/MiB {direction} {role}" for direction in ("down", "up")
         for role in ("client", "daemon")],
}
RATIO_ROWS = SECTIONS["Throughput and rates (ratios below)"] + \
    ["http 1 p50 ms", "http 32 p50 ms", "new stream 1 p50 ms", "echo beside bulk p95 ms"] + \
    [f"{bulk} CPU s/GiB without sshd" for bulk in BULKS]


class Results:
    """`samples`: list of {"variant", "round", "figures"}."""

    def __init__(self, samples):
        self.by_name = {}
        for sample in samples:
            rounds = self.by_name.setdefault(sample["variant"], {})
            rounds.setdefault(sample["round"], {}).update(sample["figures"])
        for rounds in self.by_name.values():
            for number, figures in rounds.items():
                self._add_latency_over_direct(number, figures)

    def _add_latency_over_direct(self, number, figures):
        direct = self.by_name.get("direct", {}).get(number, {})
        for n in HTTP:
            for p in ("p50", "p95"):
                row = f"http {n} {p} ms"
                if row in figures and row in direct:
                    figures[f"http {n} added {p} ms"] = figures[row] - direct[row]

    def variants(self):
        return list(self.by_name)

    def values(self, variant, row):
        rounds = self.by_name.get(variant, {})
        return {number: figures[row] for number, figures in rounds.items() if row in figures}

    def median(self, variant, row):
        values = self.values(variant, row)
        return median(values.values()) if values else None

    def ratio(self, variant, reference, row):
        """Median over the rounds that have both; None without one."""
        mine, theirs = self.values(variant, row), self.values(reference, row)
        ratios = [mine[number] / theirs[number] for number in mine if theirs.get(number)]
        return median(ratios) if ratios else None


def shown(value):
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _table(title, names, rows, cell):
    lines = [f"### {title}", "", "| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    body = []
    for row in rows:
        cells = [shown(cell(name, row)) for name in names]
        if any(text != "-" for text in cells):
            body.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines + body + [""] if body else []


def markdown(results, names, header):
    lines = list(header)
    for title, rows in SECTIONS.items():
        lines += _table(f"{title}: medians", names, rows, results.median)
    for reference in REFERENCES:
        if reference in names:
            others = [name for name in names if name != reference]
            lines += _table(f"Ratio to {reference}", others, RATIO_ROWS,
                            lambda name, row, to=reference: results.ratio(name, to, row))
    return "\n".join(lines)


class Bar:
    """A promise: `figure(results)` must be at least or at most `limit`."""

    def __init__(self, text, at_least, limit, figure, unit=""):
        self.text, self.at_least, self.limit, self.figure, self.unit = text, at_least, limit, figure, unit

    def verdict(self, results):
        value = self.figure(results)
        sign = ">=" if self.at_least else "<="
        goal = f"{sign} {self.limit:g}{self.unit}"
        if value is None:
            return "not measured", goal, "-"
        met = value >= self.limit if self.at_least else value <= self.limit
        return ("met" if met else "MISSED"), goal, shown(value) + self.unit


def _ratio(variant, reference, row):
    return lambda results: results.ratio(variant, reference, row)


def _median(variant, row):
    return lambda results: results.median(variant, row)


def _rss(variant, streams):
    """Of the larger of both sides."""
    def figure(results):
        sides = [results.median(variant, f"idle streams {streams} RSS MiB {role}") for role in ("client", "daemon")]
        return max(sides) if None not in sides else None
    return figure


def bars():
    """With a client process (as the peers have one) first; `-door` where the load tool is the client."""
    made = []
    for direction in ("down", "up"):
        one = f"bulk {direction} 1 MiB/s"
        made += [
            Bar(f"1 stream {direction}, TLS, against chisel:tls", True, 2, _ratio("tunneld:tls", "chisel:tls", one), " x"),
            Bar(f"1 stream {direction}, TLS, against wstunnel+ssh:tls", True, 1.1,
                _ratio("tunneld:tls", "wstunnel+ssh:tls", one), " x"),
        ]
        for variant in ("tunneld:clear-door", "tunneld:clear"):
            made += [
                Bar(f"1 stream {direction}, plain ws, {variant} against ssh -L", True, 0.95,
                    _ratio(variant, "ssh -L", one), " x"),
                Bar(f"16 streams {direction}, plain ws, {variant} against ssh -L", True, 1.2,
                    _ratio(variant, "ssh -L", f"bulk {direction} 16 MiB/s"), " x"),
            ]
        for variant in ("tunneld:tls-door", "tunneld:tls"):
            made.append(Bar(f"16 streams {direction}, TLS, {variant} against ssh -L", True, 1.2,
                            _ratio(variant, "ssh -L", f"bulk {direction} 16 MiB/s"), " x"))
        made.append(Bar(f"CPU per GiB {direction}, TLS, client and daemon", False, 1.5,
                        _median("tunneld:tls", f"bulk {direction} 1 CPU s/GiB without sshd"), " s"))
        for variant in ("tunneld:tls", "tunneld:clear"):
            made.append(Bar(f"system calls a MiB {direction}, daemon, {variant}", False, 70,
                            _median(variant, f"system calls/MiB {direction} daemon")))
    made += [
        Bar("HTTP at 32 connections, TLS door against chisel:tls", True, 1.2,
            _ratio("tunneld:tls-door", "chisel:tls", "http 32 req/s"), " x"),
    ]
    for variant in ("tunneld:tls-door", "tunneld:clear-door"):
        made += [
            Bar(f"HTTP at 32 connections, {variant} against ssh -L", True, 0.8,
                _ratio(variant, "ssh -L", "http 32 req/s"), " x"),
            Bar(f"HTTP at 32 connections, {variant}, daemon's CPU a request", False, 35,
                _median(variant, "http 32 CPU us/request daemon"), " us"),
            Bar(f"HTTP p95 at 1 connection, {variant}", False, 0.3, _median(variant, "http 1 p95 ms"), " ms"),
        ]
    for variant in ("tunneld:clear-door", "tunneld:tls-door", "tunneld:clear", "tunneld:tls"):
        made += [
            Bar(f"new stream p50, {variant}", False, 0.3, _median(variant, "new stream 1 p50 ms"), " ms"),
            Bar(f"echo p95 beside a bulk stream, {variant}", False, 3,
                _median(variant, "echo beside bulk p95 ms"), " ms"),
        ]
    made += [
        *(Bar(f"1 stream {direction}, TLS, connect:tls against chisel:tls", True, 2,
              _ratio("connect:tls", "chisel:tls", f"bulk {direction} 1 MiB/s"), " x") for direction in ("down", "up")),
        *(Bar(f"CPU per GiB {direction}, connect:tls, client and daemon", False, 1.5,
              _median("connect:tls", f"bulk {direction} 1 CPU s/GiB without sshd"), " s")
          for direction in ("down", "up")),
        Bar("new stream p50, connect:tls", False, 0.3, _median("connect:tls", "new stream 1 p50 ms"), " ms"),
        Bar("new streams, connect:tls against chisel:tls", True, 1.5,
            _ratio("connect:tls", "chisel:tls", "new stream 16 per s"), " x"),
        Bar("echo p95 beside a bulk stream, connect:tls", False, 3,
            _median("connect:tls", "echo beside bulk p95 ms"), " ms"),
        Bar("RSS, connect:tls, idle, the larger side", False, 25, _rss("connect:tls", 0), " MiB"),
        Bar("RSS, connect:tls, 1,000 idle streams, the larger side", False, 70, _rss("connect:tls", 1000), " MiB"),
    ]
    for kind in ("idle connections", "idle streams"):
        made += [
            Bar(f"daemon's RSS for each of the {kind}, plain", False, 64,
                _median("tunneld:clear-door", f"{kind} RSS KiB each daemon"), " KiB"),
            Bar(f"daemon's RSS for each of the {kind}, TLS", False, 128,
                _median("tunneld:tls-door", f"{kind} RSS KiB each daemon"), " KiB"),
        ]
    return made


def verdicts(results):
    lines = ["### Bars", "", "| verdict | bar | goal | measured |", "|---|---|---|---|"]
    for bar in bars():
        verdict, goal, value = bar.verdict(results)
        lines.append(f"| {verdict} | {bar.text} | {goal} | {value} |")
    return "\n".join(lines + [""])
