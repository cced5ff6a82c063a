"""common/metric_names.h, read as text: which series a scrape has, with their labels, and since when."""
import functools
import pathlib
import re

HEADER = pathlib.Path(__file__).resolve().parents[2] / "common" / "metric_names.h"


@functools.cache
def rows():
    """name -> (type, labels, since) for every row of kAll."""
    text = HEADER.read_text()
    names = dict(re.findall(r'constexpr const char\* (k\w+) =\s*"(\w+)";', text))
    found = {}
    for row in text[text.index("kAll{"):text.index("constexpr const Metric* find")].split("Metric{")[1:]:
        constant, kind, labels = re.match(r"\s*(k\w+),\s*Type::(\w+),\s*\{([^}]*)\}", row).groups()
        since = re.search(r"Since::(\w+)", row)
        found[names[constant]] = (kind, set(re.findall(r'"(\w+)"', labels)), since.group(1) if since else "now")
    assert len(found) > 40 and set(names.values()) == set(found), "metric_names.h is written in another way: mend this"
    return found


def series():
    """name -> labels of what /metrics has, a histogram as its three series."""
    found = {}
    for name, (kind, labels, since) in rows().items():
        if since != "compat":
            for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
                found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found
